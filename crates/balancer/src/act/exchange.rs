//! What passes between a client and a target once the request's head is written. Both connections are driven by the
//! client's task, so that nothing is handed from task to task.

use std::future::{Future, poll_fn};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Poll;
use std::time::Instant;

use http::StatusCode;

use super::body::Passage;
use super::conn::Conn;
use super::counters::bump_code;
use super::forward::{Errand, declared_trailers};
use super::io::{Buffer, Stream};
use super::pool::Link;
use super::proxy::Next;
use super::target::LiveTarget;
use super::worker::Space;
use crate::decide::forwarded::{self, Back};
use crate::decide::head::{self, FIELDS_MAX, Framing, Reading};

/// ALB's limit for all response headers.
const RESPONSE_HEAD_MAX: usize = 32 * 1024;

/// A request being answered.
pub(crate) struct Exchange<'a> {
    pub conn: &'a Conn,
    pub errand: &'a mut Errand,
    pub link: &'a Link,
    pub started: Instant,
}

/// How it went.
pub(crate) enum Outcome {
    /// The client has the response. `ended`: the target's connection is free since then; absent: it cannot be used again.
    Done { next: Next, ended: Option<Instant> },
    /// The client has the 101: both connections are now a tunnel, to which what is in the buffers belongs.
    Switched,
    /// Nothing can be said to the client any more: it is gone, or its response ends in the middle.
    CutShort,
    /// Nothing has been said to the client yet: this status.
    Bad(StatusCode),
    /// No answer came in time.
    Expired,
    /// The connection ended without a byte of an answer.
    NoAnswer,
    /// The connection took no byte of the request.
    Unsent,
}

impl Exchange<'_> {
    /// Passes on the rest of the request's body, and the response.
    pub async fn run(self, space: &mut Space, target: &LiveTarget) -> Outcome {
        let Self { conn, errand, link, started } = self;
        let Space { request, response, up, down } = space;
        response.clear();
        let request_done = AtomicBool::new(errand.body.is_done());
        let (takes_trailers, expects_continue) = (errand.takes_trailers, errand.expects_continue);
        // The two directions share all of the errand but the body.
        let mut body =
            std::mem::replace(&mut errand.body, Passage::new(Framing::Empty, false, String::new()));
        let answer = Answer { conn, errand, link, started, takes_trailers, request_done: &request_done };
        let result = {
            let sending =
                send_body(conn, &link.stream, request, up, &mut body, expects_continue, &request_done);
            let (mut sending, mut receiving) =
                (std::pin::pin!(sending), std::pin::pin!(answer.receive(response, down, target)));
            let mut turn = false;
            poll_fn(|cx| {
                // In turn, since the runtime lets a task do only so much at a time: one direction that always has
                // something to do would leave nothing to the other.
                turn = !turn;
                for sends in [turn, !turn] {
                    let poll = if sends { sending.as_mut().poll(cx) } else { receiving.as_mut().poll(cx) };
                    match poll {
                        Poll::Ready(_) if sends && !conn.awaits_target() => {
                            return Poll::Ready(Outcome::CutShort);
                        }
                        Poll::Ready(outcome) => return Poll::Ready(outcome),
                        Poll::Pending => {}
                    }
                }
                if conn.is_expired() { Poll::Ready(Outcome::Expired) } else { Poll::Pending }
            })
            .await
        };
        errand.body = body;
        result
    }
}

/// Sends what remains of a request's body, then watches whether the client stays. Returns only when it goes on no more.
async fn send_body(
    conn: &Conn,
    target: &Stream,
    buffer: &mut Buffer,
    out: &mut Vec<u8>,
    body: &mut Passage,
    expects_continue: bool,
    done: &AtomicBool,
) -> Outcome {
    if expects_continue
        && !body.is_done()
        && conn.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n", &[]).await.is_err()
    {
        return Outcome::CutShort;
    }
    while !body.is_done() {
        if !matches!(buffer.fill(&conn.stream).await, Ok(1..)) {
            return Outcome::CutShort;
        }
        out.clear();
        let Ok(count) = body.advance(buffer, out) else { return Outcome::Bad(StatusCode::BAD_REQUEST) };
        if target.write_all(out, &buffer.data()[..count]).await.is_err() {
            // It may have answered before it closed: whoever reads that will see.
            return std::future::pending().await;
        }
        buffer.consume(count);
    }
    done.store(true, Relaxed);
    // What comes now is a next request, or the end.
    if buffer.is_empty() && !matches!(buffer.fill(&conn.stream).await, Ok(1..)) {
        return Outcome::CutShort;
    }
    std::future::pending().await
}

/// The way of a response.
struct Answer<'a> {
    conn: &'a Conn,
    errand: &'a Errand,
    link: &'a Link,
    started: Instant,
    takes_trailers: bool,
    request_done: &'a AtomicBool,
}

/// What was read of a response's head.
enum Read {
    Partial,
    /// 100 or 103: the answer itself is still to come.
    Informational,
    Bad,
    Switching,
    Final(Begun),
}

/// A response whose head is written.
struct Begun {
    body: Passage,
    goes_on: bool,
    /// The target keeps the connection open.
    target_stays: bool,
}

impl Answer<'_> {
    async fn receive(&self, buffer: &mut Buffer, out: &mut Vec<u8>, target: &LiveTarget) -> Outcome {
        let stream = &self.link.stream;
        let (mut seen, mut any) = (0, false);
        let begun = loop {
            let come = buffer.data();
            if come.len() > seen && (seen == 0 || head::may_be_whole(come, seen)) {
                match self.read_head(buffer, out, target) {
                    Read::Final(begun) => break begun,
                    Read::Switching => return self.switch(out).await,
                    Read::Bad => return Outcome::Bad(StatusCode::BAD_GATEWAY),
                    Read::Partial => {}
                    Read::Informational => {
                        seen = 0;
                        continue;
                    }
                }
            }
            seen = buffer.data().len();
            if seen >= RESPONSE_HEAD_MAX {
                return Outcome::Bad(StatusCode::BAD_GATEWAY);
            }
            match buffer.fill(stream).await {
                Ok(1..) => any = true,
                _ if any => return Outcome::Bad(StatusCode::BAD_GATEWAY),
                _ => return Outcome::NoAnswer,
            }
        };
        self.pass(begun, buffer, out).await
    }

    /// Reads the head, if it is whole, and writes the client's.
    fn read_head(&self, buffer: &mut Buffer, out: &mut Vec<u8>, target: &LiveTarget) -> Read {
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let asked = &self.errand.asked;
        let (response, length) = match head::read_response(buffer.data(), &mut fields, asked.to_head) {
            Reading::Whole(response, length) => (response, length),
            Reading::Partial => return Read::Partial,
            Reading::Refused(_) => return Read::Bad,
        };
        if length > RESPONSE_HEAD_MAX {
            return Read::Bad;
        }
        let switching = response.status == StatusCode::SWITCHING_PROTOCOLS;
        if response.status.is_informational() && !switching {
            buffer.consume(length);
            return Read::Informational;
        }
        let counters = &self.errand.group.counters;
        counters.response_time_us.fetch_add(self.started.elapsed().as_micros() as u64, Relaxed);
        bump_code(&counters.target_codes, response.status);
        out.clear();
        let read = if switching && self.errand.websocket {
            forwarded::switching_head(out, &response);
            Read::Switching
        } else if switching {
            return Read::Bad;
        } else {
            let of_unknown_length = matches!(response.framing, Framing::Chunked | Framing::Close);
            let goes_on =
                asked.keep_alive && !self.conn.is_closing() && (asked.http_11 || !of_unknown_length);
            let chunked = of_unknown_length && asked.http_11;
            let cookies = self.errand.cookies(target, response.fields);
            self.conn.worker.with_date(|_, date| {
                let connection = asked.connection(goes_on);
                let back = Back { chunked, connection, date, cookies: &cookies };
                forwarded::response_head(out, &response, &back);
            });
            let trailers = declared_trailers(response.fields, chunked && self.takes_trailers);
            let body = Passage::new(response.framing, chunked, trailers);
            Read::Final(Begun { body, goes_on, target_stays: response.keep_alive })
        };
        buffer.consume(length);
        self.conn.await_target(false);
        read
    }

    async fn switch(&self, out: &[u8]) -> Outcome {
        match self.conn.stream.write_all(out, &[]).await {
            Ok(()) => Outcome::Switched,
            Err(_) => Outcome::CutShort,
        }
    }

    /// Passes the body on.
    async fn pass(&self, begun: Begun, buffer: &mut Buffer, out: &mut Vec<u8>) -> Outcome {
        let Begun { mut body, goes_on, target_stays } = begun;
        loop {
            let Ok(count) = body.advance(buffer, out) else { return Outcome::CutShort };
            if self.conn.stream.write_all(out, &buffer.data()[..count]).await.is_err() {
                return Outcome::CutShort;
            }
            out.clear();
            buffer.consume(count);
            if body.is_done() {
                break;
            }
            match buffer.fill(&self.link.stream).await {
                Ok(1..) => {}
                Ok(0) if body.close(out) => {
                    if self.conn.stream.write_all(out, &[]).await.is_err() {
                        return Outcome::CutShort;
                    }
                    break;
                }
                _ => return Outcome::CutShort,
            }
        }
        let request_done = self.request_done.load(Relaxed);
        // What a target says beyond its response is nobody's.
        let reusable = target_stays && request_done && buffer.is_empty();
        let next = if goes_on && request_done { Next::Request } else { Next::Linger };
        Outcome::Done { next, ended: reusable.then(Instant::now) }
    }
}
