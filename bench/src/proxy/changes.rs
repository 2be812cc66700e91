//! What must not lose a request: targets that come and go by the API, and a service that is rolled over.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::balancer::{Balancer, Network, values};
use super::origin;
use crate::image;
use crate::report::Report;
use crate::roadstead::Roadstead;

/// Changes of targets under load.
const CHANGES: usize = 100;
/// Threads that ask without a pause; every second one opens a connection for each request.
const CLIENTS: usize = 6;

/// Registers and deregisters targets of origin `a`, one after the other, under load.
pub fn targets(report: &mut Report, balancer: &mut Balancer, roadstead: &Roadstead) -> Result<(), String> {
    let port = origin::PORTS[0];
    balancer.reconnect(roadstead);
    let address = |n: usize| format!("127.0.0.{}", 1 + n % 9);
    let (load, changed) = under_load(balancer.port, "/a/x", true, || {
        // Two at a time: the newest comes, the oldest goes.
        eprintln!("{CHANGES} target changes");
        for change in 0..CHANGES {
            let n = change / 2;
            if change % 2 == 0 {
                balancer.register(0, &address(n + 1), port)?;
                balancer.wait_healthy(0, 2)?;
            } else {
                balancer.deregister(0, &address(n), port)?;
            }
        }
        Ok(())
    });
    changed?;
    load.tell(report, &format!("failed requests over {CHANGES} target changes"))
}

/// Rolls a service of real containers over to a new task definition under load.
pub fn rolling_update(report: &mut Report, roadstead: &Roadstead, folder: &Path) -> Result<(), String> {
    let network = Network::default_of(roadstead)?;
    let security_group = open_security_group(roadstead, &network)?;
    let mut balancer = Balancer::before_tasks(roadstead, &security_group, &network)?;
    // Each call over a connection of its own: the server closes one that has been silent for long.
    let ecs = |operation: &str, input: &Value| roadstead.client("ecs").json(operation, input);
    image::push("web", &image::busybox(folder)?)?;
    ecs("CreateCluster", &json!({"clusterName": "bench"}))?;
    let definition = |text: &str| {
        let script = format!(
            "mkdir -p /tmp/www; echo {text} > /tmp/www/index.html; trap 'exit 0' TERM; \
             httpd -f -p 8080 -h /tmp/www & wait"
        );
        json!({
            "family": "web", "requiresCompatibilities": ["FARGATE"], "networkMode": "awsvpc",
            "cpu": "256", "memory": "512",
            "containerDefinitions": [{
                "name": "web", "image": image::reference("web"), "essential": true,
                "command": ["/bin/sh", "-c", script], "portMappings": [{"containerPort": 8080}],
            }],
        })
    };
    ecs("RegisterTaskDefinition", &definition("one"))?;
    ecs(
        "CreateService",
        &json!({
            "cluster": "bench", "serviceName": "web", "taskDefinition": "web", "desiredCount": 2,
            "launchType": "FARGATE",
            "networkConfiguration": {"awsvpcConfiguration": {
                "subnets": network.subnets, "securityGroups": [security_group], "assignPublicIp": "DISABLED",
            }},
            "loadBalancers": [{"targetGroupArn": balancer.groups[0], "containerName": "web", "containerPort": 8080}],
        }),
    )?;
    completed(roadstead)?;
    balancer.reconnect(roadstead);
    balancer.wait_healthy(0, 2)?;
    eprintln!("a rolling update");
    let (load, rolled) = under_load(balancer.port, "/", false, || {
        ecs("RegisterTaskDefinition", &definition("two"))?;
        let update = json!({"cluster": "bench", "service": "web", "taskDefinition": "web"});
        ecs("UpdateService", &update)?;
        completed(roadstead)
    });
    rolled?;
    let (status, text) = get(balancer.port, "/").map_err(|error| error.to_string())?;
    if (status, text.trim()) != (200, "two") {
        return Err(format!("after the rolling update: {status} {text}"));
    }
    load.tell(report, "failed requests over a rolling update")?;
    ecs("DeleteService", &json!({"cluster": "bench", "service": "web", "force": true}))?;
    Ok(())
}

/// Waits until the service's only deployment is complete.
fn completed(roadstead: &Roadstead) -> Result<(), String> {
    let (mut client, begun) = (roadstead.client("ecs"), Instant::now());
    loop {
        let told = client.json("DescribeServices", &json!({"cluster": "bench", "services": ["web"]}))?;
        let deployments = told["services"][0]["deployments"].as_array().cloned().unwrap_or_default();
        if matches!(&deployments[..], [only] if only["rolloutState"] == "COMPLETED") {
            return Ok(());
        }
        if begun.elapsed() > Duration::from_secs(120) {
            return Err(format!("not deployed after two minutes: {told}"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn open_security_group(roadstead: &Roadstead, network: &Network) -> Result<String, String> {
    let mut ec2 = roadstead.client("ec2");
    let body = format!(
        "Action=CreateSecurityGroup&Version=2016-11-15&GroupName=open&GroupDescription=open&VpcId={}",
        network.vpc
    );
    let answer = ec2.call("CreateSecurityGroup", &body)?;
    let id = values(&answer, "groupId").into_iter().next().ok_or(answer)?;
    let body = format!(
        "Action=AuthorizeSecurityGroupIngress&Version=2016-11-15&GroupId={id}&IpPermissions.1.IpProtocol=-1\
         &IpPermissions.1.IpRanges.1.CidrIp=0.0.0.0%2F0"
    );
    ec2.call("AuthorizeSecurityGroupIngress", &body)?;
    Ok(id)
}

/// What a load saw.
struct Load {
    requests: u64,
    failures: Vec<String>,
}

impl Load {
    fn tell(self, report: &mut Report, what: &str) -> Result<(), String> {
        if let Some(first) = self.failures.first() {
            eprintln!("{what}: {} of {}, the first: {first}", self.failures.len(), self.requests);
        }
        if self.requests < 100 {
            return Err(format!("{what}: only {} requests", self.requests));
        }
        let cell = format!("{} of {}", self.failures.len(), self.requests);
        report.row([what.to_owned(), cell, "–".to_owned(), "–".to_owned()]);
        Ok(())
    }
}

/// Does something while requests are made without a pause. With `posts`, every third client's cannot be repeated.
fn under_load<T>(
    port: u16,
    path: &str,
    posts: bool,
    work: impl FnOnce() -> Result<T, String>,
) -> (Load, Result<T, String>) {
    let (stop, requests) = (AtomicBool::new(false), AtomicU64::new(0));
    let client = |n: usize| {
        let (mut kept, mut failures) = (None, Vec::new());
        while !stop.load(Relaxed) {
            let post = posts && n.is_multiple_of(3);
            let result = ask(&mut kept, port, if post { "POST" } else { "GET" }, path);
            match result {
                Ok((200, _)) => {}
                Ok((status, _)) => failures.push(status.to_string()),
                Err(error) => failures.push(error.to_string()),
            }
            requests.fetch_add(1, Relaxed);
            if n % 2 == 1 {
                kept = None;
            }
        }
        failures
    };
    std::thread::scope(|scope| {
        let client = &client;
        let threads: Vec<_> = (0..CLIENTS).map(|n| scope.spawn(move || client(n))).collect();
        let done = work();
        // Some more, so that what the last change did shows.
        std::thread::sleep(Duration::from_millis(500));
        stop.store(true, Relaxed);
        let failures = threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect();
        (Load { requests: requests.load(Relaxed), failures }, done)
    })
}

/// One request on a connection of its own.
pub fn get(port: u16, path: &str) -> std::io::Result<(u16, String)> {
    ask(&mut None, port, "GET", path)
}

/// One request on a connection that is kept, or a new one.
fn ask(
    kept: &mut Option<BufReader<TcpStream>>,
    port: u16,
    method: &str,
    path: &str,
) -> std::io::Result<(u16, String)> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => {
            let stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            BufReader::new(stream)
        }
    };
    let body = if method == "POST" { "Content-Length: 2\r\n\r\nhi" } else { "\r\n" };
    write!(connection.get_mut(), "{method} {path} HTTP/1.1\r\nHost: localhost:{port}\r\n{body}")?;
    let (mut line, mut length, mut closes) = (String::new(), None, false);
    connection.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("the answer '{}'", line.trim())))?;
    loop {
        line.clear();
        connection.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok(),
            "connection" => closes = value.trim().eq_ignore_ascii_case("close"),
            "transfer-encoding" => length = None,
            _ => {}
        }
    }
    let mut text = Vec::new();
    match length {
        Some(length) => {
            text.resize(length, 0);
            connection.read_exact(&mut text)?;
        }
        None => chunks(&mut connection, &mut text)?,
    }
    if !closes {
        *kept = Some(connection);
    }
    Ok((status, String::from_utf8_lossy(&text).into_owned()))
}

fn chunks(connection: &mut BufReader<TcpStream>, text: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        let mut line = String::new();
        connection.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
        let start = text.len();
        text.resize(start + size, 0);
        connection.read_exact(&mut text[start..])?;
        line.clear();
        connection.read_line(&mut line)?;
        if size == 0 {
            return Ok(());
        }
    }
}
