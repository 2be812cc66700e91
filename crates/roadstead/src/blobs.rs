//! The ECR layer operations' door to the image blobs.

use std::sync::Arc;

use aws::BlobStore;
use store::blobs::{BlobError, Blobs, Digest, UploadId};
use wire::Fault;

/// Image blobs as the handlers see them.
pub struct Layers {
    blobs: Arc<Blobs>,
}

impl Layers {
    /// Over opened blobs.
    pub fn new(blobs: Arc<Blobs>) -> Layers {
        Layers { blobs }
    }
}

fn fault(error: BlobError) -> Fault {
    match error {
        BlobError::NoUpload(_) => Fault::new("UploadNotFoundException", error.to_string()),
        BlobError::WrongOffset { .. } => Fault::new("InvalidLayerPartException", error.to_string()),
        BlobError::DigestMismatch { .. } => Fault::new("InvalidLayerException", error.to_string()),
        other => Fault::new("ServerException", other.to_string()),
    }
}

fn upload_id(text: &str) -> Result<UploadId, Fault> {
    let message = format!("The upload with the upload id '{text}' does not exist");
    text.parse().map_err(|_| Fault::new("UploadNotFoundException", message))
}

impl BlobStore for Layers {
    fn size(&self, digest: &str) -> Option<u64> {
        self.blobs.size_bytes(&digest.parse::<Digest>().ok()?).ok()
    }

    fn begin(&self) -> Result<String, Fault> {
        // A UUID, for the model takes no other upload id back.
        let id = state::Ids::new(crate::secrets::random_seed()).uuid();
        self.blobs.start_upload(&upload_id(&id)?).map_err(fault)?;
        Ok(id)
    }

    fn append(&self, upload: &str, offset: u64, bytes: &[u8]) -> Result<u64, Fault> {
        self.blobs.append(&upload_id(upload)?, offset, bytes).map_err(fault)
    }

    fn finish(&self, upload: &str, digest: &str) -> Result<u64, Fault> {
        let digest = digest
            .parse::<Digest>()
            .map_err(|error| Fault::new("InvalidParameterException", error.to_string()))?;
        self.blobs.finish(&upload_id(upload)?, &digest).map_err(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_that_begins_has_an_id_that_the_next_operation_takes() {
        let dir = tempfile::tempdir().unwrap();
        let layers = Layers::new(Arc::new(Blobs::open(dir.path()).unwrap()));
        let id = layers.begin().unwrap();
        let lengths: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
        assert_eq!(layers.append(&id, 0, b"abc"), Ok(3));
    }

    #[test]
    fn bytes_that_were_done_first_are_not_done_again_by_the_decision() {
        let dir = tempfile::tempdir().unwrap();
        let layers = Layers::new(Arc::new(Blobs::open(dir.path()).unwrap()));
        let segments = store::segments::Segments::open(&dir.path().join("logs"), Default::default()).unwrap();
        let logs = crate::logs::Logs::new(Arc::new(segments));
        let once = || crate::bytes_first::BytesFirst::new(&layers, &logs);
        let first = once();
        let id = first.begin().unwrap();
        assert_eq!(first.begin().unwrap(), id);
        let part = once();
        assert_eq!([(); 2].map(|()| BlobStore::append(&part, &id, 0, b"abc").unwrap()), [3, 3]);
        let digest = Digest::of(b"abc").to_string();
        let end = once();
        assert_eq!([(); 2].map(|()| end.finish(&id, &digest).unwrap()), [3, 3]);
        // Collected before it was recorded: then it is not to be recorded.
        layers.blobs.delete(&digest.parse().unwrap()).unwrap();
        assert_eq!(end.finish(&id, &digest).unwrap_err().code, "ServerException");
        let (put, events) = (once(), [(1, "event".to_owned())]);
        (0..2).for_each(|_| aws::LogStore::append(&put, "g", "s", &events, 1).unwrap());
        let query =
            aws::LogQuery { group: "g".into(), streams: vec!["s".into()], limit: 10, ..Default::default() };
        assert_eq!(aws::LogStore::read(&logs, &query).unwrap().events.len(), 1);
    }
}
