//! Queries for names that are not ours, passed on to the host's own name servers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::act::network::METADATA_ADDRESS;

/// How long one server is waited for.
const TRY: Duration = Duration::from_millis(1500);
/// When it is given up altogether: a client's own patience is 5 s.
const TOTAL: Duration = Duration::from_millis(4500);
/// `resolv.conf(5)`: at most three servers are used.
const MAX_SERVERS: usize = 3;
/// Queries under way for all clients together.
const MAX_QUERIES: usize = 1024;
const HEADER: usize = 12;

/// Passes queries on.
pub struct Forwarder {
    resolv_conf: PathBuf,
    servers: Mutex<Servers>,
    permits: Semaphore,
}

#[derive(Default)]
struct Servers {
    read_at: Option<SystemTime>,
    addresses: Vec<SocketAddr>,
}

impl Forwarder {
    /// Passes on to the servers that a `resolv.conf` names.
    pub fn new(resolv_conf: PathBuf) -> Forwarder {
        Forwarder { resolv_conf, servers: Mutex::default(), permits: Semaphore::new(MAX_QUERIES) }
    }

    fn servers(&self) -> Vec<SocketAddr> {
        let changed_at = std::fs::metadata(&self.resolv_conf).and_then(|m| m.modified()).ok();
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if servers.read_at != changed_at {
            servers.addresses = parse(&std::fs::read_to_string(&self.resolv_conf).unwrap_or_default());
            servers.read_at = changed_at;
        }
        servers.addresses.clone()
    }

    /// The answer to a query, whole, with the query's id. `None`: no server answered in time, or too much is under way.
    pub async fn ask(&self, query: &[u8]) -> Option<Vec<u8>> {
        let _permit = self.permits.try_acquire().ok()?;
        timeout(TOTAL, self.ask_all(query)).await.ok().flatten()
    }

    async fn ask_all(&self, query: &[u8]) -> Option<Vec<u8>> {
        const FAILED: u8 = 2;
        const REFUSED: u8 = 5;
        let servers = self.servers();
        let mut failure = None;
        // Each server twice: datagrams get lost.
        for server in servers.iter().chain(&servers) {
            match timeout(TRY, ask_one(*server, query)).await {
                Ok(Ok(answer)) if matches!(answer[3] & 15, FAILED | REFUSED) => failure = Some(answer),
                Ok(Ok(answer)) => return Some(answer),
                Ok(Err(_)) | Err(_) => {}
            }
        }
        failure
    }
}

/// Asks by datagram, and again by stream if the answer did not fit.
async fn ask_one(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let local: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    // A new socket for each query: its port is as hard to guess as the id.
    let socket = UdpSocket::bind((local, 0)).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; 65535];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = &buffer[..length];
        if !answers(query, answer) {
            continue;
        }
        let is_truncated = answer[2] & 2 != 0;
        return if is_truncated { ask_by_stream(server, query).await } else { Ok(answer.to_vec()) };
    }
}

async fn ask_by_stream(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    if answers(query, &answer) { Ok(answer) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Whether a message is a response with the query's id and question.
fn answers(query: &[u8], answer: &[u8]) -> bool {
    let is_response = answer.len() >= HEADER && answer[2] & 0x80 != 0 && answer[..2] == query[..2];
    let Some(end) = question_end(query) else { return false };
    // Servers that fail may leave the question out.
    is_response
        && (answer[4..6] == [0, 0]
            || answer.get(HEADER..end).is_some_and(|q| q.eq_ignore_ascii_case(&query[HEADER..end])))
}

/// Where the first question ends; questions hold no compressed names.
fn question_end(message: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    loop {
        match *message.get(at)? {
            0 => break,
            label => at += 1 + usize::from(label),
        }
    }
    (at + 5 <= message.len()).then_some(at + 5)
}

/// The servers that a `resolv.conf` names.
fn parse(resolv_conf: &str) -> Vec<SocketAddr> {
    let words = resolv_conf.lines().map(|line| line.split_whitespace());
    let servers =
        words.filter_map(|mut w| (w.next() == Some("nameserver")).then(|| w.next()?.parse().ok()).flatten());
    // We are no server of our own.
    let others = servers.filter(|s: &IpAddr| *s != IpAddr::V4(METADATA_ADDRESS));
    others.take(MAX_SERVERS).map(|s| SocketAddr::new(s, 53)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_as_resolv_conf_5_says() {
        let text = "# c\nnameserver 127.0.0.53\nsearch a b\n nameserver fe80::1%eth0\nnameserver ::1\nnameserver 169.254.170.2\nnameserver 1.1.1.1\nnameserver 9.9.9.9\n";
        let expected = ["127.0.0.53:53", "[::1]:53", "1.1.1.1:53"].map(|s| s.parse::<SocketAddr>().unwrap());
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn an_answer_must_have_the_id_and_the_question() {
        let mut query = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        query.extend(b"\x01a\x00\x00\x01\x00\x01");
        let mut answer = query.clone();
        answer[2] = 0x81;
        assert!(answers(&query, &answer));
        answer[13] = b'A';
        assert!(answers(&query, &answer), "names compare without case");
        answer[13] = b'b';
        assert!(!answers(&query, &answer), "another question");
        answer[13] = b'a';
        answer[0] = 8;
        assert!(!answers(&query, &answer), "another id");
        assert!(!answers(&query, &query), "a query is no answer");
        assert!(!answers(&query[..13], &answer), "a question cut short");
    }
}
