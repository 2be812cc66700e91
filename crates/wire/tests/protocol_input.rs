//! botocore's and Smithy's protocol vectors: what a client sends is read as what it meant.

mod support;

use base64::Engine;
use bytes::Bytes;
use wire::Value;

/// Cases (by a part of their id) that say nothing about what a server reads, with the reason.
const SKIPPED: [(&str, &str); 10] = [
    ("SDKAppliedContentEncoding", "the case has no body"),
    ("SDKAppend", "the case has no body"),
    ("IdempotencyTokenAutoFill", "the client sends a token that the parameters do not have"),
    ("Ec2EmptyQueryLists", "the protocol cannot tell an empty list from none"),
    ("QueryEmptyQueryMaps", "the protocol cannot tell an empty map from none"),
    ("PrefixHeadersAreNotPresent", "the protocol cannot tell an empty map from none"),
    ("RestJsonOmitsEmptyListQueryValues", "the protocol cannot tell an empty list from none"),
    ("RestJsonQueryP", "a client's choice; a server reads every parameter into the map"),
    ("RestJsonHttpWithEmptyStructurePayload", "an absent structure is sent as an empty one"),
    ("RestJsonHttpWithHeadersButNoPayload", "an absent structure is sent as an empty one"),
];

fn check(file: &str) {
    let mut failures = Vec::new();
    for case in support::cases(&format!("input/{file}.json")) {
        if SKIPPED.iter().any(|(part, _)| case.id.contains(part)) {
            continue;
        }
        if let Err(why) = check_case(&case) {
            failures.push(format!("{}: {why}", case.id));
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

fn check_case(case: &support::Case) -> Result<(), String> {
    let sent = &case.json["serialized"];
    let model = case.model;
    let operation = model.operation(&case.operation).unwrap();
    let protocol = model.protocols[0];
    let mut body = Bytes::from(sent["body"].as_str().unwrap_or_default().to_string());
    if protocol == wire::Protocol::Cbor {
        body = base64::engine::general_purpose::STANDARD.decode(&body).unwrap().into();
    }
    let mut request = http::Request::builder()
        .method(sent["method"].as_str().unwrap_or("POST"))
        .uri(sent["uri"].as_str().unwrap_or("/"));
    for (name, value) in sent["headers"].as_object().into_iter().flatten() {
        request = request.header(name, value.as_str().unwrap());
    }
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let read = wire::protocol::read(model, operation, protocol, &parts, &body).map_err(|e| e.to_string())?;
    let wanted = match operation.input {
        Some(input) => support::value(model, input, &case.json["params"]),
        None => Value::Struct(Vec::new()),
    };
    // Debug text, since NaN differs from itself.
    let (wanted, found) = (format!("{wanted:?}"), format!("{:?}", read.value));
    if wanted == found { Ok(()) } else { Err(format!("\n  wanted {wanted}\n  found  {found}")) }
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
    check("smithy-rpc-v2-cbor-non-query-compatible");
}
