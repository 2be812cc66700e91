"""The standard scenario: a push, tasks, a service behind a load balancer, their end. It can be cut anywhere."""

import base64
import functools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

import botocore.exceptions

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "blackbox"))

from conftest import PROGRAM, Roadstead, as_a_careful_shell_does, leftovers, shell
from services import HTTPD, SLEEP
from test_tasks import awslogs, lines, shell_container
from world import World, differences, tasks

SETTLE_S = 90
GROUP = "/faults"
# Passed when a data directory is new.
FIRST = ("store.file.written", "store.append.extended")
# Passed at each start: cut when there are tasks to be found.
BOOT = ("server.store-opened", "server.agent-started", "server.defaults-made", "server.noted", "server.published")
LOST = (OSError, botocore.exceptions.HTTPClientError, botocore.exceptions.ConnectionError)


class Reached(Exception):
    """The cut was made."""


class Server(Roadstead):
    """A server that can be cut, and clients that are made once: their models are large."""

    def __init__(self, data_dir, cuts):
        super().__init__(data_dir)
        self.cuts = pathlib.Path(cuts)
        self.cuts.mkdir(exist_ok=True)
        self.env = {**os.environ, "ROADSTEAD_CUT": str(self.cuts), "ROADSTEAD_LOG": "info"}

    @functools.cache
    def clients(service):
        return Roadstead("/none").client(service, read_timeout=20, connect_timeout=5)

    def client(self, service, **_):
        return Server.clients(service)

    def arm(self, point, count):
        (self.cuts / "armed.new").write_text(f"{point} {count}\n")
        os.rename(self.cuts / "armed.new", self.cuts / "armed")

    def is_cut(self):
        return (self.cuts / "cut").exists()

    def start(self):
        """Returns when it serves; raises if it is cut before."""
        self.log = open(self.data_dir.parent / "roadstead.log", "a")
        command = [PROGRAM, "up", "--data-dir", self.data_dir, "--listen", f"127.0.0.1:{self.port}"]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, env=self.env, preexec_fn=as_a_careful_shell_does)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if self.process.poll() is not None:
                if self.is_cut() and self.process.returncode == -signal.SIGKILL:
                    raise Reached
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.said()}")
            try:
                with urllib.request.urlopen(f"{self.endpoint}/_roadstead/health", timeout=5) as answer:
                    if json.load(answer)["status"] == "ok":
                        return self
            except LOST:
                time.sleep(0.02)
        raise AssertionError(f"the server does not serve:\n{self.said()}")

    def is_alive(self):
        return self.process.poll() is None

    def down(self, *options, check=True):
        return shell(PROGRAM, "down", "--data-dir", self.data_dir, *options, check=check, env=self.env)


class Scenario:
    """One server from nothing to nothing. `acknowledged` holds what a client was told."""

    def __init__(self, folder, layout, point=None, count=1, how=None):
        self.folder = pathlib.Path(folder)
        self.server = Server(self.folder / "data", self.folder / "cuts")
        self.layout, self.point, self.count, self.how = layout, point or "", count, how
        self.acknowledged = {}
        self.running = {}
        self.hosts = pathlib.Path("/etc/hosts").read_text()
        self.forward = pathlib.Path("/proc/sys/net/ipv4/ip_forward").read_text()

    # === calls and waits that a cut may end

    def over(self):
        return self.server.is_cut() or not self.server.is_alive()

    def check_over(self):
        if self.over():
            # A process that is being killed may have a thread that still answers.
            raise Reached

    def call(self, api, operation, key=None, **parameters):
        try:
            answer = getattr(self.server.client(api), operation)(**parameters)
        except LOST as lost:
            until = time.monotonic() + 5
            while not self.over() and time.monotonic() < until:
                time.sleep(0.02)
            if self.over():
                raise Reached from lost
            raise
        if key:
            self.acknowledged[key] = answer
        return answer

    def wait(self, check, what, seconds=60):
        until = time.monotonic() + seconds
        while True:
            self.check_over()
            value = check()
            if value:
                return value
            assert time.monotonic() < until, f"{what}: not within {seconds} s\n{self.server.said()}"
            time.sleep(0.05)

    # === the steps

    def boot(self):
        if self.point in FIRST:
            self.server.arm(self.point, self.count)
        self.server.start()
        if self.point and self.point not in FIRST + BOOT and not self.point.startswith(("down.", "reset.")):
            self.server.arm(self.point, self.count)

    def push(self):
        self.call("ecr", "create_repository", "repository", repositoryName="busybox")
        token = self.call("ecr", "get_authorization_token")["authorizationData"][0]["authorizationToken"]
        pushed = shell("skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "--retry-times=0", "--dest-creds",
                       base64.b64decode(token).decode(), f"oci:{self.layout}", f"docker://{self.image}", check=False)
        if pushed.returncode != 0:
            time.sleep(0.2)
            self.check_over()
            raise AssertionError(pushed.stderr)
        self.acknowledged["image"] = True

    @property
    def image(self):
        return f"{self.server.registry}/busybox:latest"

    def network(self):
        ec2 = functools.partial(self.call, "ec2")
        vpc = ec2("describe_vpcs", Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
        subnets = ec2("describe_subnets", Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"]
        return vpc, [subnet["SubnetId"] for subnet in subnets[:2]]

    def define(self, family, *containers, fargate=True, **options):
        if fargate:
            options = dict(requiresCompatibilities=["FARGATE"], networkMode="awsvpc", cpu="256", memory="512",
                           executionRoleArn="arn:aws:iam::000000000000:role/ecsTaskExecutionRole", **options)
        return self.call("ecs", "register_task_definition", f"definition {family}", family=family,
                         containerDefinitions=list(containers), **options)["taskDefinition"]["taskDefinitionArn"]

    def run(self, name, definition, fargate=True):
        options = dict(launchType="EC2")
        if fargate:
            options = dict(launchType="FARGATE", networkConfiguration={"awsvpcConfiguration": {"subnets": self.network()[1]}})
        answer = self.call("ecs", "run_task", taskDefinition=definition, **options)
        assert answer["failures"] == [], answer["failures"]
        self.acknowledged[f"task {name}"] = answer["tasks"][0]["taskArn"]

    def define_all(self):
        mount = [{"sourceVolume": "shared", "containerPath": "/shared"}]
        logs = awslogs(GROUP)
        check = {"command": ["CMD-SHELL", "true"], "interval": 5, "retries": 3}
        self.define("pair",
                    shell_container(self.image, f"echo began; echo x > /shared/x; {SLEEP}", mountPoints=mount,
                                    logConfiguration=logs, healthCheck=check),
                    shell_container(self.image, SLEEP, name="side", mountPoints=mount, essential=False,
                                    dependsOn=[{"containerName": "main", "condition": "START"}]),
                    volumes=[{"name": "shared"}])
        self.define("ported", shell_container(self.image, HTTPD.format("ported"), memory=64,
                                              portMappings=[{"containerPort": 8080, "hostPort": 8088}]),
                    fargate=False, networkMode="bridge")
        self.define("ends", shell_container(self.image, "echo ended; exit 7", logConfiguration=logs))
        self.define("web", shell_container(self.image, HTTPD.format("web"), portMappings=[{"containerPort": 8080}]))

    def begin_tasks(self):
        self.run("pair", "pair")
        self.run("ends", "ends")
        self.run("ported", "ported", fargate=False)
        for name, status in (("ends", "STOPPED"), ("pair", "RUNNING"), ("ported", "RUNNING")):
            self.wait(lambda: self.describe(name)["lastStatus"] == status, f"{name} {status}")
            self.running[name] = self.describe(name)
        if ".exec" in self.point:
            self.wait(lambda: self.describe("pair")["healthStatus"] == "HEALTHY", "pair HEALTHY")

    def describe(self, name):
        return self.call("ecs", "describe_tasks", tasks=[self.acknowledged[f"task {name}"]])["tasks"][0]

    def begin_service(self):
        vpc, subnets = self.network()
        elb = functools.partial(self.call, "elbv2")
        made = elb("create_load_balancer", "balancer", Name="faults", Subnets=subnets)
        group = elb("create_target_group", "target group", Name="faults", Protocol="HTTP", Port=8080, VpcId=vpc,
                    TargetType="ip", HealthCheckPath="/")["TargetGroups"][0]["TargetGroupArn"]
        elb("modify_target_group_attributes", TargetGroupArn=group, Attributes=[
            {"Key": "deregistration_delay.timeout_seconds", "Value": "0"}])
        elb("create_listener", "listener", LoadBalancerArn=made["LoadBalancers"][0]["LoadBalancerArn"], Protocol="HTTP",
            Port=8090, DefaultActions=[{"Type": "forward", "TargetGroupArn": group}])
        self.call("ecs", "create_service", "service", serviceName="web", taskDefinition="web", desiredCount=1,
                  launchType="FARGATE", networkConfiguration={"awsvpcConfiguration": {"subnets": subnets}},
                  loadBalancers=[{"targetGroupArn": group, "containerName": "main", "containerPort": 8080}])
        self.wait(lambda: self.service()["runningCount"] == 1, "the service's task runs")

    def service(self):
        return self.call("ecs", "describe_services", services=["web"])["services"][0]

    def fill(self):
        """More records than one log holds, more events than one segment."""
        if self.point.startswith(("store.seal", "store.merge", "store.compact")):
            value = "x" * 50_000
            for number in range(400):
                container = {"name": "a", "image": "x", "memory": 64, "environment": [{"name": "A", "value": value}]}
                self.call("ecs", "register_task_definition", f"definition f{number}", family=f"f{number}",
                          containerDefinitions=[container])
            self.wait(lambda: False, "the log is merged", 20)
        self.call("logs", "create_log_group", logGroupName="scrap")
        self.call("logs", "create_log_stream", logGroupName="scrap", logStreamName="s")
        count = 6 if self.point == "store.segment.sealed" else 1
        for _ in range(count):
            events = [{"timestamp": int(time.time() * 1000), "message": "y" * 200_000} for _ in range(4)]
            self.call("logs", "put_log_events", logGroupName="scrap", logStreamName="s", logEvents=events)
        self.call("logs", "delete_log_stream", logGroupName="scrap", logStreamName="s")

    def stop(self):
        for name in ("pair", "ported"):
            self.call("ecs", "stop_task", f"stop {name}", task=self.acknowledged[f"task {name}"])
        self.call("ecs", "delete_service", "service deleted", service="web", force=True)
        for name in ("pair", "ported"):
            self.wait(lambda: self.describe(name)["lastStatus"] == "STOPPED", f"{name} STOPPED")
        self.wait(lambda: self.service()["status"] == "INACTIVE", "the service is gone")
        balancer = self.acknowledged["balancer"]["LoadBalancers"][0]
        self.call("elbv2", "delete_load_balancer", "balancer deleted", LoadBalancerArn=balancer["LoadBalancerArn"])
        # Folders of tasks that are over go when nobody asks for them any more.
        self.wait(lambda: not World(self.server.data_dir).folders(), "no folders")
        time.sleep(0.2)
        self.check_over()

    def again(self):
        """A server that is killed and started, with tasks running."""
        self.server.kill()
        self.server.arm(self.point, self.count)
        self.server.start()

    def reset(self, armed=True):
        if self.point.startswith("reset.") and armed:
            self.server.arm(self.point, self.count)
        asked = urllib.request.Request(f"{self.server.endpoint}/_roadstead/reset", b"", method="POST")
        try:
            with urllib.request.urlopen(asked, timeout=120) as answer:
                assert answer.status == 200
        except LOST:
            time.sleep(0.2)
            self.check_over()
            raise
        self.check_over()
        self.acknowledged = {}

    def down(self):
        if self.point.startswith("down."):
            self.server.arm(self.point, self.count)
        if self.how == "up":
            # Who asked is killed as well: it would do the rest.
            self.ask_down_and_die()
        self.server.down("--delete-data", check=not self.point)
        if self.server.is_cut():
            raise Reached
        self.server.process.wait(10)

    def ask_down_and_die(self):
        asking = subprocess.Popen([PROGRAM, "down", "--data-dir", self.server.data_dir], stdout=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while not self.server.is_cut() and asking.poll() is None and time.monotonic() < until:
            time.sleep(0.001)
        asking.kill()
        asking.wait()
        self.check_over()

    def steps(self):
        begin = [self.boot, self.push, self.define_all, self.begin_tasks]
        if self.point in BOOT:
            return [*begin, self.begin_service, self.again]
        if self.point.startswith("reset."):
            return [*begin, self.begin_service, self.reset]
        if self.point.startswith("down."):
            return [*begin, self.begin_service, self.down]
        fill = self.point.startswith(("store.seal", "store.merge", "store.compact", "store.segment"))
        if fill and self.point != "store.segment.appended":
            return [self.boot, self.fill]
        return [*begin, self.begin_service, self.stop, self.down]

    def play(self):
        """Until the cut, or to the end. Whether it was cut."""
        try:
            for step in self.steps():
                step()
        except Reached:
            until = time.monotonic() + 5
            while not self.server.is_cut() and time.monotonic() < until:
                time.sleep(0.02)
            return True
        return False

    # === after the cut

    def recover(self):
        """Starts what is needed, waits until the machine is as the records say, and checks what was acknowledged."""
        if self.point.startswith("down.") and self.how != "up":
            return
        process = self.server.process
        if self.how == "kill" and self.server.is_alive():
            self.server.kill()
        if not self.server.is_alive() or self.ends_soon(process):
            self.server.start()
        self.server.cuts.joinpath("cut").unlink()
        self.settle()
        self.check_acknowledged()
        if self.point.startswith("reset."):
            self.reset(armed=False)
            assert tasks(self.server) == {} and self.server.client("ecr").describe_repositories()["repositories"] == []
            self.settle()
        self.works()

    def ends_soon(self, process):
        """A killed server may take a moment to be gone; one that lives on has lost a supervisor or a helper only."""
        if self.point.startswith(("supervisor.", "runtime.")):
            return False
        process.wait(10)
        return True

    def settle(self):
        until = time.monotonic() + SETTLE_S
        while found := differences(self.server):
            assert self.server.is_alive(), f"the server ended:\n{self.server.said()}"
            if time.monotonic() > until:
                raise AssertionError("the machine is not as the records say:\n" + "\n".join(found) + "\n" + self.server.said())
            time.sleep(0.1)

    def may_end(self):
        """A supervisor or a start that is cut ends its task; a reset and a stop of everything end all."""
        return self.point.startswith(("supervisor.", "runtime.", "reset.", "down."))

    def check_acknowledged(self):
        if self.point.startswith("reset."):
            return
        ecs, elb = self.server.client("ecs"), self.server.client("elbv2")
        said = self.acknowledged
        families = {family for page in ecs.get_paginator("list_task_definition_families").paginate() for family in page["families"]}
        wanted = {key.split(" ")[1] for key in said if key.startswith("definition ")}
        assert wanted <= families, f"lost definitions {wanted - families}"
        if "repository" in said:
            assert self.server.client("ecr").describe_repositories()["repositories"]
        if "image" in said:
            assert self.server.client("ecr").list_images(repositoryName="busybox")["imageIds"]
        balancers = elb.describe_load_balancers()["LoadBalancers"]
        # What was asked for and not answered may be done or not.
        if "balancer" in said and self.point not in ("server.call-decided",) and "service deleted" not in said:
            assert [each["LoadBalancerName"] for each in balancers] == ["faults"]
        if "balancer deleted" in said:
            assert balancers == []
        if "target group" in said:
            assert elb.describe_target_groups()["TargetGroups"]
        if "listener" in said and balancers:
            assert elb.describe_listeners(LoadBalancerArn=balancers[0]["LoadBalancerArn"])["Listeners"]
        if "service deleted" in said:
            assert self.service()["status"] in ("DRAINING", "INACTIVE")
        elif "service" in said and self.service()["status"] == "ACTIVE":
            self.wait_calm(lambda: self.service()["runningCount"] == 1, "the service has its task again")
        for name in ("pair", "ported", "ends"):
            if f"task {name}" in said:
                self.check_task(name)

    def wait_calm(self, check, what):
        until = time.monotonic() + 60
        while not check():
            assert time.monotonic() < until, f"{what}: not within 60 s\n{self.server.said()}"
            time.sleep(0.1)

    def check_task(self, name):
        told = self.server.client("ecs").describe_tasks(tasks=[self.acknowledged[f"task {name}"]])["tasks"]
        assert told, f"the task {name} is forgotten"
        told = told[0]
        status, main = told["lastStatus"], next(each for each in told["containers"] if each["name"] == "main")
        if status == "STOPPED":
            assert told["stoppedReason"], told
            for each in told["containers"]:
                assert "exitCode" in each or each.get("reason") or "runtimeId" not in each, f"no exit code and no reason: {each}"
        if self.may_end():
            return
        if name == "ends":
            assert status == "STOPPED" and main.get("exitCode") == 7, told
            said = lines(self.server, self.acknowledged["task ends"], group=GROUP)
            # Told at least once: a cut may fall between the storing and the note of it.
            assert said in (["ended"], ["ended"] * 2), said
        elif f"stop {name}" in self.acknowledged:
            assert status == "STOPPED" and main.get("exitCode") == 0, told
        elif status == "STOPPED":
            # Asked to stop, and not answered.
            assert told["stopCode"] == "UserInitiated", told
        elif name in self.running:
            before = self.running[name]
            same = [(each["name"], each["runtimeId"]) for each in before["containers"]]
            assert sorted(same) == sorted((each["name"], each["runtimeId"]) for each in told["containers"])
            assert before["startedAt"] == told["startedAt"]

    def works(self):
        """A client goes on: the push that was cut is repeated, a task runs to its end."""
        if "repository" in self.acknowledged or self.server.client("ecr").describe_repositories()["repositories"]:
            self.call = self.tolerant(self.call)
        self.push()
        self.define("again", shell_container(self.image, "echo ended; exit 7", logConfiguration=awslogs(GROUP)))
        self.run("again", "again")
        self.wait_calm(lambda: self.describe("again")["lastStatus"] == "STOPPED", "a task runs")
        told = self.describe("again")
        assert told["containers"][0].get("exitCode") == 7, told

    def tolerant(self, call):
        def tolerated(api, operation, key=None, **parameters):
            try:
                return call(api, operation, key, **parameters)
            except self.server.client("ecr").exceptions.RepositoryAlreadyExistsException:
                return None

        return tolerated

    def finish(self):
        """Stops everything; nothing may be left."""
        if self.server.data_dir.exists():
            self.server.down("--delete-data")
        left = leftovers(self.server.data_dir)
        assert left == [], f"left behind:\n{self.server.said()}\n" + "\n".join(left)
        assert not self.server.data_dir.exists()
        assert World(self.server.data_dir).links("rv") == set()
        assert pathlib.Path("/etc/hosts").read_text() == self.hosts
        assert pathlib.Path("/proc/sys/net/ipv4/ip_forward").read_text() == self.forward

    def clean_up(self):
        """After a failure: what is left must not spoil the next."""
        if self.server.process and self.server.is_alive():
            self.server.process.kill()
            self.server.process.wait()
        # Supervisors that do not answer would be waited for.
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if f"/{World(self.server.data_dir).own}/" in (process / "cgroup").read_text():
                    os.kill(int(process.name), signal.SIGKILL)
            except OSError:
                pass
        down = [PROGRAM, "down", "--data-dir", self.server.data_dir, "--delete-data"]
        try:
            subprocess.run(down, capture_output=True, timeout=60)
        except subprocess.TimeoutExpired:
            pass
        shutil.rmtree(self.server.data_dir, ignore_errors=True)
        pathlib.Path("/etc/hosts").write_text(self.hosts)

