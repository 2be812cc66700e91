"""Services: made, described, listed, kept at their desired count, found by name, deleted."""

import pytest
from botocore.exceptions import ClientError

from conftest import eventually
from services import completed, create, kill_containers, messages, remove, service, sleeper, stable, tasks, web
from test_tasks import awslogs, define, describe, lines, run, shell_container, wait_for


def test_a_service_keeps_its_tasks(roadstead, ecs, network, image):
    create(ecs, network, "keeps", define(ecs, "keeps", sleeper(image)), 2)
    roadstead.cli("ecs", "wait", "services-stable", "--services", "keeps")
    eventually(lambda: "has reached a steady state." in messages(ecs, "keeps"))
    first, second = sorted(tasks(ecs, "keeps"))
    ecs.stop_task(task=first)
    kill_containers(second)
    eventually(lambda: not {first, second} & (now := tasks(ecs, "keeps")) and len(now) == 2)
    wait_for(ecs, second, "STOPPED")
    told = {task: describe(ecs, task) for task in (first, second)}
    assert (told[first]["stopCode"], told[first]["stoppedReason"]) == ("UserInitiated", "Task stopped by user")
    assert told[second]["stopCode"] == "EssentialContainerExited"
    assert told[second]["containers"][0]["exitCode"] == 137
    assert told[second]["group"] == "service:keeps" and told[second]["startedBy"].startswith("ecs-svc/")
    stable(ecs, "keeps")
    for count in (4, 1, 0, 2):
        ecs.update_service(service="keeps", desiredCount=count)
        eventually(lambda: (t := service(ecs, "keeps")) and t["runningCount"] == count and t["pendingCount"] == 0)
    text = "The service cannot be stopped while it is scaled above 0."
    with pytest.raises(ClientError, match=text):
        ecs.delete_service(service="keeps")
    ecs.update_service(service="keeps", desiredCount=0)
    deleted = roadstead.cli("ecs", "delete-service", "--service", "keeps")["service"]
    assert (deleted["status"], deleted["desiredCount"]) == ("DRAINING", 0)
    roadstead.cli("ecs", "wait", "services-inactive", "--services", "keeps")
    with pytest.raises(ClientError, match="ServiceNotActiveException"):
        ecs.update_service(service="keeps", desiredCount=1)
    assert create(ecs, network, "keeps", define(ecs, "keeps", sleeper(image)), 0)["status"] == "ACTIVE"
    completed(ecs, "keeps")
    remove(ecs, "keeps")


def test_services_are_listed_described_and_tagged(roadstead, ecs, network, image):
    ecs.create_cluster(clusterName="lists")
    definition = define(ecs, "lists", sleeper(image))
    for n in range(12):
        create(ecs, network, f"s{n:02}", definition, 0, cluster="lists", tags=[{"key": "n", "value": str(n)}])
    first = roadstead.cli("ecs", "list-services", "--cluster", "lists", "--max-items", "5")
    assert len(first["serviceArns"]) == 5 and first["NextToken"]
    # The CLI's own pagination asks for page after page of 10.
    every = roadstead.cli("ecs", "list-services", "--cluster", "lists")["serviceArns"]
    assert [arn.rsplit("/", 1)[1] for arn in every] == [f"s{n:02}" for n in range(12)]
    asked = ["--services", "s03", "none", "--include", "TAGS"]
    told = roadstead.cli("ecs", "describe-services", "--cluster", "lists", *asked)
    assert told["services"][0]["tags"] == [{"key": "n", "value": "3"}]
    assert told["failures"] == [{"arn": every[0][:-3] + "none", "reason": "MISSING"}]
    ecs.tag_resource(resourceArn=every[0], tags=[{"key": "more", "value": "x"}])
    ecs.untag_resource(resourceArn=every[0], tagKeys=["n"])
    assert ecs.list_tags_for_resource(resourceArn=every[0])["tags"] == [{"key": "more", "value": "x"}]
    assert "tags" not in ecs.describe_services(cluster="lists", services=["s00"])["services"][0]
    with pytest.raises(ClientError, match="ClusterContainsServicesException"):
        ecs.delete_cluster(cluster="lists")
    for arn in every:
        ecs.delete_service(cluster="lists", service=arn)
    eventually(lambda: ecs.list_services(cluster="lists")["serviceArns"] == [])
    ecs.delete_cluster(cluster="lists")


def test_tags_go_from_the_service_to_its_tasks(ecs, network, image):
    create(ecs, network, "tagged", define(ecs, "tagged", sleeper(image)), 1, propagateTags="SERVICE",
           enableECSManagedTags=True, tags=[{"key": "team", "value": "shop"}])
    stable(ecs, "tagged")
    task = tasks(ecs, "tagged").pop()
    told = ecs.describe_tasks(tasks=[task], include=["TAGS"])["tasks"][0]["tags"]
    assert {tag["key"]: tag["value"] for tag in told} == {
        "team": "shop", "aws:ecs:clusterName": "default", "aws:ecs:serviceName": "tagged"}
    remove(ecs, "tagged")


def test_a_service_that_does_not_fit_waits_says_so_and_goes_on(ecs, network, image):
    instances = ecs.list_container_instances()["containerInstanceArns"]
    told = ecs.describe_container_instances(containerInstances=instances)["containerInstances"][0]
    room = told["registeredResources"]
    memory = next(resource["integerValue"] for resource in room if resource["name"] == "MEMORY") * 6 // 10
    definition = ecs.register_task_definition(
        family="large", networkMode="none", containerDefinitions=[sleeper(image, memory=memory)],
    )["taskDefinition"]["taskDefinitionArn"]
    create(ecs, None, "large", definition, 1, launchType="EC2")
    stable(ecs, "large")
    create(ecs, None, "waits", definition, 1, launchType="EC2")
    said = eventually(lambda: [text for text in messages(ecs, "waits") if "was unable to place a task" in text])
    instance = instances[0].rsplit("/", 1)[1]
    assert f"The closest matching (container-instance {instance}) has insufficient memory available" in said[0], said
    create(ecs, network, "nowhere", define(ecs, "nowhere", sleeper(image), cpu="16384", memory="122880"), 1)
    said = eventually(lambda: [text for text in messages(ecs, "nowhere") if "was unable to place a task" in text])
    assert said[0].startswith("was unable to place a task. Reason: Capacity is unavailable at this time. "), said
    assert service(ecs, "waits")["runningCount"] == 0
    ecs.update_service(service="large", desiredCount=0)
    stable(ecs, "waits")
    # Said once, though it was tried every second.
    assert len([text for text in messages(ecs, "waits") if "was unable to place a task" in text]) == 1
    remove(ecs, "large", "waits", "nowhere")


def test_a_task_whose_container_is_unhealthy_is_replaced(ecs, network, image):
    check = {"command": ["CMD-SHELL", "test ! -e /tmp/ill"], "interval": 5, "timeout": 2, "retries": 1}
    script = "trap 'exit 0' TERM; (sleep 4; touch /tmp/ill) & sleep 1000 & wait"
    create(ecs, network, "ill", define(ecs, "ill", shell_container(image, script, healthCheck=check)), 1)
    first = eventually(lambda: tasks(ecs, "ill")).pop()
    eventually(lambda: (now := tasks(ecs, "ill")) and first not in now, 30)
    task = first.rsplit("/", 1)[1]
    assert f"(task {task}) failed container health checks." in messages(ecs, "ill")
    told = describe(ecs, first)
    assert told["stopCode"] == "ServiceSchedulerInitiated"
    assert told["stoppedReason"] == "Task failed container health checks"
    remove(ecs, "ill")


def test_a_capacity_provider_strategy_divides_a_services_tasks(ecs, network, image):
    ecs.create_cluster(clusterName="spot", capacityProviders=["FARGATE", "FARGATE_SPOT"])
    strategy = [{"capacityProvider": "FARGATE", "base": 1, "weight": 1},
                {"capacityProvider": "FARGATE_SPOT", "base": 0, "weight": 3}]
    ecs.create_service(cluster="spot", serviceName="spot", taskDefinition=define(ecs, "spot", sleeper(image)),
                       desiredCount=5, capacityProviderStrategy=strategy, networkConfiguration=network)
    ecs.get_waiter("services_stable").wait(cluster="spot", services=["spot"], WaiterConfig={"Delay": 1})
    arns = ecs.list_tasks(cluster="spot", serviceName="spot")["taskArns"]
    told = ecs.describe_tasks(cluster="spot", tasks=arns)["tasks"]
    assert sorted(task["capacityProviderName"] for task in told) == ["FARGATE"] * 2 + ["FARGATE_SPOT"] * 3
    shown = ecs.describe_services(cluster="spot", services=["spot"])["services"][0]
    assert shown["capacityProviderStrategy"] == strategy and "launchType" not in shown
    ecs.delete_service(cluster="spot", service="spot", force=True)
    eventually(lambda: ecs.list_services(cluster="spot")["serviceArns"] == [])


def test_services_find_each_other_by_name(roadstead, ecs, network, image):
    discovery = roadstead.client("servicediscovery")
    ec2 = roadstead.client("ec2")
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    discovery.create_private_dns_namespace(Name="test.local", Vpc=vpc)
    namespace = discovery.list_namespaces()["Namespaces"][0]["Id"]
    registry = discovery.create_service(
        Name="web", NamespaceId=namespace, HealthCheckCustomConfig={"FailureThreshold": 1},
        DnsConfig={"DnsRecords": [{"Type": "A", "TTL": 5}]},
    )["Service"]
    create(ecs, network, "named", define(ecs, "named", web(image, "found")), 2,
           serviceRegistries=[{"registryArn": registry["Arn"]}])
    stable(ecs, "named")
    assert len(discovery.list_instances(ServiceId=registry["Id"])["Instances"]) == 2
    script = "nslookup web.test.local; wget -q -O - http://web.test.local:8080/; nslookup none.test.local || echo none"
    task = run(ecs, network, define(ecs, "asks", shell_container(image, script, logConfiguration=awslogs())))
    wait_for(ecs, task, "STOPPED")
    said = lines(roadstead, task)
    assert "found" in said and said[-1] == "none"
    remove(ecs, "named")
    assert discovery.list_instances(ServiceId=registry["Id"])["Instances"] == []
