//! What one API call costs the server: CPU time of its process per call, over one connection and over sixteen.

use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::client::Client;
use crate::process::Process;
use crate::report::Report;
use crate::roadstead::{PORT, Roadstead};
use crate::{image, peers};

/// Each measurement is repeated, the servers in turn; the median counts.
const ROUNDS: usize = 5;
/// How long one measurement lasts.
const DURATION: Duration = Duration::from_millis(700);
const CONNECTIONS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(60);

/// A call that is measured.
struct Operation {
    service: &'static str,
    name: &'static str,
    body: String,
    connections: usize,
}

/// What one call cost.
struct Cost {
    cpu_us: f64,
    wall_us: f64,
}

/// Installs the peers and makes the image.
pub fn prepare() -> Result<(), String> {
    peers::install()?;
    image::install()
}

/// The benchmark.
pub fn run() -> Result<Report, String> {
    let folder = TempDir::new().map_err(|error| format!("a temporary folder: {error}"))?;
    let ours = Roadstead::start()?;
    image::push("first", &image::first(folder.path())?)?;
    let mut moto = peers::moto(folder.path())?;
    moto.wait_for_port(peers::MOTO_PORT, PATIENCE)?;
    let mut ministack = peers::ministack(folder.path())?;
    ministack.wait_for_port(peers::MINISTACK_PORT, PATIENCE)?;
    let servers = [
        (PORT, &ours.process, image::reference("first")),
        (peers::MOTO_PORT, &moto, "first".to_owned()),
        (peers::MINISTACK_PORT, &ministack, "first".to_owned()),
    ];
    let mut of_each = Vec::new();
    for (port, process, image) in &servers {
        let task = run_task(*port, image)?;
        of_each.push((*port, *process, operations(&task, image)));
    }
    let mut report = Report::new(&["CPU per call (wall)", "Roadstead", "moto", "MiniStack"]);
    for index in 0..of_each[0].2.len() {
        let mut costs = [const { Vec::new() }; 3];
        for _ in 0..ROUNDS {
            for ((port, process, operations), costs) in of_each.iter().zip(&mut costs) {
                costs.push(measure(*port, process, &operations[index])?);
            }
        }
        let Operation { name, connections, .. } = of_each[0].2[index];
        let title =
            if connections == 1 { name.to_owned() } else { format!("{name}, {connections} connections") };
        report.row(std::iter::once(title).chain(costs.into_iter().map(median)));
    }
    report.note(
        "RunTask runs a container here, and does not in the peers. Only Roadstead verifies signatures and makes writes \
         durable.",
    );
    Ok(report)
}

fn operations(task: &str, image: &str) -> Vec<Operation> {
    let describe = json!({"cluster": "bench", "tasks": [task]}).to_string();
    let operation = |service, name, body: &str, connections| Operation {
        service,
        name,
        body: body.to_owned(),
        connections,
    };
    vec![
        operation("ecs", "ListClusters", "{}", 1),
        operation("ecs", "ListClusters", "{}", CONNECTIONS),
        operation("ecs", "DescribeTasks", &describe, 1),
        operation("ecs", "DescribeTasks", &describe, CONNECTIONS),
        operation("sts", "GetCallerIdentity", "Action=GetCallerIdentity&Version=2011-06-15", 1),
        operation("ecs", "RegisterTaskDefinition", &definition(image), 1),
    ]
}

fn definition(image: &str) -> String {
    let containers = json!([{"name": "main", "image": image, "cpu": 256, "memory": 512, "command": ["stay"], "essential": true}]);
    let definition = json!({
        "family": "api", "networkMode": "awsvpc", "requiresCompatibilities": ["FARGATE"], "cpu": "256",
        "memory": "512", "containerDefinitions": containers,
    });
    definition.to_string()
}

/// Starts a task and waits until it runs; its ARN.
fn run_task(port: u16, image: &str) -> Result<String, String> {
    let mut ecs = Client::new(port, "ecs");
    ecs.json("CreateCluster", &json!({"clusterName": "bench"}))?;
    ecs.call("RegisterTaskDefinition", &definition(image))?;
    let subnet = Client::ec2(port, "DescribeSubnets", "subnetId")?;
    let group = Client::ec2(port, "DescribeSecurityGroups", "groupId")?;
    let network = json!({"awsvpcConfiguration": {"subnets": [subnet], "securityGroups": [group]}});
    let input = json!({"cluster": "bench", "taskDefinition": "api", "launchType": "FARGATE", "networkConfiguration": network});
    let answer = ecs.json("RunTask", &input)?;
    let task = answer["tasks"][0]["taskArn"].as_str().ok_or_else(|| format!("no task: {answer}"))?.to_owned();
    let begun = Instant::now();
    loop {
        let told = ecs.json("DescribeTasks", &json!({"cluster": "bench", "tasks": [task]}))?;
        // The peers' tasks are of words alone: they go from state to state as they are looked at.
        if port != PORT || told["tasks"][0]["lastStatus"] == "RUNNING" {
            return Ok(task);
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("the task does not run: {told}"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn measure(port: u16, process: &Process, operation: &Operation) -> Result<Cost, String> {
    let mut clients: Vec<Client> =
        (0..operation.connections).map(|_| Client::new(port, operation.service)).collect();
    let request = clients[0].signed(operation.name, &operation.body);
    let mut once = || -> Result<(), String> {
        for client in &mut clients {
            client.send(&request).map_err(|error| format!("{}: {error}", operation.name))?;
        }
        for client in &mut clients {
            match client.receive().map_err(|error| format!("{}: {error}", operation.name))? {
                (200, _) => {}
                (status, answer) => return Err(format!("{}: {status} {answer}", operation.name)),
            }
        }
        Ok(())
    };
    for _ in 0..3 {
        once()?;
    }
    let (begun, cpu, mut calls) = (Instant::now(), process.own_cpu(), 0);
    while begun.elapsed() < DURATION {
        once()?;
        calls += operation.connections;
    }
    let (wall, cpu) = (begun.elapsed(), process.own_cpu() - cpu);
    let each = |time: Duration| time.as_secs_f64() * 1e6 / calls as f64;
    Ok(Cost { cpu_us: each(cpu), wall_us: each(wall) })
}

fn median(mut costs: Vec<Cost>) -> String {
    costs.sort_by(|a, b| a.cpu_us.total_cmp(&b.cpu_us));
    let Cost { cpu_us, wall_us } = &costs[costs.len() / 2];
    format!("{cpu_us:.0} µs ({wall_us:.0})")
}
