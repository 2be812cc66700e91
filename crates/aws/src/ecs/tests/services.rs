//! Services: their checks, their views, and their lives with the controllers and an agent that obeys.

use serde_json::{Value as Json, json};
use state::Record;
use state::cloudmap::{DiscoveryService, Namespace};
use state::elb::{Action, HealthCheck, Listener, TargetGroup};
use state::group::{Phase, StopCause, StopCode};

use super::definitions::fargate;
use super::members::stage;
use super::world::{World, end};

/// A target group of type `ip` that a listener forwards to.
pub const TARGET_GROUP: &str =
    "arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/tg/0123456789abcdef";
/// One of type `instance` that a listener forwards to.
const INSTANCES: &str = "arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/in/0123456789abcdef";
/// One of type `ip` that nothing forwards to.
const LOOSE: &str = "arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/lo/0123456789abcdef";
/// A Cloud Map service with A and SRV records.
pub const REGISTRY: &str = "arn:aws:servicediscovery:us-east-1:000000000000:service/srv-0123456789abcdef";

/// Puts the three target groups.
pub fn add_target_group(world: &mut World) {
    world.write(|tx, _, _| {
        let scope = state::Scope::new("000000000000", "us-east-1");
        let vpc_id = tx.table::<state::ec2::Vpc>().iter().next().unwrap().1.id.clone();
        for (arn, kind) in [(TARGET_GROUP, "ip"), (INSTANCES, "instance"), (LOOSE, "ip")] {
            tx.put(TargetGroup {
                scope: scope.clone(),
                arn: arn.into(),
                name: arn.rsplit('/').nth(1).unwrap().into(),
                protocol: "HTTP".into(),
                protocol_version: "HTTP1".into(),
                port: 80,
                vpc_id: vpc_id.clone(),
                target_type: kind.into(),
                health_check: HealthCheck {
                    enabled: true,
                    protocol: "HTTP".into(),
                    port: "traffic-port".into(),
                    path: "/".into(),
                    interval_s: 30,
                    timeout_s: 5,
                    healthy_threshold: 5,
                    unhealthy_threshold: 2,
                    matcher: "200".into(),
                },
                attributes: Default::default(),
                tags: Vec::new(),
            });
        }
        tx.put(Listener {
            arn: "arn:aws:elasticloadbalancing:us-east-1:000000000000:listener/app/lb/1/2".into(),
            load_balancer_arn: "arn:aws:elasticloadbalancing:us-east-1:000000000000:loadbalancer/app/lb/1"
                .into(),
            port: 80,
            protocol: "HTTP".into(),
            default_actions: vec![Action::Forward {
                groups: vec![(TARGET_GROUP.into(), 1), (INSTANCES.into(), 1)],
                stickiness_s: None,
            }],
            attributes: Default::default(),
            tags: Vec::new(),
        });
    });
}

/// Puts the Cloud Map service.
pub fn add_registry(world: &mut World) {
    world.write(|tx, _, now_ms| {
        let scope = state::Scope::new("000000000000", "us-east-1");
        tx.put(Namespace {
            scope: scope.clone(),
            id: "ns-0123456789abcdef".into(),
            name: "local".into(),
            http_name: None,
            kind: "DNS_PRIVATE".into(),
            vpc_id: None,
            soa_ttl_s: 15,
            hosted_zone_id: None,
            description: None,
            creator_request_id: None,
            tags: Vec::new(),
            created_at_ms: now_ms,
        });
        tx.put(DiscoveryService {
            scope,
            id: "srv-0123456789abcdef".into(),
            name: "web".into(),
            namespace_id: "ns-0123456789abcdef".into(),
            routing_policy: Some("MULTIVALUE".into()),
            dns_records: vec![("A".into(), 10), ("SRV".into(), 10)],
            custom_health: true,
            description: None,
            creator_request_id: None,
            instances_revision: 0,
            tags: Vec::new(),
            created_at_ms: now_ms,
        });
    });
}

fn service(world: &World, with: Json) -> Json {
    let mut input = json!({"serviceName": "web", "taskDefinition": "app", "desiredCount": 2, "launchType": "FARGATE",
        "networkConfiguration": world.network()});
    for (key, value) in with.as_object().unwrap() {
        input[key] = value.clone();
    }
    input
}

/// The waiters' own conditions.
fn is_stable(service: &Json) -> bool {
    service["deployments"].as_array().unwrap().len() == 1
        && service["runningCount"] == service["desiredCount"]
}

#[test]
fn a_service_is_created_becomes_stable_and_rolls() {
    let mut world = stage();
    let input = service(&world, json!({"tags": [{"key": "a", "value": "1"}], "propagateTags": "SERVICE"}));
    let made = world.ok("CreateService", input)["service"].clone();
    for (member, expect) in [
        ("serviceArn", "arn:aws:ecs:us-east-1:000000000000:service/default/web"),
        ("status", "ACTIVE"),
        ("launchType", "FARGATE"),
        ("platformVersion", "LATEST"),
        ("schedulingStrategy", "REPLICA"),
        ("propagateTags", "SERVICE"),
        ("createdBy", "arn:aws:iam::000000000000:root"),
        ("taskDefinition", "arn:aws:ecs:us-east-1:000000000000:task-definition/app:2"),
    ] {
        assert_eq!(made[member], expect, "{member}");
    }
    assert_eq!(made["deploymentController"], json!({"type": "ECS"}));
    assert_eq!(made["deploymentConfiguration"]["maximumPercent"], 200);
    assert_eq!(made["networkConfiguration"]["awsvpcConfiguration"]["assignPublicIp"], "DISABLED");
    let deployment = &made["deployments"][0];
    assert_eq!(
        (&deployment["status"], &deployment["rolloutState"]),
        (&json!("PRIMARY"), &json!("IN_PROGRESS"))
    );
    assert_eq!(deployment["platformVersion"], "1.4.0");
    assert!(!is_stable(&made));

    world.settle();
    let describe = json!({"services": ["web"], "include": ["TAGS"]});
    let seen = world.ok("DescribeServices", describe.clone())["services"][0].clone();
    assert!(is_stable(&seen), "{seen}");
    assert_eq!(seen["events"][0]["message"], "(service web) has reached a steady state.");
    assert_eq!(seen["deployments"][0]["rolloutState"], "COMPLETED");
    assert_eq!(seen["tags"], json!([{"key": "a", "value": "1"}]));
    let tasks = world.ok("ListTasks", json!({"serviceName": "web"}))["taskArns"].clone();
    let task = world.ok("DescribeTasks", json!({"tasks": tasks, "include": ["TAGS"]}))["tasks"][0].clone();
    assert_eq!((&task["group"], &task["startedBy"]), (&json!("service:web"), &seen["deployments"][0]["id"]));
    assert_eq!(task["tags"], json!([{"key": "a", "value": "1"}]));
    // A service's task shows that nothing was overridden.
    assert_eq!(task["overrides"]["containerOverrides"], json!([{"name": "app"}]));

    let rolled =
        world.ok("UpdateService", json!({"service": "web", "taskDefinition": "app:1", "desiredCount": 3}));
    assert_eq!(rolled["service"]["deployments"].as_array().unwrap().len(), 2);
    assert_eq!(rolled["service"]["deployments"][1]["status"], "ACTIVE");
    world.settle();
    let seen = world.ok("DescribeServices", describe.clone())["services"][0].clone();
    assert!(is_stable(&seen) && seen["runningCount"] == 3, "{seen}");
    let id = seen["deployments"][0]["id"].clone();
    let same = world.ok("UpdateService", json!({"service": "web", "desiredCount": 1}));
    assert_eq!(same["service"]["deployments"][0]["id"], id);
    let forced = world.ok("UpdateService", json!({"service": "web", "forceNewDeployment": true}));
    assert_ne!(forced["service"]["deployments"][0]["id"], id);
}

#[test]
fn a_service_drains_and_its_name_can_be_used_again() {
    let mut world = stage();
    let describe = json!({"services": ["web"]});
    let input = service(&world, json!({}));
    world.ok("CreateService", input);
    world.settle();
    assert_eq!(
        world.err("DeleteService", json!({"service": "web"})),
        "InvalidParameterException: The service cannot be stopped while it is scaled above 0."
    );
    let gone = world.ok("DeleteService", json!({"service": "web", "force": true}));
    assert_eq!(gone["service"]["status"], "DRAINING");
    let again = service(&world, json!({}));
    assert_eq!(
        world.err("CreateService", again.clone()),
        "InvalidParameterException: Unable to Start a service that is still Draining."
    );
    world.settle();
    let seen = world.ok("DescribeServices", describe)["services"][0].clone();
    assert_eq!((&seen["status"], &seen["runningCount"]), (&json!("INACTIVE"), &json!(0)));
    assert_eq!(world.ok("ListServices", json!({}))["serviceArns"], json!([]));
    assert_eq!(
        world.err("UpdateService", json!({"service": "web"})),
        "ServiceNotActiveException: Service was not ACTIVE."
    );
    assert_eq!(world.ok("CreateService", again)["service"]["status"], "ACTIVE");
    world.settle();
}

/// Each call is refused with this fault.
fn refused(world: &mut World, cases: &[(Json, String)]) {
    for (with, expect) in cases {
        let input = service(world, with.clone());
        assert_eq!(world.err("CreateService", input), *expect, "{with}");
    }
}

fn invalid(text: &str) -> String {
    format!("InvalidParameterException: {text}")
}

fn client(text: &str) -> String {
    format!("ClientException: {text}")
}

#[test]
fn services_are_refused_in_the_words_of_ecs() {
    let mut world = stage();
    let deploy = |with: Json| json!({"deploymentConfiguration": with});
    let cases = [
        (json!({"serviceName": "a b"}), invalid("Invalid service name.")),
        (json!({"taskDefinition": "none"}), client("TaskDefinition not found.")),
        (json!({"cluster": "none"}), "ClusterNotFoundException: Cluster not found.".into()),
        (json!({"desiredCount": -1}), invalid("desiredCount must be between 0 and 5000, but was -1")),
        (
            json!({"networkConfiguration": null}),
            invalid("Network Configuration must be provided when networkMode 'awsvpc' is specified."),
        ),
        (
            deploy(json!({"maximumPercent": 100, "minimumHealthyPercent": 100})),
            invalid(
                "Both maximumPercent and minimumHealthyPercent cannot be 100 as this will block deployments.",
            ),
        ),
        (deploy(json!({"minimumHealthyPercent": 101})), invalid("minimumHealthyPercent must be at most 100")),
        (
            deploy(json!({"strategy": "CANARY"})),
            client("deploymentConfiguration.strategy 'CANARY' is not supported."),
        ),
        (
            json!({"healthCheckGracePeriodSeconds": 5}),
            invalid("Health check grace period is only valid for services configured to use load balancers"),
        ),
        (
            json!({"role": "ecs"}),
            invalid("You cannot specify an IAM role for services that require a service linked role."),
        ),
        (json!({"schedulingStrategy": "DAEMON"}), client("schedulingStrategy 'DAEMON' is not supported.")),
        (
            json!({"deploymentController": {"type": "CODE_DEPLOY"}}),
            client("deploymentController 'CODE_DEPLOY' is not supported."),
        ),
    ];
    refused(&mut world, &cases);
}

#[test]
fn load_balancers_are_refused_in_the_words_of_ecs() {
    let mut world = stage();
    let balancer = |arn: &str, name: &str, port: i64| {
        let balancer = json!({"targetGroupArn": arn, "containerName": name, "containerPort": port});
        json!({"loadBalancers": [balancer]})
    };
    let missing = TARGET_GROUP.replace("/tg/", "/no/");
    let instances = json!({"taskDefinition": "ec2", "launchType": "EC2", "networkConfiguration": null,
        "loadBalancers": [{"targetGroupArn": TARGET_GROUP, "containerName": "app", "containerPort": 80}]});
    let cases = [
        (balancer(&missing, "app", 80), invalid(&format!("The target group {missing} does not exist."))),
        (
            balancer(LOOSE, "app", 80),
            invalid(&format!(
                "The target group with targetGroupArn {LOOSE} does not have an associated load balancer."
            )),
        ),
        (
            balancer(INSTANCES, "app", 80),
            invalid(&format!(
                "The provided target group {INSTANCES} has target type instance, which is incompatible with the awsvpc \
                 network mode specified in the task definition."
            )),
        ),
        (
            instances,
            invalid(&format!(
                "The provided target group {TARGET_GROUP} has target type ip, which is incompatible with the bridge \
                 network mode specified in the task definition."
            )),
        ),
        (balancer(TARGET_GROUP, "x", 80), invalid("The container x does not exist in the task definition.")),
        (
            balancer(TARGET_GROUP, "app", 81),
            invalid("The container app did not have a container port 81 defined."),
        ),
        (
            json!({"loadBalancers": [{"loadBalancerName": "classic", "containerName": "app", "containerPort": 80}]}),
            client("loadBalancerName (Classic Load Balancer) is not supported."),
        ),
    ];
    refused(&mut world, &cases);
}

#[test]
fn registries_are_refused_in_the_words_of_ecs() {
    let mut world = stage();
    let registry = json!({"serviceRegistries": [{"registryArn": REGISTRY}]});
    let bridge = json!({"taskDefinition": "ec2", "launchType": "EC2", "networkConfiguration": null,
        "serviceRegistries": [{"registryArn": REGISTRY}]});
    let cases = [
        (
            registry,
            invalid(
                "When specifying 'awsvpc' for networkMode and an SRV record, a value for 'port' or values for \
                     'containerName' and 'containerPort' must be specified.",
            ),
        ),
        (
            bridge,
            invalid(
                "When specifying 'bridge' for networkMode, values for 'containerName' and 'containerPort' must be \
                     specified from the task definition.",
            ),
        ),
        (
            json!({"serviceRegistries": [{"registryArn": format!("{REGISTRY}x")}]}),
            invalid(&format!("The service registry {REGISTRY}x does not exist.")),
        ),
    ];
    refused(&mut world, &cases);
}

#[test]
fn a_name_is_used_once_and_what_is_missing_is_told() {
    let mut world = stage();
    let input =
        service(&world, json!({"clientToken": "t", "serviceConnectConfiguration": {"enabled": false}}));
    world.ok("CreateService", input.clone());
    world.ok("CreateService", input);
    let other = service(&world, json!({}));
    assert_eq!(
        world.err("CreateService", other),
        "InvalidParameterException: Creation of service was not idempotent."
    );
    for operation in ["UpdateService", "DeleteService"] {
        let not_found = "ServiceNotFoundException: Service not found.";
        assert_eq!(world.err(operation, json!({"service": "none"})), not_found);
    }
    let seen = world.ok("DescribeServices", json!({"services": ["none"]}));
    let arn = "arn:aws:ecs:us-east-1:000000000000:service/default/none";
    assert_eq!(seen["failures"], json!([{"arn": arn, "reason": "MISSING"}]));
    assert_eq!(world.err("DescribeServices", json!({"services": []})), invalid("Services cannot be empty."));
}

#[test]
fn lists_are_paged_and_narrowed() {
    let mut world = stage();
    for n in 0..12 {
        let launch = if n % 2 == 0 { "FARGATE" } else { "EC2" };
        let input = service(
            &world,
            json!({"serviceName": format!("s{n:02}"), "desiredCount": 0, "launchType": launch}),
        );
        world.ok("CreateService", input);
    }
    let first = world.ok("ListServices", json!({}));
    assert_eq!(first["serviceArns"].as_array().unwrap().len(), 10);
    let rest = world.ok("ListServices", json!({"nextToken": first["nextToken"]}));
    assert_eq!(rest["serviceArns"][1], "arn:aws:ecs:us-east-1:000000000000:service/default/s11");
    assert!(rest["nextToken"].is_null());
    let ec2 = world.ok("ListServices", json!({"launchType": "EC2"}));
    assert_eq!(ec2["serviceArns"].as_array().unwrap().len(), 6);
    assert_eq!(world.ok("ListServices", json!({"schedulingStrategy": "DAEMON"}))["serviceArns"], json!([]));
}

#[test]
fn deployments_and_revisions_are_told_of() {
    let mut world = stage();
    let input = service(
        &world,
        json!({"deploymentConfiguration": {"deploymentCircuitBreaker": {"enable": true, "rollback": true}}}),
    );
    world.ok("CreateService", input);
    world.settle();
    let list = world.ok("ListServiceDeployments", json!({"service": "web"}))["serviceDeployments"].clone();
    assert_eq!(list[0]["status"], "SUCCESSFUL");
    let arn = list[0]["serviceDeploymentArn"].clone();
    let missing = format!("{}0", arn.as_str().unwrap());
    let seen = world.ok("DescribeServiceDeployments", json!({"serviceDeploymentArns": [arn, missing]}));
    assert_eq!(
        seen["serviceDeployments"][0]["deploymentCircuitBreaker"],
        json!({"status": "MONITORING_COMPLETE", "failureCount": 0, "threshold": 3})
    );
    assert_eq!(seen["serviceDeployments"][0]["targetServiceRevision"]["runningTaskCount"], 2);
    assert_eq!(seen["failures"], json!([{"arn": missing, "reason": "MISSING"}]));
    let revision = list[0]["targetServiceRevisionArn"].clone();
    let seen = world.ok("DescribeServiceRevisions", json!({"serviceRevisionArns": [revision]}));
    let seen = &seen["serviceRevisions"][0];
    assert_eq!(seen["taskDefinition"], "arn:aws:ecs:us-east-1:000000000000:task-definition/app:2");
    assert_eq!(seen["containerImages"], json!([{"containerName": "app", "image": "busybox"}]));
    let current = world.ok("DescribeServices", json!({"services": ["web"]}))["services"][0].clone();
    assert_eq!(current["currentServiceDeployment"], arn);
    assert_eq!(current["currentServiceRevisions"][0]["arn"], revision);
}

#[test]
fn later_tasks_of_a_deployment_are_given_the_image_that_the_first_found() {
    for (kept, family) in [("enabled", "once"), ("disabled", "follows")] {
        let mut world = stage();
        let container = json!({"versionConsistency": kept, "image": "busybox:1"});
        world.ok("RegisterTaskDefinition", fargate(json!({"family": family}), container));
        let input = service(&world, json!({"taskDefinition": family, "desiredCount": 1}));
        world.ok("CreateService", input);
        world.settle();
        let digest = format!("sha256:{}", "1".repeat(64));
        let first = world.snapshot.groups.iter().find(|(_, group)| group.task().service.is_some()).unwrap();
        let (key, mut seen) = (first.0.to_owned(), first.1.observed.clone());
        seen.containers[0].image_digest = Some(digest.clone());
        world.report(&key, seen);
        world.ok("UpdateService", json!({"service": "web", "desiredCount": 2}));
        world.settle();
        let given = |world: &World| {
            let groups = world.snapshot.groups.iter().map(|(_, group)| group);
            let tasks = groups.filter(|g| g.task().service.is_some() && !g.is_stopping());
            let spec = |group: &state::ContainerGroup| world.snapshot.specs.get(&group.spec).unwrap();
            let mut all: Vec<String> =
                tasks.map(|group| spec(group).spec.containers[0].image_reference()).collect();
            all.sort();
            all
        };
        let (named, resolved) = ("busybox:1".to_owned(), format!("busybox:1@{digest}"));
        let (second, told) = match kept {
            "enabled" => (resolved, json!(digest)),
            _ => (named.clone(), Json::Null),
        };
        assert_eq!(given(&world), [named.clone(), second]);
        let list =
            world.ok("ListServiceDeployments", json!({"service": "web"}))["serviceDeployments"].clone();
        let revision = list[0]["targetServiceRevisionArn"].clone();
        let seen = world.ok("DescribeServiceRevisions", json!({"serviceRevisionArns": [revision]}));
        assert_eq!(seen["serviceRevisions"][0]["containerImages"][0]["imageDigest"], told);
        world.ok("UpdateService", json!({"service": "web", "forceNewDeployment": true}));
        world.settle();
        assert_eq!(given(&world), [named.clone(), named], "another deployment finds out anew");
    }
}

#[test]
fn a_deployment_that_fails_early_is_rolled_back_to_one_that_ran_in_full() {
    let mut world = stage();
    let breaker = json!({"deploymentCircuitBreaker": {"enable": true, "rollback": true}});
    let input = service(&world, json!({"desiredCount": 1, "deploymentConfiguration": breaker}));
    world.ok("CreateService", input);
    // Its only task runs, for too short a time to call the deployment completed.
    world.step();
    world.step();
    let before = world.ok("DescribeServices", json!({"services": ["web"]}))["services"][0].clone();
    assert!(is_stable(&before) && before["deployments"][0]["rolloutState"] == "IN_PROGRESS", "{before:#}");
    world.fargate("app");
    world.ok("UpdateService", json!({"service": "web", "taskDefinition": "app"}));
    for _ in 0..6 {
        world.step();
        let newest = world.ok("DescribeServices", json!({"services": ["web"]}))["services"][0].clone();
        let id = newest["deployments"][0]["id"].as_str().unwrap().to_owned();
        if id == before["deployments"][0]["id"] {
            break;
        }
        let keys: Vec<_> = world.snapshot.groups.by_index("deployment", &id).map(|g| g.key()).collect();
        for key in keys {
            let mut seen = world.snapshot.groups.get(&key).unwrap().observed.clone();
            if seen.phase < Phase::Gone {
                let cause = StopCause {
                    code: StopCode::EssentialContainerExited,
                    reason: "Essential container in task exited".into(),
                    at_ms: world.now_ms,
                };
                end(&mut seen, world.now_ms, 1, Some(cause));
                world.report(&key, seen);
            }
        }
    }
    world.settle();
    let after = world.ok("DescribeServices", json!({"services": ["web"]}))["services"][0].clone();
    assert!(is_stable(&after), "{after:#}");
    assert_eq!(after["deployments"][0]["id"], before["deployments"][0]["id"]);
    assert_eq!(after["deployments"][0]["rolloutState"], "COMPLETED");
    assert_eq!(after["taskDefinition"], before["taskDefinition"]);
}

#[test]
fn a_service_can_be_scaled_though_its_target_group_is_gone() {
    let mut world = stage();
    let balancer = json!([{"targetGroupArn": TARGET_GROUP, "containerName": "app", "containerPort": 80}]);
    let input = service(&world, json!({"loadBalancers": balancer}));
    world.ok("CreateService", input);
    world.write(|tx, _, _| tx.delete::<TargetGroup>(TARGET_GROUP));
    let text = invalid(&format!("The target group {TARGET_GROUP} does not exist."));
    assert_eq!(world.err("UpdateService", json!({"service": "web", "taskDefinition": "app"})), text);
    let scaled = world.ok("UpdateService", json!({"service": "web", "desiredCount": 0}));
    assert_eq!(scaled["service"]["desiredCount"], 0);
    let without = json!({"service": "web", "loadBalancers": []});
    assert_eq!(world.ok("UpdateService", without)["service"]["loadBalancers"], json!([]));
}
