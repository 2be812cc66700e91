//! A million tasks on five thousand nodes, by RunTask.
//!
//! The nodes are records written into the data directory before the server starts; nobody runs their tasks, which stay
//! PROVISIONING: the figures are the control plane's alone. The nodes are of the architecture that this machine is not,
//! and so are the tasks, so that none comes to this machine's own agent.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use state::node::{Capacity, Node};
use state::{Db, Ids};
use store::Backend;
use tempfile::TempDir;

use crate::client::Client;
use crate::process::cpu_of;
use crate::report::Report;
use crate::roadstead::{PORT, Roadstead};

/// RunTask's own limit.
const TASKS_PER_CALL: usize = 10;
const TASKS_PER_NODE: usize = 200;
const TASK_CPU_UNITS: usize = 10;
const TASK_MEMORY_MIB: usize = 16;
const NODES: usize = 5_000;
/// Node counts that the growth is measured at, and how many tasks are placed at each.
const GROWTH: [usize; 4] = [100, 1_000, 5_000, 50_000];
const GROWTH_TASKS: usize = 20_000;
const THREADS: usize = 2;
/// Calls in flight: a connection has one at a time.
const CONNECTIONS_PER_THREAD: usize = 32;
/// How long the server may take to read a million tasks.
const PATIENCE: Duration = Duration::from_secs(300);

/// The benchmark. `ROADSTEAD_BENCH_TASKS` asks for fewer tasks than a million (on 5,000 nodes all the same).
pub fn run() -> Result<Report, String> {
    let asked = std::env::var("ROADSTEAD_BENCH_TASKS").ok().and_then(|text| text.parse().ok());
    let tasks = asked.unwrap_or(NODES * TASKS_PER_NODE);
    let mut report = Report::new(&["", "figure"]);
    for nodes in GROWTH {
        let mut server = start(prepared(nodes)?)?;
        let placed = place(&server, GROWTH_TASKS)?;
        server.process.check_alive()?;
        report.row([
            format!("placing one of {GROWTH_TASKS} tasks on {nodes} nodes"),
            format!("{:.1} µs CPU of the server", per_task_us(placed.server_cpu, GROWTH_TASKS)),
        ]);
        discard(server.kill())?;
    }
    let folder = many(&mut report, tasks)?;
    discard(folder)?;
    report.note(
        "Simulated nodes: records that nobody runs tasks for, so the tasks stay PROVISIONING and the figures are the \
         control plane's alone. Every call is signed, verified and durable (fdatasync) before it is answered.",
    );
    Ok(report)
}

/// Places all, looks at them, kills the server and reads them back.
fn many(report: &mut Report, tasks: usize) -> Result<TempDir, String> {
    let mut server = start(prepared(NODES)?)?;
    let idle = server.process.memory_bytes();
    let placed = place(&server, tasks)?;
    server.process.check_alive()?;
    let memory = server.process.memory_bytes();
    report.row([
        format!("{tasks} tasks placed on {NODES} nodes"),
        format!(
            "{:.1} s wall; {:.1} s CPU of the server, {:.1} s of the client",
            placed.wall.as_secs_f64(),
            placed.server_cpu.as_secs_f64(),
            placed.client_cpu.as_secs_f64()
        ),
    ]);
    report.row([
        "per task".into(),
        format!(
            "{:.1} µs CPU of the server, {:.1} µs of the client",
            per_task_us(placed.server_cpu, tasks),
            per_task_us(placed.client_cpu, tasks)
        ),
    ]);
    report.row([
        format!("a RunTask of {TASKS_PER_CALL}, {} in flight", THREADS * CONNECTIONS_PER_THREAD),
        format!(
            "p50 {:.0} ms, p99 {:.0} ms, longest {:.0} ms",
            placed.took(0.5),
            placed.took(0.99),
            placed.took(1.0)
        ),
    ]);
    report.row([
        "resident memory".into(),
        format!(
            "{:.0} MB ({:.0} MB before), {:.0} B per task",
            memory as f64 / 1e6,
            idle as f64 / 1e6,
            (memory.saturating_sub(idle)) as f64 / tasks as f64
        ),
    ]);
    let store = server.data().join("store");
    report.row([
        "on disk".into(),
        format!("{:.0} B per task", crate::store::disk_bytes(&store) as f64 / tasks as f64),
    ]);
    let quiet = server.process.cpu();
    std::thread::sleep(Duration::from_secs(20));
    report.row([
        "the server left alone with them".into(),
        format!("{:.1} ms CPU per second", (server.process.cpu() - quiet).as_secs_f64() * 1e3 / 20.0),
    ]);
    look(report, &server, &placed.ids)?;

    let folder = server.kill();
    let begun = Instant::now();
    let mut server = start(folder)?;
    report.row([
        "after kill -9, until it answers".into(),
        format!(
            "{:.1} s wall, {:.1} s CPU",
            begun.elapsed().as_secs_f64(),
            server.process.cpu().as_secs_f64()
        ),
    ]);
    report.row([
        "resident memory then".into(),
        format!("{:.0} MB", server.process.memory_bytes() as f64 / 1e6),
    ]);
    let (found, cpu) = list_all(&server)?;
    if found != placed.ids {
        return Err(format!(
            "{} tasks were placed, {} are there after kill -9",
            placed.ids.len(),
            found.len()
        ));
    }
    report.row([
        "all listed, 100 at a time, none missing".into(),
        format!(
            "{:.0} µs CPU of the server per page",
            cpu.as_secs_f64() * 1e6 / (found.len() as f64 / 100.0)
        ),
    ]);
    server.process.check_alive()?;
    Ok(server.kill())
}

fn per_task_us(cpu: Duration, tasks: usize) -> f64 {
    cpu.as_secs_f64() * 1e6 / tasks as f64
}

fn start(folder: TempDir) -> Result<Roadstead, String> {
    Roadstead::start_patiently(folder, &[], PATIENCE)
}

/// A folder whose data directory knows so many nodes.
fn prepared(nodes: usize) -> Result<TempDir, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("a temporary folder: {error}"))?;
    let store = folder.path().join("data").join("store");
    std::fs::create_dir_all(&store).map_err(|error| format!("{}: {error}", store.display()))?;
    write_nodes(&store, nodes).map_err(|error| format!("the nodes' records: {error}"))?;
    Ok(folder)
}

fn write_nodes(store: &Path, nodes: usize) -> Result<(), Box<dyn std::error::Error>> {
    let records = Arc::new(store::embedded(store)?);
    let db = Db::open(records.clone())?;
    let mut ids = Ids::new(1);
    db.decide_blocking(|tx| {
        for n in 0..nodes {
            tx.put(Node {
                id: ids.hex(32),
                hostname: format!("node-{n}"),
                capacity: Capacity {
                    cpu_units: (TASKS_PER_NODE * TASK_CPU_UNITS) as u32,
                    memory_mib: (TASKS_PER_NODE * TASK_MEMORY_MIB) as u32,
                },
                cpu_physical_units: (TASKS_PER_NODE * TASK_CPU_UNITS) as u32,
                availability_zone: format!("us-east-1{}", ["a", "b", "c"][n % 3]),
                cpu_architecture: foreign_architecture().into(),
                address: std::net::Ipv4Addr::from(0x0a00_0000 + n as u32).into(),
                silent_since_ms: None,
                registered_at_ms: 1_000_000_000_000,
            });
        }
        Ok::<_, std::convert::Infallible>(())
    })??;
    // The server opens the same folder: it must be free by then, whoever else still holds the state.
    Ok(records.close()?)
}

/// The one that this machine is not.
fn foreign_architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "X86_64" } else { "ARM64" }
}

fn register(client: &mut Client) -> Result<(), String> {
    let definition = json!({
        "family": "c1m",
        "requiresCompatibilities": ["EC2"],
        "networkMode": "host",
        "runtimePlatform": {"cpuArchitecture": foreign_architecture(), "operatingSystemFamily": "LINUX"},
        "containerDefinitions": [
            {"name": "app", "image": "localhost:4566/app:1", "cpu": TASK_CPU_UNITS, "memory": TASK_MEMORY_MIB}
        ],
    });
    client.json("RegisterTaskDefinition", &definition).map(drop)
}

/// What placing took.
struct Placed {
    wall: Duration,
    server_cpu: Duration,
    client_cpu: Duration,
    /// The tasks' ids, in order.
    ids: Vec<u128>,
    /// How long each call took, in order.
    calls: Vec<Duration>,
}

impl Placed {
    /// The part of the calls that took at most so long, in milliseconds.
    fn took(&self, part: f64) -> f64 {
        let last = self.calls.len().saturating_sub(1);
        self.calls.get((last as f64 * part) as usize).map_or(0.0, |took| took.as_secs_f64() * 1e3)
    }
}

/// Places so many tasks; all must be.
fn place(server: &Roadstead, tasks: usize) -> Result<Placed, String> {
    register(&mut server.client("ecs"))?;
    let left = AtomicU64::new(tasks.div_ceil(TASKS_PER_CALL) as u64);
    let (begun, server_cpu, client_cpu) = (Instant::now(), server.process.cpu(), cpu_of(std::process::id()));
    let (mut ids, mut calls) = (Vec::with_capacity(tasks), Vec::new());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| place_some(&left))).collect();
        for thread in threads {
            let (some, took) = thread.join().map_err(|_| "a client's thread panicked")??;
            ids.extend(some);
            calls.extend(took);
        }
        Ok::<_, String>(())
    })?;
    let (wall, server_cpu) = (begun.elapsed(), server.process.cpu() - server_cpu);
    let client_cpu = cpu_of(std::process::id()) - client_cpu;
    ids.sort_unstable();
    ids.dedup();
    calls.sort_unstable();
    if ids.len() != tasks {
        return Err(format!("{} of {tasks} tasks were placed", ids.len()));
    }
    Ok(Placed { wall, server_cpu, client_cpu, ids, calls })
}

/// Keeps a call in flight on each of its connections until none is left to make.
fn place_some(left: &AtomicU64) -> Result<(Vec<u128>, Vec<Duration>), String> {
    let call = json!({"taskDefinition": "c1m", "launchType": "EC2", "count": TASKS_PER_CALL}).to_string();
    let take = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
    let failed = |error: std::io::Error| format!("RunTask: {error}");
    let (mut ids, mut took) = (Vec::new(), Vec::new());
    let mut in_flight = VecDeque::new();
    for _ in 0..CONNECTIONS_PER_THREAD {
        if take() {
            let mut client = Client::new(PORT, "ecs");
            let request = client.signed("RunTask", &call);
            client.send(&request).map_err(failed)?;
            in_flight.push_back((client, Instant::now()));
        }
    }
    while let Some((mut client, sent)) = in_flight.pop_front() {
        let (status, answer) = client.receive().map_err(failed)?;
        took.push(sent.elapsed());
        if status != 200 || !answer.contains("\"failures\":[]") {
            return Err(format!("RunTask: {status} {answer}"));
        }
        ids.extend(task_ids(&answer));
        if take() {
            let request = client.signed("RunTask", &call);
            client.send(&request).map_err(failed)?;
            in_flight.push_back((client, Instant::now()));
        }
    }
    Ok((ids, took))
}

/// The ids in the task ARNs of an answer, found without reading it as JSON: the client must cost little.
fn task_ids(answer: &str) -> impl Iterator<Item = u128> {
    let mark = ":task/default/";
    let at = answer.match_indices(mark).map(move |(at, _)| at + mark.len());
    at.filter_map(|at| u128::from_str_radix(answer.get(at..at + 32)?, 16).ok())
}

/// What it costs to look at them.
fn look(report: &mut Report, server: &Roadstead, ids: &[u128]) -> Result<(), String> {
    let some: Vec<String> = ids.iter().step_by(ids.len() / 100 + 1).map(|id| format!("{id:032x}")).collect();
    let one = some.first().cloned().unwrap_or_default();
    let asked: [(&str, &str, Value); 5] = [
        ("DescribeTasks of one", "DescribeTasks", json!({"tasks": [one]})),
        ("DescribeTasks of 100", "DescribeTasks", json!({"tasks": some})),
        ("ListTasks, the first page", "ListTasks", json!({})),
        ("ListTasks, none of the family", "ListTasks", json!({"family": "none"})),
        ("DescribeClusters, with counts", "DescribeClusters", json!({"include": ["STATISTICS"]})),
    ];
    let mut client = server.client("ecs");
    for (what, operation, input) in asked {
        const TIMES: u32 = 20;
        let (begun, cpu) = (Instant::now(), server.process.cpu());
        for _ in 0..TIMES {
            client.json(operation, &input)?;
        }
        let (wall, cpu) = (begun.elapsed() / TIMES, (server.process.cpu() - cpu) / TIMES);
        report.row([
            what.to_owned(),
            format!("{:.2} ms wall, {:.1} ms CPU", wall.as_secs_f64() * 1e3, cpu.as_secs_f64() * 1e3),
        ]);
    }
    Ok(())
}

/// All tasks' ids by ListTasks, in order, and the server's CPU time.
fn list_all(server: &Roadstead) -> Result<(Vec<u128>, Duration), String> {
    let mut client = server.client("ecs");
    let cpu = server.process.cpu();
    let (mut ids, mut token) = (Vec::new(), Value::Null);
    loop {
        let answer = client.json("ListTasks", &json!({"nextToken": token}))?;
        let arns = answer["taskArns"].as_array().into_iter().flatten().filter_map(Value::as_str);
        ids.extend(arns.filter_map(|arn| u128::from_str_radix(arn.rsplit('/').next()?, 16).ok()));
        token = answer["nextToken"].clone();
        if token.is_null() {
            break;
        }
    }
    ids.sort_unstable();
    ids.dedup();
    Ok((ids, server.process.cpu() - cpu))
}

/// Removes what a server left on the machine. Its tasks would never end, for nobody runs them: the records go first, and
/// an empty store takes their place, by which the data directory is known.
fn discard(folder: TempDir) -> Result<(), String> {
    let store = folder.path().join("data").join("store");
    std::fs::remove_dir_all(&store).map_err(|error| format!("{}: {error}", store.display()))?;
    store::embedded(&store).and_then(|empty| empty.close()).map_err(|error| error.to_string())?;
    Roadstead::remove(folder);
    Ok(())
}
