//! What containers say, on its way to log streams: from the supervisors' files to a [`LogSink`].
//!
//! The files are the buffer. Nothing is kept in memory while a destination fails: what was read is given up and read
//! again later, and what the supervisor had to drop meanwhile is counted in a line of its own. How far each container's
//! output was delivered is noted beside its folder after the destination has acknowledged it, so an agent that was
//! killed goes on there; what it had appended but not noted is delivered twice, never lost.

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};
use regex::Regex;
use state::TimeMs;
use state::assignment::Assignment;
use state::group::LogDestination;
use tokio::sync::oneshot;

mod follow;
mod lines;
mod ship;

/// A log stream, and whether its group may be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStreamName {
    /// The account that owns it.
    pub account: String,
    /// Its region.
    pub region: String,
    /// The log group.
    pub group: String,
    /// The stream; created if absent.
    pub stream: String,
    /// Create the group if absent (`awslogs-create-group`).
    pub create_group: bool,
}

/// Why events were not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSinkError {
    /// Whether the same may succeed later. If not, the events are discarded.
    pub retry: Retry,
    /// Code and message, as `ResourceNotFoundException: The specified log group does not exist.`
    pub text: String,
}

/// How long events that were not taken are tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Not at all: they will never be taken.
    Never,
    /// While the task runs: somebody has to make the destination again.
    WhileRunning,
    /// To the end of the task's draining.
    Always,
}

/// Takes log events durably. Called from one thread, which it may block; meanwhile no container waits.
pub trait LogSink: Send + Sync {
    /// Appends events, oldest first, each of 1 to 262,118 bytes. Creates the stream, and the group if it may; with no
    /// events it does only that.
    ///
    /// # Errors
    /// When nothing was appended.
    fn append(&self, destination: &LogStreamName, events: &[(TimeMs, String)]) -> Result<(), LogSinkError>;
}

/// Delivers the output of all groups of a node. One thread; clones share it.
#[derive(Clone)]
pub struct LogShipper {
    sink: Arc<dyn LogSink>,
    orders: mpsc::Sender<Order>,
    wake: Arc<EventFd>,
}

/// What the thread is told.
enum Order {
    Follow(Vec<follow::Source>),
    Exited { key: String, container: usize },
    Drain { key: String, until: Instant, done: oneshot::Sender<bool> },
    Forget { key: String },
}

impl LogShipper {
    /// Starts the thread. It ends when the last clone is dropped.
    ///
    /// # Errors
    /// When the kernel gives no event descriptors or no thread.
    pub fn start(sink: Arc<dyn LogSink>) -> std::io::Result<LogShipper> {
        let (orders, ordered) = mpsc::channel();
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let shipping = ship::Shipping::new(sink.clone(), ordered, wake.clone())?;
        std::thread::Builder::new().name("logs".into()).spawn(move || shipping.run())?;
        Ok(LogShipper { sink, orders, wake })
    }

    /// Creates the streams (and groups) that a group's containers will write to, before any of them is started.
    /// Blocks while the sink does.
    ///
    /// # Errors
    /// In ECS's words, with the container's index: the container cannot be started.
    pub fn prepare(&self, assignment: &Assignment) -> Result<(), (usize, String)> {
        for (container, spec) in assignment.spec.containers.iter().enumerate() {
            let Some(LogDestination::Awslogs { multiline_pattern, .. }) = &spec.log else { continue };
            let pattern = multiline_pattern.as_deref().unwrap_or_default();
            let refused = Regex::new(pattern)
                .map(drop)
                .map_err(|err| format!("awslogs could not parse multiline pattern key {pattern:?}: {err}"));
            let created = refused.and_then(|()| match destination(assignment, container) {
                Some(name) => self.sink.append(&name, &[]).map_err(|err| create_failed(&err)),
                None => Ok(()),
            });
            created.map_err(|why| (container, not_started(&assignment.launch_type, &why)))?;
        }
        Ok(())
    }

    /// Begins, or after a restart goes on, to deliver the output of a group's containers. `dir` is the folder of its
    /// supervisor. May be repeated.
    pub fn follow(&self, assignment: &Assignment, dir: &Path) {
        let sources = assignment.spec.containers.iter().enumerate().filter_map(|(container, spec)| {
            let Some(LogDestination::Awslogs { multiline_pattern, .. }) = &spec.log else { return None };
            Some(follow::Source {
                key: assignment.key.clone(),
                container,
                destination: destination(assignment, container)?,
                frames_dir: super::supervisor::container_dir(dir, container),
                resume_file: dir.join(format!("c{container}.delivered")),
                // `prepare` has refused one that is none.
                multiline: multiline_pattern.as_deref().and_then(|text| Regex::new(text).ok()),
            })
        });
        self.order(Order::Follow(sources.collect()));
    }

    /// Says that a container has exited: a last line without an end is delivered as it is.
    pub fn exited(&self, key: &str, container: usize) {
        self.order(Order::Exited { key: key.to_owned(), container });
    }

    /// Delivers all that a group's containers have said, which must be over, and forgets the group. True if nothing that
    /// could be delivered was left when `within` was over.
    pub async fn drain(&self, key: &str, within: Duration) -> bool {
        let (done, drained) = oneshot::channel();
        self.order(Order::Drain { key: key.to_owned(), until: Instant::now() + within, done });
        drained.await.unwrap_or(false)
    }

    /// Gives up a group without delivering the rest.
    pub fn forget(&self, key: &str) {
        self.order(Order::Forget { key: key.to_owned() });
    }

    fn order(&self, order: Order) {
        // The thread lives as long as a sender does.
        let _ = self.orders.send(order);
        // It fails only where the counter is full, and then the thread is about to wake.
        let _ = self.wake.write(1);
    }
}

impl Drop for LogShipper {
    fn drop(&mut self) {
        // If this was the last clone the thread sees it: the senders are gone once this has returned.
        let (nobody, _) = mpsc::channel();
        drop(std::mem::replace(&mut self.orders, nobody));
        let _ = self.wake.write(1);
    }
}

/// The stream that a container writes to; `None` if it has none.
pub fn destination(assignment: &Assignment, container: usize) -> Option<LogStreamName> {
    let spec = assignment.spec.containers.get(container)?;
    let Some(LogDestination::Awslogs { group, region, stream_prefix, create_group, .. }) = &spec.log else {
        return None;
    };
    let stream = if stream_prefix.is_empty() {
        // "If you don't specify a prefix with this option, then the log stream is named after the container ID"
        // (awslogs log driver, ECS developer guide).
        assignment.observed.containers.get(container)?.id.clone()
    } else {
        format!("{stream_prefix}/{}/{}", spec.name, assignment.id)
    };
    let region = if region.is_empty() { &assignment.region } else { region };
    Some(LogStreamName {
        account: assignment.account.clone(),
        region: region.clone(),
        group: group.clone(),
        stream,
        create_group: *create_group,
    })
}

fn create_failed(err: &LogSinkError) -> String {
    format!("failed to create Cloudwatch log stream: {}", err.text)
}

/// The two ways in which ECS says that a log driver could not be made ready.
fn not_started(launch_type: &str, why: &str) -> String {
    if launch_type == "FARGATE" {
        format!("ResourceInitializationError: failed to validate logger args: {why}")
    } else {
        format!(
            "CannotStartContainerError: Error response from daemon: failed to initialize logging driver: {why}"
        )
    }
}

/// A temporary file's path beside another, for replacing that at once.
fn beside(path: &Path) -> PathBuf {
    path.with_extension("new")
}

#[cfg(test)]
mod tests;
