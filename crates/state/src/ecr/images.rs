//! How images and tags of a repository change: the rules that the ECR API and the registry share.

use std::sync::Arc;

use super::manifest::Manifest;
use super::{Image, ImageTag, LayerLink, LayerUpload, Repository};
use crate::{HasTable, Record, Scope, Snapshot, TimeMs, Tx};

/// Why a push or a deletion is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageError {
    /// There is no such repository.
    RepositoryUnknown,
    /// The manifest is not one that we take; the text says why.
    ManifestInvalid(String),
    /// Blobs that it names are not in the repository.
    BlobsUnknown(Vec<String>),
    /// Manifests that it lists are not in the repository.
    ManifestsUnknown(Vec<String>),
    /// The tag names another image and may not be moved.
    TagImmutable,
    /// There is no such image or tag.
    ImageUnknown,
    /// Indexes list the image; they are named.
    ListedBy(Vec<String>),
}

/// A manifest to store.
#[derive(Debug, Clone, Copy)]
pub struct Push<'a> {
    /// Account and region.
    pub scope: &'a Scope,
    /// The repository's name.
    pub repository: &'a str,
    /// The manifest, byte for byte.
    pub manifest: &'a str,
    /// Its digest, computed by the caller from the bytes.
    pub digest: &'a str,
    /// The media type given beside it.
    pub media_type: Option<&'a str>,
    /// The tag to give it.
    pub tag: Option<&'a str>,
    /// Now.
    pub now_ms: TimeMs,
}

/// A stored manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Pushed {
    /// The image.
    pub image: Arc<Image>,
    /// Image and tag were there already: nothing changed.
    pub unchanged: bool,
}

/// Stores a manifest, and tags it. All that it names must be in the repository; only a `subject` may come later.
pub fn push(tx: &mut Tx, push: Push<'_>) -> Result<Pushed, ImageError> {
    let repository =
        tx.get::<Repository>(&push.scope.key(push.repository)).ok_or(ImageError::RepositoryUnknown)?;
    let manifest = Manifest::parse(push.manifest, push.media_type).map_err(ImageError::ManifestInvalid)?;
    let image = Image {
        scope: push.scope.clone(),
        repository: push.repository.to_owned(),
        digest: push.digest.to_owned(),
        media_type: manifest.media_type,
        manifest: push.manifest.to_owned(),
        config: manifest.config,
        layers: manifest.layers,
        children: manifest.children,
        artifact_type: manifest.artifact_type,
        subject: manifest.subject,
        scan_requested: repository.scan_on_push,
        pushed_at_ms: push.now_ms,
        pulled_at_ms: None,
    };
    is_whole(tx, &image)?;
    let tagged =
        push.tag.and_then(|tag| tx.get::<ImageTag>(&ImageTag::key_of(push.scope, push.repository, tag)));
    let moves = tagged.as_ref().is_some_and(|tagged| tagged.digest != push.digest);
    if moves && !push.tag.is_some_and(|tag| repository.mutability.may_move(tag)) {
        return Err(ImageError::TagImmutable);
    }
    let key = Image::key_of(push.scope, push.repository, push.digest);
    let known = tx.get::<Image>(&key);
    let tag_stays = push.tag.is_none() || tagged.is_some_and(|tagged| tagged.digest == push.digest);
    if let Some(known) = known.as_ref().filter(|known| tag_stays && known.media_type == image.media_type) {
        return Ok(Pushed { image: known.clone(), unchanged: true });
    }
    let pulled_at_ms = known.and_then(|known| known.pulled_at_ms);
    tx.put(Image { pulled_at_ms, ..image });
    if let Some(tag) = push.tag {
        tx.put(ImageTag {
            scope: push.scope.clone(),
            repository: push.repository.to_owned(),
            tag: tag.to_owned(),
            digest: push.digest.to_owned(),
        });
    }
    let image = tx.get::<Image>(&key).ok_or(ImageError::ImageUnknown)?;
    Ok(Pushed { image, unchanged: false })
}

/// Refuses an image of which a part is not in its repository.
fn is_whole(tx: &Tx, image: &Image) -> Result<(), ImageError> {
    let key = |digest: &str| Image::key_of(&image.scope, &image.repository, digest);
    let mut missing = Vec::new();
    for blob in image.blobs() {
        match tx.get::<LayerLink>(&key(&blob.digest)) {
            None => missing.push(blob.digest.clone()),
            Some(link) if link.size != blob.size => {
                return Err(ImageError::ManifestInvalid(format!(
                    "the size of {} is {}, not {}",
                    blob.digest, link.size, blob.size
                )));
            }
            Some(_) => {}
        }
    }
    if !missing.is_empty() {
        return Err(ImageError::BlobsUnknown(missing));
    }
    let unknown = |child: &&super::manifest::Descriptor| tx.get::<Image>(&key(&child.digest)).is_none();
    let missing: Vec<String> = image.children.iter().filter(unknown).map(|c| c.digest.clone()).collect();
    if missing.is_empty() { Ok(()) } else { Err(ImageError::ManifestsUnknown(missing)) }
}

/// The image that a tag or a digest names.
pub fn find(snapshot: &Snapshot, scope: &Scope, repository: &str, reference: &str) -> Option<Arc<Image>> {
    let digest = if reference.contains(':') {
        reference
    } else {
        &snapshot.image_tags.get(&ImageTag::key_of(scope, repository, reference))?.digest
    };
    snapshot.images.get(&Image::key_of(scope, repository, digest)).cloned()
}

/// The tags of an image, sorted.
pub fn tags_of(snapshot: &Snapshot, image: &Image) -> Vec<String> {
    let key = Image::key_of(&image.scope, &image.repository, &image.digest);
    snapshot.image_tags.by_index("image", &key).map(|tag| tag.tag.clone()).collect()
}

/// All images of a repository, by digest.
pub fn in_repository(snapshot: &Snapshot, scope: &Scope, repository: &str) -> Vec<Arc<Image>> {
    let prefix = scope.key(&format!("{repository}@"));
    snapshot.images.scan(&prefix).map(|(_, image)| image.clone()).collect()
}

/// Takes a tag off; the digest of the image that it named.
pub fn untag(tx: &mut Tx, scope: &Scope, repository: &str, tag: &str) -> Result<String, ImageError> {
    let key = ImageTag::key_of(scope, repository, tag);
    let digest = tx.get::<ImageTag>(&key).ok_or(ImageError::ImageUnknown)?.digest.clone();
    tx.delete::<ImageTag>(&key);
    Ok(digest)
}

/// Deletes an image with its tags, which it answers. One that an index lists stays ("Deleting an image", ECR guide).
pub fn delete(tx: &mut Tx, scope: &Scope, repository: &str, digest: &str) -> Result<Vec<String>, ImageError> {
    let key = Image::key_of(scope, repository, digest);
    let image = tx.get::<Image>(&key).ok_or(ImageError::ImageUnknown)?;
    let lists: Vec<String> =
        tx.table::<Image>().by_index("child", &key).map(|list| list.digest.clone()).collect();
    if !lists.is_empty() {
        return Err(ImageError::ListedBy(lists));
    }
    let tags = tags_of(tx.snapshot(), &image);
    for tag in &tags {
        tx.delete::<ImageTag>(&ImageTag::key_of(scope, repository, tag));
    }
    tx.delete::<Image>(&key);
    Ok(tags)
}

/// Deletes a repository and all in it; false if there was none. Bytes that nothing names any more are garbage.
pub fn delete_repository(tx: &mut Tx, scope: &Scope, repository: &str) -> bool {
    if !tx.delete::<Repository>(&scope.key(repository)) {
        return false;
    }
    delete_all::<Image>(tx, &scope.key(&format!("{repository}@")));
    delete_all::<ImageTag>(tx, &scope.key(&format!("{repository}:")));
    delete_all::<LayerLink>(tx, &scope.key(&format!("{repository}@")));
    delete_all::<LayerUpload>(tx, &scope.key(&format!("{repository}#")));
    true
}

fn delete_all<T: Record>(tx: &mut Tx, prefix: &str)
where
    Snapshot: HasTable<T>,
{
    let keys: Vec<String> = tx.table::<T>().scan(prefix).map(|(key, _)| key.to_owned()).collect();
    for key in keys {
        tx.delete::<T>(&key);
    }
}

/// Says that a blob is in a repository; promised from now on for the grace period of garbage collection.
pub fn link(tx: &mut Tx, scope: &Scope, repository: &str, digest: &str, size: u64, now_ms: TimeMs) {
    tx.put(LayerLink {
        scope: scope.clone(),
        repository: repository.to_owned(),
        digest: digest.to_owned(),
        size,
        promised_at_ms: now_ms,
    });
}

/// Whether an image of the repository names the blob.
pub fn is_named(snapshot: &Snapshot, link: &LayerLink) -> bool {
    let key = Image::key_of(&link.scope, &link.repository, &link.digest);
    snapshot.images.by_index("blob", &key).next().is_some()
}

#[cfg(test)]
mod tests {
    use super::super::Mutability;
    use super::*;

    fn digest(n: u32) -> String {
        format!("sha256:{n:064x}")
    }

    fn world(mode: &str) -> (Tx, Scope) {
        let scope = Scope::new("000000000000", "us-east-1");
        let mut tx = Tx::new(Snapshot::default());
        tx.put(Repository {
            scope: scope.clone(),
            name: "app".into(),
            mutability: Mutability { mode: mode.into(), exclusions: vec!["dev*".into()] },
            scan_on_push: false,
            policy: None,
            lifecycle_policy: None,
            tags: Vec::new(),
            created_at_ms: 0,
        });
        link(&mut tx, &scope, "app", &digest(1), 10, 0);
        link(&mut tx, &scope, "app", &digest(2), 20, 0);
        (tx, scope)
    }

    fn image(config: u32, layer: u32) -> String {
        format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{}","size":10}},"layers":[{{"digest":"{}","size":20}}]}}"#,
            digest(config),
            digest(layer)
        )
    }

    fn put(tx: &mut Tx, scope: &Scope, text: &str, at: u32, tag: Option<&str>) -> Result<bool, ImageError> {
        let request = Push {
            scope,
            repository: "app",
            manifest: text,
            digest: &digest(at),
            media_type: None,
            tag,
            now_ms: 5,
        };
        push(tx, request).map(|pushed| pushed.unchanged)
    }

    #[test]
    fn a_push_is_whole_or_refused() {
        let (mut tx, scope) = world("MUTABLE");
        assert_eq!(
            put(&mut tx, &scope, &image(1, 3), 9, None),
            Err(ImageError::BlobsUnknown(vec![digest(3)]))
        );
        assert!(matches!(put(&mut tx, &scope, &image(2, 2), 9, None), Err(ImageError::ManifestInvalid(_))));
        assert_eq!(put(&mut tx, &scope, &image(1, 2), 9, Some("v1")), Ok(false));
        assert_eq!(put(&mut tx, &scope, &image(1, 2), 9, Some("v1")), Ok(true));
        assert_eq!(put(&mut tx, &scope, &image(1, 2), 9, Some("v2")), Ok(false));
        assert_eq!(find(tx.snapshot(), &scope, "app", "v2").unwrap().digest, digest(9));
        assert_eq!(find(tx.snapshot(), &scope, "app", &digest(9)).unwrap().digest, digest(9));
        let index =
            |at| format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{}","size":1}}]}}"#, digest(at));
        assert_eq!(
            put(&mut tx, &scope, &index(8), 10, None),
            Err(ImageError::ManifestsUnknown(vec![digest(8)]))
        );
        assert_eq!(put(&mut tx, &scope, &index(9), 10, None), Ok(false));
        assert_eq!(delete(&mut tx, &scope, "app", &digest(9)), Err(ImageError::ListedBy(vec![digest(10)])));
        assert_eq!(delete(&mut tx, &scope, "app", &digest(10)), Ok(vec![]));
        assert_eq!(delete(&mut tx, &scope, "app", &digest(9)), Ok(vec!["v1".into(), "v2".into()]));
        assert_eq!(find(tx.snapshot(), &scope, "app", "v1"), None);
    }

    #[test]
    fn an_immutable_tag_stays() {
        let (mut tx, scope) = world("IMMUTABLE_WITH_EXCLUSION");
        for tag in ["v1", "dev1"] {
            assert_eq!(put(&mut tx, &scope, &image(1, 2), 9, Some(tag)), Ok(false));
            assert_eq!(
                put(&mut tx, &scope, &image(1, 2), 9, Some(tag)),
                Ok(true),
                "the same again is no change"
            );
        }
        let other = format!("{} ", image(1, 2));
        assert_eq!(put(&mut tx, &scope, &other, 11, Some("v1")), Err(ImageError::TagImmutable));
        assert_eq!(put(&mut tx, &scope, &other, 11, Some("dev1")), Ok(false));
        assert_eq!(find(tx.snapshot(), &scope, "app", "v1").unwrap().digest, digest(9));
    }

    #[test]
    fn a_deleted_repository_leaves_nothing_and_takes_nothing_else() {
        let (mut tx, scope) = world("MUTABLE");
        put(&mut tx, &scope, &image(1, 2), 9, Some("v1")).unwrap();
        tx.put(LayerUpload::new(&scope, "app", "u".into(), 0));
        link(&mut tx, &scope, "app/two", &digest(1), 10, 0);
        assert!(delete_repository(&mut tx, &scope, "app"));
        let state = tx.snapshot();
        assert!(state.images.is_empty() && state.image_tags.is_empty() && state.layer_uploads.is_empty());
        assert_eq!(state.layer_links.len(), 1);
        assert!(!delete_repository(&mut tx, &scope, "app"));
    }

    #[test]
    fn a_blob_is_named_by_images_of_its_own_repository() {
        let (mut tx, scope) = world("MUTABLE");
        put(&mut tx, &scope, &image(1, 2), 9, None).unwrap();
        link(&mut tx, &scope, "app2", &digest(1), 10, 0);
        let of = |repository: &str| {
            let key = Image::key_of(&scope, repository, &digest(1));
            is_named(tx.snapshot(), tx.snapshot().layer_links.get(&key).unwrap())
        };
        assert!(of("app") && !of("app2"));
    }
}
