"""The README's first command: the example shop is up, serves through its load balancer, heals and rolls."""

import json
import os
import re
import subprocess
import threading
import urllib.request

import pytest

from conftest import PROGRAM, ROOT, Roadstead, eventually, leftovers, shell

PORT = 4576


def get(url, method="GET"):
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10) as answer:
        return json.load(answer)


def run(data_dir, *arguments):
    env = {**os.environ, "SHOP_PROFILE": "dev", "ROADSTEAD_PORT": str(PORT), "ROADSTEAD_DATA": str(data_dir),
           "CARGO_TARGET_DIR": str(PROGRAM.parents[1])}
    done = subprocess.run([ROOT / "examples/shop/shop", *arguments], env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"shop {arguments}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The shop's base URL and a Roadstead's clients."""
    data_dir = tmp_path_factory.mktemp("shop") / "data"
    said = run(data_dir, "up")
    url = re.search(r"(http://\S+)/products/", said).group(1)
    yield url, Roadstead(data_dir, PORT), said
    run(data_dir, "down")
    assert leftovers(data_dir) == []


def test_the_shop_sells(shop):
    url, roadstead, _ = shop
    assert len(get(f"{url}/products/")["products"]) == 3
    assert get(f"{url}/cart/bob/2", "POST")["items"] == ["2"]
    # Three replicas: whichever answers knows the cart.
    assert {tuple(get(f"{url}/cart/bob")["items"]) for _ in range(9)} == {("2",)}
    assert get(f"{url}/orders/bob", "POST")["total"] == 35
    logs = roadstead.client("logs")

    def notified():
        found = logs.filter_log_events(logGroupName="/shop", filterPattern="notification")["events"]
        return [event for event in found if "order of bob: 1 items, total 35" in event["message"]]

    eventually(notified, 10)
    counts = {s["serviceName"]: s["runningCount"] for s in roadstead.client("ecs").describe_services(
        cluster="shop", services=["product-service", "cart-service", "order-service", "notification-service"])["services"]}
    assert counts == {"product-service": 2, "cart-service": 3, "order-service": 2, "notification-service": 1}


def test_the_shop_heals_and_rolls_without_a_failed_request(shop):
    url, roadstead, _ = shop
    ecs = roadstead.client("ecs")
    failed, count, running = [], [0], [True]

    def buy():
        while running[0]:
            try:
                get(f"{url}/products/1")
            except OSError as error:
                failed.append(repr(error))
            count[0] += 1

    threads = [threading.Thread(target=buy) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        before = set(ecs.list_tasks(cluster="shop", serviceName="product-service")["taskArns"])
        ecs.update_service(cluster="shop", service="product-service", forceNewDeployment=True)

        def rolled():
            now = set(ecs.list_tasks(cluster="shop", serviceName="product-service")["taskArns"])
            told = ecs.describe_services(cluster="shop", services=["product-service"])["services"][0]
            return not now & before and len(told["deployments"]) == 1 and told["runningCount"] == 2

        eventually(rolled, 60)
    finally:
        running[0] = False
        for thread in threads:
            thread.join()
    assert failed == [] and count[0] > 50, (failed[:5], count)
    victim = ecs.list_tasks(cluster="shop", serviceName="cart-service")["taskArns"][0]
    shell("pkill", "-9", "--full", "^/cart-service")
    eventually(lambda: victim not in ecs.list_tasks(cluster="shop", serviceName="cart-service")["taskArns"], 30)
    eventually(lambda: ecs.describe_services(cluster="shop", services=["cart-service"])["services"][0]["runningCount"] == 3, 60)


def test_up_again_makes_what_is_missing(shop):
    """As after an `up` that was interrupted."""
    url, roadstead, _ = shop
    elb, iam = roadstead.client("elbv2"), roadstead.client("iam")
    balancer = elb.describe_load_balancers(Names=["shop"])["LoadBalancers"][0]["LoadBalancerArn"]
    listener = elb.describe_listeners(LoadBalancerArn=balancer)["Listeners"][0]["ListenerArn"]

    def routes():
        rules = elb.describe_rules(ListenerArn=listener)["Rules"]
        return {rule["Priority"]: rule["RuleArn"] for rule in rules if not rule["IsDefault"]}

    before = routes()
    assert sorted(before) == ["1", "2", "3"]
    elb.delete_rule(RuleArn=before["2"])
    policy = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
    iam.detach_role_policy(RoleName="shop-execution", PolicyArn=policy)
    said = run(roadstead.data_dir, "up")
    assert f"{url}/products/" in said and "service cart-service is there already" in said
    after = routes()
    assert sorted(after) == ["1", "2", "3"] and after["1"] == before["1"]
    assert iam.list_attached_role_policies(RoleName="shop-execution")["AttachedPolicies"]
    assert eventually(lambda: get(f"{url}/cart/nobody"))["items"] == []


def test_a_new_version_is_rolled_out(shop):
    _, roadstead, _ = shop
    ecs = roadstead.client("ecs")
    before = set(ecs.list_tasks(cluster="shop", serviceName="product-service")["taskArns"])
    assert "has reached a steady state" in run(roadstead.data_dir, "roll", "product-service")
    after = set(ecs.list_tasks(cluster="shop", serviceName="product-service")["taskArns"])
    assert len(after) == 2 and not after & before


def test_what_it_prints_works_as_printed(shop):
    _, _, said = shop
    for line in re.findall(r"^  (curl .*)$", said, re.MULTILINE):
        done = subprocess.run(line.replace("curl", "curl -sf"), shell=True, capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
