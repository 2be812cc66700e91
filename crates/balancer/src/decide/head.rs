//! Heads of HTTP/1.1 messages: what is asked, how long the body is, whether the connection goes on (RFC 9112).
//!
//! What two readers could read differently is refused, so that no request can hide in another one.

use std::mem::MaybeUninit;

use http::StatusCode;

use super::fields::{self, Field, Name};

/// Most header fields in a head.
pub const FIELDS_MAX: usize = 100;
/// ALB's limits: 16 KiB for the request line, 16 KiB for a header.
const REQUEST_LINE_MAX: usize = 16 * 1024;
const FIELD_MAX: usize = 16 * 1024;

/// Where the fields of a head are put.
pub type Space<'a> = [MaybeUninit<Field<'a>>; FIELDS_MAX];

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Empty,
    /// After so many bytes.
    Length(u64),
    /// With its last chunk.
    Chunked,
    /// With the connection (responses only).
    Close,
}

/// A request's head.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Method, as sent.
    pub method: &'a str,
    /// The host of the request line, in absolute form only.
    pub authority: Option<&'a str>,
    /// Path without query, as sent.
    pub path: &'a str,
    /// Query without `?`.
    pub query: Option<&'a str>,
    /// HTTP/1.1, not 1.0.
    pub http_11: bool,
    /// Header fields, as sent.
    pub fields: &'a [Field<'a>],
    /// How the body ends.
    pub framing: Framing,
    /// Whether the client wants the connection to go on.
    pub keep_alive: bool,
}

/// A response's head.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// Status code.
    pub status: StatusCode,
    /// Reason phrase.
    pub reason: &'a str,
    /// Header fields, as sent.
    pub fields: &'a [Field<'a>],
    /// How the body ends.
    pub framing: Framing,
    /// Whether the target keeps the connection open.
    pub keep_alive: bool,
}

/// What was read of a head.
#[derive(Debug)]
pub enum Reading<T> {
    /// All of it, and how many bytes it takes.
    Whole(T, usize),
    /// More must come.
    Partial,
    /// Refused, and the client told this status; nothing after it can be read.
    Refused(StatusCode),
}

/// Whether a head's end may have come with the bytes from `from` on: asked before a head is read again from its start, so
/// that one that comes byte by byte costs no more than its length.
pub fn may_be_whole(bytes: &[u8], from: usize) -> bool {
    let start = from.saturating_sub(3);
    let ends = |at: usize| matches!(bytes.get(at + 1..), Some([b'\n', ..] | [b'\r', b'\n', ..]));
    (start..bytes.len()).any(|at| bytes[at] == b'\n' && ends(at))
}

/// Reads a request's head.
pub fn read_request<'a>(bytes: &'a [u8], space: &'a mut Space<'a>) -> Reading<Request<'a>> {
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(bytes, space) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Reading::Partial,
        Err(httparse::Error::TooManyHeaders) => {
            return Reading::Refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        Err(_) => return Reading::Refused(StatusCode::BAD_REQUEST),
    };
    let (method, target) = (parsed.method.unwrap_or(""), parsed.path.unwrap_or(""));
    let http_11 = parsed.version == Some(1);
    match request(method, target, http_11, parsed.headers) {
        Ok(request) => Reading::Whole(request, length),
        Err(status) => Reading::Refused(status),
    }
}

fn request<'a>(
    method: &'a str,
    target: &'a str,
    http_11: bool,
    fields: &'a [Field<'a>],
) -> Result<Request<'a>, StatusCode> {
    if target.len() > REQUEST_LINE_MAX {
        return Err(StatusCode::URI_TOO_LONG);
    }
    let (mut length, mut coded, mut chunked) = (None, false, false);
    let (mut wish, mut hosts, mut odd_host) = (Wish::default(), 0, false);
    for field in fields {
        if field.name.len() + field.value.len() > FIELD_MAX {
            return Err(StatusCode::BAD_REQUEST);
        }
        match fields::name(field.name) {
            Name::Host => {
                hosts += 1;
                odd_host |= fields::text(field).is_none();
            }
            Name::ContentLength => length = Some(content_length(field, length)?),
            // A coding that is not undone here would reach the target undeclared; one given twice has no meaning.
            Name::TransferEncoding => {
                chunked = !coded && http_11 && field.value.eq_ignore_ascii_case(b"chunked");
                coded = true;
            }
            Name::Connection => wish.hear(field),
            _ => {}
        }
    }
    if coded && !chunked {
        return Err(StatusCode::BAD_REQUEST);
    }
    let both = coded && length.is_some();
    let (authority, path, query) = split_target(target).ok_or(StatusCode::BAD_REQUEST)?;
    if hosts > 1 || odd_host || (hosts == 0 && http_11 && authority.is_none()) || method == "CONNECT" {
        return Err(StatusCode::BAD_REQUEST);
    }
    if method == "TRACE" {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    let framing = match length {
        _ if chunked => Framing::Chunked,
        None | Some(0) => Framing::Empty,
        Some(length) => Framing::Length(length),
    };
    // After a length beside chunks the connection is not trusted any further (RFC 9112, section 6.3).
    let keep_alive = wish.keep_alive(http_11) && !both;
    Ok(Request { method, authority, path, query, http_11, fields, framing, keep_alive })
}

/// Reads a response's head, `to_head` that of a response to HEAD. Refused: not HTTP/1, or of no certain length.
pub fn read_response<'a>(bytes: &'a [u8], space: &'a mut Space<'a>, to_head: bool) -> Reading<Response<'a>> {
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut parsed, bytes, space) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Reading::Partial,
        Err(_) => return Reading::Refused(StatusCode::BAD_GATEWAY),
    };
    let (code, reason) = (parsed.code.unwrap_or(0), parsed.reason.unwrap_or(""));
    match response(code, reason, parsed.version == Some(1), parsed.headers, to_head) {
        Some(response) => Reading::Whole(response, length),
        None => Reading::Refused(StatusCode::BAD_GATEWAY),
    }
}

fn response<'a>(
    code: u16,
    reason: &'a str,
    http_11: bool,
    fields: &'a [Field<'a>],
    to_head: bool,
) -> Option<Response<'a>> {
    let status = StatusCode::from_u16(code).ok()?;
    let (mut length, mut coded, mut chunked, mut wish) = (None, false, false, Wish::default());
    for field in fields {
        match fields::name(field.name) {
            Name::ContentLength => length = Some(content_length(field, length).ok()?),
            Name::TransferEncoding => {
                chunked = !coded && field.value.eq_ignore_ascii_case(b"chunked");
                coded = true;
            }
            Name::Connection => wish.hear(field),
            _ => {}
        }
    }
    let bodiless = to_head || status.is_informational() || matches!(status.as_u16(), 204 | 304);
    let framing = match length {
        _ if bodiless => Framing::Empty,
        _ if coded && !chunked => return None,
        _ if chunked => Framing::Chunked,
        Some(0) => Framing::Empty,
        Some(length) => Framing::Length(length),
        None => Framing::Close,
    };
    let certain = framing != Framing::Close && !(coded && length.is_some());
    let keep_alive = certain && wish.keep_alive(http_11);
    Some(Response { status, reason, fields, framing, keep_alive })
}

/// Only digits, and the same in every field of the name.
fn content_length(field: &Field<'_>, before: Option<u64>) -> Result<u64, StatusCode> {
    let digits = !field.value.is_empty() && field.value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(field.value).ok().filter(|_| digits);
    let length: u64 = text.and_then(|text| text.parse().ok()).ok_or(StatusCode::BAD_REQUEST)?;
    if before.is_none_or(|before| before == length) { Ok(length) } else { Err(StatusCode::BAD_REQUEST) }
}

/// What the `Connection` fields say.
#[derive(Default)]
struct Wish {
    close: bool,
    keep_alive: bool,
}

impl Wish {
    fn hear(&mut self, field: &Field<'_>) {
        for token in fields::text(field).into_iter().flat_map(fields::tokens) {
            self.close |= token.eq_ignore_ascii_case("close");
            self.keep_alive |= token.eq_ignore_ascii_case("keep-alive");
        }
    }

    /// A wish to close outweighs all others.
    fn keep_alive(&self, http_11: bool) -> bool {
        !self.close && (http_11 || self.keep_alive)
    }
}

type Target<'a> = (Option<&'a str>, &'a str, Option<&'a str>);

/// Authority, path and query of a request target: in origin form (`/a?b`), absolute form (`http://h/a?b`) or `*`. A
/// fragment, which no client should send, is cut off. `None`: anything else.
fn split_target(target: &str) -> Option<Target<'_>> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b'^' | b'`' | b'\\');
    // The characters that are rare are judged by the `http` crate, like a whole absolute form.
    if !(target.starts_with('/') && target.bytes().all(plain)) {
        target.parse::<http::Uri>().ok()?;
    }
    let target = target.split('#').next().unwrap_or("");
    let (authority, rest) = if target.starts_with('/') || target == "*" {
        (None, target)
    } else {
        let after = target.split_once("://")?.1;
        let end = after.find(['/', '?']).unwrap_or(after.len());
        (Some(&after[..end]).filter(|authority| !authority.is_empty()), &after[end..])
    };
    let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
    Some((authority, if path.is_empty() { "/" } else { path }, query))
}

impl<'a> Request<'a> {
    /// The host it is for, with its port: of the request line if that has one, else of the `Host` field. Empty: none.
    pub fn host(&self) -> &'a str {
        let field = || self.fields.iter().find(|field| fields::name(field.name) == Name::Host);
        self.authority.or_else(|| fields::text(field()?)).unwrap_or("")
    }

    /// Whether it asks for a WebSocket. No other protocol is switched to.
    pub fn wants_websocket(&self) -> bool {
        let upgrade = self.fields.iter().any(|field| fields::name(field.name) == Name::Upgrade);
        upgrade
            && self.http_11
            && self.framing == Framing::Empty
            && fields::lists(self.fields, "upgrade", "websocket")
            && fields::lists(self.fields, "connection", "upgrade")
    }

    /// Whether the client waits for a 100 before it sends the body.
    pub fn expects_continue(&self) -> bool {
        self.http_11
            && matches!(self.framing, Framing::Length(_) | Framing::Chunked)
            && fields::lists(self.fields, "expect", "100-continue")
    }

    /// Whether it may be sent a second time when the first got no answer (RFC 9110, section 9.2.2).
    pub fn is_repeatable(&self) -> bool {
        self.framing == Framing::Empty
            && matches!(self.method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "TRACE")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn space<'a>() -> Space<'a> {
        [const { MaybeUninit::uninit() }; FIELDS_MAX]
    }

    /// The framing and whether the connection goes on, or the status of the refusal; `None`: partial.
    fn read(text: &str) -> Option<Result<(Framing, bool), u16>> {
        match read_request(text.as_bytes(), &mut space()) {
            Reading::Whole(request, length) => {
                assert_eq!(length, text.len());
                Some(Ok((request.framing, request.keep_alive)))
            }
            Reading::Partial => None,
            Reading::Refused(status) => Some(Err(status.as_u16())),
        }
    }

    #[test]
    fn framing_of_requests() {
        let with = |fields: &str| read(&format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n")).unwrap();
        assert_eq!(with(""), Ok((Framing::Empty, true)));
        assert_eq!(with("Content-Length: 3\r\nConnection: x, Close\r\n"), Ok((Framing::Length(3), false)));
        assert_eq!(with("Content-Length: 3\r\ncontent-length: 3\r\n"), Ok((Framing::Length(3), true)));
        assert_eq!(with("Transfer-Encoding: Chunked\r\n"), Ok((Framing::Chunked, true)));
        let both = Ok((Framing::Chunked, false));
        assert_eq!(with("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"), both);
        assert_eq!(with("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"), both);
        for bad in [
            "Content-Length: 3\r\nContent-Length: 4\r\n",
            "Content-Length: 3, 3\r\n",
            "Content-Length: +3\r\n",
            "Content-Length: \r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length : 3\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding:\x0bchunked\r\n",
            "X: a\r\n b\r\n",
            "Host: i\r\n",
        ] {
            assert_eq!(with(bad), Err(400), "{bad:?}");
        }
        assert_eq!(read("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), Some(Err(400)));
        assert_eq!(read("GET / HTTP/1.0\r\n\r\n"), Some(Ok((Framing::Empty, false))));
        let kept = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
        assert_eq!(read(kept), Some(Ok((Framing::Empty, true))));
        let closed = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n";
        assert_eq!(read(closed), Some(Ok((Framing::Empty, false))));
    }

    #[test]
    fn targets() {
        let all = [
            ("/a%20b?c=d", Some((None, "/a%20b", Some("c=d")))),
            ("/", Some((None, "/", None))),
            ("//x?", Some((None, "//x", Some("")))),
            ("/a#b?c", Some((None, "/a", None))),
            ("*", Some((None, "*", None))),
            ("http://h:1/p?q", Some((Some("h:1"), "/p", Some("q")))),
            ("http://h?q", Some((Some("h"), "/", Some("q")))),
            ("http://h", Some((Some("h"), "/", None))),
            ("h:1", None),
            ("a/b", None),
            ("/a<b", None),
        ];
        for (target, expected) in all {
            assert_eq!(split_target(target), expected, "{target}");
        }
    }

    #[test]
    fn framing_of_responses() {
        let with = |fields: &str, to_head| {
            let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
            match read_response(text.as_bytes(), &mut space(), to_head) {
                Reading::Whole(response, length) => {
                    assert_eq!(length, text.len());
                    Ok((response.framing, response.keep_alive))
                }
                Reading::Refused(status) => Err(status.as_u16()),
                Reading::Partial => panic!("{text} is partial"),
            }
        };
        assert_eq!(with("Content-Length: 5\r\n", false), Ok((Framing::Length(5), true)));
        assert_eq!(with("Content-Length: 5\r\n", true), Ok((Framing::Empty, true)));
        assert_eq!(with("", false), Ok((Framing::Close, false)));
        assert_eq!(with("Transfer-Encoding: chunked\r\n", false), Ok((Framing::Chunked, true)));
        let both = with("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", false);
        assert_eq!(both, Ok((Framing::Chunked, false)));
        assert_eq!(with("Transfer-Encoding: gzip, chunked\r\n", false), Err(502));
        assert_eq!(with("Content-Length: 5\r\nContent-Length: 6\r\n", false), Err(502));
        let partial = "HTTP/1.1 200 OK\r\nA:";
        assert!(matches!(read_response(partial.as_bytes(), &mut space(), false), Reading::Partial));
        for bad in ["SSH-2.0-x\r\n\r\n", "HTTP/1.1 099 X\r\n\r\n"] {
            assert!(
                matches!(read_response(bad.as_bytes(), &mut space(), false), Reading::Refused(_)),
                "{bad}"
            );
        }
    }

    proptest! {
        /// However a head is cut, it is looked at again when its end has come.
        #[test]
        fn an_end_is_not_missed(cut in 0_usize..60, bare in proptest::bool::ANY) {
            let text = "GET / HTTP/1.1\r\nHost: h\r\nX: 1\r\n\r\n".to_owned();
            let text = if bare { text.replace('\r', "") } else { text };
            let cut = cut.min(text.len() - 1);
            prop_assert!(may_be_whole(text.as_bytes(), cut));
            prop_assert!(!may_be_whole(&text.as_bytes()[..cut], 0) || read(&text[..cut]).is_some());
        }

        /// No bytes make the reader panic, and what it takes is no more than there is.
        #[test]
        fn anything_can_be_read(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            if let Reading::Whole(_, length) = read_request(&bytes, &mut space()) {
                prop_assert!(length <= bytes.len());
            }
            let _ = read_response(&bytes, &mut space(), false);
        }
    }
}
