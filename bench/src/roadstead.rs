//! The server that is measured: the release build, with a data directory of its own that goes with it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::client::Client;
use crate::process::{Process, target};

/// The port of the endpoint inside the benchmark's namespace.
pub const PORT: u16 = 4566;

/// A running `roadstead up`. Dropped, all that it has on the machine is removed.
pub struct Roadstead {
    /// The server's process.
    pub process: Process,
    /// Gone once it was killed.
    folder: Option<TempDir>,
}

impl Roadstead {
    /// Starts one and waits until it answers.
    pub fn start() -> Result<Roadstead, String> {
        let folder = tempfile::tempdir().map_err(|error| format!("a temporary folder: {error}"))?;
        Roadstead::start_in(folder, &[])
    }

    /// Starts one on a folder whose `data` is the data directory.
    pub fn start_in(folder: TempDir, options: &[&str]) -> Result<Roadstead, String> {
        Roadstead::start_patiently(folder, options, Duration::from_secs(60))
    }

    /// As [`Roadstead::start_in`], for a data directory that takes long to read.
    pub fn start_patiently(
        folder: TempDir,
        options: &[&str],
        patience: Duration,
    ) -> Result<Roadstead, String> {
        let log = folder.path().join("log");
        let said = |why: String| {
            format!("{why}; the server said: {}", std::fs::read_to_string(&log).unwrap_or_default().trim())
        };
        let mut server = Roadstead::launch(folder, options)?;
        server.process.wait_for_port(PORT, patience).map_err(said)?;
        let who = "Action=GetCallerIdentity&Version=2011-06-15";
        server.client("sts").call("GetCallerIdentity", who).map_err(said)?;
        Ok(server)
    }

    /// Starts one and waits for nothing.
    pub fn launch(folder: TempDir, options: &[&str]) -> Result<Roadstead, String> {
        let log = std::fs::File::create(folder.path().join("log")).map_err(|error| error.to_string())?;
        let data = folder.path().join("data");
        let mut command = Command::new(program()?);
        command.args(["up", "--no-hosts-file", "--data-dir"]).arg(&data).args(options);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = Process::start("roadstead", &mut command)?;
        Ok(Roadstead { process, folder: Some(folder) })
    }

    /// Ends the server as Ctrl-C does; the folder that holds its data, for the next one.
    pub fn stop(mut self) -> Result<TempDir, String> {
        self.process.end()?;
        self.folder.take().ok_or_else(|| "the server has no folder".into())
    }

    /// A client of one service.
    pub fn client(&self, service: &str) -> Client {
        Client::new(PORT, service)
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.as_ref().map(|folder| folder.path().join("data")).unwrap_or_default()
    }

    /// Ends the server as a crash does; what it has on the machine stays, and the folder can be started on again.
    pub fn kill(mut self) -> TempDir {
        self.folder.take().expect("a server has its folder until it is killed")
    }

    /// Removes all that a server that does not run any more has on the machine, and its folder.
    pub fn remove(folder: TempDir) {
        down(&folder.path().join("data"));
    }
}

impl Drop for Roadstead {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            down(&folder.path().join("data"));
        }
    }
}

/// `roadstead down`, whether or not the server runs.
fn down(data: &Path) {
    let Ok(program) = program() else { return };
    let mut command = Command::new(&program);
    command.args(["down", "--delete-data", "--data-dir"]).arg(data).stdout(Stdio::null());
    if !command.status().is_ok_and(|status| status.success()) {
        eprintln!("`roadstead down --data-dir {}` failed", data.display());
    }
}

/// The release build of the program, which `cargo xtask bench` makes first.
pub fn program() -> Result<PathBuf, String> {
    let path = target().join("release").join("roadstead");
    if path.exists() { Ok(path) } else { Err(format!("{} is not built", path.display())) }
}
