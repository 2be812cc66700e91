//! Targets: registration by hand, deregistration, health. Services register theirs through the same records.

use std::net::{IpAddr, Ipv4Addr};

use state::Record;
use state::ec2::Vpc;
use state::elb::{Target, TargetGroup, TargetHealth};
use state::node::Node;
use wire::Fault;
use wire::shapes::elbv2 as shape;

use super::load_balancers::of_target_group;
use super::target_groups::find as find_group;
use super::{invalid, limit, refuse, text};
use crate::Call;

pub(super) fn register(
    call: &mut Call<'_>,
    input: shape::RegisterTargetsInput,
) -> Result<shape::RegisterTargetsOutput, Fault> {
    let group = find_group(call, text(&input.target_group_arn))?;
    for given in input.targets.unwrap_or_default() {
        refuse(&given.quic_server_id, "QuicServerId")?;
        let port = port_of(&given, &group)?;
        let id = text(&given.id).to_owned();
        let address = address_of(call, &group, &id, given.availability_zone.as_deref())?;
        let key = Target::key_of(&group.arn, &id, port);
        let known = call.tx.get::<Target>(&key);
        if known.as_ref().is_some_and(|target| target.draining_since_ms.is_none()) {
            continue;
        }
        if call.tx.table::<Target>().by_index("group", &group.arn).count()
            >= limit("targets-per-target-group")
        {
            return Err(Fault::new("TooManyTargets", "The maximum number of targets has been reached"));
        }
        // A task's target is the task's, whoever registers it again: the task drains it before it is stopped.
        let owner = known.and_then(|target| target.owner.clone());
        let owner = owner.or_else(|| plan::registration::owner_of(call.tx.snapshot(), &group.arn, &id, port));
        call.tx.put(Target {
            target_group_arn: group.arn.clone(),
            id,
            port,
            address,
            availability_zone: given.availability_zone,
            owner,
            registered_at_ms: call.now_ms,
            draining_since_ms: None,
            drained: false,
            health: TargetHealth::registering(),
        });
    }
    Ok(shape::RegisterTargetsOutput {})
}

fn port_of(given: &shape::TargetDescription, group: &TargetGroup) -> Result<u16, Fault> {
    let Some(port) = given.port else { return Ok(group.port) };
    let port = u16::try_from(port).ok().filter(|port| *port > 0);
    port.ok_or_else(|| {
        invalid(format!("Target '{}' has a port that is not from 1 to 65535", text(&given.id)))
    })
}

/// Where a target's packets go. IP targets must be of the VPC, or private with `availabilityZone` = `all`.
fn address_of(call: &Call<'_>, group: &TargetGroup, id: &str, zone: Option<&str>) -> Result<IpAddr, Fault> {
    let bad = |message: String| Fault::new("InvalidTarget", message);
    if group.target_type == "instance" {
        let node = call.tx.table::<Node>().iter().find(|(_, node)| node.instance_id() == id);
        let node = node.ok_or_else(|| {
            bad(format!("The following targets are not in a running state and cannot be registered: '{id}'"))
        })?;
        return Ok(node.1.address);
    }
    let address: IpAddr =
        id.parse().map_err(|_| invalid(format!("Target id '{id}' is not a valid IP address")))?;
    let IpAddr::V4(v4) = address else {
        return Err(bad(format!("The IP address '{id}' is not a valid IPv4 address")));
    };
    let vpc = call.tx.get::<Vpc>(&call.scope().key(&group.vpc_id));
    let in_vpc = vpc.is_some_and(|vpc| vpc.cidr.contains(v4));
    if !in_vpc && zone != Some("all") {
        return Err(bad(format!(
            "You must specify an Availability Zone of 'all' for the IP address '{id}', which is outside of the VPC"
        )));
    }
    if !in_vpc && !v4.is_private() && !v4.is_loopback() && !is_shared(v4) {
        return Err(bad(format!("The IP address '{id}' is not within the allowed ranges")));
    }
    Ok(address)
}

/// The shared address space of RFC 6598, which the API allows beside private addresses.
fn is_shared(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    first == 100 && second & 0xc0 == 64
}

pub(super) fn deregister(
    call: &mut Call<'_>,
    input: shape::DeregisterTargetsInput,
) -> Result<shape::DeregisterTargetsOutput, Fault> {
    let group = find_group(call, text(&input.target_group_arn))?;
    for given in input.targets.unwrap_or_default() {
        for key in matching(call, &group, &given) {
            let now_ms = call.now_ms;
            call.tx.update::<Target>(&key, |target| {
                if target.draining_since_ms.is_none() {
                    target.draining_since_ms = Some(now_ms);
                }
            });
        }
    }
    Ok(shape::DeregisterTargetsOutput {})
}

/// The registered targets that a description names: with its port, or all ports of the id.
fn matching(call: &Call<'_>, group: &TargetGroup, given: &shape::TargetDescription) -> Vec<String> {
    let all = call.tx.table::<Target>().by_index("group", &group.arn);
    let same = all.filter(|target| {
        Some(&target.id) == given.id.as_ref() && given.port.is_none_or(|port| port == i64::from(target.port))
    });
    same.map(|target| target.key()).collect()
}

pub(super) fn health(
    call: &mut Call<'_>,
    input: shape::DescribeTargetHealthInput,
) -> Result<shape::DescribeTargetHealthOutput, Fault> {
    if let Some(other) = input.include.iter().flatten().next() {
        return Err(invalid(format!("Include '{other}' is not supported")));
    }
    let group = find_group(call, text(&input.target_group_arn))?;
    let used = !of_target_group(call, &group).is_empty();
    let Some(wanted) = input.targets.filter(|wanted| !wanted.is_empty()) else {
        let targets: Vec<_> = call.tx.table::<Target>().by_index("group", &group.arn).cloned().collect();
        let shown = targets.iter().map(|target| view(&group, target, used)).collect();
        return Ok(shape::DescribeTargetHealthOutput { target_health_descriptions: Some(shown) });
    };
    let mut shown = Vec::new();
    for given in wanted {
        let keys = matching(call, &group, &given);
        for key in &keys {
            let target = call.tx.get::<Target>(key).expect("just found");
            shown.push(view(&group, &target, used));
        }
        if keys.is_empty() {
            shown.push(not_registered(&group, given));
        }
    }
    Ok(shape::DescribeTargetHealthOutput { target_health_descriptions: Some(shown) })
}

fn not_registered(group: &TargetGroup, given: shape::TargetDescription) -> shape::TargetHealthDescription {
    let port = given.port.unwrap_or(i64::from(group.port));
    shape::TargetHealthDescription {
        health_check_port: None,
        target: Some(shape::TargetDescription { port: Some(port), ..given }),
        target_health: Some(shape::TargetHealth {
            state: Some("unused".into()),
            reason: Some("Target.NotRegistered".into()),
            description: Some("Target is not registered to the target group".into()),
        }),
        ..Default::default()
    }
}

/// What is told of a target ("Target health status", ELB user guide).
fn view(group: &TargetGroup, target: &Target, used: bool) -> shape::TargetHealthDescription {
    let (state, reason, description) = if target.draining_since_ms.is_some() {
        let reason = ("Target.DeregistrationInProgress", "Target deregistration is in progress");
        ("draining".into(), Some(reason.0.into()), Some(reason.1.into()))
    } else if !used {
        let reason =
            ("Target.NotInUse", "Target group is not configured to receive traffic from the load balancer");
        ("unused".into(), Some(reason.0.into()), Some(reason.1.into()))
    } else {
        (target.health.state.clone(), target.health.reason.clone(), target.health.description.clone())
    };
    let check_port = match group.health_check.port.as_str() {
        "traffic-port" => target.port.to_string(),
        port => port.to_owned(),
    };
    shape::TargetHealthDescription {
        target: Some(shape::TargetDescription {
            id: Some(target.id.clone()),
            port: Some(i64::from(target.port)),
            availability_zone: target.availability_zone.clone(),
            quic_server_id: None,
        }),
        health_check_port: Some(check_port),
        target_health: Some(shape::TargetHealth { state: Some(state), reason, description }),
        ..Default::default()
    }
}
