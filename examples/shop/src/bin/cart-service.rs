//! cart-service: carts, kept in memory by every replica. `GET /cart/<user>` shows one, `POST /cart/<user>/<product>` adds
//! to it. A write goes to all replicas, found by the service's own name; a new replica begins with the carts of another.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use shop::{Answer, Call};

type Carts = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

fn show(carts: &Carts, user: &str) -> Answer {
    let items = carts.lock().expect("not poisoned").get(user).cloned().unwrap_or_default();
    (StatusCode::OK, json!({"user": user, "items": items}))
}

/// The other replicas' addresses: all that the service's name resolves to.
async fn replicas() -> Vec<String> {
    let url = shop::url_of("cart-service");
    let authority = url.trim_start_matches("http://").to_owned();
    let found = tokio::net::lookup_host(authority).await;
    found.map(|all| all.map(|a| a.to_string()).collect()).unwrap_or_default()
}

async fn add(carts: Carts, user: &str, product: &str) -> Answer {
    let items = {
        let mut carts = carts.lock().expect("not poisoned");
        let cart = carts.entry(user.to_owned()).or_default();
        cart.push(product.to_owned());
        cart.clone()
    };
    for replica in replicas().await {
        let url = format!("http://{replica}/internal/carts/{user}");
        if let Err(error) = shop::call(Method::PUT, &url, &json!(items)).await {
            shop::log("cart-service", &format!("a replica was not told: {error}"));
        }
    }
    (StatusCode::OK, json!({"user": user, "items": items}))
}

fn replace(carts: &Carts, user: &str, items: &Value) -> Answer {
    match serde_json::from_value(items.clone()) {
        Ok(items) => {
            carts.lock().expect("not poisoned").insert(user.to_owned(), items);
            (StatusCode::OK, json!({}))
        }
        Err(error) => (StatusCode::BAD_REQUEST, json!({"error": error.to_string()})),
    }
}

async fn begin(carts: Carts) {
    for replica in replicas().await {
        let url = format!("http://{replica}/internal/carts");
        if let Ok(Value::Object(known)) = shop::call(Method::GET, &url, &Value::Null).await {
            let known = known.into_iter().filter_map(|(k, v)| Some((k, serde_json::from_value(v).ok()?)));
            let mut carts = carts.lock().expect("not poisoned");
            for (user, items) in known {
                carts.entry(user).or_insert(items);
            }
        }
    }
}

fn main() {
    let carts = Carts::default();
    let started = Arc::new(tokio::sync::OnceCell::new());
    shop::run("cart-service", move |call: Call| {
        let (carts, started) = (carts.clone(), started.clone());
        async move {
            let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
            if path.first() != Some(&"internal") {
                started.get_or_init(|| begin(carts.clone())).await;
            }
            match (&call.method, &path[..]) {
                (&Method::GET, ["cart", user]) => show(&carts, user),
                (&Method::POST, ["cart", user, product]) => add(carts, user, product).await,
                (&Method::GET, ["internal", "carts"]) => {
                    (StatusCode::OK, json!(*carts.lock().expect("not poisoned")))
                }
                (&Method::PUT, ["internal", "carts", user]) => replace(&carts, user, &call.body),
                _ => shop::not_found(),
            }
        }
    });
}
