"""Task definitions that are refused, deregistered and deleted; clusters that change; names with ports."""

import urllib.request

import pytest
from botocore.exceptions import ClientError

from conftest import eventually
from services import create, remove, sleeper, stable, tasks, web
from test_container_settings import define_ec2, run_ec2
from test_tasks import awslogs, container, define, lines, run, shell_container, wait_for


def test_fargate_has_sizes_of_its_own(ecs, image):
    for cpu, memory in (("256", "512"), ("256", "2048"), ("1024", "3072"), ("8192", "20480"), (".5 vCPU", "1 GB")):
        define(ecs, "sizes", container(image, "true"), cpu=cpu, memory=memory)
    for cpu, memory in (("256", "3072"), ("300", "512"), ("512", "512"), ("1024", "2500"), ("8192", "17408")):
        with pytest.raises(ClientError, match="No Fargate configuration exists for given values"):
            define(ecs, "sizes", container(image, "true"), cpu=cpu, memory=memory)
    with pytest.raises(ClientError, match="Fargate requires that 'memory' be defined at the task level"):
        ecs.register_task_definition(
            family="sizes", requiresCompatibilities=["FARGATE"], networkMode="awsvpc", cpu="256",
            containerDefinitions=[container(image, "true", memory=64)])
    for limit in ("startTimeout", "stopTimeout"):
        with pytest.raises(ClientError, match=f"container {limit[:-7]} timeout of less than 120 seconds"):
            define(ecs, "sizes", container(image, "true", **{limit: 121}))
    assert len(ecs.list_task_definitions(familyPrefix="sizes")["taskDefinitionArns"]) == 5


def test_more_processors_than_there_are_is_refused_by_that_name(ecs, network, image):
    # More than any machine that runs this has; little memory, so that nothing else is missing.
    definition = define_ec2(ecs, "cores", sleeper(image, cpu=190_000), mode="none")
    answer = ecs.run_task(taskDefinition=definition, launchType="EC2")
    assert (answer["tasks"], [f["reason"] for f in answer["failures"]]) == ([], ["RESOURCE:CPU"])


def test_a_definition_that_a_service_uses_goes_after_it(ecs, network, image):
    definition = define(ecs, "used", sleeper(image))
    status = lambda: ecs.describe_task_definition(taskDefinition=definition)["taskDefinition"]["status"]
    refused = ecs.delete_task_definitions(taskDefinitions=[definition])
    assert refused["taskDefinitions"] == [] and "still in ACTIVE status" in refused["failures"][0]["reason"]
    create(ecs, network, "used", definition, 1)
    stable(ecs, "used")
    told = ecs.deregister_task_definition(taskDefinition=definition)["taskDefinition"]
    assert told["status"] == "INACTIVE" and told["deregisteredAt"]
    assert ecs.list_task_definitions(familyPrefix="used")["taskDefinitionArns"] == []
    assert ecs.list_task_definitions(familyPrefix="used", status="INACTIVE")["taskDefinitionArns"] == [definition]
    with pytest.raises(ClientError, match="TaskDefinition is inactive"):
        run(ecs, network, definition)
    deleted = ecs.delete_task_definitions(taskDefinitions=[definition])
    assert deleted["failures"] == [] and deleted["taskDefinitions"][0]["status"] == "DELETE_IN_PROGRESS"
    # The service goes on with it: what ends is replaced, and it can be scaled.
    old = tasks(ecs, "used").pop()
    ecs.stop_task(task=old)
    eventually(lambda: (now := tasks(ecs, "used")) and old not in now)
    ecs.update_service(service="used", desiredCount=2)
    stable(ecs, "used")
    assert status() == "DELETE_IN_PROGRESS"
    remove(ecs, "used")

    def is_gone():
        try:
            return not status()
        except ClientError as error:
            return "Unable to describe task definition" in str(error)

    eventually(is_gone)


def test_a_clusters_settings_and_providers_change(ecs, network, image):
    def told():
        return ecs.describe_clusters(clusters=["changes"], include=["SETTINGS"])["clusters"][0]

    ecs.create_cluster(clusterName="changes")
    insights = [{"name": "containerInsights", "value": "disabled"}]
    assert ecs.update_cluster(cluster="changes", settings=insights)["cluster"]["settings"] == insights
    with pytest.raises(ClientError, match="containerInsights=enabled is not supported"):
        ecs.update_cluster(cluster="changes", settings=[{"name": "containerInsights", "value": "enabled"}])
    assert told()["settings"] == insights
    with pytest.raises(ClientError, match="ClusterNotFoundException"):
        ecs.update_cluster(cluster="absent", settings=insights)
    strategy = [{"capacityProvider": "FARGATE_SPOT", "weight": 1, "base": 0}]
    ecs.put_cluster_capacity_providers(
        cluster="changes", capacityProviders=["FARGATE", "FARGATE_SPOT"], defaultCapacityProviderStrategy=strategy)
    assert told()["capacityProviders"] == ["FARGATE", "FARGATE_SPOT"]
    assert told()["defaultCapacityProviderStrategy"] == strategy
    # A task that says nothing itself is run as the cluster does by default.
    ran = ecs.run_task(cluster="changes", taskDefinition=define(ecs, "spot", sleeper(image)), networkConfiguration=network)
    task = ran["tasks"][0]
    assert task["capacityProviderName"] == "FARGATE_SPOT"
    without = dict(cluster="changes", capacityProviders=["FARGATE"], defaultCapacityProviderStrategy=[])
    with pytest.raises(ClientError, match="ResourceInUseException"):
        ecs.put_cluster_capacity_providers(**without)
    with pytest.raises(ClientError, match="InvalidParameterException"):
        ecs.put_cluster_capacity_providers(**{**without, "defaultCapacityProviderStrategy": strategy})
    ecs.stop_task(cluster="changes", task=task["taskArn"])
    stopped = lambda: ecs.describe_tasks(cluster="changes", tasks=[task["taskArn"]])["tasks"][0]["lastStatus"] == "STOPPED"
    eventually(stopped)
    ecs.put_cluster_capacity_providers(**without)
    assert (told()["capacityProviders"], told()["defaultCapacityProviderStrategy"]) == (["FARGATE"], [])
    ecs.delete_cluster(cluster="changes")


def test_names_with_ports_lead_to_containers(roadstead, ecs, network, image):
    cloudmap, ec2 = roadstead.client("servicediscovery"), roadstead.client("ec2")
    cloudmap.create_private_dns_namespace(Name="srv.local", Vpc=ec2.describe_vpcs()["Vpcs"][0]["VpcId"])
    (namespace,) = [n["Id"] for n in cloudmap.list_namespaces()["Namespaces"] if n["Name"] == "srv.local"]
    registries = {
        name: cloudmap.create_service(
            Name=name, NamespaceId=namespace, HealthCheckCustomConfig={"FailureThreshold": 1},
            DnsConfig={"DnsRecords": [{"Type": kind, "TTL": 5} for kind in kinds]})["Service"]
        for name, kinds in {"vpc": ["A", "SRV"], "bridge": ["SRV"]}.items()}
    attached = lambda name: [
        {"registryArn": registries[name]["Arn"], "containerName": "main", "containerPort": 8080}]
    create(ecs, network, "vpc", define(ecs, "srv-vpc", web(image, "vpc")), 1, serviceRegistries=attached("vpc"))
    create(ecs, None, "bridge", define_ec2(ecs, "srv-bridge", web(image, "bridge")), 2, launchType="EC2",
           serviceRegistries=attached("bridge"))
    found = {}
    for name, count in {"vpc": 1, "bridge": 2}.items():
        stable(ecs, name)
        instances = cloudmap.discover_instances(NamespaceName="srv.local", ServiceName=name)["Instances"]
        assert len(instances) == count
        found[name] = {
            (i["Attributes"]["AWS_INSTANCE_IPV4"], int(i["Attributes"]["AWS_INSTANCE_PORT"])) for i in instances}
    ((_, port),) = found["vpc"]
    assert port == 8080
    # In bridge mode each task has a host port of its own, which only the SRV record tells.
    assert len({port for _, port in found["bridge"]}) == 2 and all(32768 <= port for _, port in found["bridge"])
    for name in found:
        for address, port in found[name]:
            with urllib.request.urlopen(f"http://{address}:{port}/", timeout=5) as answer:
                assert answer.read().decode().strip() == name
    # A record's host name leads to the address that goes with its port.
    script = ("for n in vpc bridge; do nslookup -type=srv $n.srv.local | sed -n 's/.*service = [0-9]* [0-9]* //p' | "
              "while read port host; do echo $n $port $(nslookup $host | sed -n '/^Name/,$s/Address: //p'); done; done")
    for asks in (run(ecs, network, define(ecs, "asks-srv", shell_container(image, script, logConfiguration=awslogs()))),
                 run_ec2(ecs, define_ec2(ecs, "asks-srv-ec2", shell_container(image, script, logConfiguration=awslogs())))):
        wait_for(ecs, asks, "STOPPED")
        wanted = {f"{name} {port} {address}" for name in found for address, port in found[name]}
        assert set(lines(roadstead, asks)) == wanted
    remove(ecs, "vpc", "bridge")
    assert cloudmap.list_instances(ServiceId=registries["bridge"]["Id"])["Instances"] == []
