"""Cloud Map: namespaces, services, instances, and discovery by every client with no set-up."""

import os
import shutil

import boto3
import botocore.exceptions
import pytest

from conftest import CREDENTIALS, eventually, shell


@pytest.fixture(scope="module")
def cloudmap(roadstead):
    return roadstead.client("servicediscovery")


@pytest.fixture(scope="module")
def vpc(roadstead):
    return roadstead.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]


def finished(cloudmap, operation):
    """Waits for an operation; its targets."""
    def done():
        found = cloudmap.get_operation(OperationId=operation["OperationId"])["Operation"]
        assert found["Status"] != "FAIL", found
        return found if found["Status"] == "SUCCESS" else None

    return eventually(done)["Targets"]


def code(refused):
    return refused.value.response["Error"]["Code"]


@pytest.fixture(scope="module")
def namespace(cloudmap, vpc):
    return finished(cloudmap, cloudmap.create_private_dns_namespace(Name="shop.local", Vpc=vpc))["NAMESPACE"]


@pytest.fixture(scope="module")
def service(cloudmap, namespace):
    made = cloudmap.create_service(Name="cart", NamespaceId=namespace, DnsConfig={"DnsRecords": [{"Type": "A", "TTL": 10}]},
                                   HealthCheckCustomConfig={"FailureThreshold": 1})["Service"]
    for number, version in ((1, "blue"), (2, "blue"), (3, "green")):
        finished(cloudmap, cloudmap.register_instance(
            ServiceId=made["Id"], InstanceId=f"i{number}",
            Attributes={"AWS_INSTANCE_IPV4": f"10.0.0.{number}", "version": version}))
    return made["Id"]


def test_a_namespace_from_beginning_to_end(roadstead, cloudmap):
    answer = roadstead.cli("servicediscovery", "create-http-namespace", "--name", "cycle", "--description", "d")
    id = finished(cloudmap, answer)["NAMESPACE"]
    got = cloudmap.get_namespace(Id=id)["Namespace"]
    assert (got["Name"], got["Type"], got["Description"], got["ServiceCount"]) == ("cycle", "HTTP", "d", 0)
    assert got["Arn"] == f"arn:aws:servicediscovery:us-east-1:000000000000:namespace/{id}"
    with pytest.raises(cloudmap.exceptions.NamespaceAlreadyExists):
        cloudmap.create_http_namespace(Name="cycle")
    made = cloudmap.create_service(Name="s", NamespaceId=id)["Service"]
    with pytest.raises(cloudmap.exceptions.ServiceAlreadyExists):
        cloudmap.create_service(Name="s", NamespaceId=id)
    with pytest.raises(cloudmap.exceptions.ResourceInUse):
        cloudmap.delete_namespace(Id=id)
    cloudmap.delete_service(Id=made["Id"])
    finished(cloudmap, cloudmap.delete_namespace(Id=id))
    with pytest.raises(cloudmap.exceptions.NamespaceNotFound):
        cloudmap.get_namespace(Id=id)


def test_a_private_namespace_needs_a_network(cloudmap):
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        id = cloudmap.create_private_dns_namespace(Name="nowhere.local", Vpc="vpc-0123456789abcdef0")
        finished(cloudmap, id)
    assert code(refused) == "InvalidInput"


def test_services_and_instances_are_listed(cloudmap, namespace, service):
    found = cloudmap.list_services(Filters=[{"Name": "NAMESPACE_ID", "Values": [namespace]}])["Services"]
    assert [(each["Name"], each["InstanceCount"]) for each in found] == [("cart", 3)]
    pages = list(cloudmap.get_paginator("list_instances").paginate(ServiceId=service, PaginationConfig={"PageSize": 2}))
    assert [len(page["Instances"]) for page in pages] == [2, 1]
    got = cloudmap.get_instance(ServiceId=service, InstanceId="i1")["Instance"]
    assert got["Attributes"] == {"AWS_INSTANCE_IPV4": "10.0.0.1", "version": "blue"}
    with pytest.raises(cloudmap.exceptions.InstanceNotFound):
        cloudmap.get_instance(ServiceId=service, InstanceId="none")
    with pytest.raises(cloudmap.exceptions.ResourceInUse):
        cloudmap.delete_service(Id=service)
    with pytest.raises(cloudmap.exceptions.InvalidInput):
        cloudmap.register_instance(ServiceId=service, InstanceId="bad", Attributes={"AWS_INSTANCE_IPV4": "10.0.0.999"})


def discovered(cloudmap, **options):
    answer = cloudmap.discover_instances(NamespaceName="shop.local", ServiceName="cart", **options)
    return sorted(each["InstanceId"] for each in answer["Instances"])


def test_instances_are_discovered(cloudmap, service):
    """By a plain client: its host name `data-localhost` leads here."""
    assert discovered(cloudmap) == ["i1", "i2", "i3"]
    assert discovered(cloudmap, QueryParameters={"version": "green"}) == ["i3"]
    assert discovered(cloudmap, QueryParameters={"version": "red"}) == []
    assert discovered(cloudmap, OptionalParameters={"version": "red"}) == ["i1", "i2", "i3"]
    assert len(discovered(cloudmap, MaxResults=2)) == 2
    assert discovered(cloudmap, HealthStatus="HEALTHY") == ["i1", "i2", "i3"]
    assert discovered(cloudmap, HealthStatus="UNHEALTHY") == []
    for missing in ({"NamespaceName": "none", "ServiceName": "cart"}, {"NamespaceName": "shop.local", "ServiceName": "none"}):
        with pytest.raises((cloudmap.exceptions.NamespaceNotFound, cloudmap.exceptions.ServiceNotFound)):
            cloudmap.discover_instances(**missing)


def test_the_command_lines_discover_too(roadstead, service):
    for program in {shutil.which("aws"), "/usr/bin/aws"}:
        if not program or not os.path.exists(program):
            continue
        command = [program, "--endpoint-url", roadstead.endpoint, "servicediscovery", "discover-instances",
                   "--namespace-name", "shop.local", "--service-name", "cart", "--query", "length(Instances)"]
        assert shell(*command, env={**os.environ, **CREDENTIALS}).stdout.strip() == "3"


def test_the_revision_changes_with_the_instances(cloudmap, service):
    ask = {"NamespaceName": "shop.local", "ServiceName": "cart"}
    before = cloudmap.discover_instances_revision(**ask)["InstancesRevision"]
    finished(cloudmap, cloudmap.register_instance(ServiceId=service, InstanceId="i4", Attributes={"AWS_INSTANCE_IPV4": "10.0.0.4"}))
    after = cloudmap.discover_instances_revision(**ask)["InstancesRevision"]
    assert after > before
    assert discovered(cloudmap) == ["i1", "i2", "i3", "i4"]
    finished(cloudmap, cloudmap.deregister_instance(ServiceId=service, InstanceId="i4"))
    assert discovered(cloudmap) == ["i1", "i2", "i3"]
    assert cloudmap.discover_instances_revision(**ask)["InstancesRevision"] > after


def test_a_host_prefix_may_be_left_out(roadstead, service):
    config = botocore.config.Config(inject_host_prefix=False)
    client = boto3.client("servicediscovery", endpoint_url=roadstead.endpoint, region_name="us-east-1",
                          aws_access_key_id="test", aws_secret_access_key="test", config=config)
    assert discovered(client) == ["i1", "i2", "i3"]


def test_it_is_all_there_after_kill_9(roadstead, cloudmap, service):
    roadstead.kill()
    roadstead.start()
    assert discovered(cloudmap) == ["i1", "i2", "i3"]
