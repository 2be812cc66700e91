//! How a request's and a response's head change on the way through
//! (ELB document "HTTP headers and Application Load Balancers").

use std::net::IpAddr;

use super::fields::{self, Field, Name};
use super::head::{Framing, Request, Response};
use super::rules::host_without_port;
use crate::config::{LoadBalancerAttributes, XffMode};

/// What a load balancer adds to a request, apart from what the request itself says.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'a> {
    /// The load balancer's attributes.
    pub attributes: &'a LoadBalancerAttributes,
    /// Its name, for a request without a host.
    pub dns_name: &'a str,
    /// The listener's port.
    pub port: u16,
    /// The client as [`client_name`] writes it.
    pub client: &'a str,
    /// Seconds since the Unix epoch.
    pub now_s: i64,
    /// Random bits for the trace id.
    pub id: [u64; 2],
}

/// What a load balancer adds to a response.
#[derive(Clone, Copy, Debug)]
pub struct Back<'a> {
    /// The response's body, whose length only its chunks tell, is sent in chunks.
    pub chunked: bool,
    /// The value of `Connection`, if it is to be said.
    pub connection: Option<&'a str>,
    /// The date, for a response without one.
    pub date: &'a [u8],
    /// `Set-Cookie` values to add.
    pub cookies: &'a [String],
}

/// Writes a header line.
pub fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes a request's head for its target.
pub fn request_head(out: &mut Vec<u8>, request: &Request<'_>, hop: &Hop<'_>) {
    out.extend_from_slice(request.method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(request.path.as_bytes());
    if let Some(query) = request.query {
        out.push(b'?');
        out.extend_from_slice(query.as_bytes());
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    host(out, request.host(), hop);
    let hops = OneHop::of(request.fields);
    let (mut length_said, mut trace, mut forwarded) = (false, None, Vec::new());
    for field in request.fields {
        match fields::name(field.name) {
            name if hops.ends_here(name, field) => {}
            // The balancer itself has answered, or will, with the 100.
            Name::Host | Name::Expect | Name::Te | Name::Forwarded => {}
            Name::ContentLength if length_said || request.framing == Framing::Chunked => {}
            Name::TraceId => trace = trace.or(Some(field)),
            Name::ForwardedFor if hop.attributes.xff_header_processing == XffMode::Append => {
                forwarded.extend_from_slice(field.value);
                forwarded.extend_from_slice(b", ");
            }
            Name::ForwardedFor if hop.attributes.xff_header_processing == XffMode::Remove => {}
            _ if hop.attributes.drop_invalid_header_fields && !is_plain_name(field.name) => {}
            name => {
                length_said |= name == Name::ContentLength;
                line(out, field.name, field.value);
            }
        }
    }
    // A field of one connection, but "trailers" is promised on by both sides of this proxy.
    if fields::lists(request.fields, "te", "trailers") {
        out.extend_from_slice(b"TE: trailers\r\n");
    }
    if request.framing == Framing::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if request.wants_websocket() {
        out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
    }
    if hop.attributes.xff_header_processing == XffMode::Append {
        out.extend_from_slice(b"X-Forwarded-For: ");
        out.extend_from_slice(&forwarded);
        out.extend_from_slice(hop.client.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"X-Forwarded-Proto: http\r\nX-Forwarded-Port: ");
    decimal(out, hop.port);
    out.extend_from_slice(b"\r\nX-Amzn-Trace-Id: ");
    trace_id(out, trace.and_then(fields::text), hop.now_s, hop.id);
    out.extend_from_slice(b"\r\n\r\n");
}

/// Writes a response's head for its client.
pub fn response_head(out: &mut Vec<u8>, response: &Response<'_>, back: &Back<'_>) {
    status_line(out, response.status.as_u16(), response.reason);
    let hops = OneHop::of(response.fields);
    let no_length = back.chunked || response.status.as_u16() == 204 || hops.coded;
    let (mut length_said, mut dated) = (false, false);
    for field in response.fields {
        match fields::name(field.name) {
            name if hops.ends_here(name, field) => {}
            Name::ContentLength if length_said || no_length => {}
            name => {
                length_said |= name == Name::ContentLength;
                dated |= name == Name::Date;
                line(out, field.name, field.value);
            }
        }
    }
    if !dated {
        line(out, "Date", back.date);
    }
    for cookie in back.cookies {
        line(out, "Set-Cookie", cookie.as_bytes());
    }
    if back.chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if let Some(connection) = back.connection {
        line(out, "Connection", connection.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the head of a response that switches protocols: it is about this connection, so it goes as it came.
pub fn switching_head(out: &mut Vec<u8>, response: &Response<'_>) {
    status_line(out, response.status.as_u16(), response.reason);
    response.fields.iter().for_each(|field| line(out, field.name, field.value));
    out.extend_from_slice(b"\r\n");
}

/// Writes a status line.
pub fn status_line(out: &mut Vec<u8>, status: u16, reason: &str) {
    out.extend_from_slice(b"HTTP/1.1 ");
    decimal(out, status);
    out.push(b' ');
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// What belongs to one connection only (RFC 9110, section 7.6.1).
struct OneHop<'a> {
    fields: &'a [Field<'a>],
    /// `Connection` names further fields.
    names: bool,
    /// There is a transfer coding; a length beside it is not passed on: the two would disagree.
    coded: bool,
}

impl<'a> OneHop<'a> {
    fn of(fields: &'a [Field<'a>]) -> Self {
        let (mut names, mut coded) = (false, false);
        for field in fields {
            match fields::name(field.name) {
                Name::Connection => {
                    let plain = |value: &[u8]| {
                        value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close")
                    };
                    names |= !plain(field.value);
                }
                Name::TransferEncoding => coded = true,
                _ => {}
            }
        }
        Self { fields, names, coded }
    }

    /// Whether a field is not passed on. Those that carry meaning end to end are, whatever `Connection` says.
    fn ends_here(&self, name: Name, field: &Field<'_>) -> bool {
        match name {
            Name::Connection | Name::OneHop | Name::TransferEncoding | Name::Upgrade => true,
            Name::Host | Name::ContentLength | Name::EndToEnd => false,
            _ => self.names && fields::lists(self.fields, "connection", field.name),
        }
    }
}

/// The `Host` line. Unless the header is preserved, a port other than 80 is appended where it is missing.
fn host(out: &mut Vec<u8>, host: &str, hop: &Hop<'_>) {
    let sent = if host.is_empty() { hop.dns_name } else { host };
    out.extend_from_slice(b"Host: ");
    out.extend_from_slice(sent.as_bytes());
    let bare = host_without_port(host) == host;
    if !hop.attributes.preserve_host_header && hop.port != 80 && !host.is_empty() && bare {
        out.push(b':');
        decimal(out, hop.port);
    }
    out.extend_from_slice(b"\r\n");
}

/// How `X-Forwarded-For` names a client.
pub fn client_name(ip: IpAddr, port: u16, attributes: &LoadBalancerAttributes) -> String {
    match (ip.to_canonical(), attributes.xff_client_port) {
        (IpAddr::V4(ip), true) => format!("{ip}:{port}"),
        (IpAddr::V6(ip), true) => format!("[{ip}]:{port}"),
        (ip, false) => ip.to_string(),
    }
}

/// Writes the `X-Amzn-Trace-Id` to send: `Root` if the client sent none, else `Self` before what it sent.
pub fn trace_id(out: &mut Vec<u8>, existing: Option<&str>, now_s: i64, id: [u64; 2]) {
    let field = |name: &str, field: &str| field.trim_start().starts_with(name);
    let own = |out: &mut Vec<u8>, name: &[u8]| {
        out.extend_from_slice(name);
        out.extend_from_slice(b"=1-");
        hex(out, now_s as u64, 8);
        out.push(b'-');
        hex(out, id[0], 16);
        hex(out, id[1], 8);
    };
    match existing {
        None => own(out, b"Root"),
        Some(text) if text.split(';').any(|part| field("Root=", part)) => {
            own(out, b"Self");
            for part in text.split(';').filter(|part| !field("Self=", part)) {
                out.push(b';');
                out.extend_from_slice(part.trim().as_bytes());
            }
        }
        Some(text) => {
            out.extend_from_slice(text.as_bytes());
            out.push(b';');
            own(out, b"Root");
        }
    }
}

/// The lowest `digits` digits of a number, in base 16.
fn hex(out: &mut Vec<u8>, number: u64, digits: u32) {
    out.extend((0..digits).rev().map(|place| b"0123456789abcdef"[(number >> (4 * place) & 15) as usize]));
}

fn decimal(out: &mut Vec<u8>, number: u16) {
    let mut digits = [0; 5];
    let (mut at, mut left) = (digits.len(), number);
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            return out.extend_from_slice(&digits[at..]);
        }
    }
}

/// Whether a header name passes `routing.http.drop_invalid_header_fields`: `[-A-Za-z0-9]+`.
fn is_plain_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::head::{FIELDS_MAX, Reading, read_request, read_response};
    use std::mem::MaybeUninit;

    /// The request's head after the hop, with the trace id cut off.
    fn forward(attributes: &LoadBalancerAttributes, port: u16, head: &str) -> String {
        let mut space = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let Reading::Whole(request, _) = read_request(head.as_bytes(), &mut space) else { panic!("{head}") };
        let hop = Hop { attributes, dns_name: "lb", port, client: "192.0.2.1", now_s: 0, id: [0, 0] };
        let mut out = Vec::new();
        request_head(&mut out, &request, &hop);
        let text = String::from_utf8(out).unwrap();
        text.split_once("X-Amzn-Trace-Id").unwrap().0.to_owned()
    }

    const ADDED: &str = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Port: 80\r\n";

    #[test]
    fn what_belongs_to_the_connection_goes() {
        let head = "POST /a?b HTTP/1.1\r\nConnection: close, X-Secret, content-length, host, X-Forwarded-For\r\n\
                    x-secret: 1\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\nHost: h\r\nX-Forwarded-For: 6.6.6.6\r\n\
                    Content-Length: 4\r\ncontent-length: 4\r\nTE: gzip, trailers\r\nExpect: 100-continue\r\n\r\n";
        let expected =
            format!("POST /a?b HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTE: trailers\r\n{ADDED}");
        assert_eq!(forward(&LoadBalancerAttributes::default(), 80, head), expected);
        let both =
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n";
        let expected = format!("POST / HTTP/1.1\r\nHost: h\r\nA: b\r\nTransfer-Encoding: chunked\r\n{ADDED}");
        assert_eq!(forward(&LoadBalancerAttributes::default(), 80, both), expected);
    }

    #[test]
    fn only_websockets_are_upgrades() {
        let asked = |fields: &str| {
            let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
            forward(&LoadBalancerAttributes::default(), 80, &head)
                .contains("Connection: Upgrade\r\nUpgrade: websocket\r\n")
        };
        assert!(asked("Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"));
        assert!(!asked("Connection: Upgrade\r\nUpgrade: h2c\r\n"));
        assert!(!asked("Upgrade: websocket\r\n"));
    }

    #[test]
    fn attributes() {
        let head = "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 10.0.0.1\r\nx_odd: 1\r\nX-Forwarded-For: 10.0.0.2\r\n\
                    X-Forwarded-Proto: https\r\n\r\n";
        let with = |xff_header_processing, drop_invalid_header_fields| {
            let attributes = LoadBalancerAttributes {
                xff_header_processing,
                drop_invalid_header_fields,
                ..LoadBalancerAttributes::default()
            };
            let all = forward(&attributes, 80, head);
            let kept = all.strip_prefix("GET / HTTP/1.1\r\nHost: h\r\n").unwrap();
            kept.strip_suffix("X-Forwarded-Proto: http\r\nX-Forwarded-Port: 80\r\n").unwrap().to_owned()
        };
        assert_eq!(with(XffMode::Append, true), "X-Forwarded-For: 10.0.0.1, 10.0.0.2, 192.0.2.1\r\n");
        assert_eq!(
            with(XffMode::Preserve, false),
            "X-Forwarded-For: 10.0.0.1\r\nx_odd: 1\r\nX-Forwarded-For: 10.0.0.2\r\n"
        );
        assert_eq!(with(XffMode::Remove, true), "");
    }

    #[test]
    fn hosts() {
        let host = |sent: &str, port, preserve_host_header| {
            let attributes = LoadBalancerAttributes { preserve_host_header, ..Default::default() };
            let head = forward(&attributes, port, &format!("GET / HTTP/1.1\r\nHost: {sent}\r\n\r\n"));
            head.lines().nth(1).unwrap().to_owned()
        };
        assert_eq!(host("a.b", 80, false), "Host: a.b");
        assert_eq!(host("a.b", 8080, false), "Host: a.b:8080");
        assert_eq!(host("a.b:1", 8080, false), "Host: a.b:1");
        assert_eq!(host("a.b", 8080, true), "Host: a.b");
        assert_eq!(host("[::1]", 8080, false), "Host: [::1]:8080");
        assert_eq!(host("", 8080, false), "Host: lb");
    }

    #[test]
    fn client_names() {
        let plain = LoadBalancerAttributes::default();
        let with_port = LoadBalancerAttributes { xff_client_port: true, ..plain.clone() };
        let (v4, v6) = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        assert_eq!(client_name(v4, 9, &plain), "192.0.2.1");
        assert_eq!(client_name(v4, 9, &with_port), "192.0.2.1:9");
        assert_eq!(client_name(v6, 9, &plain), "2001:db8::1");
        assert_eq!(client_name(v6, 9, &with_port), "[2001:db8::1]:9");
    }

    #[test]
    fn trace_ids() {
        let own = "1-67891233-abcdef012345678912345678";
        let id = [0xabcd_ef01_2345_6789, 0xffff_ffff_1234_5678];
        let of = |existing| {
            let mut out = Vec::new();
            trace_id(&mut out, existing, 0x6789_1233, id);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(of(None), format!("Root={own}"));
        assert_eq!(of(Some("Root=1-a-b;CalledFrom=app")), format!("Self={own};Root=1-a-b;CalledFrom=app"));
        assert_eq!(of(Some("Self=1-x-y;Root=1-a-b")), format!("Self={own};Root=1-a-b"));
        assert_eq!(of(Some("CalledFrom=app")), format!("CalledFrom=app;Root={own}"));
    }

    #[test]
    fn responses() {
        let back = |head: &str, chunked, connection| {
            let mut space = [const { MaybeUninit::uninit() }; FIELDS_MAX];
            let Reading::Whole(response, _) = read_response(head.as_bytes(), &mut space, false) else {
                panic!("{head}")
            };
            let mut out = Vec::new();
            let cookies = ["a=b".to_owned()];
            response_head(
                &mut out,
                &response,
                &Back { chunked, connection, date: b"now", cookies: &cookies },
            );
            String::from_utf8(out).unwrap()
        };
        let head =
            "HTTP/1.1 200 Fine\r\nconnection: x-hop\r\nX-Hop: 1\r\ncontent-length: 2\r\nDate: then\r\n\r\n";
        let expected = "HTTP/1.1 200 Fine\r\ncontent-length: 2\r\nDate: then\r\nSet-Cookie: a=b\r\n\r\n";
        assert_eq!(back(head, false, None), expected);
        let head = "HTTP/1.0 404 Not Found\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n";
        let expected = "HTTP/1.1 404 Not Found\r\nDate: now\r\nSet-Cookie: a=b\r\nTransfer-Encoding: chunked\r\n\
                        Connection: close\r\n\r\n";
        assert_eq!(back(head, true, Some("close")), expected);
    }
}
