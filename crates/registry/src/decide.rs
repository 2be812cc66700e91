//! What a request means for the control state. Pure: time and ids are arguments, bytes are elsewhere.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};
use state::ecr::images::{self, Push, Pushed};
use state::ecr::manifest::{Manifest, OCI_INDEX};
use state::ecr::{Image, ImageTag, LayerLink, LayerUpload, Repository};
use state::{Scope, Snapshot, TimeMs, Tx};

use crate::error::Error;

/// A pull is recorded again after this long ("lastRecordedPullTime", ECR API reference).
const PULL_RECORD_MS: TimeMs = 24 * 3600 * 1000;
/// A promise that a blob is there is renewed after this long: often enough for any grace period of an hour or more.
const PROMISE_MS: TimeMs = 10 * 60 * 1000;

/// The most entries of a list in one answer.
const LIST_MAX: usize = 1000;

/// Where a request is: account, region and repository.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    pub scope: &'a Scope,
    pub name: &'a str,
}

impl At<'_> {
    /// Refuses a repository that is not there.
    pub fn exists(self, state: &Snapshot) -> Result<Self, Error> {
        match state.repositories.get(&self.scope.key(self.name)) {
            Some(_) => Ok(self),
            None => Err(Error::no_repository(self.scope, self.name)),
        }
    }

    fn key(self, digest: &str) -> String {
        Image::key_of(self.scope, self.name, digest)
    }
}

/// Stores a manifest under a tag or under its digest.
pub(crate) fn put_manifest(
    tx: &mut Tx,
    at: At<'_>,
    reference: &str,
    manifest: (&str, &str, Option<&str>),
    now_ms: TimeMs,
) -> Result<Pushed, Error> {
    let (text, digest, media_type) = manifest;
    let tag = (!reference.contains(':')).then_some(reference);
    if tag.is_none() && reference != digest {
        let message = format!("the digest of the manifest is {digest}, not {reference}");
        return Err(Error::bad("DIGEST_INVALID", message));
    }
    let push = Push { scope: at.scope, repository: at.name, manifest: text, digest, media_type, tag, now_ms };
    images::push(tx, push).map_err(|error| Error::of_image(error, at.scope, at.name, tag))
}

/// Takes a tag off, or deletes an image.
pub(crate) fn delete_manifest(tx: &mut Tx, at: At<'_>, reference: &str) -> Result<(), Error> {
    at.exists(tx.snapshot())?;
    let done = if reference.contains(':') {
        images::delete(tx, at.scope, at.name, reference).map(drop)
    } else {
        images::untag(tx, at.scope, at.name, reference).map(drop)
    };
    done.map_err(|error| Error::of_image(error, at.scope, at.name, None))
}

/// The image of a tag or digest.
pub(crate) fn manifest(state: &Snapshot, at: At<'_>, reference: &str) -> Result<Arc<Image>, Error> {
    at.exists(state)?;
    images::find(state, at.scope, at.name, reference).ok_or_else(Error::no_manifest)
}

/// Whether a pull now is to be recorded.
pub(crate) fn pull_is_news(image: &Image, now_ms: TimeMs) -> bool {
    image.pulled_at_ms.is_none_or(|then| now_ms - then >= PULL_RECORD_MS)
}

/// Records a pull.
pub(crate) fn record_pull(tx: &mut Tx, key: &str, now_ms: TimeMs) {
    tx.update::<Image>(key, |image| {
        if pull_is_news(image, now_ms) {
            image.pulled_at_ms = Some(now_ms);
        }
    });
}

/// The size of a blob of the repository, and whether the promise that it is there must be renewed: a client that is
/// told so may name it in a manifest for the next while. A blob that an image names stays without.
pub(crate) fn blob(state: &Snapshot, at: At<'_>, digest: &str, now_ms: TimeMs) -> Result<(u64, bool), Error> {
    at.exists(state)?;
    let link = state.layer_links.get(&at.key(digest)).ok_or_else(|| Error::no_blob(digest))?;
    let renew = now_ms - link.promised_at_ms >= PROMISE_MS && !images::is_named(state, link);
    Ok((link.size, renew))
}

/// Renews the promise that a blob is there.
pub(crate) fn promise(tx: &mut Tx, at: At<'_>, digest: &str, now_ms: TimeMs) -> Result<(), Error> {
    let kept = tx.update::<LayerLink>(&at.key(digest), |link| {
        link.promised_at_ms = link.promised_at_ms.max(now_ms);
    });
    if kept { Ok(()) } else { Err(Error::no_blob(digest)) }
}

/// Takes a blob out of the repository; one that an image names stays.
pub(crate) fn delete_blob(tx: &mut Tx, at: At<'_>, digest: &str) -> Result<(), Error> {
    at.exists(tx.snapshot())?;
    let link = tx.get::<LayerLink>(&at.key(digest)).ok_or_else(|| Error::no_blob(digest))?;
    if images::is_named(tx.snapshot(), &link) {
        return Err(Error::unsupported(format!("the blob {digest} belongs to an image: delete the image")));
    }
    tx.delete::<LayerLink>(&at.key(digest));
    Ok(())
}

/// Begins an upload.
pub(crate) fn begin_upload(tx: &mut Tx, at: At<'_>, id: &str, now_ms: TimeMs) -> Result<(), Error> {
    at.exists(tx.snapshot())?;
    tx.put(LayerUpload::new(at.scope, at.name, id.to_owned(), now_ms));
    Ok(())
}

/// Refuses an upload that is not one of the repository's.
pub(crate) fn upload(state: &Snapshot, at: At<'_>, id: &str) -> Result<(), Error> {
    at.exists(state)?;
    match state.layer_uploads.get(&LayerUpload::key_of(at.scope, at.name, id)) {
        Some(_) => Ok(()),
        None => Err(Error::no_upload(id)),
    }
}

/// Ends an upload, with the blob that it became, if it did.
pub(crate) fn end_upload(
    tx: &mut Tx,
    at: At<'_>,
    id: &str,
    became: Option<(&str, u64)>,
    now_ms: TimeMs,
) -> Result<(), Error> {
    upload(tx.snapshot(), at, id)?;
    tx.delete::<LayerUpload>(&LayerUpload::key_of(at.scope, at.name, id));
    if let Some((digest, size)) = became {
        images::link(tx, at.scope, at.name, digest, size, now_ms);
    }
    Ok(())
}

/// Takes a blob of another repository of the same account and region into this one; false if none has it. `from` is
/// only a hint, as the specification allows: the account may read all its repositories.
pub(crate) fn mount(tx: &mut Tx, at: At<'_>, digest: &str, now_ms: TimeMs) -> Result<bool, Error> {
    at.exists(tx.snapshot())?;
    let size = {
        let mut links = tx.table::<LayerLink>().by_index("digest", digest);
        links.find(|link| link.scope == *at.scope).map(|link| link.size)
    };
    let Some(size) = size else { return Ok(false) };
    images::link(tx, at.scope, at.name, digest, size, now_ms);
    Ok(true)
}

/// A page of a list: entries after `last`, at most `n`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Window {
    pub n: Option<usize>,
    pub last: Option<String>,
}

impl Window {
    /// Reads `n` and `last`.
    pub fn read(n: Option<String>, last: Option<String>) -> Result<Window, Error> {
        let wrong = || Error::new(StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID", "n is not a number");
        let n = n.map(|n| n.parse::<usize>().map_err(|_| wrong())).transpose()?;
        Ok(Window { n, last })
    }

    /// The page, and the last entry of it if more follow.
    fn cut(&self, entries: impl Iterator<Item = String>) -> (Vec<String>, Option<String>) {
        let limit = self.n.unwrap_or(LIST_MAX).min(LIST_MAX);
        let mut rest = entries.skip_while(|entry| self.last.as_ref().is_some_and(|last| entry <= last));
        let page: Vec<String> = rest.by_ref().take(limit).collect();
        let more = limit > 0 && rest.next().is_some();
        let last = page.last().cloned().filter(|_| more);
        (page, last)
    }
}

/// The tags of a repository in byte order, and the last of the page if more follow.
pub(crate) fn list_tags(
    state: &Snapshot,
    at: At<'_>,
    window: &Window,
) -> Result<(Value, Option<String>), Error> {
    at.exists(state)?;
    let prefix = ImageTag::key_of(at.scope, at.name, "");
    let tags = state.image_tags.scan(&prefix).map(|(_, tag)| tag.tag.clone());
    let (tags, last) = window.cut(tags);
    Ok((json!({ "name": at.name, "tags": tags }), last))
}

/// The repositories of an account and region, and the last of the page if more follow.
pub(crate) fn catalog(state: &Snapshot, scope: &Scope, window: &Window) -> (Value, Option<String>) {
    let prefix = scope.prefix();
    let names = state.repositories.scan(&prefix).map(|(_, r): (_, &Arc<Repository>)| r.name.clone());
    let (names, last) = window.cut(names);
    (json!({ "repositories": names }), last)
}

/// The index of the manifests whose subject is `digest`, of one artifact type if given.
pub(crate) fn referrers(
    state: &Snapshot,
    at: At<'_>,
    digest: &str,
    artifact_type: Option<&str>,
) -> Result<Value, Error> {
    at.exists(state)?;
    let key = at.key(digest);
    let all = state.images.by_index("subject", &key);
    let wanted =
        all.filter(|image| artifact_type.is_none() || image.artifact_type.as_deref() == artifact_type);
    let manifests: Vec<Value> = wanted.map(|image| descriptor(image)).collect();
    Ok(json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests }))
}

fn descriptor(image: &Image) -> Value {
    let mut descriptor = json!({
        "mediaType": image.media_type,
        "digest": image.digest,
        "size": image.manifest.len(),
    });
    if let Some(kind) = &image.artifact_type {
        descriptor["artifactType"] = json!(kind);
    }
    let parsed = Manifest::parse(&image.manifest, Some(&image.media_type));
    if let Some(annotations) = parsed.ok().map(|m| m.annotations).filter(|a| !a.is_empty()) {
        descriptor["annotations"] = json!(annotations);
    }
    descriptor
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::ecr::Mutability;

    fn digest(n: u32) -> String {
        format!("sha256:{n:064x}")
    }

    fn repository(scope: &Scope, name: &str) -> Repository {
        Repository {
            scope: scope.clone(),
            name: name.into(),
            mutability: Mutability { mode: "MUTABLE".into(), exclusions: Vec::new() },
            scan_on_push: false,
            policy: None,
            lifecycle_policy: None,
            tags: Vec::new(),
            created_at_ms: 0,
        }
    }

    fn world() -> (Tx, Scope) {
        let scope = Scope::new("000000000000", "us-east-1");
        let mut tx = Tx::new(Snapshot::default());
        tx.put(repository(&scope, "app"));
        tx.put(repository(&scope, "app/two"));
        (tx, scope)
    }

    #[test]
    fn a_blob_is_mounted_within_the_account_only() {
        let (mut tx, scope) = world();
        let other = Scope::new("111111111111", "us-east-1");
        tx.put(repository(&other, "app"));
        images::link(&mut tx, &scope, "app", &digest(1), 7, 0);
        let foreign = At { scope: &other, name: "app" };
        assert_eq!(mount(&mut tx, foreign, &digest(1), 5), Ok(false));
        assert_eq!(blob(tx.snapshot(), foreign, &digest(1), 5), Err(Error::no_blob(&digest(1))));
        let own = At { scope: &scope, name: "app/two" };
        assert_eq!(mount(&mut tx, own, &digest(1), 5), Ok(true));
        assert_eq!(blob(tx.snapshot(), own, &digest(1), 5), Ok((7, false)));
        let absent = At { scope: &scope, name: "nope" };
        assert_eq!(mount(&mut tx, absent, &digest(1), 5).unwrap_err().code, "NAME_UNKNOWN");
    }

    #[test]
    fn promises_are_renewed_now_and_then() {
        let (mut tx, scope) = world();
        let at = At { scope: &scope, name: "app" };
        images::link(&mut tx, &scope, "app", &digest(1), 7, 0);
        assert_eq!(blob(tx.snapshot(), at, &digest(1), PROMISE_MS - 1), Ok((7, false)));
        assert_eq!(blob(tx.snapshot(), at, &digest(1), PROMISE_MS), Ok((7, true)));
        promise(&mut tx, at, &digest(1), PROMISE_MS).unwrap();
        assert_eq!(blob(tx.snapshot(), at, &digest(1), PROMISE_MS), Ok((7, false)));
    }

    #[test]
    fn an_upload_belongs_to_its_repository() {
        let (mut tx, scope) = world();
        let at = At { scope: &scope, name: "app" };
        begin_upload(&mut tx, at, "u1", 0).unwrap();
        let two = At { scope: &scope, name: "app/two" };
        assert_eq!(upload(tx.snapshot(), two, "u1").unwrap_err().code, "BLOB_UPLOAD_UNKNOWN");
        end_upload(&mut tx, at, "u1", Some((&digest(1), 3)), 9).unwrap();
        assert_eq!(blob(tx.snapshot(), at, &digest(1), 9), Ok((3, false)));
        assert_eq!(upload(tx.snapshot(), at, "u1").unwrap_err().code, "BLOB_UPLOAD_UNKNOWN");
    }

    #[test]
    fn windows_give_every_entry_once() {
        let all: Vec<String> = (0..20).map(|n| format!("t{n:02}")).collect();
        for n in 1..25 {
            let (mut seen, mut last) = (Vec::new(), None);
            loop {
                let (page, next) = Window { n: Some(n), last }.cut(all.iter().cloned());
                seen.extend(page);
                last = next;
                if last.is_none() {
                    break;
                }
            }
            assert_eq!(seen, all, "{n}");
        }
        assert_eq!(Window { n: Some(0), last: None }.cut(all.into_iter()), (vec![], None));
        assert!(Window::read(Some("x".into()), None).is_err());
    }

    #[test]
    fn referrers_are_listed_by_type() {
        let (mut tx, scope) = world();
        let at = At { scope: &scope, name: "app" };
        images::link(&mut tx, &scope, "app", &digest(1), 2, 0);
        let of = |kind: &str| {
            format!(
                r#"{{"schemaVersion":2,"artifactType":"{kind}","config":{{"mediaType":"c","digest":"{}","size":2}},
                "layers":[],"subject":{{"mediaType":"m","digest":"{}","size":9}},"annotations":{{"k":"{kind}"}}}}"#,
                digest(1),
                digest(50)
            )
        };
        put_manifest(&mut tx, at, &digest(2), (&of("sig"), &digest(2), None), 0).unwrap();
        put_manifest(&mut tx, at, "sbom", (&of("sbom"), &digest(3), None), 0).unwrap();
        let list = |kind| referrers(tx.snapshot(), at, &digest(50), kind).unwrap()["manifests"].clone();
        assert_eq!(list(None).as_array().unwrap().len(), 2);
        let sboms = list(Some("sbom"));
        assert_eq!(sboms[0]["digest"], digest(3));
        assert_eq!(sboms[0]["annotations"]["k"], "sbom");
        assert_eq!(sboms[0]["artifactType"], "sbom");
        assert_eq!(list(Some("x")), json!([]));
        let wrong = put_manifest(&mut tx, at, &digest(9), (&of("sig"), &digest(2), None), 0);
        assert_eq!(wrong.unwrap_err().code, "DIGEST_INVALID");
    }

    #[test]
    fn a_blob_of_an_image_is_not_deleted() {
        let (mut tx, scope) = world();
        let at = At { scope: &scope, name: "app" };
        images::link(&mut tx, &scope, "app", &digest(1), 2, 0);
        let text =
            format!(r#"{{"schemaVersion":2,"config":{{"digest":"{}","size":2}},"layers":[]}}"#, digest(1));
        put_manifest(&mut tx, at, "v1", (&text, &digest(2), None), 0).unwrap();
        assert_eq!(delete_blob(&mut tx, at, &digest(1)).unwrap_err().code, "UNSUPPORTED");
        delete_manifest(&mut tx, at, "v1").unwrap();
        assert_eq!(delete_manifest(&mut tx, at, "v1").unwrap_err().code, "MANIFEST_UNKNOWN");
        assert!(manifest(tx.snapshot(), at, &digest(2)).is_ok(), "untagged, not deleted");
        delete_manifest(&mut tx, at, &digest(2)).unwrap();
        assert_eq!(delete_blob(&mut tx, at, &digest(1)), Ok(()));
    }

    #[test]
    fn a_pull_is_recorded_once_a_day() {
        let (mut tx, scope) = world();
        let at = At { scope: &scope, name: "app" };
        images::link(&mut tx, &scope, "app", &digest(1), 2, 0);
        let text =
            format!(r#"{{"schemaVersion":2,"config":{{"digest":"{}","size":2}},"layers":[]}}"#, digest(1));
        put_manifest(&mut tx, at, "v1", (&text, &digest(2), None), 0).unwrap();
        for (now_ms, expect) in [(5, 5), (6, 5), (5 + PULL_RECORD_MS, 5 + PULL_RECORD_MS)] {
            record_pull(&mut tx, &at.key(&digest(2)), now_ms);
            assert_eq!(manifest(tx.snapshot(), at, "v1").unwrap().pulled_at_ms, Some(expect));
        }
    }
}
