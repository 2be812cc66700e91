//! PutImage: the same push as the registry's, by the API.

use sha2::{Digest as _, Sha256};
use state::ecr::images::{self, ImageError, Push};
use wire::Fault;
use wire::shapes::ecr as shapes;

use super::faults::{invalid, no_repository, place, repository};
use super::images::image_view;
use crate::Call;

/// PutImage.
pub(super) fn put_image(
    call: &mut Call<'_>,
    input: shapes::PutImageRequest,
) -> Result<shapes::PutImageResponse, Fault> {
    let name = input.repository_name.unwrap_or_default();
    repository(call, input.registry_id.as_deref(), &name, "PutImage")?;
    let manifest = input.image_manifest.unwrap_or_default();
    let digest = digest_of(manifest.as_bytes());
    if let Some(promised) = input.image_digest.filter(|promised| *promised != digest) {
        let message =
            format!("The digest of the image manifest is '{digest}', which does not match '{promised}'");
        return Err(Fault::new("ImageDigestDoesNotMatchException", message));
    }
    let tag = input.image_tag.as_deref();
    if tag.is_some_and(|tag| !state::ecr::manifest::is_tag(tag)) {
        return Err(invalid(
            "imageTag",
            "must satisfy regular expression '[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}'",
        ));
    }
    let scope = call.scope().clone();
    let pushed = images::push(
        call.tx,
        Push {
            scope: &scope,
            repository: &name,
            manifest: &manifest,
            digest: &digest,
            media_type: input.image_manifest_media_type.as_deref(),
            tag,
            now_ms: call.now_ms,
        },
    );
    let refused = |error| refusal(error, &scope, &name, tag);
    let pushed = pushed.map_err(refused)?;
    if pushed.unchanged {
        let tagged = tag.map(|tag| format!(" and tag '{tag}'")).unwrap_or_default();
        let message = format!(
            "Image with digest '{digest}'{tagged} already exists in the repository with name '{name}' in registry \
             with id '{}'",
            scope.account
        );
        return Err(Fault::new("ImageAlreadyExistsException", message));
    }
    Ok(shapes::PutImageResponse { image: Some(image_view(&pushed.image, tag)) })
}

/// `sha256:` and the digest of the bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn refusal(error: ImageError, scope: &state::Scope, name: &str, tag: Option<&str>) -> Fault {
    let listed = |digests: &[String]| format!("[{}]", digests.join(", "));
    match error {
        ImageError::RepositoryUnknown => no_repository(scope, name),
        ImageError::ManifestInvalid(why) => invalid("ImageManifest", &why),
        ImageError::BlobsUnknown(digests) => Fault::new(
            "LayersNotFoundException",
            format!(
                "The layers with digests {} do not exist within {}",
                listed(&digests),
                place(scope, name)
            ),
        ),
        ImageError::ManifestsUnknown(digests) => Fault::new(
            "ReferencedImagesNotFoundException",
            format!(
                "The images with digests {} do not exist within {}",
                listed(&digests),
                place(scope, name)
            ),
        ),
        ImageError::TagImmutable => Fault::new(
            "ImageTagAlreadyExistsException",
            format!(
                "The image tag '{}' already exists in the '{name}' repository and cannot be overwritten because the \
                 tag is immutable.",
                tag.unwrap_or_default()
            ),
        ),
        ImageError::ImageUnknown | ImageError::ListedBy(_) => super::faults::no_image(scope, name, None, tag),
    }
}
