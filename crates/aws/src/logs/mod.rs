//! CloudWatch Logs (API reference, version 2014-03-28): groups, streams, events.

mod events;
mod filter;
mod groups;
mod streams;
#[cfg(test)]
mod tests;

pub use streams::ensure_stream;

use wire::Fault;

crate::table::operations!(logs: {
    CreateLogGroup => groups::create,
    DescribeLogGroups => groups::describe,
    DeleteLogGroup => groups::delete,
    PutRetentionPolicy => groups::put_retention,
    DeleteRetentionPolicy => groups::delete_retention,
    TagResource => groups::tag,
    UntagResource => groups::untag,
    ListTagsForResource => groups::list_tags,
    TagLogGroup => groups::tag_by_name,
    ListTagsLogGroup => groups::list_tags_by_name,
    CreateLogStream => streams::create,
    DescribeLogStreams => streams::describe,
    DeleteLogStream => streams::delete,
    PutLogEvents => events::put,
    GetLogEvents => events::get,
    FilterLogEvents => events::filter,
});

fn invalid(message: impl Into<String>) -> Fault {
    Fault::new("InvalidParameterException", message)
}

fn group_missing() -> Fault {
    Fault::new("ResourceNotFoundException", "The specified log group does not exist.")
}

fn stream_missing() -> Fault {
    Fault::new("ResourceNotFoundException", "The specified log stream does not exist.")
}

/// Refuses a member that is not served; absent ones are fine.
fn refuse<T>(member: &Option<T>, name: &str) -> Result<(), Fault> {
    match member {
        None => Ok(()),
        Some(_) => Err(invalid(format!("{name} is not supported"))),
    }
}
