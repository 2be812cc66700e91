//! Elastic Load Balancing v2 records: load balancers, target groups, listeners, rules, targets.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::record::Record;
use crate::{Scope, Tags, TimeMs};

/// An application load balancer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadBalancer {
    /// Account and region.
    pub scope: Scope,
    /// `arn:aws:elasticloadbalancing:…:loadbalancer/app/name/16 hex`.
    pub arn: String,
    /// Its name.
    pub name: String,
    /// `name-id.region.elb.localhost`.
    pub dns_name: String,
    /// `internet-facing` or `internal`.
    pub scheme: String,
    /// Its VPC.
    pub vpc_id: String,
    /// Subnets.
    pub subnets: Vec<String>,
    /// Its own address, from its first subnet.
    pub address: Ipv4Addr,
    /// Security groups.
    pub security_groups: Vec<String>,
    /// Attributes that differ from their default.
    pub attributes: BTreeMap<String, String>,
    /// Tags.
    pub tags: Tags,
    /// When it was created.
    pub created_at_ms: TimeMs,
    /// Whether the balancer listens for it (state `active` rather than `provisioning`). Writer: the balancer.
    pub active: bool,
}

impl Record for LoadBalancer {
    const TABLE: u8 = 14;
    fn key(&self) -> String {
        self.arn.clone()
    }
    /// `name`: scope and name. `ip`: `subnet-id|address`.
    fn indexes(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![("name", self.scope.key(&self.name))];
        all.extend(self.subnets.first().map(|subnet| ("ip", format!("{subnet}|{}", self.address))));
        all
    }
}

/// A target group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetGroup {
    /// Account and region.
    pub scope: Scope,
    /// `arn:aws:elasticloadbalancing:…:targetgroup/name/16 hex`.
    pub arn: String,
    /// Its name.
    pub name: String,
    /// `HTTP`.
    pub protocol: String,
    /// `HTTP1`.
    pub protocol_version: String,
    /// Default port of targets.
    pub port: u16,
    /// Its VPC.
    pub vpc_id: String,
    /// `ip` or `instance`.
    pub target_type: String,
    /// How targets are checked.
    pub health_check: HealthCheck,
    /// Attributes that differ from their default.
    pub attributes: BTreeMap<String, String>,
    /// Tags.
    pub tags: Tags,
}

impl TargetGroup {
    /// `deregistration_delay.timeout_seconds`, default 300.
    pub fn deregistration_delay_s(&self) -> u32 {
        let text = self.attributes.get("deregistration_delay.timeout_seconds");
        text.and_then(|t| t.parse().ok()).unwrap_or(300)
    }
}

impl Record for TargetGroup {
    const TABLE: u8 = 15;
    fn key(&self) -> String {
        self.arn.clone()
    }
    /// `name`: scope and name.
    fn indexes(&self) -> Vec<(&'static str, String)> {
        vec![("name", self.scope.key(&self.name))]
    }
}

/// How a target group's targets are checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// Checked at all (always, for `ip` and `instance`).
    pub enabled: bool,
    /// `HTTP`.
    pub protocol: String,
    /// `traffic-port` or a number.
    pub port: String,
    /// The path, `/`.
    pub path: String,
    /// Between checks.
    pub interval_s: u32,
    /// A check that takes longer has failed.
    pub timeout_s: u32,
    /// Successes in a row until healthy.
    pub healthy_threshold: u32,
    /// Failures in a row until unhealthy.
    pub unhealthy_threshold: u32,
    /// Codes that are a success: `200`, `200,202`, `200-299`.
    pub matcher: String,
}

/// A listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listener {
    /// `…:listener/app/name/lb id/16 hex`.
    pub arn: String,
    /// The load balancer's ARN.
    pub load_balancer_arn: String,
    /// The port.
    pub port: u16,
    /// `HTTP`.
    pub protocol: String,
    /// What is done where no rule matches.
    pub default_actions: Vec<Action>,
    /// Attributes that differ from their default.
    pub attributes: BTreeMap<String, String>,
    /// Tags.
    pub tags: Tags,
}

impl Record for Listener {
    const TABLE: u8 = 16;
    fn key(&self) -> String {
        self.arn.clone()
    }
    /// `lb`: the load balancer's ARN.
    fn indexes(&self) -> Vec<(&'static str, String)> {
        vec![("lb", self.load_balancer_arn.clone())]
    }
}

/// A rule of a listener.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// `…:listener-rule/app/name/lb id/listener id/16 hex`.
    pub arn: String,
    /// The listener's ARN.
    pub listener_arn: String,
    /// Lower is looked at first.
    pub priority: u32,
    /// All must match.
    pub conditions: Vec<RuleCondition>,
    /// What is done.
    pub actions: Vec<Action>,
    /// Tags.
    pub tags: Tags,
}

impl Record for Rule {
    const TABLE: u8 = 17;
    fn key(&self) -> String {
        self.arn.clone()
    }
    /// `listener`: the listener's ARN.
    fn indexes(&self) -> Vec<(&'static str, String)> {
        vec![("listener", self.listener_arn.clone())]
    }
}

/// A condition of a rule: any of its values matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuleCondition {
    /// `path-pattern`.
    Path(Vec<String>),
    /// `host-header`.
    Host(Vec<String>),
    /// `http-header`: name, values.
    Header(String, Vec<String>),
    /// `http-request-method`.
    Method(Vec<String>),
    /// `query-string`: key (if given), value.
    Query(Vec<(Option<String>, String)>),
    /// `source-ip`: networks.
    SourceIp(Vec<String>),
}

/// An action of a listener or rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// To target groups by weight.
    Forward {
        /// Target group ARN, weight.
        groups: Vec<(String, u32)>,
        /// Target group stickiness, seconds.
        stickiness_s: Option<u32>,
    },
    /// To another URL. Parts may hold `#{host}`, `#{port}`, `#{path}`, `#{query}`, `#{protocol}`.
    Redirect {
        /// `HTTP_301` or `HTTP_302`.
        status: String,
        /// `#{protocol}`
        protocol: String,
        /// `#{host}`
        host: String,
        /// `#{port}`
        port: String,
        /// `/#{path}`
        path: String,
        /// `#{query}`
        query: String,
    },
    /// An answer of its own.
    FixedResponse {
        /// `200`
        status: u16,
        /// `text/plain`
        content_type: Option<String>,
        /// The body.
        body: Option<String>,
    },
}

/// A registered target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// The target group's ARN.
    pub target_group_arn: String,
    /// An address, or an instance's id.
    pub id: String,
    /// The port.
    pub port: u16,
    /// The address that packets go to.
    pub address: std::net::IpAddr,
    /// The zone given.
    pub availability_zone: Option<String>,
    /// The key of the group that it is of: that of a service's task, whoever registered it.
    pub owner: Option<String>,
    /// When it was registered.
    pub registered_at_ms: TimeMs,
    /// Since when it is being deregistered. Writer: handlers and the targets controller.
    pub draining_since_ms: Option<TimeMs>,
    /// Nothing is in flight to it any more: it can be removed. Writer: the balancer.
    pub drained: bool,
    /// What its health checks say. Writer: the balancer.
    pub health: TargetHealth,
}

/// What a target's health checks say ("Target health status", ELB user guide).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetHealth {
    /// `initial`, `healthy`, `unhealthy`, `unused`, `draining`, `unavailable`.
    pub state: String,
    /// `Elb.InitialHealthChecking`, `Target.ResponseCodeMismatch`, …
    pub reason: Option<String>,
    /// For people.
    pub description: Option<String>,
}

impl TargetHealth {
    /// Of a target that was just registered.
    pub fn registering() -> TargetHealth {
        TargetHealth {
            state: "initial".into(),
            reason: Some("Elb.RegistrationInProgress".into()),
            description: Some("Target registration is in progress".into()),
        }
    }
}

impl Target {
    /// The record key: `target group ARN|id:port`.
    pub fn key_of(target_group_arn: &str, id: &str, port: u16) -> String {
        format!("{target_group_arn}|{id}:{port}")
    }
}

impl Record for Target {
    const TABLE: u8 = 18;
    fn key(&self) -> String {
        Self::key_of(&self.target_group_arn, &self.id, self.port)
    }
    /// `group`: the target group's ARN. `owner`: the owning group's key.
    fn indexes(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![("group", self.target_group_arn.clone())];
        all.extend(self.owner.iter().map(|owner| ("owner", owner.clone())));
        all
    }
}
