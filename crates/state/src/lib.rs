//! The nouns of Roadstead: record types, ids, ARNs, snapshots, transactions and the checker.
//!
//! A [`Snapshot`] is the whole control state at one revision, as persistent maps: cloning it is a pointer copy.
//! A [`Tx`] is a snapshot plus the writes of one decision. [`Db`] applies transactions in order and makes them durable.
//! Nothing here names a clock, randomness, a file or a socket: time and ids are arguments.

mod arn;
pub mod assignment;
pub mod check;
pub mod cloudmap;
mod db;
pub mod digest;
pub mod ec2;
pub mod ecr;
pub mod ecs;
pub mod elb;
pub mod group;
pub mod iam;
mod ids;
pub mod logs;
pub mod node;
mod record;
pub mod room;
mod snapshot;
mod tx;

pub use arn::{Arn, Scope};
pub use db::{Changed, Db, DbError};
pub use group::{ContainerGroup, GroupSpec};
pub use ids::Ids;
pub use record::{Record, RecordError, Row, Table};
pub use snapshot::{HasTable, Snapshot};
pub use tx::Tx;

/// Milliseconds since the Unix epoch.
pub type TimeMs = i64;

/// Tags of a resource, in the order given.
pub type Tags = Vec<Tag>;

/// One tag of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Tag {
    /// The tag's key.
    pub key: String,
    /// The tag's value.
    pub value: String,
}
