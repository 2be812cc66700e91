//! RunTask and StartTask.

use serde_json::{Value as Json, json};

use super::definitions::definition;
use super::members::stage;
use super::world::{NODE, World};

fn run(world: &World, with: Json) -> Json {
    let mut input =
        json!({"taskDefinition": "app", "launchType": "FARGATE", "networkConfiguration": world.network()});
    for (key, value) in with.as_object().unwrap() {
        input[key] = value.clone();
    }
    input
}

#[test]
fn a_task_is_shown_as_it_starts() {
    let mut world = World::new();
    let definition = world.fargate("app");
    let input = run(
        &world,
        json!({"startedBy": "me", "enableECSManagedTags": true, "tags": [{"key": "a", "value": "1"}]}),
    );
    let answer = world.ok("RunTask", input);
    assert_eq!(answer["failures"], json!([]));
    let task = &answer["tasks"][0];
    let id = task["taskArn"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    assert_eq!(id.len(), 32);
    assert_eq!(task["taskArn"], format!("arn:aws:ecs:us-east-1:000000000000:task/default/{id}"));
    assert_eq!(task["taskDefinitionArn"], definition);
    for (member, expect) in [
        ("lastStatus", "PROVISIONING"),
        ("desiredStatus", "RUNNING"),
        ("launchType", "FARGATE"),
        ("platformVersion", "1.4.0"),
        ("platformFamily", "Linux"),
        ("cpu", "256"),
        ("memory", "512"),
        ("group", "family:app"),
        ("startedBy", "me"),
        ("healthStatus", "UNKNOWN"),
        ("clusterArn", "arn:aws:ecs:us-east-1:000000000000:cluster/default"),
    ] {
        assert_eq!(task[member], expect, "{member}");
    }
    assert_eq!(
        task["tags"],
        json!([{"key": "a", "value": "1"}, {"key": "aws:ecs:clusterName", "value": "default"}])
    );
    assert_eq!(
        task["overrides"],
        json!({"containerOverrides": [{"name": "app"}], "inferenceAcceleratorOverrides": []})
    );
    assert_eq!(task["ephemeralStorage"], json!({"sizeInGiB": 20}));
    assert_eq!(task["attributes"], json!([{"name": "ecs.cpu-architecture", "value": "x86_64"}]));
    assert_eq!(
        (&task["attachments"][0]["type"], &task["attachments"][0]["status"]),
        (&json!("ElasticNetworkInterface"), &json!("PRECREATED"))
    );
    let container = &task["containers"][0];
    assert_eq!((&container["name"], &container["lastStatus"]), (&json!("app"), &json!("PENDING")));
    let prefix = format!("arn:aws:ecs:us-east-1:000000000000:container/default/{id}/");
    assert!(container["containerArn"].as_str().unwrap().starts_with(&prefix));
    let address = task["attachments"][0]["details"][4]["value"].as_str().unwrap();
    assert_eq!(container["networkInterfaces"][0]["privateIpv4Address"], address);
    let name = format!("ip-{}.ec2.internal", address.replace('.', "-"));
    assert_eq!(task["attachments"][0]["details"][3], json!({"name": "privateDnsName", "value": name}));
}

#[test]
fn a_task_is_shown_running_and_stopped() {
    let mut world = World::new();
    world.fargate("app");
    let input = run(&world, json!({"tags": [{"key": "a", "value": "1"}]}));
    let answer = world.ok("RunTask", input);
    let id = answer["tasks"][0]["taskArn"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    world.settle();
    let seen = world.ok("DescribeTasks", json!({"tasks": [id]}));
    let task = &seen["tasks"][0];
    assert_eq!((&task["lastStatus"], &task["connectivity"]), (&json!("RUNNING"), &json!("CONNECTED")));
    assert_eq!(task["attachments"][0]["status"], "ATTACHED");
    assert_eq!(task["containers"][0]["lastStatus"], "RUNNING");
    assert!(task["startedAt"].as_f64() > task["createdAt"].as_f64());
    assert_eq!(task["tags"], json!([]));

    let stopping = world.ok("StopTask", json!({"task": id, "reason": "enough"}));
    assert_eq!(stopping["task"]["desiredStatus"], "STOPPED");
    world.settle();
    let seen = world.ok(
        "DescribeTasks",
        json!({"tasks": [format!("arn:aws:ecs:us-east-1:000000000000:task/default/{id}")]}),
    );
    let task = &seen["tasks"][0];
    for (member, expect) in
        [("lastStatus", "STOPPED"), ("stopCode", "UserInitiated"), ("stoppedReason", "enough")]
    {
        assert_eq!(task[member], expect, "{member}");
    }
    for time in ["stoppingAt", "executionStoppedAt", "stoppedAt"] {
        assert!(task[time].is_number(), "{time}");
    }
    assert_eq!(task["attachments"][0]["status"], "DELETED");
    assert_eq!(
        (&task["containers"][0]["exitCode"], &task["containers"][0]["lastStatus"]),
        (&json!(143), &json!("STOPPED"))
    );
}

/// Each call is refused with this fault.
fn refused(world: &mut World, cases: &[(Json, String)]) {
    for (with, expect) in cases {
        let input = run(world, with.clone());
        assert_eq!(world.err("RunTask", input), *expect, "{with}");
    }
}

fn invalid(text: &str) -> String {
    format!("InvalidParameterException: {text}")
}

fn client(text: &str) -> String {
    format!("ClientException: {text}")
}

#[test]
fn what_is_not_there_cannot_be_run() {
    let mut world = stage();
    let definition =
        json!({"family": "gone", "containerDefinitions": [{"name": "a", "image": "b", "memory": 4}]});
    world.ok("RegisterTaskDefinition", definition);
    world.ok("DeregisterTaskDefinition", json!({"taskDefinition": "gone:1"}));
    let cases = [
        (json!({"taskDefinition": ""}), invalid("TaskDefinition can not be blank.")),
        (json!({"taskDefinition": "none"}), client("TaskDefinition not found.")),
        (json!({"taskDefinition": "gone:1"}), client("TaskDefinition is inactive")),
        (json!({"taskDefinition": "a b"}), client("Family contains invalid characters.")),
        (json!({"cluster": "none"}), "ClusterNotFoundException: Cluster not found.".into()),
        (json!({"count": 11}), invalid("Count must be between 1 and 10.")),
        (json!({"count": 0}), invalid("Count must be between 1 and 10.")),
        (
            json!({"networkConfiguration": null}),
            invalid("Network Configuration must be provided when networkMode 'awsvpc' is specified."),
        ),
        (
            json!({"taskDefinition": "ec2", "launchType": "EC2"}),
            invalid("Network Configuration is not valid for the given networkMode of this task definition."),
        ),
        (json!({"taskDefinition": "ec2"}), invalid("Task definition does not support launch_type FARGATE.")),
    ];
    refused(&mut world, &cases);
}

#[test]
fn networks_are_refused_in_the_words_of_ecs() {
    let mut world = stage();
    let subnet = world.subnets()[0].clone();
    let vpc = |config: Json| json!({"networkConfiguration": {"awsvpcConfiguration": config}});
    let public = json!({"launchType": "EC2", "networkConfiguration":
        {"awsvpcConfiguration": {"subnets": world.subnets(), "assignPublicIp": "ENABLED"}}});
    let cases = [
        (vpc(json!({"subnets": []})), invalid("subnets can not be empty.")),
        (
            vpc(json!({"subnets": ["subnet-1"]})),
            invalid(
                "Error retrieving subnet information for [subnet-1]: The subnet ID 'subnet-1' does not exist (ErrorCode: \
                     InvalidSubnetID.NotFound)",
            ),
        ),
        (
            vpc(json!({"subnets": [subnet], "securityGroups": ["sg-1"]})),
            invalid(
                "Error retrieving security group information for [sg-1]: The security group 'sg-1' does not exist \
                     (ErrorCode: InvalidGroup.NotFound)",
            ),
        ),
        (public, invalid("Assign public IP is not supported for this launch type.")),
    ];
    refused(&mut world, &cases);
}

#[test]
fn overrides_have_at_most_8192_characters_as_json() {
    let mut world = stage();
    let network = world.network();
    let with = |value: String| {
        let overrides =
            json!({"containerOverrides": [{"name": "app", "environment": [{"name": "A", "value": value}]}]});
        json!({"taskDefinition": "app", "launchType": "FARGATE", "networkConfiguration": network, "overrides": overrides})
    };
    let frame = r#"{"containerOverrides":[{"name":"app","environment":[{"name":"A","value":""}]}]}"#.len();
    // A character counts once, however many bytes it has.
    world.ok("RunTask", with("é".repeat(8192 - frame)));
    assert_eq!(
        world.err("RunTask", with("x".repeat(8193 - frame))),
        "InvalidParameterException: Container Overrides length must be at most 8192"
    );
}

#[test]
fn launch_kinds_and_overrides_are_refused_in_the_words_of_ecs() {
    let mut world = stage();
    let platform = |version: &str| json!({"platformVersion": version});
    let cases = [
        (
            json!({"capacityProviderStrategy": [{"capacityProvider": "FARGATE"}]}),
            invalid(
                "Specifying both a launch type and capacity provider strategy is not supported. Remove one and try \
                     again.",
            ),
        ),
        (json!({"launchType": "EXTERNAL"}), client("launchType 'EXTERNAL' is not supported.")),
        (platform("9.9.9"), "PlatformUnknownException: The specified platform does not exist.".into()),
        (
            json!({"launchType": "EC2", "platformVersion": "1.4.0"}),
            invalid("The platform version must be null when specifying an EC2 launch type."),
        ),
        (
            json!({"placementConstraints": [{"type": "distinctInstance"}]}),
            invalid("Placement constraints are not supported with FARGATE launch type."),
        ),
        (
            json!({"placementStrategy": [{"type": "random"}]}),
            invalid("Placement strategies are not supported with FARGATE launch type."),
        ),
        (
            json!({"launchType": "EC2", "placementStrategy": [{"type": "random", "field": "x"}]}),
            invalid("random field should not be specified."),
        ),
        (
            json!({"launchType": "EC2", "placementStrategy": [{"type": "binpack", "field": "x"}]}),
            invalid("binpack field 'x' is invalid."),
        ),
        (
            json!({"overrides": {"containerOverrides": [{"name": "x"}]}}),
            invalid("Override for container named x is not a container in the TaskDefinition."),
        ),
        (
            json!({"overrides": {"cpu": "512"}}),
            client(
                "No Fargate configuration exists for given values: 512 CPU, 512 memory. See the Amazon ECS \
                    documentation for the valid values.",
            ),
        ),
    ];
    refused(&mut world, &cases);
}

#[test]
fn what_does_not_fit_is_a_failure_beside_what_does() {
    let mut world = World::new();
    let big = json!({"family": "big", "requiresCompatibilities": ["FARGATE"], "networkMode": "awsvpc", "cpu": "1024",
        "memory": "4096", "containerDefinitions": [{"name": "app", "image": "busybox"}]});
    world.ok("RegisterTaskDefinition", big);
    let input = run(&world, json!({"taskDefinition": "big", "count": 3}));
    let answer = world.ok("RunTask", input);
    assert_eq!(answer["tasks"].as_array().unwrap().len(), 2);
    let instance = world.ok("ListContainerInstances", json!({}))["containerInstanceArns"][0].clone();
    assert_eq!(answer["failures"], json!([{"arn": instance, "reason": "RESOURCE:MEMORY"}]));
    let input = run(
        &world,
        json!({"taskDefinition": "big",
        "overrides": {"cpu": "8192", "memory": "16384"}}),
    );
    assert_eq!(world.ok("RunTask", input)["failures"][0]["reason"], "RESOURCE:CPU");
    let shown = world.ok("DescribeContainerInstances", json!({"containerInstances": [instance]}));
    let shown = &shown["containerInstances"][0];
    assert_eq!(shown["registeredResources"][1]["integerValue"], 8192);
    assert_eq!(shown["remainingResources"][1]["integerValue"], 0);
    assert_eq!((&shown["pendingTasksCount"], &shown["status"]), (&json!(0), &json!("ACTIVE")));
    assert_eq!(shown["ec2InstanceId"], format!("i-{}", &NODE[..17]));
}

#[test]
fn without_a_node_there_is_no_container_instance() {
    let mut world = stage();
    world.write(|tx, _, _| {
        tx.delete::<state::node::Ledger>(NODE);
        tx.delete::<state::node::Node>(NODE);
    });
    let expect = invalid("No Container Instances were found in your cluster.");
    assert_eq!(world.err("RunTask", json!({"taskDefinition": "ec2"})), expect);
    let input = run(&world, json!({}));
    assert_eq!(world.ok("RunTask", input)["failures"], json!([{"reason": "AGENT"}]));
}

#[test]
fn overrides_change_this_call_and_nothing_else() {
    let mut world = World::new();
    world.fargate("app");
    let overrides = json!({"containerOverrides": [{"name": "app", "command": ["true"],
        "environment": [{"name": "A", "value": "1"}]}], "memory": "1 GB", "taskRoleArn": "other"});
    let input = run(&world, json!({"overrides": overrides}));
    let task = world.ok("RunTask", input)["tasks"][0].clone();
    assert_eq!(task["memory"], "1024");
    assert_eq!(
        task["overrides"],
        json!({
            "containerOverrides": [{"name": "app", "command": ["true"], "environment": [{"name": "A", "value": "1"}]}],
            "memory": "1024", "taskRoleArn": "arn:aws:iam::000000000000:role/other", "inferenceAcceleratorOverrides": [],
        })
    );
    let specs: Vec<_> = world.snapshot.specs.iter().map(|(_, record)| record.spec.clone()).collect();
    assert_eq!(specs.len(), 1);
    assert_eq!(specs[0].containers[0].command.as_deref(), Some(&["true".to_owned()][..]));
    assert_eq!(specs[0].containers[0].environment, [("A".to_owned(), "1".to_owned())]);
    let (_, definition) = world.snapshot.task_definitions.iter().next().unwrap();
    assert_eq!(definition.spec.containers[0].command, None);
}

#[test]
fn a_token_makes_a_call_once() {
    let mut world = World::new();
    world.fargate("app");
    let input = run(&world, json!({"clientToken": "t", "count": 2}));
    let first = world.ok("RunTask", input.clone());
    let again = world.ok("RunTask", input);
    let arns = |answer: &Json| {
        let mut all: Vec<_> =
            answer["tasks"].as_array().unwrap().iter().map(|t| t["taskArn"].to_string()).collect();
        all.sort();
        all
    };
    assert_eq!(arns(&first), arns(&again));
    assert_eq!(world.snapshot.groups.len(), 2);
    let other = run(&world, json!({"clientToken": "t", "count": 2, "startedBy": "you"}));
    let fault = world.call("RunTask", other).unwrap_err();
    assert_eq!(fault.code, "ConflictException");
    assert_eq!(fault.members[0].0, "resourceIds");
}

#[test]
fn a_strategy_divides_the_tasks() {
    let mut world = stage();
    let strategy = json!([{"capacityProvider": "FARGATE", "base": 1, "weight": 1}, {"capacityProvider": "FARGATE_SPOT", "weight": 1}]);
    let input = run(&world, json!({"launchType": null, "count": 5, "capacityProviderStrategy": strategy}));
    let answer = world.ok("RunTask", input);
    let providers: Vec<_> = answer["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["capacityProviderName"].as_str().unwrap())
        .collect();
    assert_eq!(providers[0], "FARGATE");
    assert_eq!(providers.iter().filter(|p| **p == "FARGATE").count(), 3);
    assert_eq!(answer["tasks"][0]["launchType"], "FARGATE");
}

#[test]
fn an_empty_command_is_none_given() {
    let mut world = World::new();
    world.ok(
        "RegisterTaskDefinition",
        definition(json!({"family": "app"}), json!({"command": ["sleep", "1"]})),
    );
    let overrides = json!({"containerOverrides": [{"name": "app", "command": []}]});
    world.ok("RunTask", json!({"taskDefinition": "app", "overrides": overrides}));
    let (_, group) = world.snapshot.groups.iter().next().unwrap();
    let spec = &world.snapshot.specs.get(&group.spec).unwrap().spec;
    assert_eq!(spec.containers[0].command, Some(vec!["sleep".to_owned(), "1".to_owned()]));
}

#[test]
fn start_task_starts_on_the_instance_named_and_nowhere_else() {
    let mut world = stage();
    let instance = world.ok("ListContainerInstances", json!({}))["containerInstanceArns"][0].clone();
    let answer =
        world.ok("StartTask", json!({"taskDefinition": "ec2", "containerInstances": [instance, "nowhere"]}));
    assert_eq!(answer["tasks"][0]["containerInstanceArn"], instance);
    assert_eq!(answer["tasks"][0]["launchType"], "EC2");
    let arn = "arn:aws:ecs:us-east-1:000000000000:container-instance/default/nowhere";
    assert_eq!(answer["failures"], json!([{"arn": arn, "reason": "MISSING"}]));
    assert_eq!(
        world.err("StartTask", json!({"taskDefinition": "ec2", "containerInstances": []})),
        "InvalidParameterException: Container Instances cannot be empty."
    );
}

#[test]
fn a_definitions_constraints_hold_wherever_it_is_launched() {
    let mut world = stage();
    for (family, system) in [("fits", "linux"), ("never", "windows")] {
        let expression = format!("attribute:ecs.os-type == {system}");
        let definition = json!({"family": family, "placementConstraints": [{"type": "memberOf", "expression": expression}],
            "containerDefinitions": [{"name": "app", "image": "busybox", "memory": 64}]});
        let shown = world.ok("RegisterTaskDefinition", definition);
        assert_eq!(shown["taskDefinition"]["placementConstraints"][0]["expression"], expression);
        assert_eq!(shown["taskDefinition"]["compatibilities"], json!(["EC2"]));
    }
    assert_eq!(world.ok("RunTask", json!({"taskDefinition": "fits"}))["failures"], json!([]));
    let failed = world.ok("RunTask", json!({"taskDefinition": "never"}));
    assert_eq!(failed["failures"][0]["reason"], "MemberOf placement constraint unsatisfied.");
    world.ok("CreateService", json!({"serviceName": "never", "taskDefinition": "never", "desiredCount": 1}));
    world.write(|tx, ids, now_ms| {
        plan::ecs_service::reconcile(tx, ids, now_ms, "000000000000/us-east-1/default/never")
    });
    let told = world.ok("DescribeServices", json!({"services": ["never"]}));
    let message = told["services"][0]["events"][0]["message"].as_str().unwrap();
    let instance = world.ok("ListContainerInstances", json!({}))["containerInstanceArns"][0].clone();
    let id = instance.as_str().unwrap().rsplit('/').next().unwrap();
    let closest = format!(
        "was unable to place a task because no container instance met all of its requirements. \
         The closest matching (container-instance {id}) "
    );
    assert!(message.contains(&closest), "{message}");
}
