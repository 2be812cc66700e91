//! `up.json` in the data directory: what a running server says of itself to `down`, to `up --detach` and to a second `up`.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server, as it wrote itself down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Running {
    /// Its process.
    pub pid: i32,
    /// Where it listens.
    pub listen: SocketAddr,
    /// `--account`.
    pub account: String,
    /// `--region`.
    pub region: String,
    /// Whether it writes load balancer names to the hosts file.
    pub hosts_file: bool,
}

/// The file, while the server runs: dropped, it is removed.
pub struct Noted(PathBuf);

impl Drop for Noted {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("up.json")
}

impl Running {
    /// Writes the file.
    ///
    /// # Errors
    /// Those of writing it.
    pub fn note(&self, data_dir: &Path) -> io::Result<Noted> {
        let path = path(data_dir);
        let new = path.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(self)?)?;
        // Whole or not at all, for whoever reads it now.
        std::fs::rename(&new, &path)?;
        Ok(Noted(path))
    }

    /// What was last written of a server on this data directory; it may be gone without having removed it.
    pub fn read(data_dir: &Path) -> Option<Running> {
        serde_json::from_slice(&std::fs::read(path(data_dir)).ok()?).ok()
    }

    /// Removes what a server that was killed left.
    pub fn forget(data_dir: &Path) {
        let _ = std::fs::remove_file(path(data_dir));
    }

    /// Whether the process lives and is a Roadstead: ids are used again.
    pub fn is_alive(&self) -> bool {
        let line = std::fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let mut arguments = line.split(|byte| *byte == 0);
        arguments.nth(1).is_some_and(|argument| argument == b"up")
    }

    /// Sends a request without a body to one of Roadstead's own paths; the whole answer, its status line first.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn ask(&self, method: &str, path: &str, authorization: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.listen, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "{method} /_roadstead/{path} HTTP/1.1\r\nHost: {}\r\nAuthorization: {authorization}\r\n\
             Content-Length: 0\r\nConnection: close\r\n\r\n",
            self.listen
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}
