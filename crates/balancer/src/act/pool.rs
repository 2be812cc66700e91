//! Connections to targets: made on demand, kept while idle, one pool per target and worker.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::io::Stream;
use super::lock;
use super::target::LiveTarget;

/// ALB gives a target this long to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle connections kept per target and worker. More than that is a burst that has passed.
const IDLE_MAX: usize = 256;
/// How long a connection may idle.
const IDLE_FOR: Duration = Duration::from_secs(60);

/// A connection to a target, between requests or serving one.
pub(crate) struct Link {
    pub stream: Arc<Stream>,
    idle_since: Instant,
    /// It has served a request before: the target may be about to close it.
    pub reused: bool,
}

/// Idle connections, the most recently used last.
#[derive(Default)]
pub(crate) struct Pool(Mutex<Vec<Link>>);

/// Why there is no connection.
pub(crate) enum ConnectError {
    /// Refused, unreachable, reset.
    Refused,
    /// No answer in time.
    TimedOut,
}

impl Pool {
    /// Takes an idle connection. `certain`: it is also asked of the kernel that the target has not closed it (for
    /// requests that cannot be sent twice).
    pub fn take(&self, certain: bool) -> Option<Link> {
        loop {
            let mut link = lock(&self.0).pop()?;
            if !((certain || link.stream.may_be_closed()) && link.stream.hears_close()) {
                link.reused = true;
                return Some(link);
            }
        }
    }

    /// Keeps a connection for later, unless nothing more is to be sent to the target.
    pub fn put(&self, mut link: Link, now: Instant, target: &LiveTarget) {
        link.idle_since = now;
        let mut idle = lock(&self.0);
        // Under the lock: `set_draining` raises the flag and then clears the pool.
        if !target.is_draining() && idle.len() < IDLE_MAX {
            idle.push(link);
        }
    }

    /// Closes all.
    pub fn clear(&self) {
        let closed = std::mem::take(&mut *lock(&self.0));
        drop(closed);
    }

    /// Closes those that idled too long or were closed by the target.
    pub fn reap(&self, now: Instant) {
        lock(&self.0).retain(|link| {
            now.saturating_duration_since(link.idle_since) < IDLE_FOR && !link.stream.hears_close()
        });
    }
}

/// Opens a connection.
pub(crate) async fn connect(target: &LiveTarget) -> Result<Link, ConnectError> {
    let connecting = tokio::net::TcpStream::connect(target.addr);
    let stream = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Err(_) => return Err(ConnectError::TimedOut),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::TimedOut => return Err(ConnectError::TimedOut),
        Ok(stream) => stream.and_then(Stream::target).map_err(|_| ConnectError::Refused)?,
    };
    let stream = Arc::new(stream);
    target.adopt(&stream);
    Ok(Link { stream, idle_since: Instant::now(), reused: false })
}
