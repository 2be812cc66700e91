//! Target groups.

use std::sync::Arc;

use state::ec2::Vpc;
use state::elb::{HealthCheck, Target, TargetGroup};
use wire::Fault;
use wire::shapes::elbv2 as shape;

use super::load_balancers::{find as find_load_balancer, of_target_group};
use super::{check_name, invalid, limit, page, page_by, refuse, tags, text};
use crate::Call;

/// The target group of an ARN, if it is of the caller's account and region.
pub(super) fn find(call: &Call<'_>, arn: &str) -> Result<Arc<TargetGroup>, Fault> {
    let found = call.tx.get::<TargetGroup>(arn).filter(|group| group.scope == *call.scope());
    found.ok_or_else(|| Fault::new("TargetGroupNotFound", format!("Target groups '{arn}' not found")))
}

fn by_name(call: &Call<'_>, name: &str) -> Option<Arc<TargetGroup>> {
    call.tx.table::<TargetGroup>().by_index("name", &call.scope().key(name)).next().cloned()
}

pub(super) fn create(
    call: &mut Call<'_>,
    input: shape::CreateTargetGroupInput,
) -> Result<shape::CreateTargetGroupOutput, Fault> {
    refuse(&input.target_control_port, "TargetControlPort")?;
    let name = text(&input.name).to_owned();
    check_name("Target group", &name)?;
    let target_type = input.target_type.clone().unwrap_or_else(|| "instance".into());
    if !["ip", "instance"].contains(&target_type.as_str()) {
        return Err(invalid(format!("Target type '{target_type}' is not supported: use 'ip' or 'instance'")));
    }
    match input.protocol.as_deref() {
        Some("HTTP") => {}
        None => return Err(invalid("A protocol must be specified")),
        Some(other) => {
            return Err(invalid(format!("Target group protocol '{other}' is not supported: use 'HTTP'")));
        }
    }
    // Terraform spells the default as an empty text.
    if let Some(other) = input.protocol_version.as_deref().filter(|version| !["", "HTTP1"].contains(version))
    {
        return Err(invalid(format!("Protocol version '{other}' is not supported: use 'HTTP1'")));
    }
    if let Some(other) = input.ip_address_type.as_deref().filter(|kind| *kind != "ipv4") {
        return Err(invalid(format!("IP address type '{other}' is not supported: use 'ipv4'")));
    }
    let port = u16::try_from(input.port.ok_or_else(|| invalid("A port must be specified"))?).unwrap_or(0);
    if port == 0 {
        return Err(invalid("Port must be from 1 to 65535"));
    }
    let vpc_id = input.vpc_id.clone().ok_or_else(|| invalid("A VPC ID must be specified"))?;
    if call.tx.get::<Vpc>(&call.scope().key(&vpc_id)).is_none() {
        return Err(invalid(format!("The VPC ID '{vpc_id}' is not found")));
    }
    let health_check = health_check(&input)?;
    let id = call.ids.hex(16);
    let group = TargetGroup {
        scope: call.scope().clone(),
        arn: call.scope().arn("elasticloadbalancing", &format!("targetgroup/{name}/{id}")),
        name,
        protocol: "HTTP".into(),
        protocol_version: "HTTP1".into(),
        port,
        vpc_id,
        target_type,
        health_check,
        attributes: Default::default(),
        tags: tags::from_wire(input.tags)?,
    };
    if let Some(old) = by_name(call, &group.name) {
        let same = TargetGroup { arn: old.arn.clone(), attributes: old.attributes.clone(), ..group };
        if same != *old {
            let message = format!(
                "A target group with the same name '{}' exists, but with different settings",
                old.name
            );
            return Err(Fault::new("DuplicateTargetGroupName", message));
        }
        return Ok(shape::CreateTargetGroupOutput { target_groups: Some(vec![view(call, &old)]) });
    }
    let prefix = call.scope().arn("elasticloadbalancing", "targetgroup/");
    if call.tx.table::<TargetGroup>().scan(&prefix).count() >= limit("target-groups") {
        let message = "The maximum number of target groups has been reached";
        return Err(Fault::new("TooManyTargetGroups", message));
    }
    call.tx.put(group.clone());
    Ok(shape::CreateTargetGroupOutput { target_groups: Some(vec![view(call, &group)]) })
}

/// The health check asked for, with the defaults of HTTP target groups.
fn health_check(input: &shape::CreateTargetGroupInput) -> Result<HealthCheck, Fault> {
    let mut check = HealthCheck {
        enabled: true,
        protocol: "HTTP".into(),
        port: "traffic-port".into(),
        path: "/".into(),
        interval_s: 30,
        timeout_s: 5,
        healthy_threshold: 5,
        unhealthy_threshold: 2,
        matcher: "200".into(),
    };
    change_health_check(
        &mut check,
        shape::ModifyTargetGroupInput {
            target_group_arn: None,
            health_check_protocol: input.health_check_protocol.clone(),
            health_check_port: input.health_check_port.clone(),
            health_check_path: input.health_check_path.clone(),
            health_check_enabled: input.health_check_enabled,
            health_check_interval_seconds: input.health_check_interval_seconds,
            health_check_timeout_seconds: input.health_check_timeout_seconds,
            healthy_threshold_count: input.healthy_threshold_count,
            unhealthy_threshold_count: input.unhealthy_threshold_count,
            matcher: input.matcher.clone(),
        },
    )?;
    Ok(check)
}

/// Whether it can be asked for as it is: with the characters of RFC 3986 and those beside them that HTTP's own parsers
/// take, but no fragment, which no request has.
fn is_path_and_query(text: &str) -> bool {
    text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"#<>`".contains(&byte))
}

fn within(value: Option<i64>, what: &str, low: i64, high: i64, into: &mut u32) -> Result<(), Fault> {
    match value {
        None => Ok(()),
        Some(value) if (low..=high).contains(&value) => {
            *into = value as u32;
            Ok(())
        }
        Some(value) => Err(invalid(format!("{what} '{value}' must be in the range [{low}, {high}]"))),
    }
}

fn change_health_check(check: &mut HealthCheck, input: shape::ModifyTargetGroupInput) -> Result<(), Fault> {
    if input.health_check_enabled == Some(false) {
        return Err(invalid(
            "Health check enabled must be true for target groups with target type 'ip' or 'instance'",
        ));
    }
    if let Some(other) = input.health_check_protocol.as_deref().filter(|p| *p != "HTTP") {
        return Err(invalid(format!("Health check protocol '{other}' is not supported: use 'HTTP'")));
    }
    if let Some(port) = input.health_check_port {
        if port != "traffic-port" && !port.parse::<u16>().is_ok_and(|p| p > 0) {
            return Err(invalid(format!(
                "Health check port '{port}' must be in the range [1, 65535] or 'traffic-port'"
            )));
        }
        check.port = port;
    }
    if let Some(path) = input.health_check_path {
        if !is_path_and_query(&path) {
            return Err(invalid(format!(
                "Health check path '{path}' must begin with a '/' character and only contain printable ASCII characters, \
                 without spaces"
            )));
        }
        check.path = path;
    }
    within(input.health_check_interval_seconds, "Health check interval", 5, 300, &mut check.interval_s)?;
    within(input.health_check_timeout_seconds, "Health check timeout", 2, 120, &mut check.timeout_s)?;
    within(input.healthy_threshold_count, "Healthy threshold count", 2, 10, &mut check.healthy_threshold)?;
    within(
        input.unhealthy_threshold_count,
        "Unhealthy threshold count",
        2,
        10,
        &mut check.unhealthy_threshold,
    )?;
    if check.timeout_s >= check.interval_s {
        return Err(invalid("Health check interval must be greater than the timeout."));
    }
    if let Some(matcher) = input.matcher {
        refuse(&matcher.grpc_code, "Matcher.GrpcCode")?;
        if let Some(codes) = matcher.http_code {
            check_matcher(&codes)?;
            check.matcher = codes;
        }
    }
    Ok(())
}

/// `200`, `200,202`, `200-299`: codes from 200 to 499.
fn check_matcher(text: &str) -> Result<(), Fault> {
    let code = |part: &str| part.parse().ok().filter(|c: &u16| (200..=499).contains(c));
    let good = text.split(',').all(|part| match part.split_once('-') {
        Some((low, high)) => matches!((code(low), code(high)), (Some(low), Some(high)) if low <= high),
        None => code(part).is_some(),
    });
    match good {
        true => Ok(()),
        false => Err(invalid(format!("Health check matcher HTTP code '{text}' must be within '200-499'"))),
    }
}

pub(super) fn describe(
    call: &mut Call<'_>,
    input: shape::DescribeTargetGroupsInput,
) -> Result<shape::DescribeTargetGroupsOutput, Fault> {
    let (arns, names) = (input.target_group_arns.unwrap_or_default(), input.names.unwrap_or_default());
    let ways = [input.load_balancer_arn.is_some(), !arns.is_empty(), !names.is_empty()];
    if ways.iter().filter(|way| **way).count() > 1 {
        return Err(invalid(
            "Target group names, target group ARNs, and a load balancer ARN cannot be specified at the same time",
        ));
    }
    let prefix = call.scope().arn("elasticloadbalancing", "targetgroup/");
    let all = || call.tx.table::<TargetGroup>().scan(&prefix).map(|(_, group)| group.clone());
    let found: Vec<Arc<TargetGroup>> = if let Some(balancer) = &input.load_balancer_arn {
        let balancer = find_load_balancer(call, balancer)?;
        all().filter(|group| of_target_group(call, group).contains(&balancer.arn)).collect()
    } else if !arns.is_empty() {
        arns.iter().map(|arn| find(call, arn)).collect::<Result<_, _>>()?
    } else if !names.is_empty() {
        let missing = || Fault::new("TargetGroupNotFound", "One or more target groups not found");
        names.iter().map(|name| by_name(call, name).ok_or_else(missing)).collect::<Result<_, _>>()?
    } else {
        all().collect()
    };
    let (items, next_marker) = match arns.is_empty() && names.is_empty() {
        true => page_by(found, input.marker, input.page_size, |group| group.arn.clone())?,
        false => page(found, input.marker, input.page_size)?,
    };
    let target_groups = items.iter().map(|group| view(call, group)).collect();
    Ok(shape::DescribeTargetGroupsOutput { target_groups: Some(target_groups), next_marker })
}

pub(super) fn modify(
    call: &mut Call<'_>,
    input: shape::ModifyTargetGroupInput,
) -> Result<shape::ModifyTargetGroupOutput, Fault> {
    let mut group = TargetGroup::clone(&*find(call, text(&input.target_group_arn))?);
    change_health_check(&mut group.health_check, input)?;
    call.tx.put(group.clone());
    Ok(shape::ModifyTargetGroupOutput { target_groups: Some(vec![view(call, &group)]) })
}

pub(super) fn delete(
    call: &mut Call<'_>,
    input: shape::DeleteTargetGroupInput,
) -> Result<shape::DeleteTargetGroupOutput, Fault> {
    let arn = text(&input.target_group_arn);
    // Deleting what is not there succeeds, as the API does.
    if let Ok(group) = find(call, arn) {
        if !of_target_group(call, &group).is_empty() {
            let message = format!("Target group '{arn}' is currently in use by a listener or a rule");
            return Err(Fault::new("ResourceInUse", message));
        }
        let targets: Vec<String> = {
            use state::Record;
            call.tx.table::<Target>().by_index("group", arn).map(|target| target.key()).collect()
        };
        for target in targets {
            call.tx.delete::<Target>(&target);
        }
        call.tx.delete::<TargetGroup>(arn);
    }
    Ok(shape::DeleteTargetGroupOutput {})
}

fn view(call: &Call<'_>, group: &TargetGroup) -> shape::TargetGroup {
    let check = &group.health_check;
    shape::TargetGroup {
        target_group_arn: Some(group.arn.clone()),
        target_group_name: Some(group.name.clone()),
        protocol: Some(group.protocol.clone()),
        port: Some(i64::from(group.port)),
        vpc_id: Some(group.vpc_id.clone()),
        health_check_protocol: Some(check.protocol.clone()),
        health_check_port: Some(check.port.clone()),
        health_check_enabled: Some(check.enabled),
        health_check_interval_seconds: Some(i64::from(check.interval_s)),
        health_check_timeout_seconds: Some(i64::from(check.timeout_s)),
        healthy_threshold_count: Some(i64::from(check.healthy_threshold)),
        unhealthy_threshold_count: Some(i64::from(check.unhealthy_threshold)),
        health_check_path: Some(check.path.clone()),
        matcher: Some(shape::Matcher { http_code: Some(check.matcher.clone()), grpc_code: None }),
        load_balancer_arns: Some(of_target_group(call, group)),
        target_type: Some(group.target_type.clone()),
        protocol_version: Some(group.protocol_version.clone()),
        ip_address_type: Some("ipv4".into()),
        target_control_port: None,
    }
}
