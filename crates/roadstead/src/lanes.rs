//! The threads that serve API connections: each an event loop of its own, to which a connection belongs until it ends.
//!
//! On the runtime that all else shares, an event wakes one thread, and that thread a second one to look for more work:
//! for a request that takes less time than the waking that would be half of its cost.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;

/// More are of no use: what takes long is done elsewhere.
const LANES_MAX: usize = 8;

/// The threads. Dropped, they end when their connections have ended.
pub struct Lanes(Vec<Lane>);

/// A connection, and its place among those that are served at a time.
type Placed = (std::net::TcpStream, OwnedSemaphorePermit);

struct Lane {
    connections: mpsc::UnboundedSender<Placed>,
    open: Arc<AtomicUsize>,
}

impl Lanes {
    /// Starts a thread for each core; each calls `serve` for each of its connections. `ended` has the threads' ends.
    ///
    /// # Errors
    /// When a thread or its event queue cannot be made.
    pub fn start<S, F>(serve: S, ended: &mut JoinSet<()>) -> io::Result<Lanes>
    where
        S: Fn(TcpStream) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let start = |index| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (connections, accepted) = mpsc::unbounded_channel();
            let open = Arc::new(AtomicUsize::new(0));
            let serving = run(serve.clone(), accepted, open.clone());
            let thread = std::thread::Builder::new().name(format!("api-{index}"));
            let thread = thread.spawn(move || runtime.block_on(serving))?;
            ended.spawn_blocking(move || drop(thread.join()));
            Ok(Lane { connections, open })
        };
        (0..cores.min(LANES_MAX)).map(start).collect::<io::Result<_>>().map(Lanes)
    }

    /// Gives a connection to the lane that has the fewest.
    ///
    /// # Errors
    /// When it cannot be taken out of this thread's event queue.
    pub fn take(&self, connection: TcpStream, place: OwnedSemaphorePermit) -> io::Result<()> {
        let connection = (connection.into_std()?, place);
        let fewest = self.0.iter().min_by_key(|lane| lane.open.load(Ordering::Relaxed));
        let lane = fewest.ok_or(io::ErrorKind::NotConnected)?;
        lane.open.fetch_add(1, Ordering::Relaxed);
        lane.connections.send(connection).map_err(|_| io::ErrorKind::NotConnected.into())
    }
}

async fn run<S, F>(serve: S, mut accepted: mpsc::UnboundedReceiver<Placed>, open: Arc<AtomicUsize>)
where
    S: Fn(TcpStream) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let mut serving = JoinSet::new();
    loop {
        let (connection, place) = tokio::select! {
            accepted = accepted.recv() => match accepted {
                Some(accepted) => accepted,
                None => break,
            },
            Some(_) = serving.join_next() => {
                open.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
        };
        // What cannot be watched is closed at once.
        let served = TcpStream::from_std(connection).map(&serve);
        serving.spawn(async move {
            match served {
                Ok(served) => served.await,
                Err(error) => tracing::warn!(%error, "a connection cannot be served"),
            }
            drop(place);
        });
    }
    while serving.join_next().await.is_some() {}
}
