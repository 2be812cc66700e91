//! The nursery: one process of the program, re-executed by the agent, that forks all supervisors.
//!
//! A forked supervisor shares the pages that the program's start has written (its relocations alone are some hundred
//! kilobytes) with all others, and costs no execution. The nursery ends with the agent; supervisors do not.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use super::super::runtime::cgroup::{Cgroups, Limits};

/// The agent's side.
pub struct Nursery {
    program: PathBuf,
    cgroup: Option<String>,
    files_soft: Option<u64>,
    running: Mutex<Option<Running>>,
}

struct Running {
    process: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Nursery {
    /// A nursery of this program, started when it is first needed. In a cgroup of its own, its supervisors outlive a
    /// service manager that ends all processes of the agent's; `None` = in the agent's.
    pub fn new(program: &Path, cgroup: Option<String>) -> Nursery {
        Nursery { program: program.to_owned(), cgroup, files_soft: None, running: Mutex::new(None) }
    }

    /// Sets the soft limit of open files that it and its supervisors have: the agent may have raised its own.
    pub fn with_files_soft(self, files_soft: Option<u64>) -> Nursery {
        Nursery { files_soft, ..self }
    }

    /// Has a supervisor forked for a folder; returns when it listens. Blocks for about a millisecond.
    ///
    /// # Errors
    /// When it does not start: what its log says.
    pub fn fork_supervisor(&self, dir: &Path) -> io::Result<()> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // A nursery that was killed is replaced once.
        let answer = match running.as_mut().and_then(|r| r.ask(dir).ok()) {
            Some(answer) => answer,
            None => {
                drop(running.take());
                running.insert(self.start()?).ask(dir)?
            }
        };
        if answer == "0" {
            return Ok(());
        }
        let said = std::fs::read_to_string(dir.join("supervisor.log")).unwrap_or_default();
        let last = said.lines().last().unwrap_or("it said nothing");
        Err(io::Error::other(format!("the supervisor did not start: {last}")))
    }

    /// Ends the nursery; supervisors go on. It is started again when it is needed.
    pub fn end(&self) {
        drop(self.running.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn start(&self) -> io::Result<Running> {
        let mut process = Command::new(&self.program)
            .arg(super::NURSERY)
            .env_clear()
            .envs(cut::environment())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        if let Some(soft) = self.files_soft {
            // It has opened nothing yet: it waits to be asked.
            limit_files(process.id(), soft)?;
        }
        if let Some(cgroup) = &self.cgroup {
            let cgroups = Cgroups::detect();
            let moved = cgroups.make_group(cgroup, Limits::default());
            if let Err(err) = moved.and_then(|()| cgroups.add(cgroup, process.id())) {
                tracing::warn!(cgroup, %err, "supervisors stay in the agent's cgroup");
            }
        }
        let (asks, answers) = (process.stdin.take(), process.stdout.take());
        let (Some(asks), Some(answers)) = (asks, answers) else {
            return Err(io::Error::other("the nursery has no pipes"));
        };
        Ok(Running { process, asks, answers: BufReader::new(answers) })
    }
}

fn limit_files(process: u32, soft: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let process = process.cast_signed();
    // SAFETY: the structure lives through both calls.
    unsafe {
        if libc::prlimit(process, libc::RLIMIT_NOFILE, std::ptr::null(), &mut limit) != 0 {
            return Err(io::Error::last_os_error());
        }
        limit.rlim_cur = soft.min(limit.rlim_max);
        match libc::prlimit(process, libc::RLIMIT_NOFILE, &limit, std::ptr::null_mut()) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Running {
    fn ask(&mut self, dir: &Path) -> io::Result<String> {
        let mut line = dir.as_os_str().as_bytes().to_vec();
        line.push(0);
        self.asks.write_all(&line)?;
        let mut answer = String::new();
        match self.answers.read_line(&mut answer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(answer.trim_end().to_owned()),
        }
    }
}

impl Drop for Running {
    /// It ends by itself when its input does; here it is seen to at once.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The nursery's own loop: a folder in, whether its supervisor runs out. Ends with its input.
pub fn main() -> i32 {
    // SAFETY: plain system calls. A terminal's interrupt is for the agent, which decides what becomes of us.
    unsafe {
        libc::setsid();
        libc::prctl(libc::PR_SET_NAME, c"rs-nursery".as_ptr());
    }
    let mut asks = BufReader::new(io::stdin());
    loop {
        let mut dir = Vec::new();
        match asks.read_until(0, &mut dir) {
            Ok(count) if count > 0 && dir.pop() == Some(0) => {}
            _ => return 0,
        }
        let dir = PathBuf::from(std::ffi::OsString::from_vec(dir));
        // SAFETY: this process has one thread.
        let code = match unsafe { libc::fork() } {
            -1 => 1,
            // SAFETY: ends the process without running what the nursery registered for its own end.
            0 => unsafe { libc::_exit(super::main(&dir)) },
            pid => super::wait_for(pid, 60_000).unwrap_or(1),
        };
        let mut answers = io::stdout();
        if writeln!(answers, "{code}").and_then(|()| answers.flush()).is_err() {
            return 0;
        }
    }
}
