//! The agent's side of a supervisor's socket.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::journal::Record;
use super::nursery::Nursery;
use super::{Answer, Ask, Request, Said, Settings, forks, socket_path};

/// What a supervisor tells unasked.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// A start or an exit, old or new.
    Record(Record),
    /// The connection is over.
    Lost,
}

type Waiting = oneshot::Sender<Result<Answer, String>>;

/// A connection to a group's supervisor.
#[derive(Clone)]
pub struct Supervisor {
    asks: mpsc::UnboundedSender<(Ask, Waiting)>,
}

/// What a supervisor tells, as it comes.
pub type Telling = mpsc::UnboundedReceiver<Told>;

impl Supervisor {
    /// Starts a supervisor for a folder if none lives, and connects to it.
    ///
    /// # Errors
    /// When it cannot be started or reached.
    pub async fn ensure(
        nursery: &Arc<Nursery>,
        dir: &Path,
        settings: &Settings,
    ) -> io::Result<(Supervisor, Telling)> {
        std::fs::create_dir_all(dir)?;
        if forks::try_lock(dir)?.is_some() {
            std::fs::write(dir.join("supervise.json"), serde_json::to_vec(settings)?)?;
            cut::cut!("agent.start.settings-written");
            let (nursery, dir) = (nursery.clone(), dir.to_owned());
            let forked = tokio::task::spawn_blocking(move || nursery.fork_supervisor(&dir));
            forked.await.map_err(io::Error::other)??;
            cut::cut!("agent.start.supervisor-forked");
        }
        Supervisor::connect(dir).await
    }

    /// Whether a supervisor lives for a folder.
    pub fn lives(dir: &Path) -> bool {
        dir.join("lock").exists() && matches!(forks::try_lock(dir), Ok(None))
    }

    /// Connects to a folder's supervisor.
    ///
    /// # Errors
    /// When there is none.
    pub async fn connect(dir: &Path) -> io::Result<(Supervisor, Telling)> {
        let folder = File::open(dir)?;
        let stream = UnixStream::connect(socket_path(&folder)).await?;
        let (asks, asked) = mpsc::unbounded_channel();
        let (told, telling) = mpsc::unbounded_channel();
        let (read, write) = stream.into_split();
        tokio::spawn(converse(read, write, asked, told));
        Ok((Supervisor { asks }, telling))
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// The supervisor's words, or that it is gone.
    pub async fn ask(&self, ask: Ask) -> Result<Answer, String> {
        let (answer, answered) = oneshot::channel();
        // A failed send drops the sender, which the receiver sees.
        let _ = self.asks.send((ask, answer));
        answered.await.unwrap_or_else(|_| Err("the supervisor is gone".into()))
    }

    /// Asks without waiting for the answer.
    pub fn tell(&self, ask: Ask) {
        let (answer, _) = oneshot::channel();
        let _ = self.asks.send((ask, answer));
    }
}

/// Carries questions there and answers back until either side is gone.
async fn converse(
    read: OwnedReadHalf,
    mut write: OwnedWriteHalf,
    mut asked: mpsc::UnboundedReceiver<(Ask, Waiting)>,
    told: mpsc::UnboundedSender<Told>,
) {
    let mut lines = BufReader::new(read).lines();
    let mut waiting: HashMap<u64, Waiting> = HashMap::new();
    let mut next = 0;
    loop {
        tokio::select! {
            line = lines.next_line() => {
                let Ok(Some(line)) = line else { break };
                match serde_json::from_str::<Said>(&line) {
                    Ok(Said::Answer(id, answer)) => {
                        if let Some(waiting) = waiting.remove(&id) {
                            // Whoever asked may not wait any more.
                            let _ = waiting.send(answer);
                        }
                    }
                    // The receiver may be gone: nobody listens any more.
                    Ok(Said::Record(record)) => drop(told.send(Told::Record(record))),
                    Err(err) => tracing::warn!(%err, line, "a supervisor spoke unintelligibly"),
                }
            }
            ask = asked.recv() => {
                let Some((ask, answer)) = ask else { break };
                next += 1;
                let mut line = serde_json::to_vec(&Request { id: next, ask }).unwrap_or_default();
                line.push(b'\n');
                waiting.insert(next, answer);
                if write.write_all(&line).await.is_err() {
                    break;
                }
            }
        }
    }
    let _ = told.send(Told::Lost);
}
