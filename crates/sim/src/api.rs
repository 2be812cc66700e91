//! The API as its callers see it: a call is read by the model, validated, handled, and written if it is not refused.

use aws::{BlobStore, Call, Caller, LogPage, LogQuery, LogStore, Secrets, Site};
use serde_json::{Value as Json, json};
use state::{Scope, TimeMs};
use wire::model::{Kind, Model, ShapeId};
use wire::{Fault, Value};

use crate::world::World;

/// Who calls, and where.
#[derive(Debug)]
pub struct Api {
    caller: Caller,
    site: Site,
}

impl Api {
    /// The root of an account, at the usual endpoint.
    pub fn new(scope: &Scope) -> Api {
        let caller = Caller {
            arn: scope.iam_arn("root"),
            user_id: scope.account.clone(),
            access_key: "test".into(),
            scope: scope.clone(),
        };
        let site = Site {
            endpoint: "http://localhost:4566".into(),
            registry_host: "localhost:4566".into(),
            host_networks: Vec::new(),
        };
        Api { caller, site }
    }
}

impl World {
    /// Calls an operation; its answer, or why it was refused. A refused call writes nothing.
    pub fn call(&mut self, service: &str, operation: &str, input: &Json) -> Result<Json, Fault> {
        let model = wire::model(service).expect("a service of the table");
        let known = model.operation(operation).expect("an operation of the model");
        let handler = aws::find(service, operation).expect("an operation that is served");
        let value = known.input.map_or(Value::Null, |shape| read(model, shape, input));
        wire::validate::validate(model, known.input, &value)?;
        let api = self.api.take().expect("calls do not nest");
        let now_ms = self.now_ms;
        let answer = self.try_commit(|tx, ids| {
            let (caller, site) = (&api.caller, &api.site);
            let mut call = Call { tx, ids, now_ms, caller, site, logs: &Shut, blobs: &Shut, secrets: &Shut };
            handler(&mut call, value)
        });
        self.api = Some(api);
        answer.map(|output| known.output.map_or(Json::Null, |shape| write(model, shape, output.get())))
    }

    /// A call that the world is built with: it must be taken.
    pub fn built(&mut self, service: &str, operation: &str, input: &Json) -> Json {
        let answer = self.call(service, operation, input);
        answer.unwrap_or_else(|fault| panic!("{operation} {input}: {fault}"))
    }
}

/// A value of a shape, from JSON with the model's names.
fn read(model: &Model, id: ShapeId, json: &Json) -> Value {
    let shape = model.shape(id);
    match (&shape.kind, json) {
        (_, Json::Null) => Value::Null,
        (Kind::Structure(members), Json::Object(fields)) => {
            let known = |name: &String| members.iter().any(|member| member.name == *name);
            assert!(fields.keys().all(known), "{} has not all members of {json}", shape.name);
            let one =
                |name: &str, shape| fields.get(name).map_or(Value::Null, |json| read(model, shape, json));
            Value::Struct(members.iter().map(|member| one(&member.name, member.shape)).collect())
        }
        (Kind::List(entry), Json::Array(items)) => {
            Value::List(items.iter().map(|item| read(model, entry.shape, item)).collect())
        }
        (Kind::Map(_, entry), Json::Object(fields)) => Value::Map(
            fields.iter().map(|(key, item)| (key.clone(), read(model, entry.shape, item))).collect(),
        ),
        (Kind::String, Json::String(text)) => Value::Str(text.clone()),
        (Kind::Boolean, Json::Bool(truth)) => Value::Bool(*truth),
        (Kind::Integer | Kind::Long, Json::Number(number)) => {
            Value::Int(number.as_i64().expect("a whole number"))
        }
        (_, other) => panic!("{} cannot be {other}", shape.name),
    }
}

/// JSON with the model's names, from a value of a shape. Absent members are left out.
fn write(model: &Model, id: ShapeId, value: Value) -> Json {
    match (&model.shape(id).kind, value) {
        (Kind::Structure(members), Value::Struct(fields)) => {
            let shown = members.iter().zip(fields).filter(|(_, field)| !field.is_null());
            Json::Object(shown.map(|(m, field)| (m.name.clone(), write(model, m.shape, field))).collect())
        }
        (Kind::List(entry), Value::List(items)) => {
            items.into_iter().map(|item| write(model, entry.shape, item)).collect()
        }
        (Kind::Map(_, entry), Value::Map(fields)) => Json::Object(
            fields.into_iter().map(|(key, item)| (key, write(model, entry.shape, item))).collect(),
        ),
        (_, Value::Bool(truth)) => json!(truth),
        (_, Value::Int(number)) => json!(number),
        (_, Value::Float(number)) => json!(number),
        (_, Value::Str(text)) => json!(text),
        (_, _) => Json::Null,
    }
}

/// Doors that no operation used here opens.
struct Shut;

impl LogStore for Shut {
    fn append(&self, _: &str, _: &str, _: &[(TimeMs, String)], _: TimeMs) -> Result<(), Fault> {
        unreachable!("no logs are written")
    }
    fn read(&self, _: &LogQuery) -> Result<LogPage, Fault> {
        unreachable!("no logs are read")
    }
    fn scan(&self, _: &LogQuery) -> Result<LogPage, Fault> {
        unreachable!("no logs are read")
    }
    fn delete(&self, _: &str, _: &str) -> Result<(), Fault> {
        unreachable!("no logs are deleted")
    }
    fn stats(&self, _: &str, _: &str) -> (Option<TimeMs>, Option<TimeMs>, Option<TimeMs>, u64) {
        unreachable!("no logs are described")
    }
}

impl BlobStore for Shut {
    fn size(&self, _: &str) -> Option<u64> {
        unreachable!("no images are stored")
    }
    fn begin(&self) -> Result<String, Fault> {
        unreachable!("no images are stored")
    }
    fn append(&self, _: &str, _: u64, _: &[u8]) -> Result<u64, Fault> {
        unreachable!("no images are stored")
    }
    fn finish(&self, _: &str, _: &str) -> Result<u64, Fault> {
        unreachable!("no images are stored")
    }
}

impl Secrets for Shut {
    fn issue(&self, _: &str, _: &Scope, _: TimeMs) -> (String, String, String) {
        unreachable!("no credentials are issued")
    }
    fn registry_token(&self, _: &Caller, _: TimeMs) -> String {
        unreachable!("no credentials are issued")
    }
}
