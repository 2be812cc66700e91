//! Which load balancer a request on a shared address is for: by its `Host`.

use super::pattern::{self, Dialect};
use crate::config::{Condition, Rule};

/// A load balancer's listener on the shared address.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// The load balancer's DNS name.
    pub dns_name: &'a str,
    /// The listener's rules.
    pub rules: &'a [Rule],
}

/// The site for a host (without port): the only one; or the one of that DNS name; or the first one with a rule for
/// that host (a user's own name that points here); or none.
pub fn choose<'a>(sites: impl ExactSizeIterator<Item = Site<'a>> + Clone, host: &str) -> Option<usize> {
    if sites.len() == 1 {
        return Some(0);
    }
    let names_host = |rule: &Rule| {
        rule.conditions.iter().any(|condition| match condition {
            Condition::HostHeader(values) => {
                values.iter().any(|value| pattern::matches(value, host, Dialect::HEADER))
            }
            _ => false,
        })
    };
    let mut by_name = sites.clone();
    let mut by_rule = sites;
    by_name
        .position(|site| site.dns_name.eq_ignore_ascii_case(host))
        .or_else(|| by_rule.position(|site| site.rules.iter().any(names_host)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Action, FixedResponse};

    #[test]
    fn by_name_then_by_rule() {
        let rules = [Rule {
            arn: String::new(),
            conditions: vec![Condition::HostHeader(vec!["*.shop.example".into()])],
            action: Action::FixedResponse(FixedResponse {
                status_code: 200,
                content_type: None,
                message_body: None,
            }),
        }];
        let one = [Site { dns_name: "a.localhost", rules: &[] }];
        assert_eq!(choose(one.iter().copied(), "anything"), Some(0));
        let two = [one[0], Site { dns_name: "b.localhost", rules: &rules }];
        assert_eq!(choose(two.iter().copied(), "A.localhost"), Some(0));
        assert_eq!(choose(two.iter().copied(), "b.localhost"), Some(1));
        assert_eq!(choose(two.iter().copied(), "www.shop.example"), Some(1));
        assert_eq!(choose(two.iter().copied(), "other"), None);
        assert_eq!(choose([].into_iter(), "a"), None);
    }
}
