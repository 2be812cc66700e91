//! ECR records: repositories, images, tags, the layers of each repository, and uploads under way.
//!
//! Image bytes are blobs and not control state. What is: which repository has which blob ([`LayerLink`]), so that
//! knowing a digest gives nobody the bytes of another account, and what names a blob, so that garbage can be told.
//! [`images`] is the one place that changes images and tags: the ECR API and the registry both go through it.

pub mod images;
pub mod manifest;

use serde::{Deserialize, Serialize};

use crate::record::Record;
use crate::{Scope, Tags, TimeMs};
use manifest::Descriptor;

/// A repository. Writer: the ECR handlers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Repository {
    /// Account (the registry's id) and region.
    pub scope: Scope,
    /// Its name, with slashes: `team/app`.
    pub name: String,
    /// Which tags may be moved.
    pub mutability: Mutability,
    /// `imageScanningConfiguration.scanOnPush`.
    pub scan_on_push: bool,
    /// The repository policy's text.
    pub policy: Option<String>,
    /// The lifecycle policy's text.
    pub lifecycle_policy: Option<String>,
    /// Tags of the repository itself.
    pub tags: Tags,
    /// When it was created.
    pub created_at_ms: TimeMs,
}

/// Which tags of a repository may be moved to another image ("Preventing image tags from being overwritten", ECR guide).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mutability {
    /// `MUTABLE`, `IMMUTABLE`, `MUTABLE_WITH_EXCLUSION` or `IMMUTABLE_WITH_EXCLUSION`.
    pub mode: String,
    /// Patterns (`*` = anything) of the tags for which the opposite holds; of the two `_WITH_EXCLUSION` modes.
    pub exclusions: Vec<String>,
}

impl Mutability {
    /// Whether a tag that exists may be moved.
    pub fn may_move(&self, tag: &str) -> bool {
        let excluded = self.exclusions.iter().any(|pattern| wildcard(pattern, tag));
        match self.mode.as_str() {
            "IMMUTABLE" => false,
            "IMMUTABLE_WITH_EXCLUSION" => excluded,
            "MUTABLE_WITH_EXCLUSION" => !excluded,
            _ => true,
        }
    }
}

/// Whether `text` matches a pattern in which `*` is any run of characters.
fn wildcard(pattern: &str, text: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut rest) = text.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = tail.split('*').collect();
    let last = parts.pop().unwrap_or("");
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

impl Repository {
    /// `arn:aws:ecr:…:repository/name`.
    pub fn arn(&self) -> String {
        self.scope.arn("ecr", &format!("repository/{}", self.name))
    }
}

impl Record for Repository {
    const TABLE: u8 = 40;
    fn key(&self) -> String {
        self.scope.key(&self.name)
    }
}

/// A manifest that a repository holds: an image, an index of images, or another artifact. Writer: [`images`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// Account and region.
    pub scope: Scope,
    /// The repository's name.
    pub repository: String,
    /// `sha256:` and 64 hexadecimal digits: the digest of `manifest`.
    pub digest: String,
    /// The manifest's media type.
    pub media_type: String,
    /// The manifest, byte for byte as it was pushed.
    pub manifest: String,
    /// The configuration blob, if the manifest has one.
    pub config: Option<Descriptor>,
    /// The layers, first to last.
    pub layers: Vec<Descriptor>,
    /// The manifests that it lists, if it is an index.
    pub children: Vec<Descriptor>,
    /// What kind of artifact it is: `artifactType`, else the configuration's media type.
    pub artifact_type: Option<String>,
    /// The digest of the manifest that it refers to (OCI 1.1 `subject`).
    pub subject: Option<String>,
    /// The repository asked for a scan when this was pushed.
    pub scan_requested: bool,
    /// When it was pushed last.
    pub pushed_at_ms: TimeMs,
    /// When it was pulled; written at most once a day.
    pub pulled_at_ms: Option<TimeMs>,
}

impl Image {
    /// The record key: `account/region/repository@digest`.
    pub fn key_of(scope: &Scope, repository: &str, digest: &str) -> String {
        scope.key(&format!("{repository}@{digest}"))
    }

    /// Blobs that must be in the repository for this to be whole; layers kept elsewhere are not among them.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.config.iter().chain(self.layers.iter().filter(|layer| !layer.is_foreign()))
    }

    /// Whether it is an index (a manifest list).
    pub fn is_index(&self) -> bool {
        manifest::is_index(&self.media_type)
    }
}

impl Record for Image {
    const TABLE: u8 = 41;
    fn key(&self) -> String {
        Self::key_of(&self.scope, &self.repository, &self.digest)
    }
    /// `blob`: the keys of the [`LayerLink`]s that it needs. `subject`, `child`: keys of the images it names.
    fn indexes(&self) -> Vec<(&'static str, String)> {
        let key = |digest: &str| Self::key_of(&self.scope, &self.repository, digest);
        let mut all: Vec<_> = self.blobs().map(|blob| ("blob", key(&blob.digest))).collect();
        all.extend(self.subject.iter().map(|subject| ("subject", key(subject))));
        all.extend(self.children.iter().map(|child| ("child", key(&child.digest))));
        all
    }
}

/// A tag of an image. Writer: [`images`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageTag {
    /// Account and region.
    pub scope: Scope,
    /// The repository's name.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// The digest of the image that it names.
    pub digest: String,
}

impl ImageTag {
    /// The record key: `account/region/repository:tag`.
    pub fn key_of(scope: &Scope, repository: &str, tag: &str) -> String {
        scope.key(&format!("{repository}:{tag}"))
    }
}

impl Record for ImageTag {
    const TABLE: u8 = 42;
    fn key(&self) -> String {
        Self::key_of(&self.scope, &self.repository, &self.tag)
    }
    /// `image`: the key of the image that it names.
    fn indexes(&self) -> Vec<(&'static str, String)> {
        vec![("image", Image::key_of(&self.scope, &self.repository, &self.digest))]
    }
}

/// A blob that was pushed to, or mounted into, a repository. Writers: the registry and the ECR layer handlers create it,
/// the registry's garbage collection removes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerLink {
    /// Account and region.
    pub scope: Scope,
    /// The repository's name.
    pub repository: String,
    /// The blob's digest.
    pub digest: String,
    /// The blob's size in bytes.
    pub size: u64,
    /// When a client was last told that it is there: it may rely on it for the grace period.
    pub promised_at_ms: TimeMs,
}

impl Record for LayerLink {
    const TABLE: u8 = 43;
    fn key(&self) -> String {
        Image::key_of(&self.scope, &self.repository, &self.digest)
    }
    /// `digest`: the blob.
    fn indexes(&self) -> Vec<(&'static str, String)> {
        vec![("digest", self.digest.clone())]
    }
}

/// An upload of a blob under way. Its bytes are with the blobs; this says whose it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerUpload {
    /// Account and region.
    pub scope: Scope,
    /// The repository's name.
    pub repository: String,
    /// The upload's id.
    pub id: String,
    /// Bytes taken in through UploadLayerPart (the registry asks the blobs instead).
    pub received: u64,
    /// A part before the last was smaller than a part may be (UploadLayerPart).
    pub part_too_small: bool,
    /// The last part was smaller than a part that is not the last may be (UploadLayerPart).
    pub last_part_small: bool,
    /// When it began.
    pub started_at_ms: TimeMs,
}

impl LayerUpload {
    /// An upload that begins now.
    pub fn new(scope: &Scope, repository: &str, id: String, now_ms: TimeMs) -> LayerUpload {
        LayerUpload {
            scope: scope.clone(),
            repository: repository.to_owned(),
            id,
            received: 0,
            part_too_small: false,
            last_part_small: false,
            started_at_ms: now_ms,
        }
    }

    /// The record key: `account/region/repository#id`.
    pub fn key_of(scope: &Scope, repository: &str, id: &str) -> String {
        scope.key(&format!("{repository}#{id}"))
    }
}

impl Record for LayerUpload {
    const TABLE: u8 = 44;
    fn key(&self) -> String {
        Self::key_of(&self.scope, &self.repository, &self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_as_in_a_shell() {
        for (pattern, text, expect) in [
            ("latest", "latest", true),
            ("latest", "latest2", false),
            ("dev-*", "dev-1", true),
            ("dev-*", "dev", false),
            ("*", "", true),
            ("*-rc*", "v1-rc2", true),
            ("a*b*c", "abbc", true),
            ("a*b*c", "ac", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(wildcard(pattern, text), expect, "{pattern} {text}");
        }
    }

    #[test]
    fn modes_say_which_tags_move() {
        let of = |mode: &str, tag: &str| {
            Mutability { mode: mode.into(), exclusions: vec!["dev*".into()] }.may_move(tag)
        };
        assert!(of("MUTABLE", "v1") && !of("IMMUTABLE", "dev"));
        assert!(of("IMMUTABLE_WITH_EXCLUSION", "dev1") && !of("IMMUTABLE_WITH_EXCLUSION", "v1"));
        assert!(!of("MUTABLE_WITH_EXCLUSION", "dev1") && of("MUTABLE_WITH_EXCLUSION", "v1"));
    }
}
