//! The load balancer: heads, chunked bodies, listener rules and their patterns.

use std::mem::MaybeUninit;
use std::net::IpAddr;

use balancer::config::{
    Action, Cidr, Condition, FixedResponse, LoadBalancerAttributes, QueryStringPair, Redirect, Rule, XffMode,
};
use balancer::decide::chunks::{self, Chunks};
use balancer::decide::fields::{self, Field};
use balancer::decide::forwarded::{self, Back, Hop};
use balancer::decide::head::{self, FIELDS_MAX, Framing, Reading, Request, Response, Space};
use balancer::decide::pattern::{self as patterns, Dialect};
use balancer::decide::redirect::{self, Original};
use balancer::decide::rules::{self as listener, RequestFacts};
use balancer::decide::sticky;

use crate::{Choices, wildcards};

/// So many fields more may a head have when it is passed on.
const ADDED_MAX: usize = 8;

fn space<'a>() -> Space<'a> {
    [const { MaybeUninit::uninit() }; FIELDS_MAX]
}

/// Takes bytes of a client. A head that is taken has one length, and what the target is sent reads the same.
pub fn request(bytes: &[u8]) {
    let mut all = space();
    let Reading::Whole(request, length) = head::read_request(bytes, &mut all) else { return };
    assert!(head::may_be_whole(&bytes[..length], length - 1));
    let shorter = head::read_request(&bytes[..length - 1], &mut space()).is_whole();
    assert!(!shorter, "a head without its end");
    assert_eq!(framing(request.fields, false), Some(request.framing), "{request:?}");
    let mut choices = Choices::of(bytes);
    let attributes = attributes(&mut choices);
    let port = [80, 8080][choices.below(2)];
    let hop =
        Hop { attributes: &attributes, dns_name: "lb", port, client: "192.0.2.1", now_s: 1, id: [2, 3] };
    reused(&request);
    let mut sent = Vec::new();
    forwarded::request_head(&mut sent, &request, &hop);
    if request.fields.len() + ADDED_MAX > FIELDS_MAX {
        // More than a client may send us; whether a target takes it is its own affair.
        return;
    }
    let mut all = space();
    let again = match head::read_request(&sent, &mut all) {
        Reading::Whole(again, length) if length == sent.len() => again,
        other => panic!("{other:?} is read of {}", String::from_utf8_lossy(&sent)),
    };
    let told = String::from_utf8_lossy(&sent);
    assert_eq!(
        (again.method, again.path, again.query),
        (request.method, request.path, request.query),
        "{told}"
    );
    assert_eq!((again.framing, again.keep_alive), (request.framing, true), "{told}");
    assert_eq!(
        again.fields.iter().filter(|field| field.name.eq_ignore_ascii_case("host")).count(),
        1,
        "{told}"
    );
    one_hop(request.fields, again.fields);
}

/// What else is made of a request: its host, cookies, a redirect.
fn reused(request: &Request<'_>) {
    let host = listener::host_without_port(request.host());
    assert!(request.host().starts_with(host));
    sticky::cookie(request.fields, sticky::LB_COOKIE);
    let query = request.query.unwrap_or("");
    let original = Original { protocol: "http", host, port: 80, path: request.path, query };
    let location = redirect::location(&Redirect::default(), &original);
    assert!(!location.contains(['\r', '\n', '\0']), "{location:?}");
    let _ = (request.wants_websocket(), request.expects_continue(), request.is_repeatable());
}

/// Takes a byte and bytes of a target, as [`request`].
pub fn response(bytes: &[u8]) {
    let Some((&how, bytes)) = bytes.split_first() else { return };
    let to_head = how & 1 == 1;
    let mut all = space();
    let Reading::Whole(response, length) = head::read_response(bytes, &mut all, to_head) else { return };
    assert!(!head::read_response(&bytes[..length - 1], &mut space(), to_head).is_whole());
    let bodiless =
        to_head || response.status.is_informational() || [204, 304].contains(&response.status.as_u16());
    match framing(response.fields, true) {
        _ if bodiless => assert_eq!(response.framing, Framing::Empty),
        framing => assert_eq!(framing, Some(response.framing), "{response:?}"),
    }
    let chunked = matches!(response.framing, Framing::Chunked | Framing::Close);
    let cookies = ["AWSALB=t".to_owned()];
    let back =
        Back { chunked, connection: (how & 2 == 2).then_some("close"), date: b"now", cookies: &cookies };
    let mut sent = Vec::new();
    forwarded::response_head(&mut sent, &response, &back);
    if response.fields.len() + ADDED_MAX > FIELDS_MAX {
        return;
    }
    let mut all = space();
    let again: Response<'_> = match head::read_response(&sent, &mut all, to_head) {
        Reading::Whole(again, length) if length == sent.len() => again,
        other => panic!("{other:?} is read of {}", String::from_utf8_lossy(&sent)),
    };
    let told = String::from_utf8_lossy(&sent);
    assert_eq!((again.status, again.reason), (response.status, response.reason), "{told}");
    assert_eq!(again.framing, if chunked { Framing::Chunked } else { response.framing }, "{told}");
    one_hop(response.fields, again.fields);
    let mut switched = Vec::new();
    forwarded::switching_head(&mut switched, &response);
    assert!(
        head::read_response(&switched, &mut space(), false).is_whole() || response.framing == Framing::Empty
    );
}

/// How a body ends by what its fields say, read apart from our own code; `None`: it cannot be known.
fn framing(fields: &[Field<'_>], is_response: bool) -> Option<Framing> {
    let of = |name: &str| -> Vec<&[u8]> {
        let of_name = fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        of_name.map(|field| field.value).collect()
    };
    match of("transfer-encoding").as_slice() {
        [] => {}
        [coding] if coding.eq_ignore_ascii_case(b"chunked") => return Some(Framing::Chunked),
        _ => return None,
    }
    let lengths = of("content-length");
    let Some(first) = lengths.first() else {
        return Some(if is_response { Framing::Close } else { Framing::Empty });
    };
    let numbers: Option<Vec<u64>> =
        lengths.iter().map(|value| std::str::from_utf8(value).ok()?.parse().ok()).collect();
    let numbers = numbers.filter(|numbers| numbers.iter().all(|number| *number == numbers[0]))?;
    let plain = lengths.iter().all(|value| value.iter().all(u8::is_ascii_digit)) && !first.is_empty();
    plain.then_some(if numbers[0] == 0 { Framing::Empty } else { Framing::Length(numbers[0]) })
}

/// What is about one connection stays there.
fn one_hop(came: &[Field<'_>], went: &[Field<'_>]) {
    let count = |name: &str| went.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).count();
    assert!(
        count("content-length") <= 1 && count("transfer-encoding") <= 1 && count("connection") <= 1,
        "{went:?}"
    );
    assert!(count("content-length") + count("transfer-encoding") <= 1, "{went:?}");
    assert_eq!(count("keep-alive") + count("proxy-connection"), 0, "{went:?}");
    let end_to_end = |name: &str| {
        [
            "cookie",
            "authorization",
            "host",
            "content-length",
            "connection",
            "upgrade",
            "transfer-encoding",
            "te",
            "date",
        ]
        .iter()
        .any(|kept| name.eq_ignore_ascii_case(kept))
            || name.to_ascii_lowercase().starts_with("x-forwarded-")
            || name.eq_ignore_ascii_case("x-amzn-trace-id")
            || name.eq_ignore_ascii_case("set-cookie")
    };
    let named = fields::values(came, "connection").flat_map(fields::tokens).filter(|name| !end_to_end(name));
    for name in named {
        assert_eq!(count(name), 0, "{name} is of one connection: {went:?}");
    }
}

fn attributes(choices: &mut Choices) -> LoadBalancerAttributes {
    LoadBalancerAttributes {
        xff_header_processing: [XffMode::Append, XffMode::Preserve, XffMode::Remove][choices.below(3)],
        drop_invalid_header_fields: choices.below(2) == 0,
        preserve_host_header: choices.below(2) == 0,
        ..LoadBalancerAttributes::default()
    }
}

/// Whether a head was whole.
trait IsWhole {
    fn is_whole(&self) -> bool;
}

impl<T> IsWhole for Reading<T> {
    fn is_whole(&self) -> bool {
        matches!(self, Reading::Whole(..))
    }
}

/// Takes a length of pieces and a chunked body. It is read the same in pieces and in one, as its definition says, and what
/// is made of it reads the same.
pub fn chunked(bytes: &[u8]) {
    let Some((&step, body)) = bytes.split_first() else { return };
    let whole = read_chunks(body, usize::MAX);
    assert_eq!(read_chunks(body, usize::from(step % 32) + 1), whole, "in pieces");
    let Ok((content, used, done)) = whole else { return };
    let expected = plain_chunks(body);
    assert_eq!(
        expected.as_ref().map(|(content, _)| content),
        done.then_some(&content),
        "{used} bytes are used"
    );
    if let Some((_, length)) = expected {
        assert_eq!(used, length);
    }
    let mut again = Vec::new();
    content.chunks(100).for_each(|piece| chunks::write(&mut again, piece));
    again.extend_from_slice(b"0\r\n\r\n");
    assert_eq!(read_chunks(&again, 7), Ok((content, again.len(), true)));
}

/// Content, bytes used, and whether that was all of it.
fn read_chunks(body: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), chunks::Malformed> {
    let (mut chunks, mut content, mut at) = (Chunks::default(), Vec::new(), 0);
    while at < body.len() && !chunks.is_done() {
        let piece = &body[at..body.len().min(at.saturating_add(step))];
        let (used, range) = chunks.next(piece)?;
        assert!(used > 0 && range.end <= used, "{used} of {}", piece.len());
        content.extend_from_slice(&piece[range]);
        at += used;
    }
    if chunks.is_done() {
        let mut last = Vec::new();
        if chunks.finish(&mut last, "X-Sum, Host, Content-Length").is_ok() {
            let mut space = [httparse::EMPTY_HEADER; 32];
            let read = httparse::parse_headers(&last[3..], &mut space).expect("trailers are fields");
            let httparse::Status::Complete((_, trailers)) = read else { panic!("trailers without end") };
            assert!(trailers.iter().all(|field| field.name.eq_ignore_ascii_case("x-sum")), "{trailers:?}");
        }
    }
    Ok((content, at, chunks.is_done()))
}

/// The definition (RFC 9112, section 7.1) on a whole body: its content and length; `None`: not whole.
fn plain_chunks(body: &[u8]) -> Option<(Vec<u8>, usize)> {
    let line = |at: usize| body[at..].windows(2).position(|two| two == b"\r\n").map(|end| at + end);
    let (mut content, mut at) = (Vec::new(), 0);
    loop {
        let end = line(at)?;
        let digits = body[at..end].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let digits = std::str::from_utf8(&body[at..at + digits]).ok()?;
        let size = u64::from_str_radix(digits, 16).ok()?;
        at = end + 2;
        if size == 0 {
            break;
        }
        let size = usize::try_from(size).ok()?;
        content.extend_from_slice(body.get(at..at.checked_add(size)?)?);
        at += size;
        (body.get(at..at + 2)? == b"\r\n").then_some(())?;
        at += 2;
    }
    loop {
        let end = line(at)?;
        let empty = end == at;
        at = end + 2;
        if empty {
            return Some((content, at));
        }
    }
}

/// Takes a pattern and a text on two lines.
pub fn pattern(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (pattern, text) = text.split_once('\n').unwrap_or((text, ""));
    for dialect in [Dialect::PATH, Dialect::HEADER, Dialect::QUERY] {
        let expected = by_definition(pattern, text, dialect);
        assert_eq!(patterns::matches(pattern, text, dialect), expected, "{pattern:?} {text:?} {dialect:?}");
    }
}

fn by_definition(pattern: &str, text: &str, dialect: Dialect) -> bool {
    wildcards::matches(pattern.as_bytes(), text.as_bytes(), dialect.case_sensitive, dialect.escapes)
}

/// Takes conditions, one a line (`rule` begins another rule), an empty line, and a request's head. The rule that is chosen
/// is the first that holds by definition.
pub fn rules(bytes: &[u8]) {
    let Some(end) = bytes.windows(2).position(|two| two == b"\n\n") else { return };
    let Ok(lines) = std::str::from_utf8(&bytes[..end]) else { return };
    let mut all = space();
    let Reading::Whole(request, _) = head::read_request(&bytes[end + 2..], &mut all) else { return };
    let facts = RequestFacts {
        method: request.method,
        host: listener::host_without_port(request.host()),
        path: request.path,
        query: request.query,
        fields: request.fields,
        source: IpAddr::from([192, 0, 2, 7]),
    };
    let rules: Vec<Rule> = lines.split("rule").map(rule).collect();
    let expected =
        rules.iter().position(|rule| rule.conditions.iter().all(|condition| holds(condition, &facts)));
    assert_eq!(listener::choose(&rules, &facts), expected, "{rules:?} {facts:?}");
}

fn rule(lines: &str) -> Rule {
    let answer = FixedResponse { status_code: 200, content_type: None, message_body: None };
    let conditions = lines.lines().filter_map(condition).collect();
    Rule { arn: String::new(), conditions, action: Action::FixedResponse(answer) }
}

fn condition(line: &str) -> Option<Condition> {
    let mut words = line.split(' ').filter(|word| !word.is_empty());
    let kind = words.next()?;
    let values = |words: std::iter::Filter<_, _>| words.map(str::to_owned).collect::<Vec<String>>();
    Some(match kind {
        "path" => Condition::PathPattern(values(words)),
        "host" => Condition::HostHeader(values(words)),
        "header" => Condition::HttpHeader { name: words.next()?.to_owned(), values: values(words) },
        "method" => Condition::HttpRequestMethod(values(words)),
        "query" => {
            let pair = |text: &str| match text.split_once('=') {
                Some((key, value)) => QueryStringPair { key: Some(key.to_owned()), value: value.to_owned() },
                None => QueryStringPair { key: None, value: text.to_owned() },
            };
            Condition::QueryString(words.map(pair).collect())
        }
        "source" => Condition::SourceIp(words.filter_map(|text| Cidr::parse(text).ok()).collect()),
        _ => return None,
    })
}

/// Whether a condition holds, by the definition of patterns.
fn holds(condition: &Condition, facts: &RequestFacts<'_>) -> bool {
    let any = |all: &[String], text: &str, dialect| all.iter().any(|one| by_definition(one, text, dialect));
    match condition {
        Condition::PathPattern(all) => any(all, facts.path, Dialect::PATH),
        Condition::HostHeader(all) => any(all, facts.host, Dialect::HEADER),
        Condition::HttpHeader { name, values } => {
            fields::values(facts.fields, name).any(|value| any(values, value, Dialect::HEADER))
        }
        Condition::HttpRequestMethod(all) => all.iter().any(|one| one == facts.method),
        Condition::QueryString(pairs) => {
            let parts: Vec<&str> =
                facts.query.unwrap_or("").split('&').filter(|part| !part.is_empty()).collect();
            pairs.iter().any(|pair| {
                parts.iter().any(|part| {
                    let (key, value) = part.split_once('=').unwrap_or(match pair.key {
                        Some(_) => (part, ""),
                        None => ("", part),
                    });
                    pair.key.as_ref().is_none_or(|wanted| by_definition(wanted, key, Dialect::QUERY))
                        && by_definition(&pair.value, value, Dialect::QUERY)
                })
            })
        }
        Condition::SourceIp(blocks) => blocks.iter().any(|block| block.contains(facts.source)),
    }
}
