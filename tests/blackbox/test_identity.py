"""STS and IAM: who calls, roles and what is stored of them, temporary credentials that really sign."""

import datetime
import json

import boto3
import botocore.exceptions
import pytest

from raw import action

TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "logs:*", "Resource": "*"}]}


@pytest.fixture(scope="module")
def iam(roadstead):
    return roadstead.client("iam")


@pytest.fixture(scope="module")
def sts(roadstead):
    return roadstead.client("sts")


def code(refused):
    return refused.value.response["Error"]["Code"]


def role(iam, name, **options):
    return iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST), **options)["Role"]


def test_the_caller_is_told_who_he_is(roadstead, sts):
    assert roadstead.cli("sts", "get-caller-identity") == {
        "UserId": "000000000000", "Account": "000000000000", "Arn": "arn:aws:iam::000000000000:root"}
    other = roadstead.client("sts", key="123456789012").get_caller_identity()
    assert other["Arn"] == "arn:aws:iam::123456789012:root"


def assumed(roadstead, credentials, service="sts"):
    return boto3.client(
        service, endpoint_url=roadstead.endpoint, region_name="us-east-1", aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"], aws_session_token=credentials["SessionToken"])


def test_the_credentials_of_a_role_sign(roadstead, iam, sts):
    made = role(iam, "signer")
    answer = sts.assume_role(RoleArn=made["Arn"], RoleSessionName="session-1", DurationSeconds=900)
    credentials = answer["Credentials"]
    assert credentials["AccessKeyId"].startswith("ASIA")
    left_s = (credentials["Expiration"] - datetime.datetime.now(datetime.timezone.utc)).total_seconds()
    assert 880 < left_s <= 901
    user = answer["AssumedRoleUser"]
    assert user["Arn"] == "arn:aws:sts::000000000000:assumed-role/signer/session-1"
    assert user["AssumedRoleId"] == f"{made['RoleId']}:session-1"
    me = assumed(roadstead, credentials).get_caller_identity()
    assert (me["Arn"], me["UserId"], me["Account"]) == (user["Arn"], user["AssumedRoleId"], "000000000000")
    assert assumed(roadstead, credentials, "ecs").list_clusters()["clusterArns"]
    # After a restart they are still good: nothing of them is kept in memory.
    roadstead.kill()
    roadstead.start()
    assert assumed(roadstead, credentials).get_caller_identity()["Arn"] == user["Arn"]


@pytest.mark.parametrize("spoil", [
    {"SessionToken": "forged"}, {"SessionToken": None}, {"SecretAccessKey": "wrong"}, {"AccessKeyId": "ASIAIOSFODNN7EXAMPLE"},
])
def test_spoiled_credentials_are_refused(roadstead, sts, spoil):
    credentials = {**sts.get_session_token()["Credentials"], **spoil}
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        assumed(roadstead, credentials).get_caller_identity()
    assert code(refused) == ("SignatureDoesNotMatch" if "SecretAccessKey" in spoil else "InvalidClientTokenId")


def test_sessions_last_no_longer_than_the_role_allows(sts, iam):
    made = role(iam, "brief")
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        sts.assume_role(RoleArn=made["Arn"], RoleSessionName="session", DurationSeconds=7200)
    assert code(refused) == "ValidationError" and "MaxSessionDuration" in str(refused.value)
    role(iam, "longer", MaxSessionDuration=7200)
    sts.assume_role(RoleArn=made["Arn"].replace("brief", "longer"), RoleSessionName="session", DurationSeconds=7200)


def test_a_role_that_is_not_there_cannot_be_assumed(sts):
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        sts.assume_role(RoleArn="arn:aws:iam::000000000000:role/none", RoleSessionName="session")
    assert code(refused) == "AccessDenied"
    assert "is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::000000000000:role/none" in str(refused.value)


def test_session_names_are_checked(sts):
    body = "&RoleArn=arn%3Aaws%3Aiam%3A%3A000000000000%3Arole%2Fx&RoleSessionName=a"
    answer = action(4566, "sts", "2011-06-15", "AssumeRole", body)
    assert (answer.status, answer.code) == (400, "ValidationError")
    assert "at 'roleSessionName' failed to satisfy constraint: Member must have length greater than or equal to 2" in answer.message


def test_roles_are_kept_as_given(iam, roadstead):
    made = role(iam, "kept", Path="/service/", Description="d", MaxSessionDuration=7200, Tags=[{"Key": "a", "Value": "b"}])
    assert made["Arn"] == "arn:aws:iam::000000000000:role/service/kept" and made["RoleId"].startswith("AROA")
    got = iam.get_role(RoleName="kept")["Role"]
    assert got["AssumeRolePolicyDocument"] == TRUST
    assert (got["Description"], got["MaxSessionDuration"], got["Tags"]) == ("d", 7200, [{"Key": "a", "Value": "b"}])
    with pytest.raises(iam.exceptions.EntityAlreadyExistsException, match="Role with name kept already exists."):
        role(iam, "kept")
    with pytest.raises(iam.exceptions.NoSuchEntityException, match="The role with name none cannot be found."):
        iam.get_role(RoleName="none")
    with pytest.raises(iam.exceptions.MalformedPolicyDocumentException):
        iam.create_role(RoleName="bad", AssumeRolePolicyDocument="{not json")
    iam.put_role_policy(RoleName="kept", PolicyName="inline", PolicyDocument=json.dumps(POLICY))
    assert iam.get_role_policy(RoleName="kept", PolicyName="inline")["PolicyDocument"] == POLICY
    assert iam.list_role_policies(RoleName="kept")["PolicyNames"] == ["inline"]
    with pytest.raises(iam.exceptions.DeleteConflictException):
        iam.delete_role(RoleName="kept")
    iam.delete_role_policy(RoleName="kept", PolicyName="inline")
    iam.delete_role(RoleName="kept")
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.get_role(RoleName="kept")


def test_policies_are_attached_and_detached(iam):
    role(iam, "attached")
    arn = iam.create_policy(PolicyName="p", PolicyDocument=json.dumps(POLICY))["Policy"]["Arn"]
    assert arn == "arn:aws:iam::000000000000:policy/p"
    execution = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
    for each in (arn, execution):
        iam.attach_role_policy(RoleName="attached", PolicyArn=each)
    attached = iam.list_attached_role_policies(RoleName="attached")["AttachedPolicies"]
    assert {each["PolicyArn"] for each in attached} == {arn, execution}
    with pytest.raises(iam.exceptions.DeleteConflictException):
        iam.delete_policy(PolicyArn=arn)
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.attach_role_policy(RoleName="attached", PolicyArn="arn:aws:iam::000000000000:policy/none")
    iam.detach_role_policy(RoleName="attached", PolicyArn=arn)
    iam.delete_policy(PolicyArn=arn)


def test_lists_come_in_pages(iam):
    names = [f"page-{number}" for number in range(5)]
    for name in names:
        role(iam, name, Path="/pages/")
    pages = list(iam.get_paginator("list_roles").paginate(PathPrefix="/pages/", PaginationConfig={"PageSize": 2}))
    assert [len(page["Roles"]) for page in pages] == [2, 2, 1]
    assert [each["RoleName"] for page in pages for each in page["Roles"]] == names


def test_accounts_have_their_own(roadstead, iam):
    role(iam, "own")
    other = roadstead.client("iam", key="222222222222")
    assert other.list_roles()["Roles"] == []
    with pytest.raises(other.exceptions.NoSuchEntityException):
        other.get_role(RoleName="own")
    # A role is of an account, not of a region.
    assert roadstead.client("iam", region="eu-west-1").get_role(RoleName="own")["Role"]["RoleName"] == "own"
