//! Tests of the EC2 operations.

mod security;

use plan::launch::{Launch, launch};
use serde_json::{Value as Json, json};
use state::group::{Phase, TaskSource};
use state::{ContainerGroup, GroupSpec, Scope};

use crate::testing::World;

fn world() -> World {
    World::new("ec2")
}

fn group(world: &mut World, name: &str) -> String {
    let made = world.ok("CreateSecurityGroup", json!({"GroupName": name, "Description": "for tests"}));
    made["GroupId"].as_str().unwrap().to_owned()
}

fn other_vpc(world: &mut World) -> String {
    let made = world.ok("CreateVpc", json!({"CidrBlock": "10.7.0.0/16"}));
    made["Vpc"]["VpcId"].as_str().unwrap().to_owned()
}

/// A task that holds an address of the first default subnet; its key.
fn task(world: &mut World, security_group: &str) -> String {
    let subnets = [world.subnets()[0].clone()];
    let source = TaskSource { security_groups: vec![security_group.to_owned()], ..Default::default() };
    world.write(|tx, ids, now_ms| {
        let request = Launch {
            scope: &Scope::new("000000000000", "us-east-1"),
            cluster: "default",
            source: source.into(),
            spec_id: "s".into(),
            spec: std::sync::Arc::new(GroupSpec::default()),
            subnets: &subnets,
            constraints: &[],
            strategy: &[],
            node: None,
        };
        launch(tx, ids, now_ms, request).unwrap()
    })
}

#[test]
fn the_default_vpc_is_there_as_in_a_new_account() {
    let mut world = world();
    let vpcs = world.ok("DescribeVpcs", json!({"Filters": [{"Name": "is-default", "Values": ["true"]}]}));
    assert_eq!(vpcs["Vpcs"][0]["CidrBlock"], "172.31.0.0/16");
    assert_eq!(vpcs["Vpcs"][0]["State"], "available");
    let vpc = world.vpc();
    let subnets = world.ok("DescribeSubnets", json!({"Filters": [{"Name": "vpc-id", "Values": [vpc]}]}));
    let mut zones: Vec<&str> = subnets["Subnets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["AvailabilityZone"].as_str().unwrap())
        .collect();
    zones.sort_unstable();
    assert_eq!(zones, ["us-east-1a", "us-east-1b", "us-east-1c"]);
    assert_eq!(subnets["Subnets"][0]["AvailableIpAddressCount"], 4091);
    let groups = world.ok("DescribeSecurityGroups", json!({"GroupNames": ["default"]}));
    let group = &groups["SecurityGroups"][0];
    assert_eq!(group["IpPermissions"][0]["UserIdGroupPairs"][0]["GroupId"], group["GroupId"]);
    assert_eq!(group["IpPermissionsEgress"][0]["IpRanges"], json!([{"CidrIp": "0.0.0.0/0"}]));
}

#[test]
fn a_vpc_with_its_subnets_is_made_and_deleted() {
    let mut world = world();
    let tags = json!([{"ResourceType": "vpc", "Tags": [{"Key": "Name", "Value": "mine"}]}]);
    // Bits behind the prefix are cleared.
    let made = world.ok("CreateVpc", json!({"CidrBlock": "10.0.3.4/16", "TagSpecifications": tags}));
    assert_eq!(made["Vpc"]["CidrBlock"], "10.0.0.0/16");
    assert_eq!(made["Vpc"]["Tags"], json!([{"Key": "Name", "Value": "mine"}]));
    let vpc = made["Vpc"]["VpcId"].as_str().unwrap().to_owned();
    let mut zones = Vec::new();
    for n in 0..3 {
        let cidr = format!("10.0.{n}.0/24");
        let subnet = world.ok("CreateSubnet", json!({"VpcId": vpc, "CidrBlock": cidr}));
        zones.push(subnet["Subnet"]["AvailabilityZone"].as_str().unwrap().to_owned());
        assert_eq!(subnet["Subnet"]["AvailableIpAddressCount"], 251);
    }
    assert_eq!(zones, ["us-east-1a", "us-east-1b", "us-east-1c"]);
    let by_id = json!({"VpcId": vpc, "CidrBlock": "10.0.9.0/24", "AvailabilityZoneId": "use1-az2"});
    assert_eq!(world.ok("CreateSubnet", by_id)["Subnet"]["AvailabilityZone"], "us-east-1b");
    let has = format!("DependencyViolation: The vpc '{vpc}' has dependencies and cannot be deleted.");
    assert_eq!(world.err("DeleteVpc", json!({"VpcId": vpc})), has);
    let all = world.ok("DescribeSubnets", json!({"Filters": [{"Name": "vpc-id", "Values": [vpc]}]}));
    for subnet in all["Subnets"].as_array().unwrap() {
        world.ok("DeleteSubnet", json!({"SubnetId": subnet["SubnetId"]}));
    }
    world.ok("DeleteVpc", json!({"VpcId": vpc}));
    assert_eq!(world.ok("DescribeSecurityGroups", json!({}))["SecurityGroups"].as_array().unwrap().len(), 1);
    let gone = format!("InvalidVpcID.NotFound: The vpc ID '{vpc}' does not exist");
    assert_eq!(world.err("DescribeVpcs", json!({"VpcIds": [vpc]})), gone);
}

#[test]
fn networks_that_will_not_do_are_refused() {
    let mut world = world();
    world.site.host_networks = vec![state::ec2::Cidr::parse("192.168.0.0/16").unwrap()];
    let vpc = other_vpc(&mut world);
    world.ok("CreateSubnet", json!({"VpcId": vpc, "CidrBlock": "10.7.0.0/24"}));
    let overlap = format!(
        "InvalidVpc.Range: The CIDR '10.7.128.0/17' is invalid: it overlaps the network 10.7.0.0/16 of VPC {vpc}, and \
         all VPCs of a machine share its routes."
    );
    let zones = "us-east-1a, us-east-1b, us-east-1c";
    let zone = format!(
        "InvalidParameterValue: Value (us-west-2a) for parameter availabilityZone is invalid. Subnets can currently \
         only be created in the following availability zones: {zones}."
    );
    world.refused(&[
        ("CreateVpc", json!({}), "MissingParameter: The request must contain the parameter cidrBlock"),
        (
            "CreateVpc",
            json!({"CidrBlock": "10.0.0.0"}),
            "InvalidParameterValue: Value (10.0.0.0) for parameter cidrBlock is invalid. This is not a valid CIDR block.",
        ),
        ("CreateVpc", json!({"CidrBlock": "10.0.0.0/8"}), "InvalidVpc.Range: The CIDR '10.0.0.0/8' is invalid."),
        ("CreateVpc", json!({"CidrBlock": "10.7.128.0/17"}), &overlap),
        (
            "CreateVpc",
            json!({"CidrBlock": "192.168.4.0/24"}),
            "InvalidVpc.Range: The CIDR '192.168.4.0/24' is invalid: it overlaps the network 192.168.0.0/16 of this \
             machine, whose routes all VPCs share.",
        ),
        (
            "CreateVpc",
            json!({"CidrBlock": "10.0.0.0/16", "InstanceTenancy": "dedicated"}),
            "UnsupportedOperation: The parameter InstanceTenancy is not supported.",
        ),
        (
            "CreateVpc",
            json!({"CidrBlock": "10.0.0.0/16", "AmazonProvidedIpv6CidrBlock": true}),
            "UnsupportedOperation: The parameter AmazonProvidedIpv6CidrBlock is not supported.",
        ),
        (
            "CreateSubnet",
            json!({"VpcId": vpc, "CidrBlock": "10.8.0.0/24"}),
            "InvalidSubnet.Range: The CIDR '10.8.0.0/24' is invalid.",
        ),
        (
            "CreateSubnet",
            json!({"VpcId": vpc, "CidrBlock": "10.7.0.128/25"}),
            "InvalidSubnet.Conflict: The CIDR '10.7.0.128/25' conflicts with another subnet",
        ),
        (
            "CreateSubnet",
            json!({"VpcId": vpc, "CidrBlock": "10.7.1.0/24", "AvailabilityZone": "us-west-2a"}),
            &zone,
        ),
        (
            "CreateSubnet",
            json!({"VpcId": "vpc-1", "CidrBlock": "10.7.1.0/24"}),
            "InvalidVpcID.NotFound: The vpc ID 'vpc-1' does not exist",
        ),
        (
            "DescribeSubnets",
            json!({"SubnetIds": ["subnet-1"]}),
            "InvalidSubnetID.NotFound: The subnet ID 'subnet-1' does not exist",
        ),
    ]);
}

#[test]
fn a_vpc_of_another_account_is_not_named() {
    let mut world = world();
    other_vpc(&mut world);
    world.caller.scope.account = "111111111111".into();
    let why = world.err("CreateVpc", json!({"CidrBlock": "10.7.0.0/16"}));
    assert!(why.contains("of a VPC of another account or region") && !why.contains("vpc-"), "{why}");
}

#[test]
fn filters_have_wildcards_and_unknown_ones_are_refused() {
    let mut world = world();
    for name in ["web-1", "web-2", "db"] {
        let id = group(&mut world, name);
        world.ok("CreateTags", json!({"Resources": [id], "Tags": [{"Key": "Name", "Value": name}]}));
    }
    let cases = [
        (json!([{"Name": "group-name", "Values": ["web-*"]}]), 2),
        (json!([{"Name": "group-name", "Values": ["web-?", "db"]}]), 3),
        (json!([{"Name": "tag:Name", "Values": ["web-1"]}]), 1),
        (json!([{"Name": "tag-key", "Values": ["Na*"]}]), 3),
        (json!([{"Name": "tag-key", "Values": ["Na*"]}, {"Name": "group-name", "Values": ["db"]}]), 1),
        (json!([{"Name": "egress.ip-permission.cidr", "Values": ["0.0.0.0/0"]}]), 4),
        (json!([{"Name": "ip-permission.cidr", "Values": ["0.0.0.0/0"]}]), 0),
    ];
    for (filters, expected) in cases {
        let seen = world.ok("DescribeSecurityGroups", json!({"Filters": filters}));
        assert_eq!(seen["SecurityGroups"].as_array().unwrap().len(), expected, "{filters}");
    }
    for operation in [
        "DescribeVpcs",
        "DescribeSubnets",
        "DescribeSecurityGroups",
        "DescribeSecurityGroupRules",
        "DescribeAvailabilityZones",
        "DescribeRegions",
        "DescribeNetworkInterfaces",
        "DescribeRouteTables",
        "DescribeInternetGateways",
        "DescribeNetworkAcls",
        "DescribeInstances",
        "DescribeTags",
    ] {
        assert_eq!(
            world.err(operation, json!({"Filters": [{"Name": "no-such", "Values": ["x"]}]})),
            "InvalidParameterValue: The filter 'no-such' is invalid",
            "{operation}"
        );
    }
}

#[test]
fn lists_come_in_pages() {
    let mut world = world();
    for n in 0..12 {
        group(&mut world, &format!("g{n}"));
    }
    let names = ["MaxResults", "NextToken", "NextToken", "SecurityGroups"];
    assert_eq!(world.pages("DescribeSecurityGroups", json!({}), names, 5).len(), 13);
    let id = world.ok("DescribeSecurityGroups", json!({}))["SecurityGroups"][0]["GroupId"].clone();
    world.refused(&[
        (
            "DescribeSecurityGroups",
            json!({"MaxResults": 4}),
            "InvalidParameterValue: Value ( 4 ) for parameter MaxResults is invalid. Expecting a value greater than or \
             equal to 5.",
        ),
        (
            "DescribeSecurityGroups",
            json!({"MaxResults": 5, "GroupIds": [id]}),
            "InvalidParameterCombination: The parameter groupIds cannot be used with the parameter maxResults",
        ),
        (
            "DescribeSecurityGroups",
            json!({"NextToken": "zz"}),
            "InvalidNextToken: The specified NextToken is not valid.",
        ),
    ]);
}

#[test]
fn a_dry_run_says_what_would_happen_and_does_nothing() {
    let mut world = world();
    let would = "DryRunOperation: Request would have succeeded, but DryRun flag is set.";
    let before = world.snapshot.security_groups.len();
    world.refused(&[
        ("CreateSecurityGroup", json!({"GroupName": "a", "Description": "d", "DryRun": true}), would),
        ("CreateVpc", json!({"CidrBlock": "10.7.0.0/16", "DryRun": true}), would),
        ("DescribeVpcs", json!({"DryRun": true}), would),
        (
            "DeleteVpc",
            json!({"VpcId": "vpc-1", "DryRun": true}),
            "InvalidVpcID.NotFound: The vpc ID 'vpc-1' does not exist",
        ),
    ]);
    assert_eq!((world.snapshot.security_groups.len(), world.snapshot.vpcs.len()), (before, 1));
    let fault = world.call_of("ec2", "DescribeVpcs", json!({"DryRun": true})).unwrap_err();
    assert_eq!(fault.http_status, Some(412));
}

#[test]
fn tags_are_put_replaced_listed_and_removed() {
    let mut world = world();
    let (vpc, id) = (world.vpc(), group(&mut world, "web"));
    let tags = json!([{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]);
    world.ok("CreateTags", json!({"Resources": [vpc, id], "Tags": tags}));
    world.ok("CreateTags", json!({"Resources": [id], "Tags": [{"Key": "a", "Value": "3"}]}));
    let seen = world
        .ok("DescribeTags", json!({"Filters": [{"Name": "resource-type", "Values": ["security-group"]}]}));
    assert_eq!(
        seen["Tags"],
        json!([
            {"Key": "a", "ResourceId": id, "ResourceType": "security-group", "Value": "3"},
            {"Key": "b", "ResourceId": id, "ResourceType": "security-group", "Value": "2"},
        ])
    );
    let by_tag = json!({"Filters": [{"Name": "tag:a", "Values": ["1"]}]});
    assert_eq!(world.ok("DescribeTags", by_tag)["Tags"][0]["ResourceId"], vpc);
    // A value that is not the tag's keeps the tag; no value takes any; no tags takes all.
    let delete = |tags: Json| json!({"Resources": [id], "Tags": tags});
    world.ok("DeleteTags", delete(json!([{"Key": "a", "Value": "1"}])));
    assert_eq!(world.ok("DescribeTags", json!({}))["Tags"].as_array().unwrap().len(), 4);
    world.ok("DeleteTags", delete(json!([{"Key": "a"}])));
    assert_eq!(world.ok("DescribeTags", json!({}))["Tags"].as_array().unwrap().len(), 3);
    world.ok("DeleteTags", json!({"Resources": [vpc]}));
    assert_eq!(world.ok("DescribeTags", json!({}))["Tags"].as_array().unwrap().len(), 1);
    let many: Vec<Json> = (0..50).map(|n| json!({"Key": format!("k{n}"), "Value": ""})).collect();
    let wrong = json!([{"ResourceType": "subnet", "Tags": [{"Key": "a", "Value": ""}]}]);
    world.refused(&[
        (
            "CreateTags",
            json!({"Resources": [id], "Tags": many}),
            "TagLimitExceeded: The maximum number of Tags for a resource has been reached.",
        ),
        (
            "CreateTags",
            json!({"Resources": [id], "Tags": [{"Key": "aws:x", "Value": ""}]}),
            "InvalidParameterValue: Value ( aws:x ) for parameter key is invalid. Tag keys starting with 'aws:' are \
             reserved for internal use",
        ),
        (
            "CreateTags",
            json!({"Resources": ["nothing"], "Tags": [{"Key": "a", "Value": ""}]}),
            "InvalidID: The ID 'nothing' is not valid",
        ),
        (
            "CreateSecurityGroup",
            json!({"GroupName": "b", "Description": "d", "TagSpecifications": wrong}),
            "InvalidParameterValue: The tag specification resource type 'subnet' is not valid for this request: use \
             'security-group'",
        ),
    ]);
}

#[test]
fn attributes_are_kept_and_those_without_effect_refused() {
    let mut world = world();
    let vpc = other_vpc(&mut world);
    let read = |world: &mut World, attribute: &str| {
        world.ok("DescribeVpcAttribute", json!({"VpcId": vpc, "Attribute": attribute}))
    };
    assert_eq!(read(&mut world, "enableDnsSupport")["EnableDnsSupport"]["Value"], true);
    assert_eq!(read(&mut world, "enableDnsHostnames")["EnableDnsHostnames"]["Value"], false);
    world.ok("ModifyVpcAttribute", json!({"VpcId": vpc, "EnableDnsHostnames": {"Value": true}}));
    assert_eq!(read(&mut world, "enableDnsHostnames")["EnableDnsHostnames"]["Value"], true);
    let subnet = world.subnets()[0].clone();
    world.ok("ModifySubnetAttribute", json!({"SubnetId": subnet, "MapPublicIpOnLaunch": {"Value": false}}));
    let seen = world.ok("DescribeSubnets", json!({"SubnetIds": [subnet]}));
    assert_eq!(seen["Subnets"][0]["MapPublicIpOnLaunch"], false);
    let on = json!({"Value": true});
    world.refused(&[
        (
            "ModifyVpcAttribute",
            json!({"VpcId": vpc, "EnableDnsHostnames": on, "EnableDnsSupport": on}),
            "InvalidParameterCombination: Fields for multiple attribute types specified",
        ),
        (
            "ModifyVpcAttribute",
            json!({"VpcId": vpc, "EnableDnsSupport": {"Value": false}}),
            "UnsupportedOperation: The parameter EnableDnsSupport=false is not supported.",
        ),
        (
            "ModifySubnetAttribute",
            json!({"SubnetId": subnet, "EnableDns64": on}),
            "UnsupportedOperation: The parameter EnableDns64 is not supported.",
        ),
    ]);
}

#[test]
fn what_there_is_one_of_per_vpc_is_shown() {
    let mut world = world();
    let (default, other) = (world.vpc(), other_vpc(&mut world));
    let of = |vpc: &str| json!({"Filters": [{"Name": "vpc-id", "Values": [vpc]}]});
    let main = world.ok("DescribeRouteTables", of(&default));
    let routes = main["RouteTables"][0]["Routes"].as_array().unwrap().clone();
    assert_eq!(routes[0]["GatewayId"], "local");
    let gateways = world.ok("DescribeInternetGateways", json!({}));
    assert_eq!(gateways["InternetGateways"].as_array().unwrap().len(), 1);
    assert_eq!(routes[1]["GatewayId"], gateways["InternetGateways"][0]["InternetGatewayId"]);
    let main = world.ok(
        "DescribeRouteTables",
        json!({"Filters": [{"Name": "association.main", "Values": ["true"]}, {"Name": "vpc-id", "Values": [other]}]}),
    );
    assert_eq!(main["RouteTables"][0]["Routes"].as_array().unwrap().len(), 1);
    let acls = world.ok("DescribeNetworkAcls", of(&default));
    assert_eq!(acls["NetworkAcls"][0]["Associations"].as_array().unwrap().len(), 3);
    assert_eq!(acls["NetworkAcls"][0]["Entries"].as_array().unwrap().len(), 4);
    let nodes = world.ok("DescribeInstances", json!({"InstanceIds": ["i-0123456789abcdef0"]}));
    assert_eq!(nodes["Reservations"][0]["Instances"][0]["State"], json!({"Code": 16, "Name": "running"}));
    assert_eq!(
        world.err("DescribeInstances", json!({"InstanceIds": ["i-1"]})),
        "InvalidInstanceID.NotFound: The instance ID 'i-1' does not exist"
    );
    let account = world.ok("DescribeAccountAttributes", json!({"AttributeNames": ["default-vpc"]}));
    assert_eq!(account["AccountAttributes"][0]["AttributeValues"][0]["AttributeValue"], default);
}

#[test]
fn addresses_held_are_network_interfaces() {
    let mut world = world();
    let web = group(&mut world, "web");
    let key = task(&mut world, &web);
    let subnets = world.subnets();
    world.ok_of("elbv2", "CreateLoadBalancer", json!({"Name": "front", "Subnets": [subnets[1], subnets[2]]}));
    let all = world.ok("DescribeNetworkInterfaces", json!({}));
    assert_eq!(all["NetworkInterfaces"].as_array().unwrap().len(), 2);
    let of_web = json!({"Filters": [{"Name": "group-id", "Values": [web]}]});
    let seen = world.ok("DescribeNetworkInterfaces", of_web.clone());
    let seen = seen["NetworkInterfaces"][0].clone();
    let group = world.snapshot.groups.get(&key).unwrap().clone();
    assert_eq!(seen["NetworkInterfaceId"], group.attachment().unwrap().eni_id);
    assert_eq!(seen["Groups"], json!([{"GroupId": web, "GroupName": "web"}]));
    assert!(
        seen["Description"].as_str().unwrap().starts_with("arn:aws:ecs:us-east-1:000000000000:attachment/")
    );
    let of_elb = json!({"Filters": [{"Name": "description", "Values": ["ELB app/front/*"]}]});
    let seen = world.ok("DescribeNetworkInterfaces", of_elb);
    assert_eq!(seen["NetworkInterfaces"][0]["RequesterId"], "amazon-elb");
    world.write(|tx, _, _| tx.update::<ContainerGroup>(&key, |group| group.observed.phase = Phase::Gone));
    world.write(|tx, _, _| tx.delete::<state::node::Ledger>("0123456789abcdef0123456789abcdef"));
    assert_eq!(world.ok("DescribeNetworkInterfaces", of_web)["NetworkInterfaces"], json!([]));
}

#[test]
fn zones_and_regions() {
    let mut world = world();
    let zones = world.ok("DescribeAvailabilityZones", json!({"ZoneIds": ["use1-az3"]}));
    assert_eq!(zones["AvailabilityZones"][0]["ZoneName"], "us-east-1c");
    assert_eq!(
        world.err("DescribeAvailabilityZones", json!({"ZoneNames": ["us-east-1z"]})),
        "InvalidParameterValue: Invalid availability zone: [us-east-1z]"
    );
    let regions = world.ok("DescribeRegions", json!({"RegionNames": ["eu-west-1"]}));
    assert_eq!(
        regions["Regions"],
        json!([{"OptInStatus": "opt-in-not-required", "RegionName": "eu-west-1", "Endpoint": "localhost:4566"}])
    );
}
