"""The server itself: how it starts, what it says, what it keeps, and what is left of it."""

import concurrent.futures
import http.client
import itertools
import json
import os
import pathlib
import re
import resource
import socket
import subprocess
import threading
import time
import urllib.request

import botocore.exceptions
import pytest

from conftest import PROGRAM, Roadstead, eventually, leftovers, shell
from raw import send

PORT = 4570


@pytest.fixture
def server(tmp_path):
    """A server that a test starts as it likes; afterwards it is taken down and nothing may be left."""
    before = leftovers(tmp_path / "data")
    hosts = pathlib.Path("/etc/hosts").read_text()
    server = Roadstead(tmp_path / "data", PORT)
    yield server
    if server.data_dir.exists():
        server.down("--delete-data")
    assert leftovers(server.data_dir) == before
    assert pathlib.Path("/etc/hosts").read_text() == hosts


def output(server):
    return (server.data_dir.parent / "roadstead.log").read_text()


def test_it_serves_within_a_moment_and_says_how_to_use_it(server):
    begin = time.monotonic()
    server.start()
    assert time.monotonic() - begin < 5
    health = send(PORT, "GET", "/_roadstead/health").document()
    assert health["status"] == "ok" and health["tasks"] == 0 and re.fullmatch(r"\d+\.\d+\.\d+", health["version"])
    said = output(server)
    assert f"serves http://localhost:{PORT}" in said
    assert f"data in {server.data_dir}, account 000000000000, region us-east-1" in said
    # The command it suggests works as printed.
    command = re.search(r"try: (AWS_.*) \\\n\s+(aws .*)", said)
    done = shell("sh", "-c", f"{command[1]} {command[2]}")
    assert json.loads(done.stdout)["clusterArns"] == ["arn:aws:ecs:us-east-1:000000000000:cluster/default"]


def test_a_port_of_the_systems_choice_is_named(server):
    server.port = 0
    server.start(wait=False)
    endpoint = eventually(lambda: re.search(r"serves (http://localhost:(\d+))\n", output(server)))
    assert endpoint[2] != "0"
    with urllib.request.urlopen(f"{endpoint[1]}/_roadstead/health", timeout=5) as answer:
        assert json.load(answer)["status"] == "ok"


def test_localhost_is_served_whichever_it_resolves_to(server):
    server.start()
    for host in ("127.0.0.1", "::1"):
        assert send(PORT, "GET", "/_roadstead/health", host=host).status == 200


def open_files(process):
    """The soft and the hard limit of a process."""
    text = pathlib.Path(f"/proc/{process}/limits").read_text()
    return re.search(r"Max open files +(\d+) +(\d+)", text).groups()


def test_it_takes_all_the_files_it_may_have_and_serves_while_clients_hold_many(server):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    held = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        server.start()
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        assert open_files(server.process.pid) == (str(hard), str(hard))
        for _ in range(600):
            held.append(socket.create_connection(("127.0.0.1", PORT)))
        assert send(PORT, "GET", "/_roadstead/health").status == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        for connection in held:
            connection.close()


def test_ctrl_c_says_what_goes_on_and_up_finds_what_was(server):
    server.start()
    ecs, ecr = server.client("ecs"), server.client("ecr")
    ecs.create_cluster(clusterName="kept", tags=[{"key": "a", "value": "b"}])
    ecr.create_repository(repositoryName="kept/repository")
    logs = server.client("logs")
    logs.create_log_group(logGroupName="kept")
    logs.create_log_stream(logGroupName="kept", logStreamName="s")
    event = {"timestamp": int(time.time() * 1000), "message": "kept"}
    logs.put_log_events(logGroupName="kept", logStreamName="s", logEvents=[event])
    assert server.interrupt() == 0
    said = output(server)
    assert "Stopped serving. 0 tasks go on running." in said
    assert f"`roadstead up --data-dir {server.data_dir}` finds them again" in said
    assert f"`roadstead down --data-dir {server.data_dir}` stops them" in said
    server.start()
    found = ecs.describe_clusters(clusters=["kept"], include=["TAGS"])["clusters"][0]
    assert found["status"] == "ACTIVE" and found["tags"] == [{"key": "a", "value": "b"}]
    assert ecr.describe_repositories()["repositories"][0]["repositoryName"] == "kept/repository"
    events = logs.get_log_events(logGroupName="kept", logStreamName="s")["events"]
    assert [event["message"] for event in events] == ["kept"]


def test_sigterm_ends_it_as_ctrl_c_does(server):
    server.start()
    server.process.terminate()
    assert server.process.wait(timeout=20) == 0
    assert "Stopped serving." in output(server)


def test_requests_under_way_are_answered_before_it_ends(server):
    """Ctrl-C while clients write: each is answered, and is there again, or could not connect."""
    server.start()
    stop, acknowledged, others = threading.Event(), [], []
    write = writer(server, stop, acknowledged, others)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        running = [pool.submit(write, n) for n in range(4)]
        eventually(lambda: len(acknowledged) > 40)
        assert server.interrupt() == 0
        stop.set()
        [each.result() for each in running]
    assert others == []
    server.start()
    assert set(acknowledged) <= everything(server)


# === kill -9


def writer(server, stop, acknowledged, others):
    """Writes clusters, task definitions and repositories by turns, noting what was acknowledged."""

    def write(number):
        ecs, ecr = server.client("ecs"), server.client("ecr")
        container = {"name": "a", "image": "x", "memory": 64}
        for count in itertools.count():
            name = f"w{number}-{threading.get_ident() % 1000}-{count}-{time.monotonic_ns()}"
            try:
                if count % 3 == 0:
                    ecs.create_cluster(clusterName=name)
                elif count % 3 == 1:
                    ecs.register_task_definition(family=name, containerDefinitions=[container])
                else:
                    ecr.create_repository(repositoryName=name)
                acknowledged.append(name)
            except (botocore.exceptions.ConnectionError, botocore.exceptions.HTTPClientError):
                if stop.wait(0.01):
                    return
            except Exception as error:  # noqa: BLE001: whatever it is, the test must show it.
                others.append(error)
                return

    return write


def everything(server):
    ecs, ecr = server.client("ecs"), server.client("ecr")

    def all_of(client, operation, key):
        pages = client.get_paginator(operation).paginate()
        return [item for page in pages for item in page[key]]

    clusters = [arn.rsplit("/", 1)[1] for arn in all_of(ecs, "list_clusters", "clusterArns")]
    families = all_of(ecs, "list_task_definition_families", "families")
    repositories = [each["repositoryName"] for each in all_of(ecr, "describe_repositories", "repositories")]
    return {*clusters, *families, *repositories}


def test_kill_9_during_writes_loses_nothing_acknowledged(server):
    server.start()
    stop, acknowledged, others = threading.Event(), [], []
    write = writer(server, stop, acknowledged, others)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        running = [pool.submit(write, n) for n in range(6)]
        for _ in range(5):
            enough = len(acknowledged) + 60
            eventually(lambda: len(acknowledged) > enough or others)
            server.kill()
            before = set(acknowledged)
            server.start()
            assert before <= everything(server)
        stop.set()
        server.kill()
        [each.result() for each in running]
    assert others == []
    server.start()
    assert set(acknowledged) <= everything(server)
    assert len(acknowledged) > 300


# === reset


def test_reset_forgets_everything_and_makes_the_defaults_anew(server):
    server.start()
    ecs, ecr, logs = server.client("ecs"), server.client("ecr"), server.client("logs")
    ecs.create_cluster(clusterName="gone")
    ecs.create_cluster(clusterName="default")
    ecr.create_repository(repositoryName="gone")
    logs.create_log_group(logGroupName="gone")
    server.client("ecs", key="111122223333").create_cluster(clusterName="of-another-account")
    answer = send(PORT, "POST", "/_roadstead/reset")
    assert (answer.status, answer.document()) == (200, {"status": "reset"})
    assert ecs.list_clusters()["clusterArns"] == ["arn:aws:ecs:us-east-1:000000000000:cluster/default"]
    assert ecr.describe_repositories()["repositories"] == []
    assert logs.describe_log_groups()["logGroups"] == []
    assert server.client("ecs", key="111122223333").list_clusters()["clusterArns"] == []
    # It is as durable as any change.
    server.kill()
    server.start()
    assert ecr.describe_repositories()["repositories"] == []


def run_stubborn(server, busybox, count=1):
    """Runs tasks that hear no signal and have a minute for it; their ARNs, once they run."""
    ec2, ecs = server.client("ec2"), server.client("ecs")
    image = server.push(busybox, "busybox")
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    container = {"name": "main", "image": image, "stopTimeout": 60, "entryPoint": ["/bin/sh", "-c"],
                 "command": ["trap '' TERM; while true; do sleep 1; done"]}
    ecs.register_task_definition(family="stubborn", requiresCompatibilities=["FARGATE"], networkMode="awsvpc",
                                 cpu="256", memory="512", containerDefinitions=[container])
    network = {"awsvpcConfiguration": {"subnets": [subnet]}}
    tasks = ecs.run_task(taskDefinition="stubborn", launchType="FARGATE", count=count, networkConfiguration=network)["tasks"]
    arns = [task["taskArn"] for task in tasks]
    eventually(lambda: all(task["lastStatus"] == "RUNNING" for task in ecs.describe_tasks(tasks=arns)["tasks"]))
    return arns


def test_reset_kills_and_leaves_no_bytes(server, busybox):
    server.start()
    run_stubborn(server, busybox, count=2)
    ecr = server.client("ecr")
    upload = ecr.initiate_layer_upload(repositoryName="busybox")["uploadId"]
    ecr.upload_layer_part(repositoryName="busybox", uploadId=upload, partFirstByte=0, partLastByte=2, layerPartBlob=b"abc")
    layers, uploads = server.data_dir / "node" / "layers", server.data_dir / "blobs" / "uploads"
    assert list(layers.iterdir()) and list(uploads.iterdir())
    begin = time.monotonic()
    assert send(PORT, "POST", "/_roadstead/reset").status == 200
    assert time.monotonic() - begin < 20, "tasks have a minute to end, and are not given it"
    assert list(layers.iterdir()) == [] and list(uploads.iterdir()) == []
    assert [path for path in (server.data_dir / "blobs").rglob("*") if path.is_file()] == []
    run_stubborn(server, busybox)


def test_a_reset_goes_on_without_its_client_and_others_wait_for_it(server, busybox):
    server.start()
    run_stubborn(server, busybox)
    gives_up = http.client.HTTPConnection("127.0.0.1", PORT, timeout=5)
    gives_up.request("POST", "/_roadstead/reset")
    gives_up.close()
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        resets = list(pool.map(lambda _: send(PORT, "POST", "/_roadstead/reset"), range(3)))
    assert [answer.status for answer in resets] == [200, 200, 200], [answer.text for answer in resets]
    assert server.client("ecs").list_task_definitions()["taskDefinitionArns"] == []
    # The node is told again what to run.
    run_stubborn(server, busybox)


def test_reset_is_not_for_web_pages(server):
    server.start()
    server.client("ecr").create_repository(repositoryName="kept")
    for header in ("Origin", "Referer"):
        answer = send(PORT, "POST", "/_roadstead/reset", headers={header: "http://evil.example"})
        assert answer.status == 403 and "not from a browser" in answer.document()["error"]
    # A page can also make a name of its own lead here.
    answer = send(PORT, "POST", "/_roadstead/reset", headers={"Host": f"evil.example:{PORT}"})
    assert answer.status == 403, answer.text
    assert len(server.client("ecr").describe_repositories()["repositories"]) == 1


# === down


def test_down_stops_a_running_server_and_keeps_the_data(server):
    server.start().client("ecs").create_cluster(clusterName="kept")
    done = server.down()
    assert "Everything is stopped. Definitions, images and logs stay" in done.stdout
    assert server.process.wait(timeout=5) == 0
    server.start()
    assert server.client("ecs").describe_clusters(clusters=["kept"])["clusters"]


def test_down_works_without_a_server(server):
    server.start()
    server.kill()
    assert "Everything is stopped." in server.down().stdout
    assert "Everything is stopped." in server.down().stdout, "and once more"
    assert "stopped and deleted" in server.down("--delete-data").stdout
    assert not server.data_dir.exists()


def test_down_of_nothing_says_so(tmp_path):
    done = shell(PROGRAM, "down", "--data-dir", tmp_path, check=False)
    assert done.returncode == 1 and "is not a data directory of Roadstead" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_roadsteads_is_neither_taken_nor_deleted(server):
    server.data_dir.mkdir()
    thesis = server.data_dir / "thesis.tex"
    thesis.write_text("years of work")
    command = [PROGRAM, "up", "--data-dir", server.data_dir, "--listen", f"127.0.0.1:{PORT}"]
    for options in ([], ["--detach"]):
        done = shell(*command, *options, check=False)
        assert done.returncode == 1 and "is not a data directory of Roadstead" in done.stderr, done.stderr
    thesis.unlink()
    server.start()
    thesis.write_text("years of work")
    assert f"{server.data_dir} stays, for not all in it is Roadstead's." in server.down("--delete-data").stdout
    assert [path.name for path in server.data_dir.iterdir()] == ["thesis.tex"]
    thesis.unlink()
    server.data_dir.rmdir()


def test_down_is_not_for_others(server):
    server.start()
    for headers in ({}, {"Authorization": "Bearer forged"}):
        assert send(PORT, "POST", "/_roadstead/down", headers=headers).status == 403
    assert server.is_healthy()


def test_the_secret_is_for_root_alone(server):
    server.start()
    assert (server.data_dir / "secret.key").stat().st_mode & 0o777 == 0o600
    assert server.data_dir.stat().st_mode & 0o777 == 0o700


# === options


def test_detached_it_serves_in_the_background(server):
    command = [PROGRAM, "up", "--detach", "--data-dir", server.data_dir, "--listen", f"127.0.0.1:{PORT}"]
    done = shell(*command)
    pid = re.search(r"In the background as process (\d+); its log is (\S+)", done.stdout)
    assert pid and f"serves http://localhost:{PORT}" in done.stdout, done.stdout
    assert pathlib.Path(pid[2]).read_text().startswith("Roadstead ")
    assert os.getsid(int(pid[1])) == int(pid[1]), "a terminal that is closed takes its whole session along"
    assert server.client("ecs").list_clusters()["clusterArns"]
    again = shell(*command, check=False)
    assert again.returncode == 1 and f"in use by process {pid[1]}" in again.stderr, again.stderr
    server.down("--delete-data")
    line = pathlib.Path(f"/proc/{pid[1]}/cmdline")
    assert not line.exists() or line.read_bytes() == b"", "it has ended, whether or not its parent knows"


def test_account_and_region_are_whose_and_where_the_defaults_are(server):
    server.start("--account", "123456789012", "--region", "eu-central-1")
    identity = server.client("sts", region="eu-central-1").get_caller_identity()
    assert (identity["Account"], identity["Arn"]) == ("123456789012", "arn:aws:iam::123456789012:root")
    clusters = server.client("ecs", region="eu-central-1").list_clusters()["clusterArns"]
    assert clusters == ["arn:aws:ecs:eu-central-1:123456789012:cluster/default"]
    assert server.client("ecs", region="us-east-1").list_clusters()["clusterArns"] == []


def test_a_key_of_twelve_digits_is_an_account_of_its_own(server):
    server.start()
    one, two = server.client("ecs", key="111111111111"), server.client("ecs", key="222222222222")
    arn = one.create_cluster(clusterName="c")["cluster"]["clusterArn"]
    assert arn == "arn:aws:ecs:us-east-1:111111111111:cluster/c"
    assert one.list_clusters()["clusterArns"] == [arn]
    assert two.list_clusters()["clusterArns"] == []
    with pytest.raises(two.exceptions.InvalidParameterException, match="Identifier is for 111111111111. Your accountId"):
        two.describe_clusters(clusters=[arn])
    assert server.client("sts", key="222222222222").get_caller_identity()["Account"] == "222222222222"
    eu = server.client("ecs", key="111111111111", region="eu-west-1")
    assert eu.list_clusters()["clusterArns"] == [], "regions are apart too"


@pytest.fixture
def address():
    """An address that is not loopback, of this test's own network namespace."""
    shell("ip", "address", "add", "198.51.100.7/32", "dev", "lo")
    yield "198.51.100.7"
    shell("ip", "address", "del", "198.51.100.7/32", "dev", "lo")


def test_off_loopback_real_keys_are_required_and_shown_once(address, server):
    command = [PROGRAM, "up", "--data-dir", server.data_dir, "--listen", f"{address}:{PORT}"]
    server.endpoint = f"http://{address}:{PORT}"

    def start():
        server.data_dir.parent.joinpath("out").unlink(missing_ok=True)
        out = open(server.data_dir.parent / "out", "w")
        server.process = subprocess.Popen(command, stdout=out, stderr=out)
        eventually(server.is_healthy, 30, 0.02)
        return eventually(lambda: re.search("(?s).*Ctrl-C.*", pathlib.Path(out.name).read_text()))[0]

    shown = start()
    key = re.search(r"AWS_ACCESS_KEY_ID=(AKIA[A-Z2-7]{16}) AWS_SECRET_ACCESS_KEY=(\S{40}) ", shown)
    assert key, shown
    assert server.client("sts", key=key[1], secret=key[2]).get_caller_identity()["Account"] == "000000000000"
    for wrong in (("test", "test"), ("123456789012", "test"), (key[1], "test")):
        with pytest.raises(botocore.exceptions.ClientError) as refused:
            server.client("ecs", key=wrong[0], secret=wrong[1]).list_clusters()
        code = refused.value.response["Error"]["Code"]
        assert code in ("UnrecognizedClientException", "InvalidSignatureException"), wrong
    reset = send(PORT, "POST", "/_roadstead/reset", host=address)
    assert reset.status == 403 and "loopback-only" in reset.document()["error"]
    server.kill()
    again = start()
    assert key[2] not in again and key[1] not in again
    assert server.client("sts", key=key[1], secret=key[2]).get_caller_identity()["Account"] == "000000000000"


def test_on_all_addresses_names_are_those_of_an_address_that_others_can_use(address, server):
    shell("ip", "route", "add", "192.0.2.0/24", "dev", "lo", "src", address)
    with open(server.data_dir.parent / "roadstead.log", "w") as log:
        server.process = subprocess.Popen(
            [PROGRAM, "up", "--data-dir", server.data_dir, "--listen", f"0.0.0.0:{PORT}"], stdout=log, stderr=log)
    said = eventually(lambda: re.search("(?s).*Ctrl-C.*", output(server)))[0]
    assert f"serves http://{address}:{PORT}" in said
    key = re.search(r"AWS_ACCESS_KEY_ID=(\S+) AWS_SECRET_ACCESS_KEY=(\S+) ", said)
    ecr = server.client("ecr", key=key[1], secret=key[2])
    uri = ecr.create_repository(repositoryName="busybox")["repository"]["repositoryUri"]
    assert uri == f"{address}:{PORT}/busybox"
    proxy = ecr.get_authorization_token()["authorizationData"][0]["proxyEndpoint"]
    assert proxy == f"http://{address}:{PORT}" and send(PORT, "GET", "/v2/", host=address).status == 401
    server.down("--delete-data")
    shell("ip", "route", "del", "192.0.2.0/24", "dev", "lo")


def test_names_are_written_and_removed(server):
    hosts = pathlib.Path("/etc/hosts")
    before = hosts.read_text()
    server.start()
    eventually(lambda: "127.0.0.1 data-localhost\n" in hosts.read_text(), 5)
    assert hosts.read_text().startswith(before)
    server.interrupt()
    server.start("--no-hosts-file")
    server.down("--delete-data")
    # What an earlier run wrote is what that run's options ask to be removed.
    if hosts.read_text() != before:
        server.start().down("--delete-data")
    assert hosts.read_text() == before
