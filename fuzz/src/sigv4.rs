//! SigV4: whatever is signed verifies, and nothing that was changed afterwards in its meaning does.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Uri};
use sha2::{Digest, Sha256};
use wire::protocol::form::{decode, percent_encode};
use wire::sigv4::{self, Credential, Expected, Identity, Refused};
use wire::timestamp;

use crate::Choices;
use crate::http_text::{header, request};

const KEY: &str = "test";
const SECRET: &str = "test";
/// 2023-11-14T22:13:20Z, for requests that are signed here.
const NOW_MS: i64 = 1_700_000_000_000;
/// Changes that are tried of each request.
const EDITS: usize = 6;

/// Takes a request as a client sends it. One whose signature is not good is signed.
pub fn verify(bytes: &[u8]) {
    let Some((mut parts, body)) = request(bytes) else { return };
    let mut choices = Choices::of(bytes);
    sigv4::scope(&parts);
    assert!(sigv4::is_signed(&parts) || sigv4::session_token(&parts).is_none(), "a token of no signature");
    let mut now_ms = stated_time(&parts).unwrap_or(NOW_MS);
    let mut token = sigv4::session_token(&parts);
    if check(&parts, &body, token.as_deref(), now_ms).is_err() {
        now_ms = NOW_MS;
        if sign(&mut parts, &body, choices.below(2) == 0).is_none() {
            return;
        }
        token = sigv4::session_token(&parts);
    }
    let identity = check(&parts, &body, token.as_deref(), now_ms);
    let identity = identity.unwrap_or_else(|refused| panic!("what is signed is refused: {refused:?}"));
    let meaning = Meaning::of(&parts, &body, &identity);
    for _ in 0..EDITS {
        let (mut changed, mut changed_body) = (parts.clone(), body.clone());
        if edit(&mut changed, &mut changed_body, &mut choices).is_none() {
            continue;
        }
        if let Ok(identity) = check(&changed, &changed_body, token.as_deref(), now_ms) {
            assert_eq!(Meaning::of(&changed, &changed_body, &identity), meaning, "changed to {changed:?}");
        }
    }
}

fn check(parts: &Parts, body: &Bytes, token: Option<&str>, now_ms: i64) -> Result<Identity, Refused> {
    let known = |key: &str| {
        let session_token = token.map(str::to_owned);
        (key == KEY).then(|| Credential { secret: SECRET.into(), session_token, ..Credential::default() })
    };
    sigv4::verify(parts, body, Expected::default(), &known, now_ms)
}

/// When the request says that it was signed.
fn stated_time(parts: &Parts) -> Option<i64> {
    let query = decode(parts.uri.query().unwrap_or_default());
    let in_query = query.into_iter().find(|(name, _)| name == "X-Amz-Date").map(|(_, value)| value);
    let text = in_query.or_else(|| header(parts, "x-amz-date").map(str::to_owned))?;
    timestamp::parse_basic(&text)
}

/// Signs a request anew, in its header or (presigned) in its query.
fn sign(parts: &mut Parts, body: &Bytes, in_header: bool) -> Option<()> {
    for name in ["authorization", "x-amz-content-sha256", "x-amz-security-token", "date", "x-amz-date"] {
        parts.headers.remove(name);
    }
    let query = parts.uri.query().unwrap_or_default().to_owned();
    if decode(&query).iter().any(|(name, _)| name.starts_with("X-Amz-")) {
        parts.uri = parts.uri.path().parse().ok()?;
    }
    if parts.headers.get_all("host").iter().count() != 1 {
        parts.headers.insert("host", HeaderValue::from_static("localhost:4566"));
    }
    if in_header {
        sigv4::sign(parts, body, (KEY, SECRET), ("us-east-1", "ecs"), NOW_MS);
        return Some(());
    }
    presign(parts, body)
}

/// Presigns by the letter of "Create a signed AWS API request", apart from our own code.
fn presign(parts: &mut Parts, body: &Bytes) -> Option<()> {
    let date = timestamp::format_basic(NOW_MS);
    let scope = format!("{}/us-east-1/sts/aws4_request", &date[..8]);
    let mut query = decode(parts.uri.query().unwrap_or_default());
    for (name, value) in [
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
        ("X-Amz-Credential", &format!("{KEY}/{scope}")),
        ("X-Amz-Date", &date),
        ("X-Amz-Expires", "60"),
        ("X-Amz-SignedHeaders", "host"),
    ] {
        query.push((name.to_owned(), value.to_owned()));
    }
    let encode = |(name, value): &(String, String)| (percent_encode(name), percent_encode(value));
    let mut encoded: Vec<(String, String)> = query.iter().map(encode).collect();
    encoded.sort();
    let pairs: Vec<String> = encoded.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let (query, host) = (pairs.join("&"), spaced(parts.headers.get("host")?.as_bytes()));
    let path = percent_encode(&normal(parts.uri.path())).replace("%2F", "/");
    let canonical = [
        format!("{}\n{path}\n{query}\nhost:", parts.method).into_bytes(),
        host,
        format!("\n\nhost\n{}", hex(&Sha256::digest(body))).into_bytes(),
    ]
    .concat();
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let signature = sigv4::SigningKey::derive(SECRET, &date[..8], "us-east-1", "sts").sign(&to_sign);
    let signed = format!("{}?{query}&X-Amz-Signature={signature}", parts.uri.path());
    parts.uri = signed.parse().ok()?;
    Some(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A path without empty and dot segments, as SigV4 sees it.
fn normal(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let closed = path.len() > 1 && path.ends_with('/') && !kept.is_empty();
    format!("/{}{}", kept.join("/"), if closed { "/" } else { "" })
}

/// A header's value with its spaces as SigV4 sees them.
fn spaced(value: &[u8]) -> Vec<u8> {
    let words = value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(&b' ')
}

/// What a request asks for, as its readers understand it, but for what SigV4 makes the same.
#[derive(Debug, PartialEq)]
struct Meaning {
    identity: Identity,
    method: Method,
    path: String,
    query: Vec<(String, String)>,
    headers: BTreeMap<String, Vec<u8>>,
    body: Bytes,
}

impl Meaning {
    fn of(parts: &Parts, body: &Bytes, identity: &Identity) -> Meaning {
        // The order of parameters is not signed.
        let mut query = decode(parts.uri.query().unwrap_or_default());
        query.sort();
        let headers = signed_headers(parts).into_iter().map(|name| {
            let values = parts.headers.get_all(&name).iter().map(|value| spaced(value.as_bytes()));
            let joined = values.collect::<Vec<_>>().join(&b',');
            (name, joined)
        });
        Meaning {
            headers: headers.collect(),
            query,
            identity: identity.clone(),
            method: parts.method.clone(),
            path: normal(parts.uri.path()),
            body: body.clone(),
        }
    }
}

fn signed_headers(parts: &Parts) -> Vec<String> {
    let in_header = header(parts, "authorization").and_then(|text| text.split("SignedHeaders=").nth(1));
    let in_header = in_header.map(|rest| rest.split(',').next().unwrap_or_default().trim().to_owned());
    let query = decode(parts.uri.query().unwrap_or_default());
    let in_query = query.into_iter().find(|(name, _)| name == "X-Amz-SignedHeaders").map(|(_, value)| value);
    let list = in_header.or(in_query).unwrap_or_default();
    list.split(';').map(str::to_ascii_lowercase).collect()
}

/// Changes something of a request; `None` when what came of it is none.
fn edit(parts: &mut Parts, body: &mut Bytes, choices: &mut Choices) -> Option<()> {
    match choices.below(8) {
        0 => parts.method = if parts.method == Method::GET { Method::POST } else { Method::GET },
        1..=3 => {
            let target = parts.uri.path_and_query()?.as_str().as_bytes().to_vec();
            let target = change(target, b"+%/.&=;?2fF0 ", choices);
            parts.uri = Uri::try_from(target).ok().filter(|uri| uri.path().starts_with('/'))?;
        }
        4 => *body = change(body.to_vec(), b"\0a&=\"", choices).into(),
        5 => {
            let names = signed_headers(parts);
            let name: HeaderName = names[choices.below(names.len())].parse().ok()?;
            let value = parts.headers.get(&name)?.as_bytes().to_vec();
            let changed = change(value, b" \t,\xa0\xe3\xff\xc2;", choices);
            parts.headers.insert(name, HeaderValue::from_bytes(&changed).ok()?);
        }
        6 => {
            let names = signed_headers(parts);
            let name: HeaderName = names[choices.below(names.len())].parse().ok()?;
            parts.headers.append(name, HeaderValue::from_static("x"));
        }
        _ => {
            let value = parts.headers.get("authorization")?.as_bytes().to_vec();
            let changed = change(value, b",= /;aF0", choices);
            parts.headers.insert("authorization", HeaderValue::from_bytes(&changed).ok()?);
        }
    }
    Some(())
}

/// One byte more, less, or another.
fn change(mut bytes: Vec<u8>, liked: &[u8], choices: &mut Choices) -> Vec<u8> {
    let at = choices.below(bytes.len());
    let byte = match choices.below(3) {
        0 => choices.next() as u8,
        _ => liked[choices.below(liked.len())],
    };
    match choices.below(3) {
        0 => bytes.insert(at, byte),
        1 if !bytes.is_empty() => drop(bytes.remove(at)),
        _ if !bytes.is_empty() => bytes[at] = byte,
        _ => bytes.push(byte),
    }
    bytes
}
