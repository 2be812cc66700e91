//! Whether a request to a loopback address comes from a program of this machine, or from a web page in its browser.

use http::{HeaderMap, Uri};

/// What AWS's clients make of `localhost` for DiscoverInstances, whose host name has the prefix `data-`.
pub const DATA_PLANE_NAME: &str = "data-localhost";

/// A page of another origin that sends a request has its browser name that origin; a page can also have a name of its
/// own resolve to loopback, and then names that.
pub fn is_of_this_machine(headers: &HeaderMap, uri: &Uri) -> bool {
    !headers.contains_key("origin") && !headers.contains_key("referer") && names_loopback(headers, uri)
}

fn names_loopback(headers: &HeaderMap, uri: &Uri) -> bool {
    let host = headers.get("host").and_then(|value| value.to_str().ok());
    let authority = match host {
        Some(host) => host.parse().ok(),
        // HTTP/2.
        None => uri.authority().cloned(),
    };
    let Some(authority): Option<http::uri::Authority> = authority else { return false };
    // A host and a port, and nothing that would have to be understood (`user@`, a port of letters).
    let after = authority.as_str().strip_prefix(authority.host());
    if !after.is_some_and(|after| after.bytes().all(|byte| byte == b':' || byte.is_ascii_digit())) {
        return false;
    }
    let name = authority.host().trim_matches(['[', ']']).to_ascii_lowercase();
    name == "localhost"
        || name == DATA_PLANE_NAME
        || name.ends_with(".localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_this_machine_are_told_from_web_pages() {
        let path = Uri::from_static("/");
        let is_of_this_machine = |headers: &HeaderMap| super::is_of_this_machine(headers, &path);
        let of = |list: &[(&'static str, &str)]| -> HeaderMap {
            list.iter()
                .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
                .collect()
        };
        for host in
            ["localhost:4566", "LOCALHOST", "127.0.0.1:1", "[::1]:4566", "data-localhost:1", "a.localhost"]
        {
            assert!(is_of_this_machine(&of(&[("host", host)])), "{host}");
            for header in ["origin", "referer"] {
                assert!(!is_of_this_machine(&of(&[("host", host), (header, "null")])), "{host}, {header}");
            }
        }
        for host in [
            "evil.example:4566",
            "192.0.2.1",
            "localhost.evil.example",
            "localhost:x:y",
            "localhost:456v",
            "evil.example@localhost",
            "",
        ] {
            assert!(!is_of_this_machine(&of(&[("host", host)])), "{host}");
        }
        assert!(!is_of_this_machine(&HeaderMap::new()));
        assert!(super::is_of_this_machine(&HeaderMap::new(), &Uri::from_static("http://localhost:1/")));
        assert!(!super::is_of_this_machine(&HeaderMap::new(), &Uri::from_static("http://evil.example/")));
    }
}
