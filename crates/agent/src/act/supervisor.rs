//! The supervisor: one small single-threaded process per group, which outlives the agent.
//!
//! It is the reaper of the group's containers, holds their standard streams, writes what they say to bounded files and
//! each start and exit durably to a journal, before it tells anybody. It decides nothing: what is started, signalled
//! and run is asked of it over a Unix socket in the group's folder. The agent can be killed and replaced at any moment.
//!
//! A supervisor's folder holds `supervise.json` ([`Settings`]), `lock` (locked while it lives), `socket`, `journal`,
//! and one folder per container, `c0`, `c1`, …, with `start.json` and `log.<n>` ([`frames`]).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::runtime::{DriverKind, ExecOutcome};

pub mod client;
mod forks;
pub mod frames;
pub mod journal;
pub mod nursery;
mod output;
mod serve;
mod unix;

pub use serve::main;
pub use unix::{exit_code, now_ms, wait_for};

/// The program's hidden subcommand that is the nursery.
pub const NURSERY: &str = "supervisors";

/// What a supervisor is told when it starts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// All containers share one PID namespace.
    pub share_pid: bool,
    /// The group's cgroup; a container's is `<group>/c<index>`.
    pub cgroup: String,
}

/// What the agent asks. Each is answered by one [`Answer`] with its number.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the asker.
    pub id: u64,
    /// What is asked.
    pub ask: Ask,
}

/// What can be asked of a supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub enum Ask {
    /// Start a container as its `start.json` says.
    Start {
        /// The container's index in the group.
        container: usize,
        /// Its how-manieth run this is, from 1.
        run: u32,
        /// The runtime's id, for its removal.
        runtime_id: String,
        /// Which runtime, for its removal.
        driver: DriverKind,
        /// Keep what it writes to its output streams.
        capture: bool,
        /// How much of its output is kept until the agent has read it.
        log_bytes_max: u64,
        /// At that bound the container waits; otherwise the oldest output goes.
        #[serde(default)]
        log_blocks: bool,
        /// Keep standard input open, with nothing to read.
        stdin_open: bool,
        /// Its standard streams are a pseudo terminal.
        terminal: bool,
    },
    /// Send a signal to a container's first process.
    Signal {
        /// The container's index.
        container: usize,
        /// The signal's number.
        signal: i32,
    },
    /// Run a command in a container.
    Exec {
        /// The container's index.
        container: usize,
        /// What to run.
        spec: Box<super::runtime::ExecSpec>,
    },
    /// Tell the journal's records so far; what happens later is told as it happens.
    Watch,
    /// End. Refused while a container runs.
    Finish,
}

/// What a supervisor says.
#[derive(Debug, Serialize, Deserialize)]
pub enum Said {
    /// The answer to the request with this number.
    Answer(u64, Result<Answer, String>),
    /// Something was written to the journal.
    Record(journal::Record),
}

/// The answer to a request.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// It is done.
    Done,
    /// The container runs.
    Started {
        /// Its first process.
        pid: i32,
    },
    /// The command has ended.
    Ended(ExecOutcome),
}

/// The answer to [`Ask::Start`] for a container that runs or is being started: its start is told as a record.
pub const RUNNING_ALREADY: &str = "the container is running already";

/// The folder of a container in a group's folder.
pub fn container_dir(group_dir: &Path, container: usize) -> PathBuf {
    group_dir.join(format!("c{container}"))
}

/// The path of a socket in a folder, however long the folder's path is: a socket's own is limited to 107 bytes.
/// The folder must be kept open while the path is used.
fn socket_path(dir: &std::fs::File) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}/socket", dir.as_raw_fd()))
}
