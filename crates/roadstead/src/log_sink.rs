//! Where the agent delivers containers' output: log groups and streams of the control state, and their events.

use std::sync::Arc;

use agent::act::logs::{LogSink, LogSinkError, LogStreamName, Retry};
use aws::LogStore;
use state::logs::LogStream;
use state::{Db, Scope, TimeMs};

use crate::clock::now_ms;
use crate::logs::Logs;

/// The Logs service as the `awslogs` driver uses it.
pub struct OwnLogs {
    db: Arc<Db>,
    logs: Arc<Logs>,
}

impl OwnLogs {
    /// Over the control state and the events.
    pub fn new(db: Arc<Db>, logs: Arc<Logs>) -> OwnLogs {
        OwnLogs { db, logs }
    }

    fn ensure_stream(&self, to: &LogStreamName) -> Result<(), LogSinkError> {
        let scope = Scope::new(&to.account, &to.region);
        let snapshot = self.db.snapshot();
        let known = snapshot.log_groups.get(&scope.key(&to.group)).is_some()
            && snapshot.log_streams.get(&LogStream::key_of(&scope, &to.group, &to.stream)).is_some();
        if known {
            return Ok(());
        }
        let decided = self.db.decide_blocking(|tx| {
            aws::logs::ensure_stream(tx, &scope, &to.group, &to.stream, to.create_group, now_ms())
        });
        match decided {
            Ok(Ok(())) => Ok(()),
            // The group may be made later: the container's own files keep the lines until then.
            Ok(Err(fault)) => {
                let gone = fault.code == "ResourceNotFoundException";
                let retry = if gone { Retry::WhileRunning } else { Retry::Always };
                Err(LogSinkError { retry, text: fault.to_string() })
            }
            Err(error) => Err(LogSinkError { retry: Retry::Always, text: error.to_string() }),
        }
    }
}

impl LogSink for OwnLogs {
    fn append(&self, to: &LogStreamName, events: &[(TimeMs, String)]) -> Result<(), LogSinkError> {
        self.ensure_stream(to)?;
        if events.is_empty() {
            return Ok(());
        }
        let group = Scope::new(&to.account, &to.region).key(&to.group);
        let appended = self.logs.append(&group, &to.stream, events, now_ms());
        appended.map_err(|fault| LogSinkError { retry: Retry::Always, text: fault.to_string() })
    }
}
