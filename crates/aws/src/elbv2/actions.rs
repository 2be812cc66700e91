//! Actions of listeners and rules.

use state::elb::Action;
use wire::Fault;
use wire::shapes::elbv2 as shape;

use super::{invalid, load_balancers, refuse, target_groups, text};
use crate::Call;

/// Whether an action sends to a target group.
pub(super) fn sends_to(action: &Action, target_group_arn: &str) -> bool {
    matches!(action, Action::Forward { groups, .. } if groups.iter().any(|(arn, _)| arn == target_group_arn))
}

/// Reads the actions of a listener or rule of a load balancer: exactly one, since authentication is not served.
pub(super) fn from_wire(
    call: &Call<'_>,
    load_balancer_arn: &str,
    actions: Vec<shape::Action>,
) -> Result<Vec<Action>, Fault> {
    let mut actions = actions;
    actions.sort_by_key(|action| action.order.unwrap_or(i64::MAX));
    let mut read = Vec::new();
    for action in actions {
        read.push(one(call, load_balancer_arn, action)?);
    }
    match read.len() {
        1 => Ok(read),
        0 => Err(invalid("You must specify exactly one of 'forward', 'redirect' or 'fixed-response'")),
        _ => Err(Fault::new(
            "InvalidLoadBalancerAction",
            "Only one of 'forward', 'redirect' or 'fixed-response' can be specified",
        )),
    }
}

fn one(call: &Call<'_>, load_balancer_arn: &str, action: shape::Action) -> Result<Action, Fault> {
    refuse(&action.authenticate_oidc_config, "AuthenticateOidcConfig")?;
    refuse(&action.authenticate_cognito_config, "AuthenticateCognitoConfig")?;
    refuse(&action.jwt_validation_config, "JwtValidationConfig")?;
    let missing = |what: &str| {
        Fault::new("InvalidLoadBalancerAction", format!("'{what}' is required for this action type"))
    };
    let kind = text(&action.r#type);
    let configs = [
        (action.target_group_arn.is_some() || action.forward_config.is_some(), "forward"),
        (action.redirect_config.is_some(), "redirect"),
        (action.fixed_response_config.is_some(), "fixed-response"),
    ];
    if let Some((_, other)) = configs.into_iter().find(|(given, of)| *given && *of != kind) {
        let message = format!("An action of type '{kind}' cannot have the configuration of type '{other}'");
        return Err(Fault::new("InvalidLoadBalancerAction", message));
    }
    match kind {
        "forward" => {
            let action = forward(call, action.target_group_arn, action.forward_config)?;
            check_association(call, load_balancer_arn, &action)?;
            Ok(action)
        }
        "redirect" => redirect(action.redirect_config.ok_or_else(|| missing("RedirectConfig"))?),
        "fixed-response" => {
            fixed(action.fixed_response_config.ok_or_else(|| missing("FixedResponseConfig"))?)
        }
        other => Err(Fault::new(
            "InvalidLoadBalancerAction",
            format!("Actions of type '{other}' are not supported: use forward, redirect or fixed-response"),
        )),
    }
}

/// A target group takes traffic of one load balancer, in its own VPC.
fn check_association(call: &Call<'_>, load_balancer_arn: &str, action: &Action) -> Result<(), Fault> {
    let Action::Forward { groups, .. } = action else { return Ok(()) };
    let balancer = load_balancers::find(call, load_balancer_arn)?;
    for (arn, _) in groups {
        let group = target_groups::find(call, arn)?;
        if group.vpc_id != balancer.vpc_id {
            let message = format!(
                "The following target groups are not in VPC '{}' of the load balancer: {arn}",
                balancer.vpc_id
            );
            return Err(Fault::new("InvalidConfigurationRequest", message));
        }
        if load_balancers::of_target_group(call, &group).iter().any(|other| *other != balancer.arn) {
            let message = format!(
                "The following target groups cannot be associated with more than one load balancer: {arn}"
            );
            return Err(Fault::new("TargetGroupAssociationLimit", message));
        }
    }
    Ok(())
}

fn forward(
    call: &Call<'_>,
    arn: Option<String>,
    config: Option<shape::ForwardActionConfig>,
) -> Result<Action, Fault> {
    let config = config.unwrap_or_default();
    let tuples = config.target_groups.unwrap_or_default();
    let mut groups: Vec<(String, u32)> = Vec::new();
    for tuple in tuples {
        let weight = tuple.weight.unwrap_or(1);
        let weight = u32::try_from(weight).ok().filter(|w| *w <= 999);
        let weight = weight.ok_or_else(|| invalid("The weight of a target group must be from 0 to 999"))?;
        groups.push((tuple.target_group_arn.unwrap_or_default(), weight));
    }
    match arn {
        Some(arn) if groups.is_empty() => groups.push((arn, 1)),
        Some(arn) if groups.len() != 1 || groups[0].0 != arn => {
            return Err(invalid(
                "You cannot specify both a target group ARN and a list of target groups that differs from it",
            ));
        }
        _ => {}
    }
    if groups.is_empty() {
        return Err(invalid("A forward action must specify a target group"));
    }
    if groups.len() > 5 {
        return Err(Fault::new("TooManyTargetGroups", "An action can have at most 5 target groups"));
    }
    for (arn, _) in &groups {
        target_groups::find(call, arn)?;
    }
    let sticky = config.target_group_stickiness_config.filter(|s| s.enabled == Some(true));
    let stickiness_s = match sticky {
        None => None,
        Some(sticky) => {
            let seconds = u32::try_from(sticky.duration_seconds.unwrap_or(0)).ok();
            let seconds = seconds.filter(|s| (1..=604_800).contains(s));
            Some(seconds.ok_or_else(|| {
                invalid("The stickiness duration of a target group must be from 1 to 604800 seconds")
            })?)
        }
    };
    Ok(Action::Forward { groups, stickiness_s })
}

fn redirect(config: shape::RedirectActionConfig) -> Result<Action, Fault> {
    let or = |value: Option<String>, default: &str| value.unwrap_or_else(|| default.to_owned());
    let (protocol, host) = (or(config.protocol, "#{protocol}"), or(config.host, "#{host}"));
    let (port, path) = (or(config.port, "#{port}"), or(config.path, "/#{path}"));
    let query = or(config.query, "#{query}");
    let unchanged = [&protocol[..], &host, &port, &path];
    if unchanged == ["#{protocol}", "#{host}", "#{port}", "/#{path}"] {
        return Err(Fault::new(
            "InvalidLoadBalancerAction",
            "The redirect configuration must modify at least one of: protocol, port, host or path",
        ));
    }
    if !["HTTP", "HTTPS", "#{protocol}"].contains(&protocol.as_str()) {
        return Err(invalid(format!(
            "The redirect protocol '{protocol}' must be HTTP, HTTPS or #{{protocol}}"
        )));
    }
    if !path.starts_with('/') {
        return Err(invalid("The redirect path must start with '/'"));
    }
    if port != "#{port}" && !port.parse::<u16>().is_ok_and(|p| p > 0) {
        return Err(invalid("The redirect port must be from 1 to 65535 or #{port}"));
    }
    Ok(Action::Redirect { status: config.status_code.unwrap_or_default(), protocol, host, port, path, query })
}

fn fixed(config: shape::FixedResponseActionConfig) -> Result<Action, Fault> {
    let code = text(&config.status_code);
    let status = code.parse().ok().filter(|c: &u16| matches!(c / 100, 2 | 4 | 5));
    let status = status
        .ok_or_else(|| invalid(format!("The status code '{code}' is not valid: use 2XX, 4XX or 5XX")))?;
    const TYPES: [&str; 5] =
        ["text/plain", "text/css", "text/html", "application/javascript", "application/json"];
    if let Some(other) = config.content_type.as_deref().filter(|t| !TYPES.contains(t)) {
        return Err(invalid(format!(
            "The content type '{other}' is not valid: use one of {}",
            TYPES.join(", ")
        )));
    }
    if config.message_body.as_ref().is_some_and(|body| body.len() > 1024) {
        return Err(invalid("The message body cannot be longer than '1024' characters"));
    }
    Ok(Action::FixedResponse { status, content_type: config.content_type, body: config.message_body })
}

/// Shows actions.
pub(super) fn to_wire(actions: &[Action]) -> Vec<shape::Action> {
    actions.iter().enumerate().map(|(at, action)| view(action, at as i64 + 1, actions.len() > 1)).collect()
}

fn view(action: &Action, order: i64, ordered: bool) -> shape::Action {
    let mut shown = shape::Action { order: ordered.then_some(order), ..Default::default() };
    match action {
        Action::Forward { groups, stickiness_s } => {
            shown.r#type = Some("forward".into());
            if let [(arn, _)] = &groups[..] {
                shown.target_group_arn = Some(arn.clone());
            }
            let tuple = |(arn, weight): &(String, u32)| shape::TargetGroupTuple {
                target_group_arn: Some(arn.clone()),
                weight: Some(i64::from(*weight)),
            };
            shown.forward_config = Some(shape::ForwardActionConfig {
                target_groups: Some(groups.iter().map(tuple).collect()),
                target_group_stickiness_config: Some(shape::TargetGroupStickinessConfig {
                    enabled: Some(stickiness_s.is_some()),
                    duration_seconds: stickiness_s.map(i64::from),
                }),
            });
        }
        Action::Redirect { status, protocol, host, port, path, query } => {
            shown.r#type = Some("redirect".into());
            shown.redirect_config = Some(shape::RedirectActionConfig {
                protocol: Some(protocol.clone()),
                port: Some(port.clone()),
                host: Some(host.clone()),
                path: Some(path.clone()),
                query: Some(query.clone()),
                status_code: Some(status.clone()),
            });
        }
        Action::FixedResponse { status, content_type, body } => {
            shown.r#type = Some("fixed-response".into());
            shown.fixed_response_config = Some(shape::FixedResponseActionConfig {
                message_body: body.clone(),
                status_code: Some(status.to_string()),
                content_type: content_type.clone(),
            });
        }
    }
    shown
}
