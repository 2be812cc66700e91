//! `roadstead up --detach`: the same server in the background, once it serves.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::running::Running;
use crate::server::StartError;
use crate::{cli, data_dir};

/// How long the server may take until it serves.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts this program again without `--detach`, in a session of its own, and waits until it serves.
pub fn run(options: &cli::Up) -> Result<(), StartError> {
    let bad = |what: &str, error: std::io::Error| StartError(format!("{what}: {error}"));
    let data_dir = data_dir::open(&options.data_dir).map_err(|e| bad("the data directory", e))?;
    let log_path = data_dir.join("roadstead.log");
    let log = File::options().create(true).append(true).open(&log_path).map_err(|e| bad("the log", e))?;
    let errors = log.try_clone().map_err(|e| bad("the log", e))?;
    let begin = log.metadata().map_err(|e| bad("the log", e))?.len();
    let program = std::env::current_exe().map_err(|e| bad("this program", e))?;
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1).filter(|argument| argument != "--detach"));
    command.stdin(Stdio::null()).stdout(log).stderr(errors);
    // SAFETY: one system call, which may be made between fork and exec; a child that was just forked leads no group.
    unsafe { command.pre_exec(|| Ok(nix::unistd::setsid().map(drop)?)) };
    let mut child = command.spawn().map_err(|e| bad("this program", e))?;
    let patience = Instant::now() + PATIENCE;
    loop {
        let said = || {
            let text = std::fs::read(&log_path).unwrap_or_default();
            String::from_utf8_lossy(text.get(begin as usize..).unwrap_or_default()).trim().to_owned()
        };
        if let Ok(Some(status)) = child.try_wait() {
            return Err(StartError(format!("the server ended with {status}: {}", said())));
        }
        let ours =
            Running::read(&options.data_dir).filter(|running| running.pid.cast_unsigned() == child.id());
        if ours.is_some_and(|server| {
            server.ask("GET", "health", "").is_ok_and(|said| said.starts_with("HTTP/1.1 200"))
        }) {
            println!("{}", said());
            println!("In the background as process {}; its log is {}", child.id(), log_path.display());
            return Ok(());
        }
        if Instant::now() > patience {
            return Err(StartError(format!(
                "the server does not serve after 30 s: see {}",
                log_path.display()
            )));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
