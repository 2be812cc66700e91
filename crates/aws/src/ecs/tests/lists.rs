//! Lists of tasks beside a search through all of them; container instances, attributes and capacity providers: views
//! without records.

use std::sync::Arc;

use serde_json::{Value as Json, json};
use state::ContainerGroup;
use state::group::{
    Desired, Phase, Placement, Source, SpecRecord, StopCause, StopCode, TaskSource, TaskStatus,
};
use state::node::Ledger;

use super::members::stage;
use super::world::{NODE, World};

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

/// Tasks in every state that a list or a count tells apart, many of each.
fn many_tasks(world: &mut World, seed: u64) {
    let scope = state::Scope::new("000000000000", "us-east-1");
    let mut random = state::Ids::new(seed);
    let mut any = |of: &[&'static str]| of[random.next_u64() as usize % of.len()];
    let mut groups = Vec::new();
    for n in 0..400 {
        let family = any(&["web", "web2", "we", "worker"]);
        let source = TaskSource {
            task_definition_arn: scope.arn("ecs", &format!("task-definition/{family}:{}", any(&["1", "2"]))),
            launch_type: any(&["EC2", "FARGATE"]).into(),
            started_by: Some(any(&["", "me", "you"])).filter(|by| !by.is_empty()).map(str::to_owned),
            ..TaskSource::default()
        };
        let cause = StopCause { code: StopCode::UserInitiated, reason: String::new(), at_ms: 1 };
        let mut group = ContainerGroup {
            scope: scope.clone(),
            cluster: any(&["default", "default", "other"]).into(),
            id: format!("{:032x}", n * 7919 % 400),
            source: Source::Task(Arc::new(source)),
            spec: "spec".into(),
            desired: Desired::Run,
            placement: Placement::Unplaced { since_ms: 1, why: String::new() },
            traffic: Default::default(),
            observed: Default::default(),
            created_at_ms: 1,
        };
        match any(&["placed", "running", "running", "asked to stop", "ended", "over", "over"]) {
            "running" => {
                group.placement = Placement::Placed { node: NODE.into(), attachment: None };
                group.traffic.activated_at_ms = Some(1);
                group.observed.phase = Phase::Running;
            }
            "asked to stop" => group.desired = Desired::Stop(cause),
            "ended" => {
                group.observed.phase = Phase::Stopping;
                group.observed.stop = Some(cause);
            }
            "over" => group.observed.phase = Phase::Gone,
            _ => {}
        }
        groups.push(group);
    }
    world.write(|tx, _, _| {
        tx.put(SpecRecord { id: "spec".into(), spec: Arc::default() });
        let placed = groups.iter().filter(|group| group.node().is_some()).count() as u32;
        tx.put(Ledger { node: NODE.into(), groups: placed, ..Ledger::default() });
        groups.into_iter().for_each(|group| tx.put(group));
    });
}

#[test]
fn a_list_of_tasks_is_what_a_search_through_all_finds() {
    for seed in 1..6 {
        let mut world = stage();
        many_tasks(&mut world, seed);
        let mut lengths = 0;
        for (desired, family, kind, by) in combinations() {
            for cluster in ["default", "other"] {
                let is = |wanted: Option<&str>, have: Option<&str>| wanted.is_none_or(|w| Some(w) == have);
                let found = world.snapshot.groups.iter().map(|(_, group)| group).filter(|group| {
                    let task = group.task();
                    let in_family = |family| task.task_definition_arn.contains(&format!("/{family}:"));
                    group.cluster == cluster
                        && group.is_stopping() == (desired == Some("STOPPED"))
                        && family.is_none_or(in_family)
                        && is(kind, Some(if task.is_fargate() { "FARGATE" } else { "EC2" }))
                        && is(by, task.started_by.as_deref())
                });
                let found: Vec<String> = found.map(|group| group.task_arn()).collect();
                lengths += found.len();
                let mut input = json!({"cluster": cluster, "maxResults": 7});
                for (member, value) in
                    [("desiredStatus", desired), ("family", family), ("launchType", kind), ("startedBy", by)]
                {
                    value.into_iter().for_each(|value| input[member] = value.into());
                }
                assert_eq!(listed(&mut world, input.clone()), found, "{input}");
            }
        }
        assert!(lengths > 2_000, "{lengths}");
        clusters_are_counted(&mut world);
    }
}

fn clusters_are_counted(world: &mut World) {
    let told =
        world.ok("DescribeClusters", json!({"clusters": ["default", "other"], "include": ["STATISTICS"]}));
    for cluster in told["clusters"].as_array().unwrap() {
        let groups = world.snapshot.groups.iter().map(|(_, group)| group);
        let of: Vec<_> = groups.filter(|group| cluster["clusterName"] == *group.cluster).collect();
        let count = |kinds: &[&str], statuses: &[TaskStatus]| {
            let counted = of
                .iter()
                .filter(|g| kinds.contains(&&*g.task().launch_type) && statuses.contains(&g.status()));
            counted.count().to_string()
        };
        let pending = [TaskStatus::Provisioning, TaskStatus::Pending, TaskStatus::Activating];
        let statistic = |name: &str| {
            let all = cluster["statistics"].as_array().unwrap();
            all.iter().find(|pair| pair["name"] == name).unwrap()["value"].as_str().unwrap().to_owned()
        };
        for (kind, name) in [("EC2", "EC2"), ("FARGATE", "Fargate")] {
            assert_eq!(
                statistic(&format!("running{name}TasksCount")),
                count(&[kind], &[TaskStatus::Running])
            );
            assert_eq!(statistic(&format!("pending{name}TasksCount")), count(&[kind], &pending));
        }
        let both = ["EC2", "FARGATE"];
        assert_eq!(cluster["runningTasksCount"].to_string(), count(&both, &[TaskStatus::Running]));
        assert_eq!(cluster["pendingTasksCount"].to_string(), count(&both, &pending));
    }
}

type Asked = (Option<&'static str>, Option<&'static str>, Option<&'static str>, Option<&'static str>);

fn combinations() -> Vec<Asked> {
    let mut all = Vec::new();
    for desired in [None, Some("RUNNING"), Some("STOPPED")] {
        for family in [None, Some("web"), Some("we"), Some("none"), Some("")] {
            for kind in [None, Some("EC2"), Some("FARGATE"), Some("EXTERNAL")] {
                all.extend([None, Some("me")].map(|by| (desired, family, kind, by)));
            }
        }
    }
    all
}

/// All pages of a list of tasks.
fn listed(world: &mut World, mut input: Json) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let page = world.ok("ListTasks", input.clone());
        all.extend(page["taskArns"].as_array().unwrap().iter().map(|arn| arn.as_str().unwrap().to_owned()));
        if page["nextToken"].is_null() {
            return all;
        }
        input["nextToken"] = page["nextToken"].clone();
    }
}
