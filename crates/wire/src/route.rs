//! From an HTTP request to a service's operation and the protocol it was spoken in.

use crate::model::OperationModel;
use crate::models::{self, Service};
use crate::protocol::{form, rest_json};
use crate::{Fault, Model, Protocol, sigv4};
use bytes::Bytes;
use http::request::Parts;

/// The operation a request asks for.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// The service.
    pub model: &'static Model,
    /// The operation.
    pub operation: &'static OperationModel,
    /// How the request was written and the answer will be.
    pub protocol: Protocol,
}

/// A request that names no operation we have: what to answer, and in whose words.
#[derive(Debug)]
pub struct Unrouted {
    /// What to answer.
    pub fault: Fault,
    /// The service and protocol, when at least those are known.
    pub service: Option<(&'static Model, Protocol)>,
    /// Without a service: whether the client expects JSON.
    pub json: bool,
}

static NO_BODY: Bytes = Bytes::new();

/// Finds the operation of a request.
pub fn route(parts: &Parts, body: &Bytes) -> Result<Route, Box<Unrouted>> {
    let scope = sigv4::scope(parts).map(|(service, _)| service);
    if let Some(target) = header(parts, "x-amz-target") {
        return by_target(parts, target);
    }
    if header(parts, "smithy-protocol") == Some("rpc-v2-cbor") {
        return by_cbor_path(parts);
    }
    // Only a form is looked into: the body of a REST request may be anything, and large.
    let is_form = header(parts, "content-type").is_none_or(|kind| kind.contains("form"));
    let form = form::of_request(parts, if is_form { body } else { &NO_BODY }).unwrap_or_default();
    let parameter = |name: &str| form.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    if let Some(action) = parameter("Action") {
        return by_action(parts, action, parameter("Version"), scope.as_deref());
    }
    let named = scope.as_deref().or_else(|| host_label(parts));
    let Some(service) = named.and_then(by_signing_name) else {
        return Err(unknown_service(parts, scope.as_deref()));
    };
    by_path(parts, service)
}

/// The service that a request is meant for, as far as its headers tell: for faults before the body is there.
pub fn service_of(parts: &Parts) -> Option<(&'static Model, Protocol)> {
    match route(parts, &Bytes::new()) {
        Ok(route) => Some((route.model, route.protocol)),
        Err(unrouted) => unrouted.service,
    }
}

fn header<'a>(parts: &'a Parts, name: &str) -> Option<&'a str> {
    parts.headers.get(name)?.to_str().ok()
}

/// The first label of the host name, as in `ecs.us-east-1.amazonaws.com`.
fn host_label(parts: &Parts) -> Option<&str> {
    let host = header(parts, "host").or_else(|| parts.uri.host())?;
    let name = host.strip_prefix("api.").unwrap_or(host); // api.ecr.…
    name.split('.').next().filter(|label| label.len() < name.len())
}

fn by_signing_name(name: &str) -> Option<&'static Service> {
    models::services().iter().find(|service| service.signing_name == name)
}

fn unrouted(service: &'static Service, protocol: Protocol, fault: Fault) -> Box<Unrouted> {
    Box::new(Unrouted { fault, service: Some((service.model(), protocol)), json: true })
}

/// An operation by name: served, known by name alone, or unknown.
fn operation(service: &'static Service, protocol: Protocol, name: &str) -> Result<Route, Box<Unrouted>> {
    let model = service.model();
    match model.operation(name) {
        Some(operation) => Ok(Route { model, operation, protocol }),
        None => Err(unrouted(service, protocol, Fault::unsupported(model, protocol, name))),
    }
}

fn by_target(parts: &Parts, target: &str) -> Result<Route, Box<Unrouted>> {
    let (prefix, name) = target.rsplit_once('.').unwrap_or((target, ""));
    let found =
        models::services().iter().find(|service| service.target_prefix == prefix && !prefix.is_empty());
    let Some(service) = found else {
        let fault =
            Fault::new("UnknownOperationException", format!("No service answers to the target {target}."));
        return Err(Box::new(Unrouted { fault, service: None, json: true }));
    };
    let kind = header(parts, "content-type").unwrap_or("application/x-amz-json-1.1");
    if !kind.contains("json") {
        let fault = Fault::new("UnknownOperationException", format!("The content type {kind} is not JSON."));
        return Err(unrouted(service, Protocol::Json11, fault));
    }
    let old = kind.starts_with("application/x-amz-json-1.0");
    operation(service, if old { Protocol::Json10 } else { Protocol::Json11 }, name)
}

fn by_cbor_path(parts: &Parts) -> Result<Route, Box<Unrouted>> {
    let labels = rest_json::match_path("/service/{service}/operation/{operation}", parts.uri.path());
    let labels = labels.unwrap_or_default();
    let label = |at: usize| labels.get(at).map_or("", |(_, value)| value.as_str());
    let found = models::services().iter().find(|service| service.target_prefix == label(0));
    match found.filter(|service| service.protocols.contains(&"smithy-rpc-v2-cbor")) {
        Some(service) => operation(service, Protocol::Cbor, label(1)),
        None => Err(unknown_service(parts, Some(label(0)))),
    }
}

fn by_action(
    parts: &Parts,
    action: &str,
    version: Option<&str>,
    scope: Option<&str>,
) -> Result<Route, Box<Unrouted>> {
    let speaks = || models::services().iter().filter(|service| service.has_actions());
    let named =
        scope.or_else(|| host_label(parts).filter(|label| speaks().any(|s| s.signing_name == *label)));
    let of_name: Vec<&'static Service> =
        speaks().filter(|s| named.is_none_or(|name| s.signing_name == name)).collect();
    let exact = of_name.iter().find(|service| Some(service.api_version) == version);
    // EC2 answers every one of its old versions; no other service here has any.
    let ec2 = of_name.iter().find(|service| named.is_some() && service.name == "ec2");
    if let Some(service) = exact.or(ec2) {
        let protocol = if service.name == "ec2" { Protocol::Ec2 } else { Protocol::Query };
        return operation(service, protocol, action);
    }
    match of_name.first().filter(|_| named.is_some()) {
        Some(service) => {
            let fault = Fault::no_such_action(action, version.unwrap_or_default());
            Err(unrouted(service, Protocol::Query, fault))
        }
        None => Err(unknown_service(parts, scope)),
    }
}

fn by_path(parts: &Parts, service: &'static Service) -> Result<Route, Box<Unrouted>> {
    let model = service.model();
    if model.protocols.contains(&Protocol::RestJson) {
        let path = parts.uri.path();
        let all =
            model.operations.values().flatten().filter(|operation| operation.method == parts.method.as_str());
        let matching = all.filter(|operation| rest_json::match_path(&operation.uri, path).is_some());
        // Of `/tags/{arn}` and `/tags/all` the one with fewer labels.
        return match matching.min_by_key(|operation| operation.uri.matches('{').count()) {
            Some(operation) => Ok(Route { model, operation, protocol: Protocol::RestJson }),
            None => {
                let message = format!("No operation answers {} {path}.", parts.method);
                let fault = Fault::new("UnknownOperationException", message).status(404);
                Err(unrouted(service, Protocol::RestJson, fault))
            }
        };
    }
    let protocol = model.protocols[0];
    let fault = if service.has_actions() {
        Fault::new("MissingAction", "The request is missing an action or a required parameter.")
    } else {
        Fault::new("UnknownOperationException", "The request has no X-Amz-Target header.")
    };
    Err(unrouted(service, protocol, fault))
}

fn unknown_service(parts: &Parts, name: Option<&str>) -> Box<Unrouted> {
    let message = match name {
        Some(name) => format!("The service {name} is not supported."),
        None => {
            "The request names no service: it has no X-Amz-Target, no Action and no signature.".to_string()
        }
    };
    let json = expects_json(parts, name);
    let fault = Fault::new("UnknownOperationException", message).status(404);
    Box::new(Unrouted { fault, service: None, json })
}

/// Whether the client of a service that is not here will look for JSON: by what it sends, else by the protocol of the
/// service that it signed for. REST requests without a body have no content type.
fn expects_json(parts: &Parts, name: Option<&str>) -> bool {
    const REST_XML: [&str; 4] = ["s3", "s3express", "cloudfront", "route53"];
    match header(parts, "content-type") {
        Some(kind) => kind.contains("json"),
        None => name.is_some_and(|name| !REST_XML.contains(&name)),
    }
}

impl Fault {
    /// An operation that the service does not have, or that is not served: AWS's words for both.
    pub fn unsupported(model: &Model, protocol: Protocol, operation: &str) -> Fault {
        match protocol {
            Protocol::Ec2 => Fault::new(
                "InvalidAction",
                format!("The action {operation} is not valid for this web service."),
            ),
            Protocol::Query => Fault::no_such_action(operation, &model.api_version),
            _ => {
                let message = format!("The operation {operation} is not supported by {}.", model.name);
                let status =
                    if protocol == Protocol::RestJson || protocol == Protocol::Cbor { 404 } else { 400 };
                Fault::new("UnknownOperationException", message).status(status)
            }
        }
    }

    fn no_such_action(action: &str, version: &str) -> Fault {
        Fault::new("InvalidAction", format!("Could not find operation {action} for version {version}"))
    }
}
