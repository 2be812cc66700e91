//! WebSockets: after the target's 101 both connections are one tunnel of bytes.

use std::future::{Future, poll_fn};
use std::io;
use std::net::Shutdown;
use std::task::Poll;

use super::conn::Conn;
use super::io::{Buffer, Stream};
use super::pool::Link;
use super::target::InFlight;
use super::worker::Space;

/// Passes bytes on both ways, those already read first, until both sides have closed, one fails, or the target is cut. The
/// tunnel counts as a request in flight; silence ends it with the client's connection.
pub(crate) async fn run(conn: &Conn, link: &Link, in_flight: &InFlight, space: &mut Space) {
    let mut up = std::pin::pin!(copy(&conn.stream, &link.stream, &mut space.request));
    let mut down = std::pin::pin!(copy(&link.stream, &conn.stream, &mut space.response));
    let (mut ended, mut turn) = ([false, false], 0);
    poll_fn(|cx| {
        // In turn, as in an exchange.
        turn = 1 - turn;
        for way in [turn, 1 - turn] {
            if ended[way] {
                continue;
            }
            match if way == 0 { up.as_mut().poll(cx) } else { down.as_mut().poll(cx) } {
                Poll::Ready(Ok(())) => ended[way] = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
        }
        if ended == [true, true] || in_flight.target().is_cut() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Copies until `from` ends, and then ends `to`.
async fn copy(from: &Stream, to: &Stream, buffer: &mut Buffer) -> io::Result<()> {
    loop {
        to.write_all(buffer.data(), &[]).await?;
        buffer.clear();
        if buffer.fill(from).await? == 0 {
            to.shutdown(Shutdown::Write);
            return Ok(());
        }
    }
}
