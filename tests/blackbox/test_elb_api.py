"""Application Load Balancers: their API, and what the proxy behind it really answers."""

import base64
import concurrent.futures
import hashlib
import http.server
import json
import socket
import struct
import threading
import time

import botocore.exceptions
import pytest
import websocket

from conftest import eventually, shell

PORT = 8081


class Handler(http.server.BaseHTTPRequestHandler):
    """A target: says its name and what it was asked; `/slow` takes two seconds, `/ws` is an echo."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.headers.get("Upgrade", "").lower() == "websocket":
            return self.echo()
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if self.path.startswith("/slow"):
            time.sleep(2)
        status = self.server.health if self.path == "/health" else 200
        said = {
            "name": self.server.server_address[0], "path": self.path, "method": self.command,
            "headers": dict(self.headers), "body": hashlib.sha256(body).hexdigest(),
        }
        said = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_POST = do_PUT = do_DELETE = do_GET

    def echo(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        while True:
            head = self.rfile.read(2)
            if len(head) < 2 or head[0] & 15 == 8:
                break
            length = head[1] & 127
            if length == 126:
                length = struct.unpack(">H", self.rfile.read(2))[0]
            mask = self.rfile.read(4)
            text = bytes(b ^ mask[n % 4] for n, b in enumerate(self.rfile.read(length)))
            self.wfile.write(bytes([0x81, length]) + text)
            self.wfile.flush()
        self.close_connection = True


class Target:
    """A running target."""

    def __init__(self, address, port=PORT):
        self.address, self.port = address, port
        self.server = http.server.ThreadingHTTPServer((address, port), Handler)
        self.server.health = 200
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def registered(self, **more):
        return {"Id": self.address, "Port": self.port, "AvailabilityZone": "all", **more}


@pytest.fixture(scope="module")
def elb(roadstead):
    return roadstead.client("elbv2")


@pytest.fixture(scope="module")
def places(roadstead):
    """The default network: VPC and two subnets."""
    ec2 = roadstead.client("ec2")
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    return vpc, [each["SubnetId"] for each in ec2.describe_subnets()["Subnets"]][:2]


@pytest.fixture(scope="module")
def one():
    target = Target("127.0.0.11")
    yield target
    target.stop()


@pytest.fixture(scope="module")
def two():
    target = Target("127.0.0.12")
    yield target
    target.stop()


def group(elb, places, name, *targets, **options):
    """A target group with quick health checks."""
    options = {
        "Protocol": "HTTP", "Port": PORT, "TargetType": "ip", "HealthCheckPath": "/health",
        "HealthCheckIntervalSeconds": 5, "HealthCheckTimeoutSeconds": 2, "UnhealthyThresholdCount": 2, **options,
    }
    arn = elb.create_target_group(Name=name, VpcId=places[0], **options)["TargetGroups"][0]["TargetGroupArn"]
    if targets:
        elb.register_targets(TargetGroupArn=arn, Targets=[target.registered() for target in targets])
    return arn


def states(elb, arn):
    found = elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
    return {each["Target"]["Id"]: each["TargetHealth"]["State"] for each in found}


@pytest.fixture(scope="module")
def web(elb, places, one, two):
    """A load balancer with a listener on port 80 that forwards to two healthy targets; its record."""
    balancer = elb.create_load_balancer(Name="web", Subnets=places[1])["LoadBalancers"][0]
    balancer["group"] = group(elb, places, "web", one, two)
    forward = [{"Type": "forward", "TargetGroupArn": balancer["group"]}]
    listener = elb.create_listener(LoadBalancerArn=balancer["LoadBalancerArn"], Protocol="HTTP", Port=80, DefaultActions=forward)
    balancer["listener"] = listener["Listeners"][0]["ListenerArn"]
    elb.get_waiter("load_balancer_available").wait(Names=["web"], WaiterConfig={"Delay": 1})
    eventually(lambda: set(states(elb, balancer["group"]).values()) == {"healthy"}, 15)
    return balancer


def curl(url, *options):
    """Status, headers and body of what curl gets."""
    done = shell("curl", "-sS", "-i", "--max-time", "20", *options, url)
    head, _, body = done.stdout.partition("\n\n")
    if head.split()[1] == "100":
        head, _, body = body.partition("\n\n")
    lines = head.splitlines()
    headers = dict(line.lower().split(": ", 1) if ": " in line else (line.lower(), "") for line in lines[1:])
    return int(lines[0].split()[1]), headers, body


def code(refused):
    return refused.value.response["Error"]["Code"]


# === the API


def test_a_load_balancer_from_beginning_to_end(roadstead, elb, places):
    made = roadstead.cli("elbv2", "create-load-balancer", "--name", "cycle", "--subnets", *places[1])["LoadBalancers"][0]
    arn = made["LoadBalancerArn"]
    assert arn.startswith("arn:aws:elasticloadbalancing:us-east-1:000000000000:loadbalancer/app/cycle/")
    assert made["DNSName"].startswith("cycle-") and made["DNSName"].endswith(".us-east-1.elb.localhost")
    assert (made["State"]["Code"], made["Type"], made["Scheme"]) == ("provisioning", "application", "internet-facing")
    elb.get_waiter("load_balancer_available").wait(LoadBalancerArns=[arn], WaiterConfig={"Delay": 1, "MaxAttempts": 10})
    again = elb.create_load_balancer(Name="cycle", Subnets=places[1])["LoadBalancers"][0]
    assert again["LoadBalancerArn"] == arn, "the same again is the same"
    with pytest.raises(elb.exceptions.DuplicateLoadBalancerNameException):
        elb.create_load_balancer(Name="cycle", Subnets=places[1], Scheme="internal")
    with pytest.raises(botocore.exceptions.ClientError, match="At least two subnets in two different Availability Zones"):
        elb.create_load_balancer(Name="narrow", Subnets=places[1][:1])
    with pytest.raises(elb.exceptions.SubnetNotFoundException):
        elb.create_load_balancer(Name="nowhere", Subnets=["subnet-0123456789abcdef0", places[1][0]])
    with pytest.raises(elb.exceptions.LoadBalancerNotFoundException, match=r"Load balancers '\[none\]' not found"):
        elb.describe_load_balancers(Names=["none"])
    elb.add_tags(ResourceArns=[arn], Tags=[{"Key": "a", "Value": "b"}])
    assert elb.describe_tags(ResourceArns=[arn])["TagDescriptions"][0]["Tags"] == [{"Key": "a", "Value": "b"}]
    elb.modify_load_balancer_attributes(LoadBalancerArn=arn, Attributes=[{"Key": "deletion_protection.enabled", "Value": "true"}])
    with pytest.raises(elb.exceptions.OperationNotPermittedException):
        elb.delete_load_balancer(LoadBalancerArn=arn)
    elb.modify_load_balancer_attributes(LoadBalancerArn=arn, Attributes=[{"Key": "deletion_protection.enabled", "Value": "false"}])
    elb.delete_load_balancer(LoadBalancerArn=arn)
    elb.delete_load_balancer(LoadBalancerArn=arn)
    elb.get_waiter("load_balancers_deleted").wait(LoadBalancerArns=[arn], WaiterConfig={"Delay": 1, "MaxAttempts": 5})


def test_target_groups_and_their_errors(elb, places, one):
    arn = group(elb, places, "alone", one)
    found = elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"][0]["TargetHealth"]
    assert found == {"State": "unused", "Reason": "Target.NotInUse",
                     "Description": "Target group is not configured to receive traffic from the load balancer"}
    with pytest.raises(elb.exceptions.DuplicateTargetGroupNameException, match="A target group with the same name 'alone' exists"):
        group(elb, places, "alone", Port=99)
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": "127.0.0.11"}])
    assert code(refused) == "InvalidTarget" and "Availability Zone of 'all'" in str(refused.value)
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": "i-0123456789abcdef0"}])
    assert code(refused) in ("ValidationError", "InvalidTarget")
    for options in ({"HealthCheckTimeoutSeconds": 5}, {"Matcher": {"HttpCode": "99"}}, {"HealthCheckPath": "health"}):
        with pytest.raises(botocore.exceptions.ClientError) as refused:
            group(elb, places, "bad", **options)
        assert code(refused) in ("ValidationError", "InvalidConfigurationRequest"), options
    attributes = {each["Key"]: each["Value"] for each in elb.describe_target_group_attributes(TargetGroupArn=arn)["Attributes"]}
    assert attributes["deregistration_delay.timeout_seconds"] == "300" and attributes["stickiness.enabled"] == "false"
    elb.delete_target_group(TargetGroupArn=arn)
    with pytest.raises(elb.exceptions.TargetGroupNotFoundException):
        elb.describe_target_health(TargetGroupArn=arn)


def test_listeners_and_rules_and_their_errors(elb, web):
    forward = [{"Type": "forward", "TargetGroupArn": web["group"]}]
    with pytest.raises(elb.exceptions.DuplicateListenerException):
        fixed = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200"}}
        elb.create_listener(LoadBalancerArn=web["LoadBalancerArn"], Protocol="HTTP", Port=80, DefaultActions=[fixed])
    with pytest.raises(elb.exceptions.ResourceInUseException, match="is currently in use by a listener or a rule"):
        elb.delete_target_group(TargetGroupArn=web["group"])
    path = [{"Field": "path-pattern", "Values": ["/rule"]}]
    arn = elb.create_rule(ListenerArn=web["listener"], Priority=50, Conditions=path, Actions=forward)["Rules"][0]["RuleArn"]
    with pytest.raises(elb.exceptions.PriorityInUseException, match="Priority '50' is currently in use"):
        elb.create_rule(ListenerArn=web["listener"], Priority=50, Conditions=path, Actions=forward)
    elb.set_rule_priorities(RulePriorities=[{"RuleArn": arn, "Priority": 60}])
    rules = elb.describe_rules(ListenerArn=web["listener"])["Rules"]
    assert [each["Priority"] for each in rules] == ["60", "default"] and rules[1]["IsDefault"]
    with pytest.raises(elb.exceptions.OperationNotPermittedException):
        elb.delete_rule(RuleArn=rules[1]["RuleArn"])
    elb.delete_rule(RuleArn=arn)
    with pytest.raises(elb.exceptions.RuleNotFoundException):
        elb.describe_rules(RuleArns=[arn])
    with pytest.raises(elb.exceptions.TargetGroupNotFoundException):
        none = web["group"].replace("/web/", "/none/")
        elb.modify_listener(ListenerArn=web["listener"], DefaultActions=[{"Type": "forward", "TargetGroupArn": none}])


# === the proxy


def test_it_answers_at_its_name_and_at_its_own_address(web):
    addresses = {entry[4][0] for entry in socket.getaddrinfo(web["DNSName"], 80, socket.AF_INET)}
    assert len(addresses) == 1
    (address,) = addresses
    assert address.startswith("172.31.")
    names = set()
    for url in (f"http://{web['DNSName']}/a?b=c", f"http://{address}/a?b=c"):
        for _ in range(4):
            status, _, body = curl(url)
            assert status == 200 and json.loads(body)["path"] == "/a?b=c"
            names.add(json.loads(body)["name"])
    assert names == {"127.0.0.11", "127.0.0.12"}, "both targets have their turn"
    # A browser takes every name below localhost for this machine.
    status, _, body = curl(f"http://{web['DNSName']}/", "--resolve", f"{web['DNSName']}:80:127.0.0.1")
    assert status == 200 and json.loads(body)["name"] in names


def test_what_is_forwarded(web):
    status, _, body = curl(f"http://{web['DNSName']}/x", "-H", "X-Forwarded-For: 203.0.113.9", "-H", "X-Mine: kept",
                           "-X", "PUT", "--data-binary", "hello")
    said = json.loads(body)
    headers = {name.lower(): value for name, value in said["headers"].items()}
    assert status == 200 and said["method"] == "PUT" and said["body"] == hashlib.sha256(b"hello").hexdigest()
    # curl itself takes names below localhost for loopback, whatever they resolve to.
    assert headers["x-forwarded-for"] == "203.0.113.9, 127.0.0.1"
    assert (headers["x-forwarded-proto"], headers["x-forwarded-port"]) == ("http", "80")
    assert headers["x-mine"] == "kept" and headers["host"] == web["DNSName"]
    assert headers["x-amzn-trace-id"].startswith("Root=1-")


def test_rules_choose(elb, web, places, one):
    def rule(priority, conditions, action):
        made = elb.create_rule(ListenerArn=web["listener"], Priority=priority, Conditions=conditions, Actions=[action])
        return made["Rules"][0]["RuleArn"]

    path = lambda *values: [{"Field": "path-pattern", "PathPatternConfig": {"Values": list(values)}}]
    fixed = lambda status, body, kind="text/plain": {
        "Type": "fixed-response", "FixedResponseConfig": {"StatusCode": status, "MessageBody": body, "ContentType": kind}}
    redirect = lambda **config: {"Type": "redirect", "RedirectConfig": config}
    rules = [
        rule(1, path("/fixed", "/fixed/*"), fixed("418", '{"a":1}', "application/json")),
        rule(2, path("/old/*"), redirect(Path="/new/#{path}", StatusCode="HTTP_301")),
        rule(3, path("/away"), redirect(Host="example.com", Protocol="HTTPS", Port="443", Query="q=1", StatusCode="HTTP_302")),
        rule(4, [{"Field": "host-header", "HostHeaderConfig": {"Values": ["*.shop.test"]}}], fixed("200", "by host")),
        rule(5, [{"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "X-Kind", "Values": ["b?ta"]}}], fixed("200", "by header")),
        rule(6, [{"Field": "query-string", "QueryStringConfig": {"Values": [{"Key": "v", "Value": "2"}]}}], fixed("200", "by query")),
        rule(7, [{"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": ["DELETE"]}}], fixed("200", "by method")),
        rule(8, [{"Field": "source-ip", "SourceIpConfig": {"Values": ["203.0.113.0/24"]}}], fixed("200", "by address")),
    ]
    base = f"http://{web['DNSName']}"
    eventually(lambda: curl(f"{base}/fixed")[0] == 418, 5)
    status, headers, body = curl(f"{base}/fixed/x")
    assert (status, body) == (418, '{"a":1}') and headers["content-type"].startswith("application/json")
    assert headers["server"] == "awselb/2.0"
    status, headers, _ = curl(f"{base}/old/x?y=z")
    assert (status, headers["location"]) == (301, f"http://{web['DNSName']}:80/new/old/x?y=z")
    status, headers, _ = curl(f"{base}/away?gone=1")
    assert (status, headers["location"]) == (302, "https://example.com:443/away?q=1")
    assert curl(f"{base}/", "-H", "Host: eu.shop.test")[2] == "by host"
    assert curl(f"{base}/", "-H", "X-Kind: beta")[2] == "by header"
    assert curl(f"{base}/?v=2")[2] == "by query"
    assert curl(f"{base}/", "-X", "DELETE")[2] == "by method"
    assert "name" in json.loads(curl(f"{base}/fixe")[2]), "no rule, so the default"
    # The lower number decides; a change of order is a change of answers.
    elb.set_rule_priorities(RulePriorities=[{"RuleArn": rules[6], "Priority": 100}])
    both = ("-X", "DELETE", "-H", "X-Kind: beta")
    assert curl(f"{base}/", *both)[2] == "by header"
    elb.set_rule_priorities(RulePriorities=[{"RuleArn": rules[4], "Priority": 200}])
    eventually(lambda: curl(f"{base}/", *both)[2] == "by method", 5)
    for arn in rules:
        elb.delete_rule(RuleArn=arn)
    eventually(lambda: curl(f"{base}/fixed")[0] == 200, 5)


def test_a_listener_of_its_own_on_another_port(elb, web):
    fixed = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "503", "MessageBody": "closed"}}
    made = elb.create_listener(LoadBalancerArn=web["LoadBalancerArn"], Protocol="HTTP", Port=8085, DefaultActions=[fixed])
    arn = made["Listeners"][0]["ListenerArn"]
    url = f"http://{web['DNSName']}:8085/"
    eventually(lambda: shell("curl", "-s", url, check=False).returncode == 0, 5)
    assert curl(url)[::2] == (503, "closed")
    elb.delete_listener(ListenerArn=arn)
    eventually(lambda: shell("curl", "-s", "--max-time", "2", url, check=False).returncode != 0, 5)
    with pytest.raises(elb.exceptions.ListenerNotFoundException):
        elb.describe_listeners(ListenerArns=[arn])


def test_large_bodies_pass_through(web, tmp_path):
    data = bytes(range(256)) * (1 << 16)
    (tmp_path / "body").write_bytes(data)
    for options in ([], ["-H", "Expect:"]):
        status, _, body = curl(f"http://{web['DNSName']}/up", "--data-binary", f"@{tmp_path / 'body'}", *options)
        assert status == 200 and json.loads(body)["body"] == hashlib.sha256(data).hexdigest()


def test_websockets_pass_through(web):
    connection = websocket.create_connection(f"ws://{web['DNSName']}/ws", timeout=10)
    for text in ("one", "two", "x" * 100):
        connection.send(text)
        assert connection.recv() == text
    connection.close()


def test_sticky_sessions(elb, web):
    stick = [{"Key": "stickiness.enabled", "Value": "true"}, {"Key": "stickiness.type", "Value": "lb_cookie"}]
    elb.modify_target_group_attributes(TargetGroupArn=web["group"], Attributes=stick)
    url = f"http://{web['DNSName']}/"

    def cookies():
        lines = shell("curl", "-s", "-D", "-", "-o", "/dev/null", url).stdout.splitlines()
        return [line.split(": ", 1)[1].split(";")[0] for line in lines if line.lower().startswith("set-cookie: ")]

    kept = eventually(cookies, 5)
    assert {cookie.split("=")[0] for cookie in kept} == {"AWSALB", "AWSALBCORS"}
    jar = ["-b", "; ".join(kept)]
    names = {json.loads(curl(url, *jar)[2])["name"] for _ in range(8)}
    assert len(names) == 1
    elb.modify_target_group_attributes(TargetGroupArn=web["group"], Attributes=[{"Key": "stickiness.enabled", "Value": "false"}])


def test_weights_share_requests(elb, web, places, one, two):
    groups = [group(elb, places, "weight-a", one), group(elb, places, "weight-b", two)]
    weighted = {"Type": "forward", "ForwardConfig": {"TargetGroups": [
        {"TargetGroupArn": groups[0], "Weight": 3}, {"TargetGroupArn": groups[1], "Weight": 1}]}}
    condition = [{"Field": "path-pattern", "Values": ["/weighted"]}]
    rule = elb.create_rule(ListenerArn=web["listener"], Priority=9, Conditions=condition, Actions=[weighted])["Rules"][0]["RuleArn"]
    eventually(lambda: all(set(states(elb, arn).values()) == {"healthy"} for arn in groups), 15)
    counts = {}
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for said in pool.map(lambda _: json.loads(curl(f"http://{web['DNSName']}/weighted")[2]), range(120)):
            counts[said["name"]] = counts.get(said["name"], 0) + 1
    assert 65 <= counts[one.address] <= 112, counts
    elb.delete_rule(RuleArn=rule)
    for arn in groups:
        elb.delete_target_group(TargetGroupArn=arn)


# === health and draining


def test_a_target_that_fails_its_checks_gets_no_requests(elb, web, places):
    sick = Target("127.0.0.13")
    well = Target("127.0.0.14")
    try:
        arn = group(elb, places, "health", sick, well)
        condition = [{"Field": "path-pattern", "Values": ["/checked"]}]
        rule = elb.create_rule(ListenerArn=web["listener"], Priority=10, Conditions=condition,
                               Actions=[{"Type": "forward", "TargetGroupArn": arn}])["Rules"][0]["RuleArn"]
        eventually(lambda: set(states(elb, arn).values()) == {"healthy"}, 15)
        sick.server.health = 500
        eventually(lambda: states(elb, arn)[sick.address] == "unhealthy", 20)
        found = elb.describe_target_health(TargetGroupArn=arn, Targets=[sick.registered()])["TargetHealthDescriptions"]
        assert found[0]["TargetHealth"] == {"State": "unhealthy", "Reason": "Target.ResponseCodeMismatch",
                                            "Description": "Health checks failed with these codes: [500]"}
        url = f"http://{web['DNSName']}/checked"
        assert {json.loads(curl(url)[2])["name"] for _ in range(6)} == {well.address}
        # All unhealthy: it fails open, as an ALB does.
        well.server.health = 500
        eventually(lambda: set(states(elb, arn).values()) == {"unhealthy"}, 20)
        assert curl(url)[0] == 200
        elb.delete_rule(RuleArn=rule)
        elb.delete_target_group(TargetGroupArn=arn)
    finally:
        sick.stop()
        well.stop()


def test_a_target_that_is_deregistered_finishes_what_it_began(elb, web, places):
    target = Target("127.0.0.15")
    try:
        arn = group(elb, places, "drained", target)
        elb.modify_target_group_attributes(TargetGroupArn=arn, Attributes=[
            {"Key": "deregistration_delay.timeout_seconds", "Value": "10"}])
        condition = [{"Field": "path-pattern", "Values": ["/slow"]}]
        rule = elb.create_rule(ListenerArn=web["listener"], Priority=11, Conditions=condition,
                               Actions=[{"Type": "forward", "TargetGroupArn": arn}])["Rules"][0]["RuleArn"]
        eventually(lambda: states(elb, arn)[target.address] == "healthy", 15)
        url = f"http://{web['DNSName']}/slow"
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            slow = pool.submit(curl, url)
            time.sleep(0.7)
            elb.deregister_targets(TargetGroupArn=arn, Targets=[target.registered()])
            found = elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"][0]["TargetHealth"]
            assert found == {"State": "draining", "Reason": "Target.DeregistrationInProgress",
                             "Description": "Target deregistration is in progress"}
            eventually(lambda: curl(url)[0] == 503, 1)
            assert slow.result()[0] == 200
        # With nothing under way it is gone before the ten seconds are over.
        eventually(lambda: states(elb, arn) == {}, 5)
        elb.delete_rule(RuleArn=rule)
        elb.delete_target_group(TargetGroupArn=arn)
    finally:
        target.stop()


def test_a_target_that_is_gone_is_answered_for(elb, web, places):
    target = Target("127.0.0.16")
    arn = group(elb, places, "gone", target)
    condition = [{"Field": "path-pattern", "Values": ["/gone"]}]
    rule = elb.create_rule(ListenerArn=web["listener"], Priority=12, Conditions=condition,
                           Actions=[{"Type": "forward", "TargetGroupArn": arn}])["Rules"][0]["RuleArn"]
    eventually(lambda: states(elb, arn)[target.address] == "healthy", 15)
    target.stop()
    status, headers, body = curl(f"http://{web['DNSName']}/gone")
    assert (status, headers["server"]) == (502, "awselb/2.0") and "502 Bad Gateway" in body
    eventually(lambda: states(elb, arn)[target.address] == "unhealthy", 20)
    elb.delete_rule(RuleArn=rule)
    elb.delete_target_group(TargetGroupArn=arn)


# === last


def test_it_proxies_again_after_kill_9(roadstead, elb, web):
    roadstead.kill()
    roadstead.start()
    url = f"http://{web['DNSName']}/"
    eventually(lambda: shell("curl", "-s", "--max-time", "2", url, check=False).returncode == 0, 10)
    eventually(lambda: curl(url)[0] == 200, 10)
    assert states(elb, web["group"])


def test_a_deleted_load_balancer_leaves_its_name_and_address(elb, web):
    address = socket.gethostbyname(web["DNSName"])
    elb.delete_load_balancer(LoadBalancerArn=web["LoadBalancerArn"])
    eventually(lambda: web["DNSName"] not in open("/etc/hosts").read(), 5)
    eventually(lambda: f" {address}/" not in shell("ip", "-o", "address").stdout, 5)
    elb.delete_target_group(TargetGroupArn=web["group"])
