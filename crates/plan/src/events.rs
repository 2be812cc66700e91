//! A service's history, in ECS's words ("Amazon ECS service event messages", ECS developer guide).

use std::sync::Arc;

use state::ecs::{Service, ServiceEvent};
use state::{Ids, TimeMs};

/// How many events a service keeps, as ECS does.
const EVENTS_MAX: usize = 100;
/// A complaint is repeated only after this time.
const REPEAT_AFTER_MS: i64 = 5 * 60 * 1000;

/// Adds `(service name) message`.
pub fn add(service: &mut Service, ids: &mut Ids, now_ms: TimeMs, message: &str) {
    let message = format!("(service {}) {message}", service.name);
    let events = Arc::make_mut(&mut service.events);
    events.insert(0, ServiceEvent { id: ids.uuid(), at_ms: now_ms, message });
    events.truncate(EVENTS_MAX);
}

/// As [`add`], unless it was said recently and no task was started since.
pub fn add_unless_repeated(service: &mut Service, ids: &mut Ids, now_ms: TimeMs, message: &str) {
    let full = format!("(service {}) {message}", service.name);
    let recent = service.events.iter().take_while(|e| now_ms - e.at_ms < REPEAT_AFTER_MS);
    let mut since_start = recent.take_while(|e| !e.message.contains(") has started "));
    if !since_start.any(|e| e.message == full) {
        add(service, ids, now_ms, message);
    }
}

/// Says which tasks were stopped, if any were.
pub fn stopped(service: &mut Service, ids: &mut Ids, now_ms: TimeMs, stopped: &[&str]) {
    if !stopped.is_empty() {
        let tasks = tasks(stopped.iter().copied());
        add(service, ids, now_ms, &format!("has stopped {} running tasks: {tasks}.", stopped.len()));
    }
}

/// `(task a) (task b)`.
pub fn tasks<'a>(ids: impl IntoIterator<Item = &'a str>) -> String {
    ids.into_iter().map(|id| format!("(task {id})")).collect::<Vec<_>>().join(" ")
}
