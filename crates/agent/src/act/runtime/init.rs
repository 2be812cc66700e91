//! The init process of a container that asks for one (`linuxParameters.initProcessEnabled`).
//!
//! It is the container's first process itself, which forks the program instead of becoming it: nothing has to be
//! mounted into the container. It forwards signals, reaps what is left to it and ends with the program's status.

use std::io;

/// Forks. Returns in the child, which is to become the program; the parent never returns.
///
/// `inherited` are descriptors that only the child may keep.
///
/// # Errors
/// Those of `fork(2)`.
pub fn fork_below_init(inherited: &[i32]) -> io::Result<()> {
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(()),
        child => {
            for fd in inherited {
                // SAFETY: the descriptors are the child's from here on.
                unsafe { libc::close(*fd) };
            }
            run(child)
        }
    }
}

fn run(child: i32) -> ! {
    // SAFETY: plain system calls on memory of this frame.
    unsafe {
        // What an exec would have closed; the standard streams stay with the program alone.
        libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0);
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::sigprocmask(libc::SIG_BLOCK, &all, std::ptr::null_mut());
        loop {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            match libc::sigwaitinfo(&all, &mut info) {
                libc::SIGCHLD => {
                    if let Some(code) = reap(child) {
                        libc::_exit(code);
                    }
                }
                signal if signal > 0 => {
                    libc::kill(child, signal);
                }
                _ => {}
            }
        }
    }
}

/// Reaps all that has ended; the exit code when the program is among them.
fn reap(child: i32) -> Option<i32> {
    let mut ended = None;
    loop {
        let mut status = 0;
        // SAFETY: the status lives through the call.
        let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
        if pid <= 0 {
            return ended;
        }
        if pid == child {
            ended = Some(super::super::supervisor::exit_code(status));
        }
    }
}
