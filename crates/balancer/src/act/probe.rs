//! Health checks: one task per target, with connections of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::target::LiveTarget;
use crate::config::HealthCheck;
use crate::decide::health::Probe;

/// The first checks of many targets are spread over this time (or a tenth of the interval, if that is less).
const SPREAD_MAX: Duration = Duration::from_millis(100);

/// A target not yet judged is asked again so soon after a failed check, then after twice that, and so on up to the
/// interval: a program that opens its port a moment after its start does not wait a whole interval for its first request.
const EARLY_MIN: Duration = Duration::from_millis(100);

/// Checks a target for ever. `draw` is a random number. Early checks can only find it healthy: what they miss is not
/// counted, so a target becomes unhealthy no sooner than by its interval and threshold.
pub(crate) async fn run(target: Arc<LiveTarget>, check: HealthCheck, draw: u64) {
    let interval = Duration::from_millis(check.interval_ms.max(1));
    let spread = (interval / 10).min(SPREAD_MAX);
    sleep(spread.mul_f64((draw % 1000) as f64 / 1000.0)).await;
    let address = SocketAddr::new(target.addr.ip(), check.port.unwrap_or(target.addr.port()));
    let limit = Duration::from_millis(check.timeout_ms);
    let ask = || async { timeout(limit, probe(address, &check.path)).await.unwrap_or(Ok(Probe::TimedOut)) };
    let mut wait = EARLY_MIN;
    loop {
        let next = Instant::now() + interval;
        match ask().await {
            Ok(found) => target.observe(found, &check),
            Err(error) => tracing::warn!(%address, %error, "a health check could not be made"),
        }
        while target.is_undecided() && Instant::now() + wait < next {
            sleep(wait).await;
            wait *= 2;
            if let Ok(early) = ask().await
                && check.passes(early)
            {
                target.observe(early, &check);
            }
        }
        sleep_until(next).await;
    }
}

/// Asks once. An error: this machine has nothing left to ask with, which says nothing of the target.
async fn probe(address: SocketAddr, path: &str) -> io::Result<Probe> {
    match TcpStream::connect(address).await {
        Ok(stream) => Ok(ask(stream, address, path).await.map_or(Probe::Failed, Probe::Answered)),
        Err(error) => match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Err(error),
            _ => Ok(Probe::Failed),
        },
    }
}

async fn ask(stream: TcpStream, address: SocketAddr, path: &str) -> Option<u16> {
    let request = Request::get(path)
        .header(header::HOST, address.to_string())
        .header(header::CONNECTION, "close")
        .header(header::USER_AGENT, "ELB-HealthChecker/2.0")
        .header(header::ACCEPT_ENCODING, "gzip, compressed")
        .body(Empty::<Bytes>::new())
        .ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let mut answer = std::pin::pin!(sender.send_request(request));
    tokio::select! {
        biased;
        response = &mut answer => Some(response.ok()?.status().as_u16()),
        // The connection may end (the target closes it) with the answer delivered just before.
        _ = connection => Some(answer.await.ok()?.status().as_u16()),
    }
}
