//! A process that is measured: its CPU time, its memory, and whether it is still the one that answers.

use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// A process that is ended when this is dropped.
pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts a program. Its output goes nowhere unless the command says otherwise.
    pub fn start(name: &str, command: &mut Command) -> Result<Process, String> {
        let child = command.spawn().map_err(|error| format!("{name}: {error}"))?;
        Ok(Process { child, name: name.to_owned() })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until something accepts connections on a loopback port; how long that took. Fails if the process ends.
    pub fn wait_for_port(&mut self, port: u16, patience: Duration) -> Result<Duration, String> {
        let begun = Instant::now();
        while begun.elapsed() < patience {
            self.check_alive()?;
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(begun.elapsed());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(format!("{} does not listen on {port} after {patience:?}", self.name))
    }

    /// Fails if it has ended: then something else was measured.
    pub fn check_alive(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("{} ended: {status}", self.name)),
            Err(error) => Err(format!("{}: {error}", self.name)),
        }
    }

    /// Ends it by SIGTERM and waits for that.
    pub fn end(&mut self) -> Result<(), String> {
        let pid = Pid::from_raw(self.pid().cast_signed());
        kill(pid, Signal::SIGTERM).map_err(|error| format!("{}: {error}", self.name))?;
        self.child.wait().map(drop).map_err(|error| format!("{}: {error}", self.name))
    }

    /// CPU time that it and all processes below it have used, those that ended and were waited for too.
    pub fn cpu(&self) -> Duration {
        tree(self.pid()).into_iter().map(cpu_of).sum()
    }

    /// CPU time that it alone has used.
    pub fn own_cpu(&self) -> Duration {
        cpu_of(self.pid())
    }

    /// Resident memory of it and all processes below it, in bytes, pages that they share counted once (PSS).
    pub fn memory_bytes(&self) -> u64 {
        tree(self.pid()).into_iter().map(memory_of).sum()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time that this process alone has used.
pub fn own_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Reaps processes that were left to this one. Only while none of its own is being waited for.
pub fn reap_orphans() {
    while let Ok(status) = waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            return;
        }
    }
}

/// A process and all below it.
pub fn tree(root: u32) -> Vec<u32> {
    let mut all = vec![root];
    let mut next = 0;
    while let Some(pid) = all.get(next).copied() {
        next += 1;
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for thread in threads {
            let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    all
}

/// The command line of a process.
pub fn name_of(pid: u32) -> String {
    let read = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    read.trim_end_matches('\0').replace('\0', " ")
}

/// CPU time of a process, its ended threads included, and of its children that ended and were waited for. Its own part
/// is exact, its children's counted in ticks of 1/100 s (fields 16 and 17 of proc_pid_stat(5)).
pub fn cpu_of(pid: u32) -> Duration {
    let read = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = read.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    let clock = clock_getcpuclockid(Pid::from_raw(pid.cast_signed())).and_then(clock_gettime);
    let own = clock.map_or_else(|_| Duration::from_millis(10 * (ticks(11) + ticks(12))), Duration::from);
    own + Duration::from_millis(10 * (ticks(13) + ticks(14)))
}

/// The proportional set size of a process, in bytes.
pub fn memory_of(pid: u32) -> u64 {
    let read = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = read.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Where cargo builds to.
pub fn target() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().map(PathBuf::from).unwrap_or_default();
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}
