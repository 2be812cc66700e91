"""Two Roadsteads on one machine: neither is in the other's way."""

import pathlib
import urllib.request

import pytest

from conftest import Roadstead, eventually, leftovers

PORTS = (4580, 4581)


@pytest.fixture
def two(tmp_path):
    """Both started before either has a task: nothing but their notes tells of them."""
    hosts = pathlib.Path("/etc/hosts").read_text()
    servers = [Roadstead(tmp_path / str(port) / "data", port) for port in PORTS]
    for server in servers:
        server.data_dir.parent.mkdir()
        server.start()
    yield servers
    for server in servers:
        if server.data_dir.exists():
            server.down("--delete-data")
    assert [leftovers(server.data_dir) for server in servers] == [[], []]
    assert pathlib.Path("/etc/hosts").read_text() == hosts


def serve(server, busybox):
    """Runs a web server in each of the network modes that have bridges; their URLs, once they answer."""
    ec2, ecs, image = server.client("ec2"), server.client("ecs"), server.push(busybox, "busybox")
    vpc = ec2.describe_vpcs()["Vpcs"][0]
    subnets = [subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"]]
    group = ec2.create_security_group(GroupName="open", Description="open", VpcId=vpc["VpcId"])["GroupId"]
    ec2.authorize_security_group_ingress(
        GroupId=group, IpPermissions=[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}])
    script = f"mkdir /www; echo {server.port} > /www/index.html; exec httpd -f -p 8080 -h /www"
    container = {"name": "main", "image": image, "memory": 64, "entryPoint": ["/bin/sh", "-c"], "command": [script]}
    ecs.register_task_definition(family="own", networkMode="awsvpc", containerDefinitions=[container])
    container["portMappings"] = [{"containerPort": 8080, "hostPort": server.port + 1000}]
    ecs.register_task_definition(family="bridge", networkMode="bridge", containerDefinitions=[container])
    own = ecs.run_task(taskDefinition="own", networkConfiguration={
        "awsvpcConfiguration": {"subnets": subnets[:1], "securityGroups": [group]}})["tasks"][0]["taskArn"]
    bridge = ecs.run_task(taskDefinition="bridge")["tasks"][0]["taskArn"]

    def running():
        tasks = ecs.describe_tasks(tasks=[own, bridge])["tasks"]
        stopped = [task["stoppedReason"] for task in tasks if task["lastStatus"] == "STOPPED"]
        assert not stopped, stopped
        return all(task["lastStatus"] == "RUNNING" for task in tasks) and tasks

    task = next(task for task in eventually(running) if task["taskArn"] == own)
    address = task["containers"][0]["networkInterfaces"][0]["privateIpv4Address"]
    elb = server.client("elbv2")
    balancer = elb.create_load_balancer(Name="web", Subnets=subnets[:2], SecurityGroups=[group])["LoadBalancers"][0]
    answer = {"StatusCode": "200", "MessageBody": str(server.port)}
    elb.create_listener(LoadBalancerArn=balancer["LoadBalancerArn"], Protocol="HTTP", Port=8080,
                        DefaultActions=[{"Type": "fixed-response", "FixedResponseConfig": answer}])
    urls = [f"http://{address}:8080/", f"http://127.0.0.1:{server.port + 1000}/", f"http://{balancer['DNSName']}:8080/"]
    return vpc["CidrBlock"], urls


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:
            return answer.read().decode().strip()
    except OSError:
        return None


def test_two_roadsteads_on_one_machine_serve_side_by_side(two, busybox):
    networks, urls = zip(*[serve(server, busybox) for server in two])
    assert networks[0] != networks[1]

    def answer(server, own):
        eventually(lambda: [get(url) for url in own] == [str(server.port)] * 3, 15)

    for server, own in zip(two, urls):
        answer(server, own)
    two[0].down("--delete-data")
    answer(two[1], urls[1])
