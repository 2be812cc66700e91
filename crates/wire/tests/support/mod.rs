//! What the protocol vector tests share: models of one case, values from JSON, XML as a tree.
#![allow(dead_code)]

pub mod xml;

use serde_json::{Value as Json, json};
use wire::model::{Kind, Member, Model, ShapeId};
use wire::{Value, timestamp};

/// One case of a suite, with a model that has its one operation.
pub struct Case {
    pub id: String,
    pub json: Json,
    pub model: &'static Model,
    pub operation: String,
}

/// The cases of one file under `tests/vectors/protocols`.
pub fn cases(file: &str) -> Vec<Case> {
    let path = format!("{}/tests/vectors/protocols/{file}", env!("CARGO_MANIFEST_DIR"));
    let suites: Json = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut all = Vec::new();
    for suite in suites.as_array().unwrap() {
        for (at, case) in suite["cases"].as_array().unwrap().iter().enumerate() {
            let operation = case["given"]["name"].as_str().unwrap().to_string();
            let mut given = case["given"].clone();
            if !given["output"].is_null() && suite["metadata"]["protocol"] == "query" {
                given["output"]["resultWrapper"] = json!(format!("{operation}Result"));
            }
            let model = json!({
                "metadata": suite["metadata"],
                "shapes": suite["shapes"],
                "operations": { &operation: given },
            });
            let model = Model::from_json("vectors", &model).unwrap();
            let id = case["id"].as_str().map_or(format!("{} {at}", suite["description"]), str::to_string);
            all.push(Case { id, json: case.clone(), model: Box::leak(Box::new(model)), operation });
        }
    }
    assert!(!all.is_empty(), "{file} has no cases");
    all
}

/// The value of a shape that a vector's `params` or `result` describes.
pub fn value(model: &Model, id: ShapeId, json: &Json) -> Value {
    let of = |member: &Member, json: &Json| value(model, member.shape, json);
    match (&model.shape(id).kind, json) {
        (Kind::Document, json) => Value::Doc(json.clone()),
        (_, Json::Null) => Value::Null,
        (Kind::Structure(members), json) => {
            let names: Vec<&String> = members.iter().map(|member| &member.name).collect();
            for name in json.as_object().unwrap().keys() {
                assert!(names.contains(&name), "the vector has the unknown member {name}");
            }
            Value::Struct(members.iter().map(|member| of(member, &json[&member.name])).collect())
        }
        (Kind::List(entry), Json::Array(items)) => {
            Value::List(items.iter().map(|item| of(entry, item)).collect())
        }
        (Kind::Map(_, entry), Json::Object(entries)) => {
            Value::Map(entries.iter().map(|(key, item)| (key.clone(), of(entry, item))).collect())
        }
        (Kind::Timestamp, Json::Number(seconds)) => {
            Value::Int(timestamp::from_seconds(seconds.as_f64().unwrap()).unwrap())
        }
        (Kind::Timestamp, Json::String(text)) => Value::Int(timestamp::parse(text).unwrap()),
        (Kind::Float, Json::Number(number)) => Value::Float(number.as_f64().unwrap()),
        (Kind::Float, Json::String(text)) => Value::Float(text.parse().unwrap()),
        (Kind::Integer | Kind::Long, Json::Number(number)) => Value::Int(number.as_i64().unwrap()),
        (Kind::Boolean, Json::Bool(truth)) => Value::Bool(*truth),
        (Kind::Blob, Json::String(text)) => Value::Blob(text.clone().into()),
        (Kind::String, Json::String(text)) => Value::Str(text.clone()),
        // A header that holds JSON: the vector has the document, we the text.
        (Kind::String, json) => Value::Str(json.to_string()),
        (kind, json) => panic!("{json} is no {kind:?}"),
    }
}
