"""What the tests of services share: services that are made and awaited, a load balancer before them, load on it."""

import http.client
import os
import pathlib
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

from conftest import eventually
from test_tasks import shell_container

# Programs that stop at once when asked to: process 1 of a container gets only signals that it handles.
SLEEP = "trap 'exit 0' TERM; sleep 1000 & wait"
HTTPD = "mkdir -p /tmp/www; echo {} > /tmp/www/index.html; trap 'exit 0' TERM; httpd -f -p 8080 -h /tmp/www & wait"


def web(image, text, **options):
    """A container that serves a text on port 8080."""
    options.setdefault("portMappings", [{"containerPort": 8080}])
    return shell_container(image, HTTPD.format(text), **options)


def sleeper(image, **options):
    return shell_container(image, SLEEP, **options)


def create(ecs, network, name, definition, count, **options):
    options.setdefault("launchType", "FARGATE")
    if network:
        options["networkConfiguration"] = network
    made = ecs.create_service(serviceName=name, taskDefinition=definition, desiredCount=count, **options)
    return made["service"]


def service(ecs, name):
    return ecs.describe_services(services=[name])["services"][0]


def stable(ecs, name, seconds=60):
    """Waits as the CLI's services-stable does, but asks more often."""
    def check():
        told = service(ecs, name)
        return len(told["deployments"]) == 1 and told["runningCount"] == told["desiredCount"] and told

    return eventually(check, seconds)


def completed(ecs, name, seconds=60):
    """Waits until the only deployment is COMPLETED."""
    def check():
        told = service(ecs, name)
        return [d["rolloutState"] for d in told["deployments"]] == ["COMPLETED"] and told

    return eventually(check, seconds)


def remove(ecs, *names):
    for name in names:
        ecs.delete_service(service=name, force=True)
    for name in names:
        eventually(lambda: service(ecs, name)["status"] == "INACTIVE", 60)


def messages(ecs, name):
    """What the events say, newest first, without the service's name."""
    start = f"(service {name}) "
    told = [event["message"] for event in service(ecs, name)["events"]]
    assert all(text.startswith(start) for text in told), told
    return [text[len(start):] for text in told]


def tasks(ecs, name, status="RUNNING"):
    return set(ecs.list_tasks(serviceName=name, desiredStatus=status)["taskArns"])


def together(check, cases):
    """Runs a check for each case at the same time: services wait for other things than a processor."""
    with ThreadPoolExecutor(len(cases)) as pool:
        for running in [pool.submit(check, *case) for case in cases]:
            running.result()


def kill_containers(task):
    """SIGKILL, from outside, to every process of a task's containers, as a crash would end them."""
    task, killed = task.rsplit("/", 1)[1], 0
    for cgroup in pathlib.Path("/proc").glob("[0-9]*/cgroup"):
        try:
            if task in cgroup.read_text():
                os.kill(int(cgroup.parent.name), signal.SIGKILL)
                killed += 1
        except (FileNotFoundError, ProcessLookupError):
            pass
    assert killed, f"no process of {task}"


class Balancer:
    """A load balancer with one target group behind its only listener."""

    def __init__(self, roadstead, name, port, network, delay=5, **options):
        self.elb, self.port = roadstead.client("elbv2"), port
        vpc = network["awsvpcConfiguration"]
        ec2 = roadstead.client("ec2")
        vpc_id = ec2.describe_subnets(SubnetIds=vpc["subnets"][:1])["Subnets"][0]["VpcId"]
        made = self.elb.create_load_balancer(Name=name, Subnets=vpc["subnets"], SecurityGroups=vpc["securityGroups"])
        self.arn, self.dns_name = (made["LoadBalancers"][0][key] for key in ("LoadBalancerArn", "DNSName"))
        options = {"TargetType": "ip", "HealthCheckPath": "/", **options}
        self.group = self.elb.create_target_group(
            Name=name, Protocol="HTTP", Port=8080, VpcId=vpc_id, HealthCheckIntervalSeconds=5,
            HealthCheckTimeoutSeconds=2, HealthyThresholdCount=2, UnhealthyThresholdCount=2, **options,
        )["TargetGroups"][0]["TargetGroupArn"]
        self.elb.modify_target_group_attributes(TargetGroupArn=self.group, Attributes=[
            {"Key": "deregistration_delay.timeout_seconds", "Value": str(delay)}])
        self.listener = self.elb.create_listener(LoadBalancerArn=self.arn, Protocol="HTTP", Port=port, DefaultActions=[
            {"Type": "forward", "TargetGroupArn": self.group}])["Listeners"][0]["ListenerArn"]

    def attached(self, port=8080, name="main"):
        """As a service's loadBalancers name it."""
        return {"targetGroupArn": self.group, "containerName": name, "containerPort": port}

    def connect(self):
        return http.client.HTTPConnection(self.dns_name, self.port, timeout=10)

    def get(self, connection=None, path="/"):
        """Status and text of a request, on a connection of its own or on one that is kept."""
        used = connection or self.connect()
        try:
            used.request("GET", path)
            answer = used.getresponse()
            return answer.status, answer.read().decode().strip()
        finally:
            if not connection:
                used.close()

    def targets(self):
        return self.elb.describe_target_health(TargetGroupArn=self.group)["TargetHealthDescriptions"]

    def states(self):
        return sorted(target["TargetHealth"]["State"] for target in self.targets())

    def healthy(self, count, seconds=30):
        eventually(lambda: self.states() == ["healthy"] * count, seconds)


class Load:
    """Requests without a pause until the end of the block: half the threads keep their connection, half open one for
    each request. `failed` is what did not answer 200, `seen` the texts that came."""

    def __init__(self, balancer, threads=4):
        self.balancer, self.failed, self.seen, self.count, self.running = balancer, [], set(), 0, True
        self.threads = [threading.Thread(target=self.work, args=(n % 2 == 0,)) for n in range(threads)]

    def work(self, keep):
        kept = self.balancer.connect() if keep else None
        while self.running:
            try:
                status, text = self.balancer.get(kept)
                self.seen.add(text)
                if status != 200:
                    self.failed.append(status)
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
                kept = self.balancer.connect() if keep else None
            self.count += 1

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.running = False
        for thread in self.threads:
            thread.join()

    def lost_nothing(self, at_least=50):
        assert self.failed == [] and self.count > at_least, (self.failed[:5], len(self.failed), self.count)
