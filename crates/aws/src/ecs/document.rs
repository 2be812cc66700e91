//! Between typed shapes and the JSON of the ECS API, in which records keep what is shown again.

use serde_json::Value as Json;
use wire::protocol::json;
use wire::{FromValue, IntoValue, Model};

fn model() -> &'static Model {
    wire::model("ecs").expect("the model of ecs is built in")
}

fn shape_id(model: &Model, shape: &str) -> usize {
    let found = model.shapes.iter().position(|s| s.name == shape);
    found.unwrap_or_else(|| panic!("the model of ecs has a shape {shape}"))
}

/// A structure of the ECS model as JSON; `shape` is its name in the model.
pub fn to_json(shape: &str, value: impl IntoValue) -> Json {
    let model = model();
    let mut bytes = Vec::new();
    json::write_value(model, shape_id(model, shape), None, &value.into_value(), &mut bytes);
    serde_json::from_slice(&bytes).expect("what wire writes is JSON")
}

/// A structure of the ECS model from JSON that [`to_json`] wrote. Members that the model no longer has are left out.
pub fn from_json<T: FromValue>(shape: &str, json: &Json) -> T {
    let model = model();
    let read = json::read_value(model, shape_id(model, shape), None, json.clone());
    T::from_value(read.expect("records hold what the model can read").value)
}
