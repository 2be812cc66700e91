//! One group on this node: a task of the runtime that decides, begins steps, learns how they end, notes and reports.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cut::cut;
use state::assignment::{Assignment, Report};
use state::group::Observed;
use tokio::sync::{mpsc, watch};

use crate::act::image::PulledImage;
use crate::act::metadata::{EndpointIds, Facts, LocalContainer};
use crate::act::network::GroupNetwork;
use crate::act::remove::remove_tree;
use crate::act::supervisor::client::{Supervisor, Telling, Told};
use crate::act::supervisor::journal::{self, Record, What};
use crate::act::supervisor::{Ask, Settings};
use crate::decide::{Course, Event, Ground, Known, Step, observe};
use crate::node::Node;
use crate::now_ms;

mod notes;
mod steps;

/// What is wanted of a group's task.
#[derive(Debug, Clone)]
pub enum Wish {
    /// Found on disk; whether it is still assigned is not known yet: keep it as it is.
    Undecided,
    /// Assigned.
    Assigned(Arc<Assignment>),
    /// The server does not know it any more.
    Abandoned,
    /// The agent ends and leaves everything running.
    Leave,
}

/// What others may look at while the group's task works.
#[derive(Default)]
pub struct Seen {
    /// The latest report.
    pub observed: Mutex<Observed>,
    /// Its network, once it is made.
    pub network: Mutex<Option<GroupNetwork>>,
    /// Layers in use.
    pub layers: Mutex<Vec<String>>,
}

/// Something that happened, with what it left in the agent's hands.
enum Happened {
    Event(Event),
    Ground(GroupNetwork),
    Image(usize, PulledImage),
    /// Nothing to learn: what was begun is told of elsewhere.
    Nothing,
}

/// One group.
pub struct Group {
    node: Arc<Node>,
    dir: PathBuf,
    course: Course,
    supervisor: Option<Supervisor>,
    telling: Option<Telling>,
    images: Vec<Option<PulledImage>>,
    /// By what its containers ask for metadata and credentials.
    ids: EndpointIds,
    /// The first process of each container that runs.
    pids: Vec<Option<i32>>,
    seen: Arc<Seen>,
    happened: mpsc::UnboundedSender<Happened>,
    happenings: mpsc::UnboundedReceiver<Happened>,
}

impl Group {
    /// A group that is assigned, new or from this node's disk.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn open(node: Arc<Node>, assignment: Arc<Assignment>, seen: Arc<Seen>) -> std::io::Result<Group> {
        let dir = node.group_dir(&assignment.id);
        std::fs::create_dir_all(&dir)?;
        let known = notes::read_known(&dir).unwrap_or_else(|| Known::new(&assignment));
        let (happened, happenings) = mpsc::unbounded_channel();
        let count = assignment.spec.containers.len();
        let images: Vec<_> = (0..count).map(|index| notes::read_image(&dir, index)).collect();
        use_layers(&seen, &images);
        let ids = EndpointIds::of_group(&dir, &assignment)?;
        cut!("agent.group.folder-made");
        Ok(Group {
            node,
            dir,
            course: Course::new(assignment, known),
            supervisor: None,
            telling: None,
            images,
            ids,
            pids: vec![None; count],
            seen,
            happened,
            happenings,
        })
    }

    fn assignment(&self) -> &Arc<Assignment> {
        &self.course.assignment
    }

    /// Works until the group is gone and unassigned, or the agent ends.
    pub async fn work(mut self, mut wishes: watch::Receiver<Wish>) {
        self.recover().await;
        loop {
            // Found on disk: nothing is decided before the server has said whether it is still wanted.
            while matches!(*wishes.borrow(), Wish::Undecided) {
                if wishes.changed().await.is_err() {
                    return;
                }
            }
            let wish = wishes.borrow_and_update().clone();
            if self.take_wish(wish, &wishes).await {
                return;
            }
            let again_at_ms = self.go_on().await;
            if self.course.is_over() {
                self.forget();
                return;
            }
            let sleep = again_at_ms.map(|at| Duration::from_millis((at - now_ms()).max(0) as u64));
            tokio::select! {
                happened = self.happenings.recv() => happened.into_iter().for_each(|h| self.take(h)),
                told = hear(&mut self.telling) => self.hear(told).await,
                changed = wishes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(sleep.unwrap_or(Duration::MAX)), if sleep.is_some() => {}
            }
            while let Ok(happened) = self.happenings.try_recv() {
                self.take(happened);
            }
        }
    }

    /// Takes in what is wanted. True when the task is to end.
    async fn take_wish(&mut self, wish: Wish, wishes: &watch::Receiver<Wish>) -> bool {
        match wish {
            Wish::Undecided => {}
            Wish::Leave => return true,
            Wish::Abandoned => self.course.abandon(now_ms()),
            Wish::Assigned(assignment) => {
                if !Arc::ptr_eq(&assignment, &self.course.assignment) {
                    self.take_assignment(assignment, wishes).await;
                }
            }
        }
        false
    }

    async fn take_assignment(&mut self, mut assignment: Arc<Assignment>, wishes: &watch::Receiver<Wish>) {
        let node = self.node.clone();
        let mut turn = None;
        if assignment.network != self.assignment().network && self.course.known.ground == Ground::Ready {
            // One task that comes or goes may change the rules of all whose security groups name its own. They wait
            // without a thread, and what has been wanted meanwhile is done in one.
            turn = Some(node.network_turn.lock().await);
            if let Wish::Assigned(newest) = &*wishes.borrow() {
                assignment = newest.clone();
            }
        }
        self.course.assign(assignment);
        notes::write_assignment(&self.dir, self.assignment());
        if turn.is_some() {
            let (node, assignment) = (node.clone(), self.assignment().clone());
            let updated =
                tokio::task::spawn_blocking(move || node.connections.networks.update(&assignment)).await;
            if let Ok(Err(err)) = updated {
                tracing::warn!(key = self.assignment().key, %err, "the group's network could not be brought up to date");
            }
        }
    }

    /// Decides, notes, reports, and begins what is to be begun. When to decide again.
    async fn go_on(&mut self) -> Option<i64> {
        let (plan, changed) = self.course.decide(now_ms());
        if changed {
            notes::write_known(&self.dir, &self.course.known);
            cut!("agent.group.known-noted");
        }
        self.report();
        for step in plan.steps {
            self.begin(step).await;
        }
        plan.again_at_ms
    }

    fn report(&mut self) {
        let Some(observed) = self.course.report() else { return };
        *self.seen.observed.lock().unwrap_or_else(PoisonError::into_inner) = observed.clone();
        let report = Report { key: self.assignment().key.clone(), observed };
        // The receiver is gone only when the agent ends.
        let _ = self.node.connections.reports.send(report);
        self.publish();
    }

    fn take(&mut self, happened: Happened) {
        match happened {
            Happened::Event(event) => self.learn(event),
            Happened::Ground(network) => {
                let bindings = network.containers.iter().map(|c| c.bindings.clone()).collect();
                self.take_network(network);
                self.learn(Event::GroundMade(bindings));
            }
            Happened::Image(container, image) => {
                let (digest, stop_signal) = (image.digest.clone(), image.config.stop_signal_number());
                notes::write_image(&self.dir, container, &image);
                cut!("agent.image.noted");
                self.images[container] = Some(image);
                self.learn(Event::Pulled { container, digest, stop_signal });
                use_layers(&self.seen, &self.images);
            }
            Happened::Nothing => {}
        }
    }

    fn take_network(&mut self, network: GroupNetwork) {
        *self.seen.network.lock().unwrap_or_else(PoisonError::into_inner) = Some(network);
        self.publish();
        let key = &self.assignment().key;
        let listeners = self.node.connections.networks.metadata_listeners(key);
        let served = listeners.map_err(std::io::Error::other).and_then(|l| self.node.endpoints.serve(key, l));
        if let Err(err) = served {
            tracing::warn!(key, %err, "the group's metadata endpoint is not served");
        }
    }

    /// Tells the metadata endpoint what is known now.
    fn publish(&self) {
        let network = self.seen.network.lock().unwrap_or_else(PoisonError::into_inner);
        // Nothing is served before there is a network, nor after.
        let Some(network) = network.as_ref().filter(|_| self.course.known.ground == Ground::Ready) else {
            return;
        };
        let cgroup = self.node.cgroup(&self.assignment().id);
        let containers =
            self.course.known.containers.iter().enumerate().map(|(index, known)| LocalContainer {
                cgroup: Some(format!("{cgroup}/c{index}")),
                pid: self.pids[index],
                address: network.containers.get(index).and_then(|c| c.address),
                created_at_ms: known.since_ms,
                started_at_ms: known.since_ms,
            });
        self.node.endpoints.publish(Facts {
            assignment: self.assignment().clone(),
            observed: observe(self.assignment(), &self.course.known),
            ids: self.ids.clone(),
            containers: containers.collect(),
        });
    }

    fn learn(&mut self, event: Event) {
        self.course.learn(event, now_ms());
    }

    // === The supervisor ===

    async fn hear(&mut self, told: Told) {
        match told {
            Told::Record(record) => self.learn_record(record),
            Told::Lost => self.reconnect().await,
        }
    }

    fn learn_record(&mut self, record: Record) {
        let Record { container, run, at_ms, what } = record;
        if container >= self.course.known.containers.len() {
            return;
        }
        match what {
            What::Started { runtime_id, pid } => {
                self.pids[container] = Some(pid);
                self.learn(Event::Started { container, run, runtime_id, at_ms });
            }
            What::Exited { code, out_of_memory } => {
                cut!("agent.exit.learnt");
                self.pids[container] = None;
                self.node.shipper.exited(&self.assignment().key, container);
                self.learn(Event::Exited { container, run, code: Some(code), out_of_memory, at_ms });
            }
        }
    }

    /// The supervisor; started if none lives.
    async fn supervisor(&mut self) -> std::io::Result<Supervisor> {
        if let Some(supervisor) = &self.supervisor {
            return Ok(supervisor.clone());
        }
        let share_pid = self.assignment().spec.share_pid;
        let settings = Settings { share_pid, cgroup: self.node.cgroup(&self.assignment().id) };
        let connected = Supervisor::ensure(&self.node.nursery, &self.dir, &settings).await?;
        self.watch(connected).await
    }

    /// The supervisor if one lives. One that is about to end holds its lock for a moment longer than its connections, and
    /// must not be replaced: nobody would end the other.
    async fn living_supervisor(&mut self) -> Option<Supervisor> {
        if self.supervisor.is_some() || !Supervisor::lives(&self.dir) {
            return self.supervisor.clone();
        }
        let connected = Supervisor::connect(&self.dir).await.ok()?;
        self.watch(connected).await.ok()
    }

    async fn watch(&mut self, (supervisor, telling): (Supervisor, Telling)) -> std::io::Result<Supervisor> {
        supervisor.ask(Ask::Watch).await.map_err(std::io::Error::other)?;
        self.telling = Some(telling);
        self.supervisor = Some(supervisor.clone());
        Ok(supervisor)
    }

    /// After the connection was lost: the supervisor dropped a slow reader, or it is gone.
    async fn reconnect(&mut self) {
        (self.supervisor, self.telling) = (None, None);
        if self.living_supervisor().await.is_some() {
            self.course.known.ask_again();
            return;
        }
        if self.course.known.ground != Ground::Removing && !self.course.known.is_gone() {
            tracing::warn!(key = self.assignment().key, "the group's supervisor is gone");
        }
        self.take_stock_without_supervisor().await;
    }

    /// Learns from the journal what a supervisor that is gone saw, and ends what it left behind.
    async fn take_stock_without_supervisor(&mut self) {
        for record in journal::read(&self.dir) {
            self.learn_record(record);
        }
        let (node, cgroup) = (self.node.clone(), self.node.cgroup(&self.assignment().id));
        // A failed join is a panic in the cgroup code; what is left is removed with the group.
        let _ = tokio::task::spawn_blocking(move || {
            for child in node.cgroups.children(&cgroup) {
                node.cgroups.remove_tree(&format!("{cgroup}/{child}"));
            }
        })
        .await;
        self.course.lose_supervisor(now_ms());
    }

    /// Finds out what became of the group while no agent ran.
    async fn recover(&mut self) {
        notes::write_assignment(&self.dir, self.assignment());
        cut!("agent.group.assignment-noted");
        if self.course.known.is_gone() || self.course.known.ground == Ground::Absent {
            return;
        }
        self.node.shipper.follow(self.assignment(), &self.dir);
        let mut found = false;
        if self.living_supervisor().await.is_some() {
            // All records were told before the answer.
            let mut telling = self.telling.take();
            while let Some(Ok(told)) = telling.as_mut().map(mpsc::UnboundedReceiver::try_recv) {
                if let Told::Record(record) = told {
                    self.learn_record(record);
                }
            }
            self.telling = telling;
            found = true;
        }
        if !found {
            self.take_stock_without_supervisor().await;
        }
        self.course.known.resume();
        if self.course.known.ground == Ground::Ready {
            self.find_network().await;
        }
    }

    /// Gets to know the network again that the group has. Its containers go on even if that fails.
    async fn find_network(&mut self) {
        let (node, assignment) = (self.node.clone(), self.assignment().clone());
        let found = tokio::task::spawn_blocking(move || node.connections.networks.prepare(&assignment));
        match found.await.map_err(|err| err.to_string()).and_then(|found| found.map_err(|err| err.reason())) {
            Ok(network) => self.take(Happened::Ground(network)),
            Err(err) => tracing::warn!(key = self.assignment().key, err, "the group's network is not known"),
        }
    }

    // === Steps ===

    async fn begin(&mut self, step: Step) {
        let (node, dir, assignment) = (self.node.clone(), self.dir.clone(), self.assignment().clone());
        let happened = self.happened.clone();
        match step {
            Step::MakeGround => {
                spawn(happened, steps::make_ground(node, dir, assignment));
            }
            Step::Pull(container) => {
                spawn(happened, steps::pull(node, assignment, container));
            }
            Step::Start { container, run } => {
                if self.seen.network.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
                    self.find_network().await;
                }
                let supervisor = self.supervisor().await.map_err(|err| err.to_string());
                let start = steps::Start {
                    container,
                    run,
                    image: self.images[container].clone().unwrap_or_default(),
                    network: self.seen.network.lock().unwrap_or_else(PoisonError::into_inner).clone(),
                    ids: self.ids.clone(),
                    supervisor,
                };
                spawn(happened, steps::start(node, dir, assignment, start));
            }
            Step::Signal { container, signal } => {
                // What runs has a supervisor. If its connection is lost, that is told next, and this is asked again.
                if let Some(supervisor) = &self.supervisor {
                    // An error means that it has ended meanwhile, which is told by itself.
                    supervisor.tell(Ask::Signal { container, signal });
                    cut!("agent.stop.signalled");
                }
            }
            Step::Check { container, run } => {
                let supervisor = self.living_supervisor().await;
                let runtime_id =
                    self.course.known.containers[container].runtime_id.clone().unwrap_or_default();
                spawn(happened, steps::check(node, dir, assignment, container, run, runtime_id, supervisor));
            }
            Step::Remove => {
                let supervisor = self.supervisor.clone();
                spawn(happened, steps::remove(node, dir, assignment, supervisor));
            }
        }
    }

    /// Removes the last note of a group that is gone.
    fn forget(&self) {
        cut!("agent.group.forgetting");
        if let Err(err) = remove_tree(&self.dir) {
            tracing::warn!(dir = %self.dir.display(), %err, "the folder of a group that is gone could not be removed");
        }
    }
}

fn spawn(to: mpsc::UnboundedSender<Happened>, work: impl Future<Output = Happened> + Send + 'static) {
    tokio::spawn(async move {
        // The group's task ends only with the agent.
        let _ = to.send(work.await);
    });
}

/// Keeps the layers of a group's images from being removed as unused.
fn use_layers(seen: &Seen, images: &[Option<PulledImage>]) {
    let layers = images.iter().flatten().flat_map(|image| image.layers.clone()).collect();
    *seen.layers.lock().unwrap_or_else(PoisonError::into_inner) = layers;
}

/// The next thing that a supervisor tells; never, while there is none.
async fn hear(telling: &mut Option<Telling>) -> Told {
    match telling {
        Some(telling) => telling.recv().await.unwrap_or(Told::Lost),
        None => std::future::pending().await,
    }
}

/// The assignment of a group found on disk, unless nothing is left of it.
pub fn on_disk(dir: &Path) -> Option<Assignment> {
    notes::read_assignment(dir)
}

/// Whether a group found on disk has anything on the node.
pub fn is_live(dir: &Path) -> bool {
    notes::read_known(dir).is_some_and(|known| !known.is_gone())
}
