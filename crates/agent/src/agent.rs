//! The agent: the groups that this node has, each worked on by a task of its own.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use state::assignment::{Assignment, Names};
use state::group::Observed;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::act::image::{LayerStore, Puller};
use crate::act::logs::LogShipper;
use crate::act::metadata::Endpoints;
use crate::act::remove::remove_tree;
use crate::act::runtime::cgroup::{Cgroups, Usage};
use crate::act::runtime::{ExecOutcome, ExecSpec, capabilities};
use crate::act::supervisor::client::Supervisor;
use crate::act::supervisor::nursery::Nursery;
use crate::act::supervisor::{Answer, Ask, container_dir};
use crate::group::{self, Group, Seen, Wish};
use crate::node::{AgentConfig, Connections, GROUNDS_AT_ONCE, Node, SUPERVISORS, nofile_max};

/// Layers that no container uses are kept this long after they were wanted last.
const UNUSED_LAYERS_KEPT: Duration = Duration::from_secs(3600);
/// How often unused layers are looked for.
const CLEAN_EVERY: Duration = Duration::from_secs(600);

/// The agent of a node.
pub struct Agent {
    node: Arc<Node>,
    groups: Arc<Mutex<HashMap<String, Handle>>>,
    cleaner: Option<JoinHandle<()>>,
}

/// A group's task.
struct Handle {
    id: String,
    assignment: Arc<Assignment>,
    wish: watch::Sender<Wish>,
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

/// What a container uses.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerUsage {
    /// Its name.
    pub name: String,
    /// What its cgroup says; `None` while it does not run.
    pub usage: Option<Usage>,
}

impl Agent {
    /// Starts the agent: takes in what an earlier one left running, removes what belongs to nobody.
    ///
    /// # Errors
    /// When its folders or its network cannot be had.
    pub async fn start(config: AgentConfig, connections: Connections) -> io::Result<Agent> {
        // Definitions may hold secrets, and images set-user-id programs: only root looks in. The empty one is mounted.
        for (folder, mode) in [("groups", 0o700), ("layers", 0o700), ("volumes", 0o700), ("empty", 0o555)] {
            let folder = config.data_dir.join(folder);
            std::fs::create_dir_all(&folder)?;
            std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode))?;
        }
        let layers = LayerStore::open(&config.data_dir.join("layers"))?;
        let capabilities = capabilities::available();
        let cgroups = Cgroups::detect();
        let node = Arc::new(Node {
            nursery: Arc::new(
                Nursery::new(&config.program, Some(Node::supervisors_cgroup(&config)))
                    .with_files_soft(config.files_soft),
            ),
            puller: Puller::new(connections.images.clone(), layers.clone()),
            cgroups: cgroups.clone(),
            shipper: LogShipper::start(connections.logs.clone())?,
            endpoints: Arc::new(Endpoints::new(cgroups, connections.credentials.clone())),
            nofile_max: nofile_max(capabilities),
            network_turn: tokio::sync::Mutex::default(),
            ground_turns: Semaphore::new(GROUNDS_AT_ONCE),
            config,
            connections,
            layers,
            capabilities,
        });
        let found = on_disk(&node)?;
        recover(node.clone(), found.clone()).await?;
        let mut agent = Agent { node, groups: Arc::default(), cleaner: None };
        for assignment in found {
            agent.begin(&mut agent.lock(), Arc::new(assignment), true);
        }
        // Not before all groups have said which layers they use.
        agent.cleaner = Some(tokio::spawn(clean(agent.node.clone(), agent.groups.clone())));
        Ok(agent)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Handle>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what this node is to have: all of it. Groups that are not named are stopped and removed.
    pub fn assign<A: Into<Arc<Assignment>>>(&self, assignments: impl IntoIterator<Item = A>) {
        let mut groups = self.lock();
        // Tasks end by themselves when their group is gone.
        groups.retain(|_, handle| !handle.task.is_finished());
        let mut named = HashSet::new();
        for assignment in assignments {
            let assignment: Arc<Assignment> = assignment.into();
            named.insert(assignment.key.clone());
            match groups.get_mut(&assignment.key) {
                Some(handle) if is_same(&handle.assignment, &assignment) && !handle.is_undecided() => {}
                Some(handle) => {
                    handle.assignment = assignment;
                    handle.wish.send_replace(Wish::Assigned(handle.assignment.clone()));
                }
                None => self.begin(&mut groups, assignment, false),
            }
        }
        for handle in groups.iter().filter(|(key, _)| !named.contains(*key)).map(|(_, handle)| handle) {
            handle.wish.send_if_modified(|wish| {
                let news = !matches!(wish, Wish::Abandoned);
                *wish = Wish::Abandoned;
                news
            });
        }
    }

    fn begin(&self, groups: &mut HashMap<String, Handle>, assignment: Arc<Assignment>, undecided: bool) {
        let seen = Arc::new(Seen::default());
        let first = if undecided { Wish::Undecided } else { Wish::Assigned(assignment.clone()) };
        let (wish, wishes) = watch::channel(first);
        let task = match Group::open(self.node.clone(), assignment.clone(), seen.clone()) {
            Ok(group) => tokio::spawn(group.work(wishes)),
            Err(err) => {
                // Tried again with the next assignment.
                tracing::error!(key = assignment.key, %err, "the group's folder cannot be made");
                return;
            }
        };
        let handle = Handle { id: assignment.id.clone(), assignment: assignment.clone(), wish, seen, task };
        groups.insert(assignment.key.clone(), handle);
    }

    /// How many groups are here, until nothing is left of them.
    pub fn count(&self) -> usize {
        self.lock().values().filter(|handle| !handle.task.is_finished()).count()
    }

    /// Removes all layers that no group uses.
    ///
    /// # Errors
    /// When their folder cannot be read.
    pub fn remove_unused_layers(&self) -> impl Future<Output = io::Result<usize>> + Send + 'static {
        remove_unused(self.node.clone(), self.groups.clone(), Duration::ZERO)
    }

    /// Sets the names that containers can look up.
    pub fn names(&self, names: Names) {
        self.node.connections.networks.names(names);
    }

    /// What was last seen of a group.
    pub fn observed(&self, key: &str) -> Option<Observed> {
        let groups = self.lock();
        let seen = groups.get(key)?.seen.observed.lock().unwrap_or_else(PoisonError::into_inner);
        Some(seen.clone())
    }

    /// What a group's containers use; `None` if the group is not here.
    pub fn stats(&self, key: &str) -> Option<Vec<ContainerUsage>> {
        let (id, assignment) = self.lock().get(key).map(|h| (h.id.clone(), h.assignment.clone()))?;
        let cgroup = self.node.cgroup(&id);
        let containers = assignment.spec.containers.iter().enumerate();
        Some(
            containers
                .map(|(index, spec)| ContainerUsage {
                    name: spec.name.clone(),
                    usage: self.node.cgroups.usage(&format!("{cgroup}/c{index}")),
                })
                .collect(),
        )
    }

    /// Runs a command in a container and waits for it.
    ///
    /// # Errors
    /// When there is no such container running, or the command cannot be started.
    pub async fn exec(
        &self,
        key: &str,
        container: &str,
        command: Vec<String>,
        timeout: Duration,
    ) -> Result<ExecOutcome, String> {
        let (id, index, runtime_id) = {
            let groups = self.lock();
            let handle = groups.get(key).ok_or("the task is not on this node")?;
            let containers = &handle.assignment.spec.containers;
            let index = containers.iter().position(|c| c.name == container).ok_or("no such container")?;
            let observed = handle.seen.observed.lock().unwrap_or_else(PoisonError::into_inner);
            let seen = observed.containers.get(index).and_then(|c| c.runtime_id.clone());
            (handle.id.clone(), index, seen.ok_or("the container is not running")?)
        };
        let dir = self.node.group_dir(&id);
        let (supervisor, _telling) = Supervisor::connect(&dir).await.map_err(|err| err.to_string())?;
        let spec = ExecSpec {
            runtime_id,
            driver: self.node.config.driver.clone(),
            dir: container_dir(&dir, index),
            command,
            timeout_ms: timeout.as_millis() as u64,
        };
        match supervisor.ask(Ask::Exec { container: index, spec: Box::new(spec) }).await? {
            Answer::Ended(outcome) => Ok(outcome),
            other => Err(format!("an unexpected answer: {other:?}")),
        }
    }

    /// Kills every process of every container, without asking. What follows from that is decided as ever: groups that are
    /// not to stop may start containers anew, so this is done again until nothing is left.
    pub fn kill_all(&self) -> impl Future<Output = ()> + use<> {
        let node = self.node.clone();
        let kill = move || {
            let groups = node.cgroups.children(&node.config.cgroup_parent);
            for group in groups.iter().filter(|group| *group != SUPERVISORS) {
                node.cgroups.kill_tree(&node.cgroup(group));
            }
        };
        async {
            // A failed join is a panic in the cgroup code.
            let _ = tokio::task::spawn_blocking(kill).await;
        }
    }

    /// Ends the agent. `leave_running`: containers go on, for the agent that comes next; otherwise they are stopped, in
    /// order and with their time to end, and removed first.
    pub async fn shutdown(self, leave_running: bool) {
        self.cleaner.iter().for_each(JoinHandle::abort);
        let handles: Vec<Handle> = self.lock().drain().map(|(_, handle)| handle).collect();
        let wish = if leave_running { Wish::Leave } else { Wish::Abandoned };
        for handle in &handles {
            handle.wish.send_replace(wish.clone());
        }
        for handle in handles {
            // A task that panicked is over as well.
            let _ = handle.task.await;
        }
        if !leave_running {
            self.remove_cgroups();
        }
    }

    /// Removes the cgroups that the agent has for all groups, unless one is left in them.
    fn remove_cgroups(&self) {
        let (cgroups, config) = (&self.node.cgroups, &self.node.config);
        if cgroups.children(&config.cgroup_parent).iter().all(|child| child == SUPERVISORS) {
            self.node.nursery.end();
            cgroups.remove_tree(&Node::supervisors_cgroup(config));
            cgroups.remove(&config.cgroup_parent);
        }
    }
}

/// Whether two say the same: most are the same one.
fn is_same(one: &Arc<Assignment>, other: &Arc<Assignment>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

impl Handle {
    fn is_undecided(&self) -> bool {
        !matches!(*self.wish.borrow(), Wish::Assigned(_))
    }
}

/// The groups that an earlier agent left notes of.
fn on_disk(node: &Node) -> io::Result<Vec<Assignment>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(node.groups_dir())?.flatten() {
        let dir = entry.path();
        match group::on_disk(&dir) {
            Some(assignment) => found.push(assignment),
            None => {
                // Begun by an agent that was killed before its first note: nothing was made yet.
                tracing::warn!(dir = %dir.display(), "a folder without notes is removed");
                if let Err(err) = remove_tree(&dir) {
                    tracing::warn!(dir = %dir.display(), %err, "it could not be removed");
                }
            }
        }
    }
    Ok(found)
}

/// Keeps the networks and cgroups of living groups and removes all others.
async fn recover(node: Arc<Node>, found: Vec<Assignment>) -> io::Result<()> {
    let recovered = tokio::task::spawn_blocking(move || {
        let live: Vec<&Assignment> =
            found.iter().filter(|a| group::is_live(&node.group_dir(&a.id))).collect();
        let keys: Vec<String> = live.iter().map(|a| a.key.clone()).collect();
        node.connections.networks.recover(&keys).map_err(io::Error::other)?;
        for child in node.cgroups.children(&node.config.cgroup_parent) {
            if child != SUPERVISORS && !live.iter().any(|a| a.id == child) {
                node.cgroups.remove_tree(&node.cgroup(&child));
            }
        }
        Ok(())
    });
    recovered.await.map_err(io::Error::other)?
}

/// Removes unused layers from time to time.
async fn clean(node: Arc<Node>, groups: Arc<Mutex<HashMap<String, Handle>>>) {
    let mut every = tokio::time::interval(CLEAN_EVERY);
    loop {
        every.tick().await;
        match remove_unused(node.clone(), groups.clone(), UNUSED_LAYERS_KEPT).await {
            Ok(count) if count > 0 => tracing::info!(count, "unused layers were removed"),
            Ok(_) => {}
            Err(err) => tracing::warn!(%err, "unused layers could not be removed"),
        }
    }
}

/// Removes layers that no group uses and that were not wanted for so long. Returns how many.
async fn remove_unused(
    node: Arc<Node>,
    groups: Arc<Mutex<HashMap<String, Handle>>>,
    unwanted_for: Duration,
) -> io::Result<usize> {
    let in_use: HashSet<String> = {
        let groups = groups.lock().unwrap_or_else(PoisonError::into_inner);
        let layers =
            |handle: &Handle| handle.seen.layers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        groups.values().flat_map(layers).collect()
    };
    let removed = tokio::task::spawn_blocking(move || node.layers.remove_unused(&in_use, unwanted_for));
    removed.await.map_err(io::Error::other)?
}
