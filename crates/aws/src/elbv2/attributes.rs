//! Attributes of load balancers, target groups and listeners: their defaults, and which values are served.

use std::collections::BTreeMap;

use state::elb::{LoadBalancer, TargetGroup};
use wire::Fault;
use wire::shapes::elbv2 as shape;

use super::{invalid, listeners, load_balancers, target_groups, text};
use crate::Call;

/// What an attribute may be set to.
enum Allowed {
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// A whole number in this range.
    Number(i64, i64),
    /// A number in this range, or 0 for off.
    NumberOrZero(i64, i64),
    /// Any text.
    Text,
    /// Its default alone: what it would switch on is not served.
    DefaultOnly,
}

use Allowed::{DefaultOnly, Number, NumberOrZero, OneOf, Text};

const BOOL: Allowed = OneOf(&["true", "false"]);

type Table = &'static [(&'static str, &'static str, Allowed)];

/// "Load balancer attributes", ELB user guide for Application Load Balancers.
const LOAD_BALANCER: Table = &[
    ("access_logs.s3.enabled", "false", DefaultOnly),
    ("access_logs.s3.bucket", "", DefaultOnly),
    ("access_logs.s3.prefix", "", DefaultOnly),
    ("idle_timeout.timeout_seconds", "60", Number(1, 4000)),
    ("deletion_protection.enabled", "false", BOOL),
    ("routing.http2.enabled", "true", DefaultOnly),
    ("routing.http.drop_invalid_header_fields.enabled", "false", BOOL),
    ("routing.http.xff_client_port.enabled", "false", BOOL),
    ("routing.http.preserve_host_header.enabled", "false", BOOL),
    ("routing.http.xff_header_processing.mode", "append", OneOf(&["append", "preserve", "remove"])),
    ("load_balancing.cross_zone.enabled", "true", DefaultOnly),
    ("routing.http.desync_mitigation_mode", "defensive", DefaultOnly),
    ("client_keep_alive.seconds", "3600", Number(60, 604_800)),
    ("waf.fail_open.enabled", "false", DefaultOnly),
    ("routing.http.x_amzn_tls_version_and_cipher_suite.enabled", "false", DefaultOnly),
    ("zonal_shift.config.enabled", "false", DefaultOnly),
    ("connection_logs.s3.enabled", "false", DefaultOnly),
    ("connection_logs.s3.bucket", "", DefaultOnly),
    ("connection_logs.s3.prefix", "", DefaultOnly),
];

/// "Target group attributes", ELB user guide for Application Load Balancers.
const TARGET_GROUP: Table = &[
    ("stickiness.enabled", "false", BOOL),
    ("deregistration_delay.timeout_seconds", "300", Number(0, 3600)),
    ("stickiness.type", "lb_cookie", OneOf(&["lb_cookie", "app_cookie"])),
    ("stickiness.lb_cookie.duration_seconds", "86400", Number(1, 604_800)),
    ("slow_start.duration_seconds", "0", NumberOrZero(30, 900)),
    ("load_balancing.algorithm.type", "round_robin", OneOf(&["round_robin", "least_outstanding_requests"])),
    ("load_balancing.algorithm.anomaly_mitigation", "off", DefaultOnly),
    ("load_balancing.cross_zone.enabled", "use_load_balancer_configuration", DefaultOnly),
    ("target_group_health.dns_failover.minimum_healthy_targets.count", "1", DefaultOnly),
    ("target_group_health.dns_failover.minimum_healthy_targets.percentage", "off", DefaultOnly),
    ("target_group_health.unhealthy_state_routing.minimum_healthy_targets.count", "1", DefaultOnly),
    ("target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage", "off", DefaultOnly),
    ("stickiness.app_cookie.cookie_name", "", Text),
    ("stickiness.app_cookie.duration_seconds", "86400", Number(1, 604_800)),
];

/// "Listener attributes": shown with their defaults; header modification is not served.
const LISTENER: Table = &[("routing.http.response.server.enabled", "true", DefaultOnly)];

/// Checks one attribute against its table.
fn check(table: Table, key: &str, value: &str) -> Result<(), Fault> {
    let bad = |message: String| Fault::new("InvalidConfigurationRequest", message);
    let Some((_, default, allowed)) = table.iter().find(|(name, ..)| *name == key) else {
        return Err(bad(format!("Attribute key '{key}' is not recognized")));
    };
    let range = |low: i64, high: i64| value.parse().is_ok_and(|number: i64| (low..=high).contains(&number));
    let good = match allowed {
        OneOf(texts) => texts.contains(&value),
        Number(low, high) => range(*low, *high),
        NumberOrZero(low, high) => value == "0" || range(*low, *high),
        Text => true,
        DefaultOnly => value == *default,
    };
    match allowed {
        _ if good => Ok(()),
        DefaultOnly => Err(bad(format!("Attribute '{key}' with the value '{value}' is not supported"))),
        _ => Err(bad(format!("'{value}' is not a valid value for attribute key '{key}'"))),
    }
}

/// All attributes of a table, with what was set.
fn all(table: Table, set: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let shown = |(key, default, _): &(&str, &str, Allowed)| {
        ((*key).to_owned(), set.get(*key).cloned().unwrap_or_else(|| (*default).to_owned()))
    };
    table.iter().map(shown).collect()
}

/// Applies changes to what was set; a value that is the default again is forgotten.
fn apply(
    table: Table,
    set: &mut BTreeMap<String, String>,
    changes: Vec<(Option<String>, Option<String>)>,
) -> Result<(), Fault> {
    for (key, value) in changes {
        let (key, value) = (key.unwrap_or_default(), value.unwrap_or_default());
        check(table, &key, &value)?;
        if table.iter().any(|(name, default, _)| *name == key && *default == value) {
            set.remove(&key);
        } else {
            set.insert(key, value);
        }
    }
    Ok(())
}

macro_rules! to_wire {
    ($shape:ident, $pairs:expr) => {
        Some(
            $pairs
                .into_iter()
                .map(|(key, value)| shape::$shape { key: Some(key), value: Some(value) })
                .collect(),
        )
    };
}

pub(super) fn modify_load_balancer(
    call: &mut Call<'_>,
    input: shape::ModifyLoadBalancerAttributesInput,
) -> Result<shape::ModifyLoadBalancerAttributesOutput, Fault> {
    let mut balancer = LoadBalancer::clone(&*load_balancers::find(call, text(&input.load_balancer_arn))?);
    let changes = input.attributes.unwrap_or_default().into_iter().map(|a| (a.key, a.value)).collect();
    apply(LOAD_BALANCER, &mut balancer.attributes, changes)?;
    let attributes = to_wire!(LoadBalancerAttribute, all(LOAD_BALANCER, &balancer.attributes));
    call.tx.put(balancer);
    Ok(shape::ModifyLoadBalancerAttributesOutput { attributes })
}

pub(super) fn describe_load_balancer(
    call: &mut Call<'_>,
    input: shape::DescribeLoadBalancerAttributesInput,
) -> Result<shape::DescribeLoadBalancerAttributesOutput, Fault> {
    let balancer = load_balancers::find(call, text(&input.load_balancer_arn))?;
    let attributes = to_wire!(LoadBalancerAttribute, all(LOAD_BALANCER, &balancer.attributes));
    Ok(shape::DescribeLoadBalancerAttributesOutput { attributes })
}

pub(super) fn modify_target_group(
    call: &mut Call<'_>,
    input: shape::ModifyTargetGroupAttributesInput,
) -> Result<shape::ModifyTargetGroupAttributesOutput, Fault> {
    let mut group = TargetGroup::clone(&*target_groups::find(call, text(&input.target_group_arn))?);
    let changes = input.attributes.unwrap_or_default().into_iter().map(|a| (a.key, a.value)).collect();
    apply(TARGET_GROUP, &mut group.attributes, changes)?;
    let app_cookie = group.attributes.get("stickiness.type").is_some_and(|kind| kind == "app_cookie");
    if app_cookie && !group.attributes.contains_key("stickiness.app_cookie.cookie_name") {
        return Err(invalid(
            "You must specify 'stickiness.app_cookie.cookie_name' for app_cookie stickiness",
        ));
    }
    let attributes = to_wire!(TargetGroupAttribute, all(TARGET_GROUP, &group.attributes));
    call.tx.put(group);
    Ok(shape::ModifyTargetGroupAttributesOutput { attributes })
}

pub(super) fn describe_target_group(
    call: &mut Call<'_>,
    input: shape::DescribeTargetGroupAttributesInput,
) -> Result<shape::DescribeTargetGroupAttributesOutput, Fault> {
    let group = target_groups::find(call, text(&input.target_group_arn))?;
    let attributes = to_wire!(TargetGroupAttribute, all(TARGET_GROUP, &group.attributes));
    Ok(shape::DescribeTargetGroupAttributesOutput { attributes })
}

pub(super) fn describe_listener(
    call: &mut Call<'_>,
    input: shape::DescribeListenerAttributesInput,
) -> Result<shape::DescribeListenerAttributesOutput, Fault> {
    let listener = listeners::find(call, text(&input.listener_arn))?;
    let attributes = to_wire!(ListenerAttribute, all(LISTENER, &listener.attributes));
    Ok(shape::DescribeListenerAttributesOutput { attributes })
}
