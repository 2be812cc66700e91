//! An error answer as a handler gives it, before a protocol writes it.

use crate::{IntoValue, Value};

/// Whose fault it is; query protocols say it as `<Type>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The caller's (HTTP 4xx).
    Sender,
    /// Ours (HTTP 5xx).
    Receiver,
}

/// An AWS error. The service's model says its HTTP status, its code on the wire and its members when it is written, so
/// a handler only names it: `Fault::new("ClusterNotFoundException", "Cluster not found.")`.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// The error's code or the name of its shape in the model (they differ in query services: the code
    /// `LoadBalancerNotFound` is the shape `LoadBalancerNotFoundException`; either is understood).
    pub code: String,
    /// The text for the caller.
    pub message: String,
    /// The HTTP status; `None` takes the model's, which is 400 for what the model does not know.
    pub http_status: Option<u16>,
    /// Whose fault; `None` takes the model's, else what the status says.
    pub kind: Option<FaultKind>,
    /// Further members of the error's shape, by their names in the model.
    pub members: Vec<(String, Value)>,
}

impl Fault {
    /// An error by its code (or its shape's name) and the text for the caller.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Fault {
        Fault {
            code: code.into(),
            message: message.into(),
            http_status: None,
            kind: None,
            members: Vec::new(),
        }
    }

    /// Overrides the HTTP status that the model gives.
    pub fn status(mut self, http_status: u16) -> Fault {
        self.http_status = Some(http_status);
        self
    }

    /// Overrides whose fault it is.
    pub fn kind(mut self, kind: FaultKind) -> Fault {
        self.kind = Some(kind);
        self
    }

    /// Adds a modelled member beside the message, such as `uploadId` of `InvalidLayerPartException`.
    pub fn with(mut self, member: impl Into<String>, value: impl IntoValue) -> Fault {
        self.members.push((member.into(), value.into_value()));
        self
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Fault {}
