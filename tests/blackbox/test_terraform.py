"""Terraform's AWS provider applies, finds unchanged and destroys one stack over all services."""

import glob
import os
import pathlib
import shutil
import subprocess

import pytest

# Where Terraform's providers lie on a machine that cannot or need not fetch them.
PLUGINS = [
    os.environ.get("TERRAFORM_PLUGINS", ""),
    "~/.terraform.d/plugins",
    "/usr/local/share/terraform/plugins",
    "/usr/share/terraform/plugins",
    "/opt/*",
]
STACK = pathlib.Path(__file__).parent / "terraform" / "main.tf"


def plugins():
    for pattern in filter(None, PLUGINS):
        for folder in glob.glob(os.path.expanduser(pattern)):
            if os.path.isdir(f"{folder}/registry.terraform.io/hashicorp/aws"):
                return folder
    return None


pytestmark = [
    pytest.mark.skipif(not shutil.which("terraform"), reason="no terraform on this machine"),
    pytest.mark.skipif(not plugins(), reason="no AWS provider for terraform on this machine"),
]


def test_a_stack_is_applied_unchanged_and_destroyed(roadstead, tmp_path):
    shutil.copy(STACK, tmp_path)
    env = {
        **os.environ,
        "TF_CLI_CONFIG_FILE": os.devnull,
        "TF_VAR_endpoint": roadstead.endpoint,
        "TF_IN_AUTOMATION": "1",
        "CHECKPOINT_DISABLE": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }

    def terraform(*arguments):
        done = subprocess.run(
            ["terraform", *arguments, "-no-color"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"terraform {arguments[0]}:\n{done.stdout[-4000:]}\n{done.stderr}"
        return done.stdout

    terraform("init", f"-plugin-dir={plugins()}")
    applied = terraform("apply", "-auto-approve", "-input=false")
    assert "Apply complete! Resources: 22 added, 0 changed, 0 destroyed." in applied
    # What was applied is what is shown: exit code 2 would say that something differs.
    terraform("plan", "-input=false", "-detailed-exitcode")
    described = roadstead.client("ecs").describe_services(cluster="main", services=["app"])["services"][0]
    assert described["loadBalancers"][0]["containerPort"] == 8080
    terraform("destroy", "-auto-approve", "-input=false")
    # Of the networks, what a new account has is left.
    ec2 = roadstead.client("ec2")
    assert [vpc["IsDefault"] for vpc in ec2.describe_vpcs()["Vpcs"]] == [True]
    assert [group["GroupName"] for group in ec2.describe_security_groups()["SecurityGroups"]] == ["default"]
    assert ec2.describe_network_interfaces()["NetworkInterfaces"] == []
    assert roadstead.client("elbv2").describe_load_balancers()["LoadBalancers"] == []
