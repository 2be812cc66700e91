//! A world in memory for tests of operations: requests and answers are JSON with the members' names in the model, as
//! the CLI shows them; times are milliseconds. ECS and ECR have worlds of their own.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::{Value as Json, json};
use state::node::{Capacity, Node};
use state::{Ids, Scope, Snapshot, TimeMs, Tx};
use wire::model::{Kind, Model, ShapeId};
use wire::{Fault, Value};

use crate::{BlobStore, Call, Caller, LogEvent, LogPage, LogQuery, LogStore, Secrets, Site};

/// The world of one test: one caller, one node, a default VPC.
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
        *self.doors.scans.lock().unwrap()
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
        self.snapshot = tx.finish().0;
        self.snapshot.revision += 1;
        assert_eq!(state::check::check(&self.snapshot), Vec::<String>::new(), "after {operation}");
        Ok(known.output.map_or(Json::Null, |shape| write(model, shape, output.get())))
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

/// Log events in memory; no blobs; credentials that name what they were issued for.
#[derive(Default)]
struct Doors {
    events: Mutex<BTreeMap<(String, String), Vec<LogEvent>>>,
    scans: Mutex<usize>,
}

impl Doors {
    /// The events of some streams in a time range, oldest first.
    fn matching(&self, query: &LogQuery) -> Vec<LogEvent> {
        let all = self.events.lock().unwrap();
        let in_range = |event: &&LogEvent| {
            query.start_ms.is_none_or(|start| event.timestamp_ms >= start)
                && query.end_ms.is_none_or(|end| event.timestamp_ms < end)
        };
        let of = |stream: &String| all.get(&(query.group.clone(), stream.clone())).into_iter().flatten();
        let mut found: Vec<LogEvent> = query.streams.iter().flat_map(of).filter(in_range).cloned().collect();
        found.sort_by(|a, b| (a.timestamp_ms, &a.id).cmp(&(b.timestamp_ms, &b.id)));
        found
    }
}

impl LogStore for Doors {
    fn append(
        &self,
        group: &str,
        stream: &str,
        events: &[(TimeMs, String)],
        now_ms: TimeMs,
    ) -> Result<(), Fault> {
        let mut all = self.events.lock().unwrap();
        let count: usize = all.values().map(Vec::len).sum();
        let kept = all.entry((group.to_owned(), stream.to_owned())).or_default();
        for (at, (timestamp_ms, message)) in events.iter().enumerate() {
            kept.push(LogEvent {
                stream: stream.to_owned(),
                timestamp_ms: *timestamp_ms,
                ingestion_ms: now_ms,
                message: message.clone(),
                id: format!("{:09}", count + at),
            });
        }
        Ok(())
    }

    fn read(&self, query: &LogQuery) -> Result<LogPage, Fault> {
        let all = self.matching(query);
        let at = query.token.as_ref().map(|token| token.parse::<usize>().unwrap().min(all.len()));
        let (start, end) = match (at, query.backward) {
            (None, true) => (all.len().saturating_sub(query.limit), all.len()),
            (at, _) => (at.unwrap_or(0), (at.unwrap_or(0) + query.limit).min(all.len())),
        };
        Ok(LogPage {
            events: all[start..end].to_vec(),
            forward_token: Some(end.to_string()),
            backward_token: Some(start.to_string()),
        })
    }

    fn scan(&self, query: &LogQuery) -> Result<LogPage, Fault> {
        let all = self.matching(query);
        *self.scans.lock().unwrap() += 1;
        let behind = |token: &String| 1 + all.iter().position(|event| event.id == *token).unwrap();
        let start = query.token.as_ref().map_or(0, behind);
        let end = (start + query.limit).min(all.len());
        let forward_token = (end < all.len()).then(|| all[end - 1].id.clone());
        Ok(LogPage { events: all[start..end].to_vec(), forward_token, backward_token: None })
    }

    fn delete(&self, group: &str, stream: &str) -> Result<(), Fault> {
        self.events.lock().unwrap().remove(&(group.to_owned(), stream.to_owned()));
        Ok(())
    }

    fn stats(&self, group: &str, stream: &str) -> (Option<TimeMs>, Option<TimeMs>, Option<TimeMs>, u64) {
        let all = self.events.lock().unwrap();
        let Some(events) = all.get(&(group.to_owned(), stream.to_owned())) else {
            return (None, None, None, 0);
        };
        let times = || events.iter().map(|event| event.timestamp_ms);
        let bytes = events.iter().map(|event| event.message.len() as u64).sum();
        (times().min(), times().max(), events.iter().map(|event| event.ingestion_ms).max(), bytes)
    }
}

impl BlobStore for Doors {
    fn size(&self, _: &str) -> Option<u64> {
        unreachable!("no service here has blobs")
    }
    fn begin(&self) -> Result<String, Fault> {
        unreachable!("no service here has blobs")
    }
    fn append(&self, _: &str, _: u64, _: &[u8]) -> Result<u64, Fault> {
        unreachable!("no service here has blobs")
    }
    fn finish(&self, _: &str, _: &str) -> Result<u64, Fault> {
        unreachable!("no service here has blobs")
    }
}

impl Secrets for Doors {
    fn issue(&self, caller_arn: &str, scope: &Scope, expires_ms: TimeMs) -> (String, String, String) {
        ("ASIA".into(), format!("{}/{expires_ms}", scope.account), caller_arn.into())
    }
    fn registry_token(&self, _: &Caller, _: TimeMs) -> String {
        unreachable!("no service here gives registry tokens")
    }
}
