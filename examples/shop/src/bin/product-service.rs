//! product-service: the catalogue. `GET /products/` lists it, `GET /products/<id>` shows one.

use hyper::StatusCode;
use serde_json::{Value, json};
use shop::{Answer, Call};

fn catalogue() -> Vec<Value> {
    vec![
        json!({"id": "1", "name": "anchor", "price": 120}),
        json!({"id": "2", "name": "compass", "price": 35}),
        json!({"id": "3", "name": "lantern", "price": 20}),
    ]
}

fn find(id: &str) -> Answer {
    let found = catalogue().into_iter().find(|product| product["id"] == id);
    found.map_or_else(shop::not_found, |product| (StatusCode::OK, product))
}

fn main() {
    shop::run("product-service", |call: Call| async move {
        match call.path.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["products"] => (StatusCode::OK, json!({"products": catalogue()})),
            ["products", id] => find(id),
            _ => shop::not_found(),
        }
    });
}
