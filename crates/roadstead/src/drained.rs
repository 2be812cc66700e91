//! A request's body that is read to its end even when it is refused: most clients look for the answer only when they
//! have sent everything, and see nothing but a broken connection if it is closed before.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// How long a body that nobody wants is taken in.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// A body whose rest is taken in and thrown away when it is dropped.
pub struct Drained {
    body: Option<Incoming>,
    /// The client sends it: without being asked, or because it was told to go on.
    is_sent: bool,
}

impl Drained {
    /// Over a request's body; `waits` says that the client sends it only when told to (`Expect: 100-continue`).
    pub fn new(body: Incoming, waits: bool) -> Drained {
        Drained { body: Some(body), is_sent: !waits }
    }
}

impl Body for Drained {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.is_sent = true;
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Incoming::size_hint)
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        let rest = self.body.take().filter(|body| self.is_sent && !body.is_end_stream());
        // Outside the runtime the connection is gone as well.
        if let (Some(mut rest), Ok(runtime)) = (rest, tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                let all = async { while let Some(Ok(_)) = rest.frame().await {} };
                let _ = tokio::time::timeout(DISCARD_TIMEOUT, all).await;
            });
        }
    }
}
