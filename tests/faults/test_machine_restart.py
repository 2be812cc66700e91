"""The machine is restarted, loses power, or loses processes that nobody asked to end."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "blackbox"), str(pathlib.Path(__file__).resolve().parent)]

from conftest import PROGRAM, busybox, eventually, shell  # noqa: F401
from scenario import GROUP, Scenario
from test_tasks import lines
from world import CGROUPS, World


@pytest.fixture
def scenario(tmp_path, busybox):  # noqa: F811
    """A server with two tasks and a service behind a load balancer."""
    made = Scenario(tmp_path, busybox.root)
    try:
        for step in (made.boot, made.push, made.define_all, made.begin_tasks, made.begin_service):
            step()
        eventually(lambda: answers(made))
        yield made
        made.finish()
    except BaseException:
        made.clean_up()
        raise


def answers(scenario):
    name = scenario.acknowledged["balancer"]["LoadBalancers"][0]["DNSName"]
    try:
        with urllib.request.urlopen(f"http://{name}:8090/", timeout=5) as answer:
            return answer.read() == b"web\n"
    except OSError:
        return False


def processes(scenario):
    """All of a data directory: the server, its helpers, the containers."""
    own, found = World(scenario.server.data_dir).own, {scenario.server.process.pid: "roadstead"}
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if f"/{own}/" in (process / "cgroup").read_text():
                found[int(process.name)] = (process / "comm").read_text().strip()
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def kill(scenario, which):
    """kill -9, each at the same time as the others."""
    chosen = [pid for pid, name in processes(scenario).items() if which(name)]
    assert chosen
    for pid in chosen:
        try:
            os.kill(pid, signal.SIGSTOP)
        except ProcessLookupError:
            pass
    for pid in chosen:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    if scenario.server.process.pid in chosen:
        scenario.server.process.wait(10)
    eventually(lambda: not any(pid in processes(scenario) for pid in chosen if pid != scenario.server.process.pid))


def wipe(scenario):
    """What a restart of the machine leaves nothing of: mounts, namespaces, interfaces, rules, cgroups, /run."""
    world = World(scenario.server.data_dir)
    for link in world.links("rs-") | world.links("rv"):
        shell("ip", "link", "delete", link, check=False)
    for name in world.namespaces()[1]:
        shell("umount", "-l", world.run_dir / "netns" / name)
    shutil.rmtree(world.run_dir)
    for table in [line for line in shell("nft", "list", "tables").stdout.splitlines() if world.instance in line]:
        shell("nft", "delete", *table.split())
    for folder in CGROUPS.glob(f"*/{world.own}" if not world.is_v2() else world.own):
        for path in sorted(folder.glob("**/"), key=lambda each: -len(str(each))):
            path.rmdir()
    pathlib.Path("/proc/sys/net/ipv4/ip_forward").write_text(scenario.forward)


def spoil(scenario):
    """What a loss of power may do to files that are not synced: they are empty, or end too early."""
    for note in (scenario.server.data_dir / "node/groups").glob("*/*.json"):
        if note.name == "known.json":
            note.write_text("")
    for journal in (scenario.server.data_dir / "node/groups").glob("*/journal"):
        with open(journal, "a") as file:
            file.write('{"container":0,"ru')


def check_restarted(scenario):
    """Tasks are over and say why, the service runs again, and what was stored is there."""
    scenario.settle()
    for name in ("pair", "ported"):
        told = scenario.describe(name)
        assert told["lastStatus"] == "STOPPED" and told["stoppedReason"], told
        assert all("exitCode" in each or each.get("reason") for each in told["containers"]), told["containers"]
    assert scenario.describe("ends")["containers"][0]["exitCode"] == 7
    assert lines(scenario.server, scenario.acknowledged["task ends"], group=GROUP) == ["ended"]
    assert lines(scenario.server, scenario.acknowledged["task pair"], group=GROUP) == ["began"]
    eventually(lambda: scenario.service()["runningCount"] == 1, 60)
    eventually(lambda: answers(scenario), 60)
    scenario.settle()
    scenario.works()


@pytest.mark.parametrize("left", ["nothing", "everything", "spoiled-notes"])
def test_after_a_restart_of_the_machine_services_run_again(scenario, left):
    kill(scenario, lambda name: True)
    if left != "everything":
        wipe(scenario)
    if left == "spoiled-notes":
        spoil(scenario)
    scenario.server.start()
    check_restarted(scenario)


def test_down_after_a_restart_of_the_machine_leaves_nothing(scenario):
    kill(scenario, lambda name: True)


def test_a_killed_supervisor_takes_its_containers_with_it_and_the_task_says_so(scenario):
    kill(scenario, lambda name: name == "rs-supervisor")
    check_restarted(scenario)


def test_containers_without_server_and_supervisor_are_ended(scenario):
    kill(scenario, lambda name: name.startswith("rs-") or name == "roadstead")
    scenario.server.start()
    check_restarted(scenario)


def test_a_killed_nursery_costs_nothing(scenario):
    before = {name: scenario.describe(name)["startedAt"] for name in ("pair", "ported")}
    kill(scenario, lambda name: name == "rs-nursery")
    time.sleep(0.5)
    scenario.settle()
    assert {name: scenario.describe(name)["startedAt"] for name in before} == before
    scenario.works()


def test_all_of_it_killed_again_and_again(scenario):
    """Killed while it recovers: the next start goes on where that one was."""
    for pause in (0.0, 0.05, 0.1, 0.2, 0.4):
        kill(scenario, lambda name: True)
        start_for(scenario, pause)
    kill(scenario, lambda name: True)
    scenario.server.start()
    check_restarted(scenario)


def start_for(scenario, seconds):
    """Starts a server; it lives so long."""
    server = scenario.server
    command = [PROGRAM, "up", "--data-dir", server.data_dir, "--listen", f"127.0.0.1:{server.port}"]
    server.process = subprocess.Popen(command, stdout=server.log, stderr=server.log, env=server.env)
    time.sleep(seconds)
