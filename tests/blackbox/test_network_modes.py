"""Networks of tasks: each mode, host ports, security groups, the way out, metadata and credentials."""

import ipaddress
import json
import os
import socket
import subprocess
import sys
import urllib.request
import uuid

import boto3
import pytest

from conftest import eventually, shell
from test_container_settings import define_ec2, run_ec2
from test_tasks import IDLE, awslogs, by_name, define, describe, lines, run, shell_container, wait_for

# Answers with a text, and stops at once when asked to.
HTTPD = "mkdir -p /tmp/www; echo {} > /tmp/www/index.html; httpd -p 8080 -h /tmp/www; " + IDLE


def address(task):
    """The address that DescribeTasks shows in the task's network interface."""
    details = {each["name"]: each["value"] for each in task["attachments"][0]["details"]}
    assert task["containers"][0]["networkInterfaces"][0]["privateIpv4Address"] == details["privateIPv4Address"]
    return details["privateIPv4Address"]


def get(url, timeout=2):
    """The body of an answer; None if there is none."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return answer.read().decode().strip()
    except OSError:
        return None


def web(image, text, *ports, **options):
    return shell_container(image, HTTPD.format(text), portMappings=list(ports), **options)


def bindings(task, name="main"):
    return by_name(task)[name]["networkBindings"]


def test_an_awsvpc_task_has_the_address_that_is_shown(roadstead, ecs, network, image):
    serves = run(ecs, network, define(
        ecs, "vpc", web(image, "here", {"containerPort": 8080}),
        shell_container(image, f"wget -q -O - http://127.0.0.1:8080/; ip -4 -o addr show; {IDLE}", name="beside",
                        logConfiguration=awslogs(), dependsOn=[{"containerName": "main", "condition": "START"}]),
    ))
    told = wait_for(ecs, serves, "RUNNING")
    own = address(told)
    details = {each["name"]: each["value"] for each in told["attachments"][0]["details"]}
    subnet = roadstead.client("ec2").describe_subnets(SubnetIds=[details["subnetId"]])["Subnets"][0]
    assert ipaddress.ip_address(own) in ipaddress.ip_network(subnet["CidrBlock"])
    assert told["attachments"][0]["status"] == "ATTACHED"
    assert eventually(lambda: get(f"http://{own}:8080/")) == "here"
    asks = run(ecs, network, define(ecs, "asks", shell_container(
        image, f"wget -q -O - http://{own}:8080/; ip -4 -o addr show; ip link show eth0", logConfiguration=awslogs())))
    other = wait_for(ecs, asks, "STOPPED")
    said = "\n".join(lines(roadstead, asks))
    assert said.startswith("here") and f" {address(other)}/" in said and address(other) != own
    # Containers of one task share its network; the interface's own address is the one in the namespace.
    beside = "\n".join(lines(roadstead, serves, "beside"))
    assert f" {own}/" in beside
    ecs.stop_task(task=serves)
    wait_for(ecs, serves, "STOPPED")
    assert get(f"http://{own}:8080/", 0.3) is None


def test_bridge_mode_has_static_and_dynamic_host_ports(ecs, image):
    definition = define_ec2(
        ecs, "bridge",
        web(image, "static", {"containerPort": 8080, "hostPort": 18080}, {"containerPort": 53, "hostPort": 18053, "protocol": "udp"}),
        web(image, "dynamic", {"containerPort": 8080, "hostPort": 0}, name="second"),
    )
    task = run_ec2(ecs, definition)
    told = wait_for(ecs, task, "RUNNING")
    assert [{**each} for each in bindings(told)] == [
        {"bindIP": "0.0.0.0", "containerPort": 8080, "hostPort": 18080, "protocol": "tcp"},
        {"bindIP": "0.0.0.0", "containerPort": 53, "hostPort": 18053, "protocol": "udp"},
    ]
    (dynamic,) = bindings(told, "second")
    assert 32768 <= dynamic["hostPort"] <= 60999
    assert eventually(lambda: get("http://127.0.0.1:18080/")) == "static"
    assert eventually(lambda: get(f"http://127.0.0.1:{dynamic['hostPort']}/")) == "dynamic"
    assert told["attachments"] == [] and told["launchType"] == "EC2" and told["containerInstanceArn"]

    # A second one of the same static port does not fit: the only node's ledger knows.
    answer = ecs.run_task(taskDefinition=definition, launchType="EC2")
    assert answer["tasks"] == []
    assert [(each["reason"], each["arn"]) for each in answer["failures"]] == [
        ("RESOURCE:PORTS", told["containerInstanceArn"])]
    ecs.stop_task(task=task)
    wait_for(ecs, task, "STOPPED")
    again = run_ec2(ecs, definition)
    assert bindings(wait_for(ecs, again, "RUNNING"))[0]["hostPort"] == 18080
    ecs.stop_task(task=again)


def test_datagrams_reach_a_host_port_and_its_answers_come_back(ecs, image):
    def ask(port):
        with socket.socket(type=socket.SOCK_DGRAM) as asker:
            asker.settimeout(1)
            asker.connect(("127.0.0.1", port))
            try:
                asker.send(b"ping")
                return asker.recv(100)
            except OSError:
                return None

    # No small image has a server of datagrams: the host's Python is one, its files mounted.
    script = (
        "import signal, socket; signal.signal(signal.SIGTERM, signal.SIG_DFL)\n"
        "server = socket.socket(type=socket.SOCK_DGRAM); server.bind((\"0.0.0.0\", 53))\n"
        "while True:\n    said, asker = server.recvfrom(100); server.sendto(b\"pong \" + said, asker)"
    )
    serves = shell_container(
        image, f"exec chroot /host {sys.executable} -c '{script}'",
        portMappings=[{"containerPort": 53, "hostPort": 18054, "protocol": "udp"}],
        mountPoints=[{"sourceVolume": "host", "containerPath": "/host", "readOnly": True}],
        linuxParameters={"initProcessEnabled": True}, logConfiguration=awslogs())
    definition = define_ec2(ecs, "datagrams", serves, volumes=[{"name": "host", "host": {"sourcePath": "/"}}])
    for _ in range(2):
        # Twice, since the kernel remembers where datagrams went.
        task = run_ec2(ecs, definition)
        wait_for(ecs, task, "RUNNING")
        assert eventually(lambda: ask(18054)) == b"pong ping"
        ecs.stop_task(task=task)
        wait_for(ecs, task, "STOPPED")


def test_tasks_of_one_definition_have_dynamic_ports_of_their_own(ecs, image):
    definition = define_ec2(ecs, "dynamic", web(image, "ok", {"containerPort": 8080}))
    tasks = [task["taskArn"] for task in ecs.run_task(taskDefinition=definition, launchType="EC2", count=5)["tasks"]]
    ports = {bindings(wait_for(ecs, task, "RUNNING"))[0]["hostPort"] for task in tasks}
    assert len(ports) == 5
    for port in ports:
        assert eventually(lambda: get(f"http://127.0.0.1:{port}/")) == "ok"
    for task in tasks:
        ecs.stop_task(task=task)


def test_a_host_port_that_another_program_has_is_told(ecs, image):
    with socket.socket() as other:
        other.bind(("0.0.0.0", 18081))
        other.listen()
        task = run_ec2(ecs, define_ec2(ecs, "taken", web(image, "x", {"containerPort": 8080, "hostPort": 18081})))
        told = wait_for(ecs, task, "STOPPED")
    assert told["stopCode"] == "TaskFailedToStart"
    reason = told["containers"][0]["reason"]
    assert reason.startswith("CannotStartContainerError: ") and "18081" in reason, reason
    assert "address already in use" in reason


def test_host_mode_is_the_hosts_network(roadstead, ecs, image):
    script = "readlink /proc/self/ns/net; " + HTTPD.format("host").replace("8080", "18082")
    definition = define_ec2(ecs, "host", shell_container(
        image, script, portMappings=[{"containerPort": 18082}], logConfiguration=awslogs()), mode="host")
    task = run_ec2(ecs, definition)
    told = wait_for(ecs, task, "RUNNING")
    assert eventually(lambda: get("http://127.0.0.1:18082/")) == "host"
    assert eventually(lambda: lines(roadstead, task)) == [os.readlink("/proc/self/ns/net")]
    assert [(each["containerPort"], each["hostPort"]) for each in bindings(told)] == [(18082, 18082)]
    assert ecs.run_task(taskDefinition=definition, launchType="EC2")["failures"][0]["reason"] == "RESOURCE:PORTS"
    ecs.stop_task(task=task)


def test_none_mode_has_only_loopback(roadstead, ecs, image):
    script = "ls /sys/class/net 2>/dev/null || true; ip -o link | cut -d: -f2; ip route; readlink /proc/self/ns/net; env"
    task = run_ec2(ecs, define_ec2(ecs, "none", shell_container(image, script, logConfiguration=awslogs()), mode="none"))
    told = wait_for(ecs, task, "STOPPED")
    said = lines(roadstead, task)
    assert " lo" in said and not any("eth" in line or "default" in line for line in said)
    assert os.readlink("/proc/self/ns/net") not in said
    assert not any(line.startswith("ECS_CONTAINER_METADATA_URI") for line in said)
    assert told["attachments"] == [] and bindings(told) == []


SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(self.client_address[0].encode() + b"\\n")
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("198.51.100.2", 80), Handler)
print("ready", flush=True)
server.serve_forever()
"""


@pytest.fixture
def outside():
    """A host beyond this one's own network: it answers with the address that it is asked from."""
    name = f"outside-{uuid.uuid4().hex[:8]}"
    shell("ip", "netns", "add", name)
    server = None
    try:
        shell("ip", "link", "add", "out0", "type", "veth", "peer", "name", "eth0", "netns", name)
        shell("ip", "addr", "add", "198.51.100.1/24", "dev", "out0")
        shell("ip", "link", "set", "out0", "up")
        for command in ("addr add 198.51.100.2/24 dev eth0", "link set eth0 up", "link set lo up"):
            shell("ip", "-n", name, *command.split())
        server = subprocess.Popen(
            ["ip", "netns", "exec", name, sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
        assert server.stdout.readline() == "ready\n"
        yield "198.51.100.2"
    finally:
        if server:
            server.kill()
            server.wait()
        shell("ip", "link", "del", "out0", check=False)
        shell("ip", "netns", "del", name)


def test_tasks_reach_what_the_host_reaches(roadstead, ecs, network, image, outside):
    ask = f"timeout 5 wget -q -O - http://{outside}/"
    vpc = run(ecs, network, define(ecs, "out", shell_container(image, ask, logConfiguration=awslogs())))
    bridge = run_ec2(ecs, define_ec2(ecs, "out-bridge", shell_container(image, ask, logConfiguration=awslogs())))
    for task in (vpc, bridge):
        assert wait_for(ecs, task, "STOPPED")["containers"][0]["exitCode"] == 0
        assert lines(roadstead, task) == ["198.51.100.1"]


def test_security_groups_let_in_what_they_allow(roadstead, ecs, network, image):
    ec2 = roadstead.client("ec2")
    vpc = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    group = lambda name: ec2.create_security_group(GroupName=name, Description=name, VpcId=vpc)["GroupId"]
    closed, asking = group("closed"), group("asking")
    within = lambda *groups: {"awsvpcConfiguration": {**network["awsvpcConfiguration"], "securityGroups": list(groups)}}
    definition = define(ecs, "guarded", web(image, "in", {"containerPort": 8080}))
    serves = run(ecs, within(closed), definition)
    own = address(wait_for(ecs, serves, "RUNNING"))
    ask = define(ecs, "asker", shell_container(
        image, f"timeout 1 wget -q -O - http://{own}:8080/ 2>/dev/null || echo refused", logConfiguration=awslogs()))

    def answers():
        tasks = [run(ecs, within(each), ask) for each in (asking, network["awsvpcConfiguration"]["securityGroups"][0])]
        for task in tasks:
            wait_for(ecs, task, "STOPPED")
        return [lines(roadstead, task)[-1] for task in tasks]

    assert answers() == ["refused", "refused"]
    from_group = [{"IpProtocol": "tcp", "FromPort": 8080, "ToPort": 8080, "UserIdGroupPairs": [{"GroupId": asking}]}]
    ec2.authorize_security_group_ingress(GroupId=closed, IpPermissions=from_group)
    assert answers() == ["in", "refused"]
    wrong = [{"IpProtocol": "tcp", "FromPort": 1, "ToPort": 8079, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    ec2.authorize_security_group_ingress(GroupId=closed, IpPermissions=wrong)
    ec2.revoke_security_group_ingress(GroupId=closed, IpPermissions=from_group)
    assert answers() == ["refused", "refused"]
    # Nothing goes out either where no rule lets it.
    everything = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    ec2.authorize_security_group_ingress(GroupId=closed, IpPermissions=everything)
    assert answers() == ["in", "in"]
    ec2.revoke_security_group_egress(GroupId=asking, IpPermissions=everything)
    assert answers() == ["refused", "in"]
    ecs.stop_task(task=serves)


def test_metadata_endpoint(roadstead, ecs, network, image):
    paths = ["", "/task", "/stats", "/task/stats", "/taskWithTags"]
    script = "; ".join(f"wget -q -O - $ECS_CONTAINER_METADATA_URI_V4{path}; echo" for path in paths)
    labels = {"color": "blue"}
    task = run(ecs, network, define(
        ecs, "metadata", shell_container(image, f"sleep 1; {script}", logConfiguration=awslogs(), dockerLabels=labels,
                                         cpu=64, memory=128),
        shell_container(image, IDLE, name="beside")), tags=[{"key": "team", "value": "blue"}])
    told = wait_for(ecs, task, "STOPPED")
    own, whole, stats, all_stats, tagged = map(json.loads, (line for line in lines(roadstead, task) if line))
    main = by_name(told)["main"]
    assert own["Name"] == "main" and own["DockerId"] == main["runtimeId"] and own["ImageID"] == main["imageDigest"]
    assert own["Image"] == image and own["Labels"]["color"] == "blue" and own["ContainerARN"] == main["containerArn"]
    assert own["Networks"][0]["NetworkMode"] == "awsvpc"
    assert own["Networks"][0]["IPv4Addresses"] == [address(told)]
    assert (own["KnownStatus"], own["DesiredStatus"]) == ("RUNNING", "RUNNING")
    assert own["Limits"] == {"CPU": 64, "Memory": 128}
    assert whole["TaskARN"] == task and whole["Family"] == "metadata" and whole["LaunchType"] == "FARGATE"
    assert sorted(each["Name"] for each in whole["Containers"]) == ["beside", "main"]
    assert whole["Limits"] == {"CPU": 0.25, "Memory": 512}
    assert stats["memory_stats"]["usage"] > 0 and stats["cpu_stats"]["cpu_usage"]["total_usage"] > 0
    assert set(all_stats) == {each["DockerId"] for each in whole["Containers"]}
    assert tagged["TaskTags"] == {"team": "blue"}


@pytest.mark.parametrize("mode", ["bridge", "host"])
def test_metadata_of_container_instances(roadstead, ecs, image, mode):
    script = "wget -q -O - $ECS_CONTAINER_METADATA_URI_V4; echo; wget -q -O - $ECS_CONTAINER_METADATA_URI_V4/task"
    task = run_ec2(ecs, define_ec2(ecs, f"metadata-{mode}", shell_container(
        image, script, logConfiguration=awslogs()), mode=mode))
    wait_for(ecs, task, "STOPPED")
    own, whole = map(json.loads, (line for line in lines(roadstead, task) if line))
    assert own["Name"] == "main" and own["Networks"][0]["NetworkMode"] == mode
    assert (whole["TaskARN"], whole["LaunchType"]) == (task, "EC2")


def test_the_task_roles_credentials_are_real(roadstead, ecs, network, image):
    iam = roadstead.client("iam")
    trust = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}]}
    role = iam.create_role(RoleName="shop", AssumeRolePolicyDocument=json.dumps(trust))["Role"]
    script = (
        "wget -q -O - http://169.254.170.2$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI; echo;"
        "wget -q -O - http://169.254.170.2/v2/credentials/00000000-0000-0000-0000-000000000000 2>&1"
    )
    with_role = define(ecs, "role", shell_container(image, script, logConfiguration=awslogs()), taskRoleArn=role["Arn"])
    task = run(ecs, network, with_role)
    bridge = run_ec2(ecs, define_ec2(ecs, "role-bridge", shell_container(image, script, logConfiguration=awslogs()),
                                     taskRoleArn=role["Arn"]))
    without = run(ecs, network, define(ecs, "no-role", shell_container(
        image, "echo [$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI]", logConfiguration=awslogs())))
    for each in (task, bridge):
        wait_for(ecs, each, "STOPPED")
        given, *rest = [line for line in lines(roadstead, each) if line]
        given = json.loads(given)
        assert set(given) == {"RoleArn", "AccessKeyId", "SecretAccessKey", "Token", "Expiration"}
        assert given["RoleArn"] == role["Arn"] and "400 Bad Request" in rest[-1]
        sts = boto3.client(
            "sts", endpoint_url=roadstead.endpoint, region_name="us-east-1", aws_access_key_id=given["AccessKeyId"],
            aws_secret_access_key=given["SecretAccessKey"], aws_session_token=given["Token"])
        told = sts.get_caller_identity()
        assert told["Arn"] == f"arn:aws:sts::000000000000:assumed-role/shop/{each.rsplit('/', 1)[1]}"
    wait_for(ecs, without, "STOPPED")
    assert lines(roadstead, without) == ["[]"]


def test_container_instances_show_what_is_taken(ecs, image):
    (arn,) = ecs.list_container_instances()["containerInstanceArns"]

    def seen():
        return ecs.describe_container_instances(containerInstances=[arn])["containerInstances"][0]

    def amount(resources, name):
        each = next(each for each in resources if each["name"] == name)
        return each.get("stringSetValue", each["integerValue"])

    # Tasks of Fargate take their part of the machine too; those of other tests are to be gone.
    before = eventually(lambda: (now := seen()) and now["remainingResources"] == now["registeredResources"] and now)
    assert before["runningTasksCount"] == before["pendingTasksCount"] == 0
    assert before["status"] == "ACTIVE" and before["agentConnected"] is True
    definition = define_ec2(ecs, "counted", web(image, "x", {"containerPort": 8080, "hostPort": 18085}, cpu=128, memory=100))
    task = run_ec2(ecs, definition)
    wait_for(ecs, task, "RUNNING")
    after = seen()
    assert after["runningTasksCount"] == 1
    for name, less in (("CPU", 128), ("MEMORY", 100)):
        assert amount(before["remainingResources"], name) - amount(after["remainingResources"], name) == less
        assert amount(before["registeredResources"], name) == amount(after["registeredResources"], name)
    assert "18085" in amount(after["remainingResources"], "PORTS")
    assert ecs.list_tasks(containerInstance=arn)["taskArns"] == [task]
    ecs.stop_task(task=task)
    wait_for(ecs, task, "STOPPED")
    assert seen()["remainingResources"] == before["remainingResources"]
    answer = ecs.describe_container_instances(containerInstances=[arn.rsplit("/", 1)[0] + "/" + "0" * 32])
    assert [each["reason"] for each in answer["failures"]] == ["MISSING"]
