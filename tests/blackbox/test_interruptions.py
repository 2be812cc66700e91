"""Killed at the wrong moment: the server while a task stops, a supervisor, both; and a server started by a careful user."""

import json
import os
import pathlib
import signal
import stat
import time

from conftest import eventually, shell
from test_tasks import awslogs, define, lines, run, shell_container, wait_for


def known_of(roadstead, task):
    """What the agent has noted of a task."""
    return roadstead.data_dir / "node" / "groups" / task.rsplit("/", 1)[1] / "known.json"


def supervisor_of(roadstead, task):
    """The process that holds the lock in a task's folder, and is no copy of it on its way to be something else."""
    lock = str(known_of(roadstead, task).with_name("lock"))
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if (process / "comm").read_text() == "rs-supervisor\n" and any(
                    os.readlink(fd) == lock for fd in (process / "fd").iterdir()):
                return int(process.name)
        except OSError:
            pass
    raise AssertionError(f"no supervisor of {task}")


def test_what_a_container_is_asked_outlives_roadstead(roadstead, ecs, network, image):
    # Ends when it is asked for the second time; a signal asked for once may not have been sent by who was killed.
    polite = define(ecs, "polite", shell_container(
        image, "n=0; trap 'n=$((n+1)); test $n = 2 && exit 3' TERM; while :; do sleep 0.1; done", stopTimeout=60))
    deaf = define(ecs, "deaf", shell_container(image, "trap '' TERM; while :; do sleep 0.1; done", stopTimeout=2))
    polite, deaf = (run(ecs, network, definition) for definition in (polite, deaf))
    for task in (polite, deaf):
        wait_for(ecs, task, "RUNNING")
    time.sleep(0.5)
    for task in (polite, deaf):
        ecs.stop_task(task=task)
        eventually(lambda: json.loads(known_of(roadstead, task).read_text())["containers"][0]["asked_at_ms"], every=0.02)
    time.sleep(0.3)
    roadstead.kill()
    # As if it had been killed between the note that the container is killed and the signal.
    known = json.loads(known_of(roadstead, deaf).read_text())
    known["containers"][0]["killed_at_ms"] = int(time.time() * 1000)
    known_of(roadstead, deaf).write_text(json.dumps(known))
    roadstead.start()
    assert wait_for(ecs, polite, "STOPPED", 15)["containers"][0]["exitCode"] == 3
    assert wait_for(ecs, deaf, "STOPPED", 15)["containers"][0]["exitCode"] == 137


def test_a_killed_supervisor_is_noticed_and_leaves_nothing(roadstead, ecs, network, image):
    script = "trap 'exit 0' TERM; while :; do sleep 0.{}; done"

    def two(family, pause):
        task = run(ecs, network, define(ecs, family, *(
            shell_container(image, script.format(pause), name=name) for name in "ab")))
        wait_for(ecs, task, "RUNNING")
        return task, supervisor_of(roadstead, task)

    def is_over(task, pause):
        told = wait_for(ecs, task, "STOPPED")
        assert told["stopCode"] == "EssentialContainerExited"
        for container in told["containers"]:
            assert "exitCode" not in container, container
            assert container["reason"] == "the container's supervisor ended before it"
        assert shell("pgrep", "-f", script.format(pause), check=False).stdout == ""

    (alone, supervisor), (both, other) = two("alone", 171), two("both", 172)
    os.kill(supervisor, signal.SIGKILL)
    is_over(alone, 171)
    roadstead.kill()
    os.kill(other, signal.SIGKILL)
    roadstead.start()
    is_over(both, 172)


def test_a_careful_users_umask_is_not_the_containers(roadstead, ecs, network, image):
    # The server of every test is started with umask 077.
    script = ("umask; ls / /etc >/dev/null && echo listed; cat /etc/hosts /etc/resolv.conf >/dev/null && echo read; "
              "stat -c %a / /v /work /etc/hosts")
    task = run(ecs, network, define(
        ecs, "umask", shell_container(
            image, script, user="nobody", workingDirectory="/work", logConfiguration=awslogs(),
            mountPoints=[{"sourceVolume": "v", "containerPath": "/v"}]),
        volumes=[{"name": "v"}]))
    wait_for(ecs, task, "STOPPED")
    assert lines(roadstead, task) == ["0022", "listed", "read", "755", "755", "755", "644"]
    # What may hold secrets is for root alone whatever the umask is.
    for name in (".", "node/groups", "node/layers", "node/volumes"):
        assert stat.S_IMODE((roadstead.data_dir / name).stat().st_mode) == 0o700, name
    assert stat.S_IMODE((roadstead.data_dir / "secret.key").stat().st_mode) == 0o600
