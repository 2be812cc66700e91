//! Our own registry as the agent's source of images: manifests from the control state, layers from the blobs' own files.

use std::sync::Arc;

use agent::act::image::{Answer, Blob, ImageSource, ManifestBytes, PullError, PullScope, Reference};
use state::ecr::{Image, images};
use state::{Db, Scope};
use store::blobs::Blobs;

use crate::clock::now_ms;

/// Images of our own registry.
pub struct OwnImages {
    db: Arc<Db>,
    blobs: Arc<Blobs>,
}

impl OwnImages {
    /// Over the control state and the blobs.
    pub fn new(db: Arc<Db>, blobs: Arc<Blobs>) -> OwnImages {
        OwnImages { db, blobs }
    }

    fn find(
        &self,
        reference: &Reference,
        digest: Option<&str>,
        scope: &PullScope,
    ) -> Result<Arc<Image>, PullError> {
        let place = place(reference, scope)?;
        let state = self.db.snapshot();
        let name = &reference.repository;
        if state.repositories.get(&place.key(name)).is_none() {
            let account = &place.account;
            let why = format!(
                "failed to resolve ref {reference}: the repository with name '{name}' does not exist in the registry \
                 with id '{account}'"
            );
            return Err(PullError::Other(why));
        }
        let selector = digest.unwrap_or_else(|| reference.selector());
        images::find(&state, &place, name, selector).ok_or_else(|| PullError::NotFound(reference.to_string()))
    }

    /// Records the pull beside it: no pull waits for a write that only tells of it.
    fn record_pull(&self, image: Arc<Image>) {
        let db = self.db.clone();
        tokio::spawn(async move { registry::record_pull(&db, &image, now_ms()).await });
    }
}

/// Whose registry a reference means: an ECR host name says it, `localhost` is the task's own account and region.
fn place(reference: &Reference, scope: &PullScope) -> Result<Scope, PullError> {
    let Some((account, region)) = reference.ecr_account_and_region() else {
        return Ok(Scope::new(&scope.account, &scope.region));
    };
    match account == scope.account {
        true => Ok(Scope::new(account, region)),
        false => Err(PullError::Denied(format!(
            "pull access denied for {reference}: the registry with id '{account}' is closed to account {}",
            scope.account
        ))),
    }
}

impl ImageSource for OwnImages {
    fn manifest<'a>(
        &'a self,
        reference: &'a Reference,
        digest: Option<&'a str>,
        scope: &'a PullScope,
    ) -> Answer<'a, ManifestBytes> {
        Box::pin(async move {
            let image = self.find(reference, digest, scope)?;
            let manifest =
                ManifestBytes { digest: image.digest.clone(), bytes: image.manifest.clone().into_bytes() };
            self.record_pull(image);
            Ok(manifest)
        })
    }

    fn blob<'a>(&'a self, _: &'a Reference, digest: &'a str, _: &'a PullScope) -> Answer<'a, Blob> {
        Box::pin(async move {
            let digest =
                digest.parse().map_err(|e: store::blobs::BadDigest| PullError::Other(e.to_string()))?;
            let (file, _) = self.blobs.open_blob(&digest).map_err(|e| PullError::Other(e.to_string()))?;
            Ok(Blob::File(file))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io::Read as _;
    use std::time::Duration;

    use state::ecr::images::Push;
    use state::ecr::{Mutability, Repository};
    use state::{Record as _, TimeMs};
    use store::blobs::Digest;

    use super::*;

    const ACCOUNT: &str = "000000000000";
    const OTHER: &str = "111111111111";
    const REGION: &str = "us-east-1";

    struct World {
        _dir: tempfile::TempDir,
        db: Arc<Db>,
        source: OwnImages,
        config: String,
        digest: String,
    }

    /// A repository `team/app` with one image, tagged `latest` and pushed at 0.
    fn world() -> World {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(Arc::new(store::memory().unwrap())).unwrap();
        let blobs = Arc::new(Blobs::open(dir.path()).unwrap());
        let (scope, name) = (Scope::new(ACCOUNT, REGION), "team/app");
        let config = blobs.put(b"{}").unwrap().to_string();
        let manifest =
            format!(r#"{{"schemaVersion":2,"config":{{"digest":"{config}","size":2}},"layers":[]}}"#);
        let digest = Digest::of(manifest.as_bytes()).to_string();
        let pushed = db.decide_blocking(|tx| {
            tx.put(Repository {
                scope: scope.clone(),
                name: name.into(),
                mutability: Mutability { mode: "MUTABLE".into(), exclusions: Vec::new() },
                scan_on_push: false,
                policy: None,
                lifecycle_policy: None,
                tags: Vec::new(),
                created_at_ms: 0,
            });
            images::link(tx, &scope, name, &config, 2, 0);
            images::push(
                tx,
                Push {
                    scope: &scope,
                    repository: name,
                    manifest: &manifest,
                    digest: &digest,
                    media_type: None,
                    tag: Some("latest"),
                    now_ms: 0,
                },
            )
        });
        pushed.unwrap().unwrap();
        World { _dir: dir, source: OwnImages::new(db.clone(), blobs), db, config, digest }
    }

    impl World {
        async fn pull(&self, reference: &str, account: &str) -> Result<ManifestBytes, PullError> {
            let scope = PullScope { account: account.into(), region: REGION.into() };
            self.source.manifest(&Reference::parse(reference).unwrap(), None, &scope).await
        }

        fn pulled_at_ms(&self) -> Option<TimeMs> {
            let scope = Scope::new(ACCOUNT, REGION);
            images::find(&self.db.snapshot(), &scope, "team/app", "latest").unwrap().pulled_at_ms
        }

        /// Waits until all that was spawned and decided before is durable; the revision that wrote the image then.
        /// (The state's own revision counts decisions that only waited for others, too.)
        async fn written_at(&self) -> u64 {
            tokio::task::yield_now().await;
            let Ok(()) = self.db.decide(|_| Ok::<_, Infallible>(())).await.unwrap();
            let state = self.db.snapshot();
            let image = images::find(&state, &Scope::new(ACCOUNT, REGION), "team/app", "latest").unwrap();
            state.images.row(&image.key()).unwrap().revision
        }
    }

    #[tokio::test]
    async fn an_image_is_found_by_every_form_of_its_name() {
        let world = world();
        let digest = &world.digest;
        for reference in [
            "localhost:4566/team/app".to_owned(),
            "localhost:4566/team/app:latest".into(),
            format!("localhost:4566/team/app@{digest}"),
            format!("localhost:4566/team/app:gone@{digest}"),
            format!("{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/team/app:latest"),
            format!("{ACCOUNT}.dkr.ecr.{REGION}.localhost:4566/team/app@{digest}"),
        ] {
            let manifest = world.pull(&reference, ACCOUNT).await.expect(&reference);
            assert_eq!(&manifest.digest, digest, "{reference}");
            assert_eq!(&Digest::of(&manifest.bytes).to_string(), digest, "{reference}");
        }
    }

    #[tokio::test]
    async fn a_digest_beside_the_reference_decides() {
        let world = world();
        let reference = Reference::parse("localhost:4566/team/app:gone").unwrap();
        let scope = PullScope { account: ACCOUNT.into(), region: REGION.into() };
        let found = world.source.manifest(&reference, Some(&world.digest), &scope).await;
        assert_eq!(found.unwrap().digest, world.digest);
    }

    #[tokio::test]
    async fn a_blob_is_its_file() {
        let world = world();
        let reference = Reference::parse("localhost:4566/team/app").unwrap();
        let scope = PullScope { account: ACCOUNT.into(), region: REGION.into() };
        let Ok(Blob::File(mut file)) = world.source.blob(&reference, &world.config, &scope).await else {
            panic!("no file");
        };
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "{}");
        let missing = format!("sha256:{}", "0".repeat(64));
        assert!(matches!(world.source.blob(&reference, &missing, &scope).await, Err(PullError::Other(_))));
    }

    #[tokio::test]
    async fn each_reason_is_told_and_no_pull_recorded() {
        let world = world();
        let before = world.written_at().await;
        let of =
            |account: &str, region: &str| format!("{account}.dkr.ecr.{region}.amazonaws.com/team/app:latest");
        let missing = |reference: &str, name: &str, account: &str| {
            PullError::Other(format!(
                "failed to resolve ref {reference}: the repository with name '{name}' does not exist in the registry \
                 with id '{account}'"
            ))
        };
        let (own, others, west) = (of(ACCOUNT, REGION), of(OTHER, REGION), of(ACCOUNT, "eu-west-1"));
        let denied = |reference: &str, owner: &str, asker: &str| {
            PullError::Denied(format!(
                "pull access denied for {reference}: the registry with id '{owner}' is closed to account {asker}"
            ))
        };
        let (gone, here) = ("localhost:4566/team/app:v2", "localhost:4566/team/app:latest");
        for (reference, account, expect) in [
            (gone, ACCOUNT, PullError::NotFound(gone.into())),
            ("localhost:4566/no:v1", ACCOUNT, missing("localhost:4566/no:v1", "no", ACCOUNT)),
            (&west, ACCOUNT, missing(&west, "team/app", ACCOUNT)),
            (&others, ACCOUNT, denied(&others, OTHER, ACCOUNT)),
            (&own, OTHER, denied(&own, ACCOUNT, OTHER)),
            // `localhost` is the registry of whoever asks.
            (here, OTHER, missing(here, "team/app", OTHER)),
        ] {
            assert_eq!(world.pull(reference, account).await, Err(expect), "{reference} for {account}");
        }
        assert_eq!(world.written_at().await, before);
        assert_eq!(world.pulled_at_ms(), None);
    }

    #[tokio::test]
    async fn pulls_are_recorded_once_and_wait_for_no_record() {
        let world = world();
        let before = world.written_at().await;
        assert_eq!(world.db.snapshot().revision, before, "the next write is at the next revision");
        let began_ms = now_ms();
        for _ in 0..3 {
            world.pull("localhost:4566/team/app", ACCOUNT).await.unwrap();
            // This test's thread runs what a pull spawns only once the test waits.
            assert_eq!(world.pulled_at_ms(), None);
        }
        let recorded = async {
            while world.pulled_at_ms().is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), recorded).await.expect("a pull is recorded");
        assert_eq!(world.written_at().await, before + 1, "three pulls, one write");
        let pulled_at_ms = world.pulled_at_ms().unwrap();
        assert!((began_ms..=now_ms()).contains(&pulled_at_ms), "{pulled_at_ms}");
        world.pull("localhost:4566/team/app", ACCOUNT).await.unwrap();
        assert_eq!(world.written_at().await, before + 1, "and none on the same day");
    }
}
