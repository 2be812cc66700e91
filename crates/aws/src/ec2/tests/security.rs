//! Tests of security groups and their rules.

use serde_json::{Value as Json, json};

use super::{group, other_vpc, task, world};

#[test]
fn security_groups_are_made_found_and_deleted() {
    let mut world = world();
    let id = group(&mut world, "web");
    let vpc = world.vpc();
    let seen = world.ok("DescribeSecurityGroups", json!({"GroupIds": [id]}));
    let seen = &seen["SecurityGroups"][0];
    assert_eq!((&seen["GroupName"], &seen["VpcId"]), (&json!("web"), &json!(vpc)));
    assert_eq!(seen["IpPermissions"], json!([]));
    assert_eq!(seen["IpPermissionsEgress"][0]["IpProtocol"], "-1");
    let twice = format!("InvalidGroup.Duplicate: The security group 'web' already exists for VPC '{vpc}'");
    let absent =
        format!("InvalidGroup.NotFound: The security group 'none' does not exist in default VPC '{vpc}'");
    let default = world.ok("DescribeSecurityGroups", json!({"GroupNames": ["default"]}));
    let default = default["SecurityGroups"][0]["GroupId"].as_str().unwrap().to_owned();
    let kept = format!(
        "CannotDelete: the specified group: \"{default}\" name: \"default\" cannot be deleted by a user"
    );
    world.refused(&[
        ("CreateSecurityGroup", json!({"GroupName": "web", "Description": "d"}), &twice),
        (
            "CreateSecurityGroup",
            json!({"GroupName": "x"}),
            "MissingParameter: The request must contain the parameter GroupDescription",
        ),
        (
            "CreateSecurityGroup",
            json!({"GroupName": "default", "Description": "d", "VpcId": vpc}),
            "InvalidParameterValue: Cannot use reserved security group name: default",
        ),
        (
            "CreateSecurityGroup",
            json!({"GroupName": "sg-1", "Description": "d"}),
            "InvalidParameterValue: Invalid group name. Group names may not be in the format sg-*",
        ),
        (
            "CreateSecurityGroup",
            json!({"GroupName": "ü", "Description": "d"}),
            "InvalidParameterValue: Value (ü) for parameter GroupName is invalid. Character sets beyond ASCII are not \
             supported.",
        ),
        (
            "DescribeSecurityGroups",
            json!({"GroupIds": ["web"]}),
            "InvalidGroupId.Malformed: Invalid id: \"web\" (expecting \"sg-...\")",
        ),
        (
            "DescribeSecurityGroups",
            json!({"GroupIds": ["sg-1"]}),
            "InvalidGroup.NotFound: The security group 'sg-1' does not exist",
        ),
        ("DescribeSecurityGroups", json!({"GroupNames": ["none"]}), &absent),
        ("DeleteSecurityGroup", json!({"GroupId": default}), &kept),
        (
            "DeleteSecurityGroup",
            json!({}),
            "MissingParameter: The request must contain the parameter GroupName or GroupId",
        ),
    ]);
    assert_eq!(
        world.ok("DeleteSecurityGroup", json!({"GroupName": "web"})),
        json!({"Return": true, "GroupId": id})
    );
}

#[test]
fn what_is_used_is_not_deleted() {
    let mut world = world();
    let (web, db, lb) = (group(&mut world, "web"), group(&mut world, "db"), group(&mut world, "lb"));
    let from_web =
        json!([{"IpProtocol": "tcp", "FromPort": 1, "ToPort": 2, "UserIdGroupPairs": [{"GroupId": web}]}]);
    world.ok("AuthorizeSecurityGroupIngress", json!({"GroupId": db, "IpPermissions": from_web}));
    task(&mut world, &db);
    let subnets = world.subnets();
    let two = json!({"Name": "a", "Subnets": [subnets[1], subnets[2]], "SecurityGroups": [lb]});
    world.ok_of("elbv2", "CreateLoadBalancer", two);
    for id in [&web, &db, &lb] {
        let used = format!("DependencyViolation: resource {id} has a dependent object");
        assert_eq!(world.err("DeleteSecurityGroup", json!({"GroupId": id})), used);
    }
    for id in &subnets {
        let used = format!("DependencyViolation: The subnet '{id}' has dependencies and cannot be deleted.");
        assert_eq!(world.err("DeleteSubnet", json!({"SubnetId": id})), used);
    }
    let free = world.ok("DescribeSubnets", json!({"SubnetIds": [subnets[0]]}));
    assert_eq!(free["Subnets"][0]["AvailableIpAddressCount"], 4090);
}

#[test]
fn rules_are_authorized_shown_and_revoked() {
    let mut world = world();
    let id = group(&mut world, "web");
    let permissions = json!([
        {"IpProtocol": "6", "FromPort": 80, "ToPort": 80,
         "IpRanges": [{"CidrIp": "10.0.0.9/8", "Description": "inside"}, {"CidrIp": "0.0.0.0/0"}],
         "Ipv6Ranges": [{"CidrIpv6": "2001:DB8::1/32"}]},
        {"IpProtocol": "icmp", "FromPort": 8, "ToPort": -1, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]},
        {"IpProtocol": "all", "UserIdGroupPairs": [{"GroupName": "default"}]},
    ]);
    let tags = json!([{"ResourceType": "security-group-rule", "Tags": [{"Key": "k", "Value": "v"}]}]);
    let made = world.ok(
        "AuthorizeSecurityGroupIngress",
        json!({"GroupId": id, "IpPermissions": permissions, "TagSpecifications": tags}),
    );
    assert_eq!(made["Return"], true);
    let rules = made["SecurityGroupRules"].as_array().unwrap();
    assert_eq!(rules.len(), 5);
    assert_eq!(rules[0]["CidrIpv4"], "10.0.0.0/8");
    assert_eq!(rules[2]["CidrIpv6"], "2001:db8::/32");
    assert_eq!((&rules[4]["FromPort"], &rules[4]["IpProtocol"]), (&json!(-1), &json!("-1")));
    let seen = world.ok("DescribeSecurityGroups", json!({"GroupIds": [id]}));
    let shown = seen["SecurityGroups"][0]["IpPermissions"].as_array().unwrap().clone();
    assert_eq!(shown.len(), 3);
    assert_eq!(
        shown[0]["IpRanges"],
        json!([{"CidrIp": "10.0.0.0/8", "Description": "inside"}, {"CidrIp": "0.0.0.0/0"}])
    );
    assert!(shown[2].get("FromPort").is_none());
    // What is shown can be given back: Terraform and the CLI do so.
    world.ok("RevokeSecurityGroupIngress", json!({"GroupId": id, "IpPermissions": [shown[0]]}));
    let all = json!({"Filters": [{"Name": "group-id", "Values": [id]}, {"Name": "tag:k", "Values": ["v"]}]});
    let left = world.ok("DescribeSecurityGroupRules", all);
    let left = left["SecurityGroupRules"].as_array().unwrap();
    assert_eq!(left.len(), 2);
    let gone = world.ok(
        "RevokeSecurityGroupIngress",
        json!({"GroupId": id, "SecurityGroupRuleIds": [left[0]["SecurityGroupRuleId"]]}),
    );
    assert_eq!(gone["RevokedSecurityGroupRules"].as_array().unwrap().len(), 1);
    // The first spelling of the API.
    let flat = json!({"GroupName": "web", "IpProtocol": "udp", "FromPort": 53, "ToPort": 53, "CidrIp": "10.1.0.0/16"});
    world.ok("AuthorizeSecurityGroupIngress", flat.clone());
    assert_eq!(
        world.err("AuthorizeSecurityGroupIngress", flat.clone()),
        "InvalidPermission.Duplicate: the specified rule \"peer: 10.1.0.0/16, UDP, from port: 53, to port: 53, ALLOW\" \
         already exists"
    );
    world.ok("RevokeSecurityGroupIngress", flat);
}

#[test]
fn revoking_what_is_not_there_is_an_error_outside_the_default_vpc() {
    let mut world = world();
    let web = group(&mut world, "web");
    let one =
        json!([{"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}]);
    let told = world.ok("RevokeSecurityGroupEgress", json!({"GroupId": web, "IpPermissions": one}));
    assert_eq!(told["UnknownIpPermissions"][0]["IpRanges"], json!([{"CidrIp": "10.0.0.0/8"}]));
    let vpc = other_vpc(&mut world);
    let made = json!({"GroupName": "web", "Description": "d", "VpcId": vpc});
    let other = world.ok("CreateSecurityGroup", made)["GroupId"].clone();
    assert_eq!(
        world.err("RevokeSecurityGroupEgress", json!({"GroupId": other, "IpPermissions": one})),
        "InvalidPermission.NotFound: The specified rule does not exist in this security group."
    );
    // Terraform removes the rule that every group starts with.
    let everything = json!([{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]);
    world.ok("RevokeSecurityGroupEgress", json!({"GroupId": other, "IpPermissions": everything}));
    let seen = world.ok("DescribeSecurityGroups", json!({"GroupIds": [other]}));
    assert_eq!(seen["SecurityGroups"][0]["IpPermissionsEgress"], json!([]));
    let foreign = json!([{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": web}]}]);
    assert_eq!(
        world.err("AuthorizeSecurityGroupIngress", json!({"GroupId": other, "IpPermissions": foreign})),
        "InvalidGroup.NotFound: You have specified two resources that belong to different networks."
    );
}

#[test]
fn permissions_that_will_not_do_are_refused() {
    let mut world = world();
    let id = group(&mut world, "web");
    let any = json!([{"CidrIp": "0.0.0.0/0"}]);
    let cases = [
        (
            json!({"IpProtocol": "tcp", "FromPort": 80, "IpRanges": any}),
            "InvalidParameterValue: Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange.",
        ),
        (
            json!({"IpProtocol": "tcp", "FromPort": 443, "ToPort": 80, "IpRanges": any}),
            "InvalidParameterValue: Invalid TCP/UDP port range (443:80)",
        ),
        (
            json!({"IpProtocol": "tcp", "FromPort": 0, "ToPort": 70000, "IpRanges": any}),
            "InvalidParameterValue: TCP/UDP port (70000) out of range",
        ),
        (
            json!({"IpProtocol": "sctpp", "IpRanges": any}),
            "InvalidParameterValue: Invalid value 'sctpp' for IP protocol. Unknown protocol.",
        ),
        (
            json!({"IpProtocol": "-1", "IpRanges": [{"CidrIp": "10.0.0.0/33"}]}),
            "InvalidParameterValue: CIDR block 10.0.0.0/33 is malformed",
        ),
        (
            json!({"IpProtocol": "-1"}),
            "MissingParameter: Missing source specification: include source security group or CIDR information",
        ),
        (
            json!({"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": "sg-1"}]}),
            "InvalidGroup.NotFound: The security group 'sg-1' does not exist",
        ),
        (
            json!({"IpProtocol": "-1", "PrefixListIds": [{"PrefixListId": "pl-1"}]}),
            "UnsupportedOperation: The parameter PrefixListIds is not supported.",
        ),
        (
            json!({"IpProtocol": "-1", "IpRanges": [{"CidrIp": "10.0.0.0/8"}, {"CidrIp": "10.1.0.0/8"}]}),
            "InvalidParameterValue: The same permission must not appear multiple times",
        ),
        (
            json!({"IpProtocol": "icmp", "FromPort": -1, "ToPort": 3, "IpRanges": any}),
            "InvalidParameterValue: ICMP code (3) out of range",
        ),
    ];
    for (permission, expected) in cases {
        let input = json!({"GroupId": id, "IpPermissions": [permission]});
        assert_eq!(world.err("AuthorizeSecurityGroupIngress", input.clone()), expected, "{input}");
    }
    let both =
        json!({"GroupId": id, "IpProtocol": "tcp", "IpPermissions": [{"IpProtocol": "-1", "IpRanges": any}]});
    world.refused(&[
        (
            "AuthorizeSecurityGroupEgress",
            both,
            "InvalidParameterCombination: The parameter 'ipPermissions' may not be used in combination with 'ipProtocol'",
        ),
        (
            "RevokeSecurityGroupIngress",
            json!({"GroupId": id}),
            "MissingParameter: Either 'ipPermissions' or 'securityGroupRuleIds' should be provided.",
        ),
        (
            "RevokeSecurityGroupIngress",
            json!({"GroupId": id, "SecurityGroupRuleIds": ["sgr-1"]}),
            "InvalidSecurityGroupRuleId.NotFound: The security group rule ID 'sgr-1' does not exist",
        ),
    ]);
    let many: Vec<Json> = (0..61).map(|n| json!({"CidrIp": format!("10.0.{n}.0/24")})).collect();
    assert_eq!(
        world.err(
            "AuthorizeSecurityGroupIngress",
            json!({"GroupId": id, "IpPermissions": [{"IpProtocol": "-1", "IpRanges": many}]})
        ),
        "RulesPerSecurityGroupLimitExceeded: The maximum number of rules per security group has been reached."
    );
}
