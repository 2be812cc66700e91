//! The OCI distribution API over blobs (OCI Distribution Specification 1.1), as Amazon ECR serves it.
//!
//! [`Registry::handle`] answers everything below `/v2/`. What a request means is decided in `decide` on the control
//! state, with the rules in `state::ecr::images` that the ECR API shares; `act` moves the bytes. [`garbage`] removes
//! what nothing names.

mod act;
mod decide;
mod error;
pub mod garbage;
mod host;
mod route;

use std::sync::Arc;

use state::{Db, Scope, TimeMs};
use store::blobs::Blobs;

pub use act::{Body, record_pull};
pub use error::Error;
pub use route::{Action, Route};

/// Who has logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Account, and the region of its registry that `localhost` stands for.
    pub scope: Scope,
    /// The principal's ARN.
    pub arn: String,
}

/// Knows the passwords that GetAuthorizationToken gives out.
pub trait Authenticate: Send + Sync {
    /// Who the password is of; `None` if it is wrong or over.
    fn login(&self, password: &str, now_ms: TimeMs) -> Option<Login>;
}

/// The registry of all accounts.
#[derive(Clone)]
pub struct Registry {
    db: Arc<Db>,
    blobs: Arc<Blobs>,
    auth: Arc<dyn Authenticate>,
}

impl Registry {
    /// A registry over the control state and the blobs.
    pub fn new(db: Arc<Db>, blobs: Arc<Blobs>, auth: Arc<dyn Authenticate>) -> Registry {
        Registry { db, blobs, auth }
    }
}
