"""Deployments of services: rolling within the percentages, forced, failing, rolled back, and what is told of them."""

import time

import pytest
from botocore.exceptions import ClientError

import images
from conftest import eventually
from services import completed, create, messages, remove, service, sleeper, stable, tasks, together
from test_tasks import awslogs, define, describe, lines, shell_container


def configured(minimum, maximum, **options):
    return {"minimumHealthyPercent": minimum, "maximumPercent": maximum, **options}


class Watch:
    """The least running and the most live tasks of a service while a deployment is under way."""

    def __init__(self, ecs, name):
        self.least, self.most = 99, 0
        until = time.monotonic() + 60
        while True:
            told = service(ecs, name)
            live = told["runningCount"] + told["pendingCount"]
            self.least, self.most = min(self.least, told["runningCount"]), max(self.most, live)
            if len(told["deployments"]) == 1 and told["deployments"][0]["rolloutState"] == "COMPLETED":
                return
            assert time.monotonic() < until, told["deployments"]
            time.sleep(0.03)


def roll(ecs, network, image, minimum, maximum, least, most):
    name = f"roll-{minimum}-{maximum}"
    old = define(ecs, name, sleeper(image))
    create(ecs, network, name, old, 2, deploymentConfiguration=configured(minimum, maximum))
    before = completed(ecs, name)["deployments"][0]
    gone = tasks(ecs, name)
    new = define(ecs, name, sleeper(image))
    updated = ecs.update_service(service=name, taskDefinition=new)["service"]
    shown = [(d["status"], d["taskDefinition"], d["rolloutState"]) for d in updated["deployments"]]
    assert shown == [("PRIMARY", new, "IN_PROGRESS"), ("ACTIVE", old, "COMPLETED")]
    seen = Watch(ecs, name)
    assert seen.least >= least and seen.most <= most, (seen.least, seen.most)
    if minimum < 100:
        assert seen.most == 2 and seen.least < 2, "it had to stop before it could start"
    told = service(ecs, name)
    after = told["deployments"][0]
    assert after["id"] != before["id"] and after["taskDefinition"] == told["taskDefinition"] == new
    assert after["rolloutStateReason"] == f"ECS deployment {after['id']} completed."
    assert not gone & tasks(ecs, name)
    for task in gone:
        ended = describe(ecs, task)
        assert ended["stopCode"] == "ServiceSchedulerInitiated"
        assert ended["stoppedReason"] == f"Scaling activity initiated by (deployment {before['id']})"
    said = messages(ecs, name)
    assert f"(deployment {after['id']}) deployment completed." in said
    assert said[0] == "has reached a steady state."
    assert sum(text.startswith("has started ") for text in said) >= 2
    assert sum(text.startswith("has stopped ") for text in said) >= 1
    remove(ecs, name)


def test_a_rolling_update_keeps_to_its_percentages(ecs, network, image):
    cases = [(50, 100, 1, 2), (100, 150, 2, 3), (100, 200, 2, 4), (0, 100, 0, 2)]
    together(lambda *case: roll(ecs, network, image, *case), cases)


def test_a_newer_update_overtakes_one_under_way(ecs, network, image):
    first, second, third = (define(ecs, "overtaken", sleeper(image)) for _ in range(3))
    create(ecs, network, "overtaken", first, 3)
    stable(ecs, "overtaken")
    ecs.update_service(service="overtaken", taskDefinition=second)
    ecs.update_service(service="overtaken", taskDefinition=third, desiredCount=2)
    told = completed(ecs, "overtaken")
    assert told["deployments"][0]["taskDefinition"] == third
    assert {describe(ecs, task)["taskDefinitionArn"] for task in tasks(ecs, "overtaken")} == {third}
    assert len(tasks(ecs, "overtaken")) == 2
    remove(ecs, "overtaken")


def test_what_does_not_change_the_tasks_starts_no_deployment(ecs, network, image):
    definition = define(ecs, "same", sleeper(image))
    create(ecs, network, "same", definition, 1)
    before = completed(ecs, "same")
    running = tasks(ecs, "same")
    ecs.update_service(service="same", taskDefinition=definition, deploymentConfiguration=configured(50, 150))
    after = service(ecs, "same")
    assert [d["id"] for d in after["deployments"]] == [d["id"] for d in before["deployments"]]
    assert after["deploymentConfiguration"]["minimumHealthyPercent"] == 50
    assert tasks(ecs, "same") == running
    with pytest.raises(ClientError, match="this will block deployments"):
        ecs.update_service(service="same", deploymentConfiguration=configured(100, 100))
    remove(ecs, "same")


def roll_back(ecs, network, image, hurry, minimum, maximum):
    name = f"breaker-{hurry}-{minimum}".lower()
    breaker = {"deploymentCircuitBreaker": {"enable": True, "rollback": True}}
    good = define(ecs, name, sleeper(image))
    create(ecs, network, name, good, 1, deploymentConfiguration=configured(minimum, maximum, **breaker))
    # Stable is what the waiter calls so; that the deployment is completed comes a moment later.
    before = (stable if hurry else completed)(ecs, name)["deployments"][0]["id"]
    kept = tasks(ecs, name)
    bad = define(ecs, name, shell_container(image, "exit 1"))
    failing = ecs.update_service(service=name, taskDefinition=bad)["service"]["deployments"][0]["id"]
    eventually(lambda: any("deployment failed" in text for text in messages(ecs, name)))
    told = completed(ecs, name)
    assert told["deployments"][0]["id"] == before
    assert told["deployments"][0]["taskDefinition"] == told["taskDefinition"] == good
    said = messages(ecs, name)
    assert f"(deployment {failing}) deployment failed: tasks failed to start." in said
    assert f"rolling back to deployment {before}." in said
    listed = {d["serviceDeploymentArn"].rsplit("/", 1)[1]: d["status"]
              for d in ecs.list_service_deployments(service=name)["serviceDeployments"]}
    assert listed == {before[8:]: "SUCCESSFUL", failing[8:]: "ROLLBACK_SUCCESSFUL"}
    if minimum == 100:
        assert tasks(ecs, name) == kept, "what ran all the time goes on running"
    remove(ecs, name)


def test_the_circuit_breaker_rolls_back(ecs, network, image):
    cases = [(False, 100, 200), (True, 100, 200), (False, 0, 100)]
    together(lambda *case: roll_back(ecs, network, image, *case), cases)


def test_the_circuit_breaker_ends_a_first_deployment(ecs, network, image):
    breaker = {"deploymentCircuitBreaker": {"enable": True, "rollback": True}}
    bad = define(ecs, "first", shell_container(image, "exit 1"))
    create(ecs, network, "first", bad, 1, deploymentConfiguration=breaker)
    eventually(lambda: service(ecs, "first")["deployments"][0]["rolloutState"] == "FAILED")
    good = define(ecs, "first", sleeper(image))
    ecs.update_service(service="first", taskDefinition=good)
    assert completed(ecs, "first")["taskDefinition"] == good
    remove(ecs, "first")


def test_without_rollback_the_circuit_breaker_stops_trying(ecs, network, image):
    breaker = {"deploymentCircuitBreaker": {"enable": True, "rollback": False}}
    create(ecs, network, "stops", define(ecs, "stops", sleeper(image)), 1, deploymentConfiguration=breaker)
    completed(ecs, "stops")
    kept = tasks(ecs, "stops")
    bad = define(ecs, "stops", shell_container(image, "exit 1"))
    ecs.update_service(service="stops", taskDefinition=bad)
    primary = lambda: service(ecs, "stops")["deployments"][0]
    eventually(lambda: primary()["rolloutState"] == "FAILED")
    failed = primary()
    assert failed["rolloutStateReason"] == "ECS deployment circuit breaker: tasks failed to start."
    assert failed["failedTasks"] == 3 and failed["taskDefinition"] == bad
    time.sleep(3)
    assert primary()["failedTasks"] == 3, "nothing more is started"
    assert tasks(ecs, "stops") == kept
    good = define(ecs, "stops", sleeper(image))
    ecs.update_service(service="stops", taskDefinition=good)
    assert completed(ecs, "stops")["taskDefinition"] == good
    remove(ecs, "stops")


def test_without_a_circuit_breaker_it_goes_on_trying_ever_slower(ecs, network, image):
    create(ecs, network, "tries", define(ecs, "tries", shell_container(image, "exit 1")), 1)
    text = "is unable to consistently start tasks successfully. For more information, see the Troubleshooting section."
    eventually(lambda: text in messages(ecs, "tries"))
    told = service(ecs, "tries")["deployments"][0]
    assert told["rolloutState"] == "IN_PROGRESS" and told["failedTasks"] >= 3
    before = told["failedTasks"]
    time.sleep(4)
    assert before < service(ecs, "tries")["deployments"][0]["failedTasks"] + 1 <= before + 4
    good = define(ecs, "tries", sleeper(image))
    ecs.update_service(service="tries", taskDefinition=good)
    assert completed(ecs, "tries", 20)["taskDefinition"] == good
    remove(ecs, "tries")


def test_an_image_that_is_absent_fails_the_deployment_with_the_reason(roadstead, ecs, network, image):
    breaker = {"deploymentCircuitBreaker": {"enable": True, "rollback": True}}
    create(ecs, network, "absent", define(ecs, "absent", sleeper(image)), 1, deploymentConfiguration=breaker)
    good = completed(ecs, "absent")["deployments"][0]["id"]
    bad = define(ecs, "absent", sleeper(f"{roadstead.registry}/busybox:none"))
    ecs.update_service(service="absent", taskDefinition=bad)
    eventually(lambda: any("rolling back" in text for text in messages(ecs, "absent")))
    assert completed(ecs, "absent")["deployments"][0]["id"] == good
    ended = [describe(ecs, task) for task in tasks(ecs, "absent", "STOPPED")]
    assert ended and all(task["stopCode"] == "TaskFailedToStart" for task in ended)
    assert all(task["stoppedReason"].startswith("CannotPullContainerError") for task in ended)
    remove(ecs, "absent")


def test_a_host_port_is_free_only_after_the_old_task(ecs, image):
    def defined(family, port):
        mapped = [{"containerPort": 8080, "hostPort": port}]
        return ecs.register_task_definition(
            family=family, networkMode="bridge", containerDefinitions=[sleeper(image, memory=16, portMappings=mapped)],
        )["taskDefinition"]["taskDefinitionArn"]

    def update(name, port, minimum):
        create(ecs, None, name, defined(name, port), 1, launchType="EC2",
               deploymentConfiguration=configured(minimum, 200))
        completed(ecs, name)
        kept = tasks(ecs, name)
        new = defined(name, port)
        ecs.update_service(service=name, taskDefinition=new)
        said = lambda: [text for text in messages(ecs, name) if "was unable to place a task" in text]
        if minimum == 0:
            assert completed(ecs, name)["taskDefinition"] == new
        else:
            text = eventually(said)[0]
            assert "is already using a port required by your task" in text, text
            time.sleep(2)
            assert tasks(ecs, name) == kept and len(said()) == 1
        remove(ecs, name)

    together(update, [("fixed-0", 18080, 0), ("fixed-100", 18081, 100)])


def test_a_deployment_goes_on_after_a_crash_of_roadstead(roadstead, ecs, network, image):
    old, new = (define(ecs, "crash", sleeper(image)) for _ in range(2))
    create(ecs, network, "crash", old, 3, deploymentConfiguration=configured(66, 134))
    completed(ecs, "crash")
    ecs.update_service(service="crash", taskDefinition=new)
    for pause in (0.1, 1, 2.5):
        time.sleep(pause)
        before = service(ecs, "crash")
        roadstead.kill()
        roadstead.start()
        after = service(ecs, "crash")
        # The same deployments, but that the last of the old tasks may have gone meanwhile.
        ids, earlier = ([d["id"] for d in told["deployments"]] for told in (after, before))
        assert ids == earlier or ids == earlier[:1], (ids, earlier)
        assert after["runningCount"] >= 2
    completed(ecs, "crash")
    assert {describe(ecs, task)["taskDefinitionArn"] for task in tasks(ecs, "crash")} == {new}
    assert len(tasks(ecs, "crash")) == 3
    remove(ecs, "crash")


def test_service_deployments_and_revisions_are_told(roadstead, ecs, network, image):
    create(ecs, network, "told", define(ecs, "told", sleeper(image)), 1)
    completed(ecs, "told")
    new = define(ecs, "told", sleeper(image))
    ecs.update_service(service="told", taskDefinition=new)
    listed = ecs.list_service_deployments(service="told")["serviceDeployments"]
    assert [d["status"] for d in listed] == ["IN_PROGRESS", "SUCCESSFUL"]
    completed(ecs, "told")
    listed = ecs.list_service_deployments(service="told")["serviceDeployments"]
    assert [d["status"] for d in listed] == ["SUCCESSFUL", "SUCCESSFUL"], "finished ones stay to be looked at"
    told = ecs.describe_service_deployments(serviceDeploymentArns=[d["serviceDeploymentArn"] for d in listed])
    assert told["failures"] == []
    first = told["serviceDeployments"][0]
    assert first["status"] == "SUCCESSFUL" and first["finishedAt"] >= first["startedAt"]
    assert first["targetServiceRevision"]["runningTaskCount"] == 1
    revisions = ecs.describe_service_revisions(
        serviceRevisionArns=[d["targetServiceRevisionArn"] for d in listed])["serviceRevisions"]
    assert revisions[0]["taskDefinition"] == new and revisions[1]["taskDefinition"] != new
    remove(ecs, "told")


def pushing(roadstead, folder, name):
    """Pushes a version of an image under the same tag as all others; the reference to run."""
    def push(version):
        layer = images.tar_of({"version": version.encode()})
        return roadstead.push(images.busybox_layout(folder / version, extra=[layer]), name)

    return push


def test_all_tasks_of_a_deployment_run_one_image(roadstead, ecs, network, busybox, tmp_path):
    push = pushing(roadstead, tmp_path, "consistent")
    image = push("v1")
    for name, kept in {"one-image": {}, "tag-image": {"versionConsistency": "disabled"}}.items():
        create(ecs, network, name, define(ecs, name, sleeper(image, **kept)), 1)
        completed(ecs, name)
    digests = lambda name: [describe(ecs, task)["containers"][0]["imageDigest"] for task in sorted(tasks(ecs, name))]
    ((first,), (other,)) = digests("one-image"), digests("tag-image")
    assert first == other
    push("v2")
    for name in ("one-image", "tag-image"):
        ecs.update_service(service=name, desiredCount=3)
    for name in ("one-image", "tag-image"):
        assert len(stable(ecs, name)["deployments"]) == 1
    assert digests("one-image") == [first] * 3
    assert sorted(d == first for d in digests("tag-image")) == [False, False, True]
    assert {describe(ecs, task)["containers"][0]["image"] for task in tasks(ecs, "one-image")} == {image}

    def resolved(name):
        told = ecs.list_service_deployments(service=name)["serviceDeployments"][0]
        revision = ecs.describe_service_revisions(serviceRevisionArns=[told["targetServiceRevisionArn"]])
        return revision["serviceRevisions"][0]["containerImages"]

    assert resolved("one-image") == [{"containerName": "main", "image": image, "imageDigest": first}]
    assert resolved("tag-image") == [{"containerName": "main", "image": image}]
    # What is deleted is missed, whatever the tag is by now.
    gone = roadstead.client("ecr").batch_delete_image(repositoryName="consistent", imageIds=[{"imageDigest": first}])
    assert gone["failures"] == []
    known = tasks(ecs, "one-image")
    ecs.stop_task(task=known.pop())
    failed = lambda: [t for t in tasks(ecs, "one-image", "STOPPED")
                      if (describe(ecs, t).get("stoppedReason") or "").startswith("CannotPullContainerError")]
    assert f"@{first}" in describe(ecs, eventually(failed)[0])["stoppedReason"]
    ecs.update_service(service="one-image", forceNewDeployment=True)
    completed(ecs, "one-image")
    assert first not in digests("one-image") and len(set(digests("one-image"))) == 1
    remove(ecs, "one-image", "tag-image")


def test_force_new_deployment_runs_the_image_pushed_last(roadstead, ecs, network, busybox, tmp_path):
    push = pushing(roadstead, tmp_path, "versioned")
    image = push("v1")
    script = "cat /version; echo; trap 'exit 0' TERM; sleep 1000 & wait"
    definition = define(ecs, "versioned", shell_container(image, script, logConfiguration=awslogs()))
    create(ecs, network, "versioned", definition, 1)
    stable(ecs, "versioned")
    first = tasks(ecs, "versioned").pop()
    eventually(lambda: lines(roadstead, first)[:1] == ["v1"])
    push("v2")
    ecs.update_service(service="versioned", forceNewDeployment=True)
    eventually(lambda: (now := tasks(ecs, "versioned")) and first not in now, 60)
    completed(ecs, "versioned")
    second = tasks(ecs, "versioned").pop()
    eventually(lambda: lines(roadstead, second)[:1] == ["v2"])
    digests = {describe(ecs, task)["containers"][0]["imageDigest"] for task in (first, second)}
    assert len(digests) == 2
    remove(ecs, "versioned")
