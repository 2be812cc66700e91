//! The thread that delivers the output of all containers: woken by the kernel when a log file grows, idle otherwise.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::sync::oneshot;

use super::follow::Follower;
use super::lines::BLOCK_QUIET_MS;
use super::{LogSink, Order, Retry};

/// What is written within this time is delivered together.
const GATHER: Duration = Duration::from_millis(20);
/// Between looks at a container whose folder the kernel would not watch.
const UNWATCHED: Duration = Duration::from_millis(200);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// While a task waits for its end.
const BACKOFF_DRAINING_MAX: Duration = Duration::from_secs(1);

struct Following {
    follower: Follower,
    watch: Option<WatchDescriptor>,
    /// Look at it at this time.
    due: Option<Instant>,
    /// How long to wait after the next failure.
    backoff: Duration,
    /// Since the last delivery something failed.
    failing: bool,
    /// The container has exited: nothing follows what is in the files, unless it is started again.
    end: bool,
    /// The group is over: nothing follows at all.
    draining: bool,
    /// All that there is was delivered, to the end.
    over: bool,
}

struct Draining {
    key: String,
    until: Instant,
    done: oneshot::Sender<bool>,
}

/// The thread's state.
pub struct Shipping {
    sink: Arc<dyn LogSink>,
    orders: mpsc::Receiver<Order>,
    wake: Arc<EventFd>,
    inotify: Inotify,
    followings: HashMap<(String, usize), Following>,
    watches: HashMap<WatchDescriptor, (String, usize)>,
    draining: Vec<Draining>,
}

impl Shipping {
    /// Nothing is followed yet.
    pub fn new(
        sink: Arc<dyn LogSink>,
        orders: mpsc::Receiver<Order>,
        wake: Arc<EventFd>,
    ) -> std::io::Result<Shipping> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let (followings, watches) = (HashMap::new(), HashMap::new());
        Ok(Shipping { sink, orders, wake, inotify, followings, watches, draining: Vec::new() })
    }

    /// Works until nobody can give orders any more.
    pub fn run(mut self) {
        loop {
            // It is only to be zero again; what woke the thread is looked for everywhere below.
            let _ = self.wake.read();
            loop {
                match self.orders.try_recv() {
                    Ok(order) => self.obey(order),
                    Err(mpsc::TryRecvError::Empty) => break,
                    Err(mpsc::TryRecvError::Disconnected) => return,
                }
            }
            self.mark_written();
            self.deliver_due();
            self.finish_draining();
            self.wait();
        }
    }

    fn obey(&mut self, order: Order) {
        let now = Instant::now();
        match order {
            Order::Follow(sources) => {
                for source in sources {
                    let at = (source.key.clone(), source.container);
                    if self.followings.contains_key(&at) {
                        continue;
                    }
                    // The supervisor may not have made the folder yet. Where it cannot be made there is nothing to read.
                    let _ = std::fs::create_dir_all(&source.frames_dir);
                    let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE;
                    let watch = self.inotify.add_watch(&source.frames_dir, flags).ok();
                    self.watches.extend(watch.map(|watch| (watch, at.clone())));
                    let follower = Follower::new(source);
                    let (due, backoff) = (Some(now), BACKOFF_MIN);
                    let (failing, end, draining, over) = (false, false, false, false);
                    let following = Following { follower, watch, due, backoff, failing, end, draining, over };
                    self.followings.insert(at, following);
                }
            }
            Order::Exited { key, container } => {
                if let Some(following) = self.followings.get_mut(&(key, container)) {
                    following.end_now(now);
                }
            }
            Order::Drain { key, until, done } => {
                for (_, following) in self.followings.iter_mut().filter(|((k, _), _)| *k == key) {
                    (following.draining, following.over) = (true, false);
                    following.end_now(now);
                }
                self.draining.push(Draining { key, until, done });
            }
            Order::Forget { key } => self.forget(&key),
        }
    }

    fn forget(&mut self, key: &str) {
        for (_, following) in self.followings.extract_if(|(k, _), _| k == key) {
            if let Some(watch) = following.watch {
                self.watches.remove(&watch);
                // The folder may be gone already, and the watch with it.
                let _ = self.inotify.rm_watch(watch);
            }
        }
    }

    /// Marks the containers whose files have grown.
    fn mark_written(&mut self) {
        let now = Instant::now();
        while let Ok(events) = self.inotify.read_events() {
            if events.is_empty() {
                break;
            }
            for event in events {
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    self.followings.values_mut().for_each(|f| f.look_at(now));
                } else if let Some(at) = self.watches.get(&event.wd)
                    && let Some(following) = self.followings.get_mut(at)
                {
                    following.look_at(now);
                }
            }
        }
    }

    /// One batch of each container that is due.
    fn deliver_due(&mut self) {
        let now = Instant::now();
        for following in self.followings.values_mut().filter(|f| f.due.is_some_and(|due| due <= now)) {
            following.due = following.watch.is_none().then(|| now + UNWATCHED);
            following.deliver(&*self.sink);
        }
    }

    fn finish_draining(&mut self) {
        let now = Instant::now();
        for at in (0..self.draining.len()).rev() {
            let key = &self.draining[at].key;
            let over = self.followings.iter().all(|((k, _), f)| k != key || f.over);
            if over || self.draining[at].until <= now {
                let draining = self.draining.swap_remove(at);
                if !over {
                    tracing::warn!(
                        group = draining.key,
                        "the last of its output could not be delivered in time"
                    );
                }
                self.forget(&draining.key);
                // Whoever asked may be gone.
                let _ = draining.done.send(over);
            }
        }
    }

    fn wait(&self) {
        let dues = self.followings.values().filter_map(|f| f.due);
        let next = dues.chain(self.draining.iter().map(|d| d.until)).min();
        let timeout = match next.map(|at| at.saturating_duration_since(Instant::now())) {
            // A millisecond more: a wait rounded down would end before its time.
            Some(left) => PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        if next.is_some_and(|at| at <= Instant::now()) {
            return;
        }
        let mut polled = [
            PollFd::new(self.wake.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN),
        ];
        // Interrupted or not, the next turn looks at everything.
        let _ = poll(&mut polled, timeout);
        let ready = |at: usize| polled[at].any().unwrap_or(false);
        if ready(1) && !ready(0) {
            std::thread::sleep(GATHER);
        }
    }
}

impl Following {
    /// Something was written. A destination that fails is not asked sooner for that.
    fn look_at(&mut self, now: Instant) {
        self.over = false;
        if !self.failing {
            self.due = Some(now);
        }
    }

    fn end_now(&mut self, now: Instant) {
        self.end = true;
        self.backoff = self.backoff.min(BACKOFF_DRAINING_MAX);
        self.due = Some(now);
    }

    fn deliver(&mut self, sink: &dyn LogSink) {
        let batch = self.follower.batch(self.end || self.draining, now_ms());
        let destination = &self.follower.source.destination;
        let taken = if batch.events.is_empty() { Ok(()) } else { sink.append(destination, &batch.events) };
        let again = |after: Duration| Some(Instant::now() + after);
        if let Err(err) = &taken {
            let (group, stream, error) = (&destination.group, &destination.stream, &err.text);
            let retried = match err.retry {
                Retry::Never => false,
                Retry::WhileRunning => !self.draining,
                Retry::Always => true,
            };
            if !self.failing || (self.draining && !retried) {
                tracing::warn!(group, stream, error, retried, "log events were not taken");
            }
            self.failing = true;
            self.due = again(if self.draining && !retried { Duration::ZERO } else { self.backoff });
            let most = if self.draining { BACKOFF_DRAINING_MAX } else { BACKOFF_MAX };
            self.backoff = (self.backoff * 2).min(most);
            if retried {
                return self.follower.give_up_batch();
            }
        } else {
            (self.failing, self.backoff) = (false, BACKOFF_MIN);
        }
        if !batch.events.is_empty() {
            cut::cut!("agent.logs.taken");
        }
        self.follower.delivered();
        if !batch.complete {
            self.due = self.due.filter(|_| self.failing).or_else(|| again(Duration::ZERO));
            return;
        }
        self.over = self.end || self.draining;
        self.end = false;
        if self.follower.waits_for_quiet() {
            self.due = again(Duration::from_millis(BLOCK_QUIET_MS as u64));
        }
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}
