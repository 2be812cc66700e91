//! What a server calls, in this order: `route`, `sigv4::verify`, `Route::read`, the handler, `Route::answer`.

use crate::protocol::{self, Written};
use crate::route::{Route, Unrouted, service_of};
use crate::{Fault, FromValue, IntoValue, Operation, Value, validate};
use bytes::Bytes;
use http::Response;
use http::request::Parts;

/// A request's input, read and valid by the model.
#[derive(Debug)]
pub struct Input {
    /// The positional structure.
    pub value: Value,
    /// Members of the request that the model does not have, by path. AWS's JSON services ignore them, so this crate
    /// does; a handler that would otherwise ignore what its caller asked for refuses them.
    pub unknown: Vec<String>,
}

impl Route {
    /// Reads and validates the input. The fault is AWS's: `SerializationException`, a validation error, and so on.
    pub fn read(&self, parts: &Parts, body: &Bytes) -> Result<Input, Fault> {
        let read = protocol::read(self.model, self.operation, self.protocol, parts, body)?;
        validate::validate(self.model, self.operation.input, &read.value)?;
        Ok(Input { value: read.value, unknown: read.unknown })
    }

    /// Writes the answer.
    pub fn answer(&self, result: &Result<Value, Fault>, request_id: &str) -> Response<Vec<u8>> {
        let written = match result {
            Ok(value) => protocol::write(self.model, self.operation, self.protocol, value, request_id),
            Err(fault) => protocol::fault::write(self.model, self.protocol, fault, request_id),
        };
        response(written, request_id)
    }

    /// The fault for an operation that the model has and the server does not.
    pub fn unsupported(&self) -> Fault {
        Fault::unsupported(self.model, self.protocol, &self.operation.name)
    }
}

impl Unrouted {
    /// Writes the answer.
    pub fn answer(&self, request_id: &str) -> Response<Vec<u8>> {
        let written = match self.service {
            Some((model, protocol)) => protocol::fault::write(model, protocol, &self.fault, request_id),
            None => protocol::fault::write_without_model(self.json, &self.fault, request_id),
        };
        response(written, request_id)
    }
}

/// Refuses a request of which only the head is known, such as one whose body is too large, in its service's words.
pub fn refuse(parts: &Parts, fault: Fault, request_id: &str) -> Response<Vec<u8>> {
    let json = parts.headers.get("content-type").is_some_and(|kind| kind.as_bytes().ends_with(b"json"));
    Unrouted { fault, service: service_of(parts), json }.answer(request_id)
}

/// The fault for a body above the server's limit.
pub fn too_large(body_bytes_max: usize) -> Fault {
    let message = format!("The request body is larger than {body_bytes_max} bytes.");
    Fault::new("RequestEntityTooLarge", message).status(413)
}

/// Calls a typed handler with an untyped input.
pub fn typed<O: Operation>(
    input: Value,
    handler: impl FnOnce(O::Input) -> Result<O::Output, Fault>,
) -> Result<Value, Fault> {
    handler(O::Input::from_value(input)).map(O::Output::into_value)
}

fn response(written: Written, request_id: &str) -> Response<Vec<u8>> {
    let mut builder = Response::builder().status(written.status).header("x-amzn-requestid", request_id);
    for (name, value) in &written.headers {
        // A value that no header can hold (a line break in a tag, say) is left out rather than split the answer.
        if let (Ok(name), Ok(value)) =
            (http::HeaderName::try_from(name.as_str()), http::HeaderValue::try_from(value.as_str()))
        {
            builder = builder.header(name, value);
        }
    }
    builder.body(written.body).expect("a status of the model and checked headers make a response")
}
