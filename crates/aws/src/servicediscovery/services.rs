//! Services of namespaces.

use std::sync::Arc;

use state::cloudmap::{DiscoveryService, Instance};
use wire::Fault;
use wire::shapes::servicediscovery as shape;

use super::{filters, id_of, invalid, namespaces, operations, page, refuse, tags};
use crate::Call;

/// The service of an id or ARN.
pub(super) fn find(call: &Call<'_>, id: &str) -> Result<Arc<DiscoveryService>, Fault> {
    let id = id_of(id);
    let found = call.tx.get::<DiscoveryService>(&call.scope().key(id));
    found.ok_or_else(|| Fault::new("ServiceNotFound", format!("Service with id {id} was not found.")))
}

fn records(records: Option<Vec<shape::DnsRecord>>) -> Result<Vec<(String, u32)>, Fault> {
    let mut read = Vec::new();
    for record in records.unwrap_or_default() {
        let kind = record.r#type.unwrap_or_default();
        if !["A", "SRV"].contains(&kind.as_str()) {
            return Err(invalid(format!("DNS records of type {kind} are not supported: use A or SRV")));
        }
        if read.iter().any(|(other, _)| *other == kind) {
            return Err(invalid(format!("DNS record type {kind} is given twice")));
        }
        read.push((kind, record.ttl.unwrap_or(60).clamp(0, i64::from(i32::MAX)) as u32));
    }
    Ok(read)
}

pub(super) fn create(
    call: &mut Call<'_>,
    input: shape::CreateServiceRequest,
) -> Result<shape::CreateServiceResponse, Fault> {
    refuse(&input.health_check_config, "HealthCheckConfig")?;
    let dns = input.dns_config.unwrap_or_default();
    let namespace = input.namespace_id.or(dns.namespace_id);
    let namespace = namespaces::find(call, &namespace.ok_or_else(|| invalid("NamespaceId is required"))?)?;
    let name = input.name.unwrap_or_default();
    let dns_records = records(dns.dns_records)?;
    if !dns_records.is_empty() && (namespace.kind == "HTTP" || input.r#type.as_deref() == Some("HTTP")) {
        return Err(invalid(
            "DNS records can't be configured for a service that is discoverable by API calls only.",
        ));
    }
    let siblings = call.tx.table::<DiscoveryService>().by_index("namespace", &namespace.id);
    let twin = siblings.into_iter().find(|service| service.name.eq_ignore_ascii_case(&name)).cloned();
    if let Some(old) = twin {
        if old.creator_request_id.is_some() && old.creator_request_id == input.creator_request_id {
            return Ok(shape::CreateServiceResponse { service: Some(view(call, &old)) });
        }
        let fault = Fault::new("ServiceAlreadyExists", "A service with the same name already exists.");
        return Err(fault.with("ServiceId", old.id.clone()));
    }
    let service = DiscoveryService {
        scope: call.scope().clone(),
        id: format!("srv-{}", call.ids.alphanumeric(16)),
        name,
        namespace_id: namespace.id.clone(),
        routing_policy: (!dns_records.is_empty())
            .then(|| dns.routing_policy.unwrap_or_else(|| "MULTIVALUE".into())),
        dns_records,
        custom_health: input.health_check_custom_config.is_some(),
        description: input.description,
        creator_request_id: input.creator_request_id,
        instances_revision: 1,
        tags: tags::from_wire(input.tags)?,
        created_at_ms: call.now_ms,
    };
    let shown = view(call, &service);
    call.tx.put(service);
    Ok(shape::CreateServiceResponse { service: Some(shown) })
}

pub(super) fn update(
    call: &mut Call<'_>,
    input: shape::UpdateServiceRequest,
) -> Result<shape::UpdateServiceResponse, Fault> {
    let mut service = DiscoveryService::clone(&*find(call, &input.id.unwrap_or_default())?);
    let change = input.service.unwrap_or_default();
    refuse(&change.health_check_config, "HealthCheckConfig")?;
    if change.description.is_some() {
        service.description = change.description;
    }
    if let Some(given) = change.dns_config {
        let given = records(given.dns_records)?;
        let is_new = |kind: &String| !service.dns_records.iter().any(|(old, _)| old == kind);
        if given.iter().any(|(kind, _)| is_new(kind)) {
            return Err(invalid("Record types can't be added to a service"));
        }
        service.dns_records = given;
    }
    let id = service.id.clone();
    call.tx.put(service);
    let operation = operations::done(call, "UPDATE_SERVICE", &[("SERVICE", &id)]);
    Ok(shape::UpdateServiceResponse { operation_id: Some(operation) })
}

fn instances(call: &Call<'_>, service: &DiscoveryService) -> usize {
    call.tx.table::<Instance>().by_index("service", &service.id).count()
}

pub(super) fn delete(
    call: &mut Call<'_>,
    input: shape::DeleteServiceRequest,
) -> Result<shape::DeleteServiceResponse, Fault> {
    let service = find(call, &input.id.unwrap_or_default())?;
    if instances(call, &service) > 0 {
        return Err(Fault::new(
            "ResourceInUse",
            "Service contains registered instances; delete the instances before deleting the service",
        ));
    }
    call.tx.delete::<DiscoveryService>(&call.caller.scope.key(&service.id));
    Ok(shape::DeleteServiceResponse {})
}

pub(super) fn get(
    call: &mut Call<'_>,
    input: shape::GetServiceRequest,
) -> Result<shape::GetServiceResponse, Fault> {
    let service = find(call, &input.id.unwrap_or_default())?;
    Ok(shape::GetServiceResponse { service: Some(view(call, &service)) })
}

fn kind(service: &DiscoveryService) -> &'static str {
    if service.dns_records.is_empty() { "HTTP" } else { "DNS_HTTP" }
}

fn dns_config(service: &DiscoveryService) -> Option<shape::DnsConfig> {
    let record = |(kind, ttl): &(String, u32)| shape::DnsRecord {
        r#type: Some(kind.clone()),
        ttl: Some(i64::from(*ttl)),
    };
    (!service.dns_records.is_empty()).then(|| shape::DnsConfig {
        namespace_id: Some(service.namespace_id.clone()),
        routing_policy: service.routing_policy.clone(),
        dns_records: Some(service.dns_records.iter().map(record).collect()),
    })
}

fn custom_health(service: &DiscoveryService) -> Option<shape::HealthCheckCustomConfig> {
    service.custom_health.then_some(shape::HealthCheckCustomConfig { failure_threshold: Some(1) })
}

fn view(call: &Call<'_>, service: &DiscoveryService) -> shape::Service {
    shape::Service {
        id: Some(service.id.clone()),
        arn: Some(service.arn()),
        resource_owner: None,
        name: Some(service.name.clone()),
        namespace_id: Some(service.namespace_id.clone()),
        description: service.description.clone(),
        instance_count: Some(instances(call, service) as i64),
        dns_config: dns_config(service),
        r#type: Some(kind(service).into()),
        health_check_config: None,
        health_check_custom_config: custom_health(service),
        create_date: Some(service.created_at_ms),
        creator_request_id: service.creator_request_id.clone(),
        created_by_account: None,
    }
}

pub(super) fn list(
    call: &mut Call<'_>,
    input: shape::ListServicesRequest,
) -> Result<shape::ListServicesResponse, Fault> {
    let wanted = input.filters.unwrap_or_default();
    let wanted: Vec<_> = wanted.into_iter().map(|f| (f.name, f.values, f.condition)).collect();
    let mut found: Vec<Arc<DiscoveryService>> = Vec::new();
    for (_, service) in call.tx.table::<DiscoveryService>().scan(&call.scope().prefix()) {
        let matches = filters::matches(&wanted, |name| match name {
            "NAMESPACE_ID" => Some(Some(service.namespace_id.clone())),
            "RESOURCE_OWNER" => Some(Some("SELF".into())),
            _ => None,
        })?;
        if matches {
            found.push(service.clone());
        }
    }
    let (items, next_token) = page(&input.next_token, input.max_results)?.take(found, |s| s.id.clone());
    let summary = |service: &Arc<DiscoveryService>| shape::ServiceSummary {
        id: Some(service.id.clone()),
        arn: Some(service.arn()),
        resource_owner: None,
        name: Some(service.name.clone()),
        r#type: Some(kind(service).into()),
        description: service.description.clone(),
        instance_count: Some(instances(call, service) as i64),
        dns_config: dns_config(service),
        health_check_config: None,
        health_check_custom_config: custom_health(service),
        create_date: Some(service.created_at_ms),
        created_by_account: None,
    };
    Ok(shape::ListServicesResponse { services: Some(items.iter().map(summary).collect()), next_token })
}
