//! Clusters, capacity providers, settings, tags.

use serde_json::json;

use super::world::World;

#[test]
fn a_cluster_is_created_once_described_and_deleted() {
    let mut world = World::new();
    let made = world.ok(
        "CreateCluster",
        json!({"clusterName": "shop", "tags": [{"key": "a", "value": "1"}], "capacityProviders": ["FARGATE"],
               "defaultCapacityProviderStrategy": [{"capacityProvider": "FARGATE", "weight": 1}],
               "settings": [{"name": "containerInsights", "value": "disabled"}]}),
    );
    let arn = "arn:aws:ecs:us-east-1:000000000000:cluster/shop";
    assert_eq!(made["cluster"]["clusterArn"], arn);
    assert_eq!(made["cluster"]["status"], "ACTIVE");
    assert_eq!(made["cluster"]["capacityProviders"], json!(["FARGATE"]));
    assert_eq!(made["cluster"]["settings"], json!([{"name": "containerInsights", "value": "disabled"}]));
    assert_eq!(world.ok("CreateCluster", json!({"clusterName": "shop"}))["cluster"], made["cluster"]);
    let seen = world.ok(
        "DescribeClusters",
        json!({"clusters": ["shop", arn, "none"], "include": ["TAGS", "STATISTICS", "SETTINGS"]}),
    );
    assert_eq!(seen["clusters"].as_array().unwrap().len(), 2);
    assert_eq!(seen["clusters"][0]["tags"], json!([{"key": "a", "value": "1"}]));
    assert_eq!(seen["clusters"][0]["registeredContainerInstancesCount"], 1);
    assert_eq!(
        seen["clusters"][0]["statistics"][1],
        json!({"name": "runningFargateTasksCount", "value": "0"})
    );
    let missing = json!({"arn": "arn:aws:ecs:us-east-1:000000000000:cluster/none", "reason": "MISSING"});
    assert_eq!(seen["failures"], json!([missing]));
    assert_eq!(world.ok("ListClusters", json!({}))["clusterArns"].as_array().unwrap().len(), 2);
    assert_eq!(world.ok("DeleteCluster", json!({"cluster": arn}))["cluster"]["status"], "INACTIVE");
    assert_eq!(world.ok("ListClusters", json!({}))["clusterArns"].as_array().unwrap().len(), 1);
    assert_eq!(
        world.ok("DescribeClusters", json!({"clusters": ["shop"]}))["clusters"][0]["status"],
        "INACTIVE"
    );
    let inactive = "ClusterNotFoundException: The referenced cluster was inactive.";
    assert_eq!(world.err("ListTasks", json!({"cluster": "shop"})), inactive);
    assert_eq!(
        world.ok("CreateCluster", json!({"clusterName": "shop"}))["cluster"]["capacityProviders"],
        json!([])
    );
}

#[test]
fn clusters_are_refused_in_the_words_of_ecs() {
    let mut world = World::new();
    let not_found = "ClusterNotFoundException: Cluster not found.";
    for (operation, input, expect) in [
        ("DeleteCluster", json!({"cluster": "none"}), not_found),
        ("ListTasks", json!({"cluster": "none"}), not_found),
        (
            "ListServices",
            json!({"cluster": "not/a/name"}),
            r"InvalidParameterException: Cluster must match ^[a-zA-Z0-9\-_]{1,255}$, but was not/a/name",
        ),
        (
            "ListServices",
            json!({"cluster": "arn:aws:ecs:us-east-1:999999999999:cluster/default"}),
            "InvalidParameterException: Identifier is for 999999999999. Your accountId is 000000000000",
        ),
        (
            "CreateCluster",
            json!({"clusterName": "a", "capacityProviders": ["MINE"]}),
            "InvalidParameterException: The specified capacity provider 'MINE' was not found. Specify a valid name or \
             ARN and try again.",
        ),
        (
            "CreateCluster",
            json!({"clusterName": "a", "defaultCapacityProviderStrategy": [{"capacityProvider": "FARGATE"}]}),
            "InvalidParameterException: The specified capacity provider strategy cannot contain a capacity provider \
             that is not associated with the cluster. Associate the capacity provider with the cluster and try again.",
        ),
        (
            "CreateCluster",
            json!({"clusterName": "a", "settings": [{"name": "containerInsights", "value": "enabled"}]}),
            "ClientException: containerInsights=enabled is not supported.",
        ),
        (
            "CreateCluster",
            json!({"clusterName": "a", "configuration": {"executeCommandConfiguration": {"logging": "NONE"}}}),
            "ClientException: configuration is not supported.",
        ),
        (
            "CreateCluster",
            json!({"clusterName": "a", "serviceConnectDefaults": {"namespace": "n"}}),
            "ClientException: serviceConnectDefaults is not supported.",
        ),
        (
            "PutClusterCapacityProviders",
            json!({"cluster": "default", "capacityProviders": ["FARGATE", "FARGATE_SPOT"],
                   "defaultCapacityProviderStrategy": [
                       {"capacityProvider": "FARGATE", "base": 1, "weight": 1},
                       {"capacityProvider": "FARGATE_SPOT", "base": 1}]}),
            "InvalidParameterException: There are multiple capacity providers in the specified capacity provider \
             strategy with a base value defined. Only one capacity provider in a capacity provider strategy can have \
             a base value.",
        ),
        (
            "PutClusterCapacityProviders",
            json!({"cluster": "default", "capacityProviders": ["FARGATE"],
                   "defaultCapacityProviderStrategy": [{"capacityProvider": "FARGATE", "weight": 0}]}),
            "InvalidParameterException: There are no capacity providers in the capacity provider strategy with a \
             weight value greater than zero.",
        ),
    ] {
        assert_eq!(world.err(operation, input), expect);
    }
}

#[test]
fn a_cluster_in_use_is_not_deleted() {
    let mut world = World::new();
    let definition = world.fargate("app");
    let network = world.network();
    let task = world.ok(
        "RunTask",
        json!({"taskDefinition": definition, "launchType": "FARGATE", "networkConfiguration": network}),
    );
    assert_eq!(
        world.err("DeleteCluster", json!({"cluster": "default"})),
        "ClusterContainsTasksException: The Cluster cannot be deleted while Tasks are active."
    );
    world.ok("StopTask", json!({"task": task["tasks"][0]["taskArn"]}));
    world.settle();
    world.ok(
        "CreateService",
        json!({"serviceName": "s", "taskDefinition": definition, "desiredCount": 0,
        "launchType": "FARGATE", "networkConfiguration": world.network()}),
    );
    assert_eq!(
        world.err("DeleteCluster", json!({"cluster": "default"})),
        "ClusterContainsServicesException: The Cluster cannot be deleted while Services are active."
    );
    world.ok("DeleteService", json!({"service": "s"}));
    world.settle();
    world.ok("DeleteCluster", json!({"cluster": "default"}));
}

#[test]
fn settings_have_their_defaults_and_take_what_is_true() {
    let mut world = World::new();
    let all = world.ok("ListAccountSettings", json!({"effectiveSettings": true, "maxResults": 100}));
    assert_eq!(all["settings"].as_array().unwrap().len(), 11);
    let put = world.ok("PutAccountSetting", json!({"name": "taskLongArnFormat", "value": "enabled"}));
    assert_eq!(put["setting"]["principalArn"], "arn:aws:iam::000000000000:root");
    assert_eq!(world.ok("ListAccountSettings", json!({}))["settings"].as_array().unwrap().len(), 1);
    world.ok("PutAccountSettingDefault", json!({"name": "containerInsights", "value": "disabled"}));
    world.ok("DeleteAccountSetting", json!({"name": "taskLongArnFormat"}));
    for (name, value) in
        [("taskLongArnFormat", "disabled"), ("awsvpcTrunking", "enabled"), ("containerInsights", "enhanced")]
    {
        assert_eq!(
            world.err("PutAccountSetting", json!({"name": name, "value": value})),
            format!("ClientException: {name}={value} is not supported.")
        );
    }
}

#[test]
fn tags_are_put_replaced_and_taken_away() {
    let mut world = World::new();
    let definition = world.fargate("app");
    let cluster = "arn:aws:ecs:us-east-1:000000000000:cluster/default";
    for arn in [cluster, definition.as_str()] {
        world.ok(
            "TagResource",
            json!({"resourceArn": arn, "tags": [{"key": "a", "value": "1"}, {"key": "b", "value": "2"}]}),
        );
        world.ok("TagResource", json!({"resourceArn": arn, "tags": [{"key": "a", "value": "3"}]}));
        world.ok("UntagResource", json!({"resourceArn": arn, "tagKeys": ["b", "none"]}));
        let tags = world.ok("ListTagsForResource", json!({"resourceArn": arn}));
        assert_eq!(tags["tags"], json!([{"key": "a", "value": "3"}]), "{arn}");
    }
    let many: Vec<_> = (0..51).map(|n| json!({"key": format!("k{n}"), "value": ""})).collect();
    let most = world.err("TagResource", json!({"resourceArn": cluster, "tags": many}));
    assert!(most.starts_with("InvalidParameterException"), "{most}");
    let missing = "arn:aws:ecs:us-east-1:000000000000:task/default/0123456789abcdef0123456789abcdef";
    assert_eq!(
        world.err("TagResource", json!({"resourceArn": missing, "tags": []})),
        "ResourceNotFoundException: The specified resource was not found."
    );
}
