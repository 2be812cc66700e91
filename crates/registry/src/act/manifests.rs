//! Manifests in and out.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body as HttpBody;
use state::ecr::Image;
use state::ecr::manifest::MANIFEST_BYTES_MAX;
use state::{Db, Record, TimeMs};
use store::blobs::Digest;

use super::{Answer, Asked, Body, empty, with};
use crate::Registry;
use crate::decide;
use crate::error::Error;

impl Registry {
    pub(super) async fn get_manifest(&self, asked: &Asked<'_>, reference: &str, is_head: bool) -> Answer {
        let image = decide::manifest(&self.snapshot(), asked.at(), reference)?;
        if !is_head {
            record_pull(&self.db, &image, asked.now_ms).await;
        }
        let length = image.manifest.len();
        let body = if is_head { Body::empty() } else { Body::full(image.manifest.clone()) };
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        let response = with(response, "content-type", &image.media_type);
        Ok(with(response, "docker-content-digest", &image.digest))
    }

    pub(super) async fn put_manifest<B>(&self, asked: &Asked<'_>, reference: &str, body: B) -> Answer
    where
        B: HttpBody<Data = Bytes> + Send + Unpin,
        B::Error: std::fmt::Display,
    {
        let bytes = read_whole(body).await?;
        let text =
            std::str::from_utf8(&bytes).map_err(|_| Error::bad("MANIFEST_INVALID", "Invalid JSON syntax"))?;
        let digest = Digest::of(&bytes).to_string();
        // Parameters of the type, such as a charset, say nothing about a manifest.
        let media_type =
            asked.header(header::CONTENT_TYPE).and_then(|kind| kind.split(';').next()).map(str::trim);
        let manifest = (text, digest.as_str(), media_type.filter(|kind| !kind.is_empty()));
        let pushed =
            self.decide(|tx| decide::put_manifest(tx, asked.at(), reference, manifest, asked.now_ms)).await?;
        cut::cut!("registry.manifest.put");
        let response = empty(StatusCode::CREATED);
        let response = with(response, "location", format!("/v2/{}/manifests/{digest}", asked.name));
        let response = with(response, "docker-content-digest", &digest);
        Ok(match &pushed.image.subject {
            Some(subject) => with(response, "oci-subject", subject),
            None => response,
        })
    }
}

/// Records that an image was pulled, at most once a day, by whichever way. A pull does not fail because it cannot be
/// recorded.
pub async fn record_pull(db: &Arc<Db>, image: &Image, now_ms: TimeMs) {
    if !decide::pull_is_news(image, now_ms) {
        return;
    }
    let key = image.key();
    let recorded = db.decide(|tx| {
        decide::record_pull(tx, &key, now_ms);
        Ok::<_, Infallible>(())
    });
    if let Err(error) = recorded.await {
        tracing::warn!(image = key, %error, "a pull was not recorded");
    }
}

/// A manifest's bytes, up to the limit.
async fn read_whole<B>(body: B) -> Result<Bytes, Error>
where
    B: HttpBody<Data = Bytes> + Send + Unpin,
    B::Error: std::fmt::Display,
{
    let body = body.map_err(|error| std::io::Error::other(error.to_string()));
    match Limited::new(body, MANIFEST_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("a manifest has at most {MANIFEST_BYTES_MAX} bytes");
            Err(Error::new(StatusCode::PAYLOAD_TOO_LARGE, "MANIFEST_INVALID", message))
        }
        Err(error) => Err(Error::bad("MANIFEST_INVALID", format!("the manifest broke off: {error}"))),
    }
}
