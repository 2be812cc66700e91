//! A connection's stream and the bytes read from it.

use std::future::poll_fn;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::unix::AsyncFd;

/// A connection to a client or a target. One task reads and one writes at a time.
pub(crate) struct Stream {
    fd: AsyncFd<TcpStream>,
    activity: Option<Activity>,
}

/// What a client's stream notes.
#[derive(Default)]
struct Activity {
    /// Bytes moved since someone last cleared this.
    active: AtomicBool,
    /// Bytes moved and not yet counted for a load balancer.
    bytes: AtomicU64,
}

impl Stream {
    /// A stream to a target. Errors: the event queue takes no more.
    pub fn target(stream: tokio::net::TcpStream) -> io::Result<Self> {
        Self::new(stream.into_std()?, None)
    }

    /// A client's stream, which notes what moves. Errors: the event queue takes no more.
    pub fn client(stream: TcpStream) -> io::Result<Self> {
        Self::new(stream, Some(Activity::default()))
    }

    fn new(stream: TcpStream, activity: Option<Activity>) -> io::Result<Self> {
        // What cannot be sent at once is sent late, no more.
        let _ = stream.set_nodelay(true);
        // SAFETY: a `TcpStream` owns one descriptor, which stays open and the same for as long as it lives.
        let fd = unsafe { AsyncFd::register(stream)? };
        Ok(Self { fd, activity })
    }

    /// Whether bytes have moved since this was last asked.
    pub fn was_active(&self) -> bool {
        self.activity.as_ref().is_some_and(|activity| activity.active.swap(false, Relaxed))
    }

    /// Bytes moved since this was last asked.
    pub fn take_bytes(&self) -> u64 {
        self.activity.as_ref().map_or(0, |activity| activity.bytes.swap(0, Relaxed))
    }

    fn moved(&self, bytes: usize) {
        if let Some(activity) = self.activity.as_ref().filter(|_| bytes > 0) {
            activity.active.store(true, Relaxed);
            // Only the connection's own task counts: no need to add atomically.
            activity.bytes.store(activity.bytes.load(Relaxed) + bytes as u64, Relaxed);
        }
    }

    /// Waits until there is something to read, or the end.
    pub async fn readable(&self) {
        // An error shows when it is read.
        poll_fn(|cx| self.fd.poll_read_ready(cx).map(drop)).await;
    }

    /// Reads; 0: the other side has ended the stream.
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.fd.poll_read_ready(cx))?;
            match self.fd.get_ref().read(buffer) {
                Ok(count) => {
                    // Less than asked for: there is no more now, and no need to ask the kernel again.
                    if count > 0 && count < buffer.len() {
                        ready.clear_ready();
                    }
                    self.moved(count);
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Writes some of two slices.
    pub fn poll_write(&self, cx: &mut Context<'_>, first: &[u8], second: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut stream = self.fd.get_ref();
            let written = match (first, second) {
                (all, []) | ([], all) => stream.write(all),
                _ => stream.write_vectored(&[IoSlice::new(first), IoSlice::new(second)]),
            };
            match written {
                Ok(count) => {
                    self.moved(count);
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // The event queue may say "writable" from earlier: told otherwise, it waits for the next event.
                    ready!(self.fd.poll_write_ready(cx))?.clear_ready();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Writes all of two slices.
    pub async fn write_all(&self, mut first: &[u8], mut second: &[u8]) -> io::Result<()> {
        while !first.is_empty() || !second.is_empty() {
            let count = poll_fn(|cx| self.poll_write(cx, first, second)).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            let of_first = count.min(first.len());
            (first, second) = (&first[of_first..], &second[count - of_first..]);
        }
        Ok(())
    }

    /// Ends the stream, one way or both. That it has ended already is as good.
    pub fn shutdown(&self, how: Shutdown) {
        let _ = self.fd.get_ref().shutdown(how);
    }

    /// Whether the other side has closed, or said something unasked, as far as this machine's kernel knows now.
    pub fn hears_close(&self) -> bool {
        let peeked = self.fd.get_ref().peek(&mut [0]);
        !matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The same as far as the event queue knows, which costs no system call.
    pub fn may_be_closed(&self) -> bool {
        self.fd.poll_read_ready(&mut Context::from_waker(Waker::noop())).is_ready()
    }
}

/// Bytes read and not yet used.
pub(crate) struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub fn new(capacity: usize) -> Self {
        Self { bytes: vec![0; capacity].into(), start: 0, end: 0 }
    }

    pub fn data(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Forgets the first bytes, which have been used.
    pub fn consume(&mut self, count: usize) {
        self.start += count;
        if self.is_empty() {
            self.clear();
        }
    }

    pub fn is_full(&self) -> bool {
        self.end - self.start == self.bytes.len()
    }

    /// Reads more, which must have room; 0: the other side has ended the stream.
    pub fn poll_fill(&mut self, stream: &Stream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.start > 0 && self.end == self.bytes.len() {
            self.bytes.copy_within(self.start.., 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let count = ready!(stream.poll_read(cx, &mut self.bytes[self.end..]))?;
        self.end += count;
        Poll::Ready(Ok(count))
    }

    /// The same, waited for.
    pub async fn fill(&mut self, stream: &Stream) -> io::Result<usize> {
        poll_fn(|cx| self.poll_fill(stream, cx)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_is_heard_before_the_event_loop_hears_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let _inside = runtime.enter();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let pair = || {
            let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            near.set_nonblocking(true).unwrap();
            (Stream::client(near).unwrap(), listener.accept().unwrap().0)
        };
        let (near, far) = pair();
        assert!(!near.hears_close(), "open and silent");
        drop(far);
        assert!(near.hears_close(), "closed by the target");
        let (near, mut far) = pair();
        far.write_all(b"HTTP/1.1 408 Time-out").unwrap();
        assert!(near.hears_close(), "said something unasked");
        let (near, mut far) = pair();
        assert!(!near.may_be_closed());
        far.write_all(b"x").unwrap();
        runtime.block_on(near.readable());
        assert!(near.may_be_closed());
        let mut buffer = Buffer::new(4);
        assert_eq!(runtime.block_on(buffer.fill(&near)).unwrap(), 1);
        assert!(!near.may_be_closed(), "a short read leaves nothing to read");
    }

    #[test]
    fn a_buffer_makes_room() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            near.set_nonblocking(true).unwrap();
            let (near, mut far) = (Stream::client(near).unwrap(), listener.accept().unwrap().0);
            far.write_all(b"abcdefgh").unwrap();
            let mut buffer = Buffer::new(4);
            buffer.fill(&near).await.unwrap();
            assert!(buffer.is_full() && buffer.data() == b"abcd");
            buffer.consume(3);
            buffer.fill(&near).await.unwrap();
            assert_eq!(buffer.data(), b"defg");
            buffer.consume(4);
            buffer.fill(&near).await.unwrap();
            assert_eq!(buffer.data(), b"h");
            assert!(near.was_active() && !near.was_active());
            assert_eq!((near.take_bytes(), near.take_bytes()), (8, 0));
        });
    }
}
