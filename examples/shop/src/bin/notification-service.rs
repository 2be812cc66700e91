//! notification-service: `POST /notify` writes the text to its log. Reached by name, inside the cluster only.

use hyper::{Method, StatusCode};
use serde_json::json;
use shop::Call;

fn main() {
    shop::run("notification-service", |call: Call| async move {
        let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
        match (&call.method, &path[..]) {
            (&Method::POST, ["notify"]) => {
                let text = call.body["text"].as_str().unwrap_or("(no text)");
                shop::log("notification-service", &format!("notification: {text}"));
                (StatusCode::ACCEPTED, json!({"sent": true}))
            }
            _ => shop::not_found(),
        }
    });
}
