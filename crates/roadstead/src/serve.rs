//! One endpoint for everything: AWS services, the image registry, and Roadstead's own paths.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wire::Fault;

use crate::drained::Drained;
use crate::lanes::Lanes;
use crate::server::Server;

/// How long a client may take to send the head of a request, from when it is connected or has had its last answer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// An answer's body: at hand, or streamed.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A body that is at hand.
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// Opens the sockets: the address asked for and, for loopback, the same port of the other family, so that `localhost`
/// works whichever it resolves to.
pub async fn bind(address: SocketAddr) -> std::io::Result<Vec<TcpListener>> {
    let mut listeners = vec![TcpListener::bind(address).await?];
    if address.ip() == std::net::Ipv4Addr::LOCALHOST {
        let port = listeners[0].local_addr()?.port();
        match TcpListener::bind((std::net::Ipv6Addr::LOCALHOST, port)).await {
            Ok(listener) => listeners.push(listener),
            Err(error) => tracing::debug!(%error, "not listening on [::1]"),
        }
    }
    Ok(listeners)
}

/// Starts the threads that serve connections until `stop`.
pub fn lanes(
    server: &Arc<Server>,
    stop: &CancellationToken,
    ended: &mut JoinSet<()>,
) -> std::io::Result<Lanes> {
    let (server, stop) = (server.clone(), stop.clone());
    let serve = move |stream| {
        let server = server.clone();
        let service = service_fn(move |request| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(answer(server, request).await) }
        });
        connection(stream, service, HEAD_TIMEOUT, stop.clone())
    };
    Lanes::start(serve, ended)
}

/// Accepts connections until `stop`: as many at a time as `places` has, the further ones wait.
pub async fn accept(
    listener: TcpListener,
    lanes: Arc<Lanes>,
    places: Arc<Semaphore>,
    stop: CancellationToken,
) {
    let mut told: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            accepted = accept_one(&listener, &places) => accepted,
            () = stop.cancelled() => return,
        };
        if let Err(error) = accepted.and_then(|(stream, place)| lanes.take(stream, place)) {
            // Out of descriptors, mostly: connections that end will free some.
            if told.is_none_or(|told| told.elapsed() > Duration::from_secs(1)) {
                told = Some(Instant::now());
                tracing::warn!(%error, "connections cannot be accepted");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn accept_one(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    listener.accept().await.map(|(stream, _)| (stream, place))
}

/// Serves a connection. HTTP/1.1 alone, as all clients of AWS and of registries speak it without TLS.
async fn connection<S>(stream: TcpStream, service: S, head_timeout: Duration, stop: CancellationToken)
where
    S: HttpService<Incoming, ResBody = Body, Error = Infallible>,
{
    let _ = stream.set_nodelay(true);
    let mut builder = Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(head_timeout);
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    tokio::select! {
        ended = serving.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended");
            }
        }
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(Duration::from_secs(2), serving).await;
        }
    }
}

async fn answer(server: Arc<Server>, request: Request<Incoming>) -> Response<Body> {
    let waits = request.headers().contains_key("expect");
    let request = request.map(|body| Drained::new(body, waits));
    let (parts, body) = request.into_parts();
    if is_of_registry(&parts) {
        return server.registry_answer(Request::from_parts(parts, body)).await;
    }
    if let Some(path) = parts.uri.path().strip_prefix("/_roadstead/") {
        let path = path.to_owned();
        return crate::own_api::answer(&server, &path, Request::from_parts(parts, body)).await;
    }
    if server.loopback && !wire::origin::is_of_this_machine(&parts.headers, &parts.uri) {
        return wire::refuse(&parts, not_for_web_pages(), &server.request_id()).map(whole);
    }
    let answer = match server.bodies.read(&parts, body).await {
        Ok(read) => server.dispatch.answer(Request::from_parts(parts, read.bytes.clone())).await,
        Err(fault) => wire::refuse(&parts, fault, &server.request_id()),
    };
    answer.map(whole)
}

/// The paths of the registry; REST services of AWS have such paths too, and their clients sign.
fn is_of_registry(parts: &Parts) -> bool {
    let path = parts.uri.path();
    (path == "/v2" || path.starts_with("/v2/")) && !wire::sigv4::is_signed(parts)
}

/// The default keys are known to everybody: any page that is looked at on this machine could sign with them.
fn not_for_web_pages() -> Fault {
    let message = "On a loopback address requests of web pages are refused: those with an Origin or a Referer, and \
                   those whose Host is not localhost or a loopback address.";
    Fault::new("AccessDeniedException", message).status(403)
}

/// A plain JSON answer.
pub fn json(status: StatusCode, document: &serde_json::Value) -> Response<Body> {
    let body = whole(format!("{document}\n"));
    let response = Response::builder().status(status).header("content-type", "application/json");
    response.body(body).expect("the parts are valid")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Serves one connection and sends it something; what comes back until it is closed.
    async fn exchange(sent: &[u8]) -> Vec<u8> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn(|_| async { Ok::<_, Infallible>(Response::new(whole("hello"))) });
        tokio::spawn(connection(stream, service, Duration::from_millis(200), CancellationToken::new()));
        client.write_all(sent).await.unwrap();
        let mut received = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(20), client.read_to_end(&mut received)).await;
        // Whether it is closed or reset is the same to the server.
        drop(closed.expect("the connection is ended"));
        received
    }

    #[tokio::test]
    async fn a_connection_on_which_no_request_comes_is_ended() {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        for nothing in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n", preface, b"GET / HT"] {
            let received = exchange(nothing).await;
            assert!(!received.starts_with(b"HTTP/1.1 200"), "{nothing:?}: {received:?}");
        }
        let received = exchange(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(received.starts_with(b"HTTP/1.1 200 OK\r\n") && received.ends_with(b"hello"), "{received:?}");
    }
}
