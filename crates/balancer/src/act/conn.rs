//! A client's connection: its idle timeout, its age, and what it remembers between requests.

use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::counters::bump;
use super::io::Stream;
use super::table::{LiveListener, Table};
use super::worker::{Accepted, Worker};
use super::{lock, proxy};
use crate::config::LoadBalancerAttributes;
use crate::decide::forwarded;

/// Silence is looked for this many times per idle timeout, but at least every `TICK_MAX`.
const TICKS_PER_TIMEOUT: u32 = 8;
const TICK_MAX: Duration = Duration::from_secs(2);

/// What a connection's requests share.
pub(crate) struct Conn {
    pub worker: Arc<Worker>,
    pub peer: SocketAddr,
    local: SocketAddr,
    pub stream: Stream,
    closing: Arc<AtomicBool>,
    /// It has lived for its keep-alive duration.
    old: AtomicBool,
    /// Nothing of a next request has come.
    pub idle: AtomicBool,
    /// A request waits for its target's answer: silence then is answered, by a 504 or 408.
    awaiting_target: AtomicBool,
    /// That wait has lasted for the idle timeout.
    expired: AtomicBool,
    idle_timeout_ms: AtomicU64,
    keep_alive_ms: AtomicU64,
    memory: Mutex<Memory>,
}

/// The table and the listener of the last request.
struct Memory {
    generation: u64,
    table: Arc<Table>,
    site: Option<Arc<Site>>,
    counted: bool,
}

/// A listener as seen from one connection.
pub(crate) struct Site {
    pub listener: Arc<LiveListener>,
    /// What `X-Forwarded-For` calls the client.
    pub client_name: String,
}

impl Site {
    fn new(listener: Arc<LiveListener>, peer: SocketAddr) -> Self {
        let attributes = &listener.load_balancer.attributes;
        Self { client_name: forwarded::client_name(peer.ip(), peer.port(), attributes), listener }
    }
}

impl Conn {
    fn new(accepted: Accepted, worker: Arc<Worker>) -> std::io::Result<Self> {
        let generation = worker.shared.generation.load(Relaxed);
        let table = worker.shared.table();
        let attributes = table.sites.get(&accepted.local).and_then(|sites| sites.first());
        let attributes = attributes.map(|site| site.load_balancer.attributes.clone()).unwrap_or_default();
        let conn = Self {
            peer: SocketAddr::new(accepted.peer.ip().to_canonical(), accepted.peer.port()),
            local: accepted.local,
            stream: Stream::client(accepted.stream)?,
            closing: accepted.closing,
            old: AtomicBool::new(false),
            idle: AtomicBool::new(true),
            awaiting_target: AtomicBool::new(false),
            expired: AtomicBool::new(false),
            idle_timeout_ms: AtomicU64::new(0),
            keep_alive_ms: AtomicU64::new(0),
            memory: Mutex::new(Memory { generation, table, site: None, counted: false }),
            worker,
        };
        conn.remember_timeouts(&attributes);
        Ok(conn)
    }

    fn remember_timeouts(&self, attributes: &LoadBalancerAttributes) {
        self.idle_timeout_ms.store(attributes.idle_timeout_ms.max(1), Relaxed);
        self.keep_alive_ms.store(attributes.client_keep_alive_ms.max(1), Relaxed);
    }

    /// The address of the socket the connection came to.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The client's address.
    pub fn source(&self) -> IpAddr {
        self.peer.ip()
    }

    /// Whether the connection is to end after the current response.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Relaxed) || self.old.load(Relaxed)
    }

    /// The listener for a request to `host` (without port), by the newest table.
    pub fn site(&self, host: &str) -> Option<Arc<Site>> {
        let mut memory = lock(&self.memory);
        let generation = self.worker.shared.generation.load(Relaxed);
        if memory.generation != generation {
            memory.generation = generation;
            memory.table = self.worker.shared.table();
        }
        let listener = memory.table.listener(&self.local, host)?;
        if let Some(site) = memory.site.as_ref().filter(|site| Arc::ptr_eq(&site.listener, listener)) {
            return Some(site.clone());
        }
        let site = Arc::new(Site::new(listener.clone(), self.peer));
        self.remember_timeouts(&site.listener.load_balancer.attributes);
        if !std::mem::replace(&mut memory.counted, true) {
            bump(&site.listener.load_balancer.counters.new_connections);
        }
        memory.site = Some(site.clone());
        Some(site)
    }

    /// Begins or ends the wait for a target's answer, which lasts no longer than an idle timeout of silence.
    ///
    /// There is no timer in this: [`drive`] polls the connection, and with it what waits, when the timeout has passed.
    pub fn await_target(&self, awaiting: bool) {
        self.expired.store(false, Relaxed);
        self.awaiting_target.store(awaiting, Relaxed);
    }

    /// Whether a target's answer is still waited for.
    pub fn awaits_target(&self) -> bool {
        self.awaiting_target.load(Relaxed)
    }

    /// Whether that wait has lasted too long.
    pub fn is_expired(&self) -> bool {
        self.expired.load(Relaxed)
    }

    /// Does a part of that wait; `None` when it has lasted too long.
    pub async fn unless_expired<T>(&self, part: impl Future<Output = T>) -> Option<T> {
        let mut part = std::pin::pin!(part);
        let result = poll_fn(|cx| match part.as_mut().poll(cx) {
            Poll::Pending if self.is_expired() => Poll::Ready(None),
            poll => poll.map(Some),
        });
        result.await
    }

    fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms.load(Relaxed))
    }

    /// How often to look for silence.
    fn tick(&self) -> Duration {
        (self.idle_timeout() / TICKS_PER_TIMEOUT).clamp(Duration::from_millis(5), TICK_MAX)
    }
}

/// Serves a connection to its end.
pub(crate) async fn serve(accepted: Accepted, worker: Arc<Worker>) {
    let open = worker.open.clone();
    // Fails only when the event queue takes no more.
    if let Ok(conn) = Conn::new(accepted, worker) {
        drive(&conn).await;
    }
    open.fetch_sub(1, Relaxed);
}

async fn drive(conn: &Conn) {
    let mut serving = std::pin::pin!(proxy::serve(conn));
    let mut next_tick = std::pin::pin!(sleep(conn.tick()));
    let born = Instant::now();
    let mut last_active = born;
    loop {
        tokio::select! {
            biased;
            () = &mut serving => return,
            () = &mut next_tick => {
                let now = Instant::now();
                if conn.stream.was_active() {
                    last_active = now;
                } else if conn.closing.load(Relaxed) && conn.idle.load(Relaxed) {
                    // Nothing has come since the last tick: closing now most likely loses no request.
                    return;
                }
                if now - last_active >= conn.idle_timeout() {
                    if !conn.awaits_target() {
                        return;
                    }
                    // The next turn of this loop polls the connection, and with it the request that waits.
                    conn.expired.store(true, Relaxed);
                    last_active = now;
                }
                if now - born >= Duration::from_millis(conn.keep_alive_ms.load(Relaxed)) {
                    conn.old.store(true, Relaxed);
                }
                next_tick.as_mut().reset(now + conn.tick());
            }
        }
    }
}
