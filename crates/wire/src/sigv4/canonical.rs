//! The canonical request and the string to sign, as AWS's "Create a signed AWS API request" defines them.

use super::parse::Signed;
use super::sha256_hex;
use crate::protocol::form::{percent_decode_bytes, percent_encode, percent_encode_bytes};
use crate::timestamp;
use http::request::Parts;

/// Bytes, as values need not be UTF-8, and no two may become the same.
pub(super) fn request(parts: &Parts, signed: &Signed, payload_hash: &str) -> Vec<u8> {
    let path = path(parts.uri.path(), signed.service == "s3");
    let query = query(parts.uri.query().unwrap_or_default(), signed.presigned);
    let mut out = format!("{}\n{path}\n{query}\n", parts.method).into_bytes();
    signed.signed_headers.iter().for_each(|name| header_line(parts, name, &mut out));
    out.extend_from_slice(format!("\n{}\n{payload_hash}", signed.signed_headers.join(";")).as_bytes());
    out
}

pub(super) fn string_to_sign(signed: &Signed, canonical: &[u8]) -> String {
    format!(
        "AWS4-HMAC-SHA256\n{}\n{}/{}/{}/{}\n{}",
        timestamp::format_basic(signed.time_ms),
        signed.date,
        signed.region,
        signed.service,
        signed.terminator,
        sha256_hex(canonical),
    )
}

fn header_line(parts: &Parts, name: &str, out: &mut Vec<u8>) {
    let values = parts.headers.get_all(name).iter().map(|value| {
        let words = value.as_bytes().split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        words.collect::<Vec<_>>().join(&b' ')
    });
    let mut value = values.collect::<Vec<_>>().join(&b',');
    if value.is_empty() && matches!(name, "host" | ":authority") {
        // HTTP/2 has the authority in its own place.
        value = parts.uri.authority().map(|authority| authority.to_string()).unwrap_or_default().into_bytes();
    }
    out.extend_from_slice(name.as_bytes());
    out.push(b':');
    out.extend_from_slice(&value);
    out.push(b'\n');
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
    // As parameters are read: a plus is a space.
    let encode = |text: &str| percent_encode_bytes(&percent_decode_bytes(&text.replace('+', " ")));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut encoded: Vec<(String, String)> = pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (encode(name), encode(value)))
        .filter(|(name, _)| !(presigned && name == "X-Amz-Signature"))
        .collect();
    encoded.sort();
    encoded.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}
