//! What the agent knows of a group, and how it learns.

use serde::{Deserialize, Serialize};
use state::TimeMs;
use state::assignment::Assignment;
use state::group::{NetworkBinding, Phase, StopCause, StopCode};

use super::health::Progress;
use super::{ESSENTIAL_EXITED, FAILED_TO_START};

/// What is known of a group. Kept on disk, so that an agent that starts again goes on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Known {
    /// Its network, volumes and cgroup.
    pub ground: Ground,
    /// Its containers, in the spec's order.
    pub containers: Vec<KnownContainer>,
    /// Why it stops, once it does. The first cause stays.
    pub stop: Option<StopCause>,
    /// Whether the cause was found here rather than given by the server.
    pub stop_is_own: bool,
    /// When the network was made.
    pub connectivity_at_ms: Option<TimeMs>,
    /// When the first pull began.
    pub pull_started_at_ms: Option<TimeMs>,
    /// When the last pull ended.
    pub pull_stopped_at_ms: Option<TimeMs>,
    /// When every container had started.
    pub started_at_ms: Option<TimeMs>,
    /// When stopping began.
    pub stopping_at_ms: Option<TimeMs>,
    /// When the last container had exited.
    pub execution_stopped_at_ms: Option<TimeMs>,
    /// When nothing was left.
    pub stopped_at_ms: Option<TimeMs>,
}

/// How far a group's network, volumes and cgroup are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Ground {
    /// Nothing is made.
    #[default]
    Absent,
    /// Being made.
    Making,
    /// Made.
    Ready,
    /// Could not be made; parts may be left.
    Failed,
    /// Being removed, after the logs are delivered.
    Removing,
    /// Nothing is left.
    Removed,
}

/// What is known of a container.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct KnownContainer {
    /// Its image.
    pub image: Image,
    /// Whether it runs.
    pub run: Run,
    /// How often it was started.
    pub runs: u32,
    /// How often its restart policy started it again.
    pub restart_count: u32,
    /// When its latest run began.
    pub since_ms: Option<TimeMs>,
    /// The runtime's id of its latest run.
    pub runtime_id: Option<String>,
    /// Its health.
    pub health: Progress,
    /// When it was first asked to end, by SIGTERM or its image's own signal.
    pub asked_at_ms: Option<TimeMs>,
    /// Whether what it was asked may not have been heard.
    #[serde(skip)]
    pub unheard: bool,
    /// When it was killed last because it did not end.
    pub killed_at_ms: Option<TimeMs>,
    /// Host ports that lead to it.
    pub bindings: Vec<NetworkBinding>,
}

/// How far a container's image is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Image {
    /// Not asked for yet.
    #[default]
    Wanted,
    /// Being pulled.
    Pulling,
    /// Here.
    Pulled {
        /// The digest that its reference named.
        digest: String,
        /// What its configuration says that ends it.
        stop_signal: Option<i32>,
    },
    /// Not to be had.
    Failed,
}

/// Whether a container runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Run {
    /// Not started, or to be started again.
    #[default]
    Waiting,
    /// Being started.
    Starting,
    /// Running.
    Running,
    /// Over, or never to run.
    Exited {
        /// The exit code; none if it never ran or nobody saw.
        code: Option<i32>,
        /// Why, in ECS's words.
        reason: Option<String>,
        /// When.
        at_ms: TimeMs,
        /// Whether what follows from it (a restart, the task's end) has been decided.
        judged: bool,
    },
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Network, volumes and cgroup are made. Host ports per container.
    GroundMade(Vec<Vec<NetworkBinding>>),
    /// They could not be made.
    GroundFailed {
        /// The container that is to blame, if it is one alone.
        container: Option<usize>,
        /// In ECS's words.
        reason: String,
    },
    /// An image is here.
    Pulled {
        /// The container.
        container: usize,
        /// The digest that its reference named.
        digest: String,
        /// What its configuration says that ends it.
        stop_signal: Option<i32>,
    },
    /// An image could not be pulled.
    PullFailed {
        /// The container.
        container: usize,
        /// In ECS's words.
        reason: String,
    },
    /// A container runs.
    Started {
        /// The container.
        container: usize,
        /// Its run.
        run: u32,
        /// The runtime's id.
        runtime_id: String,
        /// Since when.
        at_ms: TimeMs,
    },
    /// A container could not be started.
    StartFailed {
        /// The container.
        container: usize,
        /// Its run.
        run: u32,
        /// In ECS's words.
        reason: String,
    },
    /// A container is over.
    Exited {
        /// The container.
        container: usize,
        /// Its run.
        run: u32,
        /// The exit code; none if nobody saw it.
        code: Option<i32>,
        /// The kernel killed it, or a child of it, for want of memory.
        out_of_memory: bool,
        /// When.
        at_ms: TimeMs,
    },
    /// A health check has ended.
    Checked {
        /// The container.
        container: usize,
        /// Its run.
        run: u32,
        /// Whether it passed.
        passed: bool,
    },
    /// Nothing is left of the group on the node.
    GroundRemoved,
}

impl Known {
    /// What is known of a group that was never seen here.
    ///
    /// If the server says that it ran here, then what was known was lost with the disk: nothing of it runs any more,
    /// and it must not begin a second time.
    pub fn new(assignment: &Assignment) -> Known {
        let mut known = Known {
            containers: vec![KnownContainer::default(); assignment.spec.containers.len()],
            ..Known::default()
        };
        let seen = &assignment.observed;
        if seen.phase >= Phase::Running {
            known.connectivity_at_ms = seen.connectivity_at_ms;
            known.pull_started_at_ms = seen.pull_started_at_ms;
            known.pull_stopped_at_ms = seen.pull_stopped_at_ms;
            known.started_at_ms = seen.started_at_ms;
            let at_ms = seen.stopping_at_ms.or(seen.started_at_ms).unwrap_or(assignment.created_at_ms);
            for index in 0..known.containers.len() {
                known.never_ran(index, Some("the node lost this container's state".into()), at_ms);
            }
            known.stop_for(StopCode::EssentialContainerExited, ESSENTIAL_EXITED, at_ms);
        }
        known
    }

    /// Whether nothing is left of the group.
    pub fn is_gone(&self) -> bool {
        self.ground == Ground::Removed
    }

    /// Takes in what happened. What is old, or was taken in before, changes nothing.
    pub fn learn(&mut self, fargate: bool, essential: &[bool], event: Event, now_ms: TimeMs) {
        match event {
            Event::GroundMade(bindings) => {
                if matches!(self.ground, Ground::Making | Ground::Ready) {
                    self.ground = Ground::Ready;
                    self.connectivity_at_ms.get_or_insert(now_ms);
                    for (container, bindings) in self.containers.iter_mut().zip(bindings) {
                        container.bindings = bindings;
                    }
                }
            }
            Event::GroundFailed { container, reason } => {
                self.ground = Ground::Failed;
                let text = match container {
                    // As ECS: the container's own reason is told with the container.
                    Some(index) => {
                        self.never_ran(index, Some(reason), now_ms);
                        FAILED_TO_START.to_owned()
                    }
                    None => reason,
                };
                self.stop_for(StopCode::TaskFailedToStart, &text, now_ms);
            }
            Event::Pulled { container, digest, stop_signal } => {
                self.containers[container].image = Image::Pulled { digest, stop_signal };
                self.pull_ended(now_ms);
            }
            Event::PullFailed { container, reason } => {
                self.containers[container].image = Image::Failed;
                self.pull_ended(now_ms);
                self.never_ran(container, Some(reason.clone()), now_ms);
                if essential[container] {
                    // Fargate tells the reason with the task, EC2 with the container only.
                    let text = if fargate { reason.as_str() } else { FAILED_TO_START };
                    self.stop_for(StopCode::TaskFailedToStart, text, now_ms);
                }
            }
            Event::Started { container, run, runtime_id, at_ms } => {
                let container = &mut self.containers[container];
                let awaited = container.run == Run::Starting && container.runs == run;
                // A later run than the notes on disk know of: they could not be written.
                if awaited || container.runs < run {
                    container.runs = run;
                    container.run = Run::Running;
                    container.since_ms = Some(at_ms);
                    container.runtime_id = Some(runtime_id);
                    container.health = Progress::default();
                    (container.asked_at_ms, container.killed_at_ms, container.unheard) = (None, None, false);
                }
            }
            Event::StartFailed { container, run, reason } => {
                let known = &self.containers[container];
                if known.run == Run::Starting && known.runs == run {
                    self.never_ran(container, Some(reason), now_ms);
                    if essential[container] {
                        self.stop_for(StopCode::TaskFailedToStart, FAILED_TO_START, now_ms);
                    }
                }
            }
            Event::Exited { container, run, code, out_of_memory, at_ms } => {
                let container = &mut self.containers[container];
                if container.run == Run::Running && container.runs == run {
                    let reason = match (out_of_memory, code) {
                        (true, _) => {
                            Some("OutOfMemoryError: Container killed due to memory usage".to_owned())
                        }
                        (false, None) => Some("the container's supervisor ended before it".to_owned()),
                        (false, Some(_)) => None,
                    };
                    container.run = Run::Exited { code, reason, at_ms, judged: false };
                }
            }
            Event::Checked { container, run, passed } => {
                let container = &mut self.containers[container];
                if container.run == Run::Running && container.runs == run {
                    container.health.checked(passed, now_ms);
                }
            }
            Event::GroundRemoved => {
                self.ground = Ground::Removed;
                self.stopped_at_ms.get_or_insert(now_ms);
            }
        }
    }

    fn pull_ended(&mut self, now_ms: TimeMs) {
        if self.containers.iter().all(|c| !matches!(c.image, Image::Wanted | Image::Pulling)) {
            self.pull_stopped_at_ms.get_or_insert(now_ms);
        }
    }

    /// The container will not run any more, without an exit code. What has exited stays as it is.
    pub(super) fn never_ran(&mut self, container: usize, reason: Option<String>, at_ms: TimeMs) {
        let run = &mut self.containers[container].run;
        if !matches!(run, Run::Exited { .. }) {
            *run = Run::Exited { code: None, reason, at_ms, judged: true };
        }
    }

    /// Stops the group for a cause found here, unless it stops already.
    pub(super) fn stop_for(&mut self, code: StopCode, reason: &str, now_ms: TimeMs) {
        if self.stop.is_none() {
            self.stop(StopCause { code, reason: reason.to_owned(), at_ms: now_ms }, now_ms);
            self.stop_is_own = true;
        }
    }

    pub(super) fn stop(&mut self, cause: StopCause, now_ms: TimeMs) {
        self.stop = Some(cause);
        self.stopping_at_ms.get_or_insert(now_ms);
    }

    /// Stops a group that the server does not know any more.
    pub fn abandon(&mut self, now_ms: TimeMs) {
        self.stop_for(StopCode::UserInitiated, "the task is no longer assigned to this node", now_ms);
    }

    /// After a restart of the agent: what was under way is begun anew. Call once all that the supervisor recorded has
    /// been learnt.
    pub fn resume(&mut self) {
        match self.ground {
            // Made again, which changes nothing where it is there.
            Ground::Making => self.ground = Ground::Absent,
            Ground::Removing => self.ground = Ground::Failed,
            Ground::Absent | Ground::Ready | Ground::Failed | Ground::Removed => {}
        }
        for container in &mut self.containers {
            if container.image == Image::Pulling {
                container.image = Image::Wanted;
            }
            if container.run == Run::Starting {
                // The same run again: a supervisor that is at it already says so.
                container.run = Run::Waiting;
                container.runs -= 1;
            }
            container.health.in_flight = false;
        }
        self.ask_again();
    }

    /// What was asked of containers may not have been heard, for the agent or its connection ended: it is asked again of
    /// those that still run. The time that they have goes on.
    pub fn ask_again(&mut self) {
        for container in &mut self.containers {
            container.unheard = container.asked_at_ms.is_some();
            container.killed_at_ms = None;
        }
    }
}
