//! botocore's and Smithy's protocol vectors: what we write is what a client expects to be sent.

mod support;

use base64::Engine;
use serde_json::Value as Json;
use support::{Case, xml};
use wire::protocol::Written;
use wire::protocol::cbor::Item;
use wire::{Fault, Protocol, Value};

/// Cases (by a part of their id) that say nothing about what a server writes, with the reason.
const SKIPPED: [(&str, &str); 13] = [
    ("TimeWithNegativeOffset", "a client reads any offset; we write UTC"),
    ("TimeWithPositiveOffset", "a client reads any offset; we write UTC"),
    ("FooErrorUsing", "other ways to name an error that clients must know; ours is Smithy's"),
    ("RestJsonFooErrorWith", "other ways to name an error that clients must know; ours is Smithy's"),
    ("DeserializeIgnoreType", "clients pass over a __type in a union"),
    ("HandlesUnexpectedJsonOutput", "clients pass over unknown members"),
    ("handles_unexpected_json_output", "clients pass over unknown members"),
    ("ExtraFieldsInTheBodyShouldBeSkipped", "clients pass over unknown members"),
    ("request_id_from_the_response", "the request id is added with the response, for every protocol"),
    ("Ec2ComplexError", "the response has a message that the case does not give"),
    ("NoOutputClientAllowsEmpty", "clients accept a content type without content"),
    ("empty_output_no_body", "clients accept an empty body"),
    ("PayloadWithUnsetUnion", "the response and the result are those of different operations"),
];

fn check(file: &str) {
    let mut failures = Vec::new();
    for case in support::cases(&format!("output/{file}.json")) {
        if SKIPPED.iter().any(|(part, _)| case.id.contains(part)) {
            continue;
        }
        if let Err(why) = check_case(&case) {
            failures.push(format!("{}: {why}", case.id));
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

fn check_case(case: &Case) -> Result<(), String> {
    let model = case.model;
    let protocol = model.protocols[0];
    let operation = model.operation(&case.operation).unwrap();
    let written = match case.json.get("error") {
        Some(error) => wire::protocol::fault::write(model, protocol, &fault(case, error), "foo-id"),
        None => {
            let value = operation.output.map(|output| support::value(model, output, &case.json["result"]));
            wire::protocol::write(model, operation, protocol, &value.unwrap_or_default(), "foo-id")
        }
    };
    let response = &case.json["response"];
    if response["status_code"].as_u64() != Some(written.status.into()) {
        return Err(format!("status {} instead of {}", written.status, response["status_code"]));
    }
    check_headers(response, &written)?;
    let body = response["body"].as_str().unwrap_or_default();
    match protocol {
        Protocol::Query | Protocol::Ec2 if body.is_empty() => Ok(()), // Nothing to say about what a server writes.
        Protocol::Query | Protocol::Ec2 => compare_xml(body, &written.body),
        Protocol::Cbor => compare_cbor(body, &written.body),
        _ => compare_json(body, &written.body),
    }
}

fn fault(case: &Case, error: &Json) -> Fault {
    let code = case.json["errorCode"].as_str().unwrap();
    let mut fault = Fault::new(code, case.json["errorMessage"].as_str().unwrap_or_default());
    let id = case.model.errors[code];
    let Value::Struct(fields) = support::value(case.model, id, error) else {
        panic!("an error is a structure")
    };
    for (member, field) in case.model.members(Some(id)).iter().zip(fields) {
        if !field.is_null() {
            fault = fault.with(member.name.clone(), field);
        }
    }
    if case.id.ends_with("CustomCodeError") {
        fault = fault.status(400); // Which is not what the case's own model says.
    }
    fault
}

fn check_headers(response: &Json, written: &Written) -> Result<(), String> {
    for (name, value) in response["headers"].as_object().into_iter().flatten() {
        let value = value.as_str().unwrap();
        if matches!(name.to_ascii_lowercase().as_str(), "content-length" | "x-amz-target") {
            continue; // The server's HTTP layer sets the one; the other is a request's.
        }
        let found =
            written.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str());
        let kind = |text: &str| text.split(';').next().unwrap_or_default().trim().to_string();
        let equal = match name.to_ascii_lowercase().as_str() {
            "content-type" => found.map(kind) == Some(kind(value)),
            "x-amzn-errortype" => found == Some(&bare(value)),
            _ => found == Some(value),
        };
        if !equal {
            return Err(format!("header {name}: {value:?} wanted, {found:?} found"));
        }
    }
    Ok(())
}

fn compare_json(wanted: &str, found: &[u8]) -> Result<(), String> {
    // An empty structure and no body are the same to a client.
    if wanted.as_bytes() == found || (wanted.is_empty() && found == b"{}") {
        return Ok(());
    }
    let found_text = String::from_utf8_lossy(found);
    let parse = |text: &str| serde_json::from_str::<Json>(text).map(seen);
    match (parse(wanted), parse(&found_text)) {
        (Ok(a), Ok(b)) if a == b => Ok(()),
        _ => Err(format!("\n  wanted {wanted}\n  found  {found_text}")),
    }
}

/// What a client makes of it: 1 is 1.0, a null member is absent, an error's namespace and address say nothing.
fn seen(json: Json) -> Json {
    match json {
        Json::Number(number) => Json::from(number.as_f64().unwrap()),
        Json::Array(items) => items.into_iter().map(seen).collect(),
        Json::Object(mut fields) => {
            if let Some(Json::String(name)) = fields.get_mut("__type") {
                *name = bare(name);
            }
            let present = fields.into_iter().filter(|(_, value)| !value.is_null());
            present.map(|(key, value)| (key, seen(value))).collect()
        }
        other => other,
    }
}

fn bare(name: &str) -> String {
    let name = name.split_once('#').map_or(name, |(_, name)| name);
    name.split(':').next().unwrap_or_default().to_string()
}

fn compare_xml(wanted: &str, found: &[u8]) -> Result<(), String> {
    // Request ids stand in answers of ours and not always in the vectors; namespaces the other way round.
    let ids = ["RequestId", "requestId", "RequestID", "ResponseMetadata"];
    let found = String::from_utf8_lossy(found);
    let tree = |text: &str| xml::parse(text).without(&ids).without_attributes();
    if tree(wanted) == tree(&found) { Ok(()) } else { Err(format!("\n  wanted {wanted}\n  found  {found}")) }
}

fn compare_cbor(wanted: &str, found: &[u8]) -> Result<(), String> {
    let wanted = base64::engine::general_purpose::STANDARD.decode(wanted).unwrap();
    if wanted == found {
        return Ok(());
    }
    let text = |bytes: &[u8]| format!("{:?}", Item::parse(bytes).map(seen_cbor));
    if text(&wanted) == text(found) {
        Ok(())
    } else {
        Err(format!("\n  wanted {}\n  found  {}", text(&wanted), text(found)))
    }
}

fn seen_cbor(item: Item) -> Item {
    match item {
        Item::Array(items) => Item::Array(items.into_iter().map(seen_cbor).collect()),
        Item::Map(mut entries) => {
            entries.retain(|(_, item)| *item != Item::Null);
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            let bare_type = |(name, item)| match item {
                Item::Text(text) if name == "__type" => (name, Item::Text(bare(&text))),
                item => (name, seen_cbor(item)),
            };
            Item::Map(entries.into_iter().map(bare_type).collect())
        }
        other => other,
    }
}

#[test]
fn json_1_1() {
    check("json");
}

#[test]
fn json_1_0() {
    check("json_1_0");
    check("json_1_0-query-compatible");
}

#[test]
fn query() {
    check("query");
}

#[test]
fn ec2() {
    check("ec2");
}

#[test]
fn rest_json() {
    check("rest-json");
}

#[test]
fn cbor() {
    check("smithy-rpc-v2-cbor");
    check("smithy-rpc-v2-cbor-query-compatible");
}
