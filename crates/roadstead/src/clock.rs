//! The one place that reads the clock.

use state::TimeMs;

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> TimeMs {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
