//! What containers use, in the form of Docker's `GET /containers/{id}/stats` ("Docker Engine API"), which the metadata
//! endpoint answers with. Left out is what the kernel does not tell here (block devices, throttling).

use std::path::Path;

use serde_json::{Map, Value, json};
use state::TimeMs;

use super::super::runtime::cgroup::Usage;
use super::time::rfc3339;

/// What a container had used at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// When.
    pub at_ms: TimeMs,
    /// CPU time, memory, processes.
    pub usage: Usage,
    /// What all processors had worked, idle time included.
    pub system_cpu_ns: u64,
    /// How many processors there are.
    pub online_cpus: u64,
    /// The machine's memory: the limit where there is none.
    pub machine_memory_bytes: u64,
    /// What each interface had carried, but loopback.
    pub networks: Vec<(String, Carried)>,
}

/// What an interface has carried (`/proc/<pid>/net/dev`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Carried {
    received: [u64; 4],
    sent: [u64; 4],
}

/// The order of counters in [`Carried`].
const COUNTERS: [&str; 4] = ["bytes", "packets", "errors", "dropped"];

/// Takes a sample. `pid`: a process in the container's network namespace.
pub fn sample(usage: Usage, pid: Option<i32>, at_ms: TimeMs) -> Sample {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (system_cpu_ns, online_cpus) = parse_stat(&read("/proc/stat"));
    let networks = pid.map(|pid| parse_net_dev(&read(&format!("/proc/{pid}/net/dev")))).unwrap_or_default();
    let machine_memory_bytes = parse_meminfo(&read("/proc/meminfo"));
    Sample { at_ms, usage, system_cpu_ns, online_cpus, machine_memory_bytes, networks }
}

/// Whether processes share the network of the machine: its counters are then not the container's.
pub fn is_host_network(pid: i32) -> bool {
    let of = |pid: &str| std::fs::read_link(Path::new("/proc").join(pid).join("ns/net")).ok();
    of(&pid.to_string()) == of("self")
}

/// The document of a container. `before`: an earlier sample, for what was used in between.
pub fn document(name: &str, id: &str, now: &Sample, before: Option<&Sample>) -> Value {
    let mut stats = Map::new();
    let mut put = |name: &str, value: Value| drop(stats.insert(name.to_owned(), value));
    put("read", rfc3339(now.at_ms).into());
    put("preread", before.map_or_else(|| "0001-01-01T00:00:00Z".into(), |b| rfc3339(b.at_ms)).into());
    put("num_procs", 0.into());
    put("pids_stats", json!({"current": now.usage.pids}));
    put("cpu_stats", cpu(now));
    put("precpu_stats", before.map_or_else(|| json!({"cpu_usage": {"total_usage": 0}}), cpu));
    let mut memory = Map::new();
    memory.insert("usage".into(), now.usage.memory_bytes.into());
    if now.usage.memory_bytes_max > 0 {
        memory.insert("max_usage".into(), now.usage.memory_bytes_max.into());
    }
    // Docker's clients subtract the first of these that there is; version 1 has the other name.
    let inactive = now.usage.inactive_file_bytes;
    memory.insert("stats".into(), json!({"inactive_file": inactive, "total_inactive_file": inactive}));
    memory.insert("limit".into(), now.usage.memory_limit_bytes.unwrap_or(now.machine_memory_bytes).into());
    put("memory_stats", memory.into());
    put("name", format!("/{name}").into());
    put("id", id.into());
    if !now.networks.is_empty() {
        put(
            "networks",
            now.networks.iter().map(|(name, carried)| (name.clone(), network(carried))).collect(),
        );
        if let Some(rates) = rates(now, before) {
            put("network_rate_stats", rates);
        }
    }
    stats.into()
}

fn cpu(sample: &Sample) -> Value {
    json!({
        "cpu_usage": {"total_usage": sample.usage.cpu_ns},
        "system_cpu_usage": sample.system_cpu_ns,
        "online_cpus": sample.online_cpus,
    })
}

fn network(carried: &Carried) -> Value {
    let named = |way: &str, counters: &[u64; 4]| -> Vec<(String, Value)> {
        COUNTERS.iter().zip(counters).map(|(name, n)| (format!("{way}_{name}"), (*n).into())).collect()
    };
    let all = named("rx", &carried.received).into_iter().chain(named("tx", &carried.sent));
    all.collect::<Map<_, _>>().into()
}

fn rates(now: &Sample, before: Option<&Sample>) -> Option<Value> {
    let before = before.filter(|b| now.at_ms > b.at_ms && !b.networks.is_empty())?;
    let seconds = (now.at_ms - before.at_ms) as f64 / 1000.0;
    let total = |sample: &Sample, way: fn(&Carried) -> u64| -> u64 {
        sample.networks.iter().map(|(_, c)| way(c)).sum()
    };
    let rate = |way: fn(&Carried) -> u64| total(now, way).saturating_sub(total(before, way)) as f64 / seconds;
    Some(json!({"rx_bytes_per_sec": rate(|c| c.received[0]), "tx_bytes_per_sec": rate(|c| c.sent[0])}))
}

/// From `/proc/stat`: nanoseconds of all processors, and how many there are. The kernel counts hundredths of seconds.
fn parse_stat(text: &str) -> (u64, u64) {
    let all = text.lines().find_map(|line| line.strip_prefix("cpu "));
    // User, nice, system, idle, iowait, irq, softirq, steal; what follows is contained in these.
    let hundredths: u64 =
        all.map_or(0, |line| line.split_whitespace().take(8).filter_map(|n| n.parse::<u64>().ok()).sum());
    let is_one = |line: &&str| line.starts_with("cpu") && !line.starts_with("cpu ");
    (hundredths * 10_000_000, text.lines().filter(is_one).count() as u64)
}

/// From `/proc/meminfo`: the machine's memory in bytes.
fn parse_meminfo(text: &str) -> u64 {
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next());
    total.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// From `/proc/<pid>/net/dev`: the interfaces but loopback.
fn parse_net_dev(text: &str) -> Vec<(String, Carried)> {
    let interface = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let counters: Vec<u64> = counters.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let four = |from: usize| counters.get(from..from + 4)?.try_into().ok();
        Some((name.trim().to_owned(), Carried { received: four(0)?, sent: four(8)? }))
    };
    text.lines().filter_map(interface).filter(|(name, _)| name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NET_DEV: &str = "Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  eth0:    1000       2    3    4    0     0          0         0     5000       6    7    8    0     0       0          0
";

    fn taken(at_ms: i64, cpu_ns: u64, received: u64) -> Sample {
        let carried = Carried { received: [received, 2, 3, 4], sent: [5000, 6, 7, 8] };
        Sample {
            at_ms,
            usage: Usage {
                cpu_ns,
                memory_bytes: 4096,
                inactive_file_bytes: 1024,
                pids: 3,
                ..Usage::default()
            },
            system_cpu_ns: 9_000,
            online_cpus: 2,
            machine_memory_bytes: 1 << 30,
            networks: vec![("eth0".into(), carried)],
        }
    }

    #[test]
    fn the_kernels_files_are_read() {
        assert_eq!(parse_net_dev(NET_DEV), taken(0, 0, 1000).networks);
        let stat = "cpu  10 1 2 3 4 5 6 7 8 9\ncpu0 5 0 0 0 0 0 0 0 0 0\ncpu1 5 0 0 0 0 0 0 0 0 0\nintr 1\n";
        assert_eq!(parse_stat(stat), (38 * 10_000_000, 2));
        assert_eq!(parse_meminfo("MemTotal:       2 kB\nMemFree: 1 kB\n"), 2048);
    }

    #[test]
    fn a_document_tells_now_and_before() {
        let (before, now) = (taken(1_000, 100, 1_000), taken(3_000, 700, 2_000));
        let doc = document("web", "r-1", &now, Some(&before));
        assert_eq!(doc["cpu_stats"]["cpu_usage"]["total_usage"], 700);
        assert_eq!(doc["precpu_stats"]["cpu_usage"]["total_usage"], 100);
        assert_eq!(doc["memory_stats"]["limit"], 1u64 << 30);
        assert_eq!(doc["networks"]["eth0"]["rx_bytes"], 2_000);
        assert_eq!(doc["networks"]["eth0"]["tx_dropped"], 8);
        assert_eq!(doc["network_rate_stats"], json!({"rx_bytes_per_sec": 500.0, "tx_bytes_per_sec": 0.0}));
        assert_eq!(document("web", "r-1", &now, None).get("network_rate_stats"), None);
    }
}
