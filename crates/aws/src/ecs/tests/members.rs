//! No member of a request is ignored: for every member of the model there is a sample here, and it either changes what
//! is run or kept, or is refused by its name. A model that grows a member fails these tests until it has a sample.

use serde_json::{Value as Json, json};

use super::definitions::definition;
use super::world::World;

/// The JSON names of a structure's members.
fn members(shape: &str) -> Vec<String> {
    let model = wire::model("ecs").unwrap();
    let id = model.shapes.iter().position(|s| s.name == shape).unwrap();
    model.members(Some(id)).iter().map(|member| member.name.clone()).collect()
}

/// Checks each member: `base` without it and `base` with the sample differ in what `run` answers, or the fault names it.
fn check(shape: &str, base: &Json, samples: &[(&str, Json)], run: impl Fn(Json) -> Result<String, String>) {
    let known = members(shape);
    for (name, _) in samples {
        assert!(known.iter().any(|k| k == name), "{shape} has no member {name}");
    }
    for name in &known {
        let Some((_, sample)) = samples.iter().find(|(n, _)| n == name) else {
            panic!("{shape}.{name} has no sample: say what it does");
        };
        let mut with = base.clone();
        with[name] = sample.clone();
        let mut without = base.clone();
        without.as_object_mut().unwrap().remove(name);
        match run(with) {
            Err(fault) => assert!(fault.contains(name.as_str()), "{shape}.{name} is refused as {fault}"),
            Ok(with) => assert_ne!(Ok(with), run(without), "{shape}.{name} is ignored"),
        }
    }
}

fn register(input: Json) -> Result<String, String> {
    let mut world = World::new();
    world.call("RegisterTaskDefinition", input).map_err(|fault| fault.to_string())?;
    let (_, record) = world.snapshot.task_definitions.iter().next().unwrap();
    Ok(format!(
        "{:?} {:?} {} {:?}",
        record.spec, record.tags, record.document["compatibilities"], record.requires
    ))
}

#[test]
fn every_member_of_a_container_definition_has_its_effect() {
    let samples = [
        ("name", json!("other")),
        ("image", json!("other")),
        ("repositoryCredentials", json!({"credentialsParameter": "x"})),
        ("cpu", json!(64)),
        ("memory", json!(128)),
        ("memoryReservation", json!(32)),
        ("links", json!(["b"])),
        ("portMappings", json!([{"containerPort": 80}])),
        ("essential", json!(false)),
        ("restartPolicy", json!({"enabled": true})),
        ("entryPoint", json!(["/x"])),
        ("command", json!(["x"])),
        ("environment", json!([{"name": "A", "value": "1"}])),
        ("environmentFiles", json!([{"value": "arn:aws:s3:::b/x.env", "type": "s3"}])),
        ("mountPoints", json!([{"sourceVolume": "v", "containerPath": "/v"}])),
        ("volumesFrom", json!([{"sourceContainer": "b"}])),
        ("linuxParameters", json!({"initProcessEnabled": true})),
        ("secrets", json!([{"name": "A", "valueFrom": "x"}])),
        ("dependsOn", json!([{"containerName": "b", "condition": "START"}])),
        ("startTimeout", json!(10)),
        ("stopTimeout", json!(10)),
        ("versionConsistency", json!("disabled")),
        ("hostname", json!("h")),
        ("user", json!("1")),
        ("workingDirectory", json!("/w")),
        ("disableNetworking", json!(true)),
        ("privileged", json!(true)),
        ("readonlyRootFilesystem", json!(true)),
        ("dnsServers", json!(["10.0.0.2"])),
        ("dnsSearchDomains", json!(["local"])),
        ("extraHosts", json!([{"hostname": "h", "ipAddress": "10.0.0.1"}])),
        ("dockerSecurityOptions", json!(["no-new-privileges"])),
        ("interactive", json!(true)),
        ("pseudoTerminal", json!(true)),
        ("dockerLabels", json!({"a": "1"})),
        ("ulimits", json!([{"name": "nofile", "softLimit": 1, "hardLimit": 1}])),
        (
            "logConfiguration",
            json!({"logDriver": "awslogs", "options": {
                "awslogs-group": "g", "awslogs-region": "r", "awslogs-stream-prefix": "p"}}),
        ),
        ("healthCheck", json!({"command": ["CMD", "true"]})),
        ("systemControls", json!([{"namespace": "net.core.somaxconn", "value": "1"}])),
        ("resourceRequirements", json!([{"type": "GPU", "value": "1"}])),
        ("firelensConfiguration", json!({"type": "fluentbit"})),
        ("credentialSpecs", json!(["x"])),
    ];
    let base = json!({"name": "app", "image": "busybox", "memory": 64});
    check("ContainerDefinition", &base, &samples, |container| {
        let mut input = definition(json!({"volumes": [{"name": "v"}]}), json!({}));
        let b = json!({"name": "b", "image": "busybox", "memory": 64});
        input["containerDefinitions"] = json!([container, b]);
        register(input)
    });
}

/// Registers with a member of the container; what it answers is what [`check`] compares.
fn with_member(member: &str, value: Json) -> Result<String, String> {
    register(definition(json!({}), json!({member: value})))
}

#[test]
fn every_member_of_a_port_mapping_and_of_linux_parameters_has_its_effect() {
    let samples = [
        ("containerPort", json!(81)),
        ("hostPort", json!(8080)),
        ("protocol", json!("udp")),
        ("name", json!("web")),
        ("appProtocol", json!("grpc")),
        ("containerPortRange", json!("80-81")),
    ];
    check("PortMapping", &json!({"containerPort": 80}), &samples, |mut port| {
        // A range stands alone: with a port beside it, ECS names the conflict instead.
        if port["containerPortRange"].is_string() {
            port.as_object_mut().unwrap().remove("containerPort");
        }
        with_member("portMappings", json!([port]))
    });
    let samples = [
        ("capabilities", json!({"add": ["NET_ADMIN"]})),
        ("devices", json!([{"hostPath": "/dev/null"}])),
        ("initProcessEnabled", json!(true)),
        ("sharedMemorySize", json!(1)),
        ("tmpfs", json!([{"containerPath": "/t", "size": 1}])),
        ("maxSwap", json!(1)),
        ("swappiness", json!(1)),
    ];
    check("LinuxParameters", &json!({"maxSwap": 2}), &samples, |linux| with_member("linuxParameters", linux));
}

#[test]
fn every_member_of_checks_logs_and_restarts_has_its_effect() {
    let samples = [
        ("command", json!(["CMD", "false"])),
        ("interval", json!(10)),
        ("timeout", json!(10)),
        ("retries", json!(10)),
        ("startPeriod", json!(10)),
    ];
    let absent = |value: &Json| value.is_null().then(|| Ok("absent".to_owned()));
    check("HealthCheck", &json!({"command": ["CMD", "true"]}), &samples, |check| {
        absent(&check["command"]).unwrap_or_else(|| with_member("healthCheck", check))
    });
    let options = json!({"awslogs-group": "g", "awslogs-region": "r", "awslogs-stream-prefix": "p"});
    let samples = [
        ("logDriver", json!("json-file")),
        ("options", options),
        ("secretOptions", json!([{"name": "a", "valueFrom": "b"}])),
    ];
    check("LogConfiguration", &json!({"logDriver": "awslogs"}), &samples, |log| {
        absent(&log["logDriver"]).unwrap_or_else(|| with_member("logConfiguration", log))
    });
    let samples =
        [("enabled", json!(true)), ("ignoredExitCodes", json!([1])), ("restartAttemptPeriod", json!(61))];
    check("ContainerRestartPolicy", &json!({"enabled": true}), &samples, |policy| {
        absent(&policy["enabled"]).unwrap_or_else(|| with_member("restartPolicy", policy))
    });
}

#[test]
fn every_member_of_a_volume_has_its_effect() {
    let windows = json!({"fileSystemId": "x", "rootDirectory": "/",
        "authorizationConfig": {"credentialsParameter": "x", "domain": "x"}});
    let s3 = json!({"fileSystemArn": "arn:aws:s3files:us-east-1:000000000000:file-system/x"});
    let samples = [
        ("name", json!("w")),
        ("host", json!({"sourcePath": "/srv"})),
        ("dockerVolumeConfiguration", json!({"scope": "shared"})),
        ("efsVolumeConfiguration", json!({"fileSystemId": "x"})),
        ("s3filesVolumeConfiguration", s3),
        ("fsxWindowsFileServerVolumeConfiguration", windows),
        ("configuredAtLaunch", json!(true)),
    ];
    let run = |volume: Json| register(definition(json!({"volumes": [volume]}), json!({})));
    check("Volume", &json!({"name": "v"}), &samples, |volume| {
        if volume["name"].is_null() { Ok("absent".into()) } else { run(volume) }
    });
    let samples = [
        ("scope", json!("shared")),
        ("autoprovision", json!(true)),
        ("driver", json!("rexray")),
        ("driverOpts", json!({"a": "b"})),
        ("labels", json!({"a": "b"})),
    ];
    check("DockerVolumeConfiguration", &json!({"scope": "shared"}), &samples, |docker| {
        run(json!({"name": "v", "dockerVolumeConfiguration": docker}))
    });
}

#[test]
fn every_member_of_a_registration_has_its_effect() {
    let samples = [
        ("family", json!("other")),
        ("taskRoleArn", json!("r")),
        ("executionRoleArn", json!("r")),
        ("networkMode", json!("host")),
        ("containerDefinitions", json!([{"name": "x", "image": "busybox", "memory": 64}])),
        ("volumes", json!([{"name": "v"}])),
        ("placementConstraints", json!([{"type": "memberOf", "expression": "attribute:a == b"}])),
        ("requiresCompatibilities", json!(["EC2"])),
        ("cpu", json!("256")),
        ("memory", json!("512")),
        ("tags", json!([{"key": "a", "value": "1"}])),
        ("pidMode", json!("task")),
        ("ipcMode", json!("host")),
        ("proxyConfiguration", json!({"containerName": "app"})),
        ("inferenceAccelerators", json!([{"deviceName": "d", "deviceType": "t"}])),
        ("ephemeralStorage", json!({"sizeInGiB": 30})),
        ("runtimePlatform", json!({"cpuArchitecture": "ARM64"})),
        ("enableFaultInjection", json!(true)),
    ];
    let base = definition(json!({}), json!({}));
    check("RegisterTaskDefinitionRequest", &base, &samples, |input| {
        if input["family"].is_null() || input["containerDefinitions"].is_null() {
            return Ok("none".into());
        }
        register(input)
    });
}

/// A world with what requests name: definitions, a second cluster, a target group behind a listener, a registry.
pub fn stage() -> World {
    let mut world = World::new();
    world.fargate("app");
    world.fargate("app");
    let ec2 = json!({"family": "ec2", "containerDefinitions": [
        {"name": "app", "image": "busybox", "memory": 64, "portMappings": [{"containerPort": 80}]}]});
    world.ok("RegisterTaskDefinition", ec2);
    for cluster in ["default", "other"] {
        world.ok("CreateCluster", json!({"clusterName": cluster}));
        world.ok(
            "PutClusterCapacityProviders",
            json!({"cluster": cluster, "defaultCapacityProviderStrategy": [],
            "capacityProviders": ["FARGATE", "FARGATE_SPOT"]}),
        );
    }
    super::services::add_target_group(&mut world);
    super::services::add_registry(&mut world);
    world
}

/// What a call wrote, without ids and times.
fn run_task(input: Json) -> Result<String, String> {
    let mut world = stage();
    world.call("RunTask", input).map_err(|fault| fault.to_string())?;
    let groups = world.snapshot.groups.iter().map(|(_, g)| {
        (
            g.cluster.clone(),
            g.source.clone(),
            world.snapshot.specs.get(&g.spec).cloned(),
            g.attachment().is_some(),
        )
    });
    Ok(format!("{:?}", groups.collect::<Vec<_>>()))
}

#[test]
fn every_member_of_run_task_has_its_effect() {
    let network = stage().network();
    let samples = [
        ("capacityProviderStrategy", json!([{"capacityProvider": "FARGATE", "weight": 1}])),
        ("cluster", json!("other")),
        ("count", json!(2)),
        ("enableECSManagedTags", json!(true)),
        ("enableExecuteCommand", json!(true)),
        ("group", json!("g")),
        ("launchType", json!("FARGATE")),
        ("networkConfiguration", network.clone()),
        ("overrides", json!({"cpu": "512", "memory": "1024"})),
        ("placementConstraints", json!([{"type": "memberOf", "expression": "attribute:a == b"}])),
        ("placementStrategy", json!([{"type": "spread", "field": "attribute:mine"}])),
        ("platformVersion", json!("1.3.0")),
        ("propagateTags", json!("SERVICE")),
        ("referenceId", json!("r")),
        ("startedBy", json!("me")),
        ("tags", json!([{"key": "a", "value": "1"}])),
        ("taskDefinition", json!("app:1")),
        ("clientToken", json!("t")),
        ("volumeConfigurations", json!([{"name": "v"}])),
    ];
    let base = json!({"taskDefinition": "app", "networkConfiguration": network});
    check("RunTaskRequest", &base, &samples, |mut input| {
        if input["platformVersion"].is_string() {
            input["launchType"] = json!("FARGATE");
        }
        run_task(input)
    });
}

#[test]
fn every_member_of_overrides_has_its_effect() {
    let network = stage().network();
    let run = |overrides: Json| {
        run_task(json!({"taskDefinition": "app", "networkConfiguration": network, "overrides": overrides}))
    };
    let samples = [
        ("containerOverrides", json!([{"name": "app", "command": ["x"]}])),
        ("cpu", json!("512")),
        ("inferenceAcceleratorOverrides", json!([{"deviceName": "d"}])),
        ("executionRoleArn", json!("r")),
        ("memory", json!("1024")),
        ("taskRoleArn", json!("r")),
        ("ephemeralStorage", json!({"sizeInGiB": 30})),
    ];
    check("TaskOverride", &json!({}), &samples, run);
    let samples = [
        ("name", json!("app")),
        ("command", json!(["x"])),
        ("environment", json!([{"name": "A", "value": "1"}])),
        ("environmentFiles", json!([{"value": "arn:aws:s3:::b/x.env", "type": "s3"}])),
        ("cpu", json!(64)),
        ("memory", json!(64)),
        ("memoryReservation", json!(64)),
        ("resourceRequirements", json!([{"type": "GPU", "value": "1"}])),
    ];
    check("ContainerOverride", &json!({"name": "app", "command": ["y"]}), &samples, |container| {
        run(json!({"containerOverrides": [container]}))
    });
}

fn create_service(input: Json) -> Result<String, String> {
    let mut world = stage();
    world.call("CreateService", input).map_err(|fault| fault.to_string())?;
    let (key, service) = world.snapshot.services.iter().next().unwrap();
    let service = state::ecs::Service { deployments: Vec::new(), ..state::ecs::Service::clone(service) };
    Ok(format!("{key} {service:?}"))
}

#[test]
fn every_member_of_create_service_has_its_effect() {
    let world = stage();
    let balancer =
        json!({"targetGroupArn": super::services::TARGET_GROUP, "containerName": "app", "containerPort": 80});
    let network = world.network();
    let samples = [
        ("cluster", json!("other")),
        ("serviceName", json!("t")),
        ("taskDefinition", json!("app:1")),
        ("availabilityZoneRebalancing", json!("ENABLED")),
        ("loadBalancers", json!([balancer])),
        ("serviceRegistries", json!([{"registryArn": super::services::REGISTRY, "port": 80}])),
        ("desiredCount", json!(2)),
        ("clientToken", json!("t")),
        ("launchType", json!("FARGATE")),
        ("capacityProviderStrategy", json!([{"capacityProvider": "FARGATE", "weight": 1}])),
        ("platformVersion", json!("1.3.0")),
        ("role", json!("r")),
        ("deploymentConfiguration", json!({"maximumPercent": 150})),
        ("placementConstraints", json!([{"type": "distinctInstance"}])),
        ("placementStrategy", json!([{"type": "random"}])),
        ("networkConfiguration", network.clone()),
        ("healthCheckGracePeriodSeconds", json!(10)),
        ("schedulingStrategy", json!("DAEMON")),
        ("deploymentController", json!({"type": "EXTERNAL"})),
        ("tags", json!([{"key": "a", "value": "1"}])),
        ("enableECSManagedTags", json!(true)),
        ("propagateTags", json!("SERVICE")),
        ("enableExecuteCommand", json!(true)),
        ("serviceConnectConfiguration", json!({"enabled": true})),
        ("volumeConfigurations", json!([{"name": "v"}])),
        ("vpcLatticeConfigurations", json!([{"roleArn": "r", "targetGroupArn": "t", "portName": "p"}])),
    ];
    let base = json!({"serviceName": "s", "taskDefinition": "app", "desiredCount": 1, "networkConfiguration": network});
    check("CreateServiceRequest", &base, &samples, |mut input| {
        if input["platformVersion"].is_string() {
            input["launchType"] = json!("FARGATE");
        }
        if input["role"].is_string() {
            return create_service(input).map_err(|f| f.replace("an IAM role", "an IAM role (role)"));
        }
        if input["healthCheckGracePeriodSeconds"].is_number() {
            input["loadBalancers"] = json!([balancer]);
        }
        create_service(input)
    });
}

#[test]
fn every_member_of_a_deployment_configuration_has_its_effect() {
    let network = stage().network();
    let samples = [
        ("deploymentCircuitBreaker", json!({"enable": true, "rollback": true})),
        ("maximumPercent", json!(150)),
        ("minimumHealthyPercent", json!(50)),
        ("alarms", json!({"alarmNames": ["a"], "enable": true, "rollback": true})),
        ("strategy", json!("BLUE_GREEN")),
        ("bakeTimeInMinutes", json!(5)),
        ("lifecycleHooks", json!([{"hookTargetArn": "arn"}])),
        ("linearConfiguration", json!({"stepPercent": 10.0})),
        ("canaryConfiguration", json!({"canaryPercent": 10.0})),
    ];
    check("DeploymentConfiguration", &json!({}), &samples, |configuration| {
        create_service(json!({"serviceName": "s", "taskDefinition": "app", "desiredCount": 1,
            "networkConfiguration": network, "deploymentConfiguration": configuration}))
    });
}

#[test]
fn every_member_of_update_service_has_its_effect() {
    let world = stage();
    let network = world.network();
    let one_subnet = json!({"awsvpcConfiguration": {"subnets": [world.subnets()[0]]}});
    let balancer =
        json!({"targetGroupArn": super::services::TARGET_GROUP, "containerName": "app", "containerPort": 80});
    let samples = [
        ("cluster", json!("other")),
        ("service", json!("t")),
        ("desiredCount", json!(2)),
        ("taskDefinition", json!("app:1")),
        ("capacityProviderStrategy", json!([{"capacityProvider": "FARGATE", "weight": 1}])),
        ("deploymentConfiguration", json!({"maximumPercent": 150})),
        ("availabilityZoneRebalancing", json!("ENABLED")),
        ("networkConfiguration", one_subnet),
        ("placementConstraints", json!([{"type": "distinctInstance"}])),
        ("placementStrategy", json!([{"type": "random"}])),
        ("platformVersion", json!("1.3.0")),
        ("forceNewDeployment", json!(true)),
        ("healthCheckGracePeriodSeconds", json!(10)),
        ("deploymentController", json!({"type": "EXTERNAL"})),
        ("enableExecuteCommand", json!(true)),
        ("enableECSManagedTags", json!(true)),
        ("loadBalancers", json!([balancer])),
        ("propagateTags", json!("SERVICE")),
        ("serviceRegistries", json!([{"registryArn": super::services::REGISTRY, "port": 80}])),
        ("serviceConnectConfiguration", json!({"enabled": true})),
        ("volumeConfigurations", json!([{"name": "v"}])),
        ("vpcLatticeConfigurations", json!([{"roleArn": "r", "targetGroupArn": "t", "portName": "p"}])),
    ];
    check("UpdateServiceRequest", &json!({"service": "s"}), &samples, |mut input| {
        let mut world = stage();
        let launch = if input["platformVersion"].is_string() { "FARGATE" } else { "EC2" };
        for (cluster, name) in [("default", "s"), ("default", "t"), ("other", "s")] {
            world.ok(
                "CreateService",
                json!({"cluster": cluster, "serviceName": name, "taskDefinition": "app",
                "desiredCount": 1, "launchType": launch, "networkConfiguration": network}),
            );
        }
        if input["service"].is_null() {
            return Ok("none".into());
        }
        if input["healthCheckGracePeriodSeconds"].is_number() {
            input["loadBalancers"] = json!([balancer]);
        }
        let answer = world.call("UpdateService", input).map_err(|fault| fault.to_string())?;
        let services = world.snapshot.services.iter().map(|(key, service)| {
            let bare = state::ecs::Service { deployments: Vec::new(), ..state::ecs::Service::clone(service) };
            format!("{key} {bare:?}")
        });
        Ok(format!("{} {:?}", answer["service"]["serviceArn"], services.collect::<Vec<_>>()))
    });
}
