//! CloudWatch Logs records: groups and streams. The events themselves are not control state.

use serde::{Deserialize, Serialize};

use crate::record::Record;
use crate::{Scope, Tags, TimeMs};

/// A log group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogGroup {
    /// Account and region.
    pub scope: Scope,
    /// Its name.
    pub name: String,
    /// `STANDARD`, `INFREQUENT_ACCESS` or `DELIVERY`.
    pub class: String,
    /// Events older than this many days are forgotten; `None` = never.
    pub retention_days: Option<u32>,
    /// DeleteLogGroup is refused.
    pub deletion_protection: bool,
    /// Tags.
    pub tags: Tags,
    /// When it was created.
    pub created_at_ms: TimeMs,
}

impl LogGroup {
    /// `arn:aws:logs:…:log-group:name`, without the `:*` that some answers append.
    pub fn arn(&self) -> String {
        self.scope.arn("logs", &format!("log-group:{}", self.name))
    }
}

impl Record for LogGroup {
    const TABLE: u8 = 60;
    fn key(&self) -> String {
        self.scope.key(&self.name)
    }
}

/// A log stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogStream {
    /// Account and region.
    pub scope: Scope,
    /// The group's name.
    pub group: String,
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created_at_ms: TimeMs,
}

impl LogStream {
    /// The record key: `account/region/group:stream`; neither name can hold a colon.
    pub fn key_of(scope: &Scope, group: &str, name: &str) -> String {
        scope.key(&format!("{group}:{name}"))
    }
}

impl Record for LogStream {
    const TABLE: u8 = 61;
    fn key(&self) -> String {
        Self::key_of(&self.scope, &self.group, &self.name)
    }
}
