//! Tests of the STS operations.

use serde_json::json;

use crate::testing::World;

/// A world with a role whose sessions last at most two hours.
fn world() -> World {
    let mut world = World::new("sts");
    let trust = r#"{"Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}]}"#;
    let role = json!({"RoleName": "deploy", "Path": "/ci/", "AssumeRolePolicyDocument": trust,
                      "MaxSessionDuration": 7200});
    world.ok_of("iam", "CreateRole", role);
    world
}

const ROLE: &str = "arn:aws:iam::000000000000:role/ci/deploy";

#[test]
fn one_is_who_one_is() {
    let seen = world().ok("GetCallerIdentity", json!({}));
    assert_eq!(
        seen,
        json!({"UserId": "000000000000", "Account": "000000000000", "Arn": "arn:aws:iam::000000000000:root"})
    );
}

#[test]
fn a_role_is_assumed_for_a_while() {
    let mut world = world();
    let seen = world.ok("AssumeRole", json!({"RoleArn": ROLE, "RoleSessionName": "me"}));
    let session = "arn:aws:sts::000000000000:assumed-role/deploy/me";
    assert_eq!(seen["AssumedRoleUser"]["Arn"], session);
    assert_eq!(seen["AssumedRoleUser"]["AssumedRoleId"], format!("{}:me", crate::iam::role_id("deploy")));
    assert_eq!(seen["Credentials"]["Expiration"], world.now_ms + 3_600_000);
    // The credentials are those of the session.
    assert_eq!(seen["Credentials"]["SessionToken"], session);
    let long = json!({"RoleArn": ROLE, "RoleSessionName": "me", "DurationSeconds": 7200});
    assert_eq!(world.ok("AssumeRole", long.clone())["Credentials"]["Expiration"], world.now_ms + 7_200_000);
    world.caller.arn = session.into();
    assert_eq!(
        world.err("AssumeRole", long),
        "ValidationError: The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role \
         chaining"
    );
    world.ok("AssumeRole", json!({"RoleArn": ROLE, "RoleSessionName": "again"}));
}

#[test]
fn what_will_not_do_is_refused() {
    let mut world = world();
    let denied = |role: &str| {
        format!(
            "AccessDenied: User: arn:aws:iam::000000000000:root is not authorized to perform: sts:AssumeRole on \
             resource: {role}"
        )
    };
    let (other, pathless) =
        ("arn:aws:iam::111111111111:role/ci/deploy", "arn:aws:iam::000000000000:role/deploy");
    let assume = |role: &str, name: &str| json!({"RoleArn": role, "RoleSessionName": name});
    let with = |member: &str, value: serde_json::Value| {
        let mut input = assume(ROLE, "me");
        input[member] = value;
        input
    };
    world.refused(&[
        ("AssumeRole", assume(other, "me"), &denied(other)),
        ("AssumeRole", assume(pathless, "me"), &denied(pathless)),
        (
            "AssumeRole",
            assume(ROLE, "not a name"),
            "ValidationError: 1 validation error detected: Value 'not a name' at 'roleSessionName' failed to satisfy \
             constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]*",
        ),
        (
            "AssumeRole",
            with("DurationSeconds", json!(7201)),
            "ValidationError: The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        ),
        ("AssumeRole", with("Policy", json!("{}")), "ValidationError: Policy is not supported"),
        (
            "AssumeRole",
            with("Tags", json!([{"Key": "a", "Value": "b"}])),
            "ValidationError: Tags is not supported",
        ),
        ("AssumeRole", with("ExternalId", json!("ab")), "ValidationError: ExternalId is not supported"),
        (
            "GetSessionToken",
            json!({"TokenCode": "123456"}),
            "ValidationError: TokenCode is not supported",
        ),
    ]);
    assert_eq!(world.call_of("sts", "AssumeRole", assume(other, "me")).unwrap_err().http_status, Some(403));
    world.ok("GetSessionToken", json!({"DurationSeconds": 900}));
    world.caller.arn = "arn:aws:sts::000000000000:assumed-role/deploy/me".into();
    assert_eq!(
        world.err("GetSessionToken", json!({})),
        "AccessDenied: Cannot call GetSessionToken with session credentials"
    );
}
