//! `logConfiguration` of a container definition.

use std::collections::BTreeMap;

use state::group::LogDestination;
use wire::Fault;
use wire::shapes::ecs as w;

use super::multiline;
use crate::ecs::faults::{client, refuse_list, unsupported};

/// The options of `awslogs` ("Using the awslogs log driver", ECS developer guide).
const AWSLOGS: [&str; 8] = [
    "awslogs-create-group",
    "awslogs-datetime-format",
    "awslogs-group",
    "awslogs-multiline-pattern",
    "awslogs-region",
    "awslogs-stream-prefix",
    "max-buffer-size",
    "mode",
];

/// Where the output goes; `None` = the node's own bounded buffer.
pub fn compile(log: &w::LogConfiguration) -> Result<Option<LogDestination>, Fault> {
    let w::LogConfiguration { log_driver, options, secret_options } = log;
    refuse_list("secretOptions", secret_options)?;
    let options = options.clone().unwrap_or_default();
    match log_driver.as_deref().unwrap_or_default() {
        "awslogs" => awslogs(&options).map(Some),
        // The driver that instances have by default: kept on the node.
        "json-file" => match options.keys().next() {
            None => Ok(None),
            Some(option) => Err(unsupported(&format!("option '{option}' of log driver json-file"))),
        },
        other => Err(unsupported(&format!("logDriver '{other}'"))),
    }
}

fn awslogs(options: &BTreeMap<String, String>) -> Result<LogDestination, Fault> {
    if let Some(other) = options.keys().find(|name| !AWSLOGS.contains(&name.as_str())) {
        return Err(client(format!("Log driver awslogs disallows options: {other}")));
    }
    let given = |name: &str| options.get(name).filter(|value| !value.is_empty()).cloned();
    // The stream of a container without a prefix would be named after a Docker container's id, which is not there.
    let needed = ["awslogs-region", "awslogs-group", "awslogs-stream-prefix"];
    let missing: Vec<&str> = needed.into_iter().filter(|name| given(name).is_none()).collect();
    if !missing.is_empty() {
        return Err(client(format!("Log driver awslogs requires options: {}", missing.join(", "))));
    }
    let flag = |name: &str| match options.get(name).map(String::as_str) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(client(format!("Invalid value '{other}' for log option {name}"))),
    };
    let multiline_pattern = match (given("awslogs-datetime-format"), given("awslogs-multiline-pattern")) {
        (Some(_), Some(_)) => {
            return Err(client(
                "You cannot configure log opts 'awslogs-datetime-format' and 'awslogs-multiline-pattern' at the same \
                 time",
            ));
        }
        (Some(format), None) => Some(multiline::of_datetime_format(&format)?),
        (None, pattern) => pattern,
    };
    let non_blocking = match options.get("mode").map(String::as_str) {
        Some("blocking") => false,
        // What ECS takes since June 2025 where an account does not say otherwise.
        None | Some("non-blocking") => true,
        Some(other) => return Err(client(format!("Invalid value '{other}' for log option mode"))),
    };
    if !non_blocking && given("max-buffer-size").is_some() {
        // In Docker's words: such a container would never start.
        return Err(client("logger: max-buffer-size option is only supported with 'mode=non-blocking'"));
    }
    Ok(LogDestination::Awslogs {
        group: given("awslogs-group").unwrap_or_default(),
        region: given("awslogs-region").unwrap_or_default(),
        stream_prefix: given("awslogs-stream-prefix").unwrap_or_default(),
        create_group: flag("awslogs-create-group")?,
        multiline_pattern,
        non_blocking,
        max_buffer_bytes: given("max-buffer-size").map(|text| bytes(&text)).transpose()?,
    })
}

/// `25m`, `512k`, `1g`, or bytes.
fn bytes(text: &str) -> Result<u64, Fault> {
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    let (number, factor) = match lower.as_bytes().last() {
        Some(b'k') => (&lower[..lower.len() - 1], 1 << 10),
        Some(b'm') => (&lower[..lower.len() - 1], 1 << 20),
        Some(b'g') => (&lower[..lower.len() - 1], 1 << 30),
        _ => (lower, 1u64),
    };
    let size = number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).filter(|size| *size > 0);
    size.ok_or_else(|| client(format!("Invalid value '{text}' for log option max-buffer-size")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_is_what_is_asked_for_and_a_buffer_is_for_non_blocking_alone() {
        let compiled = |more: &[(&str, &str)]| {
            let given = [("awslogs-group", "g"), ("awslogs-region", "r"), ("awslogs-stream-prefix", "p")];
            let all = given.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            match awslogs(&all.collect()) {
                Ok(LogDestination::Awslogs { non_blocking, max_buffer_bytes, .. }) => {
                    Ok((non_blocking, max_buffer_bytes))
                }
                Ok(other) => panic!("{other:?}"),
                Err(fault) => Err(fault.message),
            }
        };
        assert_eq!(compiled(&[]), Ok((true, None)));
        assert_eq!(compiled(&[("max-buffer-size", "1m")]), Ok((true, Some(1 << 20))));
        assert_eq!(compiled(&[("mode", "blocking")]), Ok((false, None)));
        let refused = "logger: max-buffer-size option is only supported with 'mode=non-blocking'".to_owned();
        assert_eq!(compiled(&[("mode", "blocking"), ("max-buffer-size", "1m")]), Err(refused));
    }

    #[test]
    fn sizes_read_as_docker_writes_them() {
        for (text, expect) in
            [("25m", 25 << 20), ("512k", 512 << 10), ("1g", 1 << 30), ("100", 100), ("4mb", 4 << 20)]
        {
            assert_eq!(bytes(text), Ok(expect), "{text}");
        }
        for bad in ["", "m", "-1", "0", "1.5m", "99999999999g", "a lot"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }
}
