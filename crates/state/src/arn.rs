//! Amazon Resource Names, as "Amazon Resource Names (ARNs)" in the IAM reference defines them.

use serde::{Deserialize, Serialize};

/// The account and region that a resource or a call belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Scope {
    /// Twelve digits.
    pub account: String,
    /// A region's name, such as `us-east-1`.
    pub region: String,
}

impl Scope {
    /// A scope.
    pub fn new(account: impl Into<String>, region: impl Into<String>) -> Scope {
        Scope { account: account.into(), region: region.into() }
    }

    /// The prefix of record keys in this scope: `account/region/`.
    pub fn prefix(&self) -> String {
        format!("{}/{}/", self.account, self.region)
    }

    /// A record key in this scope: `account/region/rest`.
    pub fn key(&self, rest: &str) -> String {
        format!("{}/{}/{rest}", self.account, self.region)
    }

    /// `arn:aws:service:region:account:resource`.
    pub fn arn(&self, service: &str, resource: &str) -> String {
        format!("arn:aws:{service}:{}:{}:{resource}", self.region, self.account)
    }

    /// `arn:aws:iam::account:resource`.
    pub fn iam_arn(&self, resource: &str) -> String {
        format!("arn:aws:iam::{}:{resource}", self.account)
    }
}

/// A parsed ARN, borrowing its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arn<'a> {
    /// `ecs`, `elasticloadbalancing`, …
    pub service: &'a str,
    /// Empty for global services.
    pub region: &'a str,
    /// Twelve digits, or `aws`.
    pub account: &'a str,
    /// Everything after the fifth colon.
    pub resource: &'a str,
}

impl<'a> Arn<'a> {
    /// Parses an ARN; `None` if the text is not one.
    pub fn parse(text: &'a str) -> Option<Arn<'a>> {
        let mut parts = text.splitn(6, ':');
        let (arn, partition) = (parts.next()?, parts.next()?);
        let (service, region, account, resource) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        (arn == "arn" && partition.starts_with("aws") && !service.is_empty() && !resource.is_empty())
            .then_some(Arn { service, region, account, resource })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_it_writes_and_refuses_the_rest() {
        let scope = Scope::new("000000000000", "us-east-1");
        let text = scope.arn("ecs", "task/default/abc");
        let arn = Arn::parse(&text).unwrap();
        assert_eq!((arn.service, arn.resource), ("ecs", "task/default/abc"));
        for bad in ["", "default", "arn:aws:ecs", "arn:gcp:ecs:r:a:x", "arn:aws:ecs:r:a:"] {
            assert_eq!(Arn::parse(bad), None, "{bad}");
        }
    }
}
