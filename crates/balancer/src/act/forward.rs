//! The forward action: a group, a target, a connection; what passes over it is `exchange`'s.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use http::StatusCode;

use super::body::Passage;
use super::conn::{Conn, Site};
use super::counters::bump;
use super::exchange::{Exchange, Outcome};
use super::pool::{self, ConnectError, Link};
use super::proxy::{Asked, Next, count, send_page};
use super::respond::Page;
use super::table::{LiveForward, LiveGroup};
use super::target::{InFlight, LiveTarget};
use super::worker::Space;
use super::{now_ms, tunnel};
use crate::config::Stickiness;
use crate::decide::fields::{self, Field};
use crate::decide::forwarded::{self, Hop};
use crate::decide::head::{Framing, Request};
use crate::decide::sticky;
use crate::decide::targets::{Candidate, choose_target, choose_weighted, slow_start_share_permille};

/// Targets that are asked for a connection before the request is given up.
const CONNECT_TRIES: usize = 4;
/// Times a request goes back because its connection closed before it was answered.
const RESENDS: usize = 3;

/// What must be known of a request once its head is written for the target.
pub(crate) struct Errand {
    pub site: Arc<Site>,
    pub group: Arc<LiveGroup>,
    pub asked: Asked,
    /// The request's body on its way to the target.
    pub body: Passage,
    /// Trailers may be sent to the client.
    pub takes_trailers: bool,
    pub websocket: bool,
    pub expects_continue: bool,
    /// It may be sent twice.
    repeatable: bool,
    /// The target that the client's cookie names.
    session: Option<String>,
    /// For how long the client is to stay with the group.
    group_stickiness_s: Option<u32>,
}

/// Chooses a group and writes the request's head for a target of it. `None`: no group gets requests.
pub(crate) fn prepare(
    conn: &Conn,
    site: &Arc<Site>,
    action: &LiveForward,
    request: &Request<'_>,
    asked: Asked,
    up: &mut Vec<u8>,
) -> Option<Errand> {
    let group = choose_group(conn, action, request.fields)?;
    bump(&group.counters.requests);
    let load_balancer = &site.listener.load_balancer;
    let hop = Hop {
        attributes: &load_balancer.attributes,
        dns_name: &load_balancer.dns_name,
        port: site.listener.port,
        client: &site.client_name,
        now_s: now_ms() / 1000,
        id: [conn.worker.draw(), conn.worker.draw()],
    };
    up.clear();
    forwarded::request_head(up, request, &hop);
    let chunked = request.framing == Framing::Chunked;
    Some(Errand {
        site: site.clone(),
        session: session(&group, request.fields),
        group,
        asked,
        body: Passage::new(request.framing, chunked, declared_trailers(request.fields, chunked)),
        takes_trailers: fields::lists(request.fields, "te", "trailers"),
        websocket: request.wants_websocket(),
        expects_continue: request.expects_continue(),
        repeatable: request.is_repeatable(),
        group_stickiness_s: action.stickiness_duration_s,
    })
}

/// What the `Trailer` fields of a message in chunks announce.
pub(crate) fn declared_trailers(fields: &[Field<'_>], chunked: bool) -> String {
    if chunked { fields::values(fields, "trailer").collect::<Vec<_>>().join(",") } else { String::new() }
}

/// The group that the client's cookie names, else one by weight. `None`: no group gets requests.
fn choose_group(conn: &Conn, action: &LiveForward, fields: &[Field<'_>]) -> Option<Arc<LiveGroup>> {
    if let [only] = &action.groups[..] {
        return only.group.clone().filter(|_| only.weight > 0);
    }
    let named = action.stickiness_duration_s.and_then(|_| sticky::cookie(fields, sticky::GROUP_COOKIE));
    let stuck = action
        .groups
        .iter()
        .find(|g| g.weight > 0 && g.group.as_ref().is_some_and(|group| Some(group.token.as_str()) == named));
    let by_weight = || choose_weighted(action.groups.iter().map(|g| g.weight), conn.worker.draw());
    stuck.or_else(|| action.groups.get(by_weight()?))?.group.clone()
}

/// What a request's cookies say about its target.
fn session(group: &LiveGroup, fields: &[Field<'_>]) -> Option<String> {
    let name = match group.config.stickiness.as_ref()? {
        Stickiness::LbCookie { .. } => sticky::LB_COOKIE,
        Stickiness::AppCookie { cookie_name, .. } => {
            sticky::cookie(fields, cookie_name)?;
            sticky::APP_COOKIE
        }
    };
    sticky::cookie(fields, name).map(str::to_owned)
}

/// Answers a request, whose head for the target is in `up`, by a target of its group.
pub(crate) async fn forward(conn: &Conn, space: &mut Space, errand: Errand) -> Next {
    let mut trip = Trip { conn, errand, tried: Vec::new() };
    conn.await_target(true);
    let next = match trip.deliver(space).await {
        Ok(next) => next,
        Err(status) => {
            count(&trip.errand.site, status);
            // What the client has yet to send of its request would be read as the next one.
            let whole = trip.errand.body.is_done();
            let page = Page::error(status);
            conn.await_target(false);
            send_page(conn, &mut space.down, &page, trip.errand.asked, whole).await
        }
    };
    conn.await_target(false);
    next
}

/// One request's way to a target.
struct Trip<'a> {
    conn: &'a Conn,
    errand: Errand,
    /// Targets that gave no connection.
    tried: Vec<SocketAddr>,
}

impl Trip<'_> {
    /// Brings the request to a target and the response to the client. Errors: the status to answer with.
    async fn deliver(&mut self, space: &mut Space) -> Result<Next, StatusCode> {
        // What has already come of the body goes with the head.
        let body = &mut self.errand.body;
        let first = body.advance(&mut space.request, &mut space.up).map_err(|_| StatusCode::BAD_REQUEST)?;
        let (mut resends, mut use_pool) = (0, true);
        loop {
            let none =
                if self.tried.is_empty() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::BAD_GATEWAY };
            let in_flight = self.pick().ok_or(none)?;
            let Some(link) = self.linked(in_flight.target(), use_pool).await? else { continue };
            let started = Instant::now();
            let sent = send(&link, &space.up, &space.request.data()[..first]);
            let outcome = match self.conn.unless_expired(sent).await {
                None => Outcome::Expired,
                Some(Sent::Nothing) => Outcome::Unsent,
                Some(Sent::Some) => Outcome::NoAnswer,
                Some(Sent::All) => {
                    space.request.consume(first);
                    let conn = self.conn;
                    Exchange { conn, errand: &mut self.errand, link: &link, started }
                        .run(space, in_flight.target())
                        .await
                }
            };
            match outcome {
                Outcome::Done { next, ended: Some(now) } => {
                    let target = in_flight.target();
                    target.pools[self.conn.worker.index].put(link, now, target);
                    return Ok(next);
                }
                Outcome::Done { next, ended: None } => return Ok(next),
                Outcome::Switched => {
                    tunnel::run(self.conn, &link, &in_flight, space).await;
                    return Ok(Next::Close);
                }
                Outcome::CutShort => return Ok(Next::Close),
                Outcome::Bad(status) => return Err(status),
                Outcome::Expired => return Err(self.expired()),
                Outcome::Unsent => {}
                // A connection used before may be closed by the target just as the request is written.
                Outcome::NoAnswer if link.reused && self.errand.repeatable => {}
                Outcome::NoAnswer => return Err(StatusCode::BAD_GATEWAY),
            }
            resends += 1;
            use_pool = false;
            if resends > RESENDS {
                return Err(StatusCode::BAD_GATEWAY);
            }
        }
    }

    /// A connection to a target; `None`: it gives none, another is to be asked. Errors: the status to answer with.
    async fn linked(&mut self, target: &LiveTarget, use_pool: bool) -> Result<Option<Link>, StatusCode> {
        let pool = &target.pools[self.conn.worker.index];
        if use_pool && let Some(link) = pool.take(!self.errand.repeatable) {
            return Ok(Some(link));
        }
        match self.conn.unless_expired(pool::connect(target)).await {
            Some(Ok(link)) => return Ok(Some(link)),
            None => return Err(self.expired()),
            Some(Err(error)) => {
                bump(&self.errand.group.counters.connection_errors);
                self.tried.push(target.addr);
                match error {
                    ConnectError::TimedOut => return Err(StatusCode::GATEWAY_TIMEOUT),
                    ConnectError::Refused if self.tried.len() >= CONNECT_TRIES => {
                        return Err(StatusCode::BAD_GATEWAY);
                    }
                    ConnectError::Refused => {}
                }
            }
        }
        Ok(None)
    }

    /// Who has been silent for too long: the target, or the client that still has to send of its request.
    fn expired(&self) -> StatusCode {
        if self.errand.body.is_done() { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::REQUEST_TIMEOUT }
    }

    /// A target for the request, counted in.
    fn pick(&mut self) -> Option<InFlight> {
        loop {
            if let Some(target) = self.stuck().or_else(|| self.choose()) {
                // Refused when the target has begun to drain meanwhile: then choose again.
                match target.begin() {
                    Some(in_flight) => return Some(in_flight),
                    None => continue,
                }
            }
            // None left in this table; a newer one may have replaced all targets at once.
            let newer = self.conn.worker.shared.table().groups.get(&self.errand.group.arn).cloned()?;
            if Arc::ptr_eq(&newer, &self.errand.group) {
                return None;
            }
            self.errand.group = newer;
        }
    }

    /// The target of the client's session, while it is healthy.
    fn stuck(&self) -> Option<&Arc<LiveTarget>> {
        let token = self.errand.session.as_ref()?;
        let usable = |target: &&Arc<LiveTarget>| {
            target.token == *token
                && target.is_healthy()
                && !target.is_draining()
                && !self.tried.contains(&target.addr)
        };
        self.errand.group.targets.iter().find(usable)
    }

    fn choose(&self) -> Option<&Arc<LiveTarget>> {
        let (group, worker) = (&self.errand.group, &self.conn.worker);
        let slow_start_ms = group.config.slow_start_ms;
        let now_ms = if slow_start_ms > 0 { now_ms() } else { 0 };
        let candidate = |i: usize| {
            let target = &group.targets[i];
            let share = || slow_start_share_permille(slow_start_ms, target.healthy_for_ms(now_ms));
            Candidate {
                healthy: target.is_healthy(),
                draining: target.is_draining(),
                tried: !self.tried.is_empty() && self.tried.contains(&target.addr),
                in_flight: target.in_flight(),
                share_permille: if slow_start_ms > 0 { share() } else { 1000 },
            }
        };
        let turn = group.turn.fetch_add(1, Relaxed);
        let chosen =
            choose_target(group.config.algorithm, group.targets.len(), candidate, turn, worker.draw())?;
        Some(&group.targets[chosen])
    }
}

/// How much of a head, and what went with it, has been written.
enum Sent {
    All,
    Some,
    Nothing,
}

async fn send(link: &Link, head: &[u8], body: &[u8]) -> Sent {
    let Ok(count) = poll_fn(|cx| link.stream.poll_write(cx, head, body)).await else { return Sent::Nothing };
    let of_head = count.min(head.len());
    match link.stream.write_all(&head[of_head..], &body[count - of_head..]).await {
        Ok(()) => Sent::All,
        Err(_) => Sent::Some,
    }
}

impl Errand {
    /// The stickiness cookies of a response from a target.
    pub fn cookies(&self, target: &LiveTarget, fields: &[Field<'_>]) -> Vec<String> {
        let mut cookies = Vec::new();
        if self.group_stickiness_s.is_none() && self.group.config.stickiness.is_none() {
            return cookies;
        }
        let now_s = now_ms() / 1000;
        let mut set = |name: &str, token: &str, duration_s: u32| {
            cookies.push(sticky::set_cookie(name, token, now_s, duration_s));
        };
        if let Some(duration_s) = self.group_stickiness_s {
            set(sticky::GROUP_COOKIE, &self.group.token, duration_s);
            set(sticky::GROUP_COOKIE_CORS, &self.group.token, duration_s);
        }
        match &self.group.config.stickiness {
            Some(Stickiness::LbCookie { duration_s }) => {
                set(sticky::LB_COOKIE, &target.token, *duration_s);
                set(sticky::LB_COOKIE_CORS, &target.token, *duration_s);
            }
            Some(Stickiness::AppCookie { cookie_name, duration_s })
                if sticky::sets_cookie(fields, cookie_name) =>
            {
                set(sticky::APP_COOKIE, &target.token, *duration_s);
            }
            _ => {}
        }
        cookies
    }
}
