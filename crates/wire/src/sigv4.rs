//! AWS Signature Version 4: who signed a request, or in AWS's own words why that is not known.

mod canonical;
mod parse;
mod refused;
mod sign;

pub use refused::{Reason, Refused};
pub use sign::{SigningKey, sign};

use crate::timestamp;
use bytes::Bytes;
use hmac::{Hmac, Mac};
use http::request::Parts;
use parse::Signed;
use sha2::{Digest, Sha256};

/// How far a request's date may be from ours.
const SKEW_MAX_MS: i64 = 15 * 60 * 1000;
/// The longest life of a presigned URL: a week.
const EXPIRES_MAX_S: i64 = 604_800;

/// The longest name of a region is half as long.
const REGION_BYTES_MAX: usize = 32;

/// What an access key stands for.
#[derive(Debug, Clone, Default)]
pub struct Credential {
    /// The secret access key.
    pub secret: String,
    /// Temporary credentials: the token that must come with every request.
    pub session_token: Option<String>,
    /// Temporary credentials: when they end.
    pub expires_at_ms: Option<i64>,
    /// The account's 12 digits.
    pub account: String,
    /// The principal's ARN, as GetCallerIdentity gives it.
    pub principal: String,
    /// The principal's unique id, as GetCallerIdentity's `UserId`.
    pub principal_id: String,
}

/// Who signed a request, and for where.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// The access key id.
    pub access_key: String,
    /// The account's 12 digits.
    pub account: String,
    /// The principal's ARN.
    pub principal: String,
    /// The principal's unique id.
    pub principal_id: String,
    /// The region in the credential scope.
    pub region: String,
    /// The service's signing name in the credential scope.
    pub service: String,
}

/// What the credential scope must name; `None` takes any.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expected<'a> {
    /// The service's signing name.
    pub service: Option<&'a str>,
    /// The region.
    pub region: Option<&'a str>,
}

/// Looks an access key up.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<Credential>;

/// Verifies the signature of a request, in its `Authorization` header or (presigned) in its query string.
pub fn verify(
    parts: &Parts,
    body: &Bytes,
    expected: Expected,
    lookup: Lookup,
    now_ms: i64,
) -> Result<Identity, Refused> {
    let signed = parse::parse(parts)?;
    check_signed_headers(&signed)?;
    check_scope(&signed, expected)?;
    check_date(&signed, now_ms)?;
    let credential = lookup(&signed.access_key).ok_or_else(Refused::unknown_key)?;
    check_token(&credential, signed.session_token.as_deref(), now_ms)?;
    let key = SigningKey::derive(&credential.secret, &signed.date, &signed.region, &signed.service);
    let canonical = canonical::request(parts, &signed, &payload_hash(parts, &signed, body));
    let wanted = key.sign(&canonical::string_to_sign(&signed, &canonical));
    if !same(wanted.as_bytes(), signed.signature.as_bytes()) {
        return Err(Refused::bad_signature());
    }
    Ok(Identity {
        access_key: signed.access_key,
        account: credential.account,
        principal: credential.principal,
        principal_id: credential.principal_id,
        region: signed.region,
        service: signed.service,
    })
}

/// The service and region that a request's credential scope names, unverified: for routing alone.
pub fn scope(parts: &Parts) -> Option<(String, String)> {
    parse::credential(parts).map(|credential| {
        let mut fields = credential.split('/').skip(2).map(str::to_string);
        let region = fields.next().unwrap_or_default();
        (fields.next().unwrap_or_default(), region)
    })
}

/// The session token that a request carries, in its header or its query, unverified: for looking its key up.
pub fn session_token(parts: &Parts) -> Option<String> {
    parse::parse(parts).ok()?.session_token
}

/// Whether a request carries a signature of any kind.
pub fn is_signed(parts: &Parts) -> bool {
    parse::credential(parts).is_some()
}

fn check_signed_headers(signed: &Signed) -> Result<(), Refused> {
    if signed.signed_headers.iter().any(|name| name == "host" || name == ":authority") {
        return Ok(());
    }
    let message = "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.";
    Err(Refused::new(Reason::Mismatch, message))
}

fn check_scope(signed: &Signed, expected: Expected) -> Result<(), Refused> {
    let mut wrong = Vec::new();
    if expected.region.is_some_and(|region| region != signed.region) || !is_region(&signed.region) {
        wrong.push(format!("Credential should be scoped to a valid region, not '{}'.", signed.region));
    }
    if let Some(service) = expected.service.filter(|service| *service != signed.service) {
        wrong.push(format!("Credential should be scoped to correct service: '{service}'."));
    }
    if signed.terminator != "aws4_request" {
        let message = "Credential should be scoped with a valid terminator: 'aws4_request', not";
        wrong.push(format!("{message} '{}'.", signed.terminator));
    }
    let date = timestamp::format_basic(signed.time_ms);
    if signed.date != date[..8] {
        wrong.push(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
             '{}' != '{}', from '{date}'.",
            signed.date,
            &date[..8]
        ));
    }
    if wrong.is_empty() { Ok(()) } else { Err(Refused::new(Reason::Mismatch, wrong.join(" "))) }
}

/// Whether a text may be a region's name; which there are is no business of ours.
fn is_region(text: &str) -> bool {
    let is_part =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    text.len() <= REGION_BYTES_MAX && text.split('-').all(is_part)
}

fn check_date(signed: &Signed, now_ms: i64) -> Result<(), Refused> {
    let (at, now) = (timestamp::format_basic(signed.time_ms), timestamp::format_basic(now_ms));
    if signed.time_ms > now_ms + SKEW_MAX_MS {
        let limit = timestamp::format_basic(now_ms + SKEW_MAX_MS);
        let message =
            format!("Signature not yet current: {at} is still later than {limit} ({now} + 15 min.)");
        return Err(Refused::new(Reason::Expired, message));
    }
    let (life_ms, words) = match signed.expires_s {
        None => (SKEW_MAX_MS, "15 min.".to_string()),
        Some(expires_s) if (1..=EXPIRES_MAX_S).contains(&expires_s) => {
            (expires_s * 1000, format!("{expires_s} sec."))
        }
        Some(_) => {
            let message = "X-Amz-Expires must be at least 1 and at most 604800 seconds (a week).";
            return Err(Refused::new(Reason::Incomplete, message));
        }
    };
    if signed.time_ms < now_ms - life_ms {
        let limit = timestamp::format_basic(now_ms - life_ms);
        let message = format!("Signature expired: {at} is now earlier than {limit} ({now} - {words})");
        return Err(Refused::new(Reason::Expired, message));
    }
    Ok(())
}

fn check_token(credential: &Credential, given: Option<&str>, now_ms: i64) -> Result<(), Refused> {
    let matches = match (&credential.session_token, given) {
        (None, None) => true,
        (Some(wanted), Some(given)) => same(wanted.as_bytes(), given.as_bytes()),
        // A token with a long-lived key, or none with a temporary one.
        _ => false,
    };
    if !matches {
        return Err(Refused::unknown_key());
    }
    if credential.expires_at_ms.is_some_and(|end_ms| end_ms <= now_ms) {
        let message = "The security token included in the request is expired";
        return Err(Refused::new(Reason::ExpiredToken, message));
    }
    Ok(())
}

/// The hash that stands for the body. It is always computed, whatever `x-amz-content-sha256` claims, unless the sender
/// declares the payload unsigned, as S3's presigned URLs always do.
fn payload_hash(parts: &Parts, signed: &Signed, body: &Bytes) -> String {
    const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
    let claimed = parts.headers.get("x-amz-content-sha256").and_then(|value| value.to_str().ok());
    if claimed == Some(UNSIGNED) || (signed.presigned && signed.service == "s3") {
        UNSIGNED.to_string()
    } else {
        sha256_hex(body)
    }
}

/// Compares without telling by its time where two values differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

fn hmac(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(data);
    mac.finalize().into_bytes().into()
}

fn sha256_hex(data: &[u8]) -> String {
    hex(&Sha256::digest(data))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.map(|nibble| DIGITS[usize::from(nibble)] as char).collect()
}
