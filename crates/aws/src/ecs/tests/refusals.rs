//! What RegisterTaskDefinition refuses, in the words of ECS.

use serde_json::{Value as Json, json};

use super::definitions::{definition, fargate, merge};
use super::world::World;

/// Each definition is refused by a ClientException with this text, and nothing is kept.
fn refused(cases: &[(Json, &str)]) {
    let mut world = World::new();
    for (input, expect) in cases {
        let fault = world.err("RegisterTaskDefinition", input.clone());
        assert_eq!(fault, format!("ClientException: {expect}"), "{input}");
    }
    assert!(world.snapshot.task_definitions.is_empty());
}

/// A definition for EC2 that differs in the task.
fn task(with: Json) -> Json {
    definition(with, json!({}))
}

/// A definition for EC2 that differs in its container.
fn container(with: Json) -> Json {
    definition(json!({}), with)
}

/// A definition for Fargate that differs in its container.
fn serverless(with: Json) -> Json {
    fargate(json!({}), with)
}

/// A definition with a second container `b`.
fn two(first: Json, second: Json) -> Json {
    let mut all = container(first);
    let mut other = json!({"name": "b", "image": "busybox", "memory": 64});
    merge(&mut other, second);
    all["containerDefinitions"].as_array_mut().unwrap().push(other);
    all
}

fn on(name: &str, condition: &str) -> Json {
    json!({"dependsOn": [{"containerName": name, "condition": condition}]})
}

fn awslogs(options: Json) -> Json {
    json!({"logConfiguration": {"logDriver": "awslogs", "options": options}})
}

#[test]
fn names_and_images() {
    refused(&[
        (task(json!({"family": "a b"})), "Family contains invalid characters."),
        (task(json!({"containerDefinitions": []})), "Container list cannot be empty."),
        (container(json!({"name": "a b"})), "Container.name contains invalid characters."),
        (container(json!({"name": ""})), "Container.name should not be null or empty."),
        (container(json!({"image": ""})), "Container.image should not be null or empty."),
        (container(json!({"image": "$IMAGE"})), "Container.image contains invalid characters."),
        (two(json!({}), json!({"name": "app"})), "Container names must be unique within a Task Definition."),
        (container(json!({"essential": false})), "Task definition doesn't have any essential container."),
        (task(json!({"taskRoleArn": "arn:aws:s3:::x"})), "Role is not valid"),
        (
            task(json!({"placementConstraints": [{"type": "memberOf", "expression": "color == red"}]})),
            "Invalid expression in placement constraint: unknown subject 'color'",
        ),
        (
            fargate(
                json!({"placementConstraints": [{"type": "memberOf", "expression": "attribute:a exists"}]}),
                json!({}),
            ),
            "Fargate compatible task definitions do not support constraints",
        ),
        (
            task(json!({"runtimePlatform": {"operatingSystemFamily": "WINDOWS_SERVER_2022_CORE"}})),
            "operatingSystemFamily 'WINDOWS_SERVER_2022_CORE' is not supported.",
        ),
    ]);
}

#[test]
fn sizes() {
    refused(&[
        (
            container(json!({"memory": null})),
            "Invalid setting for container 'app'. At least one of 'memory' or 'memoryReservation' must be specified.",
        ),
        (
            container(json!({"memoryReservation": 128})),
            "Invalid setting for container 'app'. 'memory' must be greater than or equal to 'memoryReservation'.",
        ),
        (
            serverless(json!({"memory": 1024})),
            "The 'memory' setting for container 'app' is greater than for the task.",
        ),
        (
            serverless(json!({"cpu": 512})),
            "The sum of all container 'cpu' values cannot be greater than the value of the task 'cpu'.",
        ),
        (
            fargate(json!({"memory": "100"}), json!({"memory": 32})),
            "No Fargate configuration exists for given values: 256 CPU, 100 memory. See the Amazon ECS documentation \
             for the valid values.",
        ),
        (
            fargate(json!({"cpu": null}), json!({})),
            "Fargate requires that 'cpu' be defined at the task level.",
        ),
        (
            fargate(json!({"memory": null}), json!({})),
            "Fargate requires that 'memory' be defined at the task level.",
        ),
        (
            task(json!({"cpu": "12"})),
            "Invalid 'cpu' setting for task. For more information, see the Troubleshooting section of the Amazon ECS \
             Developer Guide.",
        ),
        (
            container(json!({"memory": null, "memoryReservation": 64, "linuxParameters": {"maxSwap": 64}})),
            "Invalid setting for container 'app'. 'maxSwap' needs the container's 'memory' to be specified.",
        ),
        (
            container(json!({"ulimits": [{"name": "nofile", "softLimit": 2, "hardLimit": 1}]})),
            "Soft limit exceeds hard limit for ulimit nofile",
        ),
    ]);
}

#[test]
fn fargate_has_its_own() {
    let linux = |with: Json| serverless(json!({"linuxParameters": with}));
    let volume = |with: Json| {
        let mut volume = json!({"name": "v"});
        merge(&mut volume, with);
        fargate(json!({"volumes": [volume]}), json!({}))
    };
    refused(&[
        (
            fargate(json!({"networkMode": "bridge"}), json!({})),
            "Fargate only supports network mode ‘awsvpc’.",
        ),
        (
            serverless(json!({"image": "000000000000.dkr.ecr.us-east-1.amazonaws.com/app"})),
            "Fargate requires task definition to have execution role ARN to support ECR images.",
        ),
        (
            serverless(json!({"privileged": true})),
            "Fargate requires that the 'privileged' setting be 'false'",
        ),
        (
            linux(json!({"sharedMemorySize": 1})),
            "Fargate compatible task definitions do not support sharedMemorySize",
        ),
        (linux(json!({"maxSwap": 1})), "Fargate compatible task definitions do not support maxSwap"),
        (
            linux(json!({"devices": [{"hostPath": "/dev/null"}]})),
            "Fargate compatible task definitions do not support devices",
        ),
        (linux(json!({"capabilities": {"add": ["SYS_ADMIN"]}})), "SYS_ADMIN is not allowed on Fargate."),
        (
            volume(json!({"host": {"sourcePath": "/"}})),
            "Fargate compatible task definitions do not support sourcePath",
        ),
        (
            volume(json!({"dockerVolumeConfiguration": {}})),
            "Fargate compatible task definitions do not support dockerVolumeConfiguration",
        ),
        (
            serverless(json!({"stopTimeout": 121})),
            "Tasks using the Fargate launch type must have a container stop timeout of less than 120 seconds.",
        ),
        (
            serverless(json!({"startTimeout": 121})),
            "Tasks using the Fargate launch type must have a container start timeout of less than 120 seconds.",
        ),
        (
            fargate(json!({"ipcMode": "none"}), json!({})),
            "Fargate compatible task definitions do not support ipcMode",
        ),
    ]);
}

#[test]
fn logs() {
    let full = json!({"awslogs-group": "g", "awslogs-region": "r", "awslogs-stream-prefix": "p"});
    let short = json!({"awslogs-group": "g", "awslogs-region": "r"});
    refused(&[
        (
            serverless(awslogs(full)),
            "Fargate requires task definition to have execution role ARN to support log driver awslogs.",
        ),
        (
            fargate(json!({"executionRoleArn": "r"}), awslogs(short)),
            "Fargate requires log configuration options to include awslogs-stream-prefix",
        ),
        (
            serverless(json!({"logConfiguration": {"logDriver": "json-file"}})),
            "json-file is not a valid log driver. Must be one of [awslogs,splunk,awsfirelens]",
        ),
        (
            container(awslogs(json!({"awslogs-stream-prefix": "p"}))),
            "Log driver awslogs requires options: awslogs-region, awslogs-group",
        ),
        (container(awslogs(json!({"colour": "red"}))), "Log driver awslogs disallows options: colour"),
        (
            container(json!({"logConfiguration": {"logDriver": "syslog"}})),
            "logDriver 'syslog' is not supported.",
        ),
    ]);
}

#[test]
fn networks_and_ports() {
    let mode = |mode: &str, with: Json| definition(json!({"networkMode": mode}), with);
    let mismatch = json!({"portMappings": [{"containerPort": 80, "hostPort": 81}]});
    refused(&[
        (
            mode("awsvpc", mismatch.clone()),
            "When networkMode=awsvpc, the host ports and container ports in port mappings must match.",
        ),
        (
            mode("host", mismatch),
            "When networkMode=host, the host ports and container ports in port mappings must match.",
        ),
        (mode("awsvpc", json!({"links": ["b"]})), "Links are not supported when networkMode=awsvpc."),
        (
            mode("awsvpc", json!({"hostname": "h"})),
            "hostname is not supported on container when networkMode=awsvpc.",
        ),
        (
            mode("awsvpc", json!({"extraHosts": [{"hostname": "h", "ipAddress": "10.0.0.1"}]})),
            "Extra hosts are not supported on container when networkMode=awsvpc.",
        ),
        (
            container(json!({"portMappings": [{"containerPort": 70_000}]})),
            "Invalid 'containerPort' setting for container 'app'",
        ),
        (
            container(json!({"portMappings": [
                {"containerPort": 80, "hostPort": 80}, {"containerPort": 81, "hostPort": 80}]})),
            "host port 80 is used multiple times in task",
        ),
    ]);
}

#[test]
fn dependencies_checks_and_mounts() {
    refused(&[
        (container(on("x", "START")), "Cannot depend on container + 'x' because it does not exist"),
        (container(on("app", "START")), "Container dependencies should not have a cycle"),
        (two(on("b", "START"), on("app", "START")), "Container dependencies should not have a cycle"),
        (
            two(on("b", "START"), json!({"volumesFrom": [{"sourceContainer": "app"}]})),
            "Container dependencies should not have a cycle",
        ),
        (
            two(on("b", "COMPLETE"), json!({})),
            "A dependency container with SUCCESS or COMPLETE condition cannot be an essential container",
        ),
        (
            two(on("b", "HEALTHY"), json!({})),
            "A dependency container with HEALTHY condition must have health check configured",
        ),
        (
            container(json!({"healthCheck": {"command": ["CMD", "true"], "interval": 4}})),
            "Container health check's interval value of container 'app' is invalid: it must be between 5 and 300.",
        ),
        (
            container(json!({"healthCheck": {"command": ["true"]}})),
            "Container health check's command of container 'app' is invalid: it must start with CMD or CMD-SHELL.",
        ),
        (
            container(json!({"startTimeout": 1})),
            "Granular start timeout on container 'app' must be at least 2 seconds.",
        ),
        (
            container(json!({"mountPoints": [{"sourceVolume": "v", "containerPath": "/v"}]})),
            "Unknown volume 'v'.",
        ),
        (
            container(json!({"volumesFrom": [{"sourceContainer": "x"}]})),
            "Invalid 'volumesFrom' setting. Unknown container: 'x'.",
        ),
        (
            container(json!({"restartPolicy": {"enabled": true, "restartAttemptPeriod": 1}})),
            "the 'restartAttemptPeriod' setting for container 'app' must be between 60 and 1800",
        ),
    ]);
}
