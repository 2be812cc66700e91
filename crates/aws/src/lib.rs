//! What each AWS operation means: `<service>/mod.rs` is a table of operations, each a pure function.
//!
//! A handler is `fn(&mut Call, Input) -> Result<Output, Fault>`: it reads and writes the call's transaction and names no
//! clock, randomness, file or socket.

mod call;
pub mod ec2;
pub mod ecr;
pub mod ecs;
pub mod elbv2;
pub mod iam;
pub mod logs;
mod page;
pub mod servicediscovery;
pub mod sts;
mod table;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use call::{BlobStore, Call, Caller, LogEvent, LogPage, LogQuery, LogStore, Secrets, Site};
pub use page::Page;
pub use table::{Answer, Handler, Later, SERVICES, Service, find};
