//! Signing: the derived key, and signing a request of our own (for tests and for calls to other services).

use super::{canonical, hex, hmac, parse, sha256_hex};
use crate::timestamp;
use http::HeaderValue;
use http::request::Parts;

/// The key of one day, region and service.
pub struct SigningKey([u8; 32]);

impl SigningKey {
    /// Derives it from a secret access key; `date` is `YYYYMMDD`.
    pub fn derive(secret: &str, date: &str, region: &str, service: &str) -> SigningKey {
        let day = hmac(format!("AWS4{secret}").as_bytes(), date.as_bytes());
        let of_region = hmac(&day, region.as_bytes());
        SigningKey(hmac(&hmac(&of_region, service.as_bytes()), b"aws4_request"))
    }

    /// The signature of a string to sign, in hexadecimal.
    pub fn sign(&self, string_to_sign: &str) -> String {
        hex(&hmac(&self.0, string_to_sign.as_bytes()))
    }
}

/// Signs a request in its `Authorization` header: `host`, `x-amz-date` and every `x-amz-*` header are covered.
/// The request must have a `host` header. `key` is the access key id and its secret; `scope` region and service.
pub fn sign(parts: &mut Parts, body: &[u8], key: (&str, &str), scope: (&str, &str), now_ms: i64) {
    let now = timestamp::format_basic(now_ms);
    let header = |text: &str| HeaderValue::from_str(text).expect("a date or hash is a valid header");
    parts.headers.insert("x-amz-date", header(&now));
    let mut names: Vec<String> = parts.headers.keys().map(|name| name.as_str().to_string()).collect();
    names.retain(|name| name == "host" || name.starts_with("x-amz-"));
    names.sort();
    let signed = parse::Signed {
        access_key: key.0.to_string(),
        date: now[..8].to_string(),
        region: scope.0.to_string(),
        service: scope.1.to_string(),
        terminator: "aws4_request".to_string(),
        signed_headers: names,
        signature: String::new(),
        time_ms: now_ms,
        session_token: None,
        expires_s: None,
        presigned: false,
    };
    let canonical = canonical::request(parts, &signed, &sha256_hex(body));
    let derived = SigningKey::derive(key.1, &signed.date, &signed.region, &signed.service);
    let text = format!(
        "AWS4-HMAC-SHA256 Credential={}/{}/{}/{}/aws4_request, SignedHeaders={}, Signature={}",
        key.0,
        signed.date,
        signed.region,
        signed.service,
        signed.signed_headers.join(";"),
        derived.sign(&canonical::string_to_sign(&signed, &canonical))
    );
    parts.headers.insert("authorization", header(&text));
}
