//! What a handler is given: the caller, the transaction, time and ids, and narrow doors to what is not control state.

use state::ec2::Cidr;
use state::{Ids, Scope, TimeMs, Tx};
use wire::Fault;

/// One call of one operation.
pub struct Call<'a> {
    /// The state and the writes of this call.
    pub tx: &'a mut Tx,
    /// Ids for what is created.
    pub ids: &'a mut Ids,
    /// Now.
    pub now_ms: TimeMs,
    /// Who calls.
    pub caller: &'a Caller,
    /// Where this Roadstead is.
    pub site: &'a Site,
    /// Log events.
    pub logs: &'a dyn LogStore,
    /// Image layers.
    pub blobs: &'a dyn BlobStore,
    /// Credentials given out.
    pub secrets: &'a dyn Secrets,
}

impl Call<'_> {
    /// The caller's account and region.
    pub fn scope(&self) -> &Scope {
        &self.caller.scope
    }
}

/// Who calls.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Account and region called.
    pub scope: Scope,
    /// `arn:aws:iam::…:root`, `arn:aws:iam::…:user/name` or `arn:aws:sts::…:assumed-role/role/session`.
    pub arn: String,
    /// The unique id shown by GetCallerIdentity.
    pub user_id: String,
    /// The access key that signed.
    pub access_key: String,
}

/// Where this Roadstead is, as it tells its clients.
#[derive(Debug, Clone)]
pub struct Site {
    /// `http://localhost:4566`.
    pub endpoint: String,
    /// Host and port of the registry, the first part of repository URIs: `localhost:4566`.
    pub registry_host: String,
    /// Networks that the host's own routes use: no VPC may overlap them.
    pub host_networks: Vec<Cidr>,
}

/// One log event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEvent {
    /// The stream it is of (set by reads over several streams).
    pub stream: String,
    /// When it happened.
    pub timestamp_ms: TimeMs,
    /// When it was taken in.
    pub ingestion_ms: TimeMs,
    /// The text.
    pub message: String,
    /// Unique in the group; orders events. As the token of a scan it goes on behind this event.
    pub id: String,
}

/// What to read of a log group.
#[derive(Debug, Clone, Default)]
pub struct LogQuery {
    /// `account/region/log-group`.
    pub group: String,
    /// The streams, empty = none (the handler names them all).
    pub streams: Vec<String>,
    /// From this time, inclusive.
    pub start_ms: Option<TimeMs>,
    /// To this time, exclusive.
    pub end_ms: Option<TimeMs>,
    /// At most this many events.
    pub limit: usize,
    /// Where the last page ended.
    pub token: Option<String>,
    /// Newest page first (events of a page are still oldest first), as GetLogEvents without startFromHead.
    pub backward: bool,
}

/// A page of log events.
#[derive(Debug, Clone, Default)]
pub struct LogPage {
    /// Oldest first.
    pub events: Vec<LogEvent>,
    /// Goes on after this page.
    pub forward_token: Option<String>,
    /// Goes on before this page.
    pub backward_token: Option<String>,
}

/// The log events, which are not control state.
pub trait LogStore: Sync {
    /// Appends events to a stream, durably. `group` as in [`LogQuery::group`].
    fn append(
        &self,
        group: &str,
        stream: &str,
        events: &[(TimeMs, String)],
        now_ms: TimeMs,
    ) -> Result<(), Fault>;
    /// Reads one stream, paged both ways (GetLogEvents).
    fn read(&self, query: &LogQuery) -> Result<LogPage, Fault>;
    /// Reads several streams merged by time, forward (FilterLogEvents).
    fn scan(&self, query: &LogQuery) -> Result<LogPage, Fault>;
    /// Forgets a stream.
    fn delete(&self, group: &str, stream: &str) -> Result<(), Fault>;
    /// First and last event time, last ingestion time, stored bytes.
    fn stats(&self, group: &str, stream: &str) -> (Option<TimeMs>, Option<TimeMs>, Option<TimeMs>, u64);
}

/// Image layers, which are not control state. Digests are `sha256:` and 64 hexadecimal digits.
pub trait BlobStore: Sync {
    /// The size of a blob, if it is there.
    fn size(&self, digest: &str) -> Option<u64>;
    /// Begins an upload; its id.
    fn begin(&self) -> Result<String, Fault>;
    /// Appends a part at an offset; the new length.
    fn append(&self, upload: &str, offset: u64, bytes: &[u8]) -> Result<u64, Fault>;
    /// Ends an upload; fails if the digest is not that of the bytes.
    fn finish(&self, upload: &str, digest: &str) -> Result<u64, Fault>;
}

/// Credentials and tokens: made from the operating system's randomness and kept outside the control state.
pub trait Secrets: Sync {
    /// New temporary credentials: access key, secret key, session token.
    fn issue(&self, caller_arn: &str, scope: &Scope, expires_ms: TimeMs) -> (String, String, String);
    /// A registry password for the caller, good until `expires_ms`.
    fn registry_token(&self, caller: &Caller, expires_ms: TimeMs) -> String;
}
