//! What the balancer does: sockets, connections, requests, probes. All decisions are `decide`'s.
//!
//! Threads: one *control* thread accepts connections and probes targets; each *worker* thread runs a
//! single-threaded runtime that serves the connections given to it and keeps its own pools of target connections,
//! so that a request never crosses threads. A connection is one task, which drives the connection to the target too.

mod balancer;
mod body;
mod conn;
mod control;
mod counters;
mod exchange;
mod forward;
mod io;
mod pool;
mod probe;
mod proxy;
mod respond;
mod table;
mod target;
mod tunnel;
mod worker;

pub use balancer::{Balancer, ListenerStatus, Settings, TargetStatus};
pub use counters::{CountersSnapshot, GroupCounts, LoadBalancerCounts};

/// Milliseconds since the Unix epoch.
fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |elapsed| elapsed.as_millis() as i64)
}

/// Locks; a poisoned lock holds data that is still whole, since no code of ours panics half-way through a change.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
