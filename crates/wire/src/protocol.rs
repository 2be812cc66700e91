//! Reading requests and writing answers: one reader and one writer per protocol over (model, value).

pub mod cbor;
mod ec2;
pub mod fault;
pub mod form;
pub mod json;
pub mod query;
pub mod rest_json;
pub mod xml;

use crate::model::{Model, OperationModel, Protocol};
use crate::{Fault, Value};
use bytes::Bytes;
use http::request::Parts;

/// A request's input as a value, before validation.
#[derive(Debug, Default)]
pub struct Read {
    /// The positional structure; `Value::Struct` even when the operation takes nothing.
    pub value: Value,
    /// Members that the model does not know, by path, such as `containerDefinitions.0.imagee`.
    pub unknown: Vec<String>,
}

/// An answer before it becomes HTTP.
#[derive(Debug, Default)]
pub struct Written {
    /// HTTP status.
    pub status: u16,
    /// Header names and values, the content type among them.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Reads the input of an operation in the request's protocol.
pub fn read(
    model: &Model,
    operation: &OperationModel,
    protocol: Protocol,
    parts: &Parts,
    body: &Bytes,
) -> Result<Read, Fault> {
    match protocol {
        Protocol::Json10 | Protocol::Json11 => json::read(model, operation.input, body),
        Protocol::RestJson => rest_json::read(model, operation, parts, body),
        Protocol::Query => query::read(model, operation, &form::of_request(parts, body)?),
        Protocol::Ec2 => ec2::read(model, operation, &form::of_request(parts, body)?),
        Protocol::Cbor => cbor::read(model, operation.input, body),
    }
}

/// Writes the output of an operation.
pub fn write(
    model: &Model,
    operation: &OperationModel,
    protocol: Protocol,
    value: &Value,
    request_id: &str,
) -> Written {
    match protocol {
        Protocol::Json10 | Protocol::Json11 => json::write(model, operation, value, content_type(protocol)),
        Protocol::RestJson => rest_json::write(model, operation, value),
        Protocol::Query => query::write(model, operation, value, request_id),
        Protocol::Ec2 => ec2::write(model, operation, value, request_id),
        Protocol::Cbor => cbor::write(model, operation, value),
    }
}

/// The content type of a protocol's answers.
pub fn content_type(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Json10 => "application/x-amz-json-1.0",
        Protocol::Json11 => "application/x-amz-json-1.1",
        Protocol::RestJson => "application/json",
        Protocol::Query => "text/xml",
        Protocol::Ec2 => "text/xml;charset=UTF-8",
        Protocol::Cbor => "application/cbor",
    }
}
