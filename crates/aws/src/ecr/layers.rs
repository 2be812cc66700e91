//! Layers by the API: check, download, upload in parts.

use state::ecr::images;
use state::ecr::manifest::is_digest;
use state::ecr::{Image, LayerLink, LayerUpload};
use wire::Fault;
use wire::shapes::ecr as shapes;

use super::faults::{invalid, place, repository};
use crate::Call;

/// The part size that we recommend; parts but the last have at least half of it.
const PART_BYTES: i64 = 10 * 1024 * 1024;
/// The least that a part that is not the last may have ("LayerPartTooSmallException", ECR API reference).
const PART_BYTES_MIN: u64 = 5 * 1024 * 1024;
/// How long a download URL is good for.
const URL_MS: i64 = 3600 * 1000;

/// BatchCheckLayerAvailability.
pub(super) fn batch_check(
    call: &mut Call<'_>,
    input: shapes::BatchCheckLayerAvailabilityRequest,
) -> Result<shapes::BatchCheckLayerAvailabilityResponse, Fault> {
    let name = input.repository_name.unwrap_or_default();
    repository(call, input.registry_id.as_deref(), &name, "BatchCheckLayerAvailability")?;
    let (mut layers, mut failures) = (Vec::new(), Vec::new());
    for digest in input.layer_digests.unwrap_or_default() {
        if !is_digest(&digest) {
            failures.push(shapes::LayerFailure {
                layer_digest: Some(digest),
                failure_code: Some("InvalidLayerDigest".into()),
                failure_reason: Some(
                    "Invalid request parameters: layer digest is not a sha256 digest".into(),
                ),
            });
            continue;
        }
        layers.push(availability(call, &name, digest));
    }
    Ok(shapes::BatchCheckLayerAvailabilityResponse { layers: Some(layers), failures: Some(failures) })
}

/// What is known of one layer. Who is told that it is there may rely on it, so the promise is renewed.
fn availability(call: &mut Call<'_>, repository: &str, digest: String) -> shapes::Layer {
    let key = Image::key_of(call.scope(), repository, &digest);
    let link = call.tx.get::<LayerLink>(&key).filter(|_| call.blobs.size(&digest).is_some());
    let Some(link) = link else {
        let layer_availability = Some("UNAVAILABLE".into());
        let layer_digest = Some(digest);
        return shapes::Layer { layer_digest, layer_availability, ..Default::default() };
    };
    let scope = call.scope().clone();
    images::link(call.tx, &scope, repository, &digest, link.size, call.now_ms);
    let named_by = call.tx.table::<Image>().by_index("blob", &key).next();
    let media_type = named_by.and_then(|image| {
        let descriptor = image.blobs().find(|blob| blob.digest == digest);
        descriptor.map(|blob| blob.media_type.clone()).filter(|kind| !kind.is_empty())
    });
    shapes::Layer {
        layer_digest: Some(digest),
        layer_availability: Some("AVAILABLE".into()),
        layer_size: Some(link.size as i64),
        media_type,
    }
}

/// GetDownloadUrlForLayer: a URL of the registry with a token in it.
pub(super) fn download_url(
    call: &mut Call<'_>,
    input: shapes::GetDownloadUrlForLayerRequest,
) -> Result<shapes::GetDownloadUrlForLayerResponse, Fault> {
    let name = input.repository_name.unwrap_or_default();
    repository(call, input.registry_id.as_deref(), &name, "GetDownloadUrlForLayer")?;
    let digest = input.layer_digest.unwrap_or_default();
    let place = place(call.scope(), &name);
    if call.tx.get::<LayerLink>(&Image::key_of(call.scope(), &name, &digest)).is_none() {
        let message = format!("The layer with digest '{digest}' does not exist within {place}");
        return Err(Fault::new("LayersNotFoundException", message));
    }
    if call.blobs.size(&digest).is_none() {
        let message = format!("The layer with digest '{digest}' within {place} is not accessible");
        return Err(Fault::new("LayerInaccessibleException", message));
    }
    let token = call.secrets.registry_token(call.caller, call.now_ms + URL_MS);
    let token = percent_encoded(&token);
    let url = format!("http://{}/v2/{name}/blobs/{digest}?token={token}", call.site.registry_host);
    Ok(shapes::GetDownloadUrlForLayerResponse { download_url: Some(url), layer_digest: Some(digest) })
}

/// All but RFC 3986's unreserved characters as `%XX`.
fn percent_encoded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}

/// InitiateLayerUpload.
pub(super) fn initiate(
    call: &mut Call<'_>,
    input: shapes::InitiateLayerUploadRequest,
) -> Result<shapes::InitiateLayerUploadResponse, Fault> {
    let name = input.repository_name.unwrap_or_default();
    repository(call, input.registry_id.as_deref(), &name, "InitiateLayerUpload")?;
    let id = call.blobs.begin()?;
    call.tx.put(LayerUpload::new(call.scope(), &name, id.clone(), call.now_ms));
    Ok(shapes::InitiateLayerUploadResponse { upload_id: Some(id), part_size: Some(PART_BYTES) })
}

/// UploadLayerPart: parts come one after another.
pub(super) fn upload_part(
    call: &mut Call<'_>,
    input: shapes::UploadLayerPartRequest,
) -> Result<shapes::UploadLayerPartResponse, Fault> {
    let name = input.repository_name.unwrap_or_default();
    repository(call, input.registry_id.as_deref(), &name, "UploadLayerPart")?;
    let upload = upload(call, &name, input.upload_id.as_deref())?;
    let bytes = input.layer_part_blob.unwrap_or_default();
    let (first, last) = (input.part_first_byte.unwrap_or(0), input.part_last_byte.unwrap_or(0));
    let wrong = |why: String| {
        Fault::new("InvalidLayerPartException", why)
            .with("registryId", upload.scope.account.as_str())
            .with("repositoryName", name.as_str())
            .with("uploadId", upload.id.as_str())
            .with("lastValidByteReceived", upload.received as i64 - 1)
    };
    if first != upload.received as i64 {
        return Err(wrong(format!(
            "The layer part that begins at byte {first} does not follow the last valid byte received, {}",
            upload.received as i64 - 1
        )));
    }
    if last.checked_sub(first).and_then(|n| n.checked_add(1)) != Some(bytes.len() as i64) || bytes.is_empty()
    {
        return Err(wrong(format!("The layer part from byte {first} to {last} has {} bytes", bytes.len())));
    }
    let received = call.blobs.append(&upload.id, upload.received, &bytes)?;
    call.tx.put(LayerUpload {
        received,
        part_too_small: upload.part_too_small || upload.last_part_small,
        last_part_small: (bytes.len() as u64) < PART_BYTES_MIN,
        ..upload.clone()
    });
    Ok(shapes::UploadLayerPartResponse {
        registry_id: Some(upload.scope.account.clone()),
        repository_name: Some(name),
        upload_id: Some(upload.id),
        last_byte_received: Some(last),
    })
}

/// CompleteLayerUpload.
pub(super) fn complete(
    call: &mut Call<'_>,
    input: shapes::CompleteLayerUploadRequest,
) -> Result<shapes::CompleteLayerUploadResponse, Fault> {
    let name = input.repository_name.unwrap_or_default();
    repository(call, input.registry_id.as_deref(), &name, "CompleteLayerUpload")?;
    let upload = upload(call, &name, input.upload_id.as_deref())?;
    let digests = input.layer_digests.unwrap_or_default();
    let [digest] = digests.as_slice() else {
        return Err(invalid("layerDigests", "exactly one digest must be given"));
    };
    if !is_digest(digest) {
        return Err(invalid("layerDigests", "must satisfy regular expression 'sha256:[a-f0-9]{64}'"));
    }
    let scope = call.scope().clone();
    if upload.received == 0 {
        let message = format!("The upload '{}' does not contain any layer parts", upload.id);
        return Err(Fault::new("EmptyUploadException", message));
    }
    if upload.part_too_small {
        let message = "Layer parts must be at least 5 MiB in size, except for the last".to_owned();
        return Err(Fault::new("LayerPartTooSmallException", message));
    }
    if call.tx.get::<LayerLink>(&Image::key_of(&scope, &name, digest)).is_some() {
        let message = format!(
            "Layer with digest '{digest}' already exists in the repository with name '{name}' in registry with id '{}'",
            scope.account
        );
        return Err(Fault::new("LayerAlreadyExistsException", message));
    }
    let size = call.blobs.finish(&upload.id, digest)?;
    images::link(call.tx, &scope, &name, digest, size, call.now_ms);
    call.tx.delete::<LayerUpload>(&LayerUpload::key_of(&scope, &name, &upload.id));
    Ok(shapes::CompleteLayerUploadResponse {
        registry_id: Some(scope.account),
        repository_name: Some(name),
        upload_id: Some(upload.id),
        layer_digest: Some(digest.clone()),
    })
}

fn upload(call: &Call<'_>, name: &str, id: Option<&str>) -> Result<LayerUpload, Fault> {
    let id = id.unwrap_or_default();
    let found = call.tx.get::<LayerUpload>(&LayerUpload::key_of(call.scope(), name, id));
    found.map(|upload| LayerUpload::clone(&upload)).ok_or_else(|| {
        let message =
            format!("The upload with id '{id}' does not exist within {}", place(call.scope(), name));
        Fault::new("UploadNotFoundException", message)
    })
}
