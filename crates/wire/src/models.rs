//! The services we know: what routing needs of each, and its model, parsed when first used.

use crate::{Model, shapes};
use std::sync::OnceLock;

/// One service.
#[derive(Debug)]
pub struct Service {
    /// Our module name, such as `elbv2`.
    pub name: &'static str,
    /// The name in SigV4 credential scopes, such as `elasticloadbalancing`.
    pub signing_name: &'static str,
    /// First part of its host name, such as `api.ecr`.
    pub endpoint_prefix: &'static str,
    /// Such as `2014-11-13`.
    pub api_version: &'static str,
    /// The prefix of `X-Amz-Target`; empty when it has none.
    pub target_prefix: &'static str,
    /// botocore's names of what it speaks.
    pub protocols: &'static [&'static str],
    pub(crate) text: &'static str,
    pub(crate) parsed: OnceLock<Model>,
}

impl Service {
    /// The service's model; parsed at the first call.
    pub fn model(&'static self) -> &'static Model {
        let parse =
            || Model::parse(self.name, self.text).expect("a committed model parses, as a test checks");
        self.parsed.get_or_init(parse)
    }

    /// Whether it speaks Query or EC2's dialect of it.
    pub fn has_actions(&self) -> bool {
        self.protocols.iter().any(|protocol| matches!(*protocol, "query" | "ec2"))
    }
}

/// Declares `SERVICES`.
macro_rules! declare_services {
    ($($name:literal $signing:literal $endpoint:literal $version:literal $target:literal [$($protocol:literal),*];)*) => {
        /// Every service that has a model.
        pub static SERVICES: [crate::models::Service; [$($name),*].len()] = [$(crate::models::Service {
            name: $name,
            signing_name: $signing,
            endpoint_prefix: $endpoint,
            api_version: $version,
            target_prefix: $target,
            protocols: &[$($protocol),*],
            text: include_str!(concat!("../../../../models/", $name, ".json")),
            parsed: std::sync::OnceLock::new(),
        }),*];
    };
}
pub(crate) use declare_services;

/// Every service that has a model.
pub fn services() -> &'static [Service] {
    &shapes::SERVICES
}

/// A service by our name for it.
pub fn service(name: &str) -> Option<&'static Service> {
    services().iter().find(|service| service.name == name)
}

/// The model of a service by our name for it.
pub fn model(name: &str) -> Option<&'static Model> {
    service(name).map(Service::model)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_model_parses() {
        for service in super::services() {
            let model = service.model();
            assert!(model.operations.values().any(Option::is_some), "{} serves nothing", service.name);
            assert_eq!(model.signing_name, service.signing_name);
        }
    }
}
