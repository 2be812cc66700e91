//! What the tests of the ECR operations share: a world of one caller, calls through the table, requests.

use state::{Ids, Scope, Snapshot, Tx};
use wire::shapes::ecr as shapes;
use wire::shapes::ecr::op;
use wire::{Fault, FromValue, IntoValue, Operation};

use super::super::push::digest_of;
use crate::testing::Doors;
use crate::{Call, Caller, Site};

/// A world of one caller: state, and blobs in memory.
pub(super) struct World {
    pub(super) state: Snapshot,
    caller: Caller,
    site: Site,
    doors: Doors,
    now_ms: i64,
}

impl World {
    pub(super) fn new() -> World {
        let scope = Scope::new("123456789012", "us-east-1");
        World {
            state: Snapshot::default(),
            caller: Caller {
                arn: scope.iam_arn("root"),
                user_id: scope.account.clone(),
                access_key: "test".into(),
                scope,
            },
            site: Site {
                endpoint: "http://localhost:4566".into(),
                registry_host: "localhost:4566".into(),
                host_networks: Vec::new(),
            },
            doors: Doors::default(),
            now_ms: 1_000,
        }
    }

    /// Calls an operation through the table; what a refused call wrote is dropped.
    pub(super) fn call<O: Operation>(&mut self, input: O::Input) -> Result<O::Output, Fault> {
        let mut tx = Tx::new(self.state.clone());
        let mut ids = Ids::new(1);
        let mut call = Call {
            tx: &mut tx,
            ids: &mut ids,
            now_ms: self.now_ms,
            caller: &self.caller,
            site: &self.site,
            logs: &self.doors,
            blobs: &self.doors,
            secrets: &self.doors,
        };
        let handler = crate::find("ecr", O::NAME).expect(O::NAME);
        let answer = handler(&mut call, input.into_value())?;
        self.state = tx.finish().0;
        Ok(O::Output::from_value(answer.get()))
    }

    /// The code and text of a refused call.
    pub(super) fn refused<O: Operation>(&mut self, input: O::Input) -> String
    where
        O::Output: std::fmt::Debug,
    {
        self.call::<O>(input).expect_err("it should be refused").to_string()
    }

    pub(super) fn create(&mut self, name: &str) {
        self.call::<op::CreateRepository>(create(name)).unwrap();
    }

    pub(super) fn layer(&mut self, name: &str, bytes: &[u8]) -> String {
        let repository_name = Some(name.to_owned());
        let begin = shapes::InitiateLayerUploadRequest { repository_name, ..Default::default() };
        let id = self.call::<op::InitiateLayerUpload>(begin).unwrap().upload_id.unwrap();
        self.call::<op::UploadLayerPart>(part(name, &id, 0, bytes)).unwrap();
        let digest = digest_of(bytes);
        self.call::<op::CompleteLayerUpload>(complete(name, &id, &digest)).unwrap();
        digest
    }

    /// Pushes an image of one configuration and one layer, made if need be; its digest.
    pub(super) fn push(&mut self, name: &str, config: &[u8], tag: Option<&str>) -> String {
        for bytes in [config, LAYER] {
            let request = shapes::BatchCheckLayerAvailabilityRequest {
                repository_name: Some(name.into()),
                layer_digests: Some(vec![digest_of(bytes)]),
                ..Default::default()
            };
            let known = self.call::<op::BatchCheckLayerAvailability>(request).unwrap().layers.unwrap();
            if known[0].layer_availability.as_deref() == Some("UNAVAILABLE") {
                self.layer(name, bytes);
            }
        }
        let manifest = image(config);
        self.call::<op::PutImage>(put(name, &manifest, tag)).unwrap();
        digest_of(manifest.as_bytes())
    }

    pub(super) fn list(&mut self, name: &str) -> Vec<(String, Option<String>)> {
        let request = shapes::ListImagesRequest { repository_name: Some(name.into()), ..Default::default() };
        let ids = self.call::<op::ListImages>(request).unwrap().image_ids.unwrap();
        ids.into_iter().map(|id| (id.image_digest.unwrap(), id.image_tag)).collect()
    }
}

pub(super) const LAYER: &[u8] = b"a layer";

pub(super) fn create(name: &str) -> shapes::CreateRepositoryRequest {
    shapes::CreateRepositoryRequest { repository_name: Some(name.into()), ..Default::default() }
}

pub(super) fn part(name: &str, id: &str, first: i64, bytes: &[u8]) -> shapes::UploadLayerPartRequest {
    shapes::UploadLayerPartRequest {
        registry_id: None,
        repository_name: Some(name.into()),
        upload_id: Some(id.into()),
        part_first_byte: Some(first),
        part_last_byte: Some(first + bytes.len() as i64 - 1),
        layer_part_blob: Some(bytes.to_vec().into()),
    }
}

pub(super) fn complete(name: &str, id: &str, digest: &str) -> shapes::CompleteLayerUploadRequest {
    shapes::CompleteLayerUploadRequest {
        registry_id: None,
        repository_name: Some(name.into()),
        upload_id: Some(id.into()),
        layer_digests: Some(vec![digest.into()]),
    }
}

pub(super) fn image(config: &[u8]) -> String {
    let (config_size, layer_size) = (config.len(), LAYER.len());
    let (config, layer) = (digest_of(config), digest_of(LAYER));
    format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",
"config":{{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"{config}","size":{config_size}}},
"layers":[{{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","digest":"{layer}","size":{layer_size}}}]}}"#
    )
}

pub(super) fn put(name: &str, manifest: &str, tag: Option<&str>) -> shapes::PutImageRequest {
    shapes::PutImageRequest {
        repository_name: Some(name.into()),
        image_manifest: Some(manifest.into()),
        image_tag: tag.map(str::to_owned),
        ..Default::default()
    }
}

pub(super) fn id(digest: Option<&str>, tag: Option<&str>) -> shapes::ImageIdentifier {
    shapes::ImageIdentifier { image_digest: digest.map(str::to_owned), image_tag: tag.map(str::to_owned) }
}
