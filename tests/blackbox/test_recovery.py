"""What outlives what: containers outlive the server, records outlive kill -9, and `down` leaves nothing."""

import os
import signal
import subprocess
import time
import urllib.request

from conftest import eventually
from services import Balancer, create, messages, remove, service, stable, web
from test_tasks import awslogs, define, describe, lines, run, shell_container, wait_for


def test_the_same_containers_serve_after_kill_9(roadstead, ecs, network, image):
    balancer = Balancer(roadstead, "outlive", 8083, network)
    attached = [{"targetGroupArn": balancer.group, "containerName": "main", "containerPort": 8080}]
    create(ecs, network, "outlive", define(ecs, "outlive", web(image, "alive")), 2, loadBalancers=attached)
    stable(ecs, "outlive")
    eventually(lambda: balancer.states() == ["healthy", "healthy"])
    before = {t["taskArn"]: t for t in ecs.describe_tasks(tasks=ecs.list_tasks(serviceName="outlive")["taskArns"])["tasks"]}
    addresses = [t["containers"][0]["networkInterfaces"][0]["privateIpv4Address"] for t in before.values()]
    roadstead.kill()
    for address in addresses:
        with urllib.request.urlopen(f"http://{address}:8080/", timeout=5) as answer:
            assert answer.read() == b"alive\n", "a container stopped serving when the server was killed"
    roadstead.start()
    eventually(lambda: balancer.states() == ["healthy", "healthy"])
    assert balancer.get() == (200, "alive")
    told = ecs.describe_tasks(tasks=list(before))["tasks"]
    for task in told:
        assert task["lastStatus"] == "RUNNING"
        assert task["startedAt"] == before[task["taskArn"]]["startedAt"]
        assert task["containers"][0]["runtimeId"] == before[task["taskArn"]]["containers"][0]["runtimeId"]
    remove(ecs, "outlive")


def test_exit_codes_and_lines_of_what_ended_meanwhile_are_told(roadstead, ecs, network, image):
    task = run(ecs, network, define(ecs, "meanwhile", shell_container(
        image, "echo before; sleep 3; echo after; exit 5", logConfiguration=awslogs())))
    wait_for(ecs, task, "RUNNING")
    # A line that is stored, and not noted to be, is told again.
    noted = roadstead.data_dir / "node" / "groups" / task.rsplit("/", 1)[1] / "c0.delivered"
    eventually(noted.exists, 2, 0.01)
    roadstead.kill()
    time.sleep(4)
    roadstead.start()
    told = wait_for(ecs, task, "STOPPED")
    assert told["containers"][0]["exitCode"] == 5
    assert lines(roadstead, task) == ["before", "after"]


def test_ctrl_c_leaves_the_containers_and_says_so(roadstead, ecs, network, image):
    task = run(ecs, network, define(ecs, "stays", shell_container(image, "exec sleep 1000")))
    running = wait_for(ecs, task, "RUNNING")
    assert roadstead.interrupt() == 0
    assert "1 tasks go on running" in roadstead.said() or "1 task goes on running" in roadstead.said()
    roadstead.start()
    told = describe(ecs, task)
    assert told["lastStatus"] == "RUNNING" and told["startedAt"] == running["startedAt"]
    ecs.stop_task(task=task)
    wait_for(ecs, task, "STOPPED")


def test_killed_supervisors_and_containers_are_noticed(roadstead, ecs, network, image):
    create(ecs, network, "noticed", define(ecs, "noticed", shell_container(image, "exec sleep 12345")), 1)
    stable(ecs, "noticed")
    task = ecs.list_tasks(serviceName="noticed")["taskArns"][0]
    pid = int(subprocess.run(["pgrep", "-f", "^sleep 12345"], capture_output=True, text=True, check=True).stdout.split()[0])
    os.kill(pid, signal.SIGKILL)
    told = wait_for(ecs, task, "STOPPED")
    assert told["containers"][0]["exitCode"] == 137
    eventually(lambda: (now := ecs.list_tasks(serviceName="noticed")["taskArns"]) and task not in now)
    stable(ecs, "noticed")
    remove(ecs, "noticed")
