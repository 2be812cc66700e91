//! Cloud Map (servicediscovery) records: namespaces, services, instances, operations.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::record::Record;
use crate::{Scope, Tags, TimeMs};

/// A namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Namespace {
    /// Account and region.
    pub scope: Scope,
    /// `ns-` and 16 characters.
    pub id: String,
    /// A domain name for a DNS namespace.
    pub name: String,
    /// What DiscoverInstances calls it: its name, made unique if another namespace has that; `None` = its name.
    #[serde(default)]
    pub http_name: Option<String>,
    /// `DNS_PRIVATE` or `HTTP`.
    pub kind: String,
    /// The VPC whose tasks see it (`DNS_PRIVATE`).
    pub vpc_id: Option<String>,
    /// TTL of its SOA record, seconds.
    pub soa_ttl_s: u32,
    /// The hosted zone id shown.
    pub hosted_zone_id: Option<String>,
    /// Its description.
    pub description: Option<String>,
    /// The caller's idempotency token.
    pub creator_request_id: Option<String>,
    /// Tags.
    pub tags: Tags,
    /// When it was created.
    pub created_at_ms: TimeMs,
}

impl Namespace {
    /// What DiscoverInstances calls it.
    pub fn http_name(&self) -> &str {
        self.http_name.as_deref().unwrap_or(&self.name)
    }
}

impl Record for Namespace {
    const TABLE: u8 = 19;
    fn key(&self) -> String {
        self.scope.key(&self.id)
    }
}

/// A service of a namespace: a name that instances are registered under.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiscoveryService {
    /// Account and region.
    pub scope: Scope,
    /// `srv-` and 16 characters.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The namespace's id.
    pub namespace_id: String,
    /// `MULTIVALUE` or `WEIGHTED`; `None` for HTTP only.
    pub routing_policy: Option<String>,
    /// DNS records made of an instance: type (`A`, `AAAA`, `SRV`, `CNAME`), TTL seconds.
    pub dns_records: Vec<(String, u32)>,
    /// Instances carry a health status set from outside (ECS sets it).
    pub custom_health: bool,
    /// Its description.
    pub description: Option<String>,
    /// The caller's idempotency token.
    pub creator_request_id: Option<String>,
    /// Raised by every change of instances (DiscoverInstancesRevision).
    pub instances_revision: u64,
    /// Tags.
    pub tags: Tags,
    /// When it was created.
    pub created_at_ms: TimeMs,
}

impl DiscoveryService {
    /// `arn:aws:servicediscovery:…:service/srv-…`.
    pub fn arn(&self) -> String {
        self.scope.arn("servicediscovery", &format!("service/{}", self.id))
    }
}

impl Record for DiscoveryService {
    const TABLE: u8 = 20;
    fn key(&self) -> String {
        self.scope.key(&self.id)
    }
    /// `namespace`: the namespace's id.
    fn indexes(&self) -> Vec<(&'static str, String)> {
        vec![("namespace", self.namespace_id.clone())]
    }
}

/// An instance of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// Account and region.
    pub scope: Scope,
    /// The service's id.
    pub service_id: String,
    /// Its id: a task's id where ECS registered it.
    pub id: String,
    /// `AWS_INSTANCE_IPV4`, `AWS_INSTANCE_PORT` and the caller's own.
    pub attributes: BTreeMap<String, String>,
    /// Whether it is given out.
    pub healthy: bool,
    /// The key of the group that it is of, if ECS registered it.
    pub owner: Option<String>,
    /// When it was registered.
    pub registered_at_ms: TimeMs,
}

impl Record for Instance {
    const TABLE: u8 = 21;
    fn key(&self) -> String {
        self.scope.key(&format!("{}/{}", self.service_id, self.id))
    }
    /// `owner`: the owning group's key. `service`: the service's id.
    fn indexes(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![("service", self.service_id.clone())];
        all.extend(self.owner.iter().map(|owner| ("owner", owner.clone())));
        all
    }
}

/// What a namespace or instance call started: done at once, kept to be asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Account and region.
    pub scope: Scope,
    /// The operation's id.
    pub id: String,
    /// `CREATE_NAMESPACE`, `DELETE_NAMESPACE`, `UPDATE_SERVICE`, `REGISTER_INSTANCE`, `DEREGISTER_INSTANCE`.
    pub kind: String,
    /// What it was about: (`NAMESPACE`, id), (`SERVICE`, id), (`INSTANCE`, id).
    pub targets: Vec<(String, String)>,
    /// When.
    pub at_ms: TimeMs,
}

impl Record for Operation {
    const TABLE: u8 = 22;
    fn key(&self) -> String {
        self.scope.key(&self.id)
    }
}
