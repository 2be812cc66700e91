//! Tests of the CloudWatch Logs operations.

use serde_json::{Value as Json, json};

use crate::testing::World;

const DAY_MS: i64 = 86_400_000;

/// A world with a group of two streams.
fn world() -> World {
    let mut world = World::new("logs");
    world.ok("CreateLogGroup", json!({"logGroupName": "/shop/web"}));
    for stream in ["a", "b"] {
        world.ok("CreateLogStream", json!({"logGroupName": "/shop/web", "logStreamName": stream}));
    }
    world
}

fn put(world: &mut World, stream: &str, events: &[(i64, &str)]) -> Json {
    let events: Vec<Json> =
        events.iter().map(|(at, text)| json!({"timestamp": world.now_ms + at, "message": text})).collect();
    let input = json!({"logGroupName": "/shop/web", "logStreamName": stream, "logEvents": events});
    world.ok("PutLogEvents", input)
}

fn messages(answer: &Json) -> Vec<&str> {
    answer["events"].as_array().unwrap().iter().map(|event| event["message"].as_str().unwrap()).collect()
}

#[test]
fn groups_are_made_listed_and_deleted() {
    let mut world = world();
    world.ok("CreateLogGroup", json!({"logGroupName": "other", "tags": {"a": "1"}}));
    let seen = world.ok("DescribeLogGroups", json!({"logGroupNamePrefix": "/shop"}));
    let arn = "arn:aws:logs:us-east-1:000000000000:log-group:/shop/web";
    assert_eq!(seen["logGroups"].as_array().unwrap().len(), 1);
    assert_eq!(seen["logGroups"][0]["arn"], format!("{arn}:*"));
    assert_eq!(seen["logGroups"][0]["logGroupArn"], arn);
    // By pattern: case matters, and little is shown.
    let seen = world.ok("DescribeLogGroups", json!({"logGroupNamePattern": "the"}));
    assert_eq!(
        seen["logGroups"],
        json!([{"logGroupName": "other", "creationTime": world.now_ms,
                "arn": "arn:aws:logs:us-east-1:000000000000:log-group:other:*"}])
    );
    assert_eq!(world.ok("DescribeLogGroups", json!({"logGroupNamePattern": "THE"}))["logGroups"], json!([]));
    let seen = world.ok("DescribeLogGroups", json!({"logGroupIdentifiers": [arn, "none"]}));
    assert_eq!(seen["logGroups"].as_array().unwrap().len(), 1);
    world.ok("PutRetentionPolicy", json!({"logGroupName": "other", "retentionInDays": 7}));
    let seen = world.ok("DescribeLogGroups", json!({"logGroupNamePrefix": "other"}));
    assert_eq!(seen["logGroups"][0]["retentionInDays"], 7);
    world.ok("DeleteRetentionPolicy", json!({"logGroupName": "other"}));
    world.ok("DeleteLogGroup", json!({"logGroupName": "/shop/web"}));
    assert_eq!(world.snapshot.log_streams.len(), 0);
}

#[test]
fn what_will_not_do_is_refused() {
    let mut world = world();
    let no_group = "ResourceNotFoundException: The specified log group does not exist.";
    let no_stream = "ResourceNotFoundException: The specified log stream does not exist.";
    let of = |stream: &str| json!({"logGroupName": "/shop/web", "logStreamName": stream});
    world.refused(&[
        (
            "CreateLogGroup",
            json!({"logGroupName": "/shop/web"}),
            "ResourceAlreadyExistsException: The specified log group already exists",
        ),
        (
            "CreateLogGroup",
            json!({"logGroupName": "aws/mine"}),
            "InvalidParameterException: Log groups starting with AWS/ are reserved for AWS.",
        ),
        (
            "CreateLogGroup",
            json!({"logGroupName": "a b"}),
            "InvalidParameterException: 1 validation error detected: Value 'a b' at 'logGroupName' failed to satisfy \
             constraint: Member must satisfy regular expression pattern: [\\.\\-_/#A-Za-z0-9]+",
        ),
        (
            "CreateLogGroup",
            json!({"logGroupName": "a", "kmsKeyId": "k"}),
            "InvalidParameterException: kmsKeyId is not supported",
        ),
        (
            "CreateLogGroup",
            json!({"logGroupName": "a", "logGroupClass": "DELIVERY"}),
            "InvalidParameterException: logGroupClass DELIVERY is not supported",
        ),
        ("CreateLogStream", json!({"logGroupName": "none", "logStreamName": "a"}), no_group),
        (
            "CreateLogStream",
            of("a"),
            "ResourceAlreadyExistsException: The specified log stream already exists",
        ),
        ("DeleteLogStream", of("none"), no_stream),
        ("GetLogEvents", of("none"), no_stream),
        ("FilterLogEvents", json!({"logGroupName": "none"}), no_group),
        ("FilterLogEvents", json!({"logGroupName": "/shop/web", "logStreamNames": ["none"]}), no_stream),
        (
            "FilterLogEvents",
            json!({"logGroupName": "/shop/web", "logStreamNames": ["a"], "logStreamNamePrefix": "a"}),
            "InvalidParameterException: LogStreamNames and LogStreamNamePrefix are mutually exclusive parameters.",
        ),
        (
            "FilterLogEvents",
            json!({"logGroupIdentifier": "arn:aws:logs:us-east-1:111111111111:log-group:/shop/web"}),
            no_group,
        ),
        (
            "DescribeLogStreams",
            json!({"logGroupName": "/shop/web", "orderBy": "LastEventTime", "logStreamNamePrefix": "a"}),
            "InvalidParameterException: Cannot order by LastEventTime with a logStreamNamePrefix.",
        ),
        ("DeleteLogGroup", json!({"logGroupName": "none"}), no_group),
        (
            "ListTagsForResource",
            json!({"resourceArn": "arn:aws:logs:us-east-1:111111111111:log-group:/shop/web"}),
            no_group,
        ),
    ]);
}

#[test]
fn a_protected_group_stays() {
    let mut world = world();
    world.ok("CreateLogGroup", json!({"logGroupName": "kept", "deletionProtectionEnabled": true}));
    assert!(
        world.err("DeleteLogGroup", json!({"logGroupName": "kept"})).starts_with("OperationAbortedException")
    );
}

#[test]
fn events_are_read_from_both_ends() {
    let mut world = world();
    put(&mut world, "a", &[(0, "1"), (1, "2"), (2, "3"), (3, "4"), (4, "5")]);
    let of = |more: Json| {
        let mut input = json!({"logGroupName": "/shop/web", "logStreamName": "a", "limit": 2});
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        input
    };
    // Without startFromHead the newest page comes first.
    let last = world.ok("GetLogEvents", of(json!({})));
    assert_eq!(messages(&last), ["4", "5"]);
    let first = world.ok("GetLogEvents", of(json!({"startFromHead": true})));
    assert_eq!(messages(&first), ["1", "2"]);
    let next = of(json!({"startFromHead": true, "nextToken": first["nextForwardToken"]}));
    assert_eq!(messages(&world.ok("GetLogEvents", next)), ["3", "4"]);
    let end = of(json!({"startFromHead": true, "nextToken": last["nextForwardToken"]}));
    let end = world.ok("GetLogEvents", end);
    // At the end the token stays what it was: so clients know.
    assert_eq!((messages(&end), &end["nextForwardToken"]), (vec![], &last["nextForwardToken"]));
    let range = of(json!({"startTime": world.now_ms + 1, "endTime": world.now_ms + 3, "limit": 10}));
    assert_eq!(messages(&world.ok("GetLogEvents", range)), ["2", "3"]);
}

#[test]
fn several_streams_are_searched_in_the_order_of_time() {
    let mut world = world();
    put(&mut world, "a", &[(0, "GET /"), (20, "ERROR one"), (40, "GET /x")]);
    put(&mut world, "b", &[(10, "ERROR two"), (30, "ERROR three")]);
    let all = world.ok("FilterLogEvents", json!({"logGroupName": "/shop/web", "interleaved": true}));
    assert_eq!(messages(&all), ["GET /", "ERROR two", "ERROR one", "ERROR three", "GET /x"]);
    assert_eq!((&all["events"][1]["logStreamName"], &all["searchedLogStreams"]), (&json!("b"), &json!([])));
    let errors = json!({"logGroupName": "/shop/web", "filterPattern": "ERROR -two"});
    assert_eq!(messages(&world.ok("FilterLogEvents", errors.clone())), ["ERROR one", "ERROR three"]);
    let one = json!({"logGroupName": "/shop/web", "logStreamNames": ["b"]});
    assert_eq!(messages(&world.ok("FilterLogEvents", one)), ["ERROR two", "ERROR three"]);
    let prefix =
        json!({"logGroupName": "/shop/web", "logStreamNamePrefix": "a", "startTime": world.now_ms + 1});
    assert_eq!(messages(&world.ok("FilterLogEvents", prefix)), ["ERROR one", "GET /x"]);
    for size in 1..4 {
        let found = world.pages(
            "FilterLogEvents",
            errors.clone(),
            ["limit", "nextToken", "nextToken", "events"],
            size,
        );
        assert_eq!(found.len(), 2, "in pages of {size}");
    }
}

#[test]
fn a_search_that_finds_nothing_is_quick_and_bounded() {
    let mut world = world();
    let many: Vec<(i64, &str)> = (0..30_000).map(|n| (n, "nothing here")).collect();
    for part in many.chunks(10_000) {
        put(&mut world, "a", part);
    }
    put(&mut world, "b", &[(30_000, "ERROR")]);
    let input = json!({"logGroupName": "/shop/web", "filterPattern": "ERROR", "limit": 1});
    let (seen, before) = (world.ok("FilterLogEvents", input.clone()), world.scans());
    assert_eq!((messages(&seen), seen.get("nextToken")), (vec!["ERROR"], None));
    assert!(before < 15, "{before} pages");
    // Long ones are looked through in several calls.
    let long = format!("{{{}}}", "x".repeat(100_000));
    let long: Vec<(i64, &str)> = (0..10).map(|n| (n, long.as_str())).collect();
    (0..10).for_each(|_| drop(put(&mut world, "b", &long)));
    let mut answers = Vec::new();
    let mut input = input;
    loop {
        let answer = world.ok("FilterLogEvents", input.clone());
        answers.push(messages(&answer).len());
        match answer.get("nextToken") {
            Some(token) => input["nextToken"] = token.clone(),
            None => break,
        }
    }
    assert_eq!(answers, [0, 1]);
}

#[test]
fn what_has_expired_is_not_shown() {
    let mut world = world();
    put(&mut world, "a", &[(-10 * DAY_MS, "expired")]);
    put(&mut world, "a", &[(0, "kept")]);
    world.ok("PutRetentionPolicy", json!({"logGroupName": "/shop/web", "retentionInDays": 1}));
    let of = json!({"logGroupName": "/shop/web", "logStreamName": "a", "startFromHead": true});
    assert_eq!(messages(&world.ok("GetLogEvents", of)), ["kept"]);
    let from_before = json!({"logGroupName": "/shop/web", "startTime": world.now_ms - 20 * DAY_MS});
    assert_eq!(messages(&world.ok("FilterLogEvents", from_before)), ["kept"]);
}

#[test]
fn events_out_of_time_are_rejected_and_the_rest_kept() {
    let mut world = world();
    let told = put(&mut world, "a", &[(-15 * DAY_MS, "old"), (-15 * DAY_MS + 1, "old too")]);
    assert_eq!(told["rejectedLogEventsInfo"], json!({"tooOldLogEventEndIndex": 2}));
    let told = put(&mut world, "a", &[(0, "now"), (3 * 3_600_000, "tomorrow")]);
    assert_eq!(told["rejectedLogEventsInfo"], json!({"tooNewLogEventStartIndex": 1}));
    world.ok("PutRetentionPolicy", json!({"logGroupName": "/shop/web", "retentionInDays": 1}));
    let told = put(&mut world, "a", &[(-DAY_MS - 1, "expired"), (-DAY_MS + 5, "kept")]);
    assert_eq!(told["rejectedLogEventsInfo"], json!({"expiredLogEventEndIndex": 1}));
    let seen = world.ok("FilterLogEvents", json!({"logGroupName": "/shop/web"}));
    assert_eq!(messages(&seen), ["kept", "now"]);
    let batch =
        |events: Json| json!({"logGroupName": "/shop/web", "logStreamName": "a", "logEvents": events});
    let now = world.now_ms;
    let half = "x".repeat(600_000);
    world.refused(&[
        (
            "PutLogEvents",
            batch(json!([{"timestamp": now, "message": "a"}, {"timestamp": now - 1, "message": "b"}])),
            "InvalidParameterException: Log events in a single PutLogEvents request must be in chronological order.",
        ),
        (
            "PutLogEvents",
            batch(json!([{"timestamp": now - DAY_MS - 1, "message": "a"}, {"timestamp": now, "message": "b"}])),
            "InvalidParameterException: The batch of log events in a single PutLogEvents request cannot span more than \
             24 hours.",
        ),
        (
            "PutLogEvents",
            batch(json!([{"timestamp": now, "message": half}, {"timestamp": now, "message": half}])),
            "InvalidParameterException: Upload too large: 1200052 bytes exceeds limit of 1048576",
        ),
    ]);
}

#[test]
fn streams_are_listed_by_name_and_by_time() {
    let mut world = world();
    put(&mut world, "b", &[(0, "x")]);
    put(&mut world, "a", &[(9, "x")]);
    let names = |answer: &Json| -> Vec<String> {
        let all = answer["logStreams"].as_array().unwrap();
        all.iter().map(|stream| stream["logStreamName"].as_str().unwrap().to_owned()).collect()
    };
    let list = |world: &mut World, more: Json| {
        let mut input = json!({"logGroupName": "/shop/web"});
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        names(&world.ok("DescribeLogStreams", input))
    };
    assert_eq!(list(&mut world, json!({})), ["a", "b"]);
    assert_eq!(list(&mut world, json!({"descending": true})), ["b", "a"]);
    assert_eq!(list(&mut world, json!({"orderBy": "LastEventTime"})), ["b", "a"]);
    assert_eq!(list(&mut world, json!({"orderBy": "LastEventTime", "descending": true})), ["a", "b"]);
    assert_eq!(list(&mut world, json!({"logStreamNamePrefix": "b"})), ["b"]);
    let keys = ["limit", "nextToken", "nextToken", "logStreams"];
    let input = json!({"logGroupName": "/shop/web", "descending": true});
    assert_eq!(world.pages("DescribeLogStreams", input, keys, 1).len(), 2);
    let seen = world.ok("DescribeLogStreams", json!({"logGroupName": "/shop/web"}));
    assert_eq!(seen["logStreams"][0]["lastEventTimestamp"], world.now_ms + 9);
}

#[test]
fn tags_by_arn_and_by_name() {
    let mut world = world();
    let arn = "arn:aws:logs:us-east-1:000000000000:log-group:/shop/web";
    world.ok("TagResource", json!({"resourceArn": arn, "tags": {"a": "1", "b": "2"}}));
    world.ok("TagLogGroup", json!({"logGroupName": "/shop/web", "tags": {"a": "3"}}));
    world.ok("UntagResource", json!({"resourceArn": arn, "tagKeys": ["b"]}));
    assert_eq!(world.ok("ListTagsForResource", json!({"resourceArn": arn}))["tags"], json!({"a": "3"}));
    assert_eq!(world.ok("ListTagsLogGroup", json!({"logGroupName": "/shop/web"}))["tags"], json!({"a": "3"}));
    let many: serde_json::Map<String, Json> = (0..50).map(|n| (format!("k{n}"), json!(""))).collect();
    assert_eq!(
        world.err("TagResource", json!({"resourceArn": arn, "tags": many})),
        "TooManyTagsException: A resource can have no more than 50 tags."
    );
}
