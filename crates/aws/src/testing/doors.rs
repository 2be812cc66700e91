//! What handlers reach beside the control state, in memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use state::{Scope, TimeMs};
use wire::Fault;

use crate::ecr::push::digest_of;
use crate::{BlobStore, Caller, LogEvent, LogPage, LogQuery, LogStore, Secrets};

/// Log events and image layers in memory; credentials and tokens that name what they were issued for.
#[derive(Default)]
pub struct Doors {
    kept: Mutex<Kept>,
}

#[derive(Clone, Default)]
struct Kept {
    events: BTreeMap<(String, String), Vec<LogEvent>>,
    scans: usize,
    blobs: BTreeMap<String, Vec<u8>>,
    uploads: BTreeMap<String, Vec<u8>>,
}

impl Clone for Doors {
    fn clone(&self) -> Doors {
        Doors { kept: Mutex::new(self.kept().clone()) }
    }
}

impl Doors {
    /// How many pages of log events were searched so far.
    pub fn scans(&self) -> usize {
        self.kept().scans
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap()
    }
}

impl Kept {
    /// The events of some streams in a time range, oldest first.
    fn matching(&self, query: &LogQuery) -> Vec<LogEvent> {
        let in_range = |event: &&LogEvent| {
            query.start_ms.is_none_or(|start| event.timestamp_ms >= start)
                && query.end_ms.is_none_or(|end| event.timestamp_ms < end)
        };
        let of =
            |stream: &String| self.events.get(&(query.group.clone(), stream.clone())).into_iter().flatten();
        let mut found: Vec<LogEvent> = query.streams.iter().flat_map(of).filter(in_range).cloned().collect();
        found.sort_by(|a, b| (a.timestamp_ms, &a.id).cmp(&(b.timestamp_ms, &b.id)));
        found
    }

    fn upload(&mut self, id: &str) -> Result<&mut Vec<u8>, Fault> {
        self.uploads.get_mut(id).ok_or_else(|| Fault::new("UploadNotFoundException", id))
    }
}

fn bad_token() -> Fault {
    Fault::new("InvalidParameterException", "The specified nextToken is invalid.")
}

impl LogStore for Doors {
    fn append(
        &self,
        group: &str,
        stream: &str,
        events: &[(TimeMs, String)],
        now_ms: TimeMs,
    ) -> Result<(), Fault> {
        let mut kept = self.kept();
        let count: usize = kept.events.values().map(Vec::len).sum();
        let of_stream = kept.events.entry((group.to_owned(), stream.to_owned())).or_default();
        for (at, (timestamp_ms, message)) in events.iter().enumerate() {
            of_stream.push(LogEvent {
                stream: stream.to_owned(),
                timestamp_ms: *timestamp_ms,
                ingestion_ms: now_ms,
                message: message.clone(),
                id: format!("{:09}", count + at),
            });
        }
        Ok(())
    }

    fn read(&self, query: &LogQuery) -> Result<LogPage, Fault> {
        let all = self.kept().matching(query);
        let token = query.token.as_ref().map(|token| token.parse::<usize>().map_err(|_| bad_token()));
        let at = token.transpose()?.map(|at| at.min(all.len()));
        let (start, end) = match (at, query.backward) {
            (None, true) => (all.len().saturating_sub(query.limit), all.len()),
            (at, _) => (at.unwrap_or(0), (at.unwrap_or(0) + query.limit).min(all.len())),
        };
        Ok(LogPage {
            events: all[start..end].to_vec(),
            forward_token: Some(end.to_string()),
            backward_token: Some(start.to_string()),
        })
    }

    fn scan(&self, query: &LogQuery) -> Result<LogPage, Fault> {
        let mut kept = self.kept();
        let all = kept.matching(query);
        kept.scans += 1;
        let start = match &query.token {
            Some(token) => 1 + all.iter().position(|event| event.id == *token).ok_or_else(bad_token)?,
            None => 0,
        };
        let end = (start + query.limit).min(all.len());
        let forward_token = (end < all.len()).then(|| all[end - 1].id.clone());
        Ok(LogPage { events: all[start..end].to_vec(), forward_token, backward_token: None })
    }

    fn delete(&self, group: &str, stream: &str) -> Result<(), Fault> {
        self.kept().events.remove(&(group.to_owned(), stream.to_owned()));
        Ok(())
    }

    fn stats(&self, group: &str, stream: &str) -> (Option<TimeMs>, Option<TimeMs>, Option<TimeMs>, u64) {
        let kept = self.kept();
        let Some(events) = kept.events.get(&(group.to_owned(), stream.to_owned())) else {
            return (None, None, None, 0);
        };
        let times = || events.iter().map(|event| event.timestamp_ms);
        let bytes = events.iter().map(|event| event.message.len() as u64).sum();
        (times().min(), times().max(), events.iter().map(|event| event.ingestion_ms).max(), bytes)
    }
}

impl BlobStore for Doors {
    fn size(&self, digest: &str) -> Option<u64> {
        self.kept().blobs.get(digest).map(|bytes| bytes.len() as u64)
    }

    fn begin(&self) -> Result<String, Fault> {
        let mut kept = self.kept();
        // The model takes nothing but a UUID back.
        let id = format!("00000000-0000-4000-8000-{:012}", kept.uploads.len());
        kept.uploads.insert(id.clone(), Vec::new());
        Ok(id)
    }

    fn append(&self, upload: &str, offset: u64, bytes: &[u8]) -> Result<u64, Fault> {
        let mut kept = self.kept();
        let upload = kept.upload(upload)?;
        if upload.len() as u64 != offset {
            return Err(Fault::new("InvalidLayerPartException", format!("{offset} is not its length")));
        }
        upload.extend(bytes);
        Ok(upload.len() as u64)
    }

    fn finish(&self, upload: &str, digest: &str) -> Result<u64, Fault> {
        let mut kept = self.kept();
        let bytes = kept.upload(upload)?.clone();
        if digest_of(&bytes) != digest {
            return Err(Fault::new("InvalidLayerException", "digest"));
        }
        let size = bytes.len() as u64;
        kept.blobs.insert(digest.to_owned(), bytes);
        Ok(size)
    }
}

impl Secrets for Doors {
    fn issue(&self, caller_arn: &str, scope: &Scope, expires_ms: TimeMs) -> (String, String, String) {
        ("ASIA".into(), format!("{}/{expires_ms}", scope.account), caller_arn.into())
    }

    fn registry_token(&self, caller: &Caller, expires_ms: TimeMs) -> String {
        format!("{}/{expires_ms}+", caller.scope.account)
    }
}
