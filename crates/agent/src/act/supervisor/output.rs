//! What a container says: the pipes or the terminal that it writes to, read into its bounded log.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::forks::{self, Streams};
use super::frames::Writer;
use super::unix::pipe;

/// How much of one pipe is read before the others have their turn.
const READS_MAX: usize = 16;
/// How much of one is read when its container has ended: more than a pipe holds.
const LAST_READS_MAX: usize = 128;

/// The supervisor's ends of a container's standard streams.
pub struct Output {
    /// Stream number and pipe.
    pipes: Vec<(u8, File)>,
    /// Held so that the container's standard input stays open.
    _stdin: Option<OwnedFd>,
    frames: Option<Writer>,
}

impl Output {
    /// Whether nothing is to be read of it until what was said is delivered.
    pub fn is_full(&self) -> bool {
        self.frames.as_ref().is_some_and(Writer::is_full)
    }

    /// What there is to poll.
    pub fn pipes(&self) -> impl Iterator<Item = RawFd> {
        self.pipes.iter().map(|(_, pipe)| pipe.as_raw_fd())
    }

    /// Reads the pipes that are ready into the log while it has room.
    pub fn read(&mut self, ready: impl Fn(RawFd) -> bool, now: i64) {
        self.read_up_to(READS_MAX, ready, Writer::is_full, now);
    }

    /// The container has ended: all that it said is in the pipes by now, at most what they hold. It is stored durably.
    pub fn finish(&mut self, now: i64) {
        self.read_up_to(LAST_READS_MAX, |_| true, |_| false, now);
        if let Some(frames) = &mut self.frames {
            frames.sync();
        }
    }

    fn read_up_to(
        &mut self,
        reads_max: usize,
        ready: impl Fn(RawFd) -> bool,
        full: impl Fn(&Writer) -> bool,
        now: i64,
    ) {
        let frames = &mut self.frames;
        let mut buffer = [0; 16 * 1024];
        self.pipes.retain_mut(|(stream, pipe)| {
            if !ready(pipe.as_raw_fd()) {
                return true;
            }
            // Bounded: what is written while it is read must not keep the others waiting, nor an exit untold.
            for _ in 0..reads_max {
                if frames.as_ref().is_some_and(&full) {
                    break;
                }
                match pipe.read(&mut buffer) {
                    Ok(0) => return false,
                    Ok(count) => {
                        if let Some(frames) = frames {
                            frames.write(*stream, now, &buffer[..count]);
                        }
                    }
                    Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                    Err(err) => return err.kind() == io::ErrorKind::WouldBlock,
                }
            }
            true
        });
    }
}

/// A container's ends of its standard streams, and the supervisor's. Without a log what it says is read by nobody.
pub fn open(frames: Option<Writer>, stdin_open: bool, terminal: bool) -> io::Result<(Streams, Output)> {
    if terminal {
        let pair = nix::pty::openpty(None, None)?;
        forks::set_nonblocking(&pair.master)?;
        for end in [&pair.master, &pair.slave] {
            // SAFETY: plain system call on an open descriptor, which no other container is to inherit.
            if unsafe { libc::fcntl(end.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        let streams = Streams {
            stdin: Some(pair.slave.try_clone()?),
            output: Some((pair.slave.try_clone()?, pair.slave)),
        };
        // Nobody can close the container's input: its terminal is there until the container ends.
        return Ok((streams, Output { pipes: vec![(1, File::from(pair.master))], _stdin: None, frames }));
    }
    let mut pipes = Vec::new();
    let output = if frames.is_some() {
        let (out_read, out_write) = pipe(0)?;
        let (err_read, err_write) = pipe(0)?;
        forks::set_nonblocking(&out_read)?;
        forks::set_nonblocking(&err_read)?;
        pipes = vec![(1, File::from(out_read)), (2, File::from(err_read))];
        Some((out_write, err_write))
    } else {
        None
    };
    let (stdin, _stdin) = if stdin_open {
        let (read, write) = pipe(0)?;
        (Some(read), Some(write))
    } else {
        (None, None)
    };
    Ok((Streams { stdin, output }, Output { pipes, _stdin, frames }))
}
