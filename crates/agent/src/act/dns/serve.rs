//! The server's sockets: datagrams and streams of one namespace, answered in bounded numbers.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::Name;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::decide::{Decision, reply_to};
use super::{AtOnce, Shared, View};

/// Queries of one namespace passed on at once, so that one cannot take all.
const MAX_FORWARDED: usize = 128;
/// Open streams of one namespace.
const MAX_STREAMS: usize = 32;
/// A stream without a query is closed after this.
const IDLE: Duration = Duration::from_secs(10);
const HEADER: usize = 12;
/// Before EDNS, a client takes no larger datagram.
const PLAIN_DATAGRAM: u16 = 512;

/// One namespace's client.
pub struct Client {
    shared: Arc<Shared>,
    view: View,
    forwarded: Semaphore,
    streams: Arc<Semaphore>,
    seed: AtomicU64,
}

/// A query that was read, and how far its answer is.
enum Step {
    Done(Option<Vec<u8>>),
    Forward(Vec<u8>, Message),
    Follow(Message, Name),
}

impl Client {
    /// A client that sees what its view shows.
    pub fn new(shared: Arc<Shared>, view: View) -> Client {
        Client {
            shared,
            view,
            forwarded: Semaphore::new(MAX_FORWARDED),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            seed: AtomicU64::new(RandomState::new().hash_one(0)),
        }
    }

    /// What can be said at once. `limit`: the largest answer for a datagram; `None` for a stream.
    fn begin(&self, bytes: &[u8], is_datagram: bool) -> Step {
        let Ok(query) = Message::from_vec(bytes) else { return Step::Done(malformed(bytes)) };
        let seed = self.seed.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        match self.shared.zones().decide(&query, &self.view, seed) {
            Decision::Reply(reply) => Step::Done(encode(&reply, limit(&query, is_datagram))),
            Decision::Forward => Step::Forward(bytes.to_vec(), query),
            Decision::Follow(reply, target) => Step::Follow(reply, target),
            Decision::Ignore => Step::Done(None),
        }
    }

    /// What can be said at once, for who has no sockets.
    pub fn at_once(&self, bytes: &[u8], is_datagram: bool) -> AtOnce {
        match self.begin(bytes, is_datagram) {
            Step::Done(Some(answer)) => AtOnce::Answer(answer),
            Step::Done(None) => AtOnce::Silence,
            Step::Forward(..) | Step::Follow(..) => AtOnce::AskOthers,
        }
    }

    /// What needs the host's servers.
    async fn finish(&self, step: Step, limit: Option<u16>) -> Option<Vec<u8>> {
        match step {
            Step::Done(answer) => answer,
            Step::Forward(bytes, query) => {
                let answer = self.ask(&bytes).await;
                let fits = |a: &Vec<u8>| limit.is_none_or(|l| a.len() <= l.into());
                match answer {
                    Some(answer) if fits(&answer) => Some(answer),
                    Some(answer) => encode(&Message::from_vec(&answer).ok()?, limit),
                    None => encode(&failed(reply_to(&query)), limit),
                }
            }
            Step::Follow(reply, target) => encode(&self.follow(reply, target).await, limit),
        }
    }

    async fn ask(&self, query: &[u8]) -> Option<Vec<u8>> {
        let _permit = self.forwarded.try_acquire().ok()?;
        self.shared.forwarder.ask(query).await
    }

    /// Appends what the host's servers say of an alias's target.
    async fn follow(&self, mut reply: Message, target: Name) -> Message {
        let mut query = Message::query();
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(target, reply.queries[0].query_type));
        let Ok(bytes) = query.to_vec() else { return failed(reply) };
        let answer = self.ask(&bytes).await.and_then(|a| Message::from_vec(&a).ok());
        let Some(answer) = answer else { return failed(reply) };
        reply.metadata.response_code = answer.metadata.response_code;
        reply.metadata.authoritative = false;
        reply.add_answers(answer.answers).add_authorities(answer.authorities);
        reply
    }
}

fn failed(mut reply: Message) -> Message {
    reply.metadata.response_code = ResponseCode::ServFail;
    reply
}

/// The largest answer that a client takes.
fn limit(query: &Message, is_datagram: bool) -> Option<u16> {
    is_datagram.then(|| query.max_payload().max(PLAIN_DATAGRAM))
}

/// An answer's bytes; one that does not fit says so, and the client comes again by stream.
fn encode(reply: &Message, limit: Option<u16>) -> Option<Vec<u8>> {
    let bytes = reply.to_vec().ok()?;
    match limit {
        Some(limit) if bytes.len() > limit.into() => reply.truncate().to_vec().ok(),
        _ => Some(bytes),
    }
}

/// The answer to what is no query: FORMERR, if it has at least a header.
fn malformed(bytes: &[u8]) -> Option<Vec<u8>> {
    let header = bytes.get(..HEADER).filter(|h| h[2] & 0x80 == 0)?;
    Some(vec![header[0], header[1], header[2] & 0x79 | 0x80, 0x81, 0, 0, 0, 0, 0, 0, 0, 0])
}

/// Serves datagrams until aborted.
pub async fn datagrams(socket: Arc<UdpSocket>, client: Arc<Client>) {
    let mut buffer = vec![0; 4096];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            // An ICMP error of an earlier answer; anything lasting must not spin.
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        match client.begin(&buffer[..length], true) {
            Step::Done(None) => {}
            Step::Done(Some(answer)) => drop(socket.send_to(&answer, from).await),
            step => {
                let limit = match &step {
                    Step::Forward(_, query) => limit(query, true),
                    _ => Message::from_vec(&buffer[..length]).ok().and_then(|q| limit(&q, true)),
                };
                let (socket, client) = (socket.clone(), client.clone());
                tokio::spawn(async move {
                    if let Some(answer) = client.finish(step, limit).await {
                        let _ = socket.send_to(&answer, from).await;
                    }
                });
            }
        }
    }
}

/// Serves streams until aborted.
pub async fn streams(listener: TcpListener, client: Arc<Client>) {
    loop {
        let Ok(permit) = client.streams.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let client = client.clone();
        tokio::spawn(async move {
            let _ = one_stream(stream, &client).await;
            drop(permit);
        });
    }
}

async fn one_stream(mut stream: TcpStream, client: &Client) -> io::Result<()> {
    loop {
        let length = timeout(IDLE, stream.read_u16()).await??;
        let mut query = vec![0; length.into()];
        timeout(IDLE, stream.read_exact(&mut query)).await??;
        let step = client.begin(&query, false);
        let Some(answer) = client.finish(step, None).await else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        timeout(IDLE, stream.write_all(&[&length.to_be_bytes(), answer.as_slice()].concat())).await??;
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::OpCode;
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{RData, Record, RecordType};

    use proptest::collection::vec;
    use proptest::prelude::*;
    use state::assignment::Names;
    use state::ec2::Cidr;
    use std::sync::RwLock;

    use super::super::decide::Zones;
    use super::super::forward::Forwarder;
    use super::*;

    fn client() -> Client {
        let names = Names { zones: vec!["shop.local".into()], records: Vec::new() };
        let shared = Shared {
            zones: RwLock::new(Arc::new(Zones::new(names))),
            forwarder: Forwarder::new("/nonexistent".into()),
        };
        let view = View { vpc_id: None, vpc_cidr: Cidr::parse("172.31.0.0/16"), region: "us-east-1".into() };
        Client::new(Arc::new(shared), view)
    }

    proptest! {
        #[test]
        fn no_bytes_upset_it(bytes in vec(any::<u8>(), 0..300), flags in 0u8..4) {
            // Mostly plausible headers, so that the names behind them are read.
            let mut bytes = bytes;
            if flags > 0 && bytes.len() >= HEADER {
                bytes[2..HEADER].copy_from_slice(&[1, 0, 0, flags, 0, 0, 0, 0, 0, flags - 1]);
            }
            if let Step::Done(Some(answer)) = client().begin(&bytes, true) {
                prop_assert_eq!(&answer[..2], &bytes[..2]);
                prop_assert!(answer.len() <= 4096 && answer[2] & 0x80 != 0);
            }
        }
    }

    #[test]
    fn an_answer_too_large_for_its_datagram_says_so() {
        let name = Name::from_ascii("many.shop.local.").unwrap();
        let mut reply = Message::response(7, OpCode::Query);
        reply.add_query(Query::query(name.clone(), RecordType::A));
        reply
            .add_answers((0..40).map(|n| Record::from_rdata(name.clone(), 1, RData::A(A::new(10, 0, 0, n)))));
        let whole = Message::from_vec(&encode(&reply, None).unwrap()).unwrap();
        assert_eq!((whole.answers.len(), whole.metadata.truncation), (40, false));
        let short = encode(&reply, Some(PLAIN_DATAGRAM)).unwrap();
        assert!(short.len() <= PLAIN_DATAGRAM.into());
        let short = Message::from_vec(&short).unwrap();
        assert_eq!((short.metadata.id, short.queries.len(), short.metadata.truncation), (7, 1, true));
    }

    #[test]
    fn what_cannot_be_read_is_a_format_error_if_it_could_be_a_query() {
        assert_eq!(malformed(&[1; 11]), None, "no header");
        let mut bytes = [0xff; 20];
        bytes[2] = 1;
        let answer = Message::from_vec(&malformed(&bytes).unwrap()).unwrap();
        assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
        bytes[2] = 0x80;
        assert_eq!(malformed(&bytes), None, "a response is not answered");
    }
}
