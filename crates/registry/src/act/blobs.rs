//! Blobs out: whole or a range of them.

use std::io::{Seek, SeekFrom};

use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use store::blobs::{BlobError, Digest};

use super::{Answer, Asked, Body, with};
use crate::Registry;
use crate::decide;
use crate::error::Error;

impl Registry {
    pub(super) async fn get_blob(&self, asked: &Asked<'_>, digest: &str, is_head: bool) -> Answer {
        let (size, renew) = decide::blob(&self.snapshot(), asked.at(), digest, asked.now_ms)?;
        if renew {
            self.decide(|tx| decide::promise(tx, asked.at(), digest, asked.now_ms)).await?;
        }
        let part = match asked.header(header::RANGE).map(|range| read_range(range, size)) {
            None | Some(Range::All) => None,
            Some(Range::Part(first, last)) => Some((first, last)),
            Some(Range::Outside) => {
                let length = ("content-range", format!("bytes */{size}"));
                return Err(Error::range("RANGE_INVALID", format!("the blob has {size} bytes"), length));
            }
        };
        let (first, length) = part.map_or((0, size), |(first, last)| (first, last - first + 1));
        let body = if is_head { Body::empty() } else { self.open(digest, first, length).await? };
        let mut response = Response::new(body);
        if let Some((first, last)) = part {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            response = with(response, "content-range", format!("bytes {first}-{last}/{size}"));
        }
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        let response = with(response, "content-type", "application/octet-stream");
        let response = with(response, "accept-ranges", "bytes");
        Ok(with(response, "docker-content-digest", digest))
    }

    async fn open(&self, digest: &str, first: u64, length: u64) -> Result<Body, Error> {
        let parsed: Digest = digest.parse().map_err(Error::internal)?;
        let blobs = self.blobs.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let (mut file, _) = blobs.open_blob(&parsed)?;
            Ok::<_, BlobError>(file.seek(SeekFrom::Start(first)).and_then(|_| Body::begin(file, length)))
        });
        let body = opened.await.map_err(Error::internal)?.map_err(Error::internal)?;
        body.map_err(Error::internal)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    /// No range, or one that we need not understand (RFC 9110, 14.2).
    All,
    /// First and last byte.
    Part(u64, u64),
    /// Beyond the end.
    Outside,
}

/// Reads `Range: bytes=…`; several ranges at once are answered with the whole.
fn read_range(text: &str, size: u64) -> Range {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|spec| spec.split_once('-')) else {
        return Range::All;
    };
    let parsed = |text: &str| text.trim().parse::<u64>().ok();
    match (parsed(first), parsed(last)) {
        (Some(first), Some(last)) if first > last => Range::All,
        (Some(first), _) if first >= size => Range::Outside,
        (Some(first), Some(last)) => Range::Part(first, last.min(size - 1)),
        (Some(first), None) if last.is_empty() => Range::Part(first, size - 1),
        (None, Some(suffix)) if first.is_empty() => match suffix.min(size) {
            0 => Range::Outside,
            suffix => Range::Part(size - suffix, size - 1),
        },
        _ => Range::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (text, expect) in [
            ("bytes=0-0", Range::Part(0, 0)),
            ("bytes=2-", Range::Part(2, 9)),
            ("bytes=2-99", Range::Part(2, 9)),
            ("bytes=-3", Range::Part(7, 9)),
            ("bytes=-99", Range::Part(0, 9)),
            ("bytes=10-", Range::Outside),
            ("bytes=10-11", Range::Outside),
            ("bytes=-0", Range::Outside),
            ("bytes=5-2", Range::All),
            ("bytes=0-1,3-4", Range::All),
            ("items=0-1", Range::All),
            ("bytes=a-b", Range::All),
        ] {
            assert_eq!(read_range(text, 10), expect, "{text}");
        }
        assert_eq!(read_range("bytes=0-", 0), Range::Outside);
    }
}
