//! Images: where they come from, how their layers are unpacked once, and what their configuration says.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

mod layers;
pub mod manifest;
mod pull;
mod reference;
pub mod remote;
mod unpack;
mod xattr;

pub use layers::LayerStore;
pub use pull::Puller;
pub use reference::Reference;

/// What of an image's configuration matters to run it ("OCI image specification", `config`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ImageConfig {
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Before the command.
    pub entrypoint: Vec<String>,
    /// The default command.
    pub cmd: Vec<String>,
    /// Empty = `/`.
    pub working_dir: String,
    /// Empty = root.
    pub user: String,
    /// What stops it; empty = SIGTERM.
    pub stop_signal: String,
}

impl ImageConfig {
    /// The number of the signal that ends it, if the image names one.
    pub fn stop_signal_number(&self) -> Option<i32> {
        let name = self.stop_signal.trim();
        if let Ok(number) = name.parse() {
            return (1..=64).contains(&number).then_some(number);
        }
        let name = if name.starts_with("SIG") { name.to_owned() } else { format!("SIG{name}") };
        name.parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
    }
}

/// An image that is on the node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PulledImage {
    /// The digest that its reference named: of an index if it is one.
    pub digest: String,
    /// Names in the layer store, lowest first.
    pub layers: Vec<String>,
    /// Its configuration.
    pub config: ImageConfig,
}

/// For whom an image is pulled: our own registry's repositories are an account's in a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullScope {
    /// The account.
    pub account: String,
    /// The region.
    pub region: String,
}

/// Bytes of a manifest or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestBytes {
    /// `sha256:…` of the bytes.
    pub digest: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Where a blob's bytes are.
pub enum Blob {
    /// In a file that stays as it is while it is open: nothing is copied.
    File(std::fs::File),
    /// In a file that was fetched for this purpose and may be removed once read.
    Fetched(PathBuf),
}

/// Why an image cannot be pulled. The words are those that the ECS agent's containerd has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullError {
    /// There is no such image (or blob): its normalised name.
    NotFound(String),
    /// The registry refuses: its words.
    Denied(String),
    /// Anything else, in words.
    Other(String),
}

/// A future that a source's method returns.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, PullError>> + Send + 'a>>;

/// A registry, ours or another.
pub trait ImageSource: Send + Sync {
    /// A manifest or index by the reference's tag or digest, or by the digest given instead.
    fn manifest<'a>(
        &'a self,
        reference: &'a Reference,
        digest: Option<&'a str>,
        scope: &'a PullScope,
    ) -> Answer<'a, ManifestBytes>;

    /// A blob of the reference's repository.
    fn blob<'a>(
        &'a self,
        reference: &'a Reference,
        digest: &'a str,
        scope: &'a PullScope,
    ) -> Answer<'a, Blob>;
}

/// Where images come from: our own registry for the names that are its own, and others.
#[derive(Clone)]
pub struct Sources {
    /// Host names, with port, by which our own registry is reached (`localhost:4566`).
    pub own_hosts: Vec<String>,
    /// Our own registry.
    pub own: Arc<dyn ImageSource>,
    /// All other registries; none = pulls from them are refused.
    pub others: Option<Arc<dyn ImageSource>>,
}

impl Sources {
    /// The source of a reference.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(&self, reference: &Reference) -> Result<&dyn ImageSource, PullError> {
        if self.own_hosts.contains(&reference.domain) || reference.ecr_account_and_region().is_some() {
            return Ok(self.own.as_ref());
        }
        self.others.as_deref().ok_or_else(|| {
            PullError::Other(format!(
                "failed to resolve ref {reference}: no access to registry {}",
                reference.domain
            ))
        })
    }
}
