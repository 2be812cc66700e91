//! Which listener rule a request meets (ELB document "Listener rules for your Application Load Balancer").

use std::net::IpAddr;

use super::fields::{self, Field};
use super::pattern::{self, Dialect};
use crate::config::{Condition, QueryStringPair, Rule};

/// What rules look at in a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// Method, as sent.
    pub method: &'a str,
    /// Host without port; empty when the client sent none.
    pub host: &'a str,
    /// Path without query, as sent.
    pub path: &'a str,
    /// Query without `?`.
    pub query: Option<&'a str>,
    /// Headers as the client sent them.
    pub fields: &'a [Field<'a>],
    /// The connection's other end.
    pub source: IpAddr,
}

/// The first rule whose conditions all hold; `None`: the default rule.
pub fn choose(rules: &[Rule], facts: &RequestFacts<'_>) -> Option<usize> {
    rules.iter().position(|rule| rule.conditions.iter().all(|condition| holds(condition, facts)))
}

/// Whether one condition holds.
pub fn holds(condition: &Condition, facts: &RequestFacts<'_>) -> bool {
    match condition {
        Condition::PathPattern(values) => any(values, facts.path, Dialect::PATH),
        Condition::HostHeader(values) => any(values, facts.host, Dialect::HEADER),
        Condition::HttpHeader { name, values } => {
            fields::values(facts.fields, name).any(|value| any(values, value, Dialect::HEADER))
        }
        Condition::HttpRequestMethod(values) => values.iter().any(|value| value == facts.method),
        Condition::QueryString(pairs) => {
            let query = facts.query.unwrap_or("");
            query
                .split('&')
                .filter(|part| !part.is_empty())
                .any(|part| pairs.iter().any(|pair| pair_holds(pair, part)))
        }
        Condition::SourceIp(blocks) => blocks.iter().any(|block| block.contains(facts.source)),
    }
}

fn any(patterns: &[String], text: &str, dialect: Dialect) -> bool {
    patterns.iter().any(|pattern| pattern::matches(pattern, text, dialect))
}

/// `part` is `key=value`, or a lone word, which is a value without a key and a key without a value.
fn pair_holds(pair: &QueryStringPair, part: &str) -> bool {
    let matches = |pattern: &str, text| pattern::matches(pattern, text, Dialect::QUERY);
    match (&pair.key, part.split_once('=')) {
        (Some(key_pattern), Some((key, value))) => matches(key_pattern, key) && matches(&pair.value, value),
        (Some(key_pattern), None) => matches(key_pattern, part) && matches(&pair.value, ""),
        (None, Some((_, value))) => matches(&pair.value, value),
        (None, None) => matches(&pair.value, part),
    }
}

/// The host of a `Host` header or authority without its port.
pub fn host_without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Action, Cidr, FixedResponse};

    fn check(condition: Condition, request: &'static str, expected: bool) {
        // "METHOD host path?query [name=value …]"
        let mut words = request.split(' ');
        let (method, host, target) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        let field = |(name, value): (&'static str, &'static str)| Field { name, value: value.as_bytes() };
        let fields: Vec<_> = words.filter_map(|word| word.split_once(':')).map(field).collect();
        let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
        let source = "192.0.2.7".parse().unwrap();
        let facts = RequestFacts { method, host, path, query, fields: &fields, source };
        assert_eq!(holds(&condition, &facts), expected, "{condition:?} over {request}");
    }

    fn strings(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| value.to_string()).collect()
    }

    #[test]
    fn each_condition_type() {
        let path = || Condition::PathPattern(strings(&["/cart/*", "/cart"]));
        check(path(), "GET h /cart/1?x=/other", true);
        check(path(), "GET h /cart", true);
        check(path(), "GET h /Cart/1", false);
        check(path(), "GET h /x?/cart/1", false);
        let host = || Condition::HostHeader(strings(&["*.example.com"]));
        check(host(), "GET A.Example.COM /", true);
        check(host(), "GET example.com /", false);
        let header = || Condition::HttpHeader { name: "User-Agent".into(), values: strings(&["*chrome*"]) };
        check(header(), "GET h / user-agent:Safari user-agent:xChromE/1", true);
        check(header(), "GET h / user-agent:Safari", false);
        check(header(), "GET h /", false);
        let method = || Condition::HttpRequestMethod(strings(&["PUT", "CUSTOM"]));
        check(method(), "PUT h /", true);
        check(method(), "put h /", false);
        let source = |block| Condition::SourceIp(vec![Cidr::parse(block).unwrap()]);
        check(source("192.0.2.0/24"), "GET h / x-forwarded-for:10.0.0.1", true);
        check(source("10.0.0.0/8"), "GET h / x-forwarded-for:10.0.0.1", false);
    }

    #[test]
    fn query_strings() {
        let pair = |key: Option<&str>, value: &str| {
            Condition::QueryString(vec![QueryStringPair { key: key.map(Into::into), value: value.into() }])
        };
        check(pair(Some("version"), "v1"), "GET h /?a=b&VERSION=V1", true);
        check(pair(Some("version"), "v1"), "GET h /?version=v2", false);
        check(pair(Some("version"), "v?"), "GET h /?version=v2", true);
        check(pair(None, "*example*"), "GET h /?any=an-example-1", true);
        check(pair(None, "word"), "GET h /?word", true);
        check(pair(Some("word"), ""), "GET h /?word", true);
        check(pair(Some("a"), r"\*"), "GET h /?a=*", true);
        check(pair(Some("a"), r"\*"), "GET h /?a=b", false);
        check(pair(None, "*"), "GET h /", false);
    }

    #[test]
    fn first_rule_with_all_conditions_wins() {
        let rule = |conditions| Rule {
            arn: String::new(),
            conditions,
            action: Action::FixedResponse(FixedResponse {
                status_code: 200,
                content_type: None,
                message_body: None,
            }),
        };
        let rules = [
            rule(vec![Condition::PathPattern(strings(&["/a*"])), Condition::HostHeader(strings(&["x.y"]))]),
            rule(vec![Condition::PathPattern(strings(&["/a*"]))]),
            rule(vec![
                Condition::PathPattern(strings(&["*"])),
                Condition::HttpRequestMethod(strings(&["POST"])),
            ]),
        ];
        let at = |method, host, path| {
            let source = "192.0.2.7".parse().unwrap();
            choose(&rules, &RequestFacts { method, host, path, query: None, fields: &[], source })
        };
        assert_eq!(at("GET", "x.y", "/abc"), Some(0));
        assert_eq!(at("POST", "z", "/abc"), Some(1));
        assert_eq!(at("POST", "z", "/b"), Some(2));
        assert_eq!(at("GET", "z", "/b"), None);
    }

    #[test]
    fn hosts() {
        for (given, expected) in
            [("a.b:80", "a.b"), ("a.b", "a.b"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("", "")]
        {
            assert_eq!(host_without_port(given), expected);
        }
    }
}
