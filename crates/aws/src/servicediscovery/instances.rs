//! Instances of services.

use std::sync::Arc;

use state::cloudmap::{DiscoveryService, Instance};
use wire::Fault;
use wire::shapes::servicediscovery as shape;

use super::{invalid, operations, page, services};
use crate::Call;

fn key(call: &Call<'_>, service: &DiscoveryService, id: &str) -> String {
    call.scope().key(&format!("{}/{id}", service.id))
}

fn find(call: &Call<'_>, service: &DiscoveryService, id: &str) -> Result<Arc<Instance>, Fault> {
    let found = call.tx.get::<Instance>(&key(call, service, id));
    found.ok_or_else(|| Fault::new("InstanceNotFound", format!("Instance with id {id} was not found.")))
}

/// Instances change: so does what DiscoverInstancesRevision tells.
fn changed(call: &mut Call<'_>, service: &DiscoveryService) {
    let key = service.scope.key(&service.id);
    call.tx.update::<DiscoveryService>(&key, |service| service.instances_revision += 1);
}

pub(super) fn register(
    call: &mut Call<'_>,
    input: shape::RegisterInstanceRequest,
) -> Result<shape::RegisterInstanceResponse, Fault> {
    let service = services::find(call, &input.service_id.unwrap_or_default())?;
    let id = input.instance_id.unwrap_or_default();
    let mut attributes = input.attributes.unwrap_or_default();
    for unsupported in
        ["AWS_ALIAS_DNS_NAME", "AWS_EC2_INSTANCE_ID", "AWS_INSTANCE_CNAME", "AWS_INSTANCE_IPV6"]
    {
        if attributes.contains_key(unsupported) {
            return Err(invalid(format!("Attribute {unsupported} is not supported")));
        }
    }
    let address = attributes.get("AWS_INSTANCE_IPV4");
    if address.is_some_and(|text| text.parse::<std::net::Ipv4Addr>().is_err()) {
        return Err(invalid("AWS_INSTANCE_IPV4 must be an IPv4 address"));
    }
    if !service.dns_records.is_empty() && address.is_none() {
        return Err(invalid("AWS_INSTANCE_IPV4 is required for a service with A or SRV records"));
    }
    let port = attributes.get("AWS_INSTANCE_PORT");
    if port.is_some_and(|text| text.parse::<u16>().is_err()) {
        return Err(invalid("AWS_INSTANCE_PORT must be from 0 to 65535"));
    }
    if port.is_none() && service.dns_records.iter().any(|(kind, _)| kind == "SRV") {
        return Err(invalid("AWS_INSTANCE_PORT is required for a service with SRV records"));
    }
    let healthy = match attributes.remove("AWS_INIT_HEALTH_STATUS").as_deref() {
        None | Some("HEALTHY") => true,
        Some("UNHEALTHY") if service.custom_health => false,
        Some(_) => {
            return Err(invalid(
                "AWS_INIT_HEALTH_STATUS must be HEALTHY or UNHEALTHY, and needs a custom health check",
            ));
        }
    };
    // An instance that ECS registered stays ECS's to remove.
    let owner = find(call, &service, &id).ok().and_then(|old| old.owner.clone());
    call.tx.put(Instance {
        scope: call.caller.scope.clone(),
        service_id: service.id.clone(),
        id: id.clone(),
        attributes,
        healthy,
        owner,
        registered_at_ms: call.now_ms,
    });
    changed(call, &service);
    let targets = [("INSTANCE", &id[..]), ("SERVICE", &service.id)];
    Ok(shape::RegisterInstanceResponse {
        operation_id: Some(operations::done(call, "REGISTER_INSTANCE", &targets)),
    })
}

pub(super) fn deregister(
    call: &mut Call<'_>,
    input: shape::DeregisterInstanceRequest,
) -> Result<shape::DeregisterInstanceResponse, Fault> {
    let service = services::find(call, &input.service_id.unwrap_or_default())?;
    let instance = find(call, &service, &input.instance_id.unwrap_or_default())?;
    let key = key(call, &service, &instance.id);
    call.tx.delete::<Instance>(&key);
    changed(call, &service);
    let targets = [("INSTANCE", &instance.id[..]), ("SERVICE", &service.id)];
    let operation = operations::done(call, "DEREGISTER_INSTANCE", &targets);
    Ok(shape::DeregisterInstanceResponse { operation_id: Some(operation) })
}

pub(super) fn get(
    call: &mut Call<'_>,
    input: shape::GetInstanceRequest,
) -> Result<shape::GetInstanceResponse, Fault> {
    let service = services::find(call, &input.service_id.unwrap_or_default())?;
    let instance = find(call, &service, &input.instance_id.unwrap_or_default())?;
    Ok(shape::GetInstanceResponse {
        resource_owner: None,
        instance: Some(shape::Instance {
            id: Some(instance.id.clone()),
            attributes: Some(instance.attributes.clone()),
            ..Default::default()
        }),
    })
}

fn of(call: &Call<'_>, service: &DiscoveryService) -> Vec<Arc<Instance>> {
    call.tx.table::<Instance>().by_index("service", &service.id).cloned().collect()
}

pub(super) fn list(
    call: &mut Call<'_>,
    input: shape::ListInstancesRequest,
) -> Result<shape::ListInstancesResponse, Fault> {
    let service = services::find(call, &input.service_id.unwrap_or_default())?;
    let (items, next_token) =
        page(&input.next_token, input.max_results)?.take(of(call, &service), |i| i.id.clone());
    let summary = |instance: &Arc<Instance>| shape::InstanceSummary {
        id: Some(instance.id.clone()),
        attributes: Some(instance.attributes.clone()),
        created_by_account: None,
    };
    Ok(shape::ListInstancesResponse {
        resource_owner: None,
        instances: Some(items.iter().map(summary).collect()),
        next_token,
    })
}

pub(super) fn health(
    call: &mut Call<'_>,
    input: shape::GetInstancesHealthStatusRequest,
) -> Result<shape::GetInstancesHealthStatusResponse, Fault> {
    let service = services::find(call, &input.service_id.unwrap_or_default())?;
    let mut found = of(call, &service);
    if let Some(wanted) = input.instances {
        for id in &wanted {
            find(call, &service, id)?;
        }
        found.retain(|instance| wanted.contains(&instance.id));
    }
    let (items, next_token) = page(&input.next_token, input.max_results)?.take(found, |i| i.id.clone());
    let status = |instance: &Arc<Instance>| {
        let text = if instance.healthy { "HEALTHY" } else { "UNHEALTHY" };
        (instance.id.clone(), text.to_owned())
    };
    Ok(shape::GetInstancesHealthStatusResponse {
        status: Some(items.iter().map(status).collect()),
        next_token,
    })
}
