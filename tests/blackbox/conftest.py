"""Starts the real program for a test module and gives it the official clients."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

import boto3
import botocore.config
import pytest

import images

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PROGRAM = pathlib.Path(os.environ.get("ROADSTEAD", TARGET / "debug" / "roadstead"))
PROGRAMS = PROGRAM.parent
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


def pytest_configure():
    if os.environ.get("ROADSTEAD_ISOLATED") != "1":
        pytest.exit("run these by tests/run, which gives them a network of their own", 2)


def eventually(check, seconds=30, every=0.1):
    """Calls check until it gives something true; its last answer otherwise fails the test."""
    until = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > until:
            pytest.fail(f"still {value!r} after {seconds} s: {check}")
        time.sleep(every)


def shell(*command, check=True, **options):
    """Runs a command; its result, with text output."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120, **options)
    if check and done.returncode != 0:
        pytest.fail(f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def as_a_careful_shell_does():
    """Signals ignored as for a script's background job and under nohup, and files for the user alone: no container may
    inherit that."""
    os.umask(0o077)
    for ignored in (signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(ignored, signal.SIG_IGN)


def suffix(data_dir):
    """What the names of this data directory's control groups and folders in /run end in (FNV-1a, 32 bits)."""
    value = 0x811C9DC5
    for byte in os.fsencode(str(data_dir)):
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return f"roadstead-{value:08x}"


def leftovers(data_dir):
    """What a Roadstead with this data directory makes on a machine: interfaces, mounts, control groups, firewall
    tables, names of hosts, processes."""
    own = suffix(data_dir)
    links = [line.split(": ")[1] for line in shell("ip", "-o", "link").stdout.splitlines()]
    mounts = [line.split()[1] for line in pathlib.Path("/proc/self/mounts").read_text().splitlines()]
    tables = shell("nft", "list", "tables", check=False).stdout.splitlines()
    processes = [
        line for line in shell("ps", "-eo", "pid,args").stdout.splitlines() if str(data_dir) in line
    ]
    return sorted(
        [link for link in links if link.startswith(("rs-", "rv"))]
        + [mount for mount in mounts if own in mount or str(data_dir) in mount]
        # Others' control groups come and go meanwhile, which os.walk takes.
        + [f"{path}/{own}" for path, folders, _ in os.walk("/sys/fs/cgroup") if own in folders]
        + [table for table in tables if "roadstead" in table]
        + ([f"/run/{own}"] if os.path.exists(f"/run/{own}") else [])
        + [line for line in pathlib.Path("/etc/hosts").read_text().splitlines() if "roadstead" in line]
        + processes
    )


class Roadstead:
    """A running server and clients of it."""

    def __init__(self, data_dir, port=4566):
        self.data_dir, self.port = pathlib.Path(data_dir), port
        self.endpoint = f"http://localhost:{port}"
        self.registry = f"localhost:{port}"
        self.process = None
        self.log = None

    def start(self, *options, wait=True):
        self.log = open(self.data_dir.parent / "roadstead.log", "a")
        command = [PROGRAM, "up", "--data-dir", self.data_dir, "--listen", f"127.0.0.1:{self.port}", *options]
        env = {**os.environ, "ROADSTEAD_LOG": os.environ.get("ROADSTEAD_LOG", "info")}
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, env=env,
                                        preexec_fn=as_a_careful_shell_does)
        if wait:
            eventually(self.is_healthy, 30, 0.02)
        return self

    def is_healthy(self):
        if self.process.poll() is not None:
            pytest.fail(f"the server ended with {self.process.returncode}:\n{self.said()}")
        try:
            with urllib.request.urlopen(f"{self.endpoint}/_roadstead/health", timeout=1) as answer:
                return json.load(answer)["status"] == "ok"
        except OSError:
            return False

    def said(self):
        return (self.data_dir.parent / "roadstead.log").read_text()[-4000:]

    def kill(self):
        """kill -9: what is acknowledged must be there again."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def interrupt(self):
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=30)

    def down(self, *options):
        return shell(PROGRAM, "down", "--data-dir", self.data_dir, *options)

    def client(self, service, key="test", secret="test", region="us-east-1", **config):
        config = botocore.config.Config(retries={"total_max_attempts": 1}, **config)
        return boto3.client(
            service, endpoint_url=self.endpoint, region_name=region,
            aws_access_key_id=key, aws_secret_access_key=secret, config=config,
        )

    def cli(self, *arguments, check=True):
        """The aws CLI; its JSON answer (or the finished process, with check=False)."""
        program = pathlib.Path(sys.executable).parent / "aws"
        program = program if program.exists() else shutil.which("aws")
        command = [program, "--endpoint-url", self.endpoint, "--output", "json", *arguments]
        done = shell(*command, check=check, env={**os.environ, **CREDENTIALS, "AWS_PAGER": ""})
        if not check:
            return done
        return json.loads(done.stdout) if done.stdout.strip() else None

    def push(self, layout, name, tag="latest", create=True):
        """Pushes a layout with skopeo, creating the repository; the reference to run."""
        ecr = self.client("ecr")
        if create:
            try:
                ecr.create_repository(repositoryName=name)
            except ecr.exceptions.RepositoryAlreadyExistsException:
                pass
        import base64

        token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
        credentials = base64.b64decode(token).decode()
        target = f"{self.registry}/{name}:{tag}"
        shell("skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "--dest-creds", credentials,
              f"oci:{layout.root}", f"docker://{target}")
        return target


@pytest.fixture(scope="module")
def roadstead(tmp_path_factory):
    """A server of this module's own; afterwards nothing may be left on the machine."""
    server = Roadstead(tmp_path_factory.mktemp("roadstead") / "data").start()
    yield server
    done = server.down("--delete-data")
    assert leftovers(server.data_dir) == [], f"left behind after down:\n{done.stdout}\n{server.said()}"
    assert not server.data_dir.exists()


@pytest.fixture(scope="session")
def busybox(tmp_path_factory):
    """The layout of a busybox image."""
    return images.busybox_layout(tmp_path_factory.mktemp("busybox"))


@pytest.fixture(scope="module")
def image(roadstead, busybox):
    """A pushed busybox image's reference."""
    return roadstead.push(busybox, "busybox")


@pytest.fixture(scope="module")
def ecs(roadstead):
    return roadstead.client("ecs")


@pytest.fixture(scope="module")
def network(roadstead):
    """The network configuration of awsvpc tasks: the default subnets, and a security group open to all."""
    ec2 = roadstead.client("ec2")
    vpc = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    subnets = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"]
    group = ec2.create_security_group(GroupName="open", Description="open to all", VpcId=vpc)["GroupId"]
    ec2.authorize_security_group_ingress(
        GroupId=group, IpPermissions=[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    )
    subnets = [subnet["SubnetId"] for subnet in subnets]
    return {"awsvpcConfiguration": {"subnets": subnets, "securityGroups": [group], "assignPublicIp": "DISABLED"}}
