//! From a whole botocore service model to the part the project needs, and its text form: one shape per line.

use super::Service;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

const METADATA: [&str; 12] = [
    "apiVersion",
    "endpointPrefix",
    "jsonVersion",
    "protocol",
    "protocols",
    "awsQueryCompatible",
    "serviceFullName",
    "serviceId",
    "signingName",
    "targetPrefix",
    "xmlNamespace",
    "uid",
];

/// What only readers of prose or generators of clients need.
const DROPPED: [&str; 9] = [
    "documentation",
    "documentationUrl",
    "deprecated",
    "deprecatedMessage",
    "deprecatedSince",
    "box",
    "synthetic",
    "examples",
    "exampleValue",
];

/// Keeps the listed operations, the shapes they reach, and every error shape. Pruning twice changes nothing.
pub fn prune(model: &Value, service: &Service) -> Result<Value, String> {
    let shapes = object(model, "shapes")?;
    let all = object(model, "operations")?;
    for name in &service.operations {
        if !all.contains_key(name) {
            return Err(format!("{} has no operation {name}", service.name));
        }
    }
    let mut operations = Map::new();
    let (mut from_input, mut reached) = (BTreeSet::new(), BTreeSet::new());
    let mut names: Vec<&String> = all.keys().collect();
    names.sort();
    for name in names {
        if !service.operations.contains(name) {
            operations.insert(name.clone(), Value::Null);
            continue;
        }
        let kept = operation(&all[name]);
        if let Some(shape) = kept["input"]["shape"].as_str() {
            reach(shapes, shape, &mut from_input);
        }
        if let Some(shape) = kept["output"]["shape"].as_str() {
            reach(shapes, shape, &mut reached);
        }
        operations.insert(name.clone(), kept);
    }
    for (name, shape) in shapes {
        if shape["exception"] == json!(true) {
            reach(shapes, name, &mut reached);
        }
    }
    let mut kept = Map::new();
    for name in reached.union(&from_input) {
        kept.insert(name.clone(), shape(&shapes[name], from_input.contains(name)));
    }
    let mut metadata = Map::new();
    for key in METADATA {
        if let Some(value) = model["metadata"].get(key) {
            metadata.insert(key.to_string(), value.clone());
        }
    }
    let quirks = model.get("quirks").cloned().unwrap_or_else(|| json!({}));
    Ok(json!({ "metadata": metadata, "quirks": quirks, "operations": operations, "shapes": kept }))
}

fn object<'a>(model: &'a Value, key: &str) -> Result<&'a Map<String, Value>, String> {
    model[key].as_object().ok_or_else(|| format!("the model has no {key}"))
}

fn operation(full: &Value) -> Value {
    let mut kept = Map::new();
    for key in ["http", "input", "output", "authtype", "auth"] {
        if let Some(value) = full.get(key) {
            kept.insert(key.to_string(), without_prose(value));
        }
    }
    let errors = full["errors"].as_array().cloned().unwrap_or_default();
    let names = errors.iter().map(|error| error.get("shape").unwrap_or(error).clone()).collect();
    kept.insert("errors".to_string(), Value::Array(names));
    Value::Object(kept)
}

fn shape(full: &Value, from_input: bool) -> Value {
    let mut kept = without_prose(full);
    if let (Some(fields), false) = (kept.as_object_mut(), from_input) {
        // Nothing reads these of an answer, and EC2's instance types alone would be a third of its model.
        fields.shift_remove("enum");
        fields.shift_remove("pattern");
    }
    kept
}

fn without_prose(value: &Value) -> Value {
    let Value::Object(fields) = value else { return value.clone() };
    let mut kept = Map::new();
    for (key, value) in fields {
        if key == "members" {
            let members = value.as_object().into_iter().flatten();
            let members = members.map(|(name, member)| (name.clone(), without_prose(member))).collect();
            kept.insert(key.clone(), Value::Object(members));
        } else if !DROPPED.contains(&key.as_str()) {
            kept.insert(key.clone(), without_prose(value));
        }
    }
    Value::Object(kept)
}

pub fn reach(shapes: &Map<String, Value>, name: &str, seen: &mut BTreeSet<String>) {
    if !seen.insert(name.to_string()) {
        return;
    }
    let shape = &shapes[name];
    for key in ["member", "key", "value"] {
        if let Some(next) = shape[key]["shape"].as_str() {
            reach(shapes, next, seen);
        }
    }
    for member in shape["members"].as_object().into_iter().flatten().map(|(_, member)| member) {
        reach(shapes, member["shape"].as_str().expect("a member has a shape"), seen);
    }
}

/// One operation and one shape per line, so that a diff shows what changed.
pub fn to_text(model: &Value) -> String {
    let mut out = String::from("{\n");
    out += &format!("\"metadata\":{},\n\"quirks\":{},\n", model["metadata"], model["quirks"]);
    for (key, last) in [("operations", false), ("shapes", true)] {
        let entries = model[key].as_object().into_iter().flatten();
        let lines: Vec<String> = entries.map(|(name, value)| format!("{}:{value}", json!(name))).collect();
        out += &format!("\"{key}\":{{\n{}\n}}{}\n", lines.join(",\n"), if last { "" } else { "," });
    }
    out + "}\n"
}
