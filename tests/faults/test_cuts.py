"""Every cut point: the program is killed there, started again, and the machine is what the records say.

The points are those that the program itself lists. Each is reached by the standard scenario (scenario.py), played in a
network of its own; some are cut at a later time too, and some with the server killed as well.
"""

import json
import pathlib
import queue
import subprocess
import sys
import threading

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "blackbox"))

from conftest import PROGRAM, busybox  # noqa: F401

HERE = pathlib.Path(__file__).resolve().parent
# Scenarios mostly wait.
WORKERS = 3

# Points that stand for many states: the n-th time they are reached is another one.
COUNTS = {
    "agent.group.known-noted": (2, 3, 4, 6, 8, 11),
    "agent.group.assignment-noted": (2,),
    "agent.network.rules-set": (2, 3),
    "agent.start.answered": (2,),
    "agent.exit.learnt": (2, 3),
    "agent.remove.files-removed": (2,),
    "runtime.started": (2,),
    "server.names-written": (2,),
    "server.call-decided": (3, 6, 8, 10, 13, 15),
    "store.append.written": (8, 25),
    "store.append.synced": (4, 8, 13, 19, 26, 34),
    "supervisor.exit.recorded": (2,),
    "supervisor.start.recorded": (2,),
}


def points():
    if not PROGRAM.exists():
        return []
    listed = subprocess.run([PROGRAM, "cut-points"], capture_output=True, text=True, check=True).stdout
    return [line.split("\t")[0] for line in listed.splitlines()]


def cases():
    """Each point; its later times; where only a helper is cut, the server killed with it; after `down`, `up`."""
    for point in points():
        yield point, 1, None
        for count in COUNTS.get(point, ()):
            yield point, count, None
        if point.startswith(("supervisor.", "runtime.")):
            yield point, 1, "kill"
        if point.startswith("down.") and point != "down.data-deleting":
            yield point, 1, "up"


CASES = list(cases())


def name(case):
    point, count, how = case
    return point + (f"-{count}" if count > 1 else "") + (f"-{how}" if how else "")


class Pool:
    """Processes that play scenarios, each in a network of its own."""

    def __init__(self, base, layout):
        self.jobs, self.results = queue.Queue(), {}
        self.done = threading.Condition()
        for number in range(WORKERS):
            threading.Thread(target=self.work, args=(base / f"worker{number}", layout), daemon=True).start()

    def submit(self, number, case):
        self.jobs.put((number, case))

    def work(self, base, layout):
        isolated = HERE.parent / "blackbox" / "isolated.py"
        command = [sys.executable, isolated, sys.executable, HERE / "worker.py", base, layout]
        process = None
        while True:
            number, (point, count, how) = self.jobs.get()
            if process is None:
                process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            try:
                process.stdin.write(json.dumps({"number": number, "point": point, "count": count, "how": how}) + "\n")
                process.stdin.flush()
                failure = json.loads(process.stdout.readline())["failure"]
            except (OSError, ValueError) as error:
                failure, process = f"the worker ended: {error}", None
            with self.done:
                self.results[number] = failure
                self.done.notify_all()

    def result(self, number):
        with self.done:
            assert self.done.wait_for(lambda: number in self.results, 600), "no result within ten minutes"
            return self.results[number]


@pytest.fixture(scope="module")
def pool(request, tmp_path_factory, busybox):  # noqa: F811
    pool = Pool(tmp_path_factory.mktemp("faults"), busybox.root)
    for item in request.session.items:
        if item.function is test_a_cut_is_recovered_from:
            pool.submit(item.callspec.params["number"], CASES[item.callspec.params["number"]])
    return pool


def test_the_program_lists_its_cut_points():
    assert len(points()) > 90, "the program under test has no cut points: it is a release build"


@pytest.mark.parametrize("number", range(len(CASES)), ids=[name(case) for case in CASES])
def test_a_cut_is_recovered_from(pool, number):
    failure = pool.result(number)
    assert failure is None, f"{name(CASES[number])}: {failure}"
