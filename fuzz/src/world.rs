//! The control state in memory that requests are answered from: a node, a default VPC, and one of each thing.

use std::sync::OnceLock;

use aws::testing::World;
use serde_json::json;

/// The digest of `{}`.
const EMPTY: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

/// A state of its own, with one of each thing.
pub fn new() -> World {
    static MADE: OnceLock<World> = OnceLock::new();
    MADE.get_or_init(make).clone()
}

fn make() -> World {
    let mut world = World::new("ecs");
    world.ok("CreateCluster", json!({"clusterName": "default"}));
    let container =
        json!({"name": "web", "image": "localhost:4566/web:1", "portMappings": [{"containerPort": 80}]});
    let task = json!({"family": "web", "networkMode": "awsvpc", "requiresCompatibilities": ["FARGATE"],
                      "cpu": "256", "memory": "512", "containerDefinitions": [container]});
    world.ok("RegisterTaskDefinition", task);
    let container = json!({"name": "worker", "image": "web", "memory": 64, "cpu": 16});
    world.ok("RegisterTaskDefinition", json!({"family": "worker", "containerDefinitions": [container]}));
    let service = json!({"serviceName": "worker", "taskDefinition": "worker", "desiredCount": 1});
    world.ok("CreateService", service);
    world.ok("RunTask", json!({"taskDefinition": "worker"}));
    image(&mut world, "web");
    let group = "/ecs/web";
    world.ok_of("logs", "CreateLogGroup", json!({"logGroupName": group}));
    world.ok_of("logs", "CreateLogStream", json!({"logGroupName": group, "logStreamName": "a"}));
    let event = |message: &str| json!({"timestamp": world.now_ms, "message": message});
    let events = [event("ERROR it \"broke\""), event("all is well: 100 %")];
    let put = json!({"logGroupName": group, "logStreamName": "a", "logEvents": events});
    world.ok_of("logs", "PutLogEvents", put);
    world.ok_of("servicediscovery", "CreateHttpNamespace", json!({"Name": "shop"}));
    load_balancer(&mut world);
    let trust = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]});
    let role = json!({"RoleName": "task", "AssumeRolePolicyDocument": trust.to_string()});
    world.ok_of("iam", "CreateRole", role);
    world
}

/// A repository with an image `1`, of one blob that is its configuration and its layer.
fn image(world: &mut World, name: &str) {
    world.ok_of("ecr", "CreateRepository", json!({"repositoryName": name}));
    let begun = world.ok_of("ecr", "InitiateLayerUpload", json!({"repositoryName": name}));
    let upload = &begun["uploadId"];
    let part = json!({"repositoryName": name, "uploadId": upload, "partFirstByte": 0, "partLastByte": 1,
                      "layerPartBlob": "e30="});
    world.ok_of("ecr", "UploadLayerPart", part);
    let end = json!({"repositoryName": name, "uploadId": upload, "layerDigests": [EMPTY]});
    world.ok_of("ecr", "CompleteLayerUpload", end);
    let blob = |kind: &str| json!({"mediaType": kind, "digest": EMPTY, "size": 2});
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("application/vnd.oci.image.config.v1+json"),
        "layers": [blob("application/vnd.oci.image.layer.v1.tar+gzip")],
    });
    let put = json!({"repositoryName": name, "imageManifest": manifest.to_string(), "imageTag": "1"});
    world.ok_of("ecr", "PutImage", put);
}

/// A load balancer that forwards to a target group.
fn load_balancer(world: &mut World) {
    let (vpc, subnets) = (world.vpc(), world.subnets());
    let group = json!({"Name": "web", "Protocol": "HTTP", "Port": 80, "TargetType": "ip", "VpcId": vpc});
    let made = world.ok_of("elbv2", "CreateTargetGroup", group);
    let forward = json!({"Type": "forward", "TargetGroupArn": made["TargetGroups"][0]["TargetGroupArn"]});
    let balancer = json!({"Name": "web", "Subnets": subnets[..2]});
    let made = world.ok_of("elbv2", "CreateLoadBalancer", balancer);
    let arn = &made["LoadBalancers"][0]["LoadBalancerArn"];
    let listener =
        json!({"LoadBalancerArn": arn, "Protocol": "HTTP", "Port": 80, "DefaultActions": [forward]});
    world.ok_of("elbv2", "CreateListener", listener);
}

/// A text in which words in capitals stand for ids that are not known before they are made.
pub fn named(world: &World, text: &str) -> String {
    let state = &world.snapshot;
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
