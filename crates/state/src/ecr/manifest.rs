//! Reads manifests: Docker's schema 2 and list, OCI's image manifest and index (OCI Image Format 1.1).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Docker "Image Manifest Version 2, Schema 2".
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// OCI image manifest; also of artifacts.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The most a manifest may have, bytes.
pub const MANIFEST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Whether a media type is that of an index.
pub fn is_index(media_type: &str) -> bool {
    media_type == DOCKER_LIST || media_type == OCI_INDEX
}

/// Whether a text is a digest that we use: `sha256:` and 64 lower-case hexadecimal digits.
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

/// Whether a text is a tag ("pull" in the OCI Distribution Specification).
pub fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// Whether a text is a repository name as ECR takes it: 2 to 256 characters, parts of lower-case letters and digits
/// joined by `.`, `_`, `__` or dashes, separated by slashes.
pub fn is_repository_name(name: &str) -> bool {
    (2..=256).contains(&name.len()) && name.split('/').all(is_name_part)
}

fn is_name_part(part: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let separators =
        part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).filter(|s| !s.is_empty());
    part.bytes().next().is_some_and(alphanumeric)
        && part.bytes().last().is_some_and(alphanumeric)
        && separators.into_iter().all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

/// A blob or manifest as another manifest names it (OCI "Content Descriptors").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: String,
    /// Its size in bytes.
    pub size: u64,
    /// For which machine, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Where its bytes are instead of in the registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
}

impl Descriptor {
    /// Whether its bytes need not be in the registry (Docker's "foreign", OCI's "non-distributable" layers).
    pub fn is_foreign(&self) -> bool {
        !self.urls.is_empty()
            || self.media_type.contains(".foreign.")
            || self.media_type.contains(".nondistributable.")
    }
}

/// The machine that an image is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// `v8`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// What a manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its media type.
    pub media_type: String,
    /// The configuration.
    pub config: Option<Descriptor>,
    /// The layers, first to last.
    pub layers: Vec<Descriptor>,
    /// The manifests that it lists.
    pub children: Vec<Descriptor>,
    /// `artifactType`, else the configuration's media type.
    pub artifact_type: Option<String>,
    /// The digest of the manifest that it refers to.
    pub subject: Option<String>,
    /// Annotations of the manifest itself.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u64,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    artifact_type: Option<String>,
    subject: Option<Descriptor>,
    annotations: Option<BTreeMap<String, String>>,
}

impl Manifest {
    /// Reads a manifest. `declared` is the media type given beside it (`Content-Type`, `imageManifestMediaType`).
    /// The error is for people and names what is wrong.
    pub fn parse(text: &str, declared: Option<&str>) -> Result<Manifest, String> {
        if text.len() > MANIFEST_BYTES_MAX {
            return Err(format!("the manifest has {} bytes, more than {MANIFEST_BYTES_MAX}", text.len()));
        }
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|_| "Invalid JSON syntax".to_owned())?;
        if value.get("schemaVersion").and_then(|v| v.as_u64()) == Some(1) {
            return Err("manifests of schema version 1 are not supported".into());
        }
        // From the text: of a key that is given twice, readers would take the one or the other.
        let document: Document = serde_json::from_str(text).map_err(|e| format!("not a manifest: {e}"))?;
        if document.schema_version != 2 {
            return Err(format!("schemaVersion is {}, not 2", document.schema_version));
        }
        let media_type = document.kind(declared)?;
        let (config, layers, children) = document.content(&media_type)?;
        let all = config.iter().chain(&layers).chain(&children).chain(&document.subject);
        for descriptor in all {
            if !is_digest(&descriptor.digest) {
                return Err(format!("'{}' is not a sha256 digest", descriptor.digest));
            }
        }
        let artifact_type =
            document.artifact_type.or_else(|| config.as_ref().map(|config| config.media_type.clone()));
        Ok(Manifest {
            media_type,
            config,
            layers,
            children,
            artifact_type,
            subject: document.subject.map(|subject| subject.digest),
            annotations: document.annotations.unwrap_or_default(),
        })
    }
}

type Content = (Option<Descriptor>, Vec<Descriptor>, Vec<Descriptor>);

impl Document {
    /// The media type, from what was declared and what the document says, which must agree.
    fn kind(&self, declared: Option<&str>) -> Result<String, String> {
        let media_type = match (declared, self.media_type.as_deref()) {
            (Some(declared), Some(inside)) if declared != inside => {
                return Err(format!(
                    "the media type given is '{declared}', the manifest's own is '{inside}'"
                ));
            }
            (Some(kind), _) | (None, Some(kind)) => kind,
            // OCI documents need not say what they are.
            (None, None) if self.manifests.is_some() => OCI_INDEX,
            (None, None) => OCI_MANIFEST,
        };
        match media_type {
            DOCKER_MANIFEST | DOCKER_LIST | OCI_MANIFEST | OCI_INDEX => Ok(media_type.to_owned()),
            other => Err(format!("manifests of media type '{other}' are not supported")),
        }
    }

    /// Configuration, layers and children. A document that is both an image and an index could be taken for either, so
    /// it is refused.
    fn content(&self, media_type: &str) -> Result<Content, String> {
        if is_index(media_type) {
            if self.layers.is_some() || self.config.is_some() {
                return Err("an index has neither 'config' nor 'layers'".into());
            }
            return Ok((None, Vec::new(), self.manifests.clone().ok_or("'manifests' is missing")?));
        }
        if self.manifests.is_some() {
            return Err("an image manifest has no 'manifests'".into());
        }
        let config = self.config.clone().ok_or("'config' is missing")?;
        Ok((Some(config), self.layers.clone().ok_or("'layers' is missing")?, Vec::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    #[test]
    fn names_are_as_the_model_says() {
        for good in ["ab", "a/b", "team/app-1", "a__b", "a--b", "0.1", "a-b.c_d/e"] {
            assert!(is_repository_name(good), "{good}");
        }
        for bad in [
            "", "a", "A/b", "a//b", "/ab", "ab/", "-ab", "ab-", "a..b", "a___b", "a.-b", "ab:c", "a b",
            "../x",
        ] {
            assert!(!is_repository_name(bad), "{bad}");
        }
    }

    #[test]
    fn tags_and_digests() {
        assert!(is_tag("v1.0_x-y") && is_tag("_a") && is_tag(&"a".repeat(128)));
        assert!(!is_tag("") && !is_tag(".a") && !is_tag("-a") && !is_tag("a:b") && !is_tag(&"a".repeat(129)));
        assert!(
            is_digest(A) && !is_digest(&A.to_uppercase()) && !is_digest("sha256:aa") && !is_digest("../../x")
        );
    }

    #[test]
    fn reads_what_clients_push() {
        let image = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"x/config","digest":"{A}","size":2}},
                "layers":[{{"mediaType":"l","digest":"{A}","size":3}}],"subject":{{"mediaType":"m","digest":"{A}","size":1}}}}"#
        );
        let read = Manifest::parse(&image, None).unwrap();
        assert_eq!(read.media_type, OCI_MANIFEST);
        assert_eq!((read.layers.len(), read.subject.as_deref()), (1, Some(A)));
        assert_eq!(read.artifact_type.as_deref(), Some("x/config"));
        assert_eq!(Manifest::parse(&image, Some(DOCKER_MANIFEST)).unwrap().media_type, DOCKER_MANIFEST);
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{OCI_MANIFEST}","digest":"{A}","size":3,
                "platform":{{"architecture":"arm64","os":"linux"}}}}]}}"#
        );
        let read = Manifest::parse(&index, None).unwrap();
        assert_eq!((read.media_type.as_str(), read.children.len()), (OCI_INDEX, 1));
    }

    #[test]
    fn says_what_is_wrong() {
        let check = |text: &str, declared: Option<&str>, expect: &str| {
            let wrong = Manifest::parse(text, declared).unwrap_err();
            assert!(wrong.contains(expect), "{text}: {wrong}");
        };
        check("{", None, "Invalid JSON syntax");
        check("[]", None, "not a manifest");
        let twice = format!(r#"{{"digest":"{A}","size":1,"digest":"{A}"}}"#);
        let twice = format!(r#"{{"schemaVersion":2,"config":{twice},"layers":[]}}"#);
        check(&twice, None, "duplicate field");
        check(r#"{"schemaVersion":2,"layers":[],"layers":[]}"#, None, "duplicate field");
        check(r#"{"schemaVersion":1}"#, None, "schema version 1");
        check(r#"{"schemaVersion":2}"#, None, "'config' is missing");
        check(r#"{"schemaVersion":2}"#, Some(OCI_INDEX), "'manifests' is missing");
        check(r#"{"schemaVersion":2}"#, Some("text/plain"), "text/plain");
        check(r#"{"schemaVersion":2,"mediaType":"a"}"#, Some(OCI_INDEX), "the manifest's own is 'a'");
        check(r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#, None, "neither");
        check(
            r#"{"schemaVersion":2,"config":{"digest":"sha256:1","size":1},"layers":[]}"#,
            None,
            "'sha256:1' is not a sha256 digest",
        );
    }
}
