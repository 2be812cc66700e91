//! The protocols' readers. An input is a line `service.Operation` and a request's body; for REST JSON a whole request.
//!
//! What is read can be written and read again, in JSON and in CBOR, and is the same.

use std::sync::OnceLock;

use bytes::Bytes;
use wire::model::{Kind, Location, OperationModel, ShapeId};
use wire::protocol::{self, cbor, json as json_protocol};
use wire::{Model, Protocol, Value, validate};

use crate::Choices;
use crate::http_text::request;

/// JSON 1.0 and 1.1.
pub fn json(bytes: &[u8]) {
    read(bytes, &["ecs", "ecr", "logs", "servicediscovery"], Protocol::Json11);
}

/// Query.
pub fn query(bytes: &[u8]) {
    read(bytes, &["elbv2", "iam", "sts"], Protocol::Query);
}

/// EC2's Query.
pub fn ec2(bytes: &[u8]) {
    read(bytes, &["ec2"], Protocol::Ec2);
}

/// RPC v2 CBOR, and that a data item comes back.
pub fn cbor(bytes: &[u8]) {
    if let Ok(item) = cbor::Item::parse(bytes) {
        let mut written = Vec::new();
        item.write(&mut written);
        let again = cbor::Item::parse(&written).expect("what is written is CBOR");
        assert_eq!(format!("{again:?}"), format!("{item:?}"));
    }
    read(bytes, &["ecs", "logs", "ecr"], Protocol::Cbor);
}

/// REST JSON, of a model that has all of it: no service here speaks it.
pub fn rest_json(bytes: &[u8]) {
    static MODEL: OnceLock<Model> = OnceLock::new();
    let model = MODEL.get_or_init(|| Model::parse("rest", include_str!("rest.json")).expect("a model"));
    let Some((parts, body)) = request(bytes) else { return };
    for operation in model.operations.values().flatten() {
        if operation.method != parts.method.as_str()
            || protocol::rest_json::match_path(&operation.uri, parts.uri.path()).is_none()
        {
            continue;
        }
        let Ok(read) = protocol::read(model, operation, Protocol::RestJson, &parts, &body) else { continue };
        let _ = validate::validate(model, operation.input, &read.value);
        comes_back(model, operation.input, &read.value);
        protocol::write(model, operation, Protocol::RestJson, &Value::Null, "id");
    }
}

fn read(bytes: &[u8], services: &[&str], protocol: Protocol) {
    let line = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (name, body) = (&bytes[..line], bytes.get(line + 1..).unwrap_or_default());
    let (model, operation) = operation(name, services);
    let (parts, ()) = http::Request::post("/").body(()).expect("a request").into_parts();
    let body = Bytes::copy_from_slice(body);
    let Ok(read) = protocol::read(model, operation, protocol, &parts, &body) else { return };
    let _ = validate::validate(model, operation.input, &read.value);
    comes_back(model, operation.input, &read.value);
}

/// The operation of a name; of any other name, one that is chosen by it.
fn operation(name: &[u8], services: &[&str]) -> (&'static Model, &'static OperationModel) {
    let text = std::str::from_utf8(name).unwrap_or_default();
    let (service, operation) = text.split_once('.').unwrap_or_default();
    let named = services.contains(&service).then(|| wire::model(service)?.operation(operation)).flatten();
    if let (Some(model), Some(operation)) = (wire::model(service), named) {
        return (model, operation);
    }
    let mut choices = Choices::of(name);
    let model = wire::model(services[choices.below(services.len())]).expect("a service of the table");
    let mut all: Vec<&OperationModel> = model.operations.values().flatten().collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    (model, all[choices.below(all.len())])
}

fn comes_back(model: &Model, input: Option<ShapeId>, value: &Value) {
    let Some(shape) = input else { return };
    let in_body = model.members(input).iter().all(|member| member.location == Location::Body);
    if !in_body {
        return;
    }
    let mut text = Vec::new();
    json_protocol::write_value(model, shape, None, value, &mut text);
    let again = json_protocol::read(model, Some(shape), &text);
    let again = again.unwrap_or_else(|fault| panic!("{fault}: {}", String::from_utf8_lossy(&text)));
    assert!(same(&again.value, value), "{value:?}\nbecomes in JSON\n{:?}", again.value);
    let has_documents = model.shapes.iter().any(|shape| matches!(shape.kind, Kind::Document));
    if !has_documents {
        let mut bytes = Vec::new();
        cbor::to_item(model, shape, value).write(&mut bytes);
        let again = cbor::read(model, Some(shape), &bytes).expect("what is written can be read");
        assert!(same(&again.value, value), "{value:?}\nbecomes in CBOR\n{:?}", again.value);
    }
}

/// Equal but for what floats lose on their way through decimals: their last digit, and a millisecond in the far future.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => {
            a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= a.abs() * f64::EPSILON
        }
        (Value::Int(a), Value::Int(b)) => a == b || (a.abs() > 1 << 50 && a.abs_diff(*b) <= 2),
        (Value::List(a), Value::List(b)) | (Value::Struct(a), Value::Struct(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && same(&a.1, &b.1))
        }
        (a, b) => a == b,
    }
}
