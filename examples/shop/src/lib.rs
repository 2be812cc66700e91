//! What the shop's services share: a small HTTP server that stops cleanly on SIGTERM, a client, and their log lines.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

/// What a service answers: a status and a JSON document.
pub type Answer = (StatusCode, Value);

/// A request as the services see it: the parts of its path, and its JSON body (null if it has none).
#[derive(Debug)]
pub struct Call {
    /// GET, POST, …
    pub method: Method,
    /// The parts of the path between slashes.
    pub path: Vec<String>,
    /// The body.
    pub body: Value,
}

/// Runs a service on `PORT` (default 8080) until SIGTERM; requests under way are finished first.
pub fn run<H, F>(name: &'static str, handler: H)
where
    H: Fn(Call) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let served = runtime.map(|runtime| runtime.block_on(serve(name, handler)));
    if let Err(error) | Ok(Err(error)) = served {
        eprintln!("{name}: {error}");
        std::process::exit(1);
    }
}

async fn serve<H, F>(name: &'static str, handler: H) -> std::io::Result<()>
where
    H: Fn(Call) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let port = std::env::var("PORT").ok().and_then(|p| p.parse().ok()).unwrap_or(8080);
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let open = GracefulShutdown::new();
    log(name, &format!("version {} listens on port {port}", version()));
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        };
        let handler = handler.clone();
        let service = service_fn(move |request| answer(name, handler.clone(), request));
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new());
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        tokio::spawn(open.watch(connection));
    }
    log(name, "stops: SIGTERM");
    let _ = tokio::time::timeout(Duration::from_secs(20), open.shutdown()).await;
    Ok(())
}

async fn answer<H, F>(
    name: &'static str,
    handler: H,
    request: Request<hyper::body::Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible>
where
    H: Fn(Call) -> F,
    F: Future<Output = Answer>,
{
    let method = request.method().clone();
    let path: Vec<String> =
        request.uri().path().split('/').filter(|p| !p.is_empty()).map(str::to_owned).collect();
    let health = path.last().is_some_and(|p| p == "health");
    let bytes = request.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let line = format!("{method} /{}", path.join("/"));
    let (status, document) = if health {
        (StatusCode::OK, serde_json::json!({"status": "ok", "service": name, "version": version()}))
    } else {
        handler(Call { method, path, body }).await
    };
    if !health {
        log(name, &format!("{line} {}", status.as_u16()));
    }
    let response = Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "application/json")
        .header("x-shop-version", version())
        .header("x-shop-task", hostname());
    Ok(response.body(Full::from(format!("{document}\n"))).expect("the parts are valid"))
}

/// Calls another service by name: `http://cart-service.shop.local:8080/cart/ann`.
pub async fn call(method: Method, url: &str, body: &Value) -> Result<Value, String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("not an http URL: {url}"))?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let exchange = async {
        let stream = TcpStream::connect(authority).await.map_err(|e| format!("{authority}: {e}"))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| format!("{authority}: {e}"))?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(format!("/{path}"))
            .header(HOST, authority)
            .body(Full::<Bytes>::from(body.to_string()))
            .map_err(|e| e.to_string())?;
        let response = sender.send_request(request).await.map_err(|e| format!("{url}: {e}"))?;
        let status = response.status();
        let bytes = response.into_body().collect().await.map_err(|e| format!("{url}: {e}"))?.to_bytes();
        if !status.is_success() {
            return Err(format!("{url}: {status}"));
        }
        serde_json::from_slice(&bytes).map_err(|e| format!("{url}: {e}"))
    };
    tokio::time::timeout(Duration::from_secs(5), exchange)
        .await
        .unwrap_or_else(|_| Err(format!("{url}: no answer in 5 s")))
}

/// The URL of another service, from `<NAME>_URL` or the shop's own names.
pub fn url_of(service: &str) -> String {
    let variable = format!("{}_URL", service.to_uppercase().replace('-', "_"));
    std::env::var(variable).unwrap_or_else(|_| format!("http://{service}.shop.local:8080"))
}

/// Writes one line to standard output.
pub fn log(name: &str, text: &str) {
    println!("[{name}] {text}");
}

/// What the image was built as.
pub fn version() -> String {
    std::env::var("SHOP_VERSION").unwrap_or_else(|_| "dev".into())
}

/// The host's name: in a task, unlike every other.
pub fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map(|h| h.trim().to_owned()).unwrap_or_default()
}

/// 404.
pub fn not_found() -> Answer {
    (StatusCode::NOT_FOUND, serde_json::json!({"error": "not found"}))
}

/// 502, with what another service said.
pub fn upstream(error: String) -> Answer {
    (StatusCode::BAD_GATEWAY, serde_json::json!({"error": error}))
}
