//! A connection's requests, one after the other: each is read, matched to a rule, and given to that rule's action.

use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::StatusCode;

use super::body::Passage;
use super::conn::{Conn, Site};
use super::counters::{bump, bump_code};
use super::forward::{self, Errand};
use super::respond::Page;
use super::table::LiveAction;
use super::worker::Space;
use crate::decide::head::{self, FIELDS_MAX, Framing, Reading, Request};
use crate::decide::redirect::{self, Original};
use crate::decide::rules::{self, RequestFacts};

/// How long what a client still sends is thrown away after the response that ends its connection: a socket closed with
/// something unread resets the connection, and the client may lose the response.
const LINGER: Duration = Duration::from_secs(5);

/// What becomes of the connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It takes another.
    Request,
    /// It ends once the client has read all.
    Linger,
    /// It is of no use any more.
    Close,
}

/// What a response must know of its request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// By HEAD: a response has no body.
    pub to_head: bool,
    pub http_11: bool,
    /// The client wants the connection to go on.
    pub keep_alive: bool,
    /// How the request's body ends.
    pub framing: Framing,
}

impl Asked {
    fn of(request: &Request<'_>) -> Self {
        let Request { http_11, keep_alive, framing, .. } = *request;
        Self { to_head: request.method == "HEAD", http_11, keep_alive, framing }
    }

    /// Of a request that could not be read.
    const NOTHING: Self = Self { to_head: false, http_11: true, keep_alive: false, framing: Framing::Empty };

    /// What `Connection` has to say in the response.
    pub fn connection(&self, goes_on: bool) -> Option<&'static str> {
        match (goes_on, self.http_11) {
            (true, true) => None,
            (true, false) => Some("keep-alive"),
            (false, _) => Some("close"),
        }
    }
}

enum Step {
    /// The balancer itself answers.
    Answer(Page, Asked),
    /// A target answers.
    Forward(Errand),
}

/// Serves a connection until it ends.
pub(crate) async fn serve(conn: &Conn) {
    loop {
        conn.stream.readable().await;
        conn.idle.store(false, Relaxed);
        let mut lent = conn.worker.lend();
        let space = lent.space();
        loop {
            match serve_request(conn, space).await {
                Next::Request if space.request.is_empty() => break,
                Next::Request => {}
                Next::Close => return,
                Next::Linger => return linger(conn, space).await,
            }
        }
        conn.idle.store(true, Relaxed);
    }
}

async fn linger(conn: &Conn, space: &mut Space) {
    conn.stream.shutdown(Shutdown::Write);
    let rest = async {
        space.request.clear();
        while matches!(space.request.fill(&conn.stream).await, Ok(1..)) {
            space.request.clear();
        }
    };
    // That it did not end in time is no matter.
    let _ = tokio::time::timeout(LINGER, rest).await;
}

async fn serve_request(conn: &Conn, space: &mut Space) -> Next {
    let mut seen = 0;
    loop {
        let come = space.request.data();
        if !come.is_empty() && (seen == 0 || head::may_be_whole(come, seen)) {
            match plan(conn, space) {
                Some(Step::Answer(page, asked)) => return answer(conn, space, &page, asked).await,
                Some(Step::Forward(errand)) => return forward::forward(conn, space, errand).await,
                None => {}
            }
        }
        if space.request.is_full() {
            let page = Page::error(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
            return answer(conn, space, &page, Asked::NOTHING).await;
        }
        seen = space.request.data().len();
        if !matches!(space.request.fill(&conn.stream).await, Ok(1..)) {
            return Next::Close;
        }
    }
}

/// Reads a request's head and decides. `None`: more of it must come.
fn plan(conn: &Conn, space: &mut Space) -> Option<Step> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let (request, length) = match head::read_request(space.request.data(), &mut fields) {
        Reading::Whole(request, length) => (Ok(request), length),
        Reading::Refused(status) => (Err(status), 0),
        Reading::Partial => return None,
    };
    let host = request.as_ref().map_or("", |request| rules::host_without_port(request.host()));
    let asked = request.as_ref().map_or(Asked::NOTHING, Asked::of);
    let step = match (conn.site(host), request) {
        (None, Ok(_)) => unknown_site(conn, host, asked),
        (None, Err(status)) => Step::Answer(Page::error(status), asked),
        (Some(site), request) => {
            let counters = &site.listener.load_balancer.counters;
            bump(&counters.requests);
            counters.processed_bytes.fetch_add(conn.stream.take_bytes(), Relaxed);
            let step = match request {
                Ok(request) => act(conn, &site, &request, asked, &mut space.up),
                Err(status) => Step::Answer(Page::error(status), asked),
            };
            if let Step::Answer(page, _) = &step {
                count(&site, page.status);
            }
            step
        }
    };
    space.request.consume(length);
    Some(step)
}

/// A shared front that knows several load balancers, none of that name; or a listener that is gone.
fn unknown_site(conn: &Conn, host: &str, asked: Asked) -> Step {
    let shared = conn.worker.shared.table().sites.contains_key(&conn.local());
    if shared {
        Step::Answer(Page::no_such_load_balancer(host, conn.local().port()), asked)
    } else {
        Step::Answer(Page::error(StatusCode::SERVICE_UNAVAILABLE), Asked { keep_alive: false, ..asked })
    }
}

/// Chooses a rule and does what its action says. What is to be sent to a target is put into `up`.
fn act(conn: &Conn, site: &Arc<Site>, request: &Request<'_>, asked: Asked, up: &mut Vec<u8>) -> Step {
    let listener = &site.listener;
    let facts = RequestFacts {
        method: request.method,
        host: rules::host_without_port(request.host()),
        path: request.path,
        query: request.query,
        fields: request.fields,
        source: conn.source(),
    };
    let chosen = rules::choose(&listener.rules, &facts).unwrap_or(listener.rules.len());
    match &listener.actions[chosen] {
        LiveAction::Forward(action) => match forward::prepare(conn, site, action, request, asked, up) {
            Some(errand) => Step::Forward(errand),
            None => Step::Answer(Page::error(StatusCode::SERVICE_UNAVAILABLE), asked),
        },
        LiveAction::FixedResponse(action) => {
            bump(&listener.load_balancer.counters.fixed_responses);
            Step::Answer(Page::fixed(action), asked)
        }
        LiveAction::Redirect(action) => {
            bump(&listener.load_balancer.counters.redirects);
            let original = Original {
                protocol: "http",
                host: facts.host,
                port: listener.port,
                path: facts.path,
                query: facts.query.unwrap_or(""),
            };
            let location = redirect::location(action, &original);
            Step::Answer(Page::redirect(action.permanent, location), asked)
        }
    }
}

/// Counts a response that the balancer itself made.
pub(crate) fn count(site: &Site, status: StatusCode) {
    bump_code(&site.listener.load_balancer.counters.elb_codes, status);
}

/// Answers a request whose body has not been touched. What has not come of it would be read as the next request: then
/// the connection ends.
async fn answer(conn: &Conn, space: &mut Space, page: &Page, asked: Asked) -> Next {
    let mut body = Passage::new(asked.framing, false, String::new());
    space.up.clear();
    let taken = body.advance(&mut space.request, &mut space.up);
    let whole = taken.is_ok() && body.is_done();
    space.request.consume(taken.unwrap_or(0));
    send_page(conn, &mut space.down, page, asked, whole).await
}

/// Sends a response of the balancer's own; the connection goes on if both sides want that, and `may_go_on`.
pub(crate) async fn send_page(
    conn: &Conn,
    out: &mut Vec<u8>,
    page: &Page,
    asked: Asked,
    may_go_on: bool,
) -> Next {
    let goes_on = asked.keep_alive && may_go_on && !conn.is_closing();
    out.clear();
    conn.worker.with_date(|_, date| page.write(out, asked.to_head, date, asked.connection(goes_on)));
    match conn.stream.write_all(out, &[]).await {
        Ok(()) if goes_on => Next::Request,
        Ok(()) => Next::Linger,
        Err(_) => Next::Close,
    }
}
