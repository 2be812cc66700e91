//! Tests of the Elastic Load Balancing operations.

use serde_json::{Value as Json, json};
use state::elb::Target;

use crate::testing::World;

/// A world with a load balancer and a target group of IP addresses; their ARNs.
fn world() -> (World, String, String) {
    let mut world = World::new("elbv2");
    let subnets = world.subnets();
    let made = world.ok("CreateLoadBalancer", json!({"Name": "front", "Subnets": subnets}));
    let balancer = made["LoadBalancers"][0]["LoadBalancerArn"].as_str().unwrap().to_owned();
    let group = target_group(&mut world, "blue");
    (world, balancer, group)
}

fn target_group(world: &mut World, name: &str) -> String {
    let vpc = world.vpc();
    let input = json!({"Name": name, "Protocol": "HTTP", "Port": 80, "VpcId": vpc, "TargetType": "ip"});
    let made = world.ok("CreateTargetGroup", input);
    made["TargetGroups"][0]["TargetGroupArn"].as_str().unwrap().to_owned()
}

fn listener(world: &mut World, balancer: &str, group: &str) -> String {
    let actions = json!([{"Type": "forward", "TargetGroupArn": group}]);
    let made = world.ok(
        "CreateListener",
        json!({"LoadBalancerArn": balancer, "Protocol": "HTTP", "Port": 80, "DefaultActions": actions}),
    );
    made["Listeners"][0]["ListenerArn"].as_str().unwrap().to_owned()
}

fn path_rule(listener: &str, priority: i64, path: &str) -> Json {
    json!({"ListenerArn": listener, "Priority": priority,
           "Conditions": [{"Field": "path-pattern", "Values": [path]}],
           "Actions": [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200"}}]})
}

#[test]
fn a_load_balancer_is_made_once_described_and_deleted() {
    let (mut world, arn, _) = world();
    let subnets = world.subnets();
    let seen = world.ok("DescribeLoadBalancers", json!({"Names": ["front"]}));
    let seen = &seen["LoadBalancers"][0];
    assert_eq!(
        (&seen["State"]["Code"], &seen["Scheme"]),
        (&json!("provisioning"), &json!("internet-facing"))
    );
    assert!(seen["DNSName"].as_str().unwrap().ends_with(".us-east-1.elb.localhost"));
    assert_eq!(seen["SecurityGroups"].as_array().unwrap().len(), 1);
    // The same again is the same one; the order of subnets does not matter; other settings are an error.
    let reversed: Vec<&String> = subnets.iter().rev().collect();
    let again = world.ok("CreateLoadBalancer", json!({"Name": "front", "Subnets": reversed}));
    assert_eq!(again["LoadBalancers"][0]["LoadBalancerArn"], arn);
    assert_eq!(
        world.err("CreateLoadBalancer", json!({"Name": "front", "Subnets": subnets, "Scheme": "internal"})),
        "DuplicateLoadBalancerName: A load balancer with the same name 'front' exists, but with different settings"
    );
    let protect = json!([{"Key": "deletion_protection.enabled", "Value": "true"}]);
    world.ok("ModifyLoadBalancerAttributes", json!({"LoadBalancerArn": arn, "Attributes": protect}));
    let kept = format!(
        "OperationNotPermitted: Load balancer '{arn}' cannot be deleted because deletion protection is enabled"
    );
    assert_eq!(world.err("DeleteLoadBalancer", json!({"LoadBalancerArn": arn})), kept);
    let release = json!([{"Key": "deletion_protection.enabled", "Value": "false"}]);
    world.ok("ModifyLoadBalancerAttributes", json!({"LoadBalancerArn": arn, "Attributes": release}));
    world.ok("DeleteLoadBalancer", json!({"LoadBalancerArn": arn}));
    world.ok("DeleteLoadBalancer", json!({"LoadBalancerArn": arn}));
    assert_eq!(
        world.err("DescribeLoadBalancers", json!({"Names": ["front"]})),
        "LoadBalancerNotFound: Load balancers '[front]' not found"
    );
}

#[test]
fn load_balancers_that_cannot_be_are_refused() {
    let (mut world, ..) = world();
    let subnets = world.subnets();
    let vpc = world.ok_of("ec2", "CreateVpc", json!({"CidrBlock": "10.7.0.0/16"}))["Vpc"]["VpcId"].clone();
    let foreign = json!({"VpcId": vpc, "CidrBlock": "10.7.0.0/24", "AvailabilityZone": "us-east-1b"});
    let foreign = world.ok_of("ec2", "CreateSubnet", foreign)["Subnet"]["SubnetId"].clone();
    let group = json!({"GroupName": "g", "Description": "d", "VpcId": vpc});
    let group = world.ok_of("ec2", "CreateSecurityGroup", group)["GroupId"].clone();
    let other_vpc =
        format!("InvalidConfigurationRequest: The subnet {foreign} is not in the VPC of the other subnets")
            .replace('"', "'");
    let other_group = format!(
        "InvalidConfigurationRequest: One or more security groups are not in the VPC '{}': {}",
        world.vpc(),
        group.as_str().unwrap()
    );
    let create = |more: Json| {
        let mut input = json!({"Name": "a", "Subnets": subnets});
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        input
    };
    world.refused(&[
        (
            "CreateLoadBalancer",
            create(json!({"Name": "-a"})),
            "ValidationError: Load balancer name '-a' cannot begin or end with '-'",
        ),
        (
            "CreateLoadBalancer",
            create(json!({"Name": "a_b"})),
            "ValidationError: Load balancer name 'a_b' can only contain characters that are alphanumeric characters or \
             hyphens(-)",
        ),
        (
            "CreateLoadBalancer",
            create(json!({"Subnets": [subnets[0]]})),
            "ValidationError: At least two subnets in two different Availability Zones must be specified",
        ),
        (
            "CreateLoadBalancer",
            create(json!({"Subnets": ["subnet-1", subnets[0]]})),
            "SubnetNotFound: The subnet ID 'subnet-1' does not exist",
        ),
        ("CreateLoadBalancer", create(json!({"Subnets": [subnets[0], foreign]})), &other_vpc),
        ("CreateLoadBalancer", create(json!({"SecurityGroups": [group]})), &other_group),
        (
            "CreateLoadBalancer",
            create(json!({"SecurityGroups": ["sg-1"]})),
            "InvalidSecurityGroup: The security group 'sg-1' does not exist",
        ),
        (
            "CreateLoadBalancer",
            create(json!({"Type": "network"})),
            "ValidationError: Load balancers of type 'network' are not supported: use 'application'",
        ),
        (
            "CreateLoadBalancer",
            create(json!({"Tags": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]})),
            "DuplicateTagKeys: Tag key 'a' was specified more than once",
        ),
        (
            "DescribeLoadBalancers",
            json!({"Marker": "zz"}),
            "ValidationError: The marker 'zz' is not valid",
        ),
    ]);
}

#[test]
fn every_list_comes_in_pages() {
    let (mut world, balancer, group) = world();
    let listener = listener(&mut world, &balancer, &group);
    let mut groups = vec![group];
    for n in 0..6 {
        groups.push(target_group(&mut world, &format!("g{n}")));
        world.ok("CreateRule", path_rule(&listener, 50_000 - n * 7, "/x"));
    }
    let names = |items| ["PageSize", "Marker", "NextMarker", items];
    assert_eq!(world.pages("DescribeTargetGroups", json!({}), names("TargetGroups"), 2).len(), 7);
    // Named in an order that is not that of their ARNs, each still comes once.
    groups.sort();
    groups.reverse();
    let paged =
        world.pages("DescribeTargetGroups", json!({"TargetGroupArns": groups}), names("TargetGroups"), 2);
    let seen: Vec<&str> = paged.iter().map(|group| group["TargetGroupArn"].as_str().unwrap()).collect();
    assert_eq!(seen, groups);
    let rules = world.pages("DescribeRules", json!({"ListenerArn": listener}), names("Rules"), 3);
    let seen: Vec<&str> = rules.iter().map(|rule| rule["Priority"].as_str().unwrap()).collect();
    assert_eq!(seen, ["49965", "49972", "49979", "49986", "49993", "50000", "default"]);
    assert_eq!(
        world.pages("DescribeAccountLimits", json!({}), names("Limits"), 3).len(),
        super::LIMITS.len()
    );
    assert_eq!(world.pages("DescribeLoadBalancers", json!({}), names("LoadBalancers"), 1).len(), 1);
    let of = json!({"LoadBalancerArn": balancer});
    assert_eq!(world.pages("DescribeListeners", of, names("Listeners"), 1).len(), 1);
}

#[test]
fn target_groups_have_defaults_and_are_checked() {
    let (mut world, balancer, group) = world();
    let seen = world.ok("DescribeTargetGroups", json!({"Names": ["blue"]}));
    let seen = seen["TargetGroups"][0].clone();
    for (member, value) in [
        ("HealthCheckPath", json!("/")),
        ("HealthCheckPort", json!("traffic-port")),
        ("HealthCheckIntervalSeconds", json!(30)),
        ("HealthCheckTimeoutSeconds", json!(5)),
        ("HealthyThresholdCount", json!(5)),
        ("UnhealthyThresholdCount", json!(2)),
        ("Matcher", json!({"HttpCode": "200"})),
        ("ProtocolVersion", json!("HTTP1")),
        ("LoadBalancerArns", json!([])),
    ] {
        assert_eq!(seen[member], value, "{member}");
    }
    let vpc = world.vpc();
    let create = |more: Json| {
        let mut input =
            json!({"Name": "g", "Protocol": "HTTP", "Port": 80, "VpcId": vpc, "TargetType": "ip"});
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        input
    };
    let duplicate = "DuplicateTargetGroupName: A target group with the same name 'blue' exists, but with different settings";
    world.refused(&[
        ("CreateTargetGroup", create(json!({"Name": "blue", "Port": 81})), duplicate),
        (
            "CreateTargetGroup",
            create(json!({"VpcId": "vpc-1"})),
            "ValidationError: The VPC ID 'vpc-1' is not found",
        ),
        (
            "CreateTargetGroup",
            create(json!({"TargetType": "lambda"})),
            "ValidationError: Target type 'lambda' is not supported: use 'ip' or 'instance'",
        ),
        (
            "CreateTargetGroup",
            create(json!({"HealthCheckTimeoutSeconds": 30})),
            "ValidationError: Health check interval must be greater than the timeout.",
        ),
        (
            "CreateTargetGroup",
            create(json!({"Matcher": {"HttpCode": "200-600"}})),
            "ValidationError: Health check matcher HTTP code '200-600' must be within '200-499'",
        ),
        (
            "ModifyTargetGroup",
            json!({"TargetGroupArn": group, "HealthCheckPath": "x"}),
            "ValidationError: Health check path 'x' must begin with a '/' character and only contain printable ASCII \
             characters, without spaces",
        ),
        (
            "ModifyTargetGroupAttributes",
            json!({"TargetGroupArn": group, "Attributes": [{"Key": "stickiness.type", "Value": "app_cookie"}]}),
            "ValidationError: You must specify 'stickiness.app_cookie.cookie_name' for app_cookie stickiness",
        ),
        (
            "ModifyTargetGroupAttributes",
            json!({"TargetGroupArn": group, "Attributes": [{"Key": "x", "Value": "1"}]}),
            "InvalidConfigurationRequest: Attribute key 'x' is not recognized",
        ),
    ]);
    for path in ["x", "", "/a b", "/ü", "/a#b", "/\u{7f}", "/a?q=\"", "*"] {
        let refused =
            world.err("ModifyTargetGroup", json!({"TargetGroupArn": group, "HealthCheckPath": path}));
        assert!(refused.contains("ValidationError"), "{path}: {refused}");
    }
    for path in ["/a%20b", "/health?deep=1&x=a/b?c", "/~a/[b]/{c}|d'e"] {
        world.ok("ModifyTargetGroup", json!({"TargetGroupArn": group, "HealthCheckPath": path}));
    }
    world.ok("ModifyTargetGroup", json!({"TargetGroupArn": group, "HealthCheckPath": "/"}));
    let same = world.ok("CreateTargetGroup", create(json!({"Name": "blue", "ProtocolVersion": ""})));
    assert_eq!(same["TargetGroups"][0]["TargetGroupArn"], group);
    listener(&mut world, &balancer, &group);
    let used = format!("ResourceInUse: Target group '{group}' is currently in use by a listener or a rule");
    assert_eq!(world.err("DeleteTargetGroup", json!({"TargetGroupArn": group})), used);
    let of = world.ok("DescribeTargetGroups", json!({"LoadBalancerArn": balancer}));
    assert_eq!(of["TargetGroups"][0]["LoadBalancerArns"], json!([balancer]));
}

#[test]
fn listeners_are_made_changed_and_refused() {
    let (mut world, balancer, group) = world();
    let arn = listener(&mut world, &balancer, &group);
    let forward = json!([{"Type": "forward", "TargetGroupArn": group}]);
    let duplicate = format!(
        "DuplicateListener: A listener already exists on this port for this load balancer '{balancer}'"
    );
    let https = "UnsupportedProtocol: Listener protocol 'HTTPS' is not supported: use 'HTTP'";
    let create = |port: i64, protocol: &str, actions: &Json| json!({"LoadBalancerArn": balancer, "Protocol": protocol, "Port": port, "DefaultActions": actions});
    let vpc = world.ok_of("ec2", "CreateVpc", json!({"CidrBlock": "10.7.0.0/16"}))["Vpc"]["VpcId"].clone();
    let elsewhere = json!({"Name": "e", "Protocol": "HTTP", "Port": 80, "VpcId": vpc, "TargetType": "ip"});
    let elsewhere = world.ok("CreateTargetGroup", elsewhere)["TargetGroups"][0]["TargetGroupArn"].clone();
    let foreign = json!([{"Type": "forward", "TargetGroupArn": elsewhere}]);
    let foreign_refused = format!(
        "InvalidConfigurationRequest: The following target groups are not in VPC '{}' of the load balancer: {}",
        world.vpc(),
        elsewhere.as_str().unwrap()
    );
    let mixed =
        json!([{"Type": "forward", "TargetGroupArn": group, "FixedResponseConfig": {"StatusCode": "200"}}]);
    world.refused(&[
        ("CreateListener", create(80, "HTTP", &forward), &duplicate),
        ("CreateListener", create(443, "HTTPS", &forward), https),
        ("CreateListener", create(81, "HTTP", &foreign), &foreign_refused),
        (
            "CreateListener",
            create(81, "HTTP", &mixed),
            "InvalidLoadBalancerAction: An action of type 'forward' cannot have the configuration of type \
             'fixed-response'",
        ),
        (
            "CreateListener",
            create(81, "HTTP", &json!([])),
            "ValidationError: You must specify exactly one of 'forward', 'redirect' or 'fixed-response'",
        ),
        (
            "CreateListener",
            create(81, "HTTP", &json!([{"Type": "redirect", "RedirectConfig": {"StatusCode": "HTTP_301"}}])),
            "InvalidLoadBalancerAction: The redirect configuration must modify at least one of: protocol, port, host or \
             path",
        ),
    ]);
    let redirect =
        json!([{"Type": "redirect", "RedirectConfig": {"StatusCode": "HTTP_301", "Port": "8080"}}]);
    world.ok("ModifyListener", json!({"ListenerArn": arn, "Port": 8000, "DefaultActions": redirect}));
    let seen = world.ok("DescribeListeners", json!({"ListenerArns": [arn]}));
    assert_eq!(seen["Listeners"][0]["Port"], 8000);
    assert_eq!(seen["Listeners"][0]["DefaultActions"][0]["RedirectConfig"]["Path"], "/#{path}");
    world.ok("CreateListener", create(80, "HTTP", &forward));
    // A target group takes traffic of one load balancer.
    let subnets = world.subnets();
    let second = world.ok("CreateLoadBalancer", json!({"Name": "second", "Subnets": subnets}));
    let second = second["LoadBalancers"][0]["LoadBalancerArn"].clone();
    let input = json!({"LoadBalancerArn": second, "Protocol": "HTTP", "Port": 80, "DefaultActions": forward});
    let limited = format!(
        "TargetGroupAssociationLimit: The following target groups cannot be associated with more than one load \
         balancer: {group}"
    );
    assert_eq!(world.err("CreateListener", input), limited);
    world.ok("DeleteListener", json!({"ListenerArn": arn}));
    let gone = format!("ListenerNotFound: Listener '{arn}' not found");
    assert_eq!(world.err("DeleteListener", json!({"ListenerArn": arn})), gone);
}

#[test]
fn rules_are_made_moved_and_deleted() {
    let (mut world, balancer, group) = world();
    let listener = listener(&mut world, &balancer, &group);
    let mut arns = Vec::new();
    for (priority, path) in [(10, "/a"), (20, "/b")] {
        let made = world.ok("CreateRule", path_rule(&listener, priority, path));
        arns.push(made["Rules"][0]["RuleArn"].as_str().unwrap().to_owned());
    }
    let in_use = "PriorityInUse: Priority '10' is currently in use";
    assert_eq!(world.err("CreateRule", path_rule(&listener, 10, "/c")), in_use);
    // Two rules change places in one call.
    let swap = json!([{"RuleArn": arns[0], "Priority": 20}, {"RuleArn": arns[1], "Priority": 10}]);
    world.ok("SetRulePriorities", json!({"RulePriorities": swap}));
    let shown = world.ok("DescribeRules", json!({"ListenerArn": listener}));
    let shown = shown["Rules"].as_array().unwrap().clone();
    assert_eq!(shown[0]["RuleArn"], arns[1]);
    assert_eq!((&shown[2]["IsDefault"], &shown[2]["Priority"]), (&json!(true), &json!("default")));
    assert_eq!(shown[2]["Actions"][0]["TargetGroupArn"], group);
    // What is shown can be given back.
    let again =
        json!({"RuleArn": arns[0], "Conditions": shown[1]["Conditions"], "Actions": shown[1]["Actions"]});
    world.ok("ModifyRule", again);
    let default = shown[2]["RuleArn"].as_str().unwrap();
    let kept = format!("OperationNotPermitted: Default rule '{default}' cannot be deleted");
    assert_eq!(world.err("DeleteRule", json!({"RuleArn": default})), kept);
    let same = world.ok("DescribeRules", json!({"RuleArns": [default, arns[0]]}));
    assert_eq!(same["Rules"].as_array().unwrap().len(), 2);
    world.ok("DeleteRule", json!({"RuleArn": arns[0]}));
    let gone = format!("RuleNotFound: Rule '{}' not found", arns[0]);
    assert_eq!(world.err("DescribeRules", json!({"RuleArns": [arns[0]]})), gone);
    world.ok("DeleteLoadBalancer", json!({"LoadBalancerArn": balancer}));
    assert_eq!(world.snapshot.rules.len() + world.snapshot.listeners.len(), 0);
}

#[test]
fn conditions_of_every_field_come_back_and_bad_ones_are_refused() {
    let (mut world, balancer, group) = world();
    let listener = listener(&mut world, &balancer, &group);
    let good = [
        json!({"Field": "path-pattern", "PathPatternConfig": {"Values": ["/a/*"]}}),
        json!({"Field": "host-header", "HostHeaderConfig": {"Values": ["*.example.com"]}}),
        json!({"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "X-A", "Values": ["1*"]}}),
        json!({"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": ["GET"]}}),
        json!({"Field": "query-string", "QueryStringConfig": {"Values": [{"Key": "a", "Value": "1"}]}}),
        json!({"Field": "source-ip", "SourceIpConfig": {"Values": ["10.0.0.0/8"]}}),
    ];
    for (at, condition) in good.iter().enumerate() {
        let mut input = path_rule(&listener, at as i64 + 1, "/");
        input["Conditions"] = json!([condition]);
        let made = world.ok("CreateRule", input);
        for (member, value) in condition.as_object().unwrap() {
            assert_eq!(made["Rules"][0]["Conditions"][0][member], *value, "{condition}");
        }
    }
    let bad = [
        (
            json!({"Field": "path-pattern", "HostHeaderConfig": {"Values": ["a"]}}),
            "ValidationError: A condition on 'path-pattern' cannot have the configuration of 'host-header'",
        ),
        (
            json!({"Field": "path-pattern", "Values": ["/a"], "PathPatternConfig": {"Values": ["/b"]}}),
            "ValidationError: A condition on 'path-pattern' cannot have 'Values' besides its configuration's",
        ),
        (
            json!({"Field": "source-ip", "Values": ["10.0.0.0/8"]}),
            "ValidationError: A condition on 'source-ip' must have a configuration instead of 'Values'",
        ),
        (
            json!({"Field": "source-ip", "SourceIpConfig": {"Values": ["10.0.0.1"]}}),
            "ValidationError: The source-ip value '10.0.0.1' must be in CIDR format",
        ),
        (
            json!({"Field": "path-pattern", "Values": ["/ä"]}),
            "ValidationError: Condition value '/ä' of 'path-pattern' contains a character that is not valid: 'ä'",
        ),
        (json!({"Field": "path-pattern"}), "ValidationError: A condition value must be specified"),
        (
            json!({"Field": "colour", "Values": ["red"]}),
            "ValidationError: A condition on 'colour' must have a configuration instead of 'Values'",
        ),
    ];
    for (condition, expected) in bad {
        let mut input = path_rule(&listener, 100, "/");
        input["Conditions"] = json!([condition]);
        assert_eq!(world.err("CreateRule", input), expected);
    }
    let mut many = path_rule(&listener, 100, "/");
    many["Conditions"] = json!([{"Field": "path-pattern", "Values": ["/1", "/2", "/3", "/4", "/5", "/6"]}]);
    assert_eq!(world.err("CreateRule", many), "TooManyRules: A rule can have at most '5' condition values");
}

#[test]
fn a_load_balancer_has_at_most_100_rules_over_its_listeners() {
    let (mut world, balancer, group) = world();
    let first = listener(&mut world, &balancer, &group);
    let fixed = json!([{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}]);
    let second = world.ok(
        "CreateListener",
        json!({"LoadBalancerArn": balancer, "Protocol": "HTTP", "Port": 81, "DefaultActions": fixed}),
    );
    let second = second["Listeners"][0]["ListenerArn"].as_str().unwrap().to_owned();
    for priority in 1..=50 {
        world.ok("CreateRule", path_rule(&first, priority, "/a"));
        world.ok("CreateRule", path_rule(&second, priority, "/a"));
    }
    assert_eq!(
        world.err("CreateRule", path_rule(&second, 51, "/a")),
        "TooManyRules: The maximum number of rules has been reached"
    );
}

#[test]
fn targets_are_registered_shown_and_drained() {
    let (mut world, balancer, group) = world();
    let register = |targets: Json| json!({"TargetGroupArn": group, "Targets": targets});
    world.ok("RegisterTargets", register(json!([{"Id": "172.31.0.9"}, {"Id": "172.31.0.9", "Port": 81}])));
    let health = |world: &mut World, more: Json| {
        let mut input = json!({"TargetGroupArn": group});
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = world.ok("DescribeTargetHealth", input);
        let all = answer["TargetHealthDescriptions"].as_array().unwrap().clone();
        all.iter()
            .map(|one| {
                let (port, health) = (&one["Target"]["Port"], &one["TargetHealth"]);
                format!(
                    "{port} {} {}",
                    health["State"].as_str().unwrap(),
                    health["Reason"].as_str().unwrap_or("")
                )
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(health(&mut world, json!({})), ["80 unused Target.NotInUse", "81 unused Target.NotInUse"]);
    listener(&mut world, &balancer, &group);
    let starting = "initial Elb.RegistrationInProgress";
    assert_eq!(health(&mut world, json!({})), [format!("80 {starting}"), format!("81 {starting}")]);
    let key = Target::key_of(&group, "172.31.0.9", 80);
    world.write(|tx, _, _| {
        tx.update::<Target>(&key, |target| {
            target.health.state = "healthy".into();
            target.health.reason = None;
        })
    });
    world.ok("DeregisterTargets", register(json!([{"Id": "172.31.0.9", "Port": 81}, {"Id": "172.31.0.77"}])));
    assert_eq!(health(&mut world, json!({})), ["80 healthy ", "81 draining Target.DeregistrationInProgress"]);
    assert_eq!(
        health(&mut world, json!({"Targets": [{"Id": "172.31.0.5", "Port": 5}]})),
        ["5 unused Target.NotRegistered"]
    );
    // Registered again while it drains, it starts anew.
    world.ok("RegisterTargets", register(json!([{"Id": "172.31.0.9", "Port": 81}])));
    assert_eq!(health(&mut world, json!({}))[1], format!("81 {starting}"));
    world.refused(&[
        (
            "RegisterTargets",
            register(json!([{"Id": "i-1"}])),
            "ValidationError: Target id 'i-1' is not a valid IP address",
        ),
        (
            "RegisterTargets",
            register(json!([{"Id": "10.9.9.9"}])),
            "InvalidTarget: You must specify an Availability Zone of 'all' for the IP address '10.9.9.9', which is \
             outside of the VPC",
        ),
        (
            "RegisterTargets",
            register(json!([{"Id": "8.8.8.8", "AvailabilityZone": "all"}])),
            "InvalidTarget: The IP address '8.8.8.8' is not within the allowed ranges",
        ),
    ]);
}

#[test]
fn attributes_show_defaults_and_take_what_has_an_effect() {
    let (mut world, balancer, group) = world();
    let seen = world.ok("DescribeTargetGroupAttributes", json!({"TargetGroupArn": group}));
    let delay = json!({"Key": "deregistration_delay.timeout_seconds", "Value": "300"});
    assert!(seen["Attributes"].as_array().unwrap().contains(&delay));
    let change = json!([{"Key": "deregistration_delay.timeout_seconds", "Value": "5"}]);
    let seen =
        world.ok("ModifyTargetGroupAttributes", json!({"TargetGroupArn": group, "Attributes": change}));
    assert!(seen["Attributes"].as_array().unwrap().contains(&change[0]));
    let set = |key: &str, value: &str| json!({"LoadBalancerArn": balancer, "Attributes": [{"Key": key, "Value": value}]});
    world.ok("ModifyLoadBalancerAttributes", set("idle_timeout.timeout_seconds", "120"));
    world.refused(&[
        (
            "ModifyLoadBalancerAttributes",
            set("idle_timeout.timeout_seconds", "5000"),
            "InvalidConfigurationRequest: '5000' is not a valid value for attribute key 'idle_timeout.timeout_seconds'",
        ),
        (
            "ModifyLoadBalancerAttributes",
            set("access_logs.s3.enabled", "true"),
            "InvalidConfigurationRequest: Attribute 'access_logs.s3.enabled' with the value 'true' is not supported",
        ),
    ]);
}

#[test]
fn tags_of_every_kind_of_resource() {
    let (mut world, balancer, group) = world();
    let listener = listener(&mut world, &balancer, &group);
    let rule = world.ok("CreateRule", path_rule(&listener, 1, "/a"));
    let rule = rule["Rules"][0]["RuleArn"].as_str().unwrap().to_owned();
    let arns = [balancer, group, listener, rule];
    let tags = json!([{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]);
    world.ok("AddTags", json!({"ResourceArns": arns, "Tags": tags}));
    world.ok("RemoveTags", json!({"ResourceArns": arns, "TagKeys": ["a"]}));
    let seen = world.ok("DescribeTags", json!({"ResourceArns": arns}));
    for (description, arn) in seen["TagDescriptions"].as_array().unwrap().iter().zip(&arns) {
        assert_eq!(*description, json!({"ResourceArn": arn, "Tags": [{"Key": "b", "Value": "2"}]}));
    }
    assert_eq!(
        world.err("DescribeTags", json!({"ResourceArns": ["x"]})),
        "ValidationError: 'x' is not a valid load balancer, target group, listener or rule ARN"
    );
}

#[test]
fn subnets_and_security_groups_change() {
    let (mut world, balancer, _) = world();
    let subnets = world.subnets();
    let before = world.snapshot.load_balancers.get(&balancer).unwrap().address;
    // The address stays as long as its subnet does.
    world.ok("SetSubnets", json!({"LoadBalancerArn": balancer, "Subnets": [subnets[2], subnets[0]]}));
    assert_eq!(world.snapshot.load_balancers.get(&balancer).unwrap().address, before);
    world.ok("SetSubnets", json!({"LoadBalancerArn": balancer, "Subnets": [subnets[1], subnets[2]]}));
    assert_ne!(world.snapshot.load_balancers.get(&balancer).unwrap().address, before);
    let group = json!({"GroupName": "g", "Description": "d"});
    let group = world.ok_of("ec2", "CreateSecurityGroup", group)["GroupId"].clone();
    world.ok("SetSecurityGroups", json!({"LoadBalancerArn": balancer, "SecurityGroups": [group]}));
    let seen = world.ok("DescribeLoadBalancers", json!({}));
    assert_eq!(seen["LoadBalancers"][0]["SecurityGroups"], json!([group]));
}

#[test]
fn another_account_sees_nothing() {
    let (mut world, balancer, group) = world();
    world.caller.scope.account = "111111111111".into();
    assert_eq!(world.ok("DescribeLoadBalancers", json!({}))["LoadBalancers"], json!([]));
    let hidden = format!("LoadBalancerNotFound: Load balancer '{balancer}' not found");
    assert_eq!(world.err("DescribeLoadBalancers", json!({"LoadBalancerArns": [balancer]})), hidden);
    let hidden = format!("TargetGroupNotFound: Target groups '{group}' not found");
    assert_eq!(world.err("DescribeTargetHealth", json!({"TargetGroupArn": group})), hidden);
}
