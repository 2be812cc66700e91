//! Cloud Map (API reference, version 2017-03-14): namespaces, services, instances, discovery.

mod discover;
mod filters;
mod instances;
mod namespaces;
mod operations;
mod services;
mod tags;
#[cfg(test)]
mod tests;

use wire::Fault;

crate::table::operations!(servicediscovery: {
    CreatePrivateDnsNamespace => namespaces::create_private_dns,
    CreateHttpNamespace => namespaces::create_http,
    DeleteNamespace => namespaces::delete,
    GetNamespace => namespaces::get,
    ListNamespaces => namespaces::list,
    GetOperation => operations::get,
    ListOperations => operations::list,
    CreateService => services::create,
    UpdateService => services::update,
    DeleteService => services::delete,
    GetService => services::get,
    ListServices => services::list,
    RegisterInstance => instances::register,
    DeregisterInstance => instances::deregister,
    GetInstance => instances::get,
    ListInstances => instances::list,
    GetInstancesHealthStatus => instances::health,
    DiscoverInstances => discover::discover,
    DiscoverInstancesRevision => discover::revision,
    TagResource => tags::tag,
    UntagResource => tags::untag,
    ListTagsForResource => tags::list,
});

fn invalid(message: impl Into<String>) -> Fault {
    Fault::new("InvalidInput", message)
}

/// Refuses a member that is not served; absent ones are fine.
fn refuse<T>(member: &Option<T>, name: &str) -> Result<(), Fault> {
    match member {
        None => Ok(()),
        Some(_) => Err(invalid(format!("{name} is not supported"))),
    }
}

/// An id may be given as the resource's ARN as well.
fn id_of(text: &str) -> &str {
    state::Arn::parse(text).and_then(|arn| arn.resource.split_once('/')).map_or(text, |(_, id)| id)
}

/// A page of a list: `maxResults` is at most 100.
fn page<'a>(token: &'a Option<String>, max_results: Option<i64>) -> Result<crate::Page<'a>, Fault> {
    let page = crate::Page { token: token.as_deref(), limit: max_results.unwrap_or(100) as usize };
    if page.is_valid() { Ok(page) } else { Err(invalid("The NextToken is not valid")) }
}
