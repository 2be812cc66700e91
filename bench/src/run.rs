//! From RunTask to the container's own first instruction, and what a task costs from its start to its end.
//!
//! The image is there already. The container's program tells the time of its first instruction over a socket in a
//! mounted folder of the host, and ends. CPU time is that of all processes below this one (it is made their reaper), so
//! servers, supervisors, shims, helpers and the container itself count, and this client does not.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tempfile::TempDir;

use crate::client::Client;
use crate::engines::{Docker, Podman};
use crate::process::{own_cpu, reap_orphans, tree};
use crate::report::Report;
use crate::roadstead::{PORT, Roadstead};
use crate::{engines, image};

/// How often each is started alone; the peers, which take longer, a third as often.
const STARTS: usize = 100;
/// How many are started at once.
const BURST: usize = 200;
/// The most that one RunTask starts.
const RUN_TASK_MAX: usize = 10;
const PATIENCE: Duration = Duration::from_secs(120);

/// Starts containers that tell of their first instruction.
trait Starter {
    /// What the column is called.
    fn name(&self) -> String;
    /// Starts so many, as quickly as one client can; returns when all are asked for.
    fn start(&mut self, count: usize) -> Result<(), String>;
    /// How many are started at once.
    fn burst(&self) -> usize;
}

/// Installs the peers and makes the image.
pub fn prepare() -> Result<(), String> {
    image::install()?;
    engines::install()
}

/// The benchmark.
pub fn run() -> Result<Report, String> {
    nix::sys::prctl::set_child_subreaper(true).map_err(|error| format!("becoming the reaper: {error}"))?;
    engines::hide_empty_cgroups();
    let folder = TempDir::new().map_err(|error| format!("a temporary folder: {error}"))?;
    let told = Told::listen(folder.path())?;
    let layout = image::first(folder.path())?;
    let server = Roadstead::start()?;
    image::push("first", &layout)?;
    let archive = image::archive(&layout, folder.path(), "first")?;
    let mut starters: Vec<Box<dyn Starter>> = Vec::new();
    for network in ["none", "host", "awsvpc"] {
        starters.push(Box::new(Tasks::new(&server, network, &told.folder)?));
    }
    let mut notes = Vec::new();
    let docker = Docker::start(folder.path(), &archive);
    match &docker {
        Ok(docker) => {
            for network in ["none", "bridge"] {
                starters.push(Box::new(Engine {
                    command: docker.run(network, &told.folder),
                    name: format!("docker, {network}"),
                }));
            }
        }
        Err(why) => notes.push(format!("docker does not run here: {why}.")),
    }
    match Podman::load(folder.path(), &archive) {
        Ok(podman) => {
            let command = podman.run("none", &told.folder);
            starters.push(Box::new(Engine { command, name: "podman, none".into() }));
        }
        Err(why) => notes.push(format!("podman does not run here: {why}.")),
    }
    let mut report = measure(&mut starters, &told)?;
    notes.into_iter().for_each(|note| report.note(note));
    Ok(report)
}

fn measure(starters: &mut [Box<dyn Starter>], told: &Told) -> Result<Report, String> {
    for starter in &mut *starters {
        starter.start(1)?;
        told.wait(1).map_err(|why| format!("{}: {why}", starter.name()))?;
    }
    let calm = Calm::learn();
    let mut latencies = vec![Vec::new(); starters.len()];
    for round in 0..STARTS {
        for (starter, latencies) in starters.iter_mut().zip(&mut latencies) {
            if round % 3 != 0 && starter.burst() < BURST {
                continue;
            }
            let begun = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            starter.start(1)?;
            let first = *told.wait(1)?.first().ok_or("nothing was told")?;
            latencies.push(first.saturating_sub(begun));
            // What ends one container must not slow the start of the next.
            calm.wait()?;
        }
    }
    let mut report =
        Report::new(&["", "first instruction p50", "p99", "started together", "per second", "CPU each"]);
    for (starter, mut latencies) in starters.iter_mut().zip(latencies) {
        latencies.sort();
        let at = |share: f64| {
            latencies[((latencies.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1e3
        };
        let (count, cpu) = (starter.burst(), children_cpu());
        let begun = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        starter.start(count)?;
        let last = told.wait(count)?.into_iter().max().unwrap_or_default();
        calm.wait()?;
        let each = (children_cpu() - cpu).as_secs_f64() * 1e3 / count as f64;
        let rate = count as f64 / last.saturating_sub(begun).as_secs_f64();
        report.row([
            starter.name(),
            format!("{:.1} ms", at(0.5)),
            format!("{:.1} ms", at(0.99)),
            count.to_string(),
            format!("{rate:.1}"),
            format!("{each:.1} ms"),
        ]);
    }
    report
        .note("CPU: from the request until nothing of the container is left; kernel threads are not in it.");
    Ok(report)
}

/// CPU time of all processes below this one.
fn children_cpu() -> Duration {
    reap_orphans();
    let all: Duration = tree(std::process::id()).into_iter().map(crate::process::cpu_of).sum();
    all.saturating_sub(own_cpu())
}

/// How many processes there are below this one when no container runs.
struct Calm(usize);

impl Calm {
    /// Waits until no more come or go.
    fn learn() -> Calm {
        let (mut count, mut since) = (0, Instant::now());
        while since.elapsed() < Duration::from_secs(2) {
            let now = processes();
            if now != count {
                (count, since) = (now, Instant::now());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Calm(count)
    }

    /// Waits until there are as few again.
    fn wait(&self) -> Result<(), String> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if processes() <= self.0 {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let names: Vec<String> = tree(std::process::id()).into_iter().map(crate::process::name_of).collect();
        Err(format!("{} processes are left, not {}: {}", names.len(), self.0, names.join(", ")))
    }
}

fn processes() -> usize {
    reap_orphans();
    tree(std::process::id()).len()
}

// === What containers tell ===

struct Told {
    socket: UnixDatagram,
    folder: PathBuf,
}

impl Told {
    fn listen(folder: &Path) -> Result<Told, String> {
        let folder = folder.join("told");
        let socket = || -> std::io::Result<UnixDatagram> {
            std::fs::create_dir(&folder)?;
            let socket = UnixDatagram::bind(folder.join("socket"))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            Ok(socket)
        };
        Ok(Told { socket: socket().map_err(|error| format!("the socket: {error}"))?, folder })
    }

    /// Waits for so many first instructions: when each was.
    fn wait(&self, count: usize) -> Result<Vec<Duration>, String> {
        let next = |_| {
            let mut bytes = [0; 8];
            self.socket.recv(&mut bytes).map_err(|error| format!("a container did not start: {error}"))?;
            Ok(Duration::from_nanos(u64::from_le_bytes(bytes)))
        };
        (0..count).map(next).collect()
    }
}

// === Who starts ===

/// Tasks of Roadstead in one network mode.
struct Tasks {
    ecs: Client,
    network: &'static str,
    subnet: String,
}

impl Tasks {
    fn new(server: &Roadstead, network: &'static str, told: &Path) -> Result<Tasks, String> {
        let mut ecs = server.client("ecs");
        let mounts = json!([{"sourceVolume": "told", "containerPath": image::SOCKET_FOLDER}]);
        ecs.json(
            "RegisterTaskDefinition",
            &json!({
                "family": network, "networkMode": network,
                "volumes": [{"name": "told", "host": {"sourcePath": told}}],
                "containerDefinitions": [
                    {"name": "main", "image": image::reference("first"), "memory": 32, "mountPoints": mounts},
                ],
            }),
        )?;
        Ok(Tasks { ecs, network, subnet: Client::ec2(PORT, "DescribeSubnets", "subnetId")? })
    }
}

impl Starter for Tasks {
    fn name(&self) -> String {
        format!("Roadstead, {}", self.network)
    }

    fn start(&mut self, count: usize) -> Result<(), String> {
        let mut input = json!({"taskDefinition": self.network, "launchType": "EC2"});
        if self.network == "awsvpc" {
            input["networkConfiguration"] = json!({"awsvpcConfiguration": {"subnets": [self.subnet]}});
        }
        let mut left = count;
        while left > 0 {
            input["count"] = json!(left.min(RUN_TASK_MAX));
            let answer = self.ecs.json("RunTask", &input)?;
            match answer["tasks"].as_array() {
                Some(tasks) if !tasks.is_empty() => left -= tasks.len(),
                _ => return Err(format!("RunTask: {answer}")),
            }
        }
        Ok(())
    }

    fn burst(&self) -> usize {
        BURST
    }
}

/// Containers of an engine with a command line.
struct Engine {
    command: Vec<String>,
    name: String,
}

impl Starter for Engine {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn start(&mut self, count: usize) -> Result<(), String> {
        let arguments: Vec<&str> = self.command[1..].iter().map(String::as_str).collect();
        (0..count).try_for_each(|_| engines::quietly(&self.command[0], &arguments))
    }

    fn burst(&self) -> usize {
        BURST / 5
    }
}
