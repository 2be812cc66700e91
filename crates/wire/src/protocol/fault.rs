//! Writing faults: the model gives code, status and members, the protocol the envelope.

use super::cbor::{self, Item};
use super::{Written, content_type, json, rest_json, xml};
use crate::model::{ErrorTraits, Model, Protocol, Shape, ShapeId};
use crate::{Fault, FaultKind, Value};

/// What a client will see of a fault.
struct Resolved<'a> {
    /// The error's shape and its members' values, when the model has it.
    shape: Option<(ShapeId, &'a Shape, Value)>,
    traits: ErrorTraits,
    status: u16,
    /// The name in JSON and CBOR: the shape's when there is one.
    name: String,
    /// Whether the shape has a member for the message.
    has_message: bool,
}

/// Writes a fault as the service would.
pub fn write(model: &Model, protocol: Protocol, fault: &Fault, request_id: &str) -> Written {
    let resolved = resolve(Some(model), fault);
    match protocol {
        Protocol::Json10 | Protocol::Json11 => write_json(model, protocol, fault, &resolved),
        Protocol::RestJson => {
            let mut written = write_json(model, protocol, fault, &resolved);
            written.headers.push(("x-amzn-errortype".into(), resolved.name.clone()));
            if let Some((id, _, value)) = &resolved.shape {
                rest_json::write_located(model, *id, value, &mut written);
            }
            written
        }
        Protocol::Cbor => write_cbor(model, fault, &resolved),
        Protocol::Query => write_query(Some(model), fault, &resolved, request_id),
        Protocol::Ec2 => write_ec2(model, fault, &resolved, request_id),
    }
}

/// Writes a fault of a service that has no model: in JSON or as Query's XML.
pub fn write_without_model(json: bool, fault: &Fault, request_id: &str) -> Written {
    let resolved = resolve(None, fault);
    if !json {
        let mut written = write_query(None, fault, &resolved, request_id);
        // REST clients look here first.
        written.headers.push(("x-amzn-errortype".into(), fault.code.clone()));
        return written;
    }
    let body = serde_json::json!({ "__type": fault.code, "message": fault.message }).to_string();
    let headers = vec![("content-type".into(), content_type(Protocol::Json11).into())];
    Written { status: resolved.status, headers, body: body.into_bytes() }
}

fn resolve<'a>(model: Option<&'a Model>, fault: &Fault) -> Resolved<'a> {
    let found = model.and_then(|model| {
        let id = *model.errors.get(&fault.code)?;
        Some((id, model.shape(id), model))
    });
    let traits = found.and_then(|(_, shape, _)| shape.error.clone()).unwrap_or_else(|| {
        let status = common_status(&fault.code);
        ErrorTraits { code: fault.code.clone(), status, sender: status < 500, query_code: None }
    });
    let status = fault.http_status.unwrap_or(traits.status);
    let shape = found.map(|(id, shape, model)| (id, shape, members(model, id, fault)));
    let has_message = found
        .is_some_and(|(id, _, model)| model.members(Some(id)).iter().any(|member| is_message(&member.name)));
    let name = found.map_or(&fault.code, |(_, shape, _)| &shape.name).clone();
    Resolved { shape, status, name, has_message, traits }
}

/// The status of the errors that every service has and no model lists (each service's "Common Errors").
fn common_status(code: &str) -> u16 {
    match code {
        "InternalFailure" | "InternalError" | "InternalServerError" | "ServerException" => 500,
        "ServiceUnavailable" | "ServiceUnavailableException" | "Unavailable" => 503,
        "AccessDenied" | "NotAuthorized" | "OptInRequired" | "UnauthorizedOperation" => 403,
        _ => 400,
    }
}

fn is_message(name: &str) -> bool {
    name.eq_ignore_ascii_case("message")
}

fn members(model: &Model, id: ShapeId, fault: &Fault) -> Value {
    for (name, _) in &fault.members {
        let known = model.members(Some(id)).iter().any(|member| member.name == *name);
        debug_assert!(known, "the model's {} has no member {name}", fault.code);
    }
    let of = |member: &crate::model::Member| {
        let given = fault.members.iter().find(|(name, _)| *name == member.name);
        match given {
            Some((_, value)) => value.clone(),
            None if is_message(&member.name) && !fault.message.is_empty() => {
                Value::Str(fault.message.clone())
            }
            None => Value::Null,
        }
    };
    Value::Struct(model.members(Some(id)).iter().map(of).collect())
}

fn is_sender(fault: &Fault, resolved: &Resolved) -> bool {
    match fault.kind {
        Some(kind) => kind == FaultKind::Sender,
        None => fault.http_status.map_or(resolved.traits.sender, |status| status < 500),
    }
}

fn write_json(model: &Model, protocol: Protocol, fault: &Fault, resolved: &Resolved) -> Written {
    let mut body = Vec::new();
    if protocol != Protocol::RestJson {
        body.extend_from_slice(format!("{{\"__type\":{}", serde_json::json!(resolved.name)).as_bytes());
    } else {
        body.push(b'{');
    }
    let mut add = |text: &[u8]| {
        if body.len() > 1 {
            body.push(b',');
        }
        body.extend_from_slice(text);
    };
    if !resolved.has_message && !fault.message.is_empty() {
        // AWS's JSON layer itself speaks of a `Message`, its services of a `message`.
        let key = if fault.code == "SerializationException" { "Message" } else { "message" };
        add(format!("\"{key}\":{}", serde_json::json!(fault.message)).as_bytes());
    }
    if let Some((id, _, value)) = &resolved.shape {
        let mut inner = Vec::new();
        json::write_value(model, *id, None, value, &mut inner);
        if inner.len() > 2 {
            add(&inner[1..inner.len() - 1]);
        }
    }
    body.push(b'}');
    let mut headers = vec![("content-type".to_string(), content_type(protocol).to_string())];
    headers.extend(query_error(model, fault, resolved));
    Written { status: resolved.status, headers, body }
}

/// What a service that once spoke Query tells clients that still match its old codes.
fn query_error(model: &Model, fault: &Fault, resolved: &Resolved) -> Option<(String, String)> {
    let code = resolved.traits.query_code.as_ref().filter(|_| model.query_compatible)?;
    let kind = if is_sender(fault, resolved) { "Sender" } else { "Receiver" };
    Some(("x-amzn-query-error".to_string(), format!("{code};{kind}")))
}

fn write_cbor(model: &Model, fault: &Fault, resolved: &Resolved) -> Written {
    let mut entries = vec![("__type".to_string(), Item::Text(resolved.name.clone()))];
    if !resolved.has_message && !fault.message.is_empty() {
        entries.push(("message".to_string(), Item::Text(fault.message.clone())));
    }
    if let Some((id, _, value)) = &resolved.shape
        && let Item::Map(members) = cbor::to_item(model, *id, value)
    {
        entries.extend(members);
    }
    let mut headers = vec![
        ("content-type".to_string(), content_type(Protocol::Cbor).to_string()),
        ("smithy-protocol".to_string(), "rpc-v2-cbor".to_string()),
    ];
    headers.extend(query_error(model, fault, resolved));
    let mut body = Vec::new();
    Item::Map(entries).write(&mut body);
    Written { status: resolved.status, headers, body }
}

fn write_query(model: Option<&Model>, fault: &Fault, resolved: &Resolved, request_id: &str) -> Written {
    let mut out = xml::Xml::new();
    out.open_with("ErrorResponse", &[("xmlns", model.map_or("", |model| &model.xml_namespace))]);
    out.open("Error");
    out.text("Type", if is_sender(fault, resolved) { "Sender" } else { "Receiver" });
    out.text("Code", &resolved.traits.code);
    if !fault.message.is_empty() {
        out.text("Message", &fault.message);
    }
    further_members(model, resolved, &mut out);
    out.close("Error");
    out.text("RequestId", request_id);
    out.close("ErrorResponse");
    let headers = vec![("content-type".to_string(), content_type(Protocol::Query).to_string())];
    Written { status: resolved.status, headers, body: out.finish() }
}

fn write_ec2(model: &Model, fault: &Fault, resolved: &Resolved, request_id: &str) -> Written {
    let mut out = xml::Xml::new();
    out.open("Response");
    out.open("Errors");
    out.open("Error");
    out.text("Code", &resolved.traits.code);
    if !fault.message.is_empty() {
        out.text("Message", &fault.message);
    }
    further_members(Some(model), resolved, &mut out);
    out.close("Error");
    out.close("Errors");
    out.text("RequestID", request_id);
    out.close("Response");
    let headers = vec![("content-type".to_string(), content_type(Protocol::Ec2).to_string())];
    Written { status: resolved.status, headers, body: out.finish() }
}

/// The members beside the message.
fn further_members(model: Option<&Model>, resolved: &Resolved, out: &mut xml::Xml) {
    let (Some(model), Some((id, _, Value::Struct(fields)))) = (model, &resolved.shape) else {
        return;
    };
    let members = model.members(Some(*id)).iter().zip(fields);
    let blank = |(member, field): (&crate::model::Member, &Value)| {
        if is_message(&member.name) { Value::Null } else { field.clone() }
    };
    out.members(model, *id, &Value::Struct(members.map(blank).collect()));
}
