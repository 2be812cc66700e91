//! From the start of the process to the first signed answer of ECS, and the memory of a server that has nothing to do.

use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::client::Client;
use crate::peers;
use crate::process::Process;
use crate::report::Report;
use crate::roadstead::{PORT, Roadstead};

/// How often each is started; the median counts.
const STARTS: usize = 9;
const PATIENCE: Duration = Duration::from_secs(60);
/// What a server does after its first answer is over by then.
const SETTLED: Duration = Duration::from_secs(3);

/// What one start cost.
struct Start {
    wall: Duration,
    cpu: Duration,
}

/// The benchmark.
pub fn run() -> Result<Report, String> {
    let (mut fresh, mut existing, mut moto, mut ministack) = (vec![], vec![], vec![], vec![]);
    let (mut ours_idle, mut moto_idle, mut ministack_idle) = (0, 0, 0);
    // Alternately: whatever else the machine does meets all of them.
    for round in 0..STARTS {
        let last = round + 1 == STARTS;
        let (begun, mut server) = (Instant::now(), Roadstead::launch(folder()?, &[])?);
        fresh.push(first_answer(begun, &mut server.process, PORT)?);
        let data = server.stop()?;
        let (begun, mut server) = (Instant::now(), Roadstead::launch(data, &[])?);
        existing.push(first_answer(begun, &mut server.process, PORT)?);
        ours_idle = idle(&server.process, last);
        drop(server);
        let place = folder()?;
        let (begun, mut process) = (Instant::now(), peers::moto(place.path())?);
        moto.push(first_answer(begun, &mut process, peers::MOTO_PORT)?);
        moto_idle = idle(&process, last);
        drop(process);
        let (begun, mut process) = (Instant::now(), peers::ministack(place.path())?);
        ministack.push(first_answer(begun, &mut process, peers::MINISTACK_PORT)?);
        ministack_idle = idle(&process, last);
    }
    let mut report = Report::new(&["", "Roadstead", "moto", "MiniStack"]);
    let cells = |starts: &mut Vec<Start>, what: fn(&Start) -> Duration| {
        starts.sort_by_key(what);
        let ms = |start: &Start| what(start).as_secs_f64() * 1e3;
        format!("{:.0} ms ({:.0} – {:.0})", ms(&starts[STARTS / 2]), ms(&starts[0]), ms(&starts[STARTS - 1]))
    };
    let mib = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    for (title, what) in [
        ("first signed answer", (|start: &Start| start.wall) as fn(&Start) -> Duration),
        ("… CPU until then", |start| start.cpu),
    ] {
        row(
            &mut report,
            title,
            [cells(&mut fresh, what), cells(&mut moto, what), cells(&mut ministack, what)],
        );
        row(
            &mut report,
            &format!("{title}, existing data"),
            [cells(&mut existing, what), "–".into(), "–".into()],
        );
    }
    row(&mut report, "memory when idle (PSS)", [mib(ours_idle), mib(moto_idle), mib(ministack_idle)]);
    report.note(format!("Medians of {STARTS} starts, with the least and the most."));
    Ok(report)
}

fn row(report: &mut Report, title: &str, cells: [String; 3]) {
    report.row([title.to_owned()].into_iter().chain(cells));
}

fn folder() -> Result<TempDir, String> {
    tempfile::tempdir().map_err(|error| format!("a temporary folder: {error}"))
}

/// Asks until it answers.
fn first_answer(begun: Instant, process: &mut Process, port: u16) -> Result<Start, String> {
    let mut why = String::new();
    while begun.elapsed() < PATIENCE {
        process.check_alive()?;
        match Client::new(port, "ecs").call("ListClusters", "{}") {
            Ok(_) => return Ok(Start { wall: begun.elapsed(), cpu: process.cpu() }),
            Err(error) => why = error,
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    Err(format!("no answer after {PATIENCE:?}: {why}"))
}

fn idle(process: &Process, measure: bool) -> u64 {
    if measure {
        std::thread::sleep(SETTLED);
        return process.memory_bytes();
    }
    0
}
