//! A world in memory for tests of operations: requests and answers are JSON with the members' names in the model, as
//! the CLI shows them; times are milliseconds. ECS and ECR have worlds of their own. The feature `testing` lends it to
//! other crates.

mod doors;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};
use state::node::{Capacity, Node};
use state::{Ids, Scope, Snapshot, TimeMs, Tx};
use wire::model::{Kind, Model, ShapeId};
use wire::{Fault, Value};

pub use self::doors::Doors;
use crate::{Call, Caller, Site};

/// The world of one test: one caller, one node, a default VPC. A copy is cheap: tables are shared.
#[derive(Clone)]
pub struct World {
    /// The state.
    pub snapshot: Snapshot,
    /// The clock.
    pub now_ms: TimeMs,
    /// Who calls.
    pub caller: Caller,
    /// Where it is.
    pub site: Site,
    service: &'static str,
    ids: Ids,
    doors: Doors,
}

impl World {
    /// A world whose calls go to a service.
    pub fn new(service: &'static str) -> World {
        let scope = Scope::new("000000000000", "us-east-1");
        let mut world = World {
            snapshot: Snapshot::default(),
            now_ms: 1_700_000_000_000,
            caller: Caller {
                arn: scope.iam_arn("root"),
                user_id: scope.account.clone(),
                access_key: "test".into(),
                scope: scope.clone(),
            },
            site: Site {
                endpoint: "http://localhost:4566".into(),
                registry_host: "localhost:4566".into(),
                host_networks: Vec::new(),
            },
            service,
            ids: Ids::new(1),
            doors: Doors::default(),
        };
        world.write(|tx, ids, now_ms| {
            tx.put(node(now_ms));
            plan::network::ensure_default_vpc(tx, ids, &scope, &[], now_ms);
        });
        world
    }

    /// How many pages of log events were searched so far.
    pub fn scans(&self) -> usize {
        self.doors.scans()
    }

    /// Changes the state directly.
    pub fn write<A>(&mut self, change: impl FnOnce(&mut Tx, &mut Ids, TimeMs) -> A) -> A {
        let mut tx = Tx::new(self.snapshot.clone());
        let answer = change(&mut tx, &mut self.ids, self.now_ms);
        self.snapshot = tx.finish().0;
        self.snapshot.revision += 1;
        answer
    }

    /// Calls an operation as a client does: read, validated, handled, written. A refused call writes nothing.
    pub fn call_of(&mut self, service: &str, operation: &str, input: Json) -> Result<Json, Fault> {
        let model = wire::model(service).expect("a service");
        let known = model.operation(operation).unwrap_or_else(|| panic!("{operation} is not in the model"));
        let input = known.input.map_or(Value::Null, |shape| read(model, shape, input));
        wire::validate::validate(model, known.input, &input)?;
        let output = self.handle(service, operation, input)?;
        Ok(known.output.map_or(Json::Null, |shape| write(model, shape, output)))
    }

    /// Handles a call that was read and validated. A refused one writes nothing; after another all is in order.
    pub fn handle(&mut self, service: &str, operation: &str, input: Value) -> Result<Value, Fault> {
        let handler = crate::find(service, operation).unwrap_or_else(|| panic!("{operation} is not served"));
        let mut tx = Tx::new(self.snapshot.clone());
        let mut call = Call {
            tx: &mut tx,
            ids: &mut self.ids,
            now_ms: self.now_ms,
            caller: &self.caller,
            site: &self.site,
            logs: &self.doors,
            blobs: &self.doors,
            secrets: &self.doors,
        };
        let output = handler(&mut call, input)?;
        if !tx.is_empty() {
            self.snapshot = tx.finish().0;
            self.snapshot.revision += 1;
            assert_eq!(state::check::check(&self.snapshot), Vec::<String>::new(), "after {operation}");
        }
        Ok(output.get())
    }

    /// A call of the world's service that succeeds.
    pub fn ok(&mut self, operation: &str, input: Json) -> Json {
        self.ok_of(self.service, operation, input)
    }

    /// A call of any service that succeeds.
    pub fn ok_of(&mut self, service: &str, operation: &str, input: Json) -> Json {
        self.call_of(service, operation, input).unwrap_or_else(|fault| panic!("{operation}: {fault}"))
    }

    /// A call of the world's service that is refused: `Code: message`.
    pub fn err(&mut self, operation: &str, input: Json) -> String {
        match self.call_of(self.service, operation, input) {
            Err(fault) => fault.to_string(),
            Ok(answer) => panic!("{operation} answered {answer}"),
        }
    }

    /// Calls that are refused, each with what it is told.
    pub fn refused(&mut self, cases: &[(&str, Json, &str)]) {
        for (operation, input, expected) in cases {
            assert_eq!(self.err(operation, input.clone()), *expected, "{operation} {input}");
        }
    }

    /// Every item of a paged list, fetched in pages; each page must keep to the limit.
    pub fn pages(
        &mut self,
        operation: &str,
        input: Json,
        [limit, token, next, items]: [&str; 4],
        size: usize,
    ) -> Vec<Json> {
        let mut all = Vec::new();
        let mut input = input;
        input[limit] = json!(size);
        for _ in 0..1000 {
            let page = self.ok(operation, input.clone());
            let found = page[items].as_array().cloned().unwrap_or_default();
            assert!(found.len() <= size, "{operation} gave {} items for {size}", found.len());
            all.extend(found);
            match page.get(next).and_then(Json::as_str) {
                Some(next) => input[token] = json!(next),
                None => return all,
            }
        }
        panic!("the pages of {operation} do not end");
    }

    /// The default VPC's id.
    pub fn vpc(&self) -> String {
        let found = self.snapshot.vpcs.iter().find(|(_, vpc)| vpc.is_default);
        found.expect("a default VPC").1.id.clone()
    }

    /// The ids of the default VPC's subnets, by zone.
    pub fn subnets(&self) -> Vec<String> {
        let mut all: Vec<_> = self.snapshot.subnets.by_index("vpc", &self.vpc()).cloned().collect();
        all.sort_by(|a, b| a.availability_zone.cmp(&b.availability_zone));
        all.iter().map(|subnet| subnet.id.clone()).collect()
    }
}

fn node(now_ms: TimeMs) -> Node {
    Node {
        id: "0123456789abcdef0123456789abcdef".into(),
        hostname: "here".into(),
        capacity: Capacity { cpu_units: 4096, memory_mib: 8192 },
        cpu_physical_units: 4096,
        availability_zone: "us-east-1a".into(),
        cpu_architecture: "X86_64".into(),
        address: std::net::Ipv4Addr::new(192, 0, 2, 1).into(),
        silent_since_ms: None,
        registered_at_ms: now_ms,
    }
}

/// A value of a shape, from JSON with the model's names.
fn read(model: &Model, id: ShapeId, json: Json) -> Value {
    let shape = model.shape(id);
    match (&shape.kind, json) {
        (_, Json::Null) => Value::Null,
        (Kind::Structure(members), Json::Object(mut fields)) => {
            let mut one =
                |name: &str, shape| fields.remove(name).map_or(Value::Null, |json| read(model, shape, json));
            let values = members.iter().map(|member| one(&member.name, member.shape)).collect();
            assert!(fields.is_empty(), "{} has no members {fields:?}", shape.name);
            Value::Struct(values)
        }
        (Kind::List(entry), Json::Array(items)) => {
            Value::List(items.into_iter().map(|item| read(model, entry.shape, item)).collect())
        }
        (Kind::Map(_, entry), Json::Object(fields)) => {
            Value::Map(fields.into_iter().map(|(key, item)| (key, read(model, entry.shape, item))).collect())
        }
        (Kind::String, Json::String(text)) => Value::Str(text),
        (Kind::Blob, Json::String(text)) => Value::Blob(STANDARD.decode(text).expect("base64").into()),
        (Kind::Boolean, Json::Bool(truth)) => Value::Bool(truth),
        (Kind::Integer | Kind::Long | Kind::Timestamp, Json::Number(number)) => {
            Value::Int(number.as_i64().expect("a whole number"))
        }
        (Kind::Float, Json::Number(number)) => Value::Float(number.as_f64().expect("a number")),
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
        (_, Value::Null) => Json::Null,
        (_, Value::Bool(truth)) => json!(truth),
        (_, Value::Int(number)) => json!(number),
        (_, Value::Float(number)) => json!(number),
        (_, Value::Str(text)) => json!(text),
        (_, other) => panic!("{other:?} is not of its shape"),
    }
}
