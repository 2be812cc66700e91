//! Load balancers.

use std::sync::Arc;

use state::ec2::{SecurityGroup, Subnet};
use state::elb::{Listener, LoadBalancer, Rule, TargetGroup};
use wire::Fault;
use wire::shapes::elbv2 as shape;

use super::{check_name, invalid, limit, page, page_by, refuse, tags, text};
use crate::Call;

/// The load balancer of an ARN, if it is of the caller's account and region.
pub(super) fn find(call: &Call<'_>, arn: &str) -> Result<Arc<LoadBalancer>, Fault> {
    let found = call.tx.get::<LoadBalancer>(arn).filter(|lb| lb.scope == *call.scope());
    found.ok_or_else(|| Fault::new("LoadBalancerNotFound", format!("Load balancer '{arn}' not found")))
}

fn by_name(call: &Call<'_>, name: &str) -> Option<Arc<LoadBalancer>> {
    call.tx.table::<LoadBalancer>().by_index("name", &call.scope().key(name)).next().cloned()
}

pub(super) fn create(
    call: &mut Call<'_>,
    input: shape::CreateLoadBalancerInput,
) -> Result<shape::CreateLoadBalancerOutput, Fault> {
    refuse(&input.customer_owned_ipv4_pool, "CustomerOwnedIpv4Pool")?;
    refuse(&input.enable_prefix_for_ipv6_source_nat, "EnablePrefixForIpv6SourceNat")?;
    refuse(&input.ipam_pools, "IpamPools")?;
    let name = text(&input.name);
    check_name("Load balancer", name)?;
    if name.starts_with("internal-") {
        return Err(invalid(format!("Load balancer name '{name}' cannot begin with 'internal-'")));
    }
    if let Some(kind) = input.r#type.as_deref().filter(|kind| *kind != "application") {
        return Err(invalid(format!("Load balancers of type '{kind}' are not supported: use 'application'")));
    }
    if let Some(kind) = input.ip_address_type.as_deref().filter(|kind| *kind != "ipv4") {
        return Err(invalid(format!("IP address type '{kind}' is not supported: use 'ipv4'")));
    }
    let scheme = input.scheme.clone().unwrap_or_else(|| "internet-facing".into());
    let ids = wanted_subnets(&input.subnets, &input.subnet_mappings)?;
    let subnets = check_subnets(call, &ids)?;
    let vpc_id = subnets[0].vpc_id.clone();
    let security_groups = match input.security_groups.clone().filter(|groups| !groups.is_empty()) {
        Some(groups) => check_security_groups(call, groups, &vpc_id)?,
        None => default_security_group(call, &vpc_id)?,
    };
    let given = tags::from_wire(input.tags)?;
    if let Some(old) = by_name(call, name) {
        let same = old.scheme == scheme
            && is_same_set(&old.subnets, &ids)
            && is_same_set(&old.security_groups, &security_groups)
            && old.tags == given;
        if !same {
            let message =
                format!("A load balancer with the same name '{name}' exists, but with different settings");
            return Err(Fault::new("DuplicateLoadBalancerName", message));
        }
        return Ok(shape::CreateLoadBalancerOutput { load_balancers: Some(vec![view(call, &old)]) });
    }
    let prefix = call.scope().arn("elasticloadbalancing", "loadbalancer/");
    if call.tx.table::<LoadBalancer>().scan(&prefix).count() >= limit("application-load-balancers") {
        let message = "The maximum number of load balancers has been reached";
        return Err(Fault::new("TooManyLoadBalancers", message));
    }
    let address = plan::network::allocate_address(call.tx, &subnets[0].id)
        .ok_or_else(|| Fault::new("InvalidSubnet", format!("Not enough IP space available in {}", ids[0])))?;
    let id = call.ids.hex(16);
    let scope = call.scope().clone();
    let inner = if scheme == "internal" { "internal-" } else { "" };
    let balancer = LoadBalancer {
        arn: scope.arn("elasticloadbalancing", &format!("loadbalancer/app/{name}/{id}")),
        name: name.to_owned(),
        dns_name: format!("{inner}{}-{}.{}.elb.localhost", name.to_lowercase(), &id[..8], scope.region),
        scheme,
        vpc_id,
        subnets: ids,
        address,
        security_groups,
        attributes: Default::default(),
        tags: given,
        created_at_ms: call.now_ms,
        active: false,
        scope,
    };
    call.tx.put(balancer.clone());
    Ok(shape::CreateLoadBalancerOutput { load_balancers: Some(vec![view(call, &balancer)]) })
}

fn is_same_set(a: &[String], b: &[String]) -> bool {
    a.len() == b.len() && a.iter().all(|id| b.contains(id))
}

fn wanted_subnets(
    subnets: &Option<Vec<String>>,
    mappings: &Option<Vec<shape::SubnetMapping>>,
) -> Result<Vec<String>, Fault> {
    let by_mapping = mappings.iter().flatten().map(|mapping| {
        refuse(&mapping.allocation_id, "SubnetMappings.AllocationId")?;
        refuse(&mapping.private_ipv4_address, "SubnetMappings.PrivateIPv4Address")?;
        refuse(&mapping.ipv6_address, "SubnetMappings.IPv6Address")?;
        refuse(&mapping.source_nat_ipv6_prefix, "SubnetMappings.SourceNatIpv6Prefix")?;
        Ok(text(&mapping.subnet_id).to_owned())
    });
    let by_mapping: Vec<String> = by_mapping.collect::<Result<_, Fault>>()?;
    match (subnets.clone().unwrap_or_default(), by_mapping) {
        (subnets, mapped) if subnets.is_empty() && mapped.is_empty() => {
            Err(invalid("At least one subnet must be specified"))
        }
        (subnets, mapped) if mapped.is_empty() => Ok(subnets),
        (subnets, mapped) if subnets.is_empty() => Ok(mapped),
        _ => Err(Fault::new(
            "InvalidConfigurationRequest",
            "You can specify either 'Subnets' or 'SubnetMappings', but not both",
        )),
    }
}

fn check_subnets(call: &Call<'_>, ids: &[String]) -> Result<Vec<Arc<Subnet>>, Fault> {
    let mut found: Vec<Arc<Subnet>> = Vec::new();
    for id in ids {
        let subnet = call
            .tx
            .get::<Subnet>(&call.scope().key(id))
            .ok_or_else(|| Fault::new("SubnetNotFound", format!("The subnet ID '{id}' does not exist")))?;
        if let Some(twin) = found.iter().find(|s| s.availability_zone == subnet.availability_zone) {
            return Err(Fault::new(
                "InvalidConfigurationRequest",
                format!(
                    "A load balancer cannot be attached to multiple subnets in the same Availability Zone: {} and {id}",
                    twin.id
                ),
            ));
        }
        if found.first().is_some_and(|first| first.vpc_id != subnet.vpc_id) {
            return Err(Fault::new(
                "InvalidConfigurationRequest",
                format!("The subnet '{id}' is not in the VPC of the other subnets"),
            ));
        }
        found.push(subnet);
    }
    if found.len() < 2 {
        return Err(invalid("At least two subnets in two different Availability Zones must be specified"));
    }
    Ok(found)
}

fn check_security_groups(call: &Call<'_>, ids: Vec<String>, vpc_id: &str) -> Result<Vec<String>, Fault> {
    for id in &ids {
        let group = call.tx.get::<SecurityGroup>(&call.scope().key(id)).ok_or_else(|| {
            Fault::new("InvalidSecurityGroup", format!("The security group '{id}' does not exist"))
        })?;
        if group.vpc_id != vpc_id {
            return Err(Fault::new(
                "InvalidConfigurationRequest",
                format!("One or more security groups are not in the VPC '{vpc_id}': {id}"),
            ));
        }
    }
    Ok(ids)
}

fn default_security_group(call: &Call<'_>, vpc_id: &str) -> Result<Vec<String>, Fault> {
    let table = call.tx.table::<SecurityGroup>();
    let found = table.by_index("vpc", vpc_id).find(|group| group.name == "default");
    let missing =
        || Fault::new("InvalidSecurityGroup", format!("VPC '{vpc_id}' has no default security group"));
    found.map(|group| vec![group.id.clone()]).ok_or_else(missing)
}

pub(super) fn describe(
    call: &mut Call<'_>,
    input: shape::DescribeLoadBalancersInput,
) -> Result<shape::DescribeLoadBalancersOutput, Fault> {
    let (arns, names) = (input.load_balancer_arns.unwrap_or_default(), input.names.unwrap_or_default());
    if !arns.is_empty() && !names.is_empty() {
        return Err(invalid(
            "Load balancer names and load balancer ARNs cannot be specified at the same time",
        ));
    }
    let mut found = Vec::new();
    for arn in &arns {
        found.push(find(call, arn)?);
    }
    for name in &names {
        found.push(by_name(call, name).ok_or_else(|| {
            Fault::new("LoadBalancerNotFound", format!("Load balancers '[{name}]' not found"))
        })?);
    }
    let is_named = !arns.is_empty() || !names.is_empty();
    if !is_named {
        let scope = call.scope();
        let prefix = scope.arn("elasticloadbalancing", "loadbalancer/");
        found = call.tx.table::<LoadBalancer>().scan(&prefix).map(|(_, lb)| lb.clone()).collect();
    }
    let (items, next_marker) = match is_named {
        true => page(found, input.marker, input.page_size)?,
        false => page_by(found, input.marker, input.page_size, |lb| lb.arn.clone())?,
    };
    let load_balancers = items.iter().map(|lb| view(call, lb)).collect();
    Ok(shape::DescribeLoadBalancersOutput { load_balancers: Some(load_balancers), next_marker })
}

pub(super) fn delete(
    call: &mut Call<'_>,
    input: shape::DeleteLoadBalancerInput,
) -> Result<shape::DeleteLoadBalancerOutput, Fault> {
    let arn = text(&input.load_balancer_arn);
    // Deleting what is not there succeeds, as the API reference says.
    if let Ok(balancer) = find(call, arn) {
        if balancer.attributes.get("deletion_protection.enabled").is_some_and(|v| v == "true") {
            return Err(Fault::new(
                "OperationNotPermitted",
                format!("Load balancer '{arn}' cannot be deleted because deletion protection is enabled"),
            ));
        }
        let listeners: Vec<String> =
            call.tx.table::<Listener>().by_index("lb", arn).map(|l| l.arn.clone()).collect();
        for listener in listeners {
            delete_listener(call, &listener);
        }
        call.tx.delete::<LoadBalancer>(arn);
    }
    Ok(shape::DeleteLoadBalancerOutput {})
}

/// Deletes a listener and its rules.
pub(super) fn delete_listener(call: &mut Call<'_>, arn: &str) {
    let rules: Vec<String> =
        call.tx.table::<Rule>().by_index("listener", arn).map(|r| r.arn.clone()).collect();
    for rule in rules {
        call.tx.delete::<Rule>(&rule);
    }
    call.tx.delete::<Listener>(arn);
}

pub(super) fn set_security_groups(
    call: &mut Call<'_>,
    input: shape::SetSecurityGroupsInput,
) -> Result<shape::SetSecurityGroupsOutput, Fault> {
    refuse(
        &input.enforce_security_group_inbound_rules_on_private_link_traffic,
        "EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic",
    )?;
    let balancer = find(call, text(&input.load_balancer_arn))?;
    let groups = input.security_groups.unwrap_or_default();
    let groups = check_security_groups(call, groups, &balancer.vpc_id)?;
    call.tx.update::<LoadBalancer>(&balancer.arn, |lb| lb.security_groups = groups.clone());
    Ok(shape::SetSecurityGroupsOutput { security_group_ids: Some(groups), ..Default::default() })
}

pub(super) fn set_subnets(
    call: &mut Call<'_>,
    input: shape::SetSubnetsInput,
) -> Result<shape::SetSubnetsOutput, Fault> {
    refuse(&input.enable_prefix_for_ipv6_source_nat, "EnablePrefixForIpv6SourceNat")?;
    if let Some(kind) = input.ip_address_type.as_deref().filter(|kind| *kind != "ipv4") {
        return Err(invalid(format!("IP address type '{kind}' is not supported: use 'ipv4'")));
    }
    let balancer = find(call, text(&input.load_balancer_arn))?;
    let mut ids = wanted_subnets(&input.subnets, &input.subnet_mappings)?;
    let subnets = check_subnets(call, &ids)?;
    if subnets[0].vpc_id != balancer.vpc_id {
        return Err(Fault::new(
            "InvalidConfigurationRequest",
            format!("The subnets are not in the VPC '{}' of the load balancer", balancer.vpc_id),
        ));
    }
    // The address is of the first subnet: it stays as long as that subnet does.
    match ids.iter().position(|id| Some(id) == balancer.subnets.first()) {
        Some(at) => ids.swap(0, at),
        None => {
            let address = plan::network::allocate_address(call.tx, &ids[0]);
            let address = address.ok_or_else(|| {
                Fault::new("InvalidSubnet", format!("Not enough IP space available in {}", ids[0]))
            })?;
            call.tx.update::<LoadBalancer>(&balancer.arn, |lb| lb.address = address);
        }
    }
    call.tx.update::<LoadBalancer>(&balancer.arn, |lb| lb.subnets = ids);
    let balancer = find(call, &balancer.arn)?;
    Ok(shape::SetSubnetsOutput {
        availability_zones: Some(zones(call, &balancer)),
        ip_address_type: Some("ipv4".into()),
        ..Default::default()
    })
}

fn zones(call: &Call<'_>, balancer: &LoadBalancer) -> Vec<shape::AvailabilityZone> {
    let zone = |id: &String| {
        let subnet = call.tx.get::<Subnet>(&balancer.scope.key(id));
        shape::AvailabilityZone {
            zone_name: subnet.map(|s| s.availability_zone.clone()),
            subnet_id: Some(id.clone()),
            load_balancer_addresses: Some(Vec::new()),
            ..Default::default()
        }
    };
    balancer.subnets.iter().map(zone).collect()
}

fn view(call: &Call<'_>, balancer: &LoadBalancer) -> shape::LoadBalancer {
    shape::LoadBalancer {
        load_balancer_arn: Some(balancer.arn.clone()),
        dns_name: Some(balancer.dns_name.clone()),
        canonical_hosted_zone_id: Some("Z35SXDOTRQ7X7K".into()),
        created_time: Some(balancer.created_at_ms),
        load_balancer_name: Some(balancer.name.clone()),
        scheme: Some(balancer.scheme.clone()),
        vpc_id: Some(balancer.vpc_id.clone()),
        state: Some(shape::LoadBalancerState {
            code: Some(if balancer.active { "active" } else { "provisioning" }.into()),
            reason: None,
        }),
        r#type: Some("application".into()),
        availability_zones: Some(zones(call, balancer)),
        security_groups: Some(balancer.security_groups.clone()),
        ip_address_type: Some("ipv4".into()),
        ..Default::default()
    }
}

/// The load balancers whose listeners or rules send to a target group.
pub(super) fn of_target_group(call: &Call<'_>, group: &TargetGroup) -> Vec<String> {
    let mut found = Vec::new();
    for (_, listener) in call.tx.table::<Listener>().iter() {
        let rules = call.tx.table::<Rule>().by_index("listener", &listener.arn).cloned().collect::<Vec<_>>();
        let mut all = listener.default_actions.iter().chain(rules.iter().flat_map(|rule| &rule.actions));
        if all.any(|action| super::actions::sends_to(action, &group.arn))
            && !found.contains(&listener.load_balancer_arn)
        {
            found.push(listener.load_balancer_arn.clone());
        }
    }
    found
}
