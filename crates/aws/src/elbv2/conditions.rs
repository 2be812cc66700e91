//! Conditions of rules ("Condition types for listener rules", ELB user guide).

use state::elb::RuleCondition;
use wire::Fault;
use wire::shapes::elbv2 as shape;

use super::{invalid, refuse, text};

/// Reads the conditions of a rule; at most five values in all.
pub(super) fn from_wire(conditions: Vec<shape::RuleCondition>) -> Result<Vec<RuleCondition>, Fault> {
    if conditions.is_empty() {
        return Err(invalid("A condition must be specified"));
    }
    let mut read: Vec<RuleCondition> = Vec::new();
    for condition in conditions {
        read.push(one(condition)?);
    }
    for single in ["path-pattern", "host-header", "http-request-method", "source-ip"] {
        if read.iter().filter(|condition| field(condition) == single).count() > 1 {
            return Err(invalid(format!("A rule can only have one '{single}' condition")));
        }
    }
    if read.iter().map(count).sum::<usize>() > 5 {
        return Err(Fault::new("TooManyRules", "A rule can have at most '5' condition values"));
    }
    Ok(read)
}

fn one(condition: shape::RuleCondition) -> Result<RuleCondition, Fault> {
    refuse(&condition.regex_values, "RegexValues")?;
    let field = text(&condition.field).to_owned();
    check_configs(&condition, &field)?;
    let plain = condition.values;
    let values = |of_config: Option<Vec<String>>| {
        let values = of_config.or(plain).unwrap_or_default();
        match values.is_empty() {
            true => Err(invalid("A condition value must be specified")),
            false => Ok(values),
        }
    };
    match field.as_str() {
        "path-pattern" => {
            let config = condition.path_pattern_config.unwrap_or_default();
            refuse(&config.regex_values, "PathPatternConfig.RegexValues")?;
            let values = values(config.values)?;
            check(&values, 128, "path-pattern", |c| {
                c.is_ascii_alphanumeric() || "_-.$/~\"'@:+&*?".contains(c)
            })?;
            Ok(RuleCondition::Path(values))
        }
        "host-header" => {
            let config = condition.host_header_config.unwrap_or_default();
            refuse(&config.regex_values, "HostHeaderConfig.RegexValues")?;
            let values = values(config.values)?;
            check(&values, 128, "host-header", |c| c.is_ascii_alphanumeric() || "-.*?".contains(c))?;
            Ok(RuleCondition::Host(values))
        }
        "http-header" => {
            let config = condition.http_header_config.unwrap_or_default();
            refuse(&config.regex_values, "HttpHeaderConfig.RegexValues")?;
            let name = config.http_header_name.unwrap_or_default();
            if name.is_empty() || name.len() > 40 || name.eq_ignore_ascii_case("host") {
                return Err(invalid(format!("The http-header name '{name}' is not valid")));
            }
            let values = values(config.values)?;
            check(&values, 128, "http-header", |c| !c.is_control())?;
            Ok(RuleCondition::Header(name, values))
        }
        "http-request-method" => {
            let values = values(condition.http_request_method_config.unwrap_or_default().values)?;
            check(&values, 40, "http-request-method", |c| c.is_ascii_uppercase() || "-_".contains(c))?;
            Ok(RuleCondition::Method(values))
        }
        "query-string" => {
            let pairs = condition.query_string_config.unwrap_or_default().values.unwrap_or_default();
            let pairs: Vec<_> = pairs.into_iter().map(|p| (p.key, p.value.unwrap_or_default())).collect();
            if pairs.is_empty() || pairs.iter().any(|(_, value)| value.is_empty()) {
                return Err(invalid("A query-string condition must specify a value"));
            }
            Ok(RuleCondition::Query(pairs))
        }
        "source-ip" => {
            let values = values(condition.source_ip_config.unwrap_or_default().values)?;
            if let Some(bad) = values.iter().find(|value| !is_network(value)) {
                return Err(invalid(format!("The source-ip value '{bad}' must be in CIDR format")));
            }
            Ok(RuleCondition::SourceIp(values))
        }
        other => Err(invalid(format!(
            "Condition field '{other}' must be one of '[path-pattern, host-header, http-header, query-string, http-request-method, source-ip]'"
        ))),
    }
}

/// A condition has the configuration of its own field alone; the two oldest fields may have plain values instead.
fn check_configs(condition: &shape::RuleCondition, field: &str) -> Result<(), Fault> {
    let configs = [
        (condition.path_pattern_config.is_some(), "path-pattern"),
        (condition.host_header_config.is_some(), "host-header"),
        (condition.http_header_config.is_some(), "http-header"),
        (condition.http_request_method_config.is_some(), "http-request-method"),
        (condition.query_string_config.is_some(), "query-string"),
        (condition.source_ip_config.is_some(), "source-ip"),
    ];
    if let Some((_, other)) = configs.iter().find(|(given, of)| *given && *of != field) {
        return Err(invalid(format!("A condition on '{field}' cannot have the configuration of '{other}'")));
    }
    // What DescribeRules shows has both, the same values twice, and may be given back so.
    let path = condition.path_pattern_config.as_ref().and_then(|config| config.values.as_ref());
    let host = condition.host_header_config.as_ref().and_then(|config| config.values.as_ref());
    let plain = condition.values.as_ref();
    if plain.is_some() && path.or(host).is_some_and(|configured| Some(configured) != plain) {
        return Err(invalid(format!(
            "A condition on '{field}' cannot have 'Values' besides its configuration's"
        )));
    }
    if condition.values.is_some() && !["path-pattern", "host-header"].contains(&field) {
        return Err(invalid(format!(
            "A condition on '{field}' must have a configuration instead of 'Values'"
        )));
    }
    Ok(())
}

fn check(
    values: &[String],
    longest: usize,
    field: &str,
    allowed: impl Fn(char) -> bool,
) -> Result<(), Fault> {
    for value in values {
        if value.is_empty() || value.len() > longest {
            return Err(invalid(format!(
                "Condition value '{value}' of '{field}' must be from 1 to {longest} characters long"
            )));
        }
        if let Some(bad) = value.chars().find(|c| !allowed(*c)) {
            return Err(invalid(format!(
                "Condition value '{value}' of '{field}' contains a character that is not valid: '{bad}'"
            )));
        }
    }
    Ok(())
}

fn is_network(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let Ok(bits) = bits.parse::<u8>() else { return false };
    match address.parse() {
        Ok(std::net::IpAddr::V4(_)) => bits <= 32,
        Ok(std::net::IpAddr::V6(_)) => bits <= 128,
        Err(_) => false,
    }
}

fn field(condition: &RuleCondition) -> &'static str {
    match condition {
        RuleCondition::Path(_) => "path-pattern",
        RuleCondition::Host(_) => "host-header",
        RuleCondition::Header(..) => "http-header",
        RuleCondition::Method(_) => "http-request-method",
        RuleCondition::Query(_) => "query-string",
        RuleCondition::SourceIp(_) => "source-ip",
    }
}

fn count(condition: &RuleCondition) -> usize {
    match condition {
        RuleCondition::Path(values)
        | RuleCondition::Host(values)
        | RuleCondition::Header(_, values)
        | RuleCondition::Method(values)
        | RuleCondition::SourceIp(values) => values.len(),
        RuleCondition::Query(pairs) => pairs.len(),
    }
}

/// Shows a condition.
pub(super) fn to_wire(condition: &RuleCondition) -> shape::RuleCondition {
    let mut shown = shape::RuleCondition { field: Some(field(condition).into()), ..Default::default() };
    match condition {
        RuleCondition::Path(values) => {
            shown.values = Some(values.clone());
            shown.path_pattern_config = Some(shape::PathPatternConditionConfig {
                values: Some(values.clone()),
                ..Default::default()
            });
        }
        RuleCondition::Host(values) => {
            shown.values = Some(values.clone());
            shown.host_header_config =
                Some(shape::HostHeaderConditionConfig { values: Some(values.clone()), ..Default::default() });
        }
        RuleCondition::Header(name, values) => {
            shown.http_header_config = Some(shape::HttpHeaderConditionConfig {
                http_header_name: Some(name.clone()),
                values: Some(values.clone()),
                ..Default::default()
            });
        }
        RuleCondition::Method(values) => {
            shown.http_request_method_config =
                Some(shape::HttpRequestMethodConditionConfig { values: Some(values.clone()) });
        }
        RuleCondition::Query(pairs) => {
            let pair = |(key, value): &(Option<String>, String)| shape::QueryStringKeyValuePair {
                key: key.clone(),
                value: Some(value.clone()),
            };
            shown.query_string_config =
                Some(shape::QueryStringConditionConfig { values: Some(pairs.iter().map(pair).collect()) });
        }
        RuleCondition::SourceIp(values) => {
            shown.source_ip_config = Some(shape::SourceIpConditionConfig { values: Some(values.clone()) });
        }
    }
    shown
}
