//! Tests of the IAM operations.

use serde_json::{Value as Json, json};

use crate::testing::World;

const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ecs-tasks.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;
const ALLOW: &str = r#"{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}"#;
const EXECUTION: &str = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy";

fn world() -> World {
    let mut world = World::new("iam");
    world.ok("CreateRole", json!({"RoleName": "web", "AssumeRolePolicyDocument": TRUST}));
    world
}

fn decoded(text: &Json) -> String {
    let text = text.as_str().unwrap();
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let hex = [rest.next().unwrap(), rest.next().unwrap()];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_role_lives() {
    let mut world = world();
    let made = world.ok(
        "CreateRole",
        json!({"RoleName": "ci", "Path": "/team/", "AssumeRolePolicyDocument": TRUST, "Description": "d",
               "MaxSessionDuration": 7200, "Tags": [{"Key": "a", "Value": "1"}]}),
    );
    assert_eq!(made["Role"]["Arn"], "arn:aws:iam::000000000000:role/team/ci");
    let seen = world.ok("GetRole", json!({"RoleName": "ci"}))["Role"].clone();
    assert_eq!(decoded(&seen["AssumeRolePolicyDocument"]), TRUST);
    assert_eq!((&seen["MaxSessionDuration"], &seen["Description"]), (&json!(7200), &json!("d")));
    assert!(seen["RoleId"].as_str().unwrap().starts_with("AROA"));
    let listed = world.ok("ListRoles", json!({"PathPrefix": "/team/"}));
    assert_eq!(listed["Roles"].as_array().unwrap().len(), 1);
    assert!(listed["Roles"][0].get("Tags").is_none());
    let other = TRUST.replace("ecs-tasks", "ec2");
    world.ok("UpdateAssumeRolePolicy", json!({"RoleName": "ci", "PolicyDocument": other}));
    let seen = world.ok("GetRole", json!({"RoleName": "ci"}));
    assert_eq!(decoded(&seen["Role"]["AssumeRolePolicyDocument"]), other);
    world.ok("TagRole", json!({"RoleName": "ci", "Tags": [{"Key": "b", "Value": "2"}]}));
    world.ok("UntagRole", json!({"RoleName": "ci", "TagKeys": ["a"]}));
    assert_eq!(
        world.ok("ListRoleTags", json!({"RoleName": "ci"}))["Tags"],
        json!([{"Key": "b", "Value": "2"}])
    );
    world.ok("DeleteRole", json!({"RoleName": "ci"}));
    assert_eq!(
        world.err("GetRole", json!({"RoleName": "ci"})),
        "NoSuchEntity: The role with name ci cannot be found."
    );
}

#[test]
fn roles_that_cannot_be_are_refused() {
    let mut world = world();
    let role = |name: &str, trust: &str| json!({"RoleName": name, "AssumeRolePolicyDocument": trust});
    let with = |member: &str, value: Json| {
        let mut input = role("new", TRUST);
        input[member] = value;
        input
    };
    world.refused(&[
        ("CreateRole", role("web", TRUST), "EntityAlreadyExists: Role with name web already exists."),
        ("CreateRole", role("WEB", TRUST), "EntityAlreadyExists: Role with name WEB already exists."),
        ("CreateRole", role("a", "{"), "MalformedPolicyDocument: This policy contains invalid Json"),
        ("CreateRole", role("a", "{}"), "MalformedPolicyDocument: Syntax errors in policy."),
        (
            "CreateRole",
            role("a", &TRUST.replace("\"Action\"", "\"Resource\":\"*\",\"Action\"")),
            "MalformedPolicyDocument: Has prohibited field Resource",
        ),
        (
            "CreateRole",
            role("a", r#"{"Statement":[{"Effect":"Allow","Action":"sts:AssumeRole"}]}"#),
            "MalformedPolicyDocument: Missing required field Principal",
        ),
        (
            "CreateRole",
            with("PermissionsBoundary", json!("arn:aws:iam::000000000000:policy/none")),
            "NoSuchEntity: Scope ARN: arn:aws:iam::000000000000:policy/none does not exist or is not attachable.",
        ),
        (
            "CreateRole",
            with("Tags", json!([{"Key": "a", "Value": ""}, {"Key": "A", "Value": ""}])),
            "InvalidInput: Duplicate tag keys found. Please note that Tag keys are case insensitive.",
        ),
        (
            "CreateRole",
            with("Path", json!("no-slash")),
            "ValidationError: 1 validation error detected: Value 'no-slash' at 'path' failed to satisfy constraint: \
             Member must satisfy regular expression pattern: (\\u002F)|(\\u002F[\\u0021-\\u007E]+\\u002F)",
        ),
        (
            "CreateServiceLinkedRole",
            json!({"AWSServiceName": "none.amazonaws.com"}),
            "InvalidInput: Service none.amazonaws.com has no service-linked role here",
        ),
    ]);
    world.ok("CreateServiceLinkedRole", json!({"AWSServiceName": "ecs.amazonaws.com"}));
    assert!(
        world
            .err("CreateServiceLinkedRole", json!({"AWSServiceName": "ecs.amazonaws.com"}))
            .contains("has been taken")
    );
}

#[test]
fn policies_are_attached_listed_and_detached() {
    let mut world = world();
    let made =
        world.ok("CreatePolicy", json!({"PolicyName": "files", "PolicyDocument": ALLOW, "Path": "/p/"}));
    let own = made["Policy"]["Arn"].as_str().unwrap().to_owned();
    assert_eq!(own, "arn:aws:iam::000000000000:policy/p/files");
    for arn in [EXECUTION, &own, &own] {
        world.ok("AttachRolePolicy", json!({"RoleName": "web", "PolicyArn": arn}));
    }
    let listed = world.ok("ListAttachedRolePolicies", json!({"RoleName": "web"}));
    assert_eq!(listed["AttachedPolicies"].as_array().unwrap().len(), 2);
    assert_eq!(world.ok("GetPolicy", json!({"PolicyArn": own}))["Policy"]["AttachmentCount"], 1);
    let document = world.ok("GetPolicyVersion", json!({"PolicyArn": own, "VersionId": "v1"}));
    assert_eq!(decoded(&document["PolicyVersion"]["Document"]), ALLOW);
    assert_eq!(world.ok("ListPolicyVersions", json!({"PolicyArn": own}))["Versions"][0]["VersionId"], "v1");
    let local = world.ok("ListPolicies", json!({"Scope": "Local", "OnlyAttached": true}));
    assert_eq!(local["Policies"].as_array().unwrap().len(), 1);
    let none = "arn:aws:iam::aws:policy/None";
    world.refused(&[
        (
            "AttachRolePolicy",
            json!({"RoleName": "web", "PolicyArn": none}),
            "NoSuchEntity: Policy arn:aws:iam::aws:policy/None does not exist or is not attachable.",
        ),
        (
            "DetachRolePolicy",
            json!({"RoleName": "web", "PolicyArn": none}),
            "NoSuchEntity: Policy arn:aws:iam::aws:policy/None was not found.",
        ),
        (
            "DeletePolicy",
            json!({"PolicyArn": own}),
            "DeleteConflict: Cannot delete a policy attached to entities.",
        ),
        (
            "DeleteRole",
            json!({"RoleName": "web"}),
            "DeleteConflict: Cannot delete entity, must detach all policies first.",
        ),
        (
            "CreatePolicy",
            json!({"PolicyName": "files", "PolicyDocument": ALLOW}),
            "EntityAlreadyExists: A policy called files already exists. Duplicate names are not allowed.",
        ),
        (
            "CreatePolicy",
            json!({"PolicyName": "b", "PolicyDocument": TRUST}),
            "MalformedPolicyDocument: Policy document should not specify a principal.",
        ),
        (
            "CreatePolicy",
            json!({"PolicyName": "b", "PolicyDocument": ALLOW.replace(",\"Resource\":\"*\"", "")}),
            "MalformedPolicyDocument: Policy statement must contain resources.",
        ),
    ]);
    for arn in [EXECUTION, &own] {
        world.ok("DetachRolePolicy", json!({"RoleName": "web", "PolicyArn": arn}));
    }
    world.ok("DeletePolicy", json!({"PolicyArn": own}));
    world.ok("DeleteRole", json!({"RoleName": "web"}));
}

#[test]
fn a_boundary_is_a_use_of_its_policy() {
    let mut world = world();
    let made = world.ok("CreatePolicy", json!({"PolicyName": "edge", "PolicyDocument": ALLOW}));
    let edge = made["Policy"]["Arn"].clone();
    let role = json!({"RoleName": "in", "AssumeRolePolicyDocument": TRUST, "PermissionsBoundary": edge});
    world.ok("CreateRole", role);
    assert_eq!(
        world.ok("GetPolicy", json!({"PolicyArn": edge}))["Policy"]["PermissionsBoundaryUsageCount"],
        1
    );
    let used = world.ok("ListPolicies", json!({"PolicyUsageFilter": "PermissionsBoundary"}));
    assert_eq!(used["Policies"].as_array().unwrap().len(), 1);
    assert!(world.err("DeletePolicy", json!({"PolicyArn": edge})).starts_with("DeleteConflict"));
}

#[test]
fn inline_policies_are_kept() {
    let mut world = world();
    let of = |name: &str| json!({"RoleName": "web", "PolicyName": name});
    for name in ["one", "two", "three"] {
        let mut input = of(name);
        input["PolicyDocument"] = json!(ALLOW);
        world.ok("PutRolePolicy", input);
    }
    assert_eq!(decoded(&world.ok("GetRolePolicy", of("one"))["PolicyDocument"]), ALLOW);
    let names = ["MaxItems", "Marker", "Marker", "PolicyNames"];
    assert_eq!(world.pages("ListRolePolicies", json!({"RoleName": "web"}), names, 2).len(), 3);
    assert_eq!(
        world.err("DeleteRole", json!({"RoleName": "web"})),
        "DeleteConflict: Cannot delete entity, must delete policies first."
    );
    world.ok("DeleteRolePolicy", of("one"));
    assert_eq!(
        world.err("GetRolePolicy", of("one")),
        "NoSuchEntity: The role policy with name one cannot be found for role web."
    );
}

#[test]
fn at_most_ten_policies_are_attached() {
    let mut world = world();
    let mut last = String::new();
    for n in 0..11 {
        let made = world.ok("CreatePolicy", json!({"PolicyName": format!("p{n}"), "PolicyDocument": ALLOW}));
        let attach = json!({"RoleName": "web", "PolicyArn": made["Policy"]["Arn"]});
        if n < 10 {
            world.ok("AttachRolePolicy", attach);
        } else {
            last = world.err("AttachRolePolicy", attach);
        }
    }
    assert_eq!(last, "LimitExceeded: Cannot exceed quota for PoliciesPerRole: 10");
}

#[test]
fn the_only_user_is_root() {
    let mut world = world();
    assert_eq!(world.ok("GetUser", json!({}))["User"]["Arn"], "arn:aws:iam::000000000000:root");
    assert_eq!(
        world.err("GetUser", json!({"UserName": "me"})),
        "NoSuchEntity: The user with name me cannot be found."
    );
    assert_eq!(
        world.ok("ListInstanceProfilesForRole", json!({"RoleName": "web"}))["InstanceProfiles"],
        json!([])
    );
}
