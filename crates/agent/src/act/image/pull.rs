//! Pulling an image: its manifest for this platform, its configuration, and those of its layers that are not here yet.

use std::io::Read;

use sha2::{Digest, Sha256};

use super::manifest::{self, Document};
use super::{Blob, ImageSource, LayerStore, PullError, PullScope, PulledImage, Reference, Sources};

/// A configuration larger than this is not read.
const CONFIG_BYTES_MAX: u64 = 8 << 20;

/// Pulls images into a layer store.
#[derive(Clone)]
pub struct Puller {
    sources: Sources,
    store: LayerStore,
}

impl Puller {
    /// Pulls from these sources into this store.
    pub fn new(sources: Sources, store: LayerStore) -> Puller {
        Puller { sources, store }
    }

    /// Pulls an image, for an ECS architecture (`X86_64`, `ARM64`; none = this machine's).
    ///
    /// # Errors
    /// The reason in ECS's words, `CannotPullContainerError: …`.
    pub async fn pull(
        &self,
        image: &str,
        scope: &PullScope,
        architecture: Option<&str>,
    ) -> Result<PulledImage, String> {
        let reference = Reference::parse(image).map_err(|err| format!("CannotPullContainerError: {err}"))?;
        self.pull_reference(&reference, scope, oci_architecture(architecture))
            .await
            .map_err(|err| in_ecs_words(&reference, &err))
    }

    async fn pull_reference(
        &self,
        reference: &Reference,
        scope: &PullScope,
        architecture: &str,
    ) -> Result<PulledImage, PullError> {
        let source = self.sources.of(reference)?;
        let named = source.manifest(reference, None, scope).await?;
        let (config, layers) = match manifest::parse(&named.bytes)? {
            Document::Image { config, layers } => (config, layers),
            Document::Index(manifests) => {
                let chosen = manifest::choose(&manifests, architecture)?.digest.clone();
                let image = source.manifest(reference, Some(&chosen), scope).await?;
                match manifest::parse(&image.bytes)? {
                    Document::Image { config, layers } => (config, layers),
                    Document::Index(_) => return Err(PullError::Other("an index within an index".into())),
                }
            }
        };
        let config = read_config(source.blob(reference, &config.digest, scope).await?, &config.digest)?;
        let (config, diff_ids, built_for) = manifest::parse_config(&config)?;
        if !built_for.is_empty() && built_for != architecture {
            let text = format!(
                "image Manifest does not contain descriptor matching platform 'linux/{architecture}'"
            );
            return Err(PullError::Other(text));
        }
        if diff_ids.len() != layers.len() {
            let text =
                format!("the image has {} layers and {} digests of them", layers.len(), diff_ids.len());
            return Err(PullError::Other(text));
        }
        let mut names = Vec::with_capacity(layers.len());
        for (layer, diff_id) in layers.iter().zip(&diff_ids) {
            names.push(self.layer(source, reference, &layer.digest, diff_id, scope).await?);
        }
        Ok(PulledImage { digest: named.digest, layers: names, config })
    }

    async fn layer(
        &self,
        source: &dyn ImageSource,
        reference: &Reference,
        digest: &str,
        diff_id: &str,
        scope: &PullScope,
    ) -> Result<String, PullError> {
        // Held while it is unpacked: whoever wants the same layer waits and finds it.
        let _turn = self.store.turn(diff_id).await;
        if let Some(name) = self.store.find(diff_id)? {
            return Ok(name);
        }
        let blob = source.blob(reference, digest, scope).await?;
        let (store, digest, diff_id) = (self.store.clone(), digest.to_owned(), diff_id.to_owned());
        let unpacked = tokio::task::spawn_blocking(move || {
            let (file, fetched) = open(blob)?;
            let unpacked = store.unpack(file, &digest, &diff_id);
            // It is in the store now, or of no use.
            fetched.map(std::fs::remove_file);
            unpacked
        });
        unpacked.await.map_err(|err| PullError::Other(err.to_string()))?
    }
}

fn open(blob: Blob) -> Result<(std::fs::File, Option<std::path::PathBuf>), PullError> {
    match blob {
        Blob::File(file) => Ok((file, None)),
        Blob::Fetched(path) => match std::fs::File::open(&path) {
            Ok(file) => Ok((file, Some(path))),
            Err(err) => Err(PullError::Other(format!("{}: {err}", path.display()))),
        },
    }
}

fn read_config(blob: Blob, digest: &str) -> Result<Vec<u8>, PullError> {
    let (file, fetched) = open(blob)?;
    let mut bytes = Vec::new();
    let read = file.take(CONFIG_BYTES_MAX).read_to_end(&mut bytes);
    fetched.map(std::fs::remove_file);
    read.map_err(|err| PullError::Other(format!("failed to read the image's configuration: {err}")))?;
    if format!("sha256:{}", hex(&Sha256::digest(&bytes))) != digest {
        return Err(PullError::Other(format!("the image's configuration does not have the digest {digest}")));
    }
    Ok(bytes)
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The OCI's name of an architecture that ECS names.
fn oci_architecture(ecs: Option<&str>) -> &'static str {
    match ecs {
        Some("ARM64") => "arm64",
        Some("X86_64") => "amd64",
        _ if cfg!(target_arch = "aarch64") => "arm64",
        _ => "amd64",
    }
}

fn in_ecs_words(reference: &Reference, error: &PullError) -> String {
    let said = match error {
        PullError::NotFound(name) => format!("failed to resolve ref {name}: {name}: not found"),
        PullError::Denied(said) => format!("failed to resolve ref {reference}: {said}"),
        PullError::Other(said) => said.clone(),
    };
    if said.starts_with("failed to extract layer") {
        return format!("CannotPullContainerError: {said}");
    }
    format!("CannotPullContainerError: pull image manifest has been retried 1 time(s): {said}")
}
