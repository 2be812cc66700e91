//! Host names of ECR registries: which account and region one stands for.

use state::Scope;

/// The account and region of a host `<account>.dkr.ecr.<region>.<anything>`.
pub(crate) fn ecr_host(host: &str) -> Option<Scope> {
    let host = host.split(':').next().unwrap_or(host);
    let mut labels = host.splitn(5, '.');
    let (account, dkr, ecr, region) = (labels.next()?, labels.next()?, labels.next()?, labels.next()?);
    let is_account = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
    let has_rest = labels.next().is_some_and(|rest| !rest.is_empty());
    (is_account && dkr == "dkr" && ecr == "ecr" && !region.is_empty() && has_rest)
        .then(|| Scope::new(account, region))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ecr_host_tells_account_and_region() {
        let scope = Some(Scope::new("123456789012", "eu-west-1"));
        for host in [
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com.cn",
            "123456789012.dkr.ecr.eu-west-1.localhost:4566",
        ] {
            assert_eq!(ecr_host(host), scope, "{host}");
        }
    }

    #[test]
    fn other_hosts_tell_nothing() {
        for host in [
            "",
            "localhost:4566",
            "docker.io",
            "12345678901.dkr.ecr.eu-west-1.amazonaws.com",
            "12345678901x.dkr.ecr.eu-west-1.amazonaws.com",
            "123456789012.dkr.s3.eu-west-1.amazonaws.com",
            "123456789012.dkr.ecr..amazonaws.com",
            "123456789012.dkr.ecr.eu-west-1",
            "123456789012.dkr.ecr.eu-west-1.",
        ] {
            assert_eq!(ecr_host(host), None, "{host}");
        }
    }
}
