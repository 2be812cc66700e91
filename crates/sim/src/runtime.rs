//! The part of a machine that outlives its agent: supervisors, containers, and the journal of each group.

use state::TimeMs;

use crate::group::Group;
use crate::machine::{Event, Hands};
use crate::program::{Program, between};

const SIGKILL: i32 = 9;

/// What a supervisor is asked.
#[derive(Debug, Clone)]
pub enum Ask {
    /// Create and start a container.
    Start {
        /// The container.
        container: usize,
        /// Its how-manieth run this is.
        run: u32,
        /// What it does.
        program: Program,
    },
    /// Send it a signal.
    Signal {
        /// The container.
        container: usize,
        /// The signal's number.
        signal: i32,
    },
}

/// A container that is being started or runs.
#[derive(Debug)]
pub struct Container {
    /// Which of the group's.
    pub index: usize,
    /// Its how-manieth run this is.
    pub run: u32,
    /// What it does.
    pub program: Program,
    /// It runs.
    pub up: bool,
    /// Its checks fail, whatever its program does.
    pub sick: bool,
    /// The agent that is answered when its start is over.
    pub asker: u64,
}

impl Container {
    /// Whether its checks pass now.
    pub fn passes(&self) -> bool {
        self.up && !self.sick && self.program.passes()
    }
}

/// A line of a group's journal.
#[derive(Debug, Clone)]
pub struct Record {
    /// The container.
    pub container: usize,
    /// Its run.
    pub run: u32,
    /// When.
    pub at_ms: TimeMs,
    /// What happened.
    pub what: What,
}

/// What a journal tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It runs.
    Started,
    /// It is over.
    Exited {
        /// With this code.
        code: i32,
    },
}

/// The connection to the supervisor ended before a start was answered.
pub(crate) fn lost(key: &str, agent: u64, container: usize, run: u32) -> Event {
    let reason = "CannotStartContainerError: the supervisor's connection is lost".to_owned();
    let event = agent::decide::Event::StartFailed { container, run, reason };
    Event::Done { key: key.to_owned(), agent, event }
}

impl Group {
    /// The supervisor is asked. `at`: the agent and the boot of now.
    pub(crate) fn asked(&mut self, key: &str, at: (u64, u64), ask: Ask, hands: &mut Hands<'_>) {
        let (agent, boot) = at;
        match ask {
            Ask::Start { container, run, .. } if !self.supervisor => {
                hands.later.push((1, lost(key, agent, container, run)));
            }
            Ask::Start { container, run, program } => {
                // Of a container that runs, whoever asked is told as of any; of one that is being started, how it ends.
                if let Some(known) = self.containers.iter_mut().find(|c| c.index == container) {
                    known.asker = agent;
                    return;
                }
                let begun = |r: &Record| r.container == container && r.run >= run && r.what == What::Started;
                if self.journal.iter().any(begun) {
                    hands.wrong.push(format!("container {container} of {key} begins its run {run} twice"));
                }
                self.containers.push(Container {
                    index: container,
                    run,
                    program,
                    up: false,
                    sick: false,
                    asker: agent,
                });
                let after = between(hands.dice, 10, 400);
                hands.later.push((after, Event::Up { key: key.to_owned(), boot, container, run }));
            }
            Ask::Signal { container, signal } => {
                let Some(found) = self.containers.iter().find(|c| c.index == container && c.up) else {
                    return;
                };
                let after = match (signal, found.program) {
                    (SIGKILL, _) => 1,
                    (_, Program::Stubborn) => return,
                    _ => between(hands.dice, 20, 3_000),
                };
                let (run, code) = (found.run, 128 + signal);
                hands.later.push((after, Event::Exit { key: key.to_owned(), boot, container, run, code }));
            }
        }
    }

    /// A start is over: the container runs, or who asked for it is told that it does not.
    pub(crate) fn up(
        &mut self,
        key: &str,
        (agent, boot): (u64, u64),
        container: usize,
        run: u32,
        hands: &mut Hands<'_>,
    ) {
        let found = self.containers.iter_mut().find(|c| c.index == container && c.run == run && !c.up);
        let Some(found) = found else { return };
        if found.program == Program::Broken {
            let asker = found.asker;
            self.containers.retain(|c| c.index != container);
            let reason = "CannotStartContainerError: no such program".to_owned();
            let event = agent::decide::Event::StartFailed { container, run, reason };
            hands.later.push((1, Event::Done { key: key.to_owned(), agent: asker, event }));
            return;
        }
        found.up = true;
        if let Some((after, code)) = found.program.end(hands.dice) {
            hands.later.push((after, Event::Exit { key: key.to_owned(), boot, container, run, code }));
        }
        self.record(key, agent, container, run, What::Started, hands);
    }

    /// A container is over.
    pub(crate) fn exit(
        &mut self,
        key: &str,
        agent: u64,
        container: usize,
        run: u32,
        code: i32,
        hands: &mut Hands<'_>,
    ) {
        let before = self.containers.len();
        self.containers.retain(|c| !(c.index == container && c.run == run && c.up));
        if self.containers.len() < before {
            self.record(key, agent, container, run, What::Exited { code }, hands);
        }
    }

    /// All containers are killed.
    pub(crate) fn kill_all(&mut self, key: &str, agent: u64, hands: &mut Hands<'_>) {
        for (container, run) in self.containers.iter().map(|c| (c.index, c.run)).collect::<Vec<_>>() {
            self.exit(key, agent, container, run, 137, hands);
        }
    }

    /// Nothing is left of it but the agent's notes.
    pub(crate) fn removed(&mut self) {
        self.supervisor = false;
        self.containers.clear();
        self.journal.clear();
        self.ground = false;
    }

    fn record(
        &mut self,
        key: &str,
        agent: u64,
        container: usize,
        run: u32,
        what: What,
        hands: &mut Hands<'_>,
    ) {
        let record = Record { container, run, at_ms: hands.now_ms, what };
        self.journal.push(record.clone());
        // Always the same time: records are told in their order.
        hands.later.push((3, Event::Told { key: key.to_owned(), agent, record }));
    }
}
