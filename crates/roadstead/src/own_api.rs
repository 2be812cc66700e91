//! Roadstead's own paths: `/_roadstead/health`, `/_roadstead/reset`, `/_roadstead/down`.

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use serde_json::json;
use wire::origin::is_of_this_machine;

use crate::drained::Drained;
use crate::serve::{Body, json as answer_json};
use crate::server::Server;

/// Answers one request to `/_roadstead/<path>`.
pub async fn answer(server: &Arc<Server>, path: &str, request: Request<Drained>) -> Response<Body> {
    match (request.method(), path) {
        (&Method::GET, "health") => health(server),
        (&Method::POST, "reset") => reset(server, &request).await,
        (&Method::POST, "down") => down(server, &request),
        (_, "health" | "reset" | "down") => {
            let text = format!("{} is not allowed here: GET health, POST reset, POST down", request.method());
            answer_json(StatusCode::METHOD_NOT_ALLOWED, &json!({"error": text}))
        }
        _ => answer_json(StatusCode::NOT_FOUND, &json!({"error": format!("there is no /_roadstead/{path}")})),
    }
}

fn health(server: &Server) -> Response<Body> {
    let snapshot = server.dispatch.db.snapshot();
    let running = snapshot.groups.live();
    let document = json!({
        "status": "ok",
        "version": env!("CARGO_PKG_VERSION"),
        "revision": snapshot.revision,
        "tasks": running,
    });
    answer_json(StatusCode::OK, &document)
}

async fn reset(server: &Arc<Server>, request: &Request<Drained>) -> Response<Body> {
    if !server.loopback || !is_of_this_machine(request.headers(), request.uri()) {
        let text = "reset is accepted on a loopback-only server alone, and not from a browser";
        return answer_json(StatusCode::FORBIDDEN, &json!({"error": text}));
    }
    let server = server.clone();
    // On its own: a client that gives up must not leave it half done.
    let workers = server.dispatch.workers.clone();
    let done = workers.spawn(async move { server.reset().await.map_err(|error| error.to_string()) });
    match done.await.map_err(|error| error.to_string()).flatten() {
        Ok(()) => answer_json(StatusCode::OK, &json!({"status": "reset"})),
        Err(error) => answer_json(StatusCode::INTERNAL_SERVER_ERROR, &json!({"error": error})),
    }
}

/// `roadstead down` proves with the data directory's secret that it may.
fn down(server: &Arc<Server>, request: &Request<Drained>) -> Response<Body> {
    let given = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    let wanted = format!("Bearer {}", server.dispatch.keyring.control_token());
    if given != Some(wanted.as_str()) {
        let text = "down needs this data directory's own token: use `roadstead down --data-dir …`";
        return answer_json(StatusCode::FORBIDDEN, &json!({"error": text}));
    }
    server.stop_everything.cancel();
    answer_json(StatusCode::ACCEPTED, &json!({"status": "stopping"}))
}
