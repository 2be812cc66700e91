"""Tasks: what runs, how it ends, what limits bite, what is told of it."""

import time

import pytest

from conftest import eventually


# Runs until it is asked to end, and then ends at once.
IDLE = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


def define(ecs, family, *containers, cpu="256", memory="512", **options):
    """Registers a Fargate task definition of awsvpc containers; its ARN."""
    defaults = dict(requiresCompatibilities=["FARGATE"], networkMode="awsvpc", cpu=cpu, memory=memory,
                    executionRoleArn="arn:aws:iam::000000000000:role/ecsTaskExecutionRole")
    answer = ecs.register_task_definition(family=family, containerDefinitions=list(containers), **{**defaults, **options})
    return answer["taskDefinition"]["taskDefinitionArn"]


def container(image, *command, name="main", **options):
    # A first process without a handler ignores SIGTERM: nobody wants to wait 30 s for its end.
    return {"name": name, "image": image, "command": list(command), "essential": True, "stopTimeout": 2, **options}


def shell_container(image, script, **options):
    return container(image, "/bin/sh", "-c", script, **options)


def run(ecs, network, definition, **options):
    """Runs one Fargate task; its ARN."""
    answer = ecs.run_task(
        taskDefinition=definition, launchType="FARGATE", networkConfiguration=network, **options
    )
    assert answer["failures"] == [], answer["failures"]
    return answer["tasks"][0]["taskArn"]


def describe(ecs, task):
    return ecs.describe_tasks(tasks=[task])["tasks"][0]


def wait_for(ecs, task, status, seconds=30):
    return eventually(lambda: (t := describe(ecs, task)) and t["lastStatus"] == status and t, seconds)


def awslogs(group="/test", **options):
    return {
        "logDriver": "awslogs",
        "options": {
            "awslogs-group": group, "awslogs-region": "us-east-1", "awslogs-stream-prefix": "t",
            "awslogs-create-group": "true", **options,
        },
    }


def lines(roadstead, task, name="main", group="/test"):
    logs = roadstead.client("logs")
    stream = f"t/{name}/{task.rsplit('/', 1)[1]}"
    events = logs.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True)["events"]
    return [event["message"] for event in events]


@pytest.fixture(scope="module")
def restarting(ecs, network, image):
    """Tasks with a restart policy, begun first since the shortest period of one is a minute."""
    policy = {"enabled": True, "restartAttemptPeriod": 60, "ignoredExitCodes": [7]}
    minute = "echo run; trap 'exit 0' TERM; for i in $(seq 610); do sleep 0.1; done; exit {}"
    scripts = {"again": minute.format(1), "never": "exit 1", "ignored": minute.format(7)}
    return [
        run(ecs, network, define(ecs, f"restart-{name}", shell_container(
            image, script, restartPolicy=policy, logConfiguration=awslogs())))
        for name, script in scripts.items()
    ]


def test_a_task_runs_and_its_exit_code_is_told(roadstead, ecs, network, image, restarting):
    task = run(ecs, network, define(ecs, "exit", shell_container(image, "exit 7")))
    ecs.get_waiter("tasks_stopped").wait(tasks=[task], WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    told = describe(ecs, task)
    assert told["stopCode"] == "EssentialContainerExited"
    assert told["stoppedReason"] == "Essential container in task exited"
    assert told["containers"][0]["exitCode"] == 7
    assert told["containers"][0]["imageDigest"].startswith("sha256:")
    assert told["desiredStatus"] == "STOPPED"
    for moment in ("createdAt", "pullStartedAt", "pullStoppedAt", "startedAt", "stoppingAt", "executionStoppedAt", "stoppedAt"):
        assert moment in told, moment


def test_the_cli_waits_until_running_and_stop_task_sends_sigterm(roadstead, ecs, network, image):
    script = "trap 'echo got TERM; exit 3' TERM; echo up; while :; do sleep 0.1; done"
    task = run(ecs, network, define(ecs, "trap", shell_container(image, script, logConfiguration=awslogs())))
    roadstead.cli("ecs", "wait", "tasks-running", "--tasks", task)
    roadstead.cli("ecs", "stop-task", "--task", task, "--reason", "enough")
    roadstead.cli("ecs", "wait", "tasks-stopped", "--tasks", task)
    told = describe(ecs, task)
    assert (told["stopCode"], told["stoppedReason"]) == ("UserInitiated", "enough")
    assert told["containers"][0]["exitCode"] == 3
    assert lines(roadstead, task) == ["up", "got TERM"]


def test_what_ignores_sigterm_is_killed_after_its_stop_timeout(ecs, network, image):
    script = "trap '' TERM; while :; do sleep 1; done"
    task = run(ecs, network, define(ecs, "stubborn", shell_container(image, script, stopTimeout=2)))
    wait_for(ecs, task, "RUNNING")
    began = time.monotonic()
    ecs.stop_task(task=task)
    told = wait_for(ecs, task, "STOPPED")
    assert 2 <= time.monotonic() - began < 10
    assert told["containers"][0]["exitCode"] == 137


def test_a_container_over_its_memory_is_killed_and_says_so(ecs, network, image):
    script = "tail /dev/zero"
    task = run(ecs, network, define(ecs, "oom", shell_container(image, script, memory=32)))
    told = wait_for(ecs, task, "STOPPED")
    assert told["containers"][0]["exitCode"] == 137
    assert told["containers"][0]["reason"].startswith("OutOfMemoryError")


def test_cpu_is_limited_to_the_tasks_size(roadstead, ecs, network, image):
    # A quarter of a core for one second of wall time is a quarter of a second of CPU time, within a wide margin.
    script = "t=$(cut -d. -f1 /proc/uptime); while [ $(cut -d. -f1 /proc/uptime) -lt $((t+4)) ]; do :; done; cat /proc/self/stat /proc/$$/stat; times"
    task = run(ecs, network, define(ecs, "cpu", shell_container(image, script, logConfiguration=awslogs())))
    wait_for(ecs, task, "STOPPED", 40)
    stat = lines(roadstead, task)[1].rsplit(")", 1)[1].split()
    ticks = sum(int(stat[at]) for at in (11, 12, 13, 14))
    assert ticks < 200, f"{ticks / 100} s of CPU in 4 s with a quarter of a core"


def test_a_task_over_its_memory_is_killed_though_no_container_has_a_limit(ecs, network, image):
    told = wait_for(ecs, run(ecs, network, define(ecs, "oom-task", shell_container(image, "tail /dev/zero"))), "STOPPED")
    assert told["containers"][0]["exitCode"] == 137
    assert told["containers"][0]["reason"].startswith("OutOfMemoryError")


@pytest.mark.parametrize("condition, first, second_runs", [
    ("SUCCESS", "exit 0", True), ("SUCCESS", "exit 1", False), ("COMPLETE", "exit 1", True), ("START", "sleep 2", True),
])
def test_depends_on(roadstead, ecs, network, image, condition, first, second_runs):
    family = f"depends-{condition.lower()}-{first.replace(' ', '-')}"
    task = run(ecs, network, define(
        ecs, family,
        shell_container(image, first, name="first", essential=False),
        shell_container(image, "echo second", name="second", logConfiguration=awslogs(),
                        dependsOn=[{"containerName": "first", "condition": condition}]),
    ))
    told = wait_for(ecs, task, "STOPPED")
    second = next(c for c in told["containers"] if c["name"] == "second")
    assert ("exitCode" in second) == second_runs, told
    if second_runs:
        assert lines(roadstead, task, "second") == ["second"]


def test_health_checks(ecs, network, image):
    check = {"command": ["CMD-SHELL", "test -f /tmp/ok"], "interval": 5, "timeout": 2, "retries": 1, "startPeriod": 0}
    waits = shell_container(image, IDLE, name="waits", essential=False,
                            dependsOn=[{"containerName": "main", "condition": "HEALTHY"}])
    main = shell_container(image, f"touch /tmp/ok; {IDLE}", healthCheck=check, stopTimeout=2)
    never = shell_container(image, IDLE, healthCheck={**check, "command": ["CMD", "/bin/false"]})
    healthy, unhealthy = (run(ecs, network, define(ecs, family, *containers)) for family, containers in (
        ("healthy", [main, waits]), ("unhealthy", [never])))
    told = wait_for(ecs, healthy, "RUNNING")
    assert told["healthStatus"] == "HEALTHY"
    assert {c["name"]: c["healthStatus"] for c in told["containers"]} == {"main": "HEALTHY", "waits": "UNKNOWN"}
    # A task of no service goes on unhealthy, as in ECS.
    assert eventually(lambda: describe(ecs, unhealthy)["healthStatus"] == "UNHEALTHY")
    assert describe(ecs, unhealthy)["lastStatus"] == "RUNNING"
    for task in (healthy, unhealthy):
        ecs.stop_task(task=task)


def test_run_task_overrides(roadstead, ecs, network, image):
    definition = define(ecs, "override", shell_container(
        image, "echo no", environment=[{"name": "A", "value": "1"}], logConfiguration=awslogs()))
    overrides = {"containerOverrides": [{
        "name": "main", "command": ["/bin/sh", "-c", "echo $A $B"], "environment": [
            {"name": "A", "value": "2"}, {"name": "B", "value": "3"}]}]}
    task = run(ecs, network, definition, overrides=overrides)
    told = wait_for(ecs, task, "STOPPED")
    assert lines(roadstead, task) == ["2 3"]
    assert told["overrides"]["containerOverrides"][0]["command"][2] == "echo $A $B"


def test_user_directory_environment_and_read_only_root(roadstead, ecs, network, image):
    script = "id -u; pwd; echo $X; touch /x 2>&1; nproc >/dev/null; ulimit -n"
    task = run(ecs, network, define(ecs, "settings", shell_container(
        image, script, user="nobody", workingDirectory="/tmp", readonlyRootFilesystem=True,
        environment=[{"name": "X", "value": "y"}], logConfiguration=awslogs(),
        ulimits=[{"name": "nofile", "softLimit": 100, "hardLimit": 200}],
    )))
    wait_for(ecs, task, "STOPPED")
    said = lines(roadstead, task)
    assert said[:3] == ["65534", "/tmp", "y"]
    assert "Read-only file system" in said[3]
    assert said[4] == "100"


def test_volumes_are_shared_between_containers(roadstead, ecs, network, image):
    task = run(ecs, network, define(
        ecs, "volumes",
        shell_container(image, "echo shared > /v/f", name="writer", essential=False,
                        mountPoints=[{"sourceVolume": "v", "containerPath": "/v"}]),
        shell_container(image, "cat /w/f; touch /w/g 2>&1", name="main", logConfiguration=awslogs(),
                        mountPoints=[{"sourceVolume": "v", "containerPath": "/w", "readOnly": True}],
                        dependsOn=[{"containerName": "writer", "condition": "SUCCESS"}]),
        volumes=[{"name": "v"}],
    ))
    wait_for(ecs, task, "STOPPED")
    said = lines(roadstead, task)
    assert said[0] == "shared" and "Read-only" in said[1]


def test_an_absent_image_is_told(roadstead, ecs, network):
    for name in ("absent-repository:1", "busybox:absent-tag"):
        image = f"{roadstead.registry}/{name}"
        task = run(ecs, network, define(ecs, "absent", container(image, "true")))
        told = wait_for(ecs, task, "STOPPED")
        assert told["stopCode"] == "TaskFailedToStart"
        assert told["stoppedReason"].startswith("CannotPullContainerError"), told["stoppedReason"]
        assert told["containers"][0]["reason"].startswith("CannotPullContainerError")


def test_what_does_not_fit_is_refused(ecs, network, image):
    # More memory than any machine that runs this has, but not more than Fargate allows.
    definition = define(ecs, "large", container(image, "true"), cpu="16384", memory="122880")
    answer = ecs.run_task(taskDefinition=definition, launchType="FARGATE", networkConfiguration=network)
    assert answer["tasks"] == []
    assert answer["failures"][0]["reason"] in ("RESOURCE:MEMORY", "RESOURCE:CPU")


def by_name(task):
    return {container["name"]: container for container in task["containers"]}


def test_a_dependency_that_takes_longer_than_its_start_timeout_fails_the_task(ecs, network, image):
    never = {"command": ["CMD", "/bin/false"], "interval": 5, "timeout": 2, "retries": 10, "startPeriod": 0}
    conditions = {"HEALTHY": {"healthCheck": never}, "SUCCESS": {"essential": False}, "COMPLETE": {"essential": False}}
    tasks = {
        condition: run(ecs, network, define(
            ecs, f"timeout-{condition.lower()}",
            shell_container(image, IDLE, name="first", startTimeout=2, **options),
            shell_container(image, IDLE, name="second", dependsOn=[{"containerName": "first", "condition": condition}]),
        ))
        for condition, options in conditions.items()
    }
    for condition, task in tasks.items():
        told = wait_for(ecs, task, "STOPPED")
        second = by_name(told)["second"]
        assert told["stopCode"] == "TaskFailedToStart", (condition, told)
        assert "exitCode" not in second and condition in second["reason"], (condition, second)


def test_containers_stop_in_the_reverse_order_of_their_start(roadstead, ecs, network, image):
    script = "trap 'sleep {}; echo bye; exit 0' TERM; while :; do sleep 0.1; done"
    task = run(ecs, network, define(
        ecs, "order",
        shell_container(image, script.format(0), name="database", logConfiguration=awslogs()),
        shell_container(image, script.format(1), name="main", logConfiguration=awslogs(),
                        dependsOn=[{"containerName": "database", "condition": "START"}]),
    ))
    wait_for(ecs, task, "RUNNING")
    ecs.stop_task(task=task)
    wait_for(ecs, task, "STOPPED")
    logs = roadstead.client("logs")
    ended = {
        name: logs.get_log_events(
            logGroupName="/test", logStreamName=f"t/{name}/{task.rsplit('/', 1)[1]}", startFromHead=True
        )["events"][-1]["timestamp"]
        for name in ("database", "main")
    }
    assert ended["main"] < ended["database"], ended


def test_what_is_not_essential_may_end_and_what_is_takes_all_with_it(ecs, network, image):
    task = run(ecs, network, define(
        ecs, "essential",
        shell_container(image, "exit 5", name="helper", essential=False),
        shell_container(image, "sleep 1; exit 6", name="main"),
        shell_container(image, IDLE, name="other"),
    ))
    eventually(lambda: by_name(describe(ecs, task))["helper"].get("exitCode") == 5 and
               describe(ecs, task)["lastStatus"] == "RUNNING")
    told = by_name(wait_for(ecs, task, "STOPPED"))
    assert [told[name]["exitCode"] for name in ("helper", "main", "other")] == [5, 6, 0]


def test_what_cannot_be_started_is_told(ecs, network, image):
    cases = {
        "no-program": dict(command=["/bin/absent"]),
        "no-user": dict(command=["true"], user="absent"),
    }
    for family, options in cases.items():
        told = wait_for(ecs, run(ecs, network, define(
            ecs, family, {"name": "main", "image": image, "essential": True, **options})), "STOPPED")
        assert told["stopCode"] == "TaskFailedToStart"
        reason = told["containers"][0]["reason"]
        assert reason.startswith(("CannotStartContainerError: ", "CannotCreateContainerError: ")), reason
        wanted = {"no-program": '"/bin/absent": stat /bin/absent: no such file or directory', "no-user": "absent"}
        assert wanted[family] in reason, reason


def test_blocking_output_arrives_whole_however_fast_it_is(roadstead, ecs, network, image):
    script = f"yes {'0123456789' * 20} | head -n 120000; echo last"
    log = awslogs("/blocking", mode="blocking")
    task = run(ecs, network, define(ecs, "blocking", shell_container(image, script, logConfiguration=log)))
    wait_for(ecs, task, "STOPPED", 120)
    logs, token, found, said = roadstead.client("logs"), None, 0, []
    stream = f"t/main/{task.rsplit('/', 1)[1]}"
    while True:
        where = {"nextToken": token} if token else {"startFromHead": True}
        page = logs.get_log_events(logGroupName="/blocking", logStreamName=stream, **where)
        if page["nextForwardToken"] == token:
            break
        token = page["nextForwardToken"]
        messages = [event["message"] for event in page["events"]]
        found += sum(message.startswith("0123456789") for message in messages)
        said += [message for message in messages if not message.startswith("0123456789")]
    assert (found, said) == (120000, ["last"])


def test_a_task_whose_log_group_is_gone_stops_at_once(roadstead, ecs, network, image):
    logs = roadstead.client("logs")
    logs.create_log_group(logGroupName="/gone")
    script = "trap 'echo bye; exit 0' TERM; while :; do echo line; sleep 0.2; done"
    log = awslogs("/gone", **{"awslogs-create-group": "false"})
    task = run(ecs, network, define(ecs, "gone", shell_container(image, script, logConfiguration=log)))
    wait_for(ecs, task, "RUNNING")
    logs.delete_log_group(logGroupName="/gone")
    time.sleep(1)
    ecs.stop_task(task=task)
    wait_for(ecs, task, "STOPPED", 20)


def test_ten_tasks_at_once_are_listed_in_pages_and_by_filters(roadstead, ecs, network, image):
    definition = define(ecs, "ten", shell_container(image, IDLE))
    options = dict(count=10, startedBy="a-test", clientToken="token-1", tags=[{"key": "team", "value": "blue"}])
    answer = ecs.run_task(taskDefinition=definition, launchType="FARGATE", networkConfiguration=network, **options)
    tasks = [task["taskArn"] for task in answer["tasks"]]
    assert len(set(tasks)) == 10 and answer["failures"] == []
    # The same token and request is the same call; with another request it is a conflict.
    again = ecs.run_task(taskDefinition=definition, launchType="FARGATE", networkConfiguration=network, **options)
    assert sorted(task["taskArn"] for task in again["tasks"]) == sorted(tasks)
    with pytest.raises(ecs.exceptions.ConflictException):
        ecs.run_task(taskDefinition=definition, launchType="FARGATE", networkConfiguration=network,
                     **{**options, "startedBy": "another"})
    with pytest.raises(ecs.exceptions.InvalidParameterException, match="Count must be between 1 and 10"):
        ecs.run_task(taskDefinition=definition, launchType="FARGATE", networkConfiguration=network, count=11)
    ecs.get_waiter("tasks_running").wait(tasks=tasks, WaiterConfig={"Delay": 1, "MaxAttempts": 40})

    pages = list(ecs.get_paginator("list_tasks").paginate(family="ten", PaginationConfig={"PageSize": 3}))
    assert [len(page["taskArns"]) for page in pages] == [3, 3, 3, 1]
    assert sorted(arn for page in pages for arn in page["taskArns"]) == sorted(tasks)
    listed = lambda **filters: sorted(ecs.list_tasks(**filters)["taskArns"])
    assert listed(startedBy="a-test") == sorted(tasks)
    assert listed(family="ten", launchType="FARGATE") == sorted(tasks)
    assert listed(family="ten", launchType="EC2") == listed(family="te") == listed(startedBy="other") == []
    ecs.stop_task(task=tasks[0])
    assert listed(family="ten", desiredStatus="STOPPED") == tasks[:1]
    assert listed(family="ten") == sorted(tasks[1:])
    told = ecs.describe_tasks(tasks=tasks[:1], include=["TAGS"])["tasks"][0]
    assert told["tags"] == [{"key": "team", "value": "blue"}] and told["startedBy"] == "a-test"
    for task in tasks[1:]:
        ecs.stop_task(task=task)
    roadstead.cli("ecs", "wait", "tasks-stopped", "--tasks", *tasks)


def test_stop_task_twice_keeps_the_first_reason_and_unknown_tasks_are_missing(ecs, network, image):
    task = run(ecs, network, define(ecs, "twice", shell_container(image, IDLE)))
    wait_for(ecs, task, "RUNNING")
    ecs.stop_task(task=task, reason="first")
    ecs.stop_task(task=task, reason="second")
    assert wait_for(ecs, task, "STOPPED")["stoppedReason"] == "first"
    assert ecs.stop_task(task=task, reason="third")["task"]["stoppedReason"] == "first"
    absent = task.rsplit("/", 1)[0] + "/" + "0" * 32
    answer = ecs.describe_tasks(tasks=[task, absent])
    assert [told["taskArn"] for told in answer["tasks"]] == [task]
    assert answer["failures"] == [{"arn": absent, "reason": "MISSING"}]
    with pytest.raises(ecs.exceptions.InvalidParameterException, match="The referenced task was not found."):
        ecs.stop_task(task=absent)


def test_tasks_that_are_stopped_before_they_run_stop(ecs, network, image):
    definition = define(ecs, "early", shell_container(image, IDLE))
    answer = ecs.run_task(taskDefinition=definition, launchType="FARGATE", networkConfiguration=network, count=10)
    tasks = [task["taskArn"] for task in answer["tasks"]]
    for at, task in enumerate(tasks):
        time.sleep(0.01 * at)
        assert ecs.stop_task(task=task)["task"]["desiredStatus"] == "STOPPED"
    for task in tasks:
        told = wait_for(ecs, task, "STOPPED", 10)
        assert (told["stopCode"], told["stoppedReason"]) == ("UserInitiated", "Task stopped by user")
        assert told["containers"][0]["lastStatus"] == "STOPPED"


def test_start_task_takes_the_container_instance_that_is_named(ecs, network, image):
    definition = define(ecs, "start", shell_container(image, IDLE), requiresCompatibilities=["EC2"])
    (instance,) = ecs.list_container_instances()["containerInstanceArns"]
    absent = instance.rsplit("/", 1)[0] + "/" + "0" * 32
    answer = ecs.start_task(taskDefinition=definition, containerInstances=[instance, absent], networkConfiguration=network)
    assert answer["failures"] == [{"arn": absent, "reason": "MISSING"}]
    (task,) = answer["tasks"]
    told = wait_for(ecs, task["taskArn"], "RUNNING")
    assert (told["containerInstanceArn"], told["launchType"]) == (instance, "EC2")
    ecs.stop_task(task=task["taskArn"])


def test_a_restart_policy_starts_a_container_again(roadstead, ecs, restarting):
    again, never, ignored = restarting
    # One that ends before its restartAttemptPeriod (60 s at least) is over.
    told = wait_for(ecs, never, "STOPPED")
    assert told["containers"][0]["exitCode"] == 1
    eventually(lambda: lines(roadstead, again) == ["run", "run"], 70, 0.5)
    # One whose exit code is ignored is over as well.
    told = wait_for(ecs, ignored, "STOPPED")
    assert (told["containers"][0]["exitCode"], lines(roadstead, ignored)) == (7, ["run"])
    assert describe(ecs, again)["lastStatus"] == "RUNNING"
    ecs.stop_task(task=again)
