//! Task definitions: what is shown, what is compiled, and every refusal.

use serde_json::{Value as Json, json};
use state::group::{Condition, LogDestination, NetworkMode, VolumeSource};

use super::world::World;

/// A definition for EC2 with one container, changed by merging `with` into it and `container` into its container.
pub fn definition(with: Json, container: Json) -> Json {
    let mut all =
        json!({"family": "app", "containerDefinitions": [{"name": "app", "image": "busybox", "memory": 64}]});
    merge(&mut all["containerDefinitions"][0], container);
    merge(&mut all, with);
    all
}

/// Puts members of one object into another.
pub fn merge(into: &mut Json, more: Json) {
    let Json::Object(more) = more else { return };
    for (key, value) in more {
        into[key] = value;
    }
}

/// The same for Fargate.
pub fn fargate(with: Json, container: Json) -> Json {
    let mut all = definition(
        json!({"requiresCompatibilities": ["FARGATE"], "networkMode": "awsvpc", "cpu": "256", "memory": "512"}),
        container,
    );
    merge(&mut all, with);
    all
}

#[test]
fn a_definition_is_shown_with_its_defaults() {
    let mut world = World::new();
    let answer = world.ok("RegisterTaskDefinition", fargate(
        json!({"tags": [{"key": "a", "value": "1"}], "cpu": ".25 vCPU", "memory": "0.5GB", "taskRoleArn": "worker"}),
        json!({"portMappings": [{"containerPort": 80}], "healthCheck": {"command": ["CMD-SHELL", "true"]}}),
    ));
    let shown = &answer["taskDefinition"];
    assert_eq!(answer["tags"], json!([{"key": "a", "value": "1"}]));
    assert_eq!(shown["taskDefinitionArn"], "arn:aws:ecs:us-east-1:000000000000:task-definition/app:1");
    assert_eq!((&shown["revision"], &shown["status"]), (&json!(1), &json!("ACTIVE")));
    assert_eq!((&shown["cpu"], &shown["memory"]), (&json!("256"), &json!("512")));
    assert_eq!(shown["taskRoleArn"], "arn:aws:iam::000000000000:role/worker");
    assert_eq!(shown["compatibilities"], json!(["EC2", "FARGATE"]));
    assert_eq!(shown["requiresCompatibilities"], json!(["FARGATE"]));
    assert_eq!(shown["volumes"], json!([]));
    assert_eq!(shown["placementConstraints"], json!([]));
    assert_eq!(shown["registeredBy"], "arn:aws:iam::000000000000:root");
    assert_eq!(shown["registeredAt"], 1_700_000_000.0);
    assert!(
        shown["requiresAttributes"].as_array().unwrap().contains(&json!({"name": "ecs.capability.task-eni"}))
    );
    assert_eq!(
        shown["containerDefinitions"][0],
        json!({
            "name": "app", "image": "busybox", "cpu": 0, "memory": 64, "essential": true, "environment": [],
            "portMappings": [{"containerPort": 80, "hostPort": 80, "protocol": "tcp"}], "mountPoints": [],
            "volumesFrom": [], "systemControls": [],
            "healthCheck": {"command": ["CMD-SHELL", "true"], "interval": 30, "timeout": 5, "retries": 3},
        })
    );
    let again = world.ok("DescribeTaskDefinition", json!({"taskDefinition": "app", "include": ["TAGS"]}));
    assert_eq!(again["taskDefinition"], *shown);
    assert_eq!(again["tags"], answer["tags"]);
}

#[test]
fn a_definition_compiles_to_what_runs() {
    let mut world = World::new();
    let container = json!({
        "cpu": 128, "memory": 256, "memoryReservation": 128, "essential": true, "user": "1000:1000",
        "command": ["sleep", "1"], "entryPoint": ["/init"], "workingDirectory": "/srv",
        "environment": [{"name": "A", "value": "1"}], "hostname": "box",
        "portMappings": [{"containerPort": 80, "hostPort": 8080}, {"containerPort": 53, "protocol": "udp"}],
        "mountPoints": [{"sourceVolume": "data", "containerPath": "/data", "readOnly": true},
                        {"sourceVolume": "host", "containerPath": "/host"}],
        "dependsOn": [{"containerName": "init", "condition": "SUCCESS"}],
        "linuxParameters": {"initProcessEnabled": true, "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
            "devices": [{"hostPath": "/dev/fuse"}], "tmpfs": [{"containerPath": "/tmp", "size": 64}],
            "sharedMemorySize": 128, "maxSwap": 0, "swappiness": 10},
        "ulimits": [{"name": "nofile", "softLimit": 1024, "hardLimit": 2048}],
        "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "/app",
            "awslogs-region": "us-east-1", "awslogs-stream-prefix": "ecs", "awslogs-create-group": "true",
            "mode": "non-blocking", "max-buffer-size": "1m"}},
        "restartPolicy": {"enabled": true, "ignoredExitCodes": [0], "restartAttemptPeriod": 60},
        "systemControls": [{"namespace": "net.core.somaxconn", "value": "512"}],
        "extraHosts": [{"hostname": "db", "ipAddress": "10.0.0.1"}],
    });
    let mut input = definition(
        json!({"volumes": [{"name": "data"}, {"name": "host", "host": {"sourcePath": "/srv"}}], "pidMode": "task"}),
        container,
    );
    let init = json!({"name": "init", "image": "busybox", "memory": 32, "essential": false});
    input["containerDefinitions"].as_array_mut().unwrap().push(init);
    world.ok("RegisterTaskDefinition", input);
    let (_, record) = world.snapshot.task_definitions.iter().next().unwrap();
    let spec = &record.spec;
    let app = &spec.containers[0];
    assert_eq!(spec.network_mode, NetworkMode::Bridge);
    assert_eq!((spec.demand.cpu_units, spec.demand.memory_mib), (128, 128 + 32));
    assert_eq!(spec.demand.host_ports, [(8080, "tcp".to_owned())]);
    assert_eq!((spec.family.as_str(), spec.revision, spec.share_pid), ("app", 1, true));
    assert_eq!(spec.volumes[0].source, VolumeSource::Scratch);
    assert_eq!(spec.volumes[1].source, VolumeSource::Host { path: "/srv".into() });
    assert_eq!((app.port_mappings[1].host_port, app.port_mappings[1].protocol.as_str()), (Some(0), "udp"));
    assert_eq!(app.depends_on[0].condition, Condition::Success);
    assert_eq!(app.linux.devices[0], ("/dev/fuse".into(), "/dev/fuse".into(), "rwm".into()));
    assert_eq!(
        (app.linux.swappiness, app.linux.max_swap_mib, app.linux.shared_memory_mib),
        (Some(10), Some(0), Some(128))
    );
    assert_eq!(app.restart_policy.as_ref().unwrap().attempt_period_s, 60);
    assert_eq!(app.stop_timeout_s, 30);
    assert!(matches!(
        app.log.as_ref().unwrap(),
        LogDestination::Awslogs {
            create_group: true,
            non_blocking: true,
            max_buffer_bytes: Some(1_048_576),
            ..
        }
    ));
}

#[test]
fn revisions_are_numbered_listed_deregistered_and_deleted() {
    let mut world = World::new();
    for family in ["a", "a", "ab", "a"] {
        world.fargate(family);
    }
    let names = |answer: &Json| -> Vec<String> {
        let arns = answer["taskDefinitionArns"].as_array().unwrap();
        arns.iter().map(|arn| arn.as_str().unwrap().rsplit('/').next().unwrap().to_owned()).collect()
    };
    let list = |world: &mut World, input| names(&world.ok("ListTaskDefinitions", input));
    assert_eq!(list(&mut world, json!({})), ["a:1", "a:2", "a:3", "ab:1"]);
    assert_eq!(list(&mut world, json!({"familyPrefix": "a"})), ["a:1", "a:2", "a:3"]);
    assert_eq!(list(&mut world, json!({"sort": "DESC"})), ["ab:1", "a:3", "a:2", "a:1"]);
    let first = world.ok("ListTaskDefinitions", json!({"sort": "DESC", "maxResults": 3}));
    let rest = json!({"sort": "DESC", "maxResults": 3, "nextToken": first["nextToken"]});
    assert_eq!((names(&first).len(), list(&mut world, rest)), (3, vec!["a:1".to_owned()]));
    assert_eq!(world.ok("ListTaskDefinitionFamilies", json!({}))["families"], json!(["a", "ab"]));

    let gone = world.ok("DeregisterTaskDefinition", json!({"taskDefinition": "a:3"}));
    assert_eq!(gone["taskDefinition"]["status"], "INACTIVE");
    assert!(gone["taskDefinition"]["deregisteredAt"].is_number());
    assert_eq!(
        world.ok("DescribeTaskDefinition", json!({"taskDefinition": "a"}))["taskDefinition"]["revision"],
        2
    );
    assert_eq!(list(&mut world, json!({"status": "INACTIVE"})), ["a:3"]);
    let deleted = world.ok("DeleteTaskDefinitions", json!({"taskDefinitions": ["a:3", "a:1", "a:9"]}));
    assert_eq!(deleted["taskDefinitions"][0]["status"], "DELETE_IN_PROGRESS");
    assert!(deleted["taskDefinitions"][0]["deleteRequestedAt"].is_number());
    assert_eq!(deleted["failures"].as_array().unwrap().len(), 2);
    world.settle();
    let unknown = "ClientException: Unable to describe task definition.";
    assert_eq!(world.err("DescribeTaskDefinition", json!({"taskDefinition": "a:3"})), unknown);
    assert_eq!(world.err("DescribeTaskDefinition", json!({"taskDefinition": "none"})), unknown);
    world.fargate("a");
    assert_eq!(list(&mut world, json!({"familyPrefix": "a"})), ["a:1", "a:2", "a:4"]);

    for (input, expect) in [
        ("a", "InvalidParameterException: Revision is missing."),
        ("a:x", "InvalidParameterException: Invalid revision number. Number: x"),
        ("a:9", "ClientException: The specified task definition does not exist."),
        ("a b:1", "ClientException: Family contains invalid characters."),
    ] {
        assert_eq!(world.err("DeregisterTaskDefinition", json!({"taskDefinition": input})), expect);
    }
}
