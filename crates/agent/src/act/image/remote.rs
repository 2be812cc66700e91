//! Images of registries that are not ours, over the OCI distribution API ("OCI Distribution Specification", "pull").
//!
//! HTTPS, but plain HTTP for loopback names and for hosts that are said to be insecure; anonymous, with the bearer tokens
//! that registries give to anybody ("Token Authentication Specification", CNCF distribution). Every byte is verified
//! against the digest that named it before it is handed on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::super::remove::remove_tree;
use super::pull::hex;
use super::{Answer, Blob, ImageSource, ManifestBytes, PullError, PullScope, Reference};

pub mod auth;
mod blob;
mod http;

#[cfg(test)]
mod tests;

/// The most that a manifest may have, bytes ("pushing manifests": registries should take at least these 4 MiB).
const MANIFEST_BYTES_MAX: u64 = 4 << 20;

/// The kinds of manifests and indexes that are understood.
const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                        application/vnd.docker.distribution.manifest.list.v2+json, \
                        application/vnd.docker.distribution.manifest.v2+json";

/// Pulls from any registry. Clones share their connections and tokens.
#[derive(Clone)]
pub struct RemoteRegistries {
    inner: Arc<Inner>,
}

struct Inner {
    client: http::Client,
    /// Where blobs are fetched to.
    dir: PathBuf,
}

impl RemoteRegistries {
    /// Fetches blobs into `dir`, which is emptied: what is in it was left by a crash. `insecure_hosts`: names, with
    /// port, that are spoken to without TLS.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(dir: &Path, insecure_hosts: Vec<String>) -> std::io::Result<RemoteRegistries> {
        if dir.exists() {
            remove_tree(dir)?;
        }
        std::fs::create_dir_all(dir)?;
        let client = http::Client::new(insecure_hosts);
        Ok(RemoteRegistries { inner: Arc::new(Inner { client, dir: dir.to_owned() }) })
    }
}

impl ImageSource for RemoteRegistries {
    fn manifest<'a>(
        &'a self,
        reference: &'a Reference,
        digest: Option<&'a str>,
        _scope: &'a PullScope,
    ) -> Answer<'a, ManifestBytes> {
        let (inner, reference, digest) = (self.inner.clone(), reference.clone(), digest.map(str::to_owned));
        Box::pin(blocking(move || inner.manifest(&reference, digest.as_deref())))
    }

    fn blob<'a>(
        &'a self,
        reference: &'a Reference,
        digest: &'a str,
        _scope: &'a PullScope,
    ) -> Answer<'a, Blob> {
        let (inner, reference, digest) = (self.inner.clone(), reference.clone(), digest.to_owned());
        Box::pin(async move {
            let fetched =
                blocking(move || blob::fetch(&inner.client, &inner.dir, &reference, &digest)).await?;
            Ok(Blob::Fetched(fetched.keep()))
        })
    }
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PullError> + Send + 'static,
) -> Result<T, PullError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|err| Err(PullError::Other(err.to_string())))
}

impl Inner {
    fn manifest(&self, reference: &Reference, digest: Option<&str>) -> Result<ManifestBytes, PullError> {
        let wanted = digest.or(reference.digest.as_deref());
        let selector = wanted.unwrap_or_else(|| reference.selector());
        let path = format!("manifests/{selector}");
        let mut response = self.client.get(reference, &path, &[("Accept", ACCEPTED)])?;
        let said =
            response.headers().get("Docker-Content-Digest").and_then(|d| d.to_str().ok()).map(str::to_owned);
        let bytes = response.body_mut().with_config().limit(MANIFEST_BYTES_MAX).read_to_vec();
        let bytes = bytes.map_err(|err| {
            PullError::Other(format!("failed to resolve ref {reference}: failed to read the manifest: {err}"))
        })?;
        let digest = format!("sha256:{}", hex(&Sha256::digest(&bytes)));
        // Other algorithms than SHA-256 are not checked where only the registry names them.
        let said = said.as_deref().filter(|said| said.starts_with("sha256:"));
        match wanted.or(said) {
            Some(wanted) if wanted != digest => Err(PullError::Other(format!(
                "failed to resolve ref {reference}: the manifest has digest {digest}, not {wanted}: failed precondition"
            ))),
            _ => Ok(ManifestBytes { digest, bytes }),
        }
    }
}
