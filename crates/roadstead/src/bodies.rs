//! Reading the bodies of AWS requests: bounded in size, in time, and together in memory, since anybody may send them.

use std::fmt::Display;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use wire::Fault;

/// The largest AWS request: an ECR layer part of 20 MiB in base64, with room.
const BODY_BYTES_MAX: usize = 32 << 20;
/// How long a client may take to send a body.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// What is kept of a body that nobody has signed: enough to see what is asked for, and refuse it in its service's words.
const UNSIGNED_KEPT: usize = 64 << 10;
/// Larger bodies take their size of [`ROOM_KIB`]; what is smaller never waits for them.
const SMALL: usize = 64 << 10;
/// What all larger bodies may have in memory at a time, KiB.
const ROOM_KIB: usize = 256 << 10;

/// The room for bodies in memory.
pub struct Bodies {
    room: Semaphore,
    read_timeout: Duration,
}

/// A body that was read; its room is given back when it is dropped.
pub struct Read<'a> {
    /// What was sent; without a signature perhaps not all.
    pub bytes: Bytes,
    _room: Option<SemaphorePermit<'a>>,
}

impl Default for Bodies {
    fn default() -> Bodies {
        Bodies { room: Semaphore::new(ROOM_KIB), read_timeout: READ_TIMEOUT }
    }
}

impl Bodies {
    /// Reads a whole body: nothing of one that is declared too large, and none for ever.
    pub async fn read<B>(&self, parts: &Parts, body: B) -> Result<Read<'_>, Fault>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Display,
    {
        let declared = body.size_hint();
        if declared.lower() > BODY_BYTES_MAX as u64 {
            return Err(wire::too_large(BODY_BYTES_MAX));
        }
        let kept_max = if wire::sigv4::is_signed(parts) { BODY_BYTES_MAX } else { UNSIGNED_KEPT };
        let most = declared.upper().map_or(kept_max, |upper| kept_max.min(upper as usize));
        let room = if most > SMALL { Some(self.take_room(most).await?) } else { None };
        match timeout(self.read_timeout, collect(body, declared.lower() as usize, kept_max)).await {
            Ok(read) => Ok(Read { bytes: read?, _room: room }),
            Err(_) => Err(unread(&format!("it was not sent within {} s", self.read_timeout.as_secs()))),
        }
    }

    async fn take_room(&self, bytes: usize) -> Result<SemaphorePermit<'_>, Fault> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        match timeout(self.read_timeout, self.room.acquire_many(kib)).await {
            Ok(Ok(room)) => Ok(room),
            _ => {
                let text = "There are too many large requests at the same time; try again later.";
                Err(Fault::new("ServiceUnavailable", text).status(503))
            }
        }
    }
}

/// Reads to the end and keeps the first bytes.
async fn collect<B>(mut body: B, declared: usize, kept_max: usize) -> Result<Bytes, Fault>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Display,
{
    let (mut kept, mut seen) = (Vec::with_capacity(declared.min(kept_max)), 0);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| unread(&error.to_string()))?.into_data() else { continue };
        seen += data.len();
        if seen > BODY_BYTES_MAX {
            return Err(wire::too_large(BODY_BYTES_MAX));
        }
        kept.extend_from_slice(&data[..data.len().min(kept_max - kept.len())]);
    }
    Ok(kept.into())
}

fn unread(why: &str) -> Fault {
    Fault::new("RequestTimeout", format!("The request body could not be read: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/ecs/aws4_request, SignedHeaders=host, \
                          Signature=0";

    fn head(signed: bool) -> Parts {
        let head = http::Request::post("/");
        let head = if signed { head.header("authorization", SIGNED) } else { head };
        head.body(()).unwrap().into_parts().0
    }

    fn of(bytes: usize) -> Full<Bytes> {
        Full::new(vec![b'x'; bytes].into())
    }

    /// A body whose length is not known.
    fn stream(chunks: usize) -> impl Body<Data = Bytes, Error = std::io::Error> + Unpin {
        let chunk = Bytes::from(vec![b'x'; 1 << 20]);
        StreamBody::new(futures_util::stream::iter((0..chunks).map(move |_| Ok(Frame::data(chunk.clone())))))
    }

    fn code(read: Result<Read<'_>, Fault>) -> Result<usize, String> {
        read.map(|read| read.bytes.len()).map_err(|fault| fault.code)
    }

    #[tokio::test]
    async fn what_is_not_signed_is_read_and_not_kept() {
        let bodies = Bodies::default();
        assert_eq!(code(bodies.read(&head(true), of(31 << 20)).await), Ok(31 << 20));
        assert_eq!(code(bodies.read(&head(true), stream(31)).await), Ok(31 << 20));
        assert_eq!(code(bodies.read(&head(false), of(31 << 20)).await), Ok(UNSIGNED_KEPT));
        assert_eq!(code(bodies.read(&head(false), stream(31)).await), Ok(UNSIGNED_KEPT));
        for signed in [false, true] {
            let too_large = Err("RequestEntityTooLarge".to_owned());
            assert_eq!(code(bodies.read(&head(signed), of(33 << 20)).await), too_large);
            assert_eq!(code(bodies.read(&head(signed), stream(33)).await), too_large);
            assert_eq!(code(bodies.read(&head(signed), of(3)).await), Ok(3));
        }
    }

    #[tokio::test]
    async fn large_bodies_share_their_room_and_small_ones_need_none() {
        let bodies = Bodies { read_timeout: Duration::from_millis(200), ..Bodies::default() };
        let mut held = Vec::new();
        for _ in 0..8 {
            held.push(bodies.read(&head(true), stream(1)).await.unwrap_or_else(|fault| panic!("{fault}")));
        }
        let refused = Err("ServiceUnavailable".to_owned());
        assert_eq!(code(bodies.read(&head(true), of(1 << 20)).await), refused);
        assert_eq!(code(bodies.read(&head(true), of(SMALL)).await), Ok(SMALL));
        assert_eq!(code(bodies.read(&head(false), of(1 << 20)).await), Ok(UNSIGNED_KEPT));
        held.pop();
        assert_eq!(code(bodies.read(&head(true), of(1 << 20)).await), Ok(1 << 20));
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let bodies = Bodies { read_timeout: Duration::from_millis(100), ..Bodies::default() };
        let never = StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, std::io::Error>>());
        assert_eq!(code(bodies.read(&head(true), never).await), Err("RequestTimeout".into()));
    }
}
