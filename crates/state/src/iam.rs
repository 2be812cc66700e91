//! IAM records: roles and managed policies. IAM is global: keys name the account, no region.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::record::Record;
use crate::{Tags, TimeMs};

/// A role.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Role {
    /// Twelve digits.
    pub account: String,
    /// Its name, unique in the account.
    pub name: String,
    /// `/` or `/a/b/`.
    pub path: String,
    /// `AROA…`.
    pub id: String,
    /// Who may assume it, as given.
    pub trust: String,
    /// Its description.
    pub description: Option<String>,
    /// The longest session, seconds.
    pub max_session_s: u32,
    /// Its permissions boundary's ARN.
    pub boundary: Option<String>,
    /// Inline policies: name → document as given.
    pub inline: BTreeMap<String, String>,
    /// ARNs of attached managed policies, in the order attached.
    pub attached: Vec<String>,
    /// Tags.
    pub tags: Tags,
    /// When it was created.
    pub created_at_ms: TimeMs,
}

impl Role {
    /// The record key: `account/name`.
    pub fn key_of(account: &str, name: &str) -> String {
        format!("{account}/{name}")
    }

    /// `arn:aws:iam::account:role/path/name`.
    pub fn arn(&self) -> String {
        format!("arn:aws:iam::{}:role{}{}", self.account, self.path, self.name)
    }
}

impl Record for Role {
    const TABLE: u8 = 50;
    fn key(&self) -> String {
        Self::key_of(&self.account, &self.name)
    }
}

/// A customer managed policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Twelve digits.
    pub account: String,
    /// Its name, unique in the account.
    pub name: String,
    /// `/` or `/a/b/`.
    pub path: String,
    /// `ANPA…`.
    pub id: String,
    /// The document as given: version `v1`.
    pub document: String,
    /// Its description.
    pub description: Option<String>,
    /// Tags.
    pub tags: Tags,
    /// When it was created.
    pub created_at_ms: TimeMs,
}

impl Policy {
    /// `arn:aws:iam::account:policy/path/name`.
    pub fn arn(&self) -> String {
        format!("arn:aws:iam::{}:policy{}{}", self.account, self.path, self.name)
    }
}

impl Record for Policy {
    const TABLE: u8 = 51;
    fn key(&self) -> String {
        format!("{}/{}", self.account, self.name)
    }
}
