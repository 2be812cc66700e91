//! DescribeTasks, ListTasks, StopTask; what a task shows of failing.

use serde_json::{Value as Json, json};
use state::ContainerGroup;
use state::group::{ContainerState, NetworkBinding, StopCause, StopCode};

use super::members::stage;
use super::world::{World, end};

fn started(world: &mut World, with: Json) -> String {
    let mut input = json!({"taskDefinition": "ec2"});
    for (key, value) in with.as_object().unwrap() {
        input[key] = value.clone();
    }
    let answer = world.ok("RunTask", input);
    answer["tasks"][0]["taskArn"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
}

#[test]
fn lists_are_narrowed_by_every_filter() {
    let mut world = stage();
    let network = world.network();
    let a = started(&mut world, json!({"startedBy": "me"}));
    let b = started(
        &mut world,
        json!({"taskDefinition": "app", "launchType": "FARGATE", "networkConfiguration": network}),
    );
    world.settle();
    world.ok("StopTask", json!({"task": a}));
    let c = started(&mut world, json!({"cluster": "other"}));
    let instance = world.ok("ListContainerInstances", json!({}))["containerInstanceArns"][0].clone();
    let mut list = |input: Json| -> String {
        let answer = world.ok("ListTasks", input);
        let arns = answer["taskArns"].as_array().unwrap();
        let ids = arns.iter().map(|arn| arn.as_str().unwrap().rsplit('/').next().unwrap());
        ids.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(list(json!({})), b);
    assert_eq!(list(json!({"desiredStatus": "STOPPED"})), a);
    assert_eq!(list(json!({"desiredStatus": "PENDING"})), "");
    assert_eq!(list(json!({"desiredStatus": "STOPPED", "startedBy": "me"})), a);
    assert_eq!(list(json!({"startedBy": "you"})), "");
    assert_eq!(list(json!({"family": "app"})), b);
    assert_eq!(list(json!({"family": "ec2"})), "");
    assert_eq!(list(json!({"launchType": "EC2", "desiredStatus": "STOPPED"})), a);
    assert_eq!(list(json!({"launchType": "EC2"})), "");
    assert_eq!(list(json!({"containerInstance": instance})), "");
    assert_eq!(list(json!({"containerInstance": instance, "desiredStatus": "STOPPED"})), a);
    assert_eq!(list(json!({"cluster": "other"})), c);
    assert_eq!(
        world.err("ListTasks", json!({"serviceName": "none"})),
        "ServiceNotFoundException: Service not found."
    );
    let bad = world.err("ListTasks", json!({"nextToken": "zz"}));
    assert_eq!(bad, "InvalidParameterException: Invalid token");
}

#[test]
fn pages_of_tasks_hold_every_task_once() {
    let mut world = stage();
    let mut ids: Vec<String> = (0..7).map(|_| started(&mut world, json!({}))).collect();
    ids.sort();
    let mut seen = Vec::new();
    let mut token = Json::Null;
    loop {
        let answer = world.ok("ListTasks", json!({"maxResults": 3, "nextToken": token}));
        let arns = answer["taskArns"].as_array().unwrap();
        seen.extend(arns.iter().map(|arn| arn.as_str().unwrap().rsplit('/').next().unwrap().to_owned()));
        token = answer["nextToken"].clone();
        if token.is_null() {
            break;
        }
    }
    assert_eq!(seen, ids);
}

#[test]
fn what_is_not_there_is_missing_or_refused() {
    let mut world = stage();
    let id = "0123456789abcdef0123456789abcdef";
    let arn = format!("arn:aws:ecs:us-east-1:000000000000:task/default/{id}");
    let seen = world.ok("DescribeTasks", json!({"tasks": [id]}));
    assert_eq!(seen["failures"], json!([{"arn": arn, "reason": "MISSING"}]));
    // The ARN of a task names its cluster: from another it is not seen.
    let there = started(&mut world, json!({"cluster": "other"}));
    let arn = format!("arn:aws:ecs:us-east-1:000000000000:task/other/{there}");
    assert_eq!(world.ok("DescribeTasks", json!({"tasks": [arn]}))["failures"][0]["reason"], "MISSING");
    assert_eq!(world.ok("DescribeTasks", json!({"cluster": "other", "tasks": [arn]}))["failures"], json!([]));
    for (operation, input, expect) in [
        ("DescribeTasks", json!({"tasks": []}), "Tasks cannot be empty."),
        ("DescribeTasks", json!({"tasks": ["x".repeat(37)]}), "taskId longer than 36."),
        ("StopTask", json!({"task": id}), "The referenced task was not found."),
        ("StopTask", json!({"task": arn}), "The referenced task was not found."),
    ] {
        assert_eq!(world.err(operation, input), format!("InvalidParameterException: {expect}"));
    }
}

#[test]
fn stopping_twice_keeps_the_first_reason() {
    let mut world = stage();
    let id = started(&mut world, json!({}));
    world.settle();
    world.ok("StopTask", json!({"task": id}));
    world.ok("StopTask", json!({"task": id, "reason": "again"}));
    world.settle();
    let task = world.ok("StopTask", json!({"task": id}))["task"].clone();
    assert_eq!(
        (&task["stoppedReason"], &task["lastStatus"]),
        (&json!("Task stopped by user"), &json!("STOPPED"))
    );
}

#[test]
fn a_container_that_fails_is_shown_with_its_code_and_reason() {
    let mut world = stage();
    let id = started(&mut world, json!({}));
    world.settle();
    let key = ContainerGroup::key_of(&state::Scope::new("000000000000", "us-east-1"), "default", &id);
    let mut seen = world.snapshot.groups.get(&key).unwrap().observed.clone();
    seen.containers[0].bindings.push(NetworkBinding {
        bind_ip: "0.0.0.0".into(),
        container_port: 80,
        host_port: 32_768,
        protocol: "tcp".into(),
    });
    world.report(&key, seen.clone());
    let task = world.ok("DescribeTasks", json!({"tasks": [id]}))["tasks"][0].clone();
    let binding = json!({"bindIP": "0.0.0.0", "containerPort": 80, "hostPort": 32_768, "protocol": "tcp"});
    assert_eq!(task["containers"][0]["networkBindings"], json!([binding]));
    assert_eq!((&task["availabilityZone"], &task["attachments"]), (&json!("us-east-1a"), &json!([])));
    let cause = StopCause {
        code: StopCode::EssentialContainerExited,
        reason: "Essential container in task exited".into(),
        at_ms: world.now_ms,
    };
    end(&mut seen, world.now_ms, 137, Some(cause));
    seen.containers[0].state = ContainerState::Exited {
        code: Some(137),
        reason: Some("OutOfMemoryError: Container killed due to memory usage".into()),
        at_ms: world.now_ms,
    };
    world.report(&key, seen);
    let task = world.ok("DescribeTasks", json!({"tasks": [id]}))["tasks"][0].clone();
    assert_eq!(task["stopCode"], "EssentialContainerExited");
    assert_eq!(task["stoppedReason"], "Essential container in task exited");
    assert_eq!(task["containers"][0]["exitCode"], 137);
    assert_eq!(task["containers"][0]["reason"], "OutOfMemoryError: Container killed due to memory usage");
    assert_eq!(task["desiredStatus"], "STOPPED");
}

#[test]
fn a_task_that_ends_at_once_was_started() {
    let mut world = stage();
    let id = started(&mut world, json!({}));
    let key = ContainerGroup::key_of(&state::Scope::new("000000000000", "us-east-1"), "default", &id);
    let mut seen = world.snapshot.groups.get(&key).unwrap().observed.clone();
    seen.started_at_ms = Some(world.now_ms);
    let cause = StopCause {
        code: StopCode::EssentialContainerExited,
        reason: "Essential container in task exited".into(),
        at_ms: world.now_ms,
    };
    end(&mut seen, world.now_ms, 7, Some(cause));
    world.report(&key, seen);
    let task = world.ok("DescribeTasks", json!({"tasks": [id]}))["tasks"][0].clone();
    assert_eq!(task["containers"][0]["exitCode"], 7);
    for moment in ["createdAt", "startedAt", "stoppingAt", "executionStoppedAt", "stoppedAt"] {
        assert!(task[moment].is_number(), "{moment}");
    }
}
