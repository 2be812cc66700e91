//! How many idle tasks this machine holds and what each costs, beside podman's.
//!
//! The container is one static program that waits for SIGTERM. A task's cost is what is there besides: its supervisor,
//! the kernel's memory for its cgroups, namespaces, mounts and network, and what the server keeps of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::memory_of;
use crate::report::Report;
use crate::roadstead::Roadstead;
use crate::{image, install};

mod idle;

/// How many are live at once. `awsvpc` tasks share a subnet's bridge, of which the kernel lets 1,023 be members. The most
/// come last: what the kernel keeps per cgroup grows with the most filesystems that there were, and never shrinks.
const MODES: [(&str, usize); 3] = [("host", 500), ("awsvpc", 500), ("none", 2_500)];
const PODMAN: usize = 50;
/// How many tasks may be on their way at once.
const STARTING: i64 = 40;
const PATIENCE: Duration = Duration::from_secs(1_800);
/// So long all are idle for their CPU time to be seen.
const IDLE_SECONDS: u32 = 5;

/// Installs the peer, and what pushes the image.
pub fn prepare() -> Result<(), String> {
    install::apt("podman", "podman")?;
    install::apt("crun", "crun")?;
    install::apt("skopeo", "skopeo")
}

/// The benchmark. `ROADSTEAD_BENCH_TASKS` asks for so many tasks at most.
pub fn run() -> Result<Report, String> {
    let asked = std::env::var("ROADSTEAD_BENCH_TASKS").ok().and_then(|text| text.parse().ok());
    let most = asked.unwrap_or(usize::MAX);
    let folder = tempfile::tempdir().map_err(|error| format!("a temporary folder: {error}"))?;
    let layer = idle::layer(&idle::build(folder.path())?)?;
    let layout = image::layout(
        &folder.path().join("image"),
        std::slice::from_ref(&layer),
        &json!({"Entrypoint": ["/idle"]}),
    );
    let layout = layout.map_err(|error| format!("the image: {error}"))?;
    let mut report = Report::new(&[
        "per idle task",
        "live at once",
        "supervisor, PSS",
        "container's process, PSS",
        "charged to its cgroups, kernel's part",
        "server's growth",
        "kernel's, not charged",
        "sum",
        "MemAvailable's fall",
        "CPU to start",
        "CPU to stop",
        "idle CPU of all",
    ]);
    for (mode, count) in MODES {
        let mut server = Roadstead::start()?;
        image::push("idle", &layout)?;
        let row = measure(&mut server, mode, count.min(most))?;
        eprintln!("{}", row.join(", "));
        report.row(row);
    }
    report.row(podman(folder.path(), &layer, PODMAN.min(most))?);
    report.note(
        "Memory in kB per task. The supervisor is what is beside a container for as long as it lives; what the kernel \
         charges to the cgroups of supervisors and containers holds their processes too. Not charged is what the machine's \
         slabs, kernel stacks, page tables and per-CPU memory grow by beyond that. The sum is of what is charged, the \
         server's growth and what is not charged. MemAvailable is the whole machine's, which others use as well.",
    );
    Ok(report)
}

/// What there is at one moment.
struct Seen {
    supervisors: Vec<u32>,
    supervisor_bytes: u64,
    containers: usize,
    container_bytes: u64,
    server_bytes: u64,
    cgroup_bytes: u64,
    cgroup_kernel_bytes: u64,
    kernel_bytes: u64,
    available_bytes: u64,
}

impl Seen {
    fn of(server: &Roadstead) -> Seen {
        let supervisors = processes_here("rs-supervisor");
        let nursery = processes_here("rs-nursery");
        let containers: Vec<u32> = supervisors.iter().flat_map(|pid| children(*pid)).collect();
        let pss = |pids: &[u32]| pids.iter().map(|pid| memory_of(*pid)).sum::<u64>();
        let cgroup = nursery.first().and_then(|pid| memory_cgroup(*pid));
        Seen {
            supervisor_bytes: pss(&supervisors) + pss(&nursery),
            containers: containers.len(),
            container_bytes: pss(&containers),
            server_bytes: memory_of(server.process.pid()),
            cgroup_bytes: cgroup.as_deref().map_or(0, |dir| charged(dir, false)),
            cgroup_kernel_bytes: cgroup.as_deref().map_or(0, |dir| charged(dir, true)),
            kernel_bytes: ["Slab", "KernelStack", "PageTables", "Percpu"].map(meminfo).iter().sum(),
            available_bytes: meminfo("MemAvailable"),
            supervisors,
        }
    }

    /// The kernel's memory of the machine that no cgroup of ours is charged with.
    fn uncharged_bytes(&self) -> u64 {
        self.kernel_bytes.saturating_sub(self.cgroup_kernel_bytes)
    }

    /// All that is accounted for.
    fn sum_bytes(&self) -> u64 {
        self.cgroup_bytes + self.server_bytes + self.uncharged_bytes()
    }
}

fn measure(server: &mut Roadstead, mode: &str, count: usize) -> Result<Vec<String>, String> {
    register(server, mode)?;
    // The first task makes what all share: the nursery, the image's layer, the bridge.
    let first = run_tasks(server, mode, 1, 1)?;
    let before = Seen::of(server);
    let cpu = server.process.cpu();
    let mut arns = run_tasks(server, mode, count - 1, count)?;
    arns.extend(first);
    let started = server.process.cpu() - cpu;
    let live = Seen::of(server);
    if live.supervisors.len() != count || live.containers != count {
        return Err(format!(
            "{mode}: {count} tasks are RUNNING, {} supervisors and {} containers are there",
            live.supervisors.len(),
            live.containers
        ));
    }
    all_are(server, &arns, "RUNNING")?;
    let idle = cpu_of_all(server, &live);
    std::thread::sleep(Duration::from_secs(IDLE_SECONDS.into()));
    let idle = cpu_of_all(server, &live).saturating_sub(idle) / IDLE_SECONDS;
    server.process.check_alive()?;
    let cpu = server.process.cpu();
    stop_all(server, &arns)?;
    let stopped = server.process.cpu() - cpu;
    nothing_is_left(server)?;
    let n = (count - 1).max(1) as f64;
    let kb = |after: u64, before: u64| format!("{:.0}", (after as f64 - before as f64) / n / 1e3);
    Ok(vec![
        format!("Roadstead, {mode}"),
        count.to_string(),
        kb(live.supervisor_bytes, before.supervisor_bytes),
        kb(live.container_bytes, before.container_bytes),
        format!(
            "{}, {}",
            kb(live.cgroup_bytes, before.cgroup_bytes),
            kb(live.cgroup_kernel_bytes, before.cgroup_kernel_bytes)
        ),
        kb(live.server_bytes, before.server_bytes),
        kb(live.uncharged_bytes(), before.uncharged_bytes()),
        kb(live.sum_bytes(), before.sum_bytes()),
        kb(before.available_bytes, live.available_bytes),
        format!("{:.1} ms", started.as_secs_f64() * 1e3 / n),
        format!("{:.1} ms", stopped.as_secs_f64() * 1e3 / count as f64),
        format!("{:.1} ms/s", idle.as_secs_f64() * 1e3),
    ])
}

fn register(server: &Roadstead, mode: &str) -> Result<(), String> {
    let definition = json!({
        "family": mode,
        "requiresCompatibilities": ["EC2"],
        "networkMode": mode,
        "containerDefinitions":
            [{"name": "idle", "image": image::reference("idle"), "cpu": 2, "memory": 6, "stopTimeout": 10}],
    });
    server.client("ecs").json("RegisterTaskDefinition", &definition).map(drop)
}

/// Runs so many tasks, a few at a time, and waits until `live` are RUNNING; their ARNs.
fn run_tasks(server: &Roadstead, mode: &str, count: usize, live: usize) -> Result<Vec<String>, String> {
    let mut client = server.client("ecs");
    let mut request = json!({"taskDefinition": mode, "launchType": "EC2"});
    if mode == "awsvpc" {
        let subnets =
            server.client("ec2").call("DescribeSubnets", "Action=DescribeSubnets&Version=2016-11-15")?;
        let subnets: Vec<&str> =
            subnets.split("<subnetId>").skip(1).filter_map(|s| s.split('<').next()).collect();
        request["networkConfiguration"] = json!({"awsvpcConfiguration": {"subnets": subnets}});
    }
    let (begun, mut arns) = (Instant::now(), Vec::new());
    loop {
        let (running, pending) = counts(server)?;
        if arns.len() == count && running as usize == live {
            return Ok(arns);
        }
        if arns.len() < count && pending < STARTING {
            request["count"] = (count - arns.len()).min(10).into();
            let answer = client.json("RunTask", &request)?;
            if answer["failures"] != json!([]) {
                return Err(format!("{mode}: after {} tasks: {}", arns.len(), answer["failures"]));
            }
            arns.extend(texts(&answer["tasks"], "taskArn"));
        } else if begun.elapsed() > PATIENCE || (pending == 0 && arns.len() == count) {
            return Err(format!("{mode}: {running} of {live} tasks are RUNNING, {pending} on the way"));
        } else {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn texts(list: &Value, member: &str) -> Vec<String> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item[member].as_str())
        .map(str::to_owned)
        .collect()
}

/// How many tasks are RUNNING, and how many on the way there.
fn counts(server: &Roadstead) -> Result<(i64, i64), String> {
    let answer = server.client("ecs").json("DescribeClusters", &json!({}))?;
    let count = |name: &str| answer["clusters"][0][name].as_i64().unwrap_or(-1);
    Ok((count("runningTasksCount"), count("pendingTasksCount")))
}

/// Checks each task's status.
fn all_are(server: &Roadstead, arns: &[String], status: &str) -> Result<(), String> {
    let mut client = server.client("ecs");
    for some in arns.chunks(100) {
        let answer = client.json("DescribeTasks", &json!({"tasks": some}))?;
        let seen = texts(&answer["tasks"], "lastStatus");
        if seen.len() != some.len() || seen.iter().any(|seen| seen != status) {
            return Err(format!("not all tasks are {status}: {seen:?}"));
        }
    }
    Ok(())
}

fn stop_all(server: &Roadstead, arns: &[String]) -> Result<(), String> {
    let mut client = server.client("ecs");
    for arn in arns {
        client.json("StopTask", &json!({"task": arn}))?;
    }
    // Asking for thousands of descriptions again and again would take the processor from those that stop them.
    let begun = Instant::now();
    while counts(server)? != (0, 0) || all_are(server, arns, "STOPPED").is_err() {
        if begun.elapsed() > PATIENCE {
            return all_are(server, arns, "STOPPED");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// No process, cgroup, mount, namespace, interface or folder of a task may be there any more.
fn nothing_is_left(server: &Roadstead) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        let left = what_is_left(server);
        if left.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > Duration::from_secs(30) {
            return Err(format!("left after all tasks were stopped: {}", left.join(", ")));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn what_is_left(server: &Roadstead) -> Vec<String> {
    let mut left = Vec::new();
    let mut count = |what: &str, n: usize| {
        if n > 0 {
            left.push(format!("{n} {what}"));
        }
    };
    count("supervisors", processes_here("rs-supervisor").len());
    let cgroup = processes_here("rs-nursery").first().and_then(|pid| memory_cgroup(*pid));
    let groups = cgroup.map(|dir| folders(&dir)).unwrap_or_default();
    count("cgroups", groups.iter().filter(|name| *name != "_supervisors").count());
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let data = server.data().display().to_string();
    count("mounts", mounts.lines().filter(|line| line.contains(&data)).count());
    count("folders of tasks", folders(&server.data().join("node").join("groups")).len());
    let links = folders(Path::new("/proc/sys/net/ipv4/conf"));
    count("interfaces", links.iter().filter(|name| name.starts_with("rv")).count());
    left
}

fn folders(dir: &Path) -> Vec<String> {
    let all = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let all = all.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    all.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

// === processes ===

/// Processes of a name in this benchmark's network namespace: other Roadsteads on the machine are in others.
fn processes_here(name: &str) -> Vec<u32> {
    let here = std::fs::read_link("/proc/self/ns/net").ok();
    let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let named = pids.filter(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
    });
    named.filter(|pid| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok() == here).collect()
}

fn children(pid: u32) -> Vec<u32> {
    let all = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    all.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// CPU time of the server and of all that idles below the supervisors.
fn cpu_of_all(server: &Roadstead, seen: &Seen) -> Duration {
    let below = seen.supervisors.iter().flat_map(|pid| crate::process::tree(*pid));
    server.process.cpu() + below.map(crate::process::cpu_of).sum::<Duration>()
}

// === cgroups ===

/// The folder, in the memory hierarchy, of the cgroup that all supervisors and tasks are below.
fn memory_cgroup(pid: u32) -> Option<PathBuf> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let v1 = text.lines().find_map(|line| line.split_once(":memory:").map(|(_, path)| path));
    let (root, path) = match v1 {
        Some(path) => ("/sys/fs/cgroup/memory", path),
        None => ("/sys/fs/cgroup", text.lines().find_map(|line| line.strip_prefix("0::"))?),
    };
    Some(Path::new(root).join(path.trim_start_matches('/')).parent()?.to_owned())
}

/// What the kernel has charged to a cgroup and those below: all, or its own memory alone.
fn charged(dir: &Path, kernel: bool) -> u64 {
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let of_stat = || {
        let stat = read("memory.stat")?;
        stat.lines().find_map(|line| line.strip_prefix("kernel ")?.parse().ok())
    };
    let found = if kernel {
        number("memory.kmem.usage_in_bytes").or_else(of_stat)
    } else {
        number("memory.usage_in_bytes").or_else(|| number("memory.current"))
    };
    found.unwrap_or(0)
}

fn meminfo(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

// === the peer ===

/// The same root filesystem by podman with crun and no network; what stands beside a container there is conmon.
fn podman(folder: &Path, layer: &[u8], count: usize) -> Result<Vec<String>, String> {
    let tar = folder.join("idle.tar");
    std::fs::write(&tar, layer).map_err(|error| error.to_string())?;
    // crun refuses a cgroup2 tree beside those of version 1; ours alone, in this mount namespace.
    let unified = Path::new("/sys/fs/cgroup/unified");
    if unified.exists() {
        let _ = Command::new("umount").arg(unified).status();
    }
    let podman = |arguments: &[&str]| {
        let mut command = Command::new("podman");
        command.arg("--root").arg(folder.join("storage")).arg("--runroot").arg(folder.join("run"));
        command.args(["--cgroup-manager", "cgroupfs", "--runtime", "crun", "--events-backend", "none"]);
        command.args(arguments).stdin(Stdio::null());
        let output = command.output().map_err(|error| format!("podman: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(format!("podman {arguments:?}: {said}")) }
    };
    podman(&["import", "--change", "ENTRYPOINT=[\"/idle\"]", &tar.display().to_string(), "idle:1"])?;
    // Limits that podman need not raise: not every machine's root may.
    let limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"];
    let run = ["run", "--detach", "--network", "none", "--memory", "6m", "--log-driver", "k8s-file"];
    let run = [&run[..], &limits, &["idle:1"]].concat();
    podman(&run)?;
    let before = BTreeSet::from_iter(processes_here("conmon"));
    let (available, cpu) = (meminfo("MemAvailable"), children_cpu());
    for _ in 0..count {
        podman(&run)?;
    }
    let cpu = children_cpu() - cpu;
    let monitors: Vec<u32> =
        processes_here("conmon").into_iter().filter(|pid| !before.contains(pid)).collect();
    let containers: Vec<u32> = monitors.iter().flat_map(|pid| children(*pid)).collect();
    let fallen = available as f64 - meminfo("MemAvailable") as f64;
    let pss = |pids: &[u32]| pids.iter().map(|pid| memory_of(*pid)).sum::<u64>() as f64;
    let kb = |bytes: f64| format!("{:.0}", bytes / count as f64 / 1e3);
    let row = vec![
        "podman with crun, none".into(),
        monitors.len().to_string(),
        kb(pss(&monitors)),
        kb(pss(&containers)),
        "–".into(),
        "–".into(),
        "–".into(),
        "–".into(),
        kb(fallen),
        format!("{:.1} ms", cpu.as_secs_f64() * 1e3 / count as f64),
        "–".into(),
        "–".into(),
    ];
    podman(&["rm", "--all", "--force", "--time", "1"])?;
    let _ = podman(&["rmi", "--all", "--force"]);
    Ok(row)
}

/// CPU time of the children of this process that have ended.
fn children_cpu() -> Duration {
    let used = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN);
    used.map_or(Duration::ZERO, |used| {
        let of = |time: nix::sys::time::TimeVal| {
            Duration::from_micros((time.tv_sec() * 1_000_000 + time.tv_usec()) as u64)
        };
        of(used.user_time()) + of(used.system_time())
    })
}
