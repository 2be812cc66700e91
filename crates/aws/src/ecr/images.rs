//! Images: describe, list, get and delete.

use std::collections::BTreeSet;
use std::sync::Arc;

use state::ecr::Image;
use state::ecr::images::{self, ImageError};
use state::ecr::manifest::is_tag;
use state::{Scope, Snapshot};
use wire::Fault;
use wire::shapes::ecr as shapes;

use super::faults::{invalid, no_image, repository};
use super::repositories::page;
use crate::Call;

const DIGEST_FORM: &str = "must satisfy regular expression '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'";

/// DescribeImages.
pub(super) fn describe(
    call: &mut Call<'_>,
    input: shapes::DescribeImagesRequest,
) -> Result<shapes::DescribeImagesResponse, Fault> {
    let name = input.repository_name.unwrap_or_default();
    repository(call, input.registry_id.as_deref(), &name, "DescribeImages")?;
    let scope = call.scope().clone();
    let state = call.tx.snapshot();
    let filter = input.filter.unwrap_or_default();
    let shown = |image: &Arc<Image>| {
        is_shown(state, image, filter.tag_status.as_deref(), filter.image_status.as_deref())
    };
    if let Some(ids) = input.image_ids.filter(|ids| !ids.is_empty()) {
        if input.next_token.is_some() || input.max_results.is_some() {
            let parameter = if input.next_token.is_some() { "nextToken" } else { "maxResults" };
            return Err(invalid(parameter, "cannot be used when images are specified with 'imageIds'"));
        }
        let mut seen = BTreeSet::new();
        let mut details = Vec::new();
        for id in ids {
            let image = described(state, &scope, &name, &id)?;
            if seen.insert(image.digest.clone()) && shown(&image) {
                details.push(detail(state, &image));
            }
        }
        return Ok(shapes::DescribeImagesResponse { image_details: Some(details), next_token: None });
    }
    let page = page(input.next_token.as_deref(), input.max_results)?;
    let all = images::in_repository(state, &scope, &name).into_iter().filter(|image| shown(image));
    let (images, next_token) = page.take(all, |image| image.digest.clone());
    let details = images.iter().map(|image| detail(state, image)).collect();
    Ok(shapes::DescribeImagesResponse { image_details: Some(details), next_token })
}

/// ListImages: one line for each tag, and one for each image without.
pub(super) fn list(
    call: &mut Call<'_>,
    input: shapes::ListImagesRequest,
) -> Result<shapes::ListImagesResponse, Fault> {
    let name = input.repository_name.unwrap_or_default();
    repository(call, input.registry_id.as_deref(), &name, "ListImages")?;
    let state = call.tx.snapshot();
    let filter = input.filter.unwrap_or_default();
    let page = page(input.next_token.as_deref(), input.max_results)?;
    let lines = images::in_repository(state, call.scope(), &name)
        .into_iter()
        .filter(|image| is_shown(state, image, filter.tag_status.as_deref(), filter.image_status.as_deref()))
        .flat_map(|image| {
            let tags = images::tags_of(state, &image);
            let tags: Vec<_> =
                if tags.is_empty() { vec![None] } else { tags.into_iter().map(Some).collect() };
            tags.into_iter().map(move |tag| (image.digest.clone(), tag))
        });
    let (lines, next_token) =
        page.take(lines, |(digest, tag)| format!("{digest} {}", tag.as_deref().unwrap_or_default()));
    let image_ids = lines.into_iter().map(|(digest, tag)| identifier(Some(digest), tag)).collect();
    Ok(shapes::ListImagesResponse { image_ids: Some(image_ids), next_token })
}

/// BatchGetImage.
pub(super) fn batch_get(
    call: &mut Call<'_>,
    input: shapes::BatchGetImageRequest,
) -> Result<shapes::BatchGetImageResponse, Fault> {
    let name = input.repository_name.unwrap_or_default();
    repository(call, input.registry_id.as_deref(), &name, "BatchGetImage")?;
    let accepted = input.accepted_media_types.unwrap_or_default();
    let scope = call.scope().clone();
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for id in input.image_ids.unwrap_or_default() {
        match find(call.tx.snapshot(), &scope, &name, &id) {
            Ok(image) if accepted.is_empty() || accepted.contains(&image.media_type) => {
                found.push(image_view(&image, id.image_tag.as_deref()));
            }
            Ok(image) => {
                let reason =
                    format!("Requested image has media type {}, which is not accepted", image.media_type);
                failures.push(failure(&id, "ImageNotFound", &reason));
            }
            Err((code, reason)) => failures.push(failure(&id, code, reason)),
        }
    }
    Ok(shapes::BatchGetImageResponse { images: Some(found), failures: Some(failures) })
}

/// BatchDeleteImage: by tag untags, and deletes the image with its last tag; by digest deletes it with all its tags.
pub(super) fn batch_delete(
    call: &mut Call<'_>,
    input: shapes::BatchDeleteImageRequest,
) -> Result<shapes::BatchDeleteImageResponse, Fault> {
    let name = input.repository_name.unwrap_or_default();
    repository(call, input.registry_id.as_deref(), &name, "BatchDeleteImage")?;
    let (mut deleted, mut failures) = (Vec::new(), Vec::new());
    for id in input.image_ids.unwrap_or_default() {
        match delete_one(call, &name, &id) {
            Ok(ids) => deleted.extend(ids),
            Err(failed) => failures.push(failed),
        }
    }
    Ok(shapes::BatchDeleteImageResponse { image_ids: Some(deleted), failures: Some(failures) })
}

fn delete_one(
    call: &mut Call<'_>,
    name: &str,
    id: &shapes::ImageIdentifier,
) -> Result<Vec<shapes::ImageIdentifier>, shapes::ImageFailure> {
    let scope = call.scope().clone();
    let image = find(call.tx.snapshot(), &scope, name, id).map_err(|(code, why)| failure(id, code, why))?;
    let digest = image.digest.clone();
    let tags = images::tags_of(call.tx.snapshot(), &image);
    if let Some(tag) = id.image_tag.as_ref().filter(|_| tags.len() > 1) {
        images::untag(call.tx, &scope, name, tag).map_err(|_| not_found(id))?;
        return Ok(vec![identifier(Some(digest), Some(tag.clone()))]);
    }
    match images::delete(call.tx, &scope, name, &digest) {
        Ok(tags) if tags.is_empty() => Ok(vec![identifier(Some(digest), None)]),
        Ok(tags) => Ok(tags.into_iter().map(|tag| identifier(Some(digest.clone()), Some(tag))).collect()),
        Err(ImageError::ListedBy(lists)) => {
            let reason = format!("Requested image referenced by manifest list: [{}]", lists.join(", "));
            Err(failure(id, "ImageReferencedByManifestList", &reason))
        }
        Err(_) => Err(not_found(id)),
    }
}

fn not_found(id: &shapes::ImageIdentifier) -> shapes::ImageFailure {
    failure(id, "ImageNotFound", "Requested image not found")
}

type Failure = (&'static str, &'static str);

/// The image that an identifier names, or the code and reason of the failure.
fn find(
    state: &Snapshot,
    scope: &Scope,
    name: &str,
    id: &shapes::ImageIdentifier,
) -> Result<Arc<Image>, Failure> {
    const NOT_FOUND: Failure = ("ImageNotFound", "Requested image not found");
    let by = |reference: &str| images::find(state, scope, name, reference).ok_or(NOT_FOUND);
    let digest = id.image_digest.as_deref();
    if digest.is_some_and(|digest| !has_digest_form(digest)) {
        return Err((
            "InvalidImageDigest",
            "Invalid request parameters: image digest should satisfy the regex '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'",
        ));
    }
    match (digest, id.image_tag.as_deref()) {
        (None, None) => {
            Err(("MissingDigestAndTag", "Invalid request parameters: both tag and digest cannot be null"))
        }
        (_, Some(tag)) if !is_tag(tag) => Err(NOT_FOUND),
        (None, Some(tag)) => by(tag),
        (Some(digest), None) => by(digest),
        (Some(digest), Some(tag)) => {
            let image = by(tag)?;
            if image.digest == digest {
                return Ok(image);
            }
            Err(("ImageTagDoesNotMatchDigest", "Requested image tag does not match the image digest"))
        }
    }
}

fn has_digest_form(text: &str) -> bool {
    let named = |b: u8| b.is_ascii_alphanumeric() || b"-_+.".contains(&b);
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        !algorithm.is_empty()
            && algorithm.bytes().all(named)
            && !hex.is_empty()
            && hex.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

/// As [`find`], answering DescribeImages' errors: it fails as a whole.
fn described(
    state: &Snapshot,
    scope: &Scope,
    name: &str,
    id: &shapes::ImageIdentifier,
) -> Result<Arc<Image>, Fault> {
    find(state, scope, name, id).map_err(|(code, reason)| match code {
        "InvalidImageDigest" => invalid("imageDigest", DIGEST_FORM),
        "MissingDigestAndTag" => Fault::new("InvalidParameterException", reason),
        _ => no_image(scope, name, id.image_digest.as_deref(), id.image_tag.as_deref()),
    })
}

/// Whether the filters let an image through. Images are never archived, so all are active.
fn is_shown(state: &Snapshot, image: &Image, tag_status: Option<&str>, image_status: Option<&str>) -> bool {
    let is_tagged = !images::tags_of(state, image).is_empty();
    let tags_fit = match tag_status {
        Some("TAGGED") => is_tagged,
        Some("UNTAGGED") => !is_tagged,
        _ => true,
    };
    tags_fit && matches!(image_status, None | Some("ACTIVE" | "ANY"))
}

/// An image as DescribeImages shows it.
fn detail(state: &Snapshot, image: &Image) -> shapes::ImageDetail {
    let tags = images::tags_of(state, image);
    // There is no scanner: who asked for scans on push is told so where he looks for the result.
    let scan = image.scan_requested.then(|| shapes::ImageScanStatus {
        status: Some("FAILED".into()),
        description: Some("Image scanning is not supported by this registry.".into()),
    });
    shapes::ImageDetail {
        registry_id: Some(image.scope.account.clone()),
        repository_name: Some(image.repository.clone()),
        image_digest: Some(image.digest.clone()),
        image_tags: (!tags.is_empty()).then_some(tags),
        image_size_in_bytes: Some(size_bytes(state, image)),
        image_pushed_at: Some(image.pushed_at_ms),
        image_scan_status: scan,
        image_scan_findings_summary: None,
        image_manifest_media_type: Some(image.media_type.clone()),
        artifact_media_type: image.artifact_type.clone(),
        last_recorded_pull_time: image.pulled_at_ms,
        subject_manifest_digest: image.subject.clone(),
        image_status: Some("ACTIVE".into()),
        last_archived_at: None,
        last_activated_at: None,
    }
}

/// The layers' size; of an index, the size of the largest image that it lists ("ImageDetail", ECR API reference).
fn size_bytes(state: &Snapshot, image: &Image) -> i64 {
    let own = |image: &Image| image.layers.iter().map(|layer| layer.size).sum::<u64>() as i64;
    let child = |digest: &str| images::find(state, &image.scope, &image.repository, digest);
    let children = image.children.iter().filter_map(|listed| child(&listed.digest));
    children.map(|child| own(&child)).max().unwrap_or(0).max(own(image))
}

/// An image with its manifest.
pub(super) fn image_view(image: &Image, tag: Option<&str>) -> shapes::Image {
    shapes::Image {
        registry_id: Some(image.scope.account.clone()),
        repository_name: Some(image.repository.clone()),
        image_id: Some(identifier(Some(image.digest.clone()), tag.map(str::to_owned))),
        image_manifest: Some(image.manifest.clone()),
        image_manifest_media_type: Some(image.media_type.clone()),
    }
}

fn identifier(image_digest: Option<String>, image_tag: Option<String>) -> shapes::ImageIdentifier {
    shapes::ImageIdentifier { image_digest, image_tag }
}

fn failure(id: &shapes::ImageIdentifier, code: &str, reason: &str) -> shapes::ImageFailure {
    shapes::ImageFailure {
        image_id: Some(id.clone()),
        failure_code: Some(code.to_owned()),
        failure_reason: Some(reason.to_owned()),
    }
}
