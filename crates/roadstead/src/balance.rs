//! The load balancer's records as the balancer's configuration, and what the balancer sees as records.

use std::collections::BTreeMap;

use balancer::TargetStatus;
use balancer::config::{
    Action, Algorithm, BalancerConfig, Cidr, Condition, FixedResponse, Forward, HealthCheck, Listener,
    LoadBalancer, LoadBalancerAttributes, Matcher, QueryStringPair, Redirect, Rule, Stickiness, Target,
    TargetGroup, WeightedGroup, XffMode,
};
use balancer::decide::health::HealthState;
use state::elb::{self, RuleCondition};
use state::{Record, Snapshot, Tx};

/// The whole configuration that a snapshot asks for.
pub fn config(snapshot: &Snapshot) -> BalancerConfig {
    BalancerConfig {
        load_balancers: snapshot.load_balancers.iter().map(|(_, lb)| load_balancer(snapshot, lb)).collect(),
        target_groups: snapshot
            .target_groups
            .iter()
            .map(|(_, group)| target_group(snapshot, group))
            .collect(),
    }
}

/// Whether two snapshots ask for the same for sure, told without making the configuration.
pub fn same(one: &Snapshot, other: &Snapshot) -> bool {
    one.load_balancers.same(&other.load_balancers)
        && one.listeners.same(&other.listeners)
        && one.rules.same(&other.rules)
        && one.target_groups.same(&other.target_groups)
        && one.targets.same(&other.targets)
}

fn load_balancer(snapshot: &Snapshot, lb: &elb::LoadBalancer) -> LoadBalancer {
    let listeners = snapshot.listeners.by_index("lb", &lb.arn);
    LoadBalancer {
        arn: lb.arn.clone(),
        dns_name: lb.dns_name.clone(),
        address: lb.address.into(),
        attributes: attributes(&lb.attributes),
        listeners: listeners.map(|listener| self::listener(snapshot, listener)).collect(),
    }
}

fn number<T: std::str::FromStr>(set: &BTreeMap<String, String>, key: &str, default: T) -> T {
    set.get(key).and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn is_true(set: &BTreeMap<String, String>, key: &str) -> bool {
    set.get(key).is_some_and(|text| text == "true")
}

fn attributes(set: &BTreeMap<String, String>) -> LoadBalancerAttributes {
    LoadBalancerAttributes {
        idle_timeout_ms: number(set, "idle_timeout.timeout_seconds", 60) * 1000,
        client_keep_alive_ms: number(set, "client_keep_alive.seconds", 3600) * 1000,
        preserve_host_header: is_true(set, "routing.http.preserve_host_header.enabled"),
        xff_header_processing: match set.get("routing.http.xff_header_processing.mode").map(String::as_str) {
            Some("preserve") => XffMode::Preserve,
            Some("remove") => XffMode::Remove,
            _ => XffMode::Append,
        },
        xff_client_port: is_true(set, "routing.http.xff_client_port.enabled"),
        drop_invalid_header_fields: is_true(set, "routing.http.drop_invalid_header_fields.enabled"),
    }
}

fn listener(snapshot: &Snapshot, listener: &elb::Listener) -> Listener {
    let mut rules: Vec<_> = snapshot.rules.by_index("listener", &listener.arn).collect();
    rules.sort_by_key(|rule| rule.priority);
    let rule = |rule: &&std::sync::Arc<elb::Rule>| Rule {
        arn: rule.arn.clone(),
        conditions: rule.conditions.iter().map(condition).collect(),
        action: action(&rule.actions),
    };
    Listener {
        arn: listener.arn.clone(),
        port: listener.port,
        rules: rules.iter().map(rule).collect(),
        default_action: action(&listener.default_actions),
    }
}

fn condition(condition: &RuleCondition) -> Condition {
    match condition {
        RuleCondition::Path(values) => Condition::PathPattern(values.clone()),
        RuleCondition::Host(values) => Condition::HostHeader(values.clone()),
        RuleCondition::Header(name, values) => {
            Condition::HttpHeader { name: name.clone(), values: values.clone() }
        }
        RuleCondition::Method(values) => Condition::HttpRequestMethod(values.clone()),
        RuleCondition::Query(pairs) => {
            let pair = |(key, value): &(Option<String>, String)| QueryStringPair {
                key: key.clone(),
                value: value.clone(),
            };
            Condition::QueryString(pairs.iter().map(pair).collect())
        }
        // The API made sure that each is a network.
        RuleCondition::SourceIp(values) => {
            Condition::SourceIp(values.iter().filter_map(|value| Cidr::parse(value).ok()).collect())
        }
    }
}

fn action(actions: &[elb::Action]) -> Action {
    match actions.last() {
        Some(elb::Action::Forward { groups, stickiness_s }) => {
            let group =
                |(arn, weight): &(String, u32)| WeightedGroup { target_group: arn.clone(), weight: *weight };
            let target_groups = groups.iter().map(group).collect();
            Action::Forward(Forward { target_groups, stickiness_duration_s: *stickiness_s })
        }
        Some(elb::Action::Redirect { status, protocol, host, port, path, query }) => {
            Action::Redirect(Redirect {
                protocol: protocol.clone(),
                host: host.clone(),
                port: port.clone(),
                path: path.clone(),
                query: query.clone(),
                permanent: status == "HTTP_301",
            })
        }
        Some(elb::Action::FixedResponse { status, content_type, body }) => {
            Action::FixedResponse(FixedResponse {
                status_code: *status,
                content_type: content_type.clone(),
                message_body: body.clone(),
            })
        }
        // The API takes no rule without an action.
        None => {
            Action::FixedResponse(FixedResponse { status_code: 503, content_type: None, message_body: None })
        }
    }
}

fn target_group(snapshot: &Snapshot, group: &elb::TargetGroup) -> TargetGroup {
    let check = &group.health_check;
    let targets = snapshot.targets.by_index("group", &group.arn);
    let target = |target: &std::sync::Arc<elb::Target>| Target {
        id: target.id.clone(),
        address: target.address,
        port: target.port,
        draining: target.draining_since_ms.is_some(),
    };
    TargetGroup {
        arn: group.arn.clone(),
        algorithm: match group.attributes.get("load_balancing.algorithm.type").map(String::as_str) {
            Some("least_outstanding_requests") => Algorithm::LeastOutstandingRequests,
            _ => Algorithm::RoundRobin,
        },
        stickiness: stickiness(&group.attributes),
        slow_start_ms: number(&group.attributes, "slow_start.duration_seconds", 0) * 1000,
        health_check: HealthCheck {
            port: check.port.parse().ok(),
            path: check.path.clone(),
            interval_ms: u64::from(check.interval_s) * 1000,
            timeout_ms: u64::from(check.timeout_s) * 1000,
            healthy_threshold: check.healthy_threshold,
            unhealthy_threshold: check.unhealthy_threshold,
            matcher: Matcher::parse(&check.matcher).unwrap_or_else(|_| HealthCheck::default().matcher),
        },
        targets: targets.map(target).collect(),
    }
}

fn stickiness(set: &BTreeMap<String, String>) -> Option<Stickiness> {
    if !is_true(set, "stickiness.enabled") {
        return None;
    }
    Some(match set.get("stickiness.type").map(String::as_str) {
        Some("app_cookie") => Stickiness::AppCookie {
            cookie_name: set.get("stickiness.app_cookie.cookie_name").cloned().unwrap_or_default(),
            duration_s: number(set, "stickiness.app_cookie.duration_seconds", 86_400),
        },
        _ => {
            Stickiness::LbCookie { duration_s: number(set, "stickiness.lb_cookie.duration_seconds", 86_400) }
        }
    })
}

/// Writes down what the balancer sees: health, drained targets, load balancers that listen.
pub fn observe(tx: &mut Tx, seen: &[TargetStatus], failed_listeners: &[String]) {
    for status in seen {
        let key = elb::Target::key_of(&status.target_group, &status.id, status.port);
        tx.update::<elb::Target>(&key, |target| {
            let draining = target.draining_since_ms.is_some();
            // A target that drains shows that, whatever its last check said.
            if !draining {
                target.health = elb::TargetHealth {
                    state: status.health.state.as_str().to_owned(),
                    reason: status.health.reason.map(str::to_owned),
                    description: status.health.description.clone(),
                };
            }
            // Counted only once the balancer itself knows that the target drains: until then it may still send to it.
            let known = status.health.state == HealthState::Draining;
            target.drained |= draining && known && status.in_flight == 0;
        });
    }
    let balancers: Vec<String> = tx.table::<elb::LoadBalancer>().iter().map(|(_, lb)| lb.key()).collect();
    for key in balancers {
        let listeners = tx.table::<elb::Listener>().by_index("lb", &key);
        let failed = listeners.into_iter().any(|listener| failed_listeners.contains(&listener.arn));
        tx.update::<elb::LoadBalancer>(&key, |lb| lb.active = !failed);
    }
}
