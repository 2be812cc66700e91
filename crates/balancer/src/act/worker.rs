//! A worker: one thread, one single-threaded runtime, the client connections given to it.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use super::io::Buffer;
use super::table::Table;
use super::target::Changes;
use super::{conn, lock, now_ms};
use crate::decide::date::http_date;

/// ALB's limit for all request headers, and the most that is held of a body that is read slowly.
const BUFFER_MAX: usize = 64 * 1024;
/// Requests of a worker whose space is kept for the next ones; more than that at once is a burst.
const SPACES_MAX: usize = 64;

/// What all threads share.
pub(crate) struct Shared {
    /// Goes up with every table, so that a connection can see that its copy is old without touching a lock.
    pub generation: AtomicU64,
    table: RwLock<Arc<Table>>,
    pub changes: Changes,
}

impl Shared {
    pub fn new(changes: Changes) -> Self {
        Self { generation: AtomicU64::new(0), table: RwLock::default(), changes }
    }

    pub fn table(&self) -> Arc<Table> {
        self.table.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    pub fn publish(&self, table: Arc<Table>) {
        *self.table.write().unwrap_or_else(std::sync::PoisonError::into_inner) = table;
        self.generation.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

/// A client's connection, just accepted.
pub(crate) struct Accepted {
    pub stream: std::net::TcpStream,
    pub peer: SocketAddr,
    /// The address of the socket it came to.
    pub local: SocketAddr,
    /// Set when that socket is closed: the connection ends after its current response.
    pub closing: Arc<AtomicBool>,
}

/// What the connections of one thread share.
pub(crate) struct Worker {
    pub index: usize,
    pub shared: Arc<Shared>,
    /// Connections open now.
    pub open: Arc<AtomicUsize>,
    random: AtomicU64,
    spaces: Mutex<Vec<Space>>,
    /// A second since the epoch, as a date.
    date: Mutex<(i64, String)>,
}

/// Where a request and its response lie while they pass. A connection without a request has none.
pub(crate) struct Space {
    /// Read from the client.
    pub request: Buffer,
    /// Read from the target.
    pub response: Buffer,
    /// To be written to the target.
    pub up: Vec<u8>,
    /// To be written to the client.
    pub down: Vec<u8>,
}

impl Space {
    fn new() -> Self {
        let (request, response) = (Buffer::new(BUFFER_MAX), Buffer::new(BUFFER_MAX));
        Self { request, response, up: Vec::new(), down: Vec::new() }
    }
}

/// A space lent by its worker.
pub(crate) struct Lent<'a> {
    space: Option<Space>,
    worker: &'a Worker,
}

impl Lent<'_> {
    pub fn space(&mut self) -> &mut Space {
        self.space.get_or_insert_with(Space::new)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut spaces = lock(&self.worker.spaces);
        if let Some(mut space) = self.space.take().filter(|_| spaces.len() < SPACES_MAX) {
            space.request.clear();
            space.response.clear();
            spaces.push(space);
        }
    }
}

impl Worker {
    /// Lends space for a request, the most recently used, which is the likeliest to be in the processor's cache.
    pub fn lend(&self) -> Lent<'_> {
        Lent { space: lock(&self.spaces).pop(), worker: self }
    }

    /// Seconds since the epoch, and gives `use_date` the same as a date.
    pub fn with_date<R>(&self, use_date: impl FnOnce(i64, &[u8]) -> R) -> R {
        let now_s = now_ms() / 1000;
        let mut date = lock(&self.date);
        if date.0 != now_s {
            *date = (now_s, http_date(now_s));
        }
        use_date(now_s, date.1.as_bytes())
    }

    /// The next number of this worker's seeded sequence (splitmix64).
    pub fn draw(&self) -> u64 {
        let x = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
}

/// The control thread's end of a worker. Dropping the sender ends the worker and its connections.
pub(crate) struct WorkerHandle {
    pub connections: mpsc::UnboundedSender<Accepted>,
    pub open: Arc<AtomicUsize>,
}

/// Starts a worker thread.
pub(crate) fn start(
    index: usize,
    seed: u64,
    shared: Arc<Shared>,
) -> io::Result<(WorkerHandle, JoinHandle<()>)> {
    let (connections, accepted) = mpsc::unbounded_channel();
    let open = Arc::new(AtomicUsize::new(0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let random = AtomicU64::new(seed.wrapping_add((index as u64) << 32));
    let (spaces, date) = (Mutex::default(), Mutex::default());
    let worker = Arc::new(Worker { index, shared, open: open.clone(), random, spaces, date });
    let run = move || runtime.block_on(run(worker, accepted));
    let thread = std::thread::Builder::new().name(format!("balancer-{index}")).spawn(run)?;
    Ok((WorkerHandle { connections, open }, thread))
}

async fn run(worker: Arc<Worker>, mut accepted: mpsc::UnboundedReceiver<Accepted>) {
    while let Some(connection) = accepted.recv().await {
        tokio::spawn(conn::serve(connection, worker.clone()));
    }
}
