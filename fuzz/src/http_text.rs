//! Requests as they are recorded from clients: the bytes of one HTTP/1.1 message.

use bytes::Bytes;
use http::request::Parts;

/// Reads a request; what follows the head is its body. `None`: hyper would not have handed it on either.
pub fn request(bytes: &[u8]) -> Option<(Parts, Bytes)> {
    let mut space = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Request::new(&mut space);
    let httparse::Status::Complete(length) = head.parse(bytes).ok()? else { return None };
    let mut request = http::Request::builder().method(head.method?).uri(head.path?);
    for field in head.headers {
        request = request.header(field.name, field.value);
    }
    let (parts, ()) = request.body(()).ok()?.into_parts();
    Some((parts, Bytes::copy_from_slice(&bytes[length..])))
}

/// The text of a header, if it is ASCII.
pub fn header<'a>(parts: &'a Parts, name: &str) -> Option<&'a str> {
    parts.headers.get(name)?.to_str().ok()
}
