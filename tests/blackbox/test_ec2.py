"""EC2, the parts that tasks and load balancers stand on: the default network and security groups."""

import ipaddress

import botocore.exceptions
import pytest

from raw import action


@pytest.fixture(scope="module")
def ec2(roadstead):
    return roadstead.client("ec2")


@pytest.fixture(scope="module")
def vpc(ec2):
    return ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]


def code(refused):
    return refused.value.response["Error"]["Code"]


def test_every_account_and_region_has_a_default_network(roadstead, ec2, vpc):
    found = roadstead.cli("ec2", "describe-vpcs")["Vpcs"]
    assert [(each["VpcId"], each["CidrBlock"], each["IsDefault"], each["State"]) for each in found] == [
        (vpc, "172.31.0.0/16", True, "available")]
    subnets = ec2.describe_subnets()["Subnets"]
    assert len(subnets) >= 2 and len({each["AvailabilityZone"] for each in subnets}) == len(subnets)
    networks = [ipaddress.ip_network(each["CidrBlock"]) for each in subnets]
    assert all(network.subnet_of(ipaddress.ip_network("172.31.0.0/16")) for network in networks)
    assert not any(a.overlaps(b) for a in networks for b in networks if a is not b)
    assert all(each["DefaultForAz"] and each["VpcId"] == vpc for each in subnets)
    assert {each["AvailabilityZone"] for each in subnets} <= {
        zone["ZoneName"] for zone in ec2.describe_availability_zones()["AvailabilityZones"]}
    groups = ec2.describe_security_groups()["SecurityGroups"]
    assert [(each["GroupName"], each["Description"]) for each in groups] == [("default", "default VPC security group")]
    for other in (roadstead.client("ec2", key="111122223333"), roadstead.client("ec2", region="eu-west-1")):
        theirs = other.describe_vpcs()["Vpcs"]
        assert len(theirs) == 1 and theirs[0]["IsDefault"] and theirs[0]["VpcId"] != vpc
        # Two networks of one machine cannot have the same addresses.
        mine, other_network = ipaddress.ip_network("172.31.0.0/16"), ipaddress.ip_network(theirs[0]["CidrBlock"])
        assert mine == other_network or not mine.overlaps(other_network)


def test_the_default_network_stays_after_a_restart(roadstead, ec2, vpc):
    subnets = sorted(each["SubnetId"] for each in ec2.describe_subnets()["Subnets"])
    roadstead.kill()
    roadstead.start()
    assert ec2.describe_vpcs()["Vpcs"][0]["VpcId"] == vpc
    assert sorted(each["SubnetId"] for each in ec2.describe_subnets()["Subnets"]) == subnets


def test_filters_choose_and_unknown_ones_are_refused(ec2, vpc):
    one = ec2.describe_subnets()["Subnets"][0]
    for name, value in (("subnet-id", one["SubnetId"]), ("availability-zone", one["AvailabilityZone"]), ("cidr-block", one["CidrBlock"])):
        found = ec2.describe_subnets(Filters=[{"Name": name, "Values": [value]}])["Subnets"]
        assert [each["SubnetId"] for each in found] == [one["SubnetId"]], name
    assert ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": ["vpc-none"]}])["Subnets"] == []
    assert len(ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [f"{vpc[:8]}*"]}])["Subnets"]) >= 2
    with pytest.raises(botocore.exceptions.ClientError, match="The filter 'bogus' is invalid") as refused:
        ec2.describe_subnets(Filters=[{"Name": "bogus", "Values": ["x"]}])
    assert code(refused) == "InvalidParameterValue"
    with pytest.raises(botocore.exceptions.ClientError, match="The subnet ID 'subnet-0123456789abcdef0' does not exist") as refused:
        ec2.describe_subnets(SubnetIds=["subnet-0123456789abcdef0"])
    assert code(refused) == "InvalidSubnetID.NotFound"
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        ec2.describe_vpcs(VpcIds=["vpc-0123456789abcdef0"])
    assert code(refused) == "InvalidVpcID.NotFound"


TCP_80 = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "10.0.0.0/8", "Description": "inside"}]}


def test_a_security_group_from_beginning_to_end(roadstead, ec2, vpc):
    made = roadstead.cli("ec2", "create-security-group", "--group-name", "web", "--description", "web", "--vpc-id", vpc)
    group = made["GroupId"]
    assert group.startswith("sg-")
    with pytest.raises(botocore.exceptions.ClientError, match=f"The security group 'web' already exists for VPC '{vpc}'") as refused:
        ec2.create_security_group(GroupName="web", Description="again", VpcId=vpc)
    assert code(refused) == "InvalidGroup.Duplicate"
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[TCP_80])
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[TCP_80])
    assert code(refused) == "InvalidPermission.Duplicate"
    assert 'the specified rule "peer: 10.0.0.0/8, TCP, from port: 80, to port: 80, ALLOW" already exists' in str(refused.value)
    other = ec2.create_security_group(GroupName="db", Description="db", VpcId=vpc)["GroupId"]
    ec2.authorize_security_group_ingress(GroupId=other, IpPermissions=[
        {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "UserIdGroupPairs": [{"GroupId": group}]}])
    seen = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]
    assert seen["IpPermissions"][0]["IpRanges"] == TCP_80["IpRanges"]
    assert [each["IpProtocol"] for each in seen["IpPermissionsEgress"]] == ["-1"]
    seen = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["db"]}])["SecurityGroups"][0]
    assert seen["IpPermissions"][0]["UserIdGroupPairs"][0]["GroupId"] == group
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        ec2.delete_security_group(GroupId=group)
    assert code(refused) == "DependencyViolation"
    ec2.delete_security_group(GroupId=other)
    ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[TCP_80])
    assert ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissions"] == []
    ec2.delete_security_group(GroupId=group)
    with pytest.raises(botocore.exceptions.ClientError, match=f"The security group '{group}' does not exist") as refused:
        ec2.describe_security_groups(GroupIds=[group])
    assert code(refused) == "InvalidGroup.NotFound"


@pytest.mark.parametrize("permission", [
    {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "10.0.0.0/33"}]},
    {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 70, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]},
    {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 70_000, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]},
    {"IpProtocol": "bogus", "FromPort": 80, "ToPort": 80, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]},
])
def test_rules_that_mean_nothing_are_refused(ec2, vpc, permission):
    group = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["default"]}])["SecurityGroups"][0]["GroupId"]
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[permission])
    assert code(refused) in ("InvalidParameterValue", "InvalidPermission.Malformed"), refused.value


def test_the_default_group_cannot_be_deleted(ec2, vpc):
    group = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["default"]}])["SecurityGroups"][0]["GroupId"]
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        ec2.delete_security_group(GroupId=group)
    assert code(refused) == "CannotDelete"


def test_tags(ec2, vpc):
    ec2.create_tags(Resources=[vpc], Tags=[{"Key": "Name", "Value": "home"}])
    assert ec2.describe_vpcs(Filters=[{"Name": "tag:Name", "Values": ["home"]}])["Vpcs"][0]["Tags"] == [{"Key": "Name", "Value": "home"}]
    tags = ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [vpc]}])["Tags"]
    assert tags == [{"Key": "Name", "ResourceId": vpc, "ResourceType": "vpc", "Value": "home"}]
    ec2.delete_tags(Resources=[vpc], Tags=[{"Key": "Name"}])
    assert ec2.describe_vpcs()["Vpcs"][0]["Tags"] == []


def test_missing_parameters_and_operations_are_named(ec2):
    answer = action(4566, "ec2", "2016-11-15", "CreateSecurityGroup", "&GroupName=x")
    assert (answer.status, answer.code) == (400, "MissingParameter")
    assert answer.message == "The request must contain the parameter GroupDescription"
    with pytest.raises(botocore.exceptions.ClientError, match="The action RunInstances is not valid for this web service") as refused:
        ec2.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1)
    assert code(refused) == "InvalidAction"
