//! Manifests and configurations of images, as the registry takes them and as the node's agent reads them.

use agent::act::image::manifest::{self as pulled, Document};
use state::ecr::manifest::{Manifest, is_digest, is_index};

/// Takes a manifest's text. What the registry takes, the agent reads, and the two see the same.
pub fn manifest(bytes: &[u8]) {
    let read = pulled::parse(bytes);
    if let Ok(Document::Index(manifests)) = &read {
        for architecture in ["amd64", "arm64"] {
            if let Ok(chosen) = pulled::choose(manifests, architecture) {
                assert!(manifests.contains(chosen));
            }
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(stored) = Manifest::parse(text, None) else { return };
    let described = stored.config.iter().chain(&stored.layers).chain(&stored.children);
    assert!(described.clone().all(|descriptor| is_digest(&descriptor.digest)), "{text}");
    assert!(stored.subject.as_deref().is_none_or(is_digest), "{text}");
    assert_eq!(Manifest::parse(text, Some(&stored.media_type)).as_ref(), Ok(&stored), "{text}");
    assert_eq!(is_index(&stored.media_type), stored.config.is_none(), "{text}");
    match read {
        Ok(Document::Index(manifests)) => {
            assert!(is_index(&stored.media_type), "{text}");
            let digests = manifests.iter().map(|descriptor| &descriptor.digest);
            assert!(digests.eq(stored.children.iter().map(|descriptor| &descriptor.digest)), "{text}");
        }
        Ok(Document::Image { config, layers }) => {
            let digests = std::iter::once(&config).chain(&layers).map(|descriptor| &descriptor.digest);
            let ours = stored.config.iter().chain(&stored.layers).map(|descriptor| &descriptor.digest);
            assert!(digests.eq(ours), "{text}");
        }
        Err(error) => panic!("the registry takes what the agent does not read: {error:?}: {text}"),
    }
}

/// Takes an image's configuration.
pub fn config(bytes: &[u8]) {
    let Ok((config, _, _)) = pulled::parse_config(bytes) else { return };
    if let Some(signal) = config.stop_signal_number() {
        assert!((1..=64).contains(&signal), "{}: {signal}", config.stop_signal);
    }
    // It is noted with the task, and read again after a restart.
    let noted = serde_json::to_vec(&config).expect("a configuration is JSON");
    assert_eq!(serde_json::from_slice::<agent::act::image::ImageConfig>(&noted).ok(), Some(config));
}
