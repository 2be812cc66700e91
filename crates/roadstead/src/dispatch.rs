//! One AWS request: route, verify, read, decide, answer.

use std::borrow::Cow;
use std::sync::{Arc, Mutex};

use aws::{Answer, Call, Caller, Site};
use bytes::Bytes;
use http::{Request, Response};
use state::{Db, Ids, Scope, Tx};
use wire::sigv4::{Credential, Expected, Identity};
use wire::{Fault, Route, Value};

use crate::blobs::Layers;
use crate::bytes_first::{BytesFirst, writes_bytes};
use crate::clock::now_ms;
use crate::logs::Logs;
use crate::networks::Networks;
use crate::secrets::Keyring;

/// What answers AWS requests.
pub struct Dispatch {
    /// The control state.
    pub db: Arc<Db>,
    /// Who may call.
    pub keyring: Arc<Keyring>,
    /// Where we are.
    pub site: Site,
    /// What no new network may overlap.
    pub networks: Networks,
    /// Log events.
    pub logs: Arc<Logs>,
    /// Image layers.
    pub layers: Layers,
    /// Ids for what is created.
    pub ids: Mutex<Ids>,
    /// Where work may take long: not on the thread that other connections wait for.
    pub workers: tokio::runtime::Handle,
}

impl Dispatch {
    /// Answers one request.
    pub async fn answer(self: &Arc<Self>, request: Request<Bytes>) -> Response<Vec<u8>> {
        let request_id = self.fresh_ids().uuid();
        let (parts, body) = request.into_parts();
        let route = match wire::route(&parts, &body) {
            Ok(route) => route,
            Err(unrouted) => return unrouted.answer(&request_id),
        };
        if !touches_files(&route) {
            return self.answer_routed(&route, &parts, &body, &request_id).await;
        }
        let this = self.clone();
        let work = async move { this.answer_routed(&route, &parts, &body, &request_id).await };
        match self.workers.spawn(work).await {
            Ok(answer) => answer,
            Err(ended) => std::panic::resume_unwind(ended.into_panic()),
        }
    }

    async fn answer_routed(
        &self,
        route: &Route,
        parts: &http::request::Parts,
        body: &Bytes,
        request_id: &str,
    ) -> Response<Vec<u8>> {
        let result = self.result(route, parts, body).await;
        if let Err(fault) = &result {
            tracing::debug!(service = route.model.name, operation = route.operation.name, %fault, "refused");
        }
        route.answer(&result, request_id)
    }

    async fn result(
        &self,
        route: &Route,
        parts: &http::request::Parts,
        body: &Bytes,
    ) -> Result<Value, Fault> {
        let identity = self.verify(route, parts, body).map_err(|refused| refused.fault(route.protocol))?;
        let input = route.read(parts, body)?;
        let handler =
            aws::find(&route.model.name, &route.operation.name).ok_or_else(|| route.unsupported())?;
        // AWS ignores members it does not know; what defines a task must not be half understood.
        if let Some(unknown) = input.unknown.first().filter(|_| refuses_unknown(&route.operation.name)) {
            return Err(Fault::new("ClientException", format!("Unknown parameter in input: \"{unknown}\"")));
        }
        let caller = Caller {
            scope: Scope::new(identity.account, identity.region),
            arn: identity.principal,
            user_id: identity.principal_id,
            access_key: identity.access_key,
        };
        if is_read(&route.operation.name)
            && let Some(answer) = self.read(route, handler, &caller, &input.value)
        {
            return answer;
        }
        let bytes = writes_bytes(&route.operation.name).then(|| BytesFirst::new(&self.layers, &*self.logs));
        if let Some(bytes) = &bytes
            && let Some(answer) = self.bytes_first(handler, &caller, &input.value, bytes)
        {
            return answer;
        }
        let mut ids = self.fresh_ids();
        let makes_vpc =
            route.operation.name == "CreateVpc" || is_new_scope(&Tx::new(self.db.snapshot()), &caller.scope);
        let site = if makes_vpc { Cow::Owned(self.site_now()) } else { Cow::Borrowed(&self.site) };
        let decided = self.db.decide(|tx| {
            if is_new_scope(tx, &caller.scope) {
                let networks = &site.host_networks;
                plan::network::ensure_default_vpc(tx, &mut ids, &caller.scope, networks, now_ms());
            }
            let mut call = Call { site: &site, ..self.call(tx, &mut ids, &caller) };
            if let Some(bytes) = &bytes {
                (call.blobs, call.logs) = (bytes, bytes);
            }
            handler(&mut call, input.value)
        });
        let decided = decided.await;
        cut::cut!("server.call-decided");
        let answer = decided.unwrap_or_else(|error| {
            tracing::error!(%error, "a decision could not be made durable");
            Err(Fault::new("ServerException", format!("The change could not be made durable: {error}"))
                .status(500))
        });
        answer.map(Answer::get)
    }

    /// Answers from the published snapshot, in nobody's way: a search of all logs must not keep a RunTask waiting.
    /// `None` if the operation has to write after all (the default VPC of a new account, say).
    fn read(
        &self,
        route: &Route,
        handler: aws::Handler,
        caller: &Caller,
        input: &Value,
    ) -> Option<Result<Value, Fault>> {
        let mut tx = Tx::new(self.db.snapshot());
        if is_new_scope(&tx, &caller.scope) {
            return None;
        }
        let mut ids = self.fresh_ids();
        let mut answer = || handler(&mut self.call(&mut tx, &mut ids, caller), input.clone());
        let answer = if touches_files(route) { tokio::task::block_in_place(answer) } else { answer() };
        tx.is_empty().then(|| answer.map(Answer::get))
    }

    /// Does the bytes of an operation on the published snapshot, in nobody's way. `None` if there is something to
    /// record of it: it is then decided again, with the bytes done.
    fn bytes_first(
        &self,
        handler: aws::Handler,
        caller: &Caller,
        input: &Value,
        bytes: &BytesFirst<'_>,
    ) -> Option<Result<Value, Fault>> {
        let mut tx = Tx::new(self.db.snapshot());
        if is_new_scope(&tx, &caller.scope) {
            return None;
        }
        let mut ids = self.fresh_ids();
        let mut call = Call { blobs: bytes, logs: bytes, ..self.call(&mut tx, &mut ids, caller) };
        let answer = tokio::task::block_in_place(|| handler(&mut call, input.clone()));
        (answer.is_err() || tx.is_empty()).then(|| answer.map(Answer::get))
    }

    fn call<'a>(&'a self, tx: &'a mut Tx, ids: &'a mut Ids, caller: &'a Caller) -> Call<'a> {
        Call {
            tx,
            ids,
            now_ms: now_ms(),
            caller,
            site: &self.site,
            logs: &*self.logs,
            blobs: &self.layers,
            secrets: &*self.keyring,
        }
    }

    fn verify(
        &self,
        route: &Route,
        parts: &http::request::Parts,
        body: &Bytes,
    ) -> Result<Identity, wire::sigv4::Refused> {
        let token = wire::sigv4::session_token(parts);
        let lookup = |access_key: &str| {
            let known = self.keyring.lookup(access_key, token.as_deref()).ok()??;
            Some(Credential {
                secret: known.secret,
                session_token: token.clone().filter(|_| known.expires_ms.is_some()),
                expires_at_ms: known.expires_ms,
                principal_id: principal_id(&known.arn, &known.account),
                account: known.account,
                principal: known.arn,
            })
        };
        let expected = Expected { service: Some(&route.model.signing_name), region: None };
        wire::sigv4::verify(parts, body, expected, &lookup, now_ms())
    }

    /// Where we are, with the machine's networks as they are now: others come and go.
    fn site_now(&self) -> Site {
        let mut site = self.site.clone();
        match self.networks.taken() {
            Ok(taken) => site.host_networks = taken,
            Err(error) => tracing::warn!(%error, "the machine's networks are taken to be as they were"),
        }
        site
    }

    /// A stream of ids of its own: decisions must not wait for each other here.
    fn fresh_ids(&self) -> Ids {
        let mut ids = self.ids.lock().unwrap_or_else(|p| p.into_inner());
        Ids::new(ids.next_u64())
    }
}

/// RegisterTaskDefinition refuses a key that it does not know.
fn refuses_unknown(operation: &str) -> bool {
    operation == "RegisterTaskDefinition"
}

/// Whether an operation is expected to change nothing: it then need not wait for its turn. Those that turn out to
/// change something are decided again.
fn is_read(operation: &str) -> bool {
    ["Describe", "List", "Get", "Filter", "Discover"].iter().any(|verb| operation.starts_with(verb))
}

/// Whether an operation reads or writes layers or log events, which are in files.
fn touches_files(route: &Route) -> bool {
    route.model.name == "logs" || writes_bytes(&route.operation.name)
}

fn is_new_scope(tx: &Tx, scope: &Scope) -> bool {
    tx.table::<state::ec2::Vpc>().scan(&scope.prefix()).next().is_none()
}

/// The unique id shown for a principal: the account for its root, `role id:session` for an assumed role.
fn principal_id(arn: &str, account: &str) -> String {
    match arn.rsplit_once('/') {
        Some((role, session)) if role.contains(":assumed-role/") => {
            format!("{}:{session}", aws::iam::role_id(role.rsplit('/').next().unwrap_or_default()))
        }
        _ => account.to_owned(),
    }
}
