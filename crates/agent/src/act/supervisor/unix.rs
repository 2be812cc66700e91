//! Small pieces of Unix that the supervisor and the processes it forks share.

use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// The exit code of a wait status: the code, or 128+n after signal n.
pub fn exit_code(status: i32) -> i32 {
    if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) }
}

/// Waits for a child; kills it when the time is over, and then answers `None`.
pub fn wait_for(pid: i32, timeout_ms: u64) -> Option<i32> {
    let in_time = match open_pid(pid) {
        Some(fd) => readable_within(&fd, timeout_ms),
        None => true,
    };
    let mut status = 0;
    // SAFETY: the process is this one's child, so that its number cannot have been given to another.
    unsafe {
        if !in_time {
            libc::kill(pid, libc::SIGKILL);
        }
        while libc::waitpid(pid, &mut status, 0) < 0 && *libc::__errno_location() == libc::EINTR {}
    }
    in_time.then(|| exit_code(status))
}

fn open_pid(pid: i32) -> Option<OwnedFd> {
    // SAFETY: the descriptor returned is ours alone.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd as i32))
    }
}

fn readable_within(fd: &OwnedFd, timeout_ms: u64) -> bool {
    use std::os::fd::AsRawFd;
    let deadline = std::time::Instant::now() + std::time::Duration::from_millis(timeout_ms);
    loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now()).as_millis();
        let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid entry.
        let ready = unsafe { libc::poll(&mut poll, 1, left.min(i32::MAX as u128) as i32) };
        if ready > 0 || (ready == 0 && left == 0) {
            return ready > 0;
        }
    }
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.as_millis() as i64
}

/// A pipe whose ends close on exec.
///
/// # Errors
/// Those of `pipe2(2)`.
pub fn pipe(flags: i32) -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: the array has room for the two descriptors, which are ours alone.
    unsafe {
        if libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | flags) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}

/// Signals as a descriptor: exits of children, and the machine's end. An interrupt from a terminal is not for us.
///
/// # Errors
/// Those of `signalfd(2)`.
pub fn signals() -> io::Result<File> {
    // SAFETY: plain system calls on memory of this frame; the descriptor returned is ours alone.
    unsafe {
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
        libc::signal(libc::SIGINT, libc::SIG_IGN);
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGCHLD);
        libc::sigaddset(&mut set, libc::SIGTERM);
        libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        let fd = libc::signalfd(-1, &set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(File::from_raw_fd(fd)) }
    }
}
