//! The short-lived processes that a supervisor forks: they start a container or run a command in one, tell the result
//! through a pipe and end. The supervisor itself never waits for a runtime.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::super::runtime::{self, ExecSpec, StartSpec};
use super::Answer;
use super::unix::pipe;

/// A start takes this long at most, with hundreds of others at the same time.
const START_SECONDS_MAX: u32 = 120;
/// What a command may take beyond its own limit.
const EXEC_SECONDS_MORE: u32 = 10;

/// A forked process at work.
pub struct Fork {
    /// Its process.
    pub pid: i32,
    /// Where it writes its result.
    pub result: File,
    /// What was read of the result so far.
    pub text: Vec<u8>,
}

/// The standard streams of a container, its ends.
pub struct Streams {
    /// Standard input; none = `/dev/null`.
    pub stdin: Option<OwnedFd>,
    /// Standard output and error; none = `/dev/null`.
    pub output: Option<(OwnedFd, OwnedFd)>,
}

/// Forks a process that starts a container.
///
/// # Errors
/// Those of `fork(2)` and `pipe(2)`.
pub fn start(dir: PathBuf, streams: Streams, pid_namespace: Option<i32>) -> io::Result<Fork> {
    spawn(START_SECONDS_MAX, move || {
        set_streams(streams).map_err(|err| err.to_string())?;
        let text = std::fs::read(dir.join("start.json")).map_err(|err| format!("start.json: {err}"))?;
        let mut spec: StartSpec =
            serde_json::from_slice(&text).map_err(|err| format!("start.json: {err}"))?;
        let pid = runtime::start(&mut spec, pid_namespace)?;
        Ok(Answer::Started { pid })
    })
}

/// Forks a process that runs a command in a container.
///
/// # Errors
/// Those of `fork(2)` and `pipe(2)`.
pub fn exec(spec: ExecSpec) -> io::Result<Fork> {
    let seconds = (spec.timeout_ms / 1000) as u32 + EXEC_SECONDS_MORE;
    spawn(seconds, move || {
        let output = nix::sys::memfd::memfd_create(c"output", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)
            .map_err(|err| err.to_string())?;
        let copy = |fd: &OwnedFd| fd.try_clone().map_err(|err| err.to_string());
        let streams = Streams { stdin: None, output: Some((copy(&output)?, copy(&output)?)) };
        set_streams(streams).map_err(|err| err.to_string())?;
        let mut outcome = runtime::exec(&spec)?;
        outcome.output = runtime::first_output(File::from(output));
        Ok(Answer::Ended(outcome))
    })
}

/// Forks; the child does the work, writes the result and ends. It is killed after `seconds`.
fn spawn(seconds: u32, work: impl FnOnce() -> Result<Answer, String>) -> io::Result<Fork> {
    let (result, teller) = pipe(0)?;
    set_nonblocking(&result)?;
    // SAFETY: the supervisor has one thread.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(result);
            reset_signals(seconds);
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
                .unwrap_or_else(|_| Err("the runtime failed unexpectedly".into()));
            let text = serde_json::to_vec(&done).unwrap_or_default();
            // If the supervisor is gone there is nobody to tell.
            let _ = File::from(teller).write_all(&text);
            // SAFETY: ends the process without running what the supervisor registered for its own end.
            unsafe { libc::_exit(0) }
        }
        pid => Ok(Fork { pid, result: File::from(result), text: Vec::new() }),
    }
}

impl Fork {
    /// Reads what there is. The result once the process has closed its end.
    pub fn read(&mut self) -> Option<Result<Answer, String>> {
        let mut buffer = [0; 4096];
        loop {
            match self.result.read(&mut buffer) {
                Ok(0) => return Some(self.told()),
                Ok(count) => self.text.extend(&buffer[..count]),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }

    /// The result of a process that has ended: a container that it left half started may hold its end yet.
    pub fn last(&mut self) -> Result<Answer, String> {
        self.read().unwrap_or_else(|| self.told())
    }

    fn told(&self) -> Result<Answer, String> {
        let said = serde_json::from_slice(&self.text);
        said.unwrap_or_else(|_| Err("the runtime ended without a result".into()))
    }
}

/// Makes a descriptor non-blocking.
pub fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    // SAFETY: plain system calls on an open descriptor.
    unsafe {
        let flags = libc::fcntl(fd.as_raw_fd(), libc::F_GETFL);
        if flags < 0 || libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn set_streams(streams: Streams) -> io::Result<()> {
    let null =
        std::fs::OpenOptions::new().read(true).write(true).custom_flags(libc::O_CLOEXEC).open("/dev/null")?;
    let stdin = streams.stdin.as_ref().map_or(null.as_raw_fd(), |fd| fd.as_raw_fd());
    let (stdout, stderr) = match &streams.output {
        Some((stdout, stderr)) => (stdout.as_raw_fd(), stderr.as_raw_fd()),
        None => (null.as_raw_fd(), null.as_raw_fd()),
    };
    for (from, to) in [(stdin, 0), (stdout, 1), (stderr, 2)] {
        // SAFETY: both are open; the standard streams of this process are its own to replace.
        if unsafe { libc::dup2(from, to) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// A container must inherit neither what the supervisor does with signals nor what is ignored where Roadstead was
/// started (a script's background job ignores SIGQUIT, nohup SIGHUP): a shell cannot trap what it finds ignored.
fn reset_signals(alarm_seconds: u32) {
    // SAFETY: plain system calls on memory of this frame.
    unsafe {
        // The kernel's own structure, for the C library keeps two signals to itself: handler, flags, restorer, mask.
        let default = [libc::SIG_DFL as u64, 0, 0, 0];
        for signal in 1..=libc::SIGRTMAX() {
            // Refused for SIGKILL and SIGSTOP, which cannot be ignored.
            libc::syscall(libc::SYS_rt_sigaction, signal, &default, std::ptr::null::<u64>(), 8);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        libc::alarm(alarm_seconds);
    }
}

/// Forks the first process of a PID namespace that the group's containers share. It ends with the supervisor.
///
/// # Errors
/// Those of `clone(2)`.
pub fn pid_namespace_holder() -> io::Result<i32> {
    // SAFETY: like fork(2) in a process with one thread, with a new PID namespace for the child.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_NEWPID | libc::SIGCHLD, 0, 0, 0, 0) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: plain system calls; ignoring SIGCHLD makes the kernel reap what is left to this process.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0);
                libc::signal(libc::SIGCHLD, libc::SIG_IGN);
                loop {
                    libc::pause();
                }
            }
        }
        pid => Ok(pid as i32),
    }
}

/// Whether a folder's lock is held: a supervisor lives. The file is returned locked if it is not.
///
/// # Errors
/// Those of opening the lock file.
pub fn try_lock(dir: &Path) -> io::Result<Option<File>> {
    let file = File::options().write(true).create(true).truncate(false).open(dir.join("lock"))?;
    // SAFETY: plain system call on an open descriptor.
    let locked = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0;
    Ok(locked.then_some(file))
}
