//! A state in memory with one node, a default VPC and a cluster, an agent that does what it is told, and calls as JSON.

use plan::reconcile::{Agenda, Dirty, pass};
use serde_json::{Value as Json, json};
use state::assignment::{AgentDesired, Assignment, Report};
use state::ec2::Subnet;
use state::group::{ContainerState, Observed, Phase, StopCause};
use state::node::{Capacity, Node};
use state::{Ids, Scope, Snapshot, TimeMs, Tx};
use wire::Fault;
use wire::protocol::json;

use crate::testing::Doors;
use crate::{Call, Caller, Site};

/// The world of one test.
pub struct World {
    /// The state.
    pub snapshot: Snapshot,
    /// The clock.
    pub now_ms: TimeMs,
    ids: Ids,
    caller: Caller,
    site: Site,
    doors: Doors,
}

/// The node's id.
pub const NODE: &str = "0123456789abcdef0123456789abcdef";

impl World {
    /// A node with 4 cores and 8 GiB, the default VPC, and the cluster `default`.
    pub fn new() -> World {
        let scope = Scope::new("000000000000", "us-east-1");
        let mut world = World {
            snapshot: Snapshot::default(),
            now_ms: 1_700_000_000_000,
            ids: Ids::new(1),
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
            doors: Doors::default(),
        };
        world.write(|tx, ids, now_ms| {
            tx.put(Node {
                id: NODE.into(),
                hostname: "here".into(),
                capacity: Capacity { cpu_units: 4096, memory_mib: 8192 },
                cpu_physical_units: 4096,
                availability_zone: "us-east-1a".into(),
                cpu_architecture: "X86_64".into(),
                address: "192.0.2.1".parse().unwrap(),
                silent_since_ms: None,
                registered_at_ms: now_ms,
            });
            plan::network::ensure_default_vpc(tx, ids, &scope, &[], now_ms);
        });
        world.ok("CreateCluster", json!({}));
        world
    }

    /// Changes the state directly.
    pub fn write<A>(&mut self, change: impl FnOnce(&mut Tx, &mut Ids, TimeMs) -> A) -> A {
        let mut tx = Tx::new(self.snapshot.clone());
        let answer = change(&mut tx, &mut self.ids, self.now_ms);
        let (mut snapshot, _, _) = tx.finish();
        snapshot.revision += 1;
        self.snapshot = snapshot;
        assert_eq!(state::check::check(&self.snapshot), Vec::<String>::new());
        answer
    }

    /// Calls an operation as a client does: read, validated, handled, written.
    pub fn call(&mut self, operation: &str, input: Json) -> Result<Json, Fault> {
        let model = wire::model("ecs").unwrap();
        let known = model.operation(operation).unwrap();
        let read = json::read_value(model, known.input.unwrap(), None, input)?;
        assert_eq!(read.unknown, Vec::<String>::new(), "unknown members in the request of {operation}");
        wire::validate::validate(model, known.input, &read.value)?;
        self.handle(operation, read.value)
    }

    fn handle(&mut self, operation: &str, input: wire::Value) -> Result<Json, Fault> {
        let handler = crate::find("ecs", operation).unwrap_or_else(|| panic!("{operation} is not served"));
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
        let (mut snapshot, _, _) = tx.finish();
        snapshot.revision += 1;
        self.snapshot = snapshot;
        assert_eq!(state::check::check(&self.snapshot), Vec::<String>::new(), "after {operation}");
        let model = wire::model("ecs").unwrap();
        let mut bytes = Vec::new();
        let shape = model.operation(operation).unwrap().output.unwrap();
        json::write_value(model, shape, None, &output.get(), &mut bytes);
        Ok(serde_json::from_slice(&bytes).unwrap())
    }

    /// A call that succeeds.
    pub fn ok(&mut self, operation: &str, input: Json) -> Json {
        self.call(operation, input).unwrap_or_else(|fault| panic!("{operation}: {fault}"))
    }

    /// A call that fails: `Code: message`.
    pub fn err(&mut self, operation: &str, input: Json) -> String {
        let before = self.snapshot.revision;
        match self.call(operation, input) {
            Err(fault) => {
                assert_eq!(self.snapshot.revision, before, "a refused call writes nothing");
                fault.to_string()
            }
            Ok(answer) => panic!("{operation} answered {answer}"),
        }
    }

    /// The default subnets' ids.
    pub fn subnets(&self) -> Vec<String> {
        self.snapshot
            .subnets
            .iter()
            .map(|(_, subnet): (_, &std::sync::Arc<Subnet>)| subnet.id.clone())
            .collect()
    }

    /// A network configuration in the default VPC.
    pub fn network(&self) -> Json {
        json!({"awsvpcConfiguration": {"subnets": self.subnets()}})
    }

    /// Registers a Fargate task definition of one container `app` with port 80.
    pub fn fargate(&mut self, family: &str) -> String {
        let answer = self.ok(
            "RegisterTaskDefinition",
            json!({
                "family": family, "requiresCompatibilities": ["FARGATE"], "networkMode": "awsvpc",
                "cpu": "256", "memory": "512",
                "containerDefinitions": [
                    {"name": "app", "image": "busybox", "portMappings": [{"containerPort": 80}]}
                ],
            }),
        );
        answer["taskDefinition"]["taskDefinitionArn"].as_str().unwrap().to_owned()
    }

    /// Runs controllers and the agent until nothing changes any more, nor will within a minute.
    pub fn settle(&mut self) {
        for _ in 0..100 {
            let before = self.moving_parts();
            let next = self.step();
            if before != self.moving_parts() {
                continue;
            }
            match next.filter(|at| *at <= self.now_ms + 60_000) {
                Some(at) => self.now_ms = self.now_ms.max(at),
                None => return,
            }
        }
        panic!("the world does not come to rest");
    }

    /// Runs controllers and the agent once, a second later. When the controllers want to run again.
    pub fn step(&mut self) -> Option<i64> {
        self.now_ms += 1_000;
        let mut agenda = Agenda::default();
        self.write(|tx, ids, now_ms| pass(tx, ids, now_ms, &Dirty::everything(), &mut agenda));
        for assignment in plan::assignments(&self.snapshot, NODE) {
            let observed = obey(&assignment, self.now_ms);
            self.report(&assignment.key, observed);
        }
        agenda.next_at_ms()
    }

    fn moving_parts(&self) -> String {
        let groups: Vec<_> = self.snapshot.groups.iter().collect();
        let services: Vec<_> = self.snapshot.services.iter().collect();
        format!("{groups:?} {services:?} {}", self.snapshot.task_definitions.len())
    }

    /// The agent tells what it saw.
    pub fn report(&mut self, key: &str, observed: Observed) {
        let report = Report { key: key.to_owned(), observed };
        self.write(|tx, _, now_ms| plan::reports::apply(tx, NODE, &report, now_ms)).unwrap();
    }
}

/// What an agent sees after doing at once what it was told.
fn obey(assignment: &Assignment, now_ms: TimeMs) -> Observed {
    let mut seen = assignment.observed.clone();
    match &assignment.desired {
        AgentDesired::Run if seen.phase < Phase::Running && seen.stop.is_none() => {
            seen.phase = Phase::Running;
            seen.connectivity_at_ms = Some(now_ms);
            seen.pull_started_at_ms = Some(now_ms);
            seen.pull_stopped_at_ms = Some(now_ms);
            seen.started_at_ms = Some(now_ms);
            for container in &mut seen.containers {
                container.state = ContainerState::Running { since_ms: now_ms };
                container.runtime_id = Some(format!("{}-1", assignment.id));
            }
        }
        AgentDesired::Run => {}
        AgentDesired::Stop(_) => end(&mut seen, now_ms, 143, None),
    }
    seen
}

/// All containers exit and nothing is left.
pub fn end(seen: &mut Observed, now_ms: TimeMs, code: i32, cause: Option<StopCause>) {
    seen.phase = Phase::Gone;
    seen.stop = seen.stop.take().or(cause);
    seen.stopping_at_ms = Some(now_ms);
    seen.execution_stopped_at_ms = Some(now_ms);
    seen.stopped_at_ms = Some(now_ms);
    for container in &mut seen.containers {
        container.state = ContainerState::Exited { code: Some(code), reason: None, at_ms: now_ms };
    }
}
