//! Bytes before records: what an operation does to layers or log events takes as long as the disk and the hashing take,
//! so it is done before its turn to decide, in nobody's way; its decision is then told how that went.

use std::sync::OnceLock;

use aws::{BlobStore, LogPage, LogQuery, LogStore};
use state::TimeMs;
use wire::Fault;

/// Whether an operation writes layers or log events.
pub fn writes_bytes(operation: &str) -> bool {
    ["InitiateLayerUpload", "UploadLayerPart", "CompleteLayerUpload", "PutLogEvents"].contains(&operation)
}

/// The doors to layers and log events for one request of an operation that [`writes_bytes`], of which each does one
/// thing once: asked again, it is answered as the first time.
pub struct BytesFirst<'a> {
    layers: &'a dyn BlobStore,
    logs: &'a dyn LogStore,
    begun: OnceLock<Result<String, Fault>>,
    appended: OnceLock<Result<u64, Fault>>,
    finished: OnceLock<Result<u64, Fault>>,
    logged: OnceLock<Result<(), Fault>>,
}

impl<'a> BytesFirst<'a> {
    /// In front of the real doors; nothing is done yet.
    pub fn new(layers: &'a dyn BlobStore, logs: &'a dyn LogStore) -> BytesFirst<'a> {
        let (begun, appended, finished, logged) = Default::default();
        BytesFirst { layers, logs, begun, appended, finished, logged }
    }
}

impl BlobStore for BytesFirst<'_> {
    fn size(&self, digest: &str) -> Option<u64> {
        self.layers.size(digest)
    }

    fn begin(&self) -> Result<String, Fault> {
        self.begun.get_or_init(|| self.layers.begin()).clone()
    }

    fn append(&self, upload: &str, offset: u64, bytes: &[u8]) -> Result<u64, Fault> {
        self.appended.get_or_init(|| self.layers.append(upload, offset, bytes)).clone()
    }

    fn finish(&self, upload: &str, digest: &str) -> Result<u64, Fault> {
        let size = self.finished.get_or_init(|| self.layers.finish(upload, digest)).clone()?;
        // Until a decision names the bytes they may be collected as garbage.
        let there = self.layers.size(digest).map(|_| size);
        there.ok_or_else(|| {
            Fault::new("ServerException", format!("The layer {digest} is gone; upload it again"))
        })
    }
}

impl LogStore for BytesFirst<'_> {
    fn append(
        &self,
        group: &str,
        stream: &str,
        events: &[(TimeMs, String)],
        now_ms: TimeMs,
    ) -> Result<(), Fault> {
        self.logged.get_or_init(|| self.logs.append(group, stream, events, now_ms)).clone()
    }

    fn read(&self, query: &LogQuery) -> Result<LogPage, Fault> {
        self.logs.read(query)
    }

    fn scan(&self, query: &LogQuery) -> Result<LogPage, Fault> {
        self.logs.scan(query)
    }

    fn delete(&self, group: &str, stream: &str) -> Result<(), Fault> {
        self.logs.delete(group, stream)
    }

    fn stats(&self, group: &str, stream: &str) -> (Option<TimeMs>, Option<TimeMs>, Option<TimeMs>, u64) {
        self.logs.stats(group, stream)
    }
}
