//! What clients are told: unknown operations, malformed and invalid input, faults of every protocol.

use bytes::Bytes;
use serde_json::{Value as Json, json};
use wire::shapes::{ec2, ecs, elbv2};
use wire::{Fault, IntoValue, Value, refuse, route, too_large};

/// The answer to a request that a server without handlers gets: routed, read, validated, then `result`.
fn answer(
    request: http::request::Builder,
    body: &str,
    result: Result<Value, Fault>,
) -> http::Response<Vec<u8>> {
    let body = Bytes::from(body.to_string());
    let (parts, ()) = request.body(()).unwrap().into_parts();
    match route(&parts, &body) {
        Err(unrouted) => unrouted.answer("id-1"),
        Ok(route) => {
            let read = route.read(&parts, &body);
            route.answer(&read.and(result), "id-1")
        }
    }
}

fn post() -> http::request::Builder {
    http::Request::post("/").header("host", "localhost:4566")
}

fn target(target: &str) -> http::request::Builder {
    post().header("x-amz-target", target).header("content-type", "application/x-amz-json-1.1")
}

fn ecs(operation: &str) -> http::request::Builder {
    target(&format!("AmazonEC2ContainerServiceV20141113.{operation}"))
}

fn scoped(service: &str) -> http::request::Builder {
    let text =
        format!("AWS4-HMAC-SHA256 Credential=a/20150830/us-east-1/{service}/aws4_request, Signature=0");
    post().header("authorization", text).header("content-type", "application/x-www-form-urlencoded")
}

fn json_of(response: &http::Response<Vec<u8>>) -> Json {
    serde_json::from_slice(response.body()).unwrap()
}

fn text_of(response: &http::Response<Vec<u8>>) -> &str {
    std::str::from_utf8(response.body()).unwrap()
}

fn body_after_declaration(response: &http::Response<Vec<u8>>) -> &str {
    text_of(response).split_once("?>\n").unwrap().1
}

#[test]
fn operations_that_are_not_there() {
    // Known by name alone, and not known at all.
    for name in ["CreateTaskSet", "Frobnicate"] {
        let response = answer(ecs(name), "{}", Ok(Value::Null));
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()["x-amzn-requestid"], "id-1");
        let message = format!("The operation {name} is not supported by ecs.");
        assert_eq!(json_of(&response), json!({ "__type": "UnknownOperationException", "message": message }));
    }
    let response = answer(target("Nothing_1.Do"), "{}", Ok(Value::Null));
    assert_eq!(json_of(&response)["__type"], "UnknownOperationException");

    let form = "Action=Frobnicate&Version=2016-11-15";
    let response = answer(scoped("ec2"), form, Ok(Value::Null));
    assert_eq!(response.status(), 400);
    assert_eq!(
        body_after_declaration(&response),
        "<Response><Errors><Error><Code>InvalidAction</Code><Message>The action Frobnicate is not valid for this web \
         service.</Message></Error></Errors><RequestID>id-1</RequestID></Response>"
    );

    let form = "Action=Frobnicate&Version=2015-12-01";
    let response = answer(scoped("elasticloadbalancing"), form, Ok(Value::Null));
    assert_eq!(
        body_after_declaration(&response),
        "<ErrorResponse xmlns=\"http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/\"><Error><Type>Sender</Type>\
         <Code>InvalidAction</Code><Message>Could not find operation Frobnicate for version 2015-12-01</Message>\
         </Error><RequestId>id-1</RequestId></ErrorResponse>"
    );
    // The classic load balancer has the same signing name and another version.
    let form = "Action=DescribeLoadBalancers&Version=2012-06-01";
    let response = answer(scoped("elasticloadbalancing"), form, Ok(Value::Null));
    assert!(
        text_of(&response).contains("Could not find operation DescribeLoadBalancers for version 2012-06-01")
    );
}

#[test]
fn services_that_are_not_there() {
    let response = answer(scoped("s3"), "", Ok(Value::Null));
    assert_eq!(response.status(), 404);
    assert_eq!(response.headers()["x-amzn-errortype"], "UnknownOperationException");
    assert!(text_of(&response).contains("The service s3 is not supported."));
    let response = answer(post(), "", Ok(Value::Null));
    assert!(text_of(&response).contains("it has no X-Amz-Target, no Action and no signature"));
    let response = answer(scoped("iam"), "", Ok(Value::Null));
    assert!(text_of(&response).contains("<Code>MissingAction</Code>"));
    let response = answer(scoped("ecs"), "", Ok(Value::Null));
    assert_eq!(json_of(&response)["__type"], "UnknownOperationException");
}

#[test]
fn requests_find_their_service() {
    let find = |request: http::request::Builder, body: &str| {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let route = route(&parts, &Bytes::from(body.to_string())).unwrap();
        format!("{}.{} {:?}", route.model.name, route.operation.name, route.protocol)
    };
    assert_eq!(find(ecs("RunTask"), "{}"), "ecs.RunTask Json11");
    let old = target("Logs_20140328.PutLogEvents");
    assert_eq!(find(old, "{}"), "logs.PutLogEvents Json11");
    // Unsigned: by its version alone; EC2 also by an old version.
    assert_eq!(find(post(), "Action=AssumeRole&Version=2011-06-15"), "sts.AssumeRole Query");
    assert_eq!(find(scoped("ec2"), "Action=DescribeVpcs&Version=2014-10-01"), "ec2.DescribeVpcs Ec2");
    let get =
        http::Request::get("/?Action=GetCallerIdentity&Version=2011-06-15").header("host", "sts.localhost");
    assert_eq!(find(get, ""), "sts.GetCallerIdentity Query");
    let both = http::Request::post("/?Action=GetSessionToken&Version=2011-06-15").header("host", "localhost");
    assert_eq!(find(both, "Action=AssumeRole&Version=2011-06-15"), "sts.AssumeRole Query");
    let elb = "Action=CreateRule&Version=2015-12-01";
    assert_eq!(find(scoped("elasticloadbalancing"), elb), "elbv2.CreateRule Query");
}

#[test]
fn wrong_json_types() {
    let cases = [
        (r#"{"count":"1"}"#, "STRING_VALUE can not be converted to an Integer"),
        (r#"{"count":3000000000}"#, "NUMBER_VALUE can not be converted to an Integer"),
        (r#"{"count":true}"#, "TRUE_VALUE can not be converted to an Integer"),
        (r#"{"count":[1]}"#, "Start of list found where not expected"),
        (r#"{"cluster":1}"#, "NUMBER_VALUE can not be converted to a String"),
        (r#"{"cluster":false}"#, "FALSE_VALUE can not be converted to a String"),
        (r#"{"cluster":{"a":1}}"#, "Start of structure or map found where not expected."),
        (r#"{"tags":"x"}"#, "Expected list or null"),
        (r#"{"tags":{}}"#, "Start of structure or map found where not expected."),
        (r#"{"tags":[1]}"#, "Expected null"),
        (r#"{"overrides":"x"}"#, "Expected null"),
        (
            r#"{"overrides":{"containerOverrides":[{"environment":[{"name":1}]}]}}"#,
            "NUMBER_VALUE can not be converted to a String",
        ),
        ("[]", "Start of list found where not expected"),
        ("1", "Expected null"),
    ];
    for (body, message) in cases {
        let response = answer(ecs("RunTask"), body, Ok(Value::Null));
        assert_eq!(response.status(), 400, "{body}");
        assert_eq!(
            json_of(&response),
            json!({ "__type": "SerializationException", "Message": message }),
            "{body}"
        );
    }
    for body in ["{", "null x", "{\"a\":1,}", "\u{0}", &"[".repeat(100_000)] {
        let response = answer(ecs("RunTask"), body, Ok(Value::Null));
        assert_eq!(json_of(&response)["__type"], "SerializationException");
        let message = json_of(&response)["Message"].as_str().unwrap().to_string();
        assert!(message.starts_with("The request body is not valid JSON: "), "{message}");
    }
}

#[test]
fn nulls_fractions_and_unknown_members() {
    let body = Bytes::from(
        r#"{"taskDefinition":"t","count":2.9,"cluster":null,"tags":[null],"cout":1,"overrides":{"cpus":1}}"#,
    );
    let (parts, ()) = ecs("RunTask").body(()).unwrap().into_parts();
    let input = route(&parts, &body).unwrap().read(&parts, &body).unwrap();
    assert_eq!(input.unknown, ["cout", "overrides.cpus"]);
    let typed: ecs::RunTaskRequest = wire::FromValue::from_value(input.value);
    assert_eq!((typed.count, typed.cluster, typed.tags), (Some(2), None, Some(vec![])));
}

#[test]
fn invalid_input() {
    let check = |request: http::request::Builder, body: &str, code: &str, message: &str| {
        let response = answer(request, body, Ok(Value::Null));
        assert_eq!(response.status(), 400, "{}", text_of(&response));
        let text = text_of(&response);
        if text.starts_with('{') {
            let json = json_of(&response);
            let text = json["message"].as_str().or(json["Message"].as_str()); // As the model has it.
            assert_eq!((json["__type"].as_str(), text), (Some(code), Some(message)));
        } else {
            let escaped = message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            assert!(text.contains(&format!("<Code>{code}</Code><Message>{escaped}</Message>")), "{text}");
        }
    };
    check(
        ecs("RunTask"),
        "{}",
        "InvalidParameterException",
        "1 validation error detected: Value null at 'taskDefinition' failed to satisfy constraint: Member must not be null",
    );
    check(
        ecs("RunTask"),
        r#"{"launchType":"MOON","propagateTags":"x"}"#,
        "InvalidParameterException",
        "3 validation errors detected: Value 'MOON' at 'launchType' failed to satisfy constraint: Member must satisfy \
         enum value set: [EC2, FARGATE, EXTERNAL, MANAGED_INSTANCES]; Value 'x' at 'propagateTags' failed to satisfy \
         constraint: Member must satisfy enum value set: [TASK_DEFINITION, SERVICE, NONE]; Value null at \
         'taskDefinition' failed to satisfy constraint: Member must not be null",
    );
    check(
        ecs("DescribeClusters"),
        r#"{"include":["TAGS","MOON"]}"#,
        "InvalidParameterException",
        "1 validation error detected: Value '[TAGS, MOON]' at 'include' failed to satisfy constraint: Member must \
         satisfy constraint: [Member must satisfy enum value set: [ATTACHMENTS, CONFIGURATIONS, SETTINGS, STATISTICS, TAGS]]",
    );
    check(
        ecs("RegisterTaskDefinition"),
        r#"{"family":"f","containerDefinitions":[{},{"restartPolicy":{}}]}"#,
        "InvalidParameterException",
        "1 validation error detected: Value null at 'containerDefinitions.2.member.restartPolicy.enabled' failed to \
         satisfy constraint: Member must not be null",
    );
    check(
        target("AmazonEC2ContainerRegistry_V20150921.CreateRepository"),
        r#"{"repositoryName":"A"}"#,
        "InvalidParameterException",
        r"Invalid parameter at 'repositoryName' failed to satisfy constraint: 'must satisfy regular expression '[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*''; Invalid parameter at 'repositoryName' failed to satisfy constraint: 'must have length greater than or equal to 2'",
    );
    check(
        target("Logs_20140328.CreateLogGroup"),
        r#"{"logGroupName":"a b"}"#,
        "InvalidParameterException",
        r"1 validation error detected: Value 'a b' at 'logGroupName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\.\-_/#A-Za-z0-9]+",
    );
    check(
        target("Route53AutoNaming_v20170314.GetService"),
        "{}",
        "InvalidInput",
        "1 validation error detected: Value null at 'id' failed to satisfy constraint: Member must not be null",
    );
    check(
        scoped("elasticloadbalancing"),
        "Action=DescribeLoadBalancers&Version=2015-12-01&PageSize=500",
        "ValidationError",
        "1 validation error detected: Value '500' at 'pageSize' failed to satisfy constraint: Member must have value \
         less than or equal to 400",
    );
    check(
        scoped("iam"),
        "Action=TagRole&Version=2010-05-08&RoleName=r&Tags.member.1.Key=&Tags.member.1.Value=v",
        "ValidationError",
        "2 validation errors detected: Value '' at 'tags.1.member.key' failed to satisfy constraint: Member must \
         satisfy regular expression pattern: [\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]+; Value '' at 'tags.1.member.key' failed to \
         satisfy constraint: Member must have length greater than or equal to 1",
    );
    check(
        scoped("elasticloadbalancing"),
        "Action=DescribeLoadBalancers&Version=2015-12-01&PageSize=many",
        "MalformedInput",
        "Value 'many' at 'PageSize' can not be converted to an Integer",
    );
}

#[test]
fn invalid_ec2_input() {
    let fault = |form: &str| {
        let response = answer(scoped("ec2"), &format!("Version=2016-11-15&{form}"), Ok(Value::Null));
        assert_eq!(response.status(), 400);
        let text = text_of(&response).to_string();
        let between =
            |from: &str, to: &str| text.split_once(from).unwrap().1.split_once(to).unwrap().0.to_string();
        (between("<Code>", "</Code>"), between("<Message>", "</Message>"))
    };
    let of = |code: &str, message: &str| (code.to_string(), message.to_string());
    assert_eq!(
        fault("Action=CreateSubnet&CidrBlock=10.0.0.0/24"),
        of("MissingParameter", "The request must contain the parameter VpcId")
    );
    assert_eq!(
        fault("Action=DescribeVpcs&MaxResults=1"),
        of(
            "InvalidParameterValue",
            "Value ( 1 ) for parameter MaxResults is invalid. Expecting a value greater than or equal to 5."
        )
    );
    assert_eq!(
        fault("Action=CreateVpc&InstanceTenancy=moon"),
        of("InvalidParameterValue", "Value (moon) for parameter InstanceTenancy is invalid.")
    );
    assert_eq!(
        fault("Action=DescribeVpcs&DryRun=perhaps"),
        of("InvalidParameterValue", "Value (perhaps) for parameter DryRun is invalid. Expected a Boolean.")
    );
    assert_eq!(
        fault("Action=DescribeVpcs&Filter.1.Nam=x"),
        of("UnknownParameter", "The parameter Filter.1.Nam is not recognized")
    );
}

#[test]
fn faults_of_the_models() {
    // A code of its own, a status of its own, a further member.
    let fault = Fault::new("LoadBalancerNotFoundException", "One or more load balancers not found");
    let response =
        answer(scoped("elasticloadbalancing"), "Action=DescribeLoadBalancers&Version=2015-12-01", Err(fault));
    assert!(text_of(&response).contains("<Code>LoadBalancerNotFound</Code>"), "{}", text_of(&response));
    let fault = Fault::new("NoSuchEntity", "The role with name r cannot be found.");
    let response = answer(scoped("iam"), "Action=GetRole&Version=2010-05-08&RoleName=r", Err(fault));
    assert_eq!(response.status(), 404);
    let fault = Fault::new("ServerException", "The disk is full.");
    let response = answer(ecs("ListClusters"), "{}", Err(fault));
    assert_eq!(response.status(), 500);
    assert_eq!(json_of(&response), json!({ "__type": "ServerException", "message": "The disk is full." }));
    let fault = Fault::new("InternalFailure", "A handler failed.");
    let response = answer(scoped("ec2"), "Action=DescribeVpcs", Err(fault));
    assert_eq!(response.status(), 500);
    let fault = Fault::new("InvalidLayerPartException", "Not there.")
        .with("uploadId", "u")
        .with("lastValidByteReceived", 7i64);
    let body = r#"{"repositoryName":"ab","uploadId":"00000000-0000-0000-0000-000000000000","partFirstByte":0,"partLastByte":1,"layerPartBlob":"YQ=="}"#;
    let response = answer(target("AmazonEC2ContainerRegistry_V20150921.UploadLayerPart"), body, Err(fault));
    let wanted = json!({ "__type": "InvalidLayerPartException", "uploadId": "u", "lastValidByteReceived": 7, "message": "Not there." });
    assert_eq!(json_of(&response), wanted);
}

#[test]
fn every_error_of_every_model_is_written_with_its_status() {
    for service in wire::services() {
        let model = service.model();
        for (name, id) in &model.errors {
            let traits = model.shape(*id).error.clone().unwrap();
            let protocol = model.protocols[0];
            let written = wire::protocol::fault::write(model, protocol, &Fault::new(name.clone(), "m"), "id");
            assert_eq!(written.status, traits.status, "{} {name}", service.name);
            let text = String::from_utf8(written.body).unwrap();
            let code = if service.has_actions() { &traits.code } else { &model.shape(*id).name };
            assert!(text.contains(code.as_str()), "{} {name}: {text}", service.name);
        }
    }
}

#[test]
fn answers_in_xml() {
    let vpc = ec2::Vpc {
        vpc_id: Some("vpc-1".into()),
        is_default: Some(true),
        tags: Some(vec![]),
        ..Default::default()
    };
    let output = ec2::DescribeVpcsResult { vpcs: Some(vec![vpc]), ..Default::default() };
    let response = answer(scoped("ec2"), "Action=DescribeVpcs", Ok(output.into_value()));
    let text = body_after_declaration(&response);
    assert!(text.starts_with(
        "<DescribeVpcsResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>id-1</requestId>"
    ));
    assert!(
        text.contains("<vpcSet><item>")
            && text.contains("<vpcId>vpc-1</vpcId>")
            && text.contains("<tagSet></tagSet>"),
        "{text}"
    );

    let output = elbv2::SetSecurityGroupsOutput {
        security_group_ids: Some(vec!["sg<1>".into()]),
        ..Default::default()
    };
    let form = "Action=SetSecurityGroups&Version=2015-12-01&LoadBalancerArn=a&SecurityGroups.member.1=sg-1";
    let response = answer(scoped("elasticloadbalancing"), form, Ok(output.into_value()));
    assert_eq!(response.headers()["content-type"], "text/xml");
    assert_eq!(
        body_after_declaration(&response),
        "<SetSecurityGroupsResponse xmlns=\"http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/\">\
         <SetSecurityGroupsResult><SecurityGroupIds><member>sg&lt;1&gt;</member></SecurityGroupIds>\
         </SetSecurityGroupsResult><ResponseMetadata><RequestId>id-1</RequestId></ResponseMetadata>\
         </SetSecurityGroupsResponse>"
    );
    // An EC2 operation that gives nothing.
    let response = answer(scoped("ec2"), "Action=DeleteVpc&VpcId=vpc-1", Ok(Value::Null));
    assert!(text_of(&response).contains("<return>true</return>"));
}

#[test]
fn a_body_that_is_too_large_is_refused_before_it_is_read() {
    let (parts, ()) = ecs("RunTask").body(()).unwrap().into_parts();
    let response = refuse(&parts, too_large(1000), "id-1");
    assert_eq!(response.status(), 413);
    assert_eq!(json_of(&response)["message"], "The request body is larger than 1000 bytes.");
    let (parts, ()) = scoped("iam").body(()).unwrap().into_parts();
    let response = refuse(&parts, too_large(1000), "id-1");
    assert!(text_of(&response).contains("<Code>RequestEntityTooLarge</Code>"));
}
