//! Container instances, attributes and capacity providers: views without records.

use serde_json::json;

use super::world::World;

#[test]
fn the_node_is_an_instance_of_every_cluster() {
    let mut world = World::new();
    world.ok("CreateCluster", json!({"clusterName": "b"}));
    let one = world.ok("ListContainerInstances", json!({}))["containerInstanceArns"].clone();
    let two = world.ok("ListContainerInstances", json!({"cluster": "b"}))["containerInstanceArns"].clone();
    assert_ne!(one, two);
    assert!(two[0].as_str().unwrap().starts_with("arn:aws:ecs:us-east-1:000000000000:container-instance/b/"));
    assert_eq!(
        world.ok("ListContainerInstances", json!({"status": "DRAINING"}))["containerInstanceArns"],
        json!([])
    );
    let filter = json!({"filter": "attribute:ecs.os-type == windows"});
    assert_eq!(world.ok("ListContainerInstances", filter)["containerInstanceArns"], json!([]));
    let filter = json!({"filter": "attribute:ecs.os-type == linux"});
    assert_eq!(world.ok("ListContainerInstances", filter)["containerInstanceArns"], one);
    let seen = world.ok(
        "DescribeContainerInstances",
        json!({"cluster": "b", "containerInstances": [two[0], one[0]],
        "include": ["CONTAINER_INSTANCE_HEALTH"]}),
    );
    assert_eq!(seen["containerInstances"][0]["agentConnected"], true);
    assert_eq!(seen["containerInstances"][0]["healthStatus"]["overallStatus"], "OK");
    assert_eq!(seen["failures"], json!([{"arn": one[0], "reason": "MISSING"}]));
    assert_eq!(world.ok("ListTagsForResource", json!({"resourceArn": one[0]}))["tags"], json!([]));
    let attributes = world
        .ok("ListAttributes", json!({"targetType": "container-instance", "attributeName": "ecs.os-type"}));
    let expect = json!([{"name": "ecs.os-type", "value": "linux", "targetType": "container-instance", "targetId": one[0]}]);
    assert_eq!(attributes["attributes"], expect);
}

#[test]
fn capacity_providers_are_those_of_fargate() {
    let mut world = World::new();
    let all = world.ok("DescribeCapacityProviders", json!({}));
    assert_eq!(all["capacityProviders"].as_array().unwrap().len(), 2);
    let some = world.ok("DescribeCapacityProviders", json!({"capacityProviders": ["FARGATE", "MINE"]}));
    assert_eq!(
        some["capacityProviders"][0]["capacityProviderArn"],
        "arn:aws:ecs:us-east-1:000000000000:capacity-provider/FARGATE"
    );
    assert_eq!(some["failures"][0]["reason"], "MISSING");
}

#[test]
fn tasks_of_fargate_are_on_no_container_instance() {
    let mut world = World::new();
    let instance = world.ok("ListContainerInstances", json!({}))["containerInstanceArns"][0].clone();
    let definition = world.fargate("f");
    let network = world.network();
    let fargate =
        json!({"taskDefinition": definition, "launchType": "FARGATE", "networkConfiguration": network});
    let ec2 = json!({"taskDefinition": definition, "launchType": "EC2", "networkConfiguration": network});
    world.ok("RunTask", fargate);
    let seen = |world: &mut World| {
        let all = world.ok("DescribeContainerInstances", json!({"containerInstances": [instance]}));
        let count = all["containerInstances"][0]["pendingTasksCount"].as_i64().unwrap();
        let listed = world.ok("ListTasks", json!({"containerInstance": instance}))["taskArns"].clone();
        (count, listed.as_array().unwrap().len())
    };
    assert_eq!(seen(&mut world), (0, 0));
    world.ok("RunTask", ec2);
    assert_eq!(seen(&mut world), (1, 1));
}
