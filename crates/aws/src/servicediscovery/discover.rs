//! Discovery by API call.

use std::collections::BTreeMap;
use std::sync::Arc;

use state::cloudmap::{DiscoveryService, Instance};
use wire::Fault;
use wire::shapes::servicediscovery as shape;

use super::{namespaces, refuse};
use crate::Call;

fn named(
    call: &Call<'_>,
    namespace: &Option<String>,
    service: &Option<String>,
) -> Result<Arc<DiscoveryService>, Fault> {
    let (namespace, service) =
        (namespace.as_deref().unwrap_or_default(), service.as_deref().unwrap_or_default());
    let missing =
        || Fault::new("NamespaceNotFound", format!("Namespace with name {namespace} was not found."));
    let namespace = namespaces::by_http_name(call, namespace).ok_or_else(missing)?;
    let mut all = call.tx.table::<DiscoveryService>().by_index("namespace", &namespace.id);
    let found = all.find(|candidate| candidate.name.eq_ignore_ascii_case(service)).cloned();
    found.ok_or_else(|| Fault::new("ServiceNotFound", format!("Service with name {service} was not found.")))
}

pub(super) fn discover(
    call: &mut Call<'_>,
    input: shape::DiscoverInstancesRequest,
) -> Result<shape::DiscoverInstancesResponse, Fault> {
    refuse(&input.owner_account, "OwnerAccount")?;
    let service = named(call, &input.namespace_name, &input.service_name)?;
    let required = input.query_parameters.unwrap_or_default();
    let optional = input.optional_parameters.unwrap_or_default();
    let holds = |instance: &Instance, wanted: &BTreeMap<String, String>| {
        wanted.iter().all(|(key, value)| instance.attributes.get(key) == Some(value))
    };
    let all = call.tx.table::<Instance>().by_index("service", &service.id);
    let mut found: Vec<Arc<Instance>> = all.filter(|i| holds(i, &required)).cloned().collect();
    // "If there is no instance that matches, the optional parameters are ignored."
    if found.iter().any(|instance| holds(instance, &optional)) {
        found.retain(|instance| holds(instance, &optional));
    }
    let any_healthy = found.iter().any(|instance| instance.healthy);
    found.retain(|instance| match input.health_status.as_deref().unwrap_or("HEALTHY_OR_ELSE_ALL") {
        "ALL" => true,
        "HEALTHY" => instance.healthy,
        "UNHEALTHY" => !instance.healthy,
        _ => instance.healthy || !any_healthy,
    });
    found.truncate(input.max_results.unwrap_or(100) as usize);
    let summary = |instance: &Arc<Instance>| shape::HttpInstanceSummary {
        instance_id: Some(instance.id.clone()),
        namespace_name: input.namespace_name.clone(),
        service_name: Some(service.name.clone()),
        health_status: Some(if instance.healthy { "HEALTHY" } else { "UNHEALTHY" }.into()),
        attributes: Some(instance.attributes.clone()),
    };
    Ok(shape::DiscoverInstancesResponse {
        instances: Some(found.iter().map(summary).collect()),
        instances_revision: Some(service.instances_revision as i64),
    })
}

pub(super) fn revision(
    call: &mut Call<'_>,
    input: shape::DiscoverInstancesRevisionRequest,
) -> Result<shape::DiscoverInstancesRevisionResponse, Fault> {
    refuse(&input.owner_account, "OwnerAccount")?;
    let service = named(call, &input.namespace_name, &input.service_name)?;
    Ok(shape::DiscoverInstancesRevisionResponse {
        instances_revision: Some(service.instances_revision as i64),
    })
}
