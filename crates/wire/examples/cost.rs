//! What the wire costs: parsing the models, then routing, verifying, reading, validating and writing one RunTask.
//! Run with `cargo run --release -p wire --example cost`.

use bytes::Bytes;
use std::hint::black_box;
use std::time::Instant;
use wire::shapes::ecs;
use wire::{IntoValue, Route, Value, route, sigv4, typed};

const REQUEST: &str = r#"{
    "cluster": "shop", "taskDefinition": "cart-service:3", "count": 2, "launchType": "FARGATE",
    "startedBy": "ecs-svc/1234567890", "enableExecuteCommand": true, "propagateTags": "TASK_DEFINITION",
    "networkConfiguration": {"awsvpcConfiguration": {
        "subnets": ["subnet-0a1b2c3d", "subnet-4e5f6a7b"], "securityGroups": ["sg-01234567"], "assignPublicIp": "ENABLED"}},
    "overrides": {"containerOverrides": [{"name": "cart", "command": ["serve", "--port", "8080"], "memory": 512,
        "environment": [{"name": "LOG", "value": "debug"}, {"name": "REGION", "value": "us-east-1"}]}]},
    "tags": [{"key": "team", "value": "shop"}, {"key": "stage", "value": "test"}]
}"#;

fn run(input: ecs::RunTaskRequest) -> Result<ecs::RunTaskResponse, wire::Fault> {
    let task = |at: i64| ecs::Task {
        task_arn: Some(format!("arn:aws:ecs:us-east-1:000000000000:task/shop/{at:032x}")),
        cluster_arn: input.cluster.clone(),
        task_definition_arn: input.task_definition.clone(),
        overrides: input.overrides.clone(),
        created_at: Some(1_790_000_000_123),
        last_status: Some("PROVISIONING".into()),
        desired_status: Some("RUNNING".into()),
        containers: Some(vec![ecs::Container { name: Some("cart".into()), ..Default::default() }]),
        tags: input.tags.clone(),
        ..Default::default()
    };
    let tasks = (0..input.count.unwrap_or(1)).map(task).collect();
    Ok(ecs::RunTaskResponse { tasks: Some(tasks), failures: Some(vec![]) })
}

/// The mean time of one call in microseconds, over enough calls to be stable.
fn time(name: &str, mut call: impl FnMut()) {
    const CALLS: u32 = 20_000;
    call();
    let start = Instant::now();
    (0..CALLS).for_each(|_| call());
    println!("{name}: {:.1} µs", start.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS));
}

fn main() {
    for service in wire::services() {
        let start = Instant::now();
        black_box(service.model());
        println!("parse the model of {}: {:.2} ms", service.name, start.elapsed().as_secs_f64() * 1e3);
    }
    let body = Bytes::from(REQUEST);
    let head = http::Request::post("/").header("host", "localhost:4566");
    let head = head.header("content-type", "application/x-amz-json-1.1");
    let head = head.header("x-amz-target", "AmazonEC2ContainerServiceV20141113.RunTask");
    let (mut parts, ()) = head.body(()).expect("the request is well-formed").into_parts();
    sigv4::sign(&mut parts, &body, ("test", "test"), ("us-east-1", "ecs"), 0);
    let lookup = |_: &str| Some(sigv4::Credential { secret: "test".into(), ..Default::default() });
    let found: Route = route(&parts, &body).expect("RunTask has a route");
    let input: Value = found.read(&parts, &body).expect("the request is valid").value;
    let output = run(wire::FromValue::from_value(input.clone())).map(IntoValue::into_value);

    time("route", || drop(black_box(route(&parts, &body))));
    time("verify SigV4", || {
        drop(black_box(sigv4::verify(&parts, &body, sigv4::Expected::default(), &lookup, 0)));
    });
    time("read and validate", || drop(black_box(found.read(&parts, &body))));
    time("write", || drop(black_box(found.answer(&output, "id"))));
    time("read, validate, call the handler, write", || {
        let input = found.read(&parts, &body).expect("the request is valid");
        let result = typed::<ecs::op::RunTask>(input.value, run);
        drop(black_box(found.answer(&result, "id")));
    });
}
