//! Namespaces.

use std::sync::Arc;

use state::cloudmap::{DiscoveryService, Namespace};
use state::ec2::Vpc;
use wire::Fault;
use wire::shapes::servicediscovery as shape;

use super::{filters, id_of, invalid, operations, page, tags};
use crate::Call;

/// The namespace of an id or ARN.
pub(super) fn find(call: &Call<'_>, id: &str) -> Result<Arc<Namespace>, Fault> {
    let id = id_of(id);
    let found = call.tx.get::<Namespace>(&call.scope().key(id));
    found.ok_or_else(|| Fault::new("NamespaceNotFound", format!("Namespace with id {id} was not found.")))
}

fn all(call: &Call<'_>) -> Vec<Arc<Namespace>> {
    call.tx
        .table::<Namespace>()
        .scan(&call.scope().prefix())
        .map(|(_, namespace)| namespace.clone())
        .collect()
}

/// The namespace that DiscoverInstances calls by this name.
pub(super) fn by_http_name(call: &Call<'_>, name: &str) -> Option<Arc<Namespace>> {
    all(call).into_iter().find(|namespace| namespace.http_name() == name)
}

/// Lower-case labels between dots.
fn check_domain(name: &str) -> Result<(), Fault> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    match name.len() <= 253 && name.split('.').all(label) {
        true => Ok(()),
        false => Err(invalid(format!("'{name}' is not a valid domain name"))),
    }
}

fn create(call: &mut Call<'_>, mut namespace: Namespace) -> Result<String, Fault> {
    let twins: Vec<_> = all(call).into_iter().filter(|other| other.name == namespace.name).collect();
    // Two private namespaces may have one name in different VPCs.
    if let Some(old) = twins.iter().find(|other| other.vpc_id == namespace.vpc_id) {
        let same = old.creator_request_id.is_some() && old.creator_request_id == namespace.creator_request_id;
        if same {
            return Ok(operations::done(call, "CREATE_NAMESPACE", &[("NAMESPACE", &old.id)]));
        }
        let message = format!("Namespace with name {} already exists.", namespace.name);
        let fault = Fault::new("NamespaceAlreadyExists", message);
        return Err(fault.with("NamespaceId", old.id.clone()));
    }
    namespace.id = format!("ns-{}", call.ids.alphanumeric(16));
    if !twins.is_empty() {
        namespace.http_name = Some(format!("{}_{}", namespace.name, call.ids.alphanumeric(16)));
    }
    if namespace.kind == "DNS_PRIVATE" {
        namespace.hosted_zone_id = Some(format!("Z{}", call.ids.alphanumeric(19).to_uppercase()));
    }
    let id = namespace.id.clone();
    call.tx.put(namespace);
    Ok(operations::done(call, "CREATE_NAMESPACE", &[("NAMESPACE", &id)]))
}

pub(super) fn create_private_dns(
    call: &mut Call<'_>,
    input: shape::CreatePrivateDnsNamespaceRequest,
) -> Result<shape::CreatePrivateDnsNamespaceResponse, Fault> {
    let name = input.name.unwrap_or_default();
    check_domain(&name)?;
    let vpc = input.vpc.unwrap_or_default();
    if call.tx.get::<Vpc>(&call.scope().key(&vpc)).is_none() {
        return Err(invalid(format!("The VPC {vpc} does not exist in region {}.", call.scope().region)));
    }
    let soa = input.properties.and_then(|p| p.dns_properties).and_then(|p| p.soa).and_then(|soa| soa.ttl);
    let namespace = Namespace {
        scope: call.scope().clone(),
        id: String::new(),
        name,
        http_name: None,
        kind: "DNS_PRIVATE".into(),
        vpc_id: Some(vpc),
        soa_ttl_s: soa.map_or(15, |ttl| ttl as u32),
        hosted_zone_id: None,
        description: input.description,
        creator_request_id: input.creator_request_id,
        tags: tags::from_wire(input.tags)?,
        created_at_ms: call.now_ms,
    };
    Ok(shape::CreatePrivateDnsNamespaceResponse { operation_id: Some(create(call, namespace)?) })
}

pub(super) fn create_http(
    call: &mut Call<'_>,
    input: shape::CreateHttpNamespaceRequest,
) -> Result<shape::CreateHttpNamespaceResponse, Fault> {
    let namespace = Namespace {
        scope: call.scope().clone(),
        id: String::new(),
        name: input.name.unwrap_or_default(),
        http_name: None,
        kind: "HTTP".into(),
        vpc_id: None,
        soa_ttl_s: 15,
        hosted_zone_id: None,
        description: input.description,
        creator_request_id: input.creator_request_id,
        tags: tags::from_wire(input.tags)?,
        created_at_ms: call.now_ms,
    };
    Ok(shape::CreateHttpNamespaceResponse { operation_id: Some(create(call, namespace)?) })
}

fn services(call: &Call<'_>, namespace: &Namespace) -> usize {
    call.tx.table::<DiscoveryService>().by_index("namespace", &namespace.id).count()
}

pub(super) fn delete(
    call: &mut Call<'_>,
    input: shape::DeleteNamespaceRequest,
) -> Result<shape::DeleteNamespaceResponse, Fault> {
    let namespace = find(call, &input.id.unwrap_or_default())?;
    if services(call, &namespace) > 0 {
        return Err(Fault::new("ResourceInUse", "Namespace has associated services and can't be deleted."));
    }
    call.tx.delete::<Namespace>(&call.caller.scope.key(&namespace.id));
    let operation = operations::done(call, "DELETE_NAMESPACE", &[("NAMESPACE", &namespace.id)]);
    Ok(shape::DeleteNamespaceResponse { operation_id: Some(operation) })
}

pub(super) fn get(
    call: &mut Call<'_>,
    input: shape::GetNamespaceRequest,
) -> Result<shape::GetNamespaceResponse, Fault> {
    let namespace = find(call, &input.id.unwrap_or_default())?;
    Ok(shape::GetNamespaceResponse {
        namespace: Some(shape::Namespace {
            id: Some(namespace.id.clone()),
            arn: Some(arn(&namespace)),
            resource_owner: None,
            name: Some(namespace.name.clone()),
            r#type: Some(namespace.kind.clone()),
            description: namespace.description.clone(),
            service_count: Some(services(call, &namespace) as i64),
            properties: Some(properties(&namespace)),
            create_date: Some(namespace.created_at_ms),
            creator_request_id: namespace.creator_request_id.clone(),
        }),
    })
}

fn arn(namespace: &Namespace) -> String {
    namespace.scope.arn("servicediscovery", &format!("namespace/{}", namespace.id))
}

fn properties(namespace: &Namespace) -> shape::NamespaceProperties {
    let dns = namespace.hosted_zone_id.as_ref().map(|zone| shape::DnsProperties {
        hosted_zone_id: Some(zone.clone()),
        soa: Some(shape::SOA { ttl: Some(i64::from(namespace.soa_ttl_s)) }),
    });
    shape::NamespaceProperties {
        dns_properties: dns,
        http_properties: Some(shape::HttpProperties { http_name: Some(namespace.http_name().to_owned()) }),
    }
}

pub(super) fn list(
    call: &mut Call<'_>,
    input: shape::ListNamespacesRequest,
) -> Result<shape::ListNamespacesResponse, Fault> {
    let wanted = input.filters.unwrap_or_default();
    let wanted: Vec<_> = wanted.into_iter().map(|f| (f.name, f.values, f.condition)).collect();
    let mut found: Vec<Arc<Namespace>> = Vec::new();
    for (_, namespace) in call.tx.table::<Namespace>().scan(&call.scope().prefix()) {
        let matches = filters::matches(&wanted, |name| match name {
            "TYPE" => Some(Some(namespace.kind.clone())),
            "NAME" => Some(Some(namespace.name.clone())),
            "HTTP_NAME" => Some(Some(namespace.http_name().to_owned())),
            "RESOURCE_OWNER" => Some(Some("SELF".into())),
            _ => None,
        })?;
        if matches {
            found.push(namespace.clone());
        }
    }
    let (items, next_token) = page(&input.next_token, input.max_results)?.take(found, |n| n.id.clone());
    let summary = |namespace: &Arc<Namespace>| shape::NamespaceSummary {
        id: Some(namespace.id.clone()),
        arn: Some(arn(namespace)),
        resource_owner: None,
        name: Some(namespace.name.clone()),
        r#type: Some(namespace.kind.clone()),
        description: namespace.description.clone(),
        service_count: Some(services(call, namespace) as i64),
        properties: Some(properties(namespace)),
        create_date: Some(namespace.created_at_ms),
    };
    Ok(shape::ListNamespacesResponse { namespaces: Some(items.iter().map(summary).collect()), next_token })
}
