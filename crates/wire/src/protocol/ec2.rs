//! EC2's dialect of Query: lists without `member`, capitalised names, answers without a result element.

use super::form::Form;
use super::query::{Dialect, read_dialect};
use super::{Read, Written, xml};
use crate::model::{Model, OperationModel, Protocol};
use crate::{Fault, Value};

/// Reads an EC2 request. EC2 refuses parameters that it does not know, one at a time.
pub fn read(model: &Model, operation: &OperationModel, form: &Form) -> Result<Read, Fault> {
    let read = read_dialect(model, operation, form, Dialect::Ec2)?;
    match read.unknown.first() {
        Some(name) => Err(Fault::new("UnknownParameter", format!("The parameter {name} is not recognized"))),
        None => Ok(read),
    }
}

/// Writes `<RunResponse><requestId>…</requestId>…</RunResponse>`.
pub fn write(model: &Model, operation: &OperationModel, value: &Value, request_id: &str) -> Written {
    let mut out = xml::Xml::new();
    let response = format!("{}Response", operation.name);
    let namespace = format!("{}/", model.xml_namespace.trim_end_matches('/'));
    out.open_with(&response, &[("xmlns", &namespace)]);
    out.text("requestId", request_id);
    match operation.output {
        Some(output) => out.members(model, output, value),
        None => out.text("return", "true"),
    }
    out.close(&response);
    let content_type = super::content_type(Protocol::Ec2).to_string();
    Written { status: 200, headers: vec![("content-type".into(), content_type)], body: out.finish() }
}
