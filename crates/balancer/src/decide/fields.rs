//! Header fields as they lie in a message, and the names that mean something to a proxy.

pub use httparse::Header as Field;

/// A field name that a proxy treats in a way of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// `Connection`.
    Connection,
    /// `Keep-Alive`, `Proxy-Connection`: about one connection only.
    OneHop,
    /// `Content-Length`.
    ContentLength,
    /// `Cookie`, `Authorization`: end to end, whatever `Connection` says.
    EndToEnd,
    /// `Date`.
    Date,
    /// `Expect`.
    Expect,
    /// `Host`.
    Host,
    /// `TE`.
    Te,
    /// `Trailer`.
    Trailer,
    /// `Transfer-Encoding`.
    TransferEncoding,
    /// `Upgrade`.
    Upgrade,
    /// `X-Amzn-Trace-Id`.
    TraceId,
    /// `X-Forwarded-For`.
    ForwardedFor,
    /// `X-Forwarded-Proto`, `X-Forwarded-Port`.
    Forwarded,
    /// Any other.
    Other,
}

/// What a field name means.
pub fn name(name: &str) -> Name {
    let candidates: &[(&str, Name)] = match name.len() {
        2 => &[("te", Name::Te)],
        4 => &[("host", Name::Host), ("date", Name::Date)],
        6 => &[("expect", Name::Expect), ("cookie", Name::EndToEnd)],
        7 => &[("upgrade", Name::Upgrade), ("trailer", Name::Trailer)],
        10 => &[("connection", Name::Connection), ("keep-alive", Name::OneHop)],
        13 => &[("authorization", Name::EndToEnd)],
        14 => &[("content-length", Name::ContentLength)],
        15 => &[("x-forwarded-for", Name::ForwardedFor), ("x-amzn-trace-id", Name::TraceId)],
        16 => &[("x-forwarded-port", Name::Forwarded), ("proxy-connection", Name::OneHop)],
        17 => &[("transfer-encoding", Name::TransferEncoding), ("x-forwarded-proto", Name::Forwarded)],
        _ => &[],
    };
    let known = candidates.iter().find(|(text, _)| name.eq_ignore_ascii_case(text));
    known.map_or(Name::Other, |(_, name)| *name)
}

/// The values of all fields of a name that are visible ASCII, in order.
pub fn values<'a>(fields: &'a [Field<'a>], name: &'a str) -> impl Iterator<Item = &'a str> {
    fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).filter_map(text)
}

/// A value as text, if it is visible ASCII (spaces and tabs among it).
pub fn text<'a>(field: &Field<'a>) -> Option<&'a str> {
    let plain = field.value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    std::str::from_utf8(field.value).ok().filter(|_| plain)
}

/// The parts of a list value.
pub fn tokens(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|token| !token.is_empty())
}

/// Whether one of the fields of this name lists the token.
pub fn lists(fields: &[Field<'_>], name: &str, token: &str) -> bool {
    values(fields, name).flat_map(tokens).any(|listed| listed.eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case() {
        assert_eq!(name("HOST"), Name::Host);
        assert_eq!(name("Transfer-Encoding"), Name::TransferEncoding);
        assert_eq!(name("x-amzn-TRACE-id"), Name::TraceId);
        assert_eq!(name("x-amzn-trace-ie"), Name::Other);
        assert_eq!(name(""), Name::Other);
    }

    #[test]
    fn lists_are_over_all_fields_of_a_name() {
        let field = |name, value: &'static str| Field { name, value: value.as_bytes() };
        let fields = [field("connection", "a,, b"), field("x", "d"), field("Connection", " C ")];
        for token in ["a", "B", "c"] {
            assert!(lists(&fields, "connection", token), "{token}");
        }
        assert!(!lists(&fields, "connection", "d") && !lists(&fields, "connection", ""));
        let odd = Field { name: "x", value: b"\xff" };
        assert_eq!(values(&[odd], "X").count(), 0);
    }
}
