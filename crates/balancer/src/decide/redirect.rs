//! The `Location` of a redirect action (ELB document "Redirect actions").

use crate::config::Redirect;

/// The parts of a request that a redirect may reuse.
#[derive(Clone, Copy, Debug)]
pub struct Original<'a> {
    /// `http` (lower case).
    pub protocol: &'a str,
    /// Host without port.
    pub host: &'a str,
    /// The listener's port.
    pub port: u16,
    /// Path, with its leading slash.
    pub path: &'a str,
    /// Query without `?`.
    pub query: &'a str,
}

/// The absolute URL to redirect to. The port is always written, as an Application Load Balancer does.
pub fn location(redirect: &Redirect, original: &Original<'_>) -> String {
    let protocol = fill(&redirect.protocol, original).to_ascii_lowercase();
    let host = fill(&redirect.host, original);
    let port = fill(&redirect.port, original);
    let path = fill(&redirect.path, original);
    let query = fill(&redirect.query, original);
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{protocol}://{host}:{port}{slash}{path}{mark}{query}")
}

/// Replaces the keywords `#{…}` in one pass, so that what a client sent is never read as a keyword.
fn fill(template: &str, original: &Original<'_>) -> String {
    let mut out = String::with_capacity(template.len() + original.path.len());
    let mut rest = template;
    while let Some(start) = rest.find("#{") {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let Some(end) = rest.find('}') else { break };
        match &rest[2..end] {
            "protocol" => out.push_str(original.protocol),
            "host" => out.push_str(original.host),
            "port" => out.push_str(&original.port.to_string()),
            "path" => out.push_str(original.path.strip_prefix('/').unwrap_or(original.path)),
            "query" => out.push_str(original.query),
            _ => out.push_str(&rest[..=end]),
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(redirect: Redirect, path: &str, query: &str, expected: &str) {
        let original = Original { protocol: "http", host: "shop.example", port: 8080, path, query };
        assert_eq!(location(&redirect, &original), expected);
    }

    #[test]
    fn locations() {
        check(Redirect::default(), "/a/b", "x=1", "http://shop.example:8080/a/b?x=1");
        let https = Redirect { protocol: "HTTPS".into(), port: "443".into(), ..Redirect::default() };
        check(https, "/a", "", "https://shop.example:443/a");
        let moved = Redirect {
            host: "new.#{host}".into(),
            path: "/v2/#{path}/end".into(),
            query: "#{query}&from=#{port}".into(),
            ..Redirect::default()
        };
        check(moved, "/a", "q=2", "http://new.shop.example:8080/v2/a/end?q=2&from=8080");
        // A client cannot make a keyword, and an unknown one stays.
        check(Redirect::default(), "/#{host}", "", "http://shop.example:8080/#{host}");
        let odd = Redirect { path: "/#{nothing}/#{pa".into(), ..Redirect::default() };
        check(odd, "/", "", "http://shop.example:8080/#{nothing}/#{pa");
    }
}
