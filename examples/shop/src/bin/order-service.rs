//! order-service: `GET /orders/<user>` says what the user's cart costs, `POST /orders/<user>` orders it: it reads the
//! cart and the products and leaves a notification.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use shop::{Answer, Call};

async fn price(user: &str) -> Result<(Vec<Value>, i64), String> {
    let cart = format!("{}/cart/{user}", shop::url_of("cart-service"));
    let cart = shop::call(Method::GET, &cart, &Value::Null).await?;
    let mut lines = Vec::new();
    let mut total = 0;
    for id in cart["items"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let product = format!("{}/products/{id}", shop::url_of("product-service"));
        let product = shop::call(Method::GET, &product, &Value::Null).await?;
        total += product["price"].as_i64().unwrap_or(0);
        lines.push(product);
    }
    Ok((lines, total))
}

async fn quote(user: &str) -> Answer {
    match price(user).await {
        Ok((lines, total)) => (StatusCode::OK, json!({"user": user, "lines": lines, "total": total})),
        Err(error) => shop::upstream(error),
    }
}

async fn order(user: &str) -> Answer {
    let (lines, total) = match price(user).await {
        Ok(priced) => priced,
        Err(error) => return shop::upstream(error),
    };
    if lines.is_empty() {
        return (StatusCode::CONFLICT, json!({"error": format!("the cart of {user} is empty")}));
    }
    let note = format!("{}/notify", shop::url_of("notification-service"));
    let text = format!("order of {user}: {} items, total {total}", lines.len());
    match shop::call(Method::POST, &note, &json!({"text": text})).await {
        Ok(_) => (StatusCode::CREATED, json!({"user": user, "lines": lines, "total": total})),
        Err(error) => shop::upstream(error),
    }
}

fn main() {
    shop::run("order-service", |call: Call| async move {
        let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
        match (&call.method, &path[..]) {
            (&Method::GET, ["orders", user]) => quote(user).await,
            (&Method::POST, ["orders", user]) => order(user).await,
            _ => shop::not_found(),
        }
    });
}
