//! Bodies: small ones at hand, blobs read from their file piece by piece.

use std::fs::File;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::task::JoinHandle;

/// How much of a file is read at once. Large enough that the hop to a blocking thread does not count.
const PIECE_BYTES: u64 = 512 * 1024;

/// The body of an answer.
pub struct Body(Kind);

enum Kind {
    Full(Option<Bytes>),
    File(FileBody),
}

/// A part of a file. The next piece is read while the last is sent; a slow client holds two pieces and no thread.
struct FileBody {
    left: u64,
    next: Next,
    sent: Sent,
}

/// The next piece of a file.
enum Next {
    Ready(File, Vec<u8>),
    Reading(JoinHandle<io::Result<(File, Vec<u8>)>>),
    Done,
}

/// The memory of the piece that was sent last: had anew for each piece, it would cost more than the reading.
type Sent = Arc<Mutex<Vec<u8>>>;

/// A piece that is being sent.
struct Piece(Vec<u8>, Sent);

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        *self.1.lock().unwrap_or_else(PoisonError::into_inner) = std::mem::take(&mut self.0);
    }
}

impl Body {
    /// Nothing.
    pub fn empty() -> Body {
        Body(Kind::Full(None))
    }

    /// Bytes at hand.
    pub fn full(bytes: impl Into<Bytes>) -> Body {
        Body(Kind::Full(Some(bytes.into()).filter(|bytes| !bytes.is_empty())))
    }

    /// `length` bytes of a file from where it stands; the first of them are read at once. Blocks on the disk.
    pub(super) fn begin(file: File, length: u64) -> io::Result<Body> {
        let first = read_exactly(&file, length.min(PIECE_BYTES), Vec::new())?;
        if first.len() as u64 == length {
            return Ok(Body::full(first));
        }
        let next = Next::Ready(file, first);
        Ok(Body(Kind::File(FileBody { left: length, next, sent: Sent::default() })))
    }
}

/// Reads so many bytes into the memory of `piece`.
fn read_exactly(file: &File, length: u64, mut piece: Vec<u8>) -> io::Result<Vec<u8>> {
    piece.clear();
    piece.reserve_exact(length as usize);
    let n = file.take(length).read_to_end(&mut piece)? as u64;
    if n == length { Ok(piece) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

impl FileBody {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Next::Reading(reading) = &mut self.next {
            let read = ready!(Pin::new(reading).poll(context)).unwrap_or_else(|e| Err(io::Error::other(e)));
            self.next = match read {
                Ok((file, piece)) => Next::Ready(file, piece),
                Err(error) => {
                    self.next = Next::Done;
                    return Poll::Ready(Some(Err(error)));
                }
            };
        }
        let Next::Ready(file, piece) = std::mem::replace(&mut self.next, Next::Done) else {
            return Poll::Ready(None);
        };
        self.left -= piece.len() as u64;
        if self.left > 0 {
            let length = self.left.min(PIECE_BYTES);
            let spent = std::mem::take(&mut *self.sent.lock().unwrap_or_else(PoisonError::into_inner));
            self.next = Next::Reading(tokio::task::spawn_blocking(move || {
                let piece = read_exactly(&file, length, spent)?;
                Ok((file, piece))
            }));
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(Piece(piece, self.sent.clone()))))))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.0 {
            Kind::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::File(file) => file.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Full(bytes) => bytes.is_none(),
            Kind::File(file) => file.left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match &self.0 {
            Kind::Full(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Kind::File(file) => file.left,
        })
    }
}
