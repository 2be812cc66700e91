//! Property: whatever a model allows comes back unchanged from its typed form, from JSON and from CBOR.

use crate::model::{Kind, Model, ShapeId};
use crate::protocol::query::Dialect;
use crate::protocol::{self, cbor, json};
use crate::{Value, shapes, value::RoundTrip};
use proptest::prelude::*;

const OPERATIONS: [(&str, &[RoundTrip]); 8] = [
    ("ec2", shapes::ec2::op::ROUND_TRIPS),
    ("ecr", shapes::ecr::op::ROUND_TRIPS),
    ("ecs", shapes::ecs::op::ROUND_TRIPS),
    ("elbv2", shapes::elbv2::op::ROUND_TRIPS),
    ("iam", shapes::iam::op::ROUND_TRIPS),
    ("logs", shapes::logs::op::ROUND_TRIPS),
    ("servicediscovery", shapes::servicediscovery::op::ROUND_TRIPS),
    ("sts", shapes::sts::op::ROUND_TRIPS),
];

/// A small generator of its own, so that one seed is one value of any shape.
struct Sampler<'a> {
    model: &'a Model,
    seed: u64,
}

impl Sampler<'_> {
    fn below(&mut self, limit: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % limit
    }

    fn text(&mut self) -> String {
        const TEXTS: [&str; 6] = ["", "a", "<&>\"'", "line\nbreak", "\u{0}\u{1f600}é", "1"];
        TEXTS[self.below(6) as usize].to_string()
    }

    fn value(&mut self, id: ShapeId, depth: u32) -> Value {
        let model = self.model;
        match &model.shape(id).kind {
            Kind::Structure(members) => {
                // Every member in turn is there or not; deep down, none.
                let one = |member: &crate::model::Member| {
                    if depth > 6 || self.below(3) == 0 {
                        Value::Null
                    } else {
                        self.value(member.shape, depth + 1)
                    }
                };
                Value::Struct(members.iter().map(one).collect())
            }
            Kind::List(entry) => {
                let count = self.below(3);
                Value::List((0..count).map(|_| self.value(entry.shape, depth + 1)).collect())
            }
            Kind::Map(_, entry) => {
                let count = self.below(3);
                // Keys in order, as a typed map gives them back.
                let keys = (0..count).map(|at| format!("key{at}"));
                Value::Map(keys.map(|key| (key, self.value(entry.shape, depth + 1))).collect())
            }
            Kind::String => Value::Str(self.text()),
            Kind::Integer => Value::Int(self.below(1 << 31) as i64 - 5),
            Kind::Long => Value::Int((self.below(u64::MAX) << 31) as i64),
            Kind::Timestamp => Value::Int(self.below(1 << 31) as i64 * 1000 + 7),
            Kind::Float => Value::Float(self.below(1000) as f64 / 8.0),
            Kind::Boolean => Value::Bool(self.below(2) == 1),
            Kind::Blob => Value::Blob(self.text().into()),
            Kind::Document => Value::Doc(serde_json::json!({ "a": [1, null, self.text()] })),
        }
    }
}

fn check(model: &Model, id: ShapeId, typed: fn(Value) -> Value, seed: u64) -> Result<(), TestCaseError> {
    let value = Sampler { model, seed }.value(id, 0);
    prop_assert_eq!(&typed(value.clone()), &value);

    let mut body = Vec::new();
    json::write_value(model, id, None, &value, &mut body);
    let read = json::read(model, Some(id), &body).map_err(|fault| TestCaseError::fail(fault.to_string()))?;
    prop_assert_eq!(&read.value, &value);
    prop_assert!(read.unknown.is_empty());

    let mut body = Vec::new();
    let has_documents = model.shapes.iter().any(|shape| matches!(shape.kind, Kind::Document));
    if !has_documents {
        cbor::to_item(model, id, &value).write(&mut body);
        let read =
            cbor::read(model, Some(id), &body).map_err(|fault| TestCaseError::fail(fault.to_string()))?;
        prop_assert_eq!(&read.value, &value);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_operation_comes_back(seed in any::<u64>()) {
        for (service, operations) in OPERATIONS {
            let model = crate::model(service).unwrap();
            for (name, input, output) in operations {
                let operation = model.operation(name).unwrap();
                if let Some(shape) = operation.input {
                    check(model, shape, *input, seed)?;
                }
                if let Some(shape) = operation.output {
                    check(model, shape, *output, seed)?;
                }
            }
        }
    }

    /// Whatever is accepted can be typed: no request may make `FromValue` panic.
    #[test]
    fn any_form_is_answered(seed in any::<u64>()) {
        for (service, operations) in OPERATIONS.iter().filter(|(name, _)| crate::service(name).unwrap().has_actions()) {
            let model = crate::model(service).unwrap();
            for (name, input, _) in *operations {
                let operation = model.operation(name).unwrap();
                let form = any_form(model, operation.input, seed);
                let read = match *service {
                    "ec2" => protocol::query::read_dialect(model, operation, &form, Dialect::Ec2),
                    _ => protocol::query::read(model, operation, &form),
                };
                if let Ok(read) = read {
                    input(read.value);
                }
            }
        }
    }

    #[test]
    fn any_json_is_answered(seed in any::<u64>()) {
        for (service, operations) in OPERATIONS {
            let model = crate::model(service).unwrap();
            for (name, input, _) in operations {
                let Some(shape) = model.operation(name).unwrap().input else { continue };
                let mut sampler = Sampler { model, seed };
                let json = sampler.wrong_json(shape, 0);
                if let Ok(read) = json::read(model, Some(shape), json.to_string().as_bytes()) {
                    input(read.value);
                }
            }
        }
    }
}

/// Names that the operation has, put together at random.
fn any_form(model: &Model, input: Option<ShapeId>, seed: u64) -> protocol::form::Form {
    let mut names = vec!["member", "entry", "key", "value", "1", "2", "Key", "Value", "Name", ""];
    names.extend(model.members(input).iter().map(|member| member.wire_name()));
    let mut sampler = Sampler { model, seed };
    let mut one = || {
        let parts = 1 + sampler.below(4);
        let name: Vec<String> = (0..parts)
            .map(|_| {
                let name = names[sampler.below(names.len() as u64) as usize];
                name.chars().take(1).flat_map(char::to_uppercase).chain(name.chars().skip(1)).collect()
            })
            .collect();
        (name.join("."), sampler.text())
    };
    (0..12).map(|_| one()).collect()
}

impl Sampler<'_> {
    /// JSON of a shape in which now and then something is of another type.
    fn wrong_json(&mut self, id: ShapeId, depth: u32) -> serde_json::Value {
        use serde_json::json;
        match self.below(20) {
            0 => return json!(null),
            1 => return json!(self.text()),
            2 => return json!(self.below(100)),
            3 => return json!([null, {}]),
            4 => return json!({ "a": null, "b": {} }),
            _ => {}
        }
        let model = self.model;
        match &model.shape(id).kind {
            Kind::Structure(members) => {
                let mut fields = serde_json::Map::new();
                for member in members.iter().filter(|_| depth < 5) {
                    if self.below(4) == 0 {
                        fields
                            .insert(member.wire_name().to_string(), self.wrong_json(member.shape, depth + 1));
                    }
                }
                serde_json::Value::Object(fields)
            }
            Kind::List(entry) => json!([self.wrong_json(entry.shape, depth + 1)]),
            Kind::Map(_, entry) => json!({ "k": self.wrong_json(entry.shape, depth + 1) }),
            Kind::Boolean => json!(true),
            Kind::Integer | Kind::Long | Kind::Float | Kind::Timestamp => json!(1.5),
            _ => json!("YQ=="),
        }
    }
}
