//! The endpoint as containers see it, over HTTP on loopback, and the documents it answers with.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use state::Tag;
use state::assignment::{AgentDesired, NetworkAssignment};
use state::ec2::Cidr;
use state::group::{
    Attachment, ContainerObserved, ContainerSpec, ContainerState, GroupSpec, Health, HealthCheck,
    LogDestination, NetworkBinding, Phase, RestartPolicy,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn facts(n: u8, network_mode: NetworkMode, role: Option<&str>) -> Facts {
    let log = LogDestination::Awslogs {
        group: "/ecs/app".into(),
        region: "eu-west-1".into(),
        stream_prefix: "ecs".into(),
        create_group: true,
        multiline_pattern: None,
        non_blocking: false,
        max_buffer_bytes: None,
    };
    let web = ContainerSpec {
        name: "web".into(),
        image: "app:1".into(),
        log: Some(log),
        labels: [("team".to_owned(), "blue".to_owned())].into(),
        ..ContainerSpec::default()
    };
    let side = ContainerSpec { name: "side".into(), image: "side:1".into(), ..ContainerSpec::default() };
    let spec = GroupSpec {
        containers: vec![web, side],
        network_mode,
        cpu_limit_units: Some(256),
        memory_limit_mib: Some(512),
        family: "app".into(),
        revision: 7,
        task_role_arn: role.map(str::to_owned),
        ..GroupSpec::default()
    };
    let id = format!("{n:032x}");
    let seen = |name: &str, state| ContainerObserved {
        name: name.into(),
        id: format!("uuid-{name}"),
        runtime_id: Some(format!("run-{name}")),
        image_digest: Some(format!("sha256:{name}")),
        state,
        ..ContainerObserved::default()
    };
    let running = ContainerState::Running { since_ms: 1_601_599_386_202 };
    let containers = vec![seen("web", running), seen("side", ContainerState::Waiting)];
    let observed = Observed { phase: Phase::Pending, containers, ..Observed::default() };
    let assignment = Assignment {
        key: format!("111122223333/eu-west-1/main/{id}"),
        task_arn: format!("arn:aws:ecs:eu-west-1:111122223333:task/main/{id}"),
        id,
        account: "111122223333".into(),
        region: "eu-west-1".into(),
        cluster: "main".into(),
        service: Some("web-service".into()),
        tags: vec![Tag { key: "stage".into(), value: "test".into() }],
        launch_type: "FARGATE".into(),
        availability_zone: "eu-west-1a".into(),
        spec: Arc::new(spec),
        desired: AgentDesired::Run,
        network: None,
        observed: observed.clone(),
        created_at_ms: 0,
    };
    let containers = ["web", "side"].iter().map(|name| format!("{name}-{n}")).collect();
    let ids = EndpointIds { credentials: format!("secret-{n}"), containers };
    Facts { assignment: Arc::new(assignment), observed, ids, containers: vec![LocalContainer::default(); 2] }
}

fn change_assignment(facts: &mut Facts, change: impl FnOnce(&mut Assignment)) {
    let mut assignment = (*facts.assignment).clone();
    change(&mut assignment);
    facts.assignment = Arc::new(assignment);
}

#[test]
fn a_fargate_task_is_described() {
    let mut facts = facts(1, NetworkMode::Awsvpc, None);
    facts.observed.pull_started_at_ms = Some(1_601_599_386_000);
    change_assignment(&mut facts, |assignment| {
        let cidr = |text: &str, prefix| Cidr { base: text.parse().unwrap(), prefix };
        assignment.network = Some(NetworkAssignment {
            attachment: Attachment {
                id: "a".into(),
                eni_id: "eni-1".into(),
                subnet_id: "subnet-1".into(),
                availability_zone: "eu-west-1a".into(),
                private_ip: "10.0.2.106".parse().unwrap(),
                mac: "0e:9f:8e:32:f3:91".into(),
            },
            subnet_cidr: cidr("10.0.2.0", 24),
            vpc_id: "vpc-1".into(),
            vpc_cidr: cidr("10.0.0.0", 16),
            gateway: "10.0.2.1".parse().unwrap(),
            firewall: vec![],
        });
    });
    let mut task = documents::task(&facts, false);
    let containers = task["Containers"].take();
    let arn = "arn:aws:ecs:eu-west-1:111122223333";
    let id = &facts.assignment.id;
    assert_eq!(
        task,
        json!({
            "Cluster": format!("{arn}:cluster/main"),
            "TaskARN": format!("{arn}:task/main/{id}"),
            "Family": "app",
            "Revision": "7",
            "DesiredStatus": "RUNNING",
            "KnownStatus": "PULLED",
            "Limits": {"CPU": 0.25, "Memory": 512},
            "PullStartedAt": "2020-10-02T00:43:06Z",
            "AvailabilityZone": "eu-west-1a",
            "LaunchType": "FARGATE",
            "Containers": null,
            "VPCID": "vpc-1",
            "ServiceName": "web-service",
            "FaultInjectionEnabled": false,
        })
    );
    assert_eq!(
        containers[0],
        json!({
            "DockerId": "run-web",
            "Name": "web",
            "DockerName": "web",
            "Image": "app:1",
            "ImageID": "sha256:web",
            "Labels": {
                "team": "blue",
                "com.amazonaws.ecs.cluster": format!("{arn}:cluster/main"),
                "com.amazonaws.ecs.container-name": "web",
                "com.amazonaws.ecs.task-arn": format!("{arn}:task/main/{id}"),
                "com.amazonaws.ecs.task-definition-family": "app",
                "com.amazonaws.ecs.task-definition-version": "7",
            },
            "DesiredStatus": "RUNNING",
            "KnownStatus": "RUNNING",
            "Limits": {"CPU": 2, "Memory": 0},
            "StartedAt": "2020-10-02T00:43:06.202Z",
            "Type": "NORMAL",
            "LogDriver": "awslogs",
            "LogOptions": {
                "awslogs-create-group": "true",
                "awslogs-group": "/ecs/app",
                "awslogs-region": "eu-west-1",
                "awslogs-stream": format!("ecs/web/{id}"),
            },
            "ContainerARN": format!("{arn}:container/main/{id}/uuid-web"),
            "Networks": [{
                "NetworkMode": "awsvpc",
                "IPv4Addresses": ["10.0.2.106"],
                "AttachmentIndex": 0,
                "MACAddress": "0e:9f:8e:32:f3:91",
                "IPv4SubnetCIDRBlock": "10.0.2.0/24",
                "DomainNameServers": ["169.254.169.253"],
                "DomainNameSearchList": ["eu-west-1.compute.internal"],
                "PrivateDNSName": "ip-10-0-2-106.eu-west-1.compute.internal",
                "SubnetGatewayIpv4Address": "10.0.2.1/24",
            }],
            "Snapshotter": "overlayfs",
        })
    );
    assert_eq!(documents::task(&facts, true)["TaskTags"], json!({"stage": "test"}));
}

#[test]
fn a_stopped_container_of_an_instance_is_described() {
    let mut facts = facts(1, NetworkMode::Bridge, None);
    change_assignment(&mut facts, |assignment| {
        assignment.launch_type = "EC2".into();
        let mut spec = (*assignment.spec).clone();
        let web = &mut spec.containers[0];
        (web.memory_mib, web.cpu_units) = (Some(128), 64);
        web.restart_policy = Some(RestartPolicy { ignored_exit_codes: vec![], attempt_period_s: 60 });
        let command = vec!["true".to_owned()];
        web.health_check =
            Some(HealthCheck { command, interval_s: 5, timeout_s: 2, retries: 1, start_period_s: 0 });
        assignment.spec = Arc::new(spec);
    });
    let web = &mut facts.observed.containers[0];
    web.state = ContainerState::Exited { code: Some(137), reason: None, at_ms: 2_000 };
    web.bindings = vec![NetworkBinding {
        bind_ip: "0.0.0.0".into(),
        container_port: 80,
        host_port: 32_768,
        protocol: "tcp".into(),
    }];
    (web.health, web.restart_count) = (Health::Unhealthy, 3);
    facts.containers[0].address = Some("172.29.0.2".parse().unwrap());
    facts.containers[0].started_at_ms = Some(1_000);
    let document = documents::container(&facts, 0).unwrap();
    let expected = [
        ("DesiredStatus", json!("STOPPED")),
        ("KnownStatus", json!("STOPPED")),
        ("ExitCode", json!(137)),
        ("StartedAt", json!("1970-01-01T00:00:01Z")),
        ("FinishedAt", json!("1970-01-01T00:00:02Z")),
        ("Limits", json!({"CPU": 64, "Memory": 128})),
        ("Health", json!({"status": "UNHEALTHY"})),
        ("Ports", json!([{"ContainerPort": 80, "Protocol": "tcp", "HostPort": 32_768, "HostIp": "0.0.0.0"}])),
        ("Networks", json!([{"NetworkMode": "bridge", "IPv4Addresses": ["172.29.0.2"]}])),
        ("RestartCount", json!(3)),
    ];
    for (name, value) in expected {
        assert_eq!(document[name], value, "{name}");
    }
    assert_eq!(documents::task(&facts, false)["Cluster"], "main");
}

#[test]
fn ids_stay_and_the_environment_leads_to_them() {
    let facts = facts(1, NetworkMode::Awsvpc, Some("arn:aws:iam::111122223333:role/app"));
    let dir = tempfile::tempdir().unwrap();
    let ids = EndpointIds::of_group(dir.path(), &facts.assignment).unwrap();
    assert_eq!(EndpointIds::of_group(dir.path(), &facts.assignment).unwrap(), ids);
    let other = tempfile::tempdir().unwrap();
    assert_ne!(EndpointIds::of_group(other.path(), &facts.assignment).unwrap(), ids);
    let uri = format!("http://169.254.170.2/v4/{}", ids.containers[1]);
    let credentials = format!("/v2/credentials/{}", ids.credentials);
    let variables = ids.environment(&facts.assignment, 1, true);
    let value = |name: &str| variables.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    assert_eq!(value("ECS_CONTAINER_METADATA_URI_V4"), Some(uri.as_str()));
    assert_eq!(value("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"), Some(credentials.as_str()));
    assert_eq!(value("AWS_EXECUTION_ENV"), Some("AWS_ECS_FARGATE"));
    let none = ids.environment(&facts.assignment, 1, false);
    assert!(none.iter().all(|(name, _)| name != "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"));
}

/// Issues numbered credentials that are good for so long.
struct Source(AtomicUsize, i64);

impl CredentialSource for Source {
    fn issue(&self, role: &str, session: &str, account: &str, region: &str) -> Result<Credentials, String> {
        if role.ends_with("refused") {
            return Err("not authorized".into());
        }
        let n = self.0.fetch_add(1, Ordering::SeqCst);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Ok(Credentials {
            access_key_id: format!("ASIA{n}"),
            secret_access_key: format!("{session}/{account}/{region}"),
            token: "token".into(),
            expires_at_ms: now.as_millis() as i64 + self.1,
        })
    }
}

fn endpoints(good_ms: i64) -> Arc<Endpoints> {
    let source = Arc::new(Source(AtomicUsize::new(0), good_ms));
    Arc::new(Endpoints::new(Cgroups::detect(), Some(source)))
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn get(address: SocketAddr, path: &str) -> (u16, Value) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: 169.254.170.2\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.to_ascii_lowercase().contains("content-type: application/json"), "{head}");
    (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap())
}

#[tokio::test]
async fn each_path_is_a_document_and_refusals_are_in_the_ecs_agents_words() {
    let (endpoints, (socket, address)) = (endpoints(0), listener());
    let facts = facts(1, NetworkMode::Awsvpc, None);
    // Whichever comes first.
    endpoints.serve(&facts.assignment.key, vec![socket]).unwrap();
    endpoints.publish(facts.clone());
    assert_eq!(get(address, "/v4/web-1").await, (200, documents::container(&facts, 0).unwrap()));
    assert_eq!(get(address, "/v4/side-1/task").await, (200, documents::task(&facts, false)));
    assert_eq!(get(address, "/v4/side-1/taskWithTags").await, (200, documents::task(&facts, true)));
    assert_eq!(get(address, "/v4/web-1/stats").await, (200, Value::Null));
    assert_eq!(get(address, "/v4/web-1/task/stats").await, (200, json!({"run-web": null, "run-side": null})));
    let refused = |code: &str, text: &str| {
        (400, json!({"code": code, "message": format!("CredentialsV2Request: {text}"), "HTTPErrorCode": 400}))
    };
    let none = get(address, "/v2/credentials/secret-1").await;
    assert_eq!(none, refused("InvalidIdInRequest", "Credentials not found"));
    let none = get(address, "/v2/credentials/").await;
    assert_eq!(none, refused("NoIdInRequest", "No Credential ID in the request"));
    let text = "V4 container metadata handler: unable to get container ID from request: \
                unable to get docker ID from v3 endpoint ID: x";
    assert_eq!(get(address, "/v4/x").await, (404, json!(text)));
    for path in ["/v3/web-1", "/v4/web-1/associations", "/"] {
        assert_eq!(get(address, path).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn credentials_are_kept_while_they_are_good() {
    for (good_ms, second) in [(3_600_000, "ASIA0"), (600_000, "ASIA1")] {
        let (endpoints, (socket, address)) = (endpoints(good_ms), listener());
        let facts = facts(1, NetworkMode::Awsvpc, Some("role"));
        endpoints.publish(facts.clone());
        endpoints.serve(&facts.assignment.key, vec![socket]).unwrap();
        let (status, first) = get(address, "/v2/credentials/secret-1").await;
        assert_eq!(
            (status, &first["AccessKeyId"], &first["RoleArn"]),
            (200, &json!("ASIA0"), &json!("role"))
        );
        let secret = format!("{}/111122223333/eu-west-1", facts.assignment.id);
        assert_eq!(first["SecretAccessKey"], json!(secret));
        assert_eq!(get(address, "/v2/credentials/secret-1").await.1["AccessKeyId"], second);
    }
}

#[tokio::test]
async fn credentials_that_cannot_be_issued_are_said_to_be_late() {
    let (endpoints, (socket, address)) = (endpoints(0), listener());
    let facts = facts(1, NetworkMode::Awsvpc, Some("refused"));
    endpoints.publish(facts.clone());
    endpoints.serve(&facts.assignment.key, vec![socket]).unwrap();
    let message = "CredentialsV2Request: not authorized";
    let refused = json!({"code": "CredentialsUninitialized", "message": message, "HTTPErrorCode": 503});
    assert_eq!(get(address, "/v2/credentials/secret-1").await, (503, refused));
}

#[tokio::test]
async fn a_listener_answers_for_its_own_group_only() {
    let endpoints = endpoints(3_600_000);
    let modes = [NetworkMode::Awsvpc, NetworkMode::Bridge, NetworkMode::Host, NetworkMode::Host];
    let mut addresses = Vec::new();
    let mut keys = Vec::new();
    for (n, mode) in (1..).zip(modes) {
        let facts = facts(n, mode, Some("role"));
        let (socket, address) = listener();
        endpoints.publish(facts.clone());
        // The second listener of the host is not served: the first is for both.
        endpoints.serve(&facts.assignment.key, vec![socket]).unwrap();
        addresses.push(address);
        keys.push(facts.assignment.key.clone());
    }
    for (address, own) in addresses.iter().zip([&[1][..], &[2], &[3, 4]]) {
        for n in 1..=4 {
            for path in
                [format!("/v2/credentials/secret-{n}"), format!("/v4/web-{n}/task"), format!("/v4/web-{n}")]
            {
                assert_eq!(get(*address, &path).await.0 == 200, own.contains(&n), "{path} at {own:?}");
            }
        }
    }
    endpoints.forget(&keys[3]);
    assert_eq!(get(addresses[2], "/v4/web-4").await.0, 404);
    assert_eq!(get(addresses[2], "/v4/web-3").await.0, 200);
    endpoints.forget(&keys[0]);
    // Its server ends, and with it its socket.
    for _ in 0..200 {
        if tokio::net::TcpStream::connect(addresses[0]).await.is_err() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the group is forgotten but still served");
}
