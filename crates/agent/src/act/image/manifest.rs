//! Manifests, indexes and configurations, of Docker's and the OCI's kind alike.

use serde::Deserialize;

use super::{ImageConfig, PullError};

/// Points at bytes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// `sha256:…`.
    pub digest: String,
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
    #[serde(default)]
    variant: Option<String>,
}

/// A manifest, or the index that lists them.
#[derive(Debug, PartialEq, Eq)]
pub enum Document {
    /// Manifests for several platforms.
    Index(Vec<Descriptor>),
    /// One image.
    Image {
        /// Its configuration.
        config: Descriptor,
        /// Its layers, lowest first.
        layers: Vec<Descriptor>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    schema_version: i64,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

/// Reads a manifest or an index.
///
/// # Errors
/// When it is neither.
pub fn parse(bytes: &[u8]) -> Result<Document, PullError> {
    let raw: Raw = serde_json::from_slice(bytes)
        .map_err(|err| PullError::Other(format!("failed to read the image's manifest: {err}")))?;
    match raw {
        Raw { manifests: Some(manifests), .. } => Ok(Document::Index(manifests)),
        Raw { config: Some(config), layers: Some(layers), .. } => Ok(Document::Image { config, layers }),
        Raw { schema_version: 1, .. } => {
            Err(PullError::Other("the image's manifest has schema version 1, which is not supported".into()))
        }
        _ => Err(PullError::Other("the image's manifest is neither an image nor an index".into())),
    }
}

/// The manifest of an index for a platform.
///
/// # Errors
/// ECS's words when there is none.
pub fn choose<'a>(manifests: &'a [Descriptor], architecture: &str) -> Result<&'a Descriptor, PullError> {
    let fits = |platform: &Platform| {
        let variant = platform.variant.as_deref().unwrap_or_default();
        // arm64 is v8; other variants of it need newer processors.
        platform.os == "linux" && platform.architecture == architecture && ["", "v8"].contains(&variant)
    };
    manifests.iter().find(|m| m.platform.as_ref().is_some_and(fits)).ok_or_else(|| {
        PullError::Other(format!(
            "image Manifest does not contain descriptor matching platform 'linux/{architecture}'"
        ))
    })
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(default)]
    architecture: String,
    config: Option<RawRun>,
    rootfs: Option<RawRootfs>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RawRun {
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    stop_signal: Option<String>,
}

#[derive(Deserialize)]
struct RawRootfs {
    diff_ids: Vec<String>,
}

/// Reads an image's configuration: what to run, the digests of its unpacked layers, its architecture.
///
/// # Errors
/// When it is not one.
pub fn parse_config(bytes: &[u8]) -> Result<(ImageConfig, Vec<String>, String), PullError> {
    let raw: RawConfig = serde_json::from_slice(bytes)
        .map_err(|err| PullError::Other(format!("failed to read the image's configuration: {err}")))?;
    let diff_ids = raw.rootfs.map(|r| r.diff_ids).unwrap_or_default();
    let run = raw.config.unwrap_or_default();
    let config = ImageConfig {
        env: run.env.unwrap_or_default(),
        entrypoint: run.entrypoint.unwrap_or_default(),
        cmd: run.cmd.unwrap_or_default(),
        working_dir: run.working_dir.unwrap_or_default(),
        user: run.user.unwrap_or_default(),
        stop_signal: run.stop_signal.unwrap_or_default(),
    };
    Ok((config, diff_ids, raw.architecture))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_searched_for_the_platform() {
        let index = br#"{"schemaVersion":2,"manifests":[
            {"digest":"sha256:a","mediaType":"m","platform":{"architecture":"arm64","os":"linux","variant":"v8"}},
            {"digest":"sha256:b","mediaType":"m","platform":{"architecture":"amd64","os":"windows"}},
            {"digest":"sha256:c","mediaType":"m","platform":{"architecture":"amd64","os":"linux"}}]}"#;
        let Document::Index(manifests) = parse(index).unwrap() else { panic!("not an index") };
        assert_eq!(choose(&manifests, "amd64").unwrap().digest, "sha256:c");
        assert_eq!(choose(&manifests, "arm64").unwrap().digest, "sha256:a");
        let none = choose(&manifests, "riscv64").unwrap_err();
        let text = "image Manifest does not contain descriptor matching platform 'linux/riscv64'";
        assert_eq!(none, PullError::Other(text.into()));
    }

    #[test]
    fn configurations_may_leave_things_out() {
        let (config, diff_ids, architecture) = parse_config(
            br#"{"architecture":"amd64","config":{"Env":["A=1"],"Cmd":null,"StopSignal":"SIGQUIT"},
                "rootfs":{"type":"layers","diff_ids":["sha256:1"]}}"#,
        )
        .unwrap();
        assert_eq!((config.env.len(), config.cmd.len(), diff_ids.len()), (1, 0, 1));
        assert_eq!((config.stop_signal_number(), architecture.as_str()), (Some(3), "amd64"));
        assert!(parse_config(b"[]").is_err());
        assert!(parse(b"{}").is_err());
    }
}
