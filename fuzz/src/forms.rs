//! Short texts with a form of their own: moments, ARNs, address blocks, constraint expressions, image references, names,
//! digests, registries' challenges. The first byte of an input says which.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use agent::act::image::Reference;
use agent::act::image::remote::auth::{Challenge, Token};
use balancer::config::{Cidr, Matcher};
use plan::constraint;
use state::Arn;
use state::ecr::manifest::{is_digest, is_repository_name, is_tag};
use store::blobs::{Digest, UploadId};
use store::segments::Position;
use wire::model::TimestampFormat;
use wire::timestamp;

/// Reads a text as what its first byte says, or as everything.
pub fn any(bytes: &[u8]) {
    let Some((kind, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    match kind {
        b't' => moment(text),
        b'a' => arn(text),
        b'c' => cidr(text),
        b'm' => matcher(text),
        b'e' => expression(text),
        b'r' => reference(text),
        b'w' => challenge(text),
        b'n' => names(text),
        _ => {
            [moment, arn, cidr, matcher, expression, reference, challenge, names].iter().for_each(|f| f(text))
        }
    }
}

fn moment(text: &str) {
    // What four digits can say as a year.
    const YEARS_MS: std::ops::RangeInclusive<i64> = -62_167_219_200_000..=253_402_300_799_999;
    if let Some(ms) = timestamp::parse(text).filter(|ms| YEARS_MS.contains(ms)) {
        for format in [TimestampFormat::Iso8601, TimestampFormat::Rfc822, TimestampFormat::Unix] {
            let written = timestamp::format(ms, format);
            assert_eq!(timestamp::parse(&written), Some(ms), "{text} is written as {written}");
        }
    }
    if let Some(ms) = timestamp::parse_basic(text) {
        assert_eq!(timestamp::parse_basic(&timestamp::format_basic(ms)), Some(ms), "{text}");
        // A leap second is the next one.
        assert!(text.ends_with("60Z") || timestamp::format_basic(ms) == text, "{text}");
    }
}

fn arn(text: &str) {
    let Some(arn) = Arn::parse(text) else { return };
    let parts = [arn.service, arn.region, arn.account].join(":");
    assert!(text.ends_with(&format!(":{parts}:{}", arn.resource)), "{text}");
    assert!(!parts.contains('/') || text.contains('/'));
}

fn cidr(text: &str) {
    if let Some(block) = state::ec2::Cidr::parse(text) {
        assert_eq!(state::ec2::Cidr::parse(&block.to_string()), Some(block));
        assert!(block.contains(block.base) && block.overlaps(block), "{text}");
        let last = u32::try_from(block.size() - 1).expect("a block has at most 2^32 addresses");
        assert!(block.contains(block.nth(last)), "{text}");
        let balanced = Cidr::parse(text).expect("the balancer reads what EC2 does");
        assert!(balanced.contains(block.base.into()) && balanced.contains(block.nth(last).into()));
    }
    if let Ok(block) = Cidr::parse(text) {
        let address =
            text.split('/').next().and_then(|text| text.parse::<IpAddr>().ok()).expect("an address");
        // An IPv4 address written as an IPv6 one is an IPv4 address.
        assert!(block.contains(address) || address.to_canonical() != address, "{text}");
    }
}

fn matcher(text: &str) {
    let Ok(matcher) = Matcher::parse(text) else { return };
    let count = (0..=u16::MAX).filter(|code| matcher.matches(*code)).count();
    assert!((1..=300).contains(&count), "{text} is met by {count} codes");
}

fn expression(text: &str) {
    let Ok(expression) = constraint::parse(text) else { return };
    let attributes = [("attribute:ecs.os-type", "linux"), ("attribute:n", "7"), ("task:group", "service:a")];
    let attributes: BTreeMap<String, Vec<String>> =
        attributes.map(|(name, value)| (name.to_owned(), vec![value.to_owned()])).into();
    let holds = expression.matches(&attributes);
    // One at its limits has no room for that.
    if let Ok(other) = constraint::parse(&format!("not ({text})")) {
        assert_eq!(other.matches(&attributes), !holds, "not ({text})");
    }
}

fn reference(text: &str) {
    let Ok(reference) = Reference::parse(text) else { return };
    assert_eq!(Reference::parse(&reference.to_string()).as_ref(), Ok(&reference), "{text}");
    assert!(!reference.repository.split('/').any(|part| part.is_empty() || part == ".."), "{text}");
    assert!(reference.domain != "docker.io" || reference.repository.contains('/'), "{text}");
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    assert!(reference.domain.chars().all(plain), "{text}: a host {}", reference.domain);
    if let Some((account, region)) = reference.ecr_account_and_region() {
        assert!(account.len() == 12 && !region.is_empty());
    }
}

fn challenge(text: &str) {
    if let Some(challenge) = Challenge::parse(text) {
        assert!(!challenge.realm.is_empty() && text.contains(&challenge.realm));
        assert!(challenge.query("a/b").iter().any(|(name, _)| *name == "scope"));
    }
    let now = Instant::now();
    if let Some(token) = Token::parse(text.as_bytes(), now) {
        assert!(!token.text.is_empty() && token.until >= now);
    }
}

fn names(text: &str) {
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    assert_eq!(text.parse::<Digest>().is_ok(), is_digest(text), "{text}");
    if let Ok(id) = text.parse::<UploadId>() {
        assert!(id.to_string() == text && !text.contains(['/', '.']), "{text}");
    }
    if let Ok(position) = text.parse::<Position>() {
        assert_eq!(position.to_string(), text);
    }
    if is_repository_name(text) {
        assert!(text.split('/').all(|part| !part.is_empty() && part != ".."), "{text}");
        // What our registry has can be named in a task definition.
        let reference = Reference::parse(&format!("localhost:4566/{text}"));
        assert_eq!(reference.map(|reference| reference.repository).as_deref(), Ok(text));
    }
    assert!(!is_tag(text) || !text.contains(['/', ':', '@']), "{text}");
}
