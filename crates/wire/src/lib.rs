//! How AWS speaks: routing, SigV4, protocols, values, validation, faults, shapes.
//!
//! The wire is interpreted from the service models (`models/<service>.json`), the handler is typed by shapes generated
//! from the same models. A server takes one request through these steps, all synchronous:
//!
//! ```
//! use bytes::Bytes;
//! use wire::shapes::ecs;
//! use wire::{Fault, Operation, Route, Value, route, sigv4, typed};
//!
//! fn stop_task(input: ecs::StopTaskRequest) -> Result<ecs::StopTaskResponse, Fault> {
//!     let task = ecs::Task { task_arn: input.task, ..Default::default() };
//!     Ok(ecs::StopTaskResponse { task: Some(task) })
//! }
//!
//! fn dispatch(route: &Route, input: Value) -> Result<Value, Fault> {
//!     match (route.model.name.as_str(), route.operation.name.as_str()) {
//!         ("ecs", ecs::op::StopTask::NAME) => typed::<ecs::op::StopTask>(input, stop_task),
//!         _ => Err(route.unsupported()),
//!     }
//! }
//!
//! fn serve(request: http::Request<Bytes>, now_ms: i64, request_id: &str) -> http::Response<Vec<u8>> {
//!     let (parts, body) = request.into_parts();
//!     let route = match route(&parts, &body) {
//!         Ok(route) => route,
//!         Err(unrouted) => return unrouted.answer(request_id),
//!     };
//!     let expected = sigv4::Expected { service: Some(&route.model.signing_name), region: None };
//!     let lookup = |_: &str| Some(sigv4::Credential { secret: "test".into(), ..Default::default() });
//!     let result = sigv4::verify(&parts, &body, expected, &lookup, now_ms)
//!         .map_err(|refused| refused.fault(route.protocol))
//!         .and_then(|_identity| route.read(&parts, &body))
//!         .and_then(|input| dispatch(&route, input.value));
//!     route.answer(&result, request_id)
//! }
//!
//! let head = http::Request::post("/").header("host", "localhost:4566");
//! let head = head.header("x-amz-target", "AmazonEC2ContainerServiceV20141113.StopTask");
//! let (mut parts, body) = head.body(Bytes::from(r#"{"task":"t"}"#)).unwrap().into_parts();
//! sigv4::sign(&mut parts, &body, ("test", "test"), ("us-east-1", "ecs"), 0);
//! let answer = serve(http::Request::from_parts(parts, body), 0, "id");
//! assert_eq!(answer.body(), br#"{"task":{"taskArn":"t"}}"#);
//! ```

mod fault;
pub mod model;
mod models;
pub mod origin;
pub mod protocol;
#[cfg(test)]
mod round_trip;
mod route;
mod serve;
pub mod shapes;
pub mod sigv4;
pub mod timestamp;
pub mod validate;
mod value;

pub use fault::{Fault, FaultKind};
pub use model::{Model, Protocol};
pub use models::{Service, model, service, services};
pub use route::{Route, Unrouted, route, service_of};
pub use serve::{Input, refuse, too_large, typed};
pub use value::{FromValue, IntoValue, Operation, Value};
pub(crate) use value::{operations, shapes};
