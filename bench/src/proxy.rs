//! The load balancer beside nginx and HAProxy: the same two origins, the same two path rules, connections kept on both
//! sides, as many workers.
//!
//! CPU time per request and per byte is the proxy process's own, over runs of `wrk` that take turns. Then what the
//! peers cannot do at all: targets that come and go by the public API, and a service that is rolled over, under load.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::install;
use crate::report::Report;
use crate::roadstead::Roadstead;

mod balancer;
mod changes;
mod origin;
mod peers;
mod wrk;

/// Connections that clients keep, for small responses and for large ones.
const CLIENTS: u32 = 64;
const CLIENTS_LARGE: u32 = 8;
/// Each proxy is measured so many times, in turns, each time for so long.
const ROUNDS: usize = 5;
const SECONDS: u32 = 4;
const SECONDS_LARGE: u32 = 2;

/// Installs the peers and the load generator.
pub fn prepare() -> Result<(), String> {
    install::apt("nginx", "nginx-light")?;
    install::apt("haproxy", "haproxy")?;
    install::apt("wrk", "wrk")?;
    install::apt("busybox", "busybox-static")?;
    install::apt("skopeo", "skopeo")
}

/// A proxy that is measured.
pub trait Proxy {
    /// What it is called in the table.
    fn name(&self) -> String;
    /// The loopback port that clients use.
    fn port(&self) -> u16;
    /// Its CPU time so far. Fails if its process has ended.
    fn cpu(&mut self) -> Result<Duration, String>;
    /// What each of its requests carries to an origin that no other proxy's does.
    fn mark(&self) -> &'static str;
}

/// The benchmark.
pub fn run() -> Result<Report, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("a temporary folder: {error}"))?;
    let origin = origin::Origin::start(folder.path())?;
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let mut roadstead = Roadstead::start()?;
    let mut balancer = balancer::Balancer::create(&roadstead, origin::PORTS)?;
    let mut report = Report::new(&["", "Roadstead", "nginx", "HAProxy"]);
    {
        let mut ours = balancer::Measured { balancer: &balancer, roadstead: &mut roadstead };
        let mut nginx = peers::Nginx::start(folder.path(), workers)?;
        let mut haproxy = peers::HaProxy::start(folder.path(), workers)?;
        let mut proxies: [&mut dyn Proxy; 3] = [&mut ours, &mut nginx, &mut haproxy];
        for proxy in &proxies {
            check(*proxy)?;
        }
        compare(&mut report, &mut proxies, folder.path())?;
    }
    changes::targets(&mut report, &mut balancer, &roadstead)?;
    drop(origin);
    changes::rolling_update(&mut report, &roadstead, folder.path())?;
    report.note(format!(
        "{}; {}; {workers} workers each. {CLIENTS} connections for small responses, {CLIENTS_LARGE} for 1 MiB; medians of \
         {ROUNDS} runs in turns.",
        version("nginx", "-v"),
        version("haproxy", "-v"),
    ));
    Ok(report)
}

/// That the answers on a port come from that proxy and from the origin its rule names.
fn check(proxy: &dyn Proxy) -> Result<(), String> {
    for (path, origin) in [("/a/who", "a"), ("/b/who", "b")] {
        let (status, text) = changes::get(proxy.port(), path).map_err(|error| format!("{path}: {error}"))?;
        let said: Vec<&str> = text.trim().split(' ').collect();
        if status != 200 || said.first() != Some(&origin) || !text.contains(proxy.mark()) {
            return Err(format!("{path} by {}: {status} {text}", proxy.name()));
        }
    }
    Ok(())
}

fn version(program: &str, flag: &str) -> String {
    let said = Command::new(program).arg(flag).stdin(Stdio::null()).output();
    let said = said.map(|out| [out.stdout, out.stderr].concat()).unwrap_or_default();
    let line = String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned();
    line.split(" - ").next().unwrap_or_default().replace("nginx version: ", "")
}

/// What one proxy did in all its runs.
#[derive(Default)]
struct Figures {
    cpu_us: Vec<f64>,
    per_s: Vec<f64>,
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
    large_ns: Vec<f64>,
}

fn compare(
    report: &mut Report,
    proxies: &mut [&mut dyn Proxy],
    folder: &std::path::Path,
) -> Result<(), String> {
    let mut all: Vec<Figures> = proxies.iter().map(|_| Figures::default()).collect();
    let small = wrk::Load::new(folder, "small", &["/a/x", "/b/x"], CLIENTS)?;
    let large = wrk::Load::new(folder, "large", &["/a/large", "/b/large"], CLIENTS_LARGE)?;
    for round in 0..=ROUNDS {
        for (proxy, figures) in proxies.iter_mut().zip(&mut all) {
            let run = measure(*proxy, &small, SECONDS)?;
            let stream = measure(*proxy, &large, SECONDS_LARGE)?;
            eprintln!("{}: {} and {} requests", proxy.name(), run.1.requests, stream.1.requests);
            // The first round opens connections and fills caches.
            if round > 0 {
                figures.cpu_us.push(run.0.as_secs_f64() * 1e6 / run.1.requests as f64);
                figures.per_s.push(run.1.per_second);
                figures.p50_us.push(run.1.p50_us);
                figures.p99_us.push(run.1.p99_us);
                let bytes = stream.1.requests as f64 * f64::from(origin::LARGE_BYTES);
                figures.large_ns.push(stream.0.as_secs_f64() * 1e9 / bytes);
            }
        }
    }
    let mut row = |name: &str, figure: fn(&mut Figures) -> f64, digits: usize, unit: &str| {
        let values: Vec<f64> = all.iter_mut().map(figure).collect();
        let peer = values.get(1).copied().unwrap_or(f64::NAN);
        let cell = |value: &f64| format!("{value:.digits$} {unit} ({:.2}×)", value / peer);
        report.row([name.to_owned()].into_iter().chain(values.iter().map(cell)));
    };
    row("CPU per request", |figures| median(&mut figures.cpu_us), 2, "µs");
    row("requests per second", |figures| median(&mut figures.per_s), 0, "/s");
    row("latency, median", |figures| median(&mut figures.p50_us) / 1e3, 2, "ms");
    row("latency, 99th percentile", |figures| median(&mut figures.p99_us) / 1e3, 2, "ms");
    row("CPU per byte of 1 MiB responses", |figures| median(&mut figures.large_ns), 3, "ns");
    Ok(())
}

/// One run: the proxy's CPU time in it, and what the clients saw. A request that failed fails the benchmark.
fn measure(proxy: &mut dyn Proxy, load: &wrk::Load, seconds: u32) -> Result<(Duration, wrk::Seen), String> {
    let before = proxy.cpu()?;
    let seen = load.run(proxy.port(), seconds)?;
    let used = proxy.cpu()? - before;
    if seen.failed > 0 || seen.requests == 0 {
        return Err(format!("{}: {} of {} requests failed", proxy.name(), seen.failed, seen.requests));
    }
    Ok((used, seen))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
