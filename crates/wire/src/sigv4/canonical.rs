//! The canonical request and the string to sign, as AWS's "Create a signed AWS API request" defines them.

use super::parse::Signed;
use super::sha256_hex;
use crate::protocol::form::{percent_decode, percent_encode};
use crate::timestamp;
use http::request::Parts;

pub(super) fn request(parts: &Parts, signed: &Signed, payload_hash: &str) -> String {
    let headers: String = signed.signed_headers.iter().map(|name| header_line(parts, name)).collect();
    format!(
        "{}\n{}\n{}\n{headers}\n{}\n{payload_hash}",
        parts.method,
        path(parts.uri.path(), signed.service == "s3"),
        query(parts.uri.query().unwrap_or_default(), signed.presigned),
        signed.signed_headers.join(";"),
    )
}

pub(super) fn string_to_sign(signed: &Signed, canonical: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256\n{}\n{}/{}/{}/{}\n{}",
        timestamp::format_basic(signed.time_ms),
        signed.date,
        signed.region,
        signed.service,
        signed.terminator,
        sha256_hex(canonical.as_bytes()),
    )
}

fn header_line(parts: &Parts, name: &str) -> String {
    let values = parts.headers.get_all(name).iter().map(|value| {
        let text = String::from_utf8_lossy(value.as_bytes());
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    });
    let mut value = values.collect::<Vec<_>>().join(",");
    if value.is_empty() && matches!(name, "host" | ":authority") {
        // HTTP/2 has the authority in its own place.
        value = parts.uri.authority().map(|authority| authority.to_string()).unwrap_or_default();
    }
    format!("{name}:{value}\n")
}

/// The path without dot segments, each segment encoded once more than it came (S3: as it came).
fn path(path: &str, s3: bool) -> String {
    if s3 {
        return if path.is_empty() { "/".to_string() } else { path.to_string() };
    }
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let encoded: String = kept.iter().map(|segment| format!("/{}", percent_encode(segment))).collect();
    let closes = path.len() > 1 && path.ends_with('/') && !kept.is_empty();
    if closes || kept.is_empty() { encoded + "/" } else { encoded }
}

fn query(query: &str, presigned: bool) -> String {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut encoded: Vec<(String, String)> = pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (percent_encode(&percent_decode(name)), percent_encode(&percent_decode(value))))
        .filter(|(name, _)| !(presigned && name == "X-Amz-Signature"))
        .collect();
    encoded.sort();
    encoded.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}
