//! The embedded engine beside those it was chosen over.
//!
//! All run under the same writer thread with the same group commit, so that only the engines differ: durable writes per
//! second and CPU time per write for 1, 32 and 256 writers, bytes on disk after 100,000 overwrites, and the time to open
//! and load 100,000 records.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use store::{Backend, Batch, Grouped, Limits, LogEngine, LogLimits, StoreError, Write};

use crate::process::own_cpu;
use crate::report::Report;

#[cfg(feature = "peers")]
mod peers;

/// About the size of a task's record.
const VALUE_BYTES: usize = 400;
/// How many write at once.
const WRITERS: [usize; 3] = [1, 32, 256];
const OVERWRITES: u64 = 100_000;
const RECORDS: u64 = 100_000;
/// How many records the writers and overwrites go round.
const KEYS: u64 = 1_000;

type Open = fn(&Path) -> Result<Grouped, StoreError>;

/// How long each rate is measured.
const SECONDS: u64 = 3;

/// The benchmark.
pub fn run() -> Result<Report, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("a temporary folder: {error}"))?;
    compare(folder.path(), Duration::from_secs(SECONDS)).map_err(|error| error.to_string())
}

fn engines() -> Vec<(&'static str, Open)> {
    let log: Open = |dir| Grouped::start(LogEngine::open(dir, LogLimits::default())?, Limits::default());
    #[allow(unused_mut)]
    let mut engines = vec![("log (ours)", log)];
    #[cfg(feature = "peers")]
    engines.extend([("redb", peers::redb as Open), ("fjall", peers::fjall), ("SQLite", peers::sqlite)]);
    engines
}

fn compare(dir: &Path, duration: Duration) -> Result<Report, StoreError> {
    let mut report = Report::new(&[
        "engine",
        "1 writer",
        "32 writers",
        "256 writers",
        "on disk after 100k overwrites",
        "open and load 100k",
    ]);
    for (name, open) in engines() {
        let mut row = vec![name.to_owned()];
        for writers in WRITERS {
            row.push(rate(grouped_rate(open, &dir.join(format!("{name}-{writers}")), writers, duration)?));
        }
        let bytes = bytes_after_overwrites(open, &dir.join(format!("{name}-overwrites")))?;
        row.push(format!("{:.1} MB", bytes as f64 / 1e6));
        let (wall, cpu) = open_time(open, &dir.join(format!("{name}-open")))?;
        row.push(format!("{:.0} ms, {:.0} ms CPU", wall.as_secs_f64() * 1e3, cpu.as_secs_f64() * 1e3));
        report.row(row);
    }
    #[cfg(feature = "peers")]
    {
        let mut row = vec!["SQLite, a transaction per write".to_owned()];
        for writers in WRITERS {
            let write = peers::sqlite_alone(&dir.join(format!("sqlite-alone-{writers}")))?;
            row.push(rate(write_rate(writers, duration, &write)?));
        }
        report.row(row);
    }
    Ok(report)
}

fn rate((per_second, cpu_us): (f64, f64)) -> String {
    format!("{per_second:.0}/s, {cpu_us:.1} µs CPU")
}

fn batch(revision: u64, key: u64) -> Batch {
    let value = Some(revision.to_le_bytes().repeat(VALUE_BYTES / 8));
    let key = format!("arn:aws:ecs:us-east-1:000000000000:task/shop/{key:032x}");
    Batch { revision, guards: Vec::new(), writes: vec![Write { table: 1, key, value }] }
}

/// Writes one batch, durably.
type WriteOne<'a> = &'a (dyn Fn(Batch) -> Result<(), StoreError> + Sync);

/// Durable writes per second, and microseconds of CPU of this whole process per write.
fn write_rate(writers: usize, duration: Duration, write_one: WriteOne) -> Result<(f64, f64), StoreError> {
    let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let write = || -> Result<(), StoreError> {
        while !stop.load(Ordering::Relaxed) {
            // A value like the one before it is one that SQLite does not write.
            let n = done.fetch_add(1, Ordering::Relaxed);
            write_one(batch(n, n % KEYS))?;
        }
        Ok(())
    };
    let (start, cpu_start) = (Instant::now(), own_cpu());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..writers).map(|_| scope.spawn(write)).collect();
        std::thread::sleep(duration);
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Err(StoreError::Closed)))
    })?;
    let (wall, cpu, done) = (start.elapsed(), own_cpu() - cpu_start, done.into_inner() as f64);
    Ok((done / wall.as_secs_f64(), cpu.as_secs_f64() * 1e6 / done))
}

/// Revisions follow each other in the order in which commits are submitted; their waits overlap.
fn grouped_rate(
    open: Open,
    dir: &Path,
    writers: usize,
    duration: Duration,
) -> Result<(f64, f64), StoreError> {
    let (backend, next) = (open(dir)?, Mutex::new(0_u64));
    write_rate(writers, duration, &|batch| {
        let ticket = {
            let mut revision = next.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            *revision += 1;
            backend.commit(Batch { revision: *revision, ..batch })
        };
        ticket.wait().map(drop)
    })
}

/// Submits `count` commits, 256 in flight.
fn write_all(backend: &Grouped, count: u64, keys: u64) -> Result<(), StoreError> {
    let mut in_flight = std::collections::VecDeque::new();
    for revision in 1..=count {
        in_flight.push_back(backend.commit(batch(revision, revision % keys)));
        if in_flight.len() >= 256
            && let Some(ticket) = in_flight.pop_front()
        {
            ticket.wait()?;
        }
    }
    in_flight.into_iter().try_for_each(|ticket| ticket.wait().map(drop))
}

fn bytes_after_overwrites(open: Open, dir: &Path) -> Result<u64, StoreError> {
    let backend = open(dir)?;
    write_all(&backend, OVERWRITES, KEYS)?;
    backend.close()?;
    Ok(disk_bytes(dir))
}

/// Bytes that files take on disk, which for a preallocated file is not its length.
pub fn disk_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(metadata) = path.symlink_metadata() else { return 0 };
    let below = std::fs::read_dir(path).into_iter().flatten().flatten();
    metadata.blocks() * 512 + below.map(|entry| disk_bytes(&entry.path())).sum::<u64>()
}

/// The median of five openings, wall and CPU time.
fn open_time(open: Open, dir: &Path) -> Result<(Duration, Duration), StoreError> {
    let backend = open(dir)?;
    write_all(&backend, RECORDS, RECORDS)?;
    backend.close()?;
    let mut times = Vec::new();
    for _ in 0..5 {
        let (start, cpu_start) = (Instant::now(), own_cpu());
        let backend = open(dir)?;
        let loaded = backend.load()?;
        times.push((start.elapsed(), own_cpu() - cpu_start));
        if loaded.entries.len() as u64 != RECORDS {
            return Err(StoreError::Corrupt {
                what: format!("{} of {RECORDS} records", loaded.entries.len()),
            });
        }
        backend.close()?;
    }
    times.sort();
    Ok(times[2])
}
