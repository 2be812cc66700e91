//! The HTTP side: which path is which document, served on sockets of tasks' namespaces.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};

use super::{Audience, Endpoints, Facts, documents, stats};

/// A client must have sent its request by then.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);
/// Open connections per listener: more wait.
const CONNECTIONS_MAX: usize = 256;

/// An answer: its status and document.
type Answer = (StatusCode, Value);

/// Serves a listener until the handle is aborted.
pub fn spawn(
    endpoints: Arc<Endpoints>,
    listener: TcpListener,
    audience: Audience,
) -> std::io::Result<JoinHandle<()>> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    Ok(tokio::spawn(accept(endpoints, listener, audience)))
}

async fn accept(endpoints: Arc<Endpoints>, listener: tokio::net::TcpListener, audience: Audience) {
    // Dropped, and with it all connections, when this task is aborted.
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (endpoints, audience) = (endpoints.clone(), audience.clone());
        connections.spawn(async move {
            let service = hyper::service::service_fn(|request| respond(&endpoints, &audience, request));
            let mut http = hyper::server::conn::http1::Builder::new();
            let http = http.timer(TokioTimer::new()).header_read_timeout(REQUEST_WITHIN);
            // A client that breaks off has only itself to tell.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond(
    endpoints: &Arc<Endpoints>,
    audience: &Audience,
    request: Request<hyper::body::Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, document) = if request.method() == Method::GET {
        answer(endpoints, audience, request.uri().path()).await
    } else {
        (StatusCode::METHOD_NOT_ALLOWED, json!("only GET is understood"))
    };
    let mut response = Response::new(Full::new(Bytes::from(document.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

async fn answer(endpoints: &Arc<Endpoints>, audience: &Audience, path: &str) -> Answer {
    if let Some(id) = path.strip_prefix("/v2/credentials/") {
        return credentials(endpoints, audience, id).await;
    }
    let Some((id, what)) = path.strip_prefix("/v4/").map(|rest| rest.split_once('/').unwrap_or((rest, "")))
    else {
        return (StatusCode::NOT_FOUND, json!("404 page not found"));
    };
    let found = endpoints.find(audience, |facts| facts.ids.containers.iter().position(|own| own == id));
    let ok = |document: Value| (StatusCode::OK, document);
    match (what, found) {
        ("", Some((facts, container))) => match documents::container(&facts, container) {
            Some(document) => ok(document),
            None => not_found("container metadata", "container ID", "docker ID", id),
        },
        ("task", Some((facts, _))) => ok(documents::task(&facts, false)),
        ("taskWithTags", Some((facts, _))) => ok(documents::task(&facts, true)),
        ("stats", Some((facts, container))) => ok(endpoints.stats(&facts, container)),
        ("task/stats", Some((facts, _))) => {
            let all = (0..facts.containers.len()).filter_map(|n| {
                let id = facts.observed.containers.get(n)?.runtime_id.clone()?;
                Some((id, endpoints.stats(&facts, n)))
            });
            ok(Value::Object(all.collect()))
        }
        ("", None) => not_found("container metadata", "container ID", "docker ID", id),
        ("task" | "taskWithTags", None) => not_found("task metadata", "task arn", "task Arn", id),
        ("stats", None) => not_found("container stats", "task arn", "task Arn", id),
        ("task/stats", None) => not_found("task stats", "task arn", "task Arn", id),
        _ => (StatusCode::NOT_FOUND, json!("404 page not found")),
    }
}

/// In the words of the ECS agent.
fn not_found(handler: &str, wanted: &str, looked_for: &str, id: &str) -> Answer {
    let text = format!(
        "V4 {handler} handler: unable to get {wanted} from request: unable to get {looked_for} from v3 endpoint ID: {id}"
    );
    (StatusCode::NOT_FOUND, json!(text))
}

async fn credentials(endpoints: &Arc<Endpoints>, audience: &Audience, id: &str) -> Answer {
    let refused = |status: StatusCode, code: &str, message: &str| {
        let message = format!("CredentialsV2Request: {message}");
        (status, json!({"code": code, "message": message, "HTTPErrorCode": status.as_u16()}))
    };
    if id.is_empty() {
        return refused(StatusCode::BAD_REQUEST, "NoIdInRequest", "No Credential ID in the request");
    }
    let found = endpoints.find(audience, |facts| (facts.ids.credentials == id).then_some(()));
    let role = found.and_then(|(facts, ())| Some((facts.assignment.spec.task_role_arn.clone()?, facts)));
    let (Some((role, facts)), Some(source)) = (role, endpoints.source.clone()) else {
        return refused(StatusCode::BAD_REQUEST, "InvalidIdInRequest", "Credentials not found");
    };
    let key = facts.assignment.key.clone();
    let kept = endpoints.lock().get(&key).and_then(|group| group.credentials.clone());
    if let Some(kept) = kept.filter(|kept| kept.good_at(now_ms())) {
        return (StatusCode::OK, kept.document(&role));
    }
    let (task, asked_role) = (facts.assignment, role.clone());
    let issued =
        tokio::task::spawn_blocking(move || source.issue(&asked_role, &task.id, &task.account, &task.region));
    match issued.await.unwrap_or_else(|err| Err(err.to_string())) {
        Ok(issued) => {
            let document = issued.document(&role);
            if let Some(group) = endpoints.lock().get_mut(&key) {
                group.credentials = Some(issued);
            }
            (StatusCode::OK, document)
        }
        Err(error) => {
            tracing::warn!(role, error, "a task's credentials could not be issued");
            // Said to be temporary, so that SDKs ask again.
            refused(StatusCode::SERVICE_UNAVAILABLE, "CredentialsUninitialized", &error)
        }
    }
}

impl Endpoints {
    /// The group for which a test gives something, of those that the audience may ask for.
    fn find<T>(&self, audience: &Audience, test: impl Fn(&Facts) -> Option<T>) -> Option<(Facts, T)> {
        let groups = self.lock();
        let mut facts = groups
            .values()
            .filter_map(|group| group.facts.as_ref())
            .filter(|f| audience.may_ask(&f.assignment));
        facts.find_map(|facts| Some((facts.clone(), test(facts)?)))
    }

    /// What a container uses now; `null` if it does not run.
    fn stats(&self, facts: &Facts, container: usize) -> Value {
        let Some((local, seen)) =
            facts.containers.get(container).zip(facts.observed.containers.get(container))
        else {
            return Value::Null;
        };
        let Some(usage) = local.cgroup.as_deref().and_then(|path| self.cgroups.usage(path)) else {
            return Value::Null;
        };
        let pid = local.pid.filter(|pid| !stats::is_host_network(*pid));
        let now = stats::sample(usage, pid, now_ms());
        let mut groups = self.lock();
        let samples = groups.get_mut(&facts.assignment.key).map(|group| &mut group.samples);
        let before = samples.and_then(|samples| samples.insert(container, now.clone()));
        stats::document(&seen.name, seen.runtime_id.as_deref().unwrap_or_default(), &now, before.as_ref())
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}
