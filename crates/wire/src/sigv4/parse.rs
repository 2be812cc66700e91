//! The parts of a signature, from the `Authorization` header or the query string.

use super::{Reason, Refused};
use crate::protocol::form;
use crate::timestamp;
use http::request::Parts;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// A signature, taken apart.
#[derive(Debug)]
pub(super) struct Signed {
    pub access_key: String,
    pub date: String,
    pub region: String,
    pub service: String,
    pub terminator: String,
    pub signed_headers: Vec<String>,
    pub signature: String,
    pub time_ms: i64,
    pub session_token: Option<String>,
    /// Presigned URLs: their life in seconds.
    pub expires_s: Option<i64>,
    pub presigned: bool,
}

/// The `Credential` of a request, wherever it stands.
pub(super) fn credential(parts: &Parts) -> Option<String> {
    match header(parts, "authorization") {
        Some(text) => {
            let list = text.strip_prefix(ALGORITHM)?;
            list.split(',').find_map(|part| part.trim().strip_prefix("Credential=")).map(str::to_string)
        }
        None => parameter(&form::decode(parts.uri.query()?), "X-Amz-Credential"),
    }
}

pub(super) fn parse(parts: &Parts) -> Result<Signed, Refused> {
    let query = form::decode(parts.uri.query().unwrap_or_default());
    let presigned = parameter(&query, "X-Amz-Algorithm").is_some();
    match header(parts, "authorization") {
        Some(_) if presigned => Err(Refused::new(
            Reason::Mismatch,
            "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.",
        )),
        Some(text) if text.starts_with("AWS4-") => from_header(parts, text),
        None if presigned => from_query(&query),
        _ => Err(Refused::new(Reason::Missing, "Missing Authentication Token")),
    }
}

fn from_header(parts: &Parts, text: &str) -> Result<Signed, Refused> {
    let (algorithm, list) = text.split_once(' ').unwrap_or((text, ""));
    check_algorithm(algorithm)?;
    let mut fields = form::Form::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let Some((name, value)) = part.split_once('=') else {
            return Err(incomplete(format!(
                "'{part}' not a valid key=value pair (missing equal-sign) in Authorization header: '{text}'."
            )));
        };
        fields.push((name.to_string(), value.to_string()));
    }
    let mut missing = String::new();
    for name in ["Credential", "Signature", "SignedHeaders"] {
        if parameter(&fields, name).is_none() {
            missing += &format!("Authorization header requires '{name}' parameter. ");
        }
    }
    let date = header(parts, "x-amz-date").or_else(|| header(parts, "date"));
    if date.is_none() {
        missing += "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ";
    }
    if !missing.is_empty() {
        return Err(incomplete(format!("{missing}Authorization={algorithm}")));
    }
    let token = header(parts, "x-amz-security-token").map(str::to_string);
    let names = ["Credential", "SignedHeaders", "Signature"];
    assemble(&fields, names, date.unwrap_or_default(), token, None)
}

fn from_query(query: &form::Form) -> Result<Signed, Refused> {
    check_algorithm(&parameter(query, "X-Amz-Algorithm").unwrap_or_default())?;
    let mut missing = String::new();
    for name in ["X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date"] {
        if parameter(query, name).is_none() {
            missing += &format!("AWS query-string parameters must include '{name}'. ");
        }
    }
    if !missing.is_empty() {
        return Err(incomplete(format!("{missing}Re-examine the query-string parameters.")));
    }
    // Without X-Amz-Expires a presigned request lives as long as any other.
    let expires = parameter(query, "X-Amz-Expires").map(|text| text.parse().unwrap_or(-1));
    let date = parameter(query, "X-Amz-Date").unwrap_or_default();
    let token = parameter(query, "X-Amz-Security-Token");
    let names = ["X-Amz-Credential", "X-Amz-SignedHeaders", "X-Amz-Signature"];
    let signed = assemble(query, names, &date, token, expires)?;
    Ok(Signed { presigned: true, ..signed })
}

fn check_algorithm(name: &str) -> Result<(), Refused> {
    if name == ALGORITHM {
        Ok(())
    } else {
        Err(incomplete(format!("Unsupported AWS 'algorithm': '{name}'.")))
    }
}

fn assemble(
    fields: &form::Form,
    [credential, headers, signature]: [&str; 3],
    date: &str,
    session_token: Option<String>,
    expires_s: Option<i64>,
) -> Result<Signed, Refused> {
    let credential = parameter(fields, credential).unwrap_or_default();
    let parts: Vec<&str> = credential.split('/').collect();
    let [access_key, scope_date, region, service, terminator] = parts[..] else {
        return Err(incomplete(format!(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got \
             '{credential}'"
        )));
    };
    let time_ms =
        timestamp::parse_basic(date).or_else(|| timestamp::parse(date).filter(|_| !is_number(date)));
    let time_ms = time_ms.ok_or_else(|| {
        incomplete(format!(
            "Date must be in ISO-8601 'basic format'. Got '{date}'. See http://en.wikipedia.org/wiki/ISO_8601"
        ))
    })?;
    let headers = parameter(fields, headers).unwrap_or_default();
    Ok(Signed {
        access_key: access_key.to_string(),
        date: scope_date.to_string(),
        region: region.to_string(),
        service: service.to_string(),
        terminator: terminator.to_string(),
        signed_headers: headers.split(';').map(str::to_ascii_lowercase).collect(),
        signature: parameter(fields, signature).unwrap_or_default(),
        time_ms,
        session_token,
        expires_s,
        presigned: false,
    })
}

fn is_number(text: &str) -> bool {
    text.parse::<f64>().is_ok()
}

fn incomplete(message: String) -> Refused {
    Refused::new(Reason::Incomplete, message)
}

fn header<'a>(parts: &'a Parts, name: &str) -> Option<&'a str> {
    parts.headers.get(name)?.to_str().ok()
}

fn parameter(fields: &form::Form, name: &str) -> Option<String> {
    fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone())
}
