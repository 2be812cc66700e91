//! The driver for any OCI runtime on the PATH (`crun`, `runc`, `runsc`): the "OCI runtime command line interface".

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::json;

use super::super::remove::remove_tree;
use super::{Driver, ExecOutcome, ExecSpec, Paths, StartSpec, write_file};

/// An OCI runtime.
pub struct OciCli {
    /// The runtime's program.
    pub program: PathBuf,
}

impl OciCli {
    fn command(&self, paths: &Paths) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&paths.state);
        command
    }

    fn name(&self) -> String {
        self.program.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

impl Driver for OciCli {
    fn start(&self, spec: &StartSpec, paths: &Paths) -> Result<i32, String> {
        if spec.init {
            return Err(format!("initProcessEnabled needs the built-in runtime, not {}", self.name()));
        }
        let pid_file = paths.bundle.join("pid");
        let log = paths.bundle.join("runtime.log");
        // Absent at a first start.
        let _ = std::fs::remove_file(&log);
        let status = self
            .command(paths)
            .arg("--log")
            .arg(&log)
            .args(["run", "--detach", "--bundle"])
            .arg(&paths.bundle)
            .arg("--pid-file")
            .arg(&pid_file)
            .arg(&spec.runtime_id)
            .status()
            .map_err(|err| format!("{}: {err}", self.program.display()))?;
        if !status.success() {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let said = said.lines().last().unwrap_or_default().trim().to_owned();
            return Err(format!(
                "{}: {}",
                self.name(),
                if said.is_empty() { status.to_string() } else { said }
            ));
        }
        let pid = std::fs::read_to_string(&pid_file).map_err(|err| format!("no process id: {err}"))?;
        pid.trim().parse().map_err(|_| format!("{} gave no process id but {pid:?}", self.name()))
    }

    fn exec(&self, spec: &ExecSpec, paths: &Paths) -> Result<ExecOutcome, String> {
        let config = std::fs::read(paths.bundle.join("config.json")).map_err(|err| err.to_string())?;
        let oci: serde_json::Value = serde_json::from_slice(&config).map_err(|err| err.to_string())?;
        let mut process = oci["process"].clone();
        process["args"] = json!(spec.command);
        process["terminal"] = json!(false);
        let file = paths.bundle.join(format!("exec-{}.json", std::process::id()));
        write_file(&file, process.to_string().as_bytes()).map_err(|err| err.to_string())?;
        let pid_file = file.with_extension("pid");
        let child = self
            .command(paths)
            .args(["exec", "--process"])
            .arg(&file)
            .arg("--pid-file")
            .arg(&pid_file)
            .arg(&spec.runtime_id)
            .stdin(Stdio::null())
            .spawn()
            .map_err(|err| format!("{}: {err}", self.program.display()));
        let code = child.map(|child| super::super::supervisor::wait_for(child.id() as i32, spec.timeout_ms));
        if code == Ok(None) {
            // The runtime was killed; what it ran is killed as well.
            let pid =
                std::fs::read_to_string(&pid_file).ok().and_then(|text| text.trim().parse::<i32>().ok());
            if let Some(pid) = pid.filter(|pid| *pid > 0) {
                // SAFETY: plain system call on a process that was running a moment ago.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        }
        // Files of this one command; a leftover is removed with the container.
        let _ = (std::fs::remove_file(&file), std::fs::remove_file(&pid_file));
        Ok(ExecOutcome { code: code?, output: String::new() })
    }

    fn delete(&self, runtime_id: &str, paths: &Paths) {
        let deleted = self
            .command(paths)
            .args(["delete", "--force", runtime_id])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .and_then(|child| child.wait_with_output());
        if deleted.is_err() {
            // The program is gone: its state is all that is left of it.
            let _ = remove_tree(&paths.state.join(runtime_id));
        }
    }
}

/// What a command wrote to the file behind its output, the first 4 KiB.
pub fn first_output(mut file: File) -> String {
    use std::io::Seek;
    let mut text = Vec::new();
    if file.rewind().is_ok() {
        // What cannot be read is not shown.
        let _ = file.take(4096).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}
