//! The control state in memory that requests are answered from: a node, a default VPC, and one of each thing.

use std::net::Ipv4Addr;
use std::sync::{Mutex, OnceLock};

use aws::{BlobStore, Call, Caller, LogEvent, LogPage, LogQuery, LogStore, Secrets, Site};
use bytes::Bytes;
use state::node::{Capacity, Node};
use state::{Ids, Scope, Snapshot, TimeMs, Tx};
use wire::{Fault, Protocol, Route, Value};

/// 2023-11-14T22:13:20Z.
const NOW_MS: TimeMs = 1_700_000_000_000;

/// What the world is made of: service, operation, and the body of the request.
const MADE_BY: &[(&str, &str, &str)] = &[
    ("ecs", "CreateCluster", r#"{"clusterName":"default"}"#),
    (
        "ecs",
        "RegisterTaskDefinition",
        r#"{"family":"web","networkMode":"awsvpc","requiresCompatibilities":["FARGATE"],"cpu":"256","memory":"512",
            "containerDefinitions":[{"name":"web","image":"localhost:4566/web:1","portMappings":[{"containerPort":80}]}]}"#,
    ),
    (
        "ecs",
        "RegisterTaskDefinition",
        r#"{"family":"worker","containerDefinitions":[{"name":"worker","image":"web","memory":64,"cpu":16}]}"#,
    ),
    ("ecs", "CreateService", r#"{"serviceName":"worker","taskDefinition":"worker","desiredCount":1}"#),
    ("ecs", "RunTask", r#"{"taskDefinition":"worker"}"#),
    ("ecr", "CreateRepository", r#"{"repositoryName":"web"}"#),
    ("logs", "CreateLogGroup", r#"{"logGroupName":"/ecs/web"}"#),
    ("logs", "CreateLogStream", r#"{"logGroupName":"/ecs/web","logStreamName":"a"}"#),
    (
        "logs",
        "PutLogEvents",
        r#"{"logGroupName":"/ecs/web","logStreamName":"a","logEvents":[{"timestamp":1700000000000,"message":"ERROR it \"broke\""}]}"#,
    ),
    ("servicediscovery", "CreateHttpNamespace", r#"{"Name":"shop"}"#),
    ("elbv2", "CreateTargetGroup", "Name=web&Protocol=HTTP&Port=80&TargetType=ip&VpcId=VPCID"),
    ("elbv2", "CreateLoadBalancer", "Name=web&Subnets.member.1=SUBNETID&Subnets.member.2=OTHERSUBNETID"),
    (
        "elbv2",
        "CreateListener",
        "LoadBalancerArn=BALANCERARN&Protocol=HTTP&Port=80&DefaultActions.member.1.Type=forward&\
         DefaultActions.member.1.TargetGroupArn=GROUPARN",
    ),
    (
        "iam",
        "CreateRole",
        "RoleName=task&AssumeRolePolicyDocument={\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Principal\":{\"AWS\":\"*\"},\
         \"Action\":\"sts:AssumeRole\"}]}",
    ),
];

/// A state that changes as its calls say.
pub struct World {
    snapshot: Snapshot,
    ids: Ids,
    caller: Caller,
    site: Site,
    doors: Doors,
}

impl World {
    /// The state of [`MADE_BY`]. A copy is cheap: tables are shared.
    pub fn new() -> World {
        static MADE: OnceLock<Snapshot> = OnceLock::new();
        let mut world = World::over(MADE.get_or_init(World::make).clone());
        world.ids = Ids::new(2);
        world
    }

    fn over(snapshot: Snapshot) -> World {
        let scope = Scope::new("000000000000", "us-east-1");
        World {
            snapshot,
            ids: Ids::new(1),
            caller: Caller {
                arn: scope.iam_arn("root"),
                user_id: scope.account.clone(),
                access_key: "test".into(),
                scope,
            },
            site: Site {
                endpoint: "http://localhost:4566".into(),
                registry_host: "localhost:4566".into(),
                host_networks: Vec::new(),
            },
            doors: Doors::default(),
        }
    }

    fn make() -> Snapshot {
        let mut world = World::over(Snapshot::default());
        let mut tx = Tx::new(world.snapshot.clone());
        tx.put(node());
        plan::network::ensure_default_vpc(&mut tx, &mut world.ids, &world.caller.scope, &[], NOW_MS);
        world.snapshot = tx.finish().0;
        for (service, operation, body) in MADE_BY {
            let body = world.named(body);
            let answer = world.made(service, operation, &body);
            answer.unwrap_or_else(|fault| panic!("{operation} {body}: {fault}"));
        }
        world.snapshot
    }

    /// A text in which words in capitals stand for ids that are not known before they are made.
    pub fn named(&self, text: &str) -> String {
        let state = &self.snapshot;
        let mut subnets: Vec<String> = state.subnets.iter().map(|(_, subnet)| subnet.id.clone()).collect();
        subnets.sort();
        let ids = [
            ("VPCID", state.vpcs.iter().map(|(_, vpc)| vpc.id.clone()).next()),
            ("OTHERSUBNETID", subnets.get(1).cloned()),
            ("SUBNETID", subnets.first().cloned()),
            ("BALANCERARN", state.load_balancers.iter().map(|(_, it)| it.arn.clone()).next()),
            ("LISTENERARN", state.listeners.iter().map(|(_, it)| it.arn.clone()).next()),
            ("GROUPARN", state.target_groups.iter().map(|(_, it)| it.arn.clone()).next()),
        ];
        ids.into_iter().fold(text.to_owned(), |text, (word, id)| match id {
            Some(id) if text.contains(word) => text.replace(word, &id),
            _ => text,
        })
    }

    fn made(&mut self, service: &str, operation: &str, body: &str) -> Result<Value, Fault> {
        let model = wire::model(service).expect("a service");
        let operation = model.operation(operation).expect("an operation");
        let form = wire::service(service).is_some_and(|service| service.has_actions());
        let route =
            Route { model, operation, protocol: if form { Protocol::Query } else { Protocol::Json11 } };
        let (parts, ()) = http::Request::post("/").body(()).expect("a request").into_parts();
        let input = route.read(&parts, &Bytes::copy_from_slice(body.as_bytes()))?;
        self.call(service, &operation.name, input.value)
    }

    /// Handles an operation. A refused one changes nothing; after another all is in order.
    pub fn call(&mut self, service: &str, operation: &str, input: Value) -> Result<Value, Fault> {
        let Some(handler) = aws::find(service, operation) else {
            return Err(Fault::new("UnknownOperationException", "not served"));
        };
        let mut tx = Tx::new(self.snapshot.clone());
        let mut call = Call {
            tx: &mut tx,
            ids: &mut self.ids,
            now_ms: NOW_MS,
            caller: &self.caller,
            site: &self.site,
            logs: &self.doors,
            blobs: &self.doors,
            secrets: &self.doors,
        };
        let answer = handler(&mut call, input)?;
        if !tx.is_empty() {
            self.snapshot = tx.finish().0;
            self.snapshot.revision += 1;
            assert_eq!(state::check::check(&self.snapshot), Vec::<String>::new(), "after {operation}");
        }
        Ok(answer.get())
    }
}

fn node() -> Node {
    Node {
        id: "0123456789abcdef0123456789abcdef".into(),
        hostname: "here".into(),
        capacity: Capacity { cpu_units: 4096, memory_mib: 8192 },
        cpu_physical_units: 4096,
        availability_zone: "us-east-1a".into(),
        cpu_architecture: "X86_64".into(),
        address: Ipv4Addr::new(192, 0, 2, 1).into(),
        silent_since_ms: None,
        registered_at_ms: NOW_MS,
    }
}

/// Two log events, no blobs, credentials without a secret.
#[derive(Default)]
struct Doors {
    uploads: Mutex<u64>,
}

impl LogStore for Doors {
    fn append(&self, _: &str, _: &str, _: &[(TimeMs, String)], _: TimeMs) -> Result<(), Fault> {
        Ok(())
    }

    fn read(&self, query: &LogQuery) -> Result<LogPage, Fault> {
        let event = |message: &str, id: &str| LogEvent {
            stream: "a".into(),
            timestamp_ms: NOW_MS,
            ingestion_ms: NOW_MS,
            message: message.into(),
            id: id.into(),
        };
        let mut events = vec![event("ERROR it \"broke\"", "1"), event("all is well: 100 %", "2")];
        events.truncate(query.limit);
        Ok(LogPage { events, ..LogPage::default() })
    }

    fn scan(&self, query: &LogQuery) -> Result<LogPage, Fault> {
        self.read(query)
    }

    fn delete(&self, _: &str, _: &str) -> Result<(), Fault> {
        Ok(())
    }

    fn stats(&self, _: &str, _: &str) -> (Option<TimeMs>, Option<TimeMs>, Option<TimeMs>, u64) {
        (Some(NOW_MS), Some(NOW_MS), Some(NOW_MS), 34)
    }
}

impl BlobStore for Doors {
    fn size(&self, digest: &str) -> Option<u64> {
        digest.ends_with('a').then_some(2)
    }

    fn begin(&self) -> Result<String, Fault> {
        let mut uploads = self.uploads.lock().expect("no call panics and goes on");
        *uploads += 1;
        Ok(format!("upload-{uploads}"))
    }

    fn append(&self, _: &str, offset: u64, bytes: &[u8]) -> Result<u64, Fault> {
        Ok(offset.saturating_add(bytes.len() as u64))
    }

    fn finish(&self, _: &str, _: &str) -> Result<u64, Fault> {
        Ok(2)
    }
}

impl Secrets for Doors {
    fn issue(&self, caller_arn: &str, scope: &Scope, expires_ms: TimeMs) -> (String, String, String) {
        ("ASIA".into(), format!("{}/{expires_ms}", scope.account), caller_arn.into())
    }

    fn registry_token(&self, _: &Caller, _: TimeMs) -> String {
        "token".into()
    }
}
