"""Services behind load balancers: no request is lost while tasks come and go, and the ill are replaced."""

import http.client
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from conftest import eventually
from services import (
    Balancer, Load, completed, create, kill_containers, messages, remove, service, stable, tasks, together, web,
)
from test_tasks import define, describe, shell_container, wait_for


def test_a_rolling_update_under_load_loses_no_request(roadstead, ecs, network, image):
    balancer = Balancer(roadstead, "roll", 8081, network)
    create(ecs, network, "roll", define(ecs, "roll", web(image, "one")), 2, loadBalancers=[balancer.attached()])
    completed(ecs, "roll")
    balancer.healthy(2)
    assert balancer.get() == (200, "one")
    with Load(balancer) as load:
        ecs.update_service(service="roll", taskDefinition=define(ecs, "roll", web(image, "two")))
        completed(ecs, "roll", 90)
        time.sleep(0.5)
    load.lost_nothing()
    assert load.seen == {"one", "two"}
    assert balancer.get() == (200, "two")
    told = messages(ecs, "roll")
    assert any(text.startswith("has begun draining connections on") for text in told)
    where = f"targets in (target-group {balancer.group})"
    assert any(text.startswith("registered ") and where in text for text in told)
    assert any(text.startswith("deregistered ") for text in told)
    # In and out under load, and one after another deployment: 20 and more changes of targets.
    with Load(balancer) as load:
        for count in (5, 1, 4, 1, 3, 2):
            ecs.update_service(service="roll", desiredCount=count)
            eventually(lambda: (t := service(ecs, "roll")) and t["runningCount"] == count)
            balancer.healthy(count)
        ecs.update_service(service="roll", forceNewDeployment=True)
        completed(ecs, "roll")
    load.lost_nothing()
    remove(ecs, "roll")
    assert balancer.targets() == []


def test_a_request_under_way_is_finished_within_the_deregistration_delay(roadstead, ecs, network, image):
    script = ("mkdir -p /tmp/www/cgi-bin; cd /tmp/www; trap 'exit 0' TERM; echo > index.html; "
              "printf '#!/bin/sh\\necho; sleep $QUERY_STRING; echo done\\n' > cgi-bin/slow; chmod +x cgi-bin/slow; "
              "httpd -f -p 8080 -h /tmp/www & wait")
    definition = define(ecs, "slow-answers", shell_container(image, script, portMappings=[{"containerPort": 8080}]))
    balancer = Balancer(roadstead, "slow-answers", 8088, network, delay=5)
    create(ecs, network, "slow-answers", definition, 1, loadBalancers=[balancer.attached()])
    completed(ecs, "slow-answers")
    balancer.healthy(1)
    old = tasks(ecs, "slow-answers").pop()
    with ThreadPoolExecutor() as pool:
        within = pool.submit(balancer.get, path="/cgi-bin/slow?3")
        beyond = pool.submit(balancer.get, path="/cgi-bin/slow?20")
        time.sleep(0.5)
        ecs.update_service(service="slow-answers", forceNewDeployment=True)
        eventually(lambda: describe(ecs, old)["lastStatus"] == "DEACTIVATING")
        eventually(lambda: balancer.states() == ["draining", "healthy"])
        assert within.result() == (200, "done")
        assert describe(ecs, old)["lastStatus"] == "DEACTIVATING", "another request is still under way"
        wait_for(ecs, old, "STOPPED")
        try:
            assert beyond.result()[0] == 502
        except (OSError, http.client.HTTPException):
            pass  # Its head was sent already: all that is left is to end the connection.
    remove(ecs, "slow-answers")


def test_a_service_moves_to_another_target_group(roadstead, ecs, network, image):
    before, after = Balancer(roadstead, "before", 8089, network), Balancer(roadstead, "after", 8090, network)
    create(ecs, network, "moves", define(ecs, "moves", web(image, "moved")), 1, loadBalancers=[before.attached()])
    completed(ecs, "moves")
    updated = ecs.update_service(service="moves", loadBalancers=[after.attached()])["service"]
    assert [d["status"] for d in updated["deployments"]] == ["PRIMARY", "ACTIVE"]
    completed(ecs, "moves")
    after.healthy(1)
    assert after.get() == (200, "moved") and before.targets() == [] and before.get()[0] == 503
    remove(ecs, "moves")


def test_a_killed_container_loses_no_more_than_it_was_serving(roadstead, ecs, network, image):
    balancer = Balancer(roadstead, "heal", 8082, network)
    create(ecs, network, "heal", define(ecs, "heal", web(image, "ok")), 2, loadBalancers=[balancer.attached()])
    completed(ecs, "heal")
    balancer.healthy(2)
    victim = sorted(tasks(ecs, "heal"))[0]
    with Load(balancer) as load:
        time.sleep(0.5)
        kill_containers(victim)
        eventually(lambda: victim not in (now := tasks(ecs, "heal")) and len(now) == 2)
        stable(ecs, "heal")
        balancer.healthy(2)
        time.sleep(0.5)
    assert len(load.failed) <= len(load.threads), load.failed
    # A head that was passed on already cannot become a 502: its body ends short.
    assert all(failed == 502 or "IncompleteRead" in str(failed) for failed in load.failed), load.failed
    assert load.count > 50
    assert describe(ecs, victim)["stopCode"] == "EssentialContainerExited"
    # Stopped by its user, a task is drained first.
    victim = sorted(tasks(ecs, "heal"))[0]
    with Load(balancer) as load:
        ecs.stop_task(task=victim)
        eventually(lambda: victim not in (now := tasks(ecs, "heal")) and len(now) == 2)
        completed(ecs, "heal")
        balancer.healthy(2)
    load.lost_nothing(20)
    remove(ecs, "heal")


def grace_period(roadstead, ecs, network, image):
    slow, never = (Balancer(roadstead, name, 8083, network, HealthCheckPath="/ready") for name in ("slow", "never"))
    script = ("trap 'exit 0' TERM; mkdir -p /tmp/www; (sleep {}; echo > /tmp/www/ready) & "
              "httpd -f -p 8080 -h /tmp/www & wait")
    mapped = [{"containerPort": 8080}]
    for balancer, delay, name, grace in ((slow, 7, "slow", 60), (never, 1000, "never", 9)):
        definition = define(ecs, name, shell_container(image, script.format(delay), portMappings=mapped))
        create(ecs, network, name, definition, 1, loadBalancers=[balancer.attached()],
               healthCheckGracePeriodSeconds=grace)
        stable(ecs, name)
    assert service(ecs, "never")["healthCheckGracePeriodSeconds"] == 9
    starter, hopeless = tasks(ecs, "slow"), tasks(ecs, "never").pop()
    began = describe(ecs, hopeless)["startedAt"]
    eventually(lambda: hopeless not in tasks(ecs, "never"), 30)
    ended = describe(ecs, hopeless)
    assert 9 <= (ended["stoppingAt"] - began).total_seconds() < 20
    assert ended["stoppedReason"] == f"Task failed ELB health checks in (target-group {never.group})"
    said = [text for text in messages(ecs, "never") if "is unhealthy in" in text]
    assert said[-1] == (f"(port 8080) is unhealthy in (target-group {never.group}) due to "
                        "(reason Health checks failed with these codes: [404])."), said
    completed(ecs, "slow")
    assert tasks(ecs, "slow") == starter, "it was ill within its grace period only"
    remove(ecs, "slow", "never")


def ill_deployment(roadstead, ecs, network, image):
    balancer = Balancer(roadstead, "sick", 8091, network)
    good = define(ecs, "sick", web(image, "good"))
    create(ecs, network, "sick", good, 1, loadBalancers=[balancer.attached()],
           deploymentConfiguration={"deploymentCircuitBreaker": {"enable": True, "rollback": True}})
    completed(ecs, "sick")
    balancer.healthy(1)
    kept = tasks(ecs, "sick")
    script = "trap 'exit 0' TERM; mkdir -p /tmp/www; httpd -f -p 8080 -h /tmp/www & wait"
    bad = define(ecs, "sick", shell_container(image, script, portMappings=[{"containerPort": 8080}]))
    with Load(balancer, 2) as load:
        ecs.update_service(service="sick", taskDefinition=bad)
        eventually(lambda: any("rolling back" in text for text in messages(ecs, "sick")), 60)
        completed(ecs, "sick")
    load.lost_nothing()
    assert load.seen == {"good"}, "no request went to a task that failed its checks"
    assert tasks(ecs, "sick") == kept
    remove(ecs, "sick")


def test_a_grace_period_is_given_and_a_deployment_that_fails_its_checks_rolled_back(roadstead, ecs, network, image):
    together(lambda check: check(roadstead, ecs, network, image), [(grace_period,), (ill_deployment,)])


def test_services_of_bridge_tasks_share_a_container_port(roadstead, ecs, network, image):
    balancers = [Balancer(roadstead, name, 8084, network, TargetType="instance") for name in ("bridge-a", "bridge-b")]
    mapped = [{"containerPort": 8080, "hostPort": 0}]
    for balancer, name in zip(balancers, ("bridge-a", "bridge-b")):
        container = web(image, name, portMappings=mapped, memory=64)
        definition = ecs.register_task_definition(family=name, networkMode="bridge", containerDefinitions=[container])
        create(ecs, None, name, definition["taskDefinition"]["taskDefinitionArn"], 2, launchType="EC2",
               loadBalancers=[balancer.attached()])
    for balancer, name in zip(balancers, ("bridge-a", "bridge-b")):
        completed(ecs, name)
        balancer.healthy(2)
        assert balancer.get() == (200, name)
    targets = [target["Target"] for balancer in balancers for target in balancer.targets()]
    assert all(target["Id"].startswith("i-") for target in targets)
    assert len({target["Port"] for target in targets}) == 4
    with Load(balancers[0]) as load:
        ecs.update_service(service="bridge-a", forceNewDeployment=True)
        completed(ecs, "bridge-a")
    load.lost_nothing()
    assert load.seen == {"bridge-a"}
    remove(ecs, "bridge-a", "bridge-b")


def test_one_service_behind_two_load_balancers_and_one_target_group_lost(roadstead, ecs, network, image):
    public, private = Balancer(roadstead, "public", 8085, network), Balancer(roadstead, "private", 8086, network)
    create(ecs, network, "both", define(ecs, "both", web(image, "both")), 1,
           loadBalancers=[public.attached(), private.attached()])
    completed(ecs, "both")
    for balancer in (public, private):
        balancer.healthy(1)
        assert balancer.get() == (200, "both")
    elb = public.elb
    with pytest.raises(ClientError, match="ResourceInUse"):
        elb.delete_target_group(TargetGroupArn=public.group)
    elb.delete_listener(ListenerArn=public.listener)
    elb.delete_target_group(TargetGroupArn=public.group)
    with pytest.raises(ClientError, match="TargetGroupNotFound"):
        public.targets()
    assert private.get() == (200, "both")
    # A task that cannot be registered with all its target groups does not become RUNNING, and the service says why.
    ecs.update_service(service="both", desiredCount=2)
    text = (f"failed to register targets in (target-group {public.group}) with (error The target group with "
            f"targetGroupArn {public.group} does not exist.)")
    eventually(lambda: text in messages(ecs, "both"))
    told = service(ecs, "both")
    assert (told["runningCount"], told["pendingCount"]) == (1, 1)
    assert private.states() == ["healthy"]
    remove(ecs, "both")
    assert private.targets() == []


def test_target_groups_are_checked_before_a_service_is_made(roadstead, ecs, network, image):
    balancer = Balancer(roadstead, "checked", 8087, network)
    definition = define(ecs, "checked", web(image, "checked"))
    for change, text in (
        ({"containerPort": 9999}, "The container main did not have a container port 9999 defined."),
        ({"containerName": "other"}, "The container other does not exist in the task definition."),
    ):
        with pytest.raises(ClientError, match=text):
            create(ecs, network, "checked", definition, 1, loadBalancers=[{**balancer.attached(), **change}])
    balancer.elb.delete_listener(ListenerArn=balancer.listener)
    with pytest.raises(ClientError, match="does not have an associated load balancer"):
        create(ecs, network, "checked", definition, 1, loadBalancers=[balancer.attached()])
