//! Blobs in: in one piece, in chunks, or taken from another repository.

use std::sync::Arc;

use bytes::Bytes;
use cut::cut;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Body as HttpBody;
use store::blobs::{BlobError, BlobResult, Blobs, Digest, UploadId};
use tokio::task::JoinHandle;

use super::{Answer, Asked, Body, empty, with};
use crate::Registry;
use crate::decide;
use crate::error::Error;
use crate::route::checked_digest;

/// How much is gathered before it is hashed and written, while the next is received.
const PIECE_BYTES: usize = 512 * 1024;

impl Registry {
    /// `POST …/blobs/uploads/`: begins an upload, with `?mount=` or `?digest=` ends it at once.
    pub(super) async fn begin_upload<B>(&self, asked: &Asked<'_>, body: B) -> Answer
    where
        B: HttpBody<Data = Bytes> + Send + Unpin,
        B::Error: std::fmt::Display,
    {
        if let Some(digest) = asked.query("mount") {
            let digest = checked_digest(&digest)?;
            let mounted = self.decide(|tx| decide::mount(tx, asked.at(), &digest, asked.now_ms)).await?;
            if mounted {
                return Ok(created(asked.name, &digest));
            }
        }
        let digest = asked.query("digest").map(|digest| checked_digest(&digest)).transpose()?;
        let id = new_id().map_err(Error::internal)?;
        self.decide(|tx| decide::begin_upload(tx, asked.at(), &id, asked.now_ms)).await?;
        cut!("registry.upload.recorded");
        let upload = parse_id(&id)?;
        self.blocking(move |blobs| blobs.start_upload(&upload)).await?;
        if let Some(digest) = digest {
            self.receive(&id, 0, body).await?;
            return self.finish(asked, &id, &digest).await;
        }
        Ok(under_way(StatusCode::ACCEPTED, asked.name, &id, 0))
    }

    /// `GET …/blobs/uploads/<id>`: where it is.
    pub(super) async fn upload_status(&self, asked: &Asked<'_>, id: &str) -> Answer {
        let offset = self.offset(asked, id).await?;
        Ok(under_way(StatusCode::NO_CONTENT, asked.name, id, offset))
    }

    /// `PATCH …/blobs/uploads/<id>`: the next chunk, or all of it as a stream.
    pub(super) async fn append_upload<B>(&self, asked: &Asked<'_>, id: &str, body: B) -> Answer
    where
        B: HttpBody<Data = Bytes> + Send + Unpin,
        B::Error: std::fmt::Display,
    {
        let offset = self.offset(asked, id).await?;
        check_range(asked, id, offset)?;
        let offset = self.receive(id, offset, body).await?;
        Ok(under_way(StatusCode::ACCEPTED, asked.name, id, offset))
    }

    /// `PUT …/blobs/uploads/<id>?digest=`: the last chunk, if any, and the end.
    pub(super) async fn finish_upload<B>(&self, asked: &Asked<'_>, id: &str, body: B) -> Answer
    where
        B: HttpBody<Data = Bytes> + Send + Unpin,
        B::Error: std::fmt::Display,
    {
        let digest =
            asked.query("digest").ok_or_else(|| Error::bad("DIGEST_INVALID", "digest is missing"))?;
        let digest = checked_digest(&digest)?;
        let offset = self.offset(asked, id).await?;
        check_range(asked, id, offset)?;
        if !body.is_end_stream() {
            self.receive(id, offset, body).await?;
        }
        self.finish(asked, id, &digest).await
    }

    /// `DELETE …/blobs/uploads/<id>`: gives it up.
    pub(super) async fn cancel_upload(&self, asked: &Asked<'_>, id: &str) -> Answer {
        let upload = parse_id(id)?;
        self.decide(|tx| decide::end_upload(tx, asked.at(), id, None, asked.now_ms)).await?;
        self.blocking(move |blobs| blobs.cancel(&upload)).await?;
        Ok(empty(StatusCode::NO_CONTENT))
    }

    /// Where an upload of the repository is.
    async fn offset(&self, asked: &Asked<'_>, id: &str) -> Result<u64, Error> {
        let upload = parse_id(id)?;
        decide::upload(&self.snapshot(), asked.at(), id)?;
        self.blocking(move |blobs| blobs.upload_offset(&upload)).await
    }

    /// Appends a body to an upload; the new offset. What was received before a body breaks off is kept: the client asks
    /// where the upload is and goes on from there.
    async fn receive<B>(&self, id: &str, mut offset: u64, mut body: B) -> Result<u64, Error>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin,
        B::Error: std::fmt::Display,
    {
        let mut writer = Writer { blobs: self.blobs.clone(), upload: parse_id(id)?, writing: None };
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        let mut broken = None;
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => {
                    let Ok(data) = frame.into_data() else { continue };
                    piece.extend_from_slice(&data);
                }
                Err(error) => {
                    broken = Some(error.to_string());
                    break;
                }
            }
            if piece.len() >= PIECE_BYTES {
                let full = std::mem::replace(&mut piece, Vec::with_capacity(PIECE_BYTES));
                offset = writer.write(offset, full).await?;
            }
        }
        offset = writer.write(offset, piece).await?;
        writer.done().await?;
        match broken {
            None => Ok(offset),
            Some(why) => Err(Error::bad("BLOB_UPLOAD_INVALID", format!("the upload broke off: {why}"))),
        }
    }

    /// Checks, syncs and names the blob, then says durably that the repository has it.
    async fn finish(&self, asked: &Asked<'_>, id: &str, digest: &str) -> Answer {
        let (upload, parsed) = (parse_id(id)?, parse_digest(digest)?);
        let size = self.blocking(move |blobs| blobs.finish(&upload, &parsed)).await?;
        cut!("registry.upload.named");
        let blobs = &self.blobs;
        self.decide(|tx| {
            // Garbage is deleted inside decisions too: what is here now stays.
            if !blobs.contains(&parsed).map_err(Error::internal)? {
                return Err(Error::no_upload(id));
            }
            decide::end_upload(tx, asked.at(), id, Some((digest, size)), asked.now_ms)
        })
        .await?;
        cut!("registry.upload.linked");
        Ok(created(asked.name, digest))
    }

    async fn blocking<A: Send + 'static>(
        &self,
        work: impl FnOnce(&Blobs) -> BlobResult<A> + Send + 'static,
    ) -> Result<A, Error> {
        let blobs = self.blobs.clone();
        let done = tokio::task::spawn_blocking(move || work(&blobs)).await.map_err(Error::internal)?;
        done.map_err(of_blob)
    }
}

/// Hashes and writes one piece on a blocking thread while the next one is received.
struct Writer {
    blobs: Arc<Blobs>,
    upload: UploadId,
    writing: Option<JoinHandle<BlobResult<u64>>>,
}

impl Writer {
    /// Begins to write a piece at `offset`; the offset after it.
    async fn write(&mut self, offset: u64, piece: Vec<u8>) -> Result<u64, Error> {
        self.done().await?;
        let next = offset + piece.len() as u64;
        if !piece.is_empty() {
            let (blobs, upload) = (self.blobs.clone(), self.upload.clone());
            let work = move || blobs.append(&upload, offset, &piece);
            self.writing = Some(tokio::task::spawn_blocking(work));
        }
        Ok(next)
    }

    async fn done(&mut self) -> Result<(), Error> {
        if let Some(writing) = self.writing.take() {
            writing.await.map_err(Error::internal)?.map_err(of_blob)?;
        }
        Ok(())
    }
}

fn of_blob(error: BlobError) -> Error {
    match error {
        BlobError::NoUpload(id) => Error::no_upload(&id.to_string()),
        BlobError::NoBlob(digest) => Error::no_blob(&digest.to_string()),
        BlobError::DigestMismatch { .. } => Error::bad("DIGEST_INVALID", error.to_string()),
        BlobError::WrongOffset { expected, .. } => {
            Error::range("BLOB_UPLOAD_INVALID", error.to_string(), ("range", range(expected)))
        }
        BlobError::UploadExists(_) | BlobError::Store(_) => Error::internal(error),
    }
}

/// Refuses a chunk whose `Content-Range` does not continue the upload or is not as long as the chunk.
fn check_range(asked: &Asked<'_>, id: &str, offset: u64) -> Result<(), Error> {
    let Some(text) = asked.header(header::CONTENT_RANGE) else { return Ok(()) };
    let wrong = || Error::bad("BLOB_UPLOAD_INVALID", format!("'{text}' is not a range <first>-<last>"));
    let spec = text.strip_prefix("bytes ").unwrap_or(text);
    let spec = spec.split('/').next().unwrap_or(spec);
    let (first, last) = spec.split_once('-').ok_or_else(wrong)?;
    let first: u64 = first.parse().map_err(|_| wrong())?;
    let last: u64 = last.parse().map_err(|_| wrong())?;
    if first != offset {
        return Err(of_blob(BlobError::WrongOffset { expected: offset, got: first }));
    }
    let length = asked.header(header::CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
    let promised = last.checked_sub(first).and_then(|n| n.checked_add(1));
    if length.is_some_and(|length| length > 0 && Some(length) != promised) {
        let message = format!("the chunk of upload {id} has not the length of its range {spec}");
        return Err(Error::bad("SIZE_INVALID", message));
    }
    Ok(())
}

fn parse_id(id: &str) -> Result<UploadId, Error> {
    id.parse().map_err(|_| Error::no_upload(id))
}

fn parse_digest(digest: &str) -> Result<Digest, Error> {
    digest.parse().map_err(|error: store::blobs::BadDigest| Error::bad("DIGEST_INVALID", error.to_string()))
}

/// 128 random bits: an upload's id is not to be guessed.
fn new_id() -> Result<String, getrandom::Error> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// `0-<last byte>`; the specification has no way to say "nothing yet", and its field says `0-0`.
fn range(offset: u64) -> String {
    format!("0-{}", offset.saturating_sub(1))
}

fn under_way(status: StatusCode, name: &str, id: &str, offset: u64) -> Response<Body> {
    let mut response = empty(status);
    if status != StatusCode::NO_CONTENT {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(0));
    }
    let response = with(response, "location", format!("/v2/{name}/blobs/uploads/{id}"));
    let response = with(response, "range", range(offset));
    with(response, "docker-upload-uuid", id)
}

fn created(name: &str, digest: &str) -> Response<Body> {
    let response = with(empty(StatusCode::CREATED), "location", format!("/v2/{name}/blobs/{digest}"));
    with(response, "docker-content-digest", digest)
}
