//! Elastic Load Balancing v2: application load balancers (ELB API reference, version 2015-12-01).

mod actions;
mod attributes;
mod conditions;
mod listeners;
mod load_balancers;
mod rules;
mod tags;
mod target_groups;
mod targets;
#[cfg(test)]
mod tests;

use wire::Fault;

crate::table::operations!(elbv2: {
    CreateLoadBalancer => load_balancers::create,
    DescribeLoadBalancers => load_balancers::describe,
    DeleteLoadBalancer => load_balancers::delete,
    SetSecurityGroups => load_balancers::set_security_groups,
    SetSubnets => load_balancers::set_subnets,
    ModifyLoadBalancerAttributes => attributes::modify_load_balancer,
    DescribeLoadBalancerAttributes => attributes::describe_load_balancer,
    CreateTargetGroup => target_groups::create,
    DescribeTargetGroups => target_groups::describe,
    ModifyTargetGroup => target_groups::modify,
    DeleteTargetGroup => target_groups::delete,
    ModifyTargetGroupAttributes => attributes::modify_target_group,
    DescribeTargetGroupAttributes => attributes::describe_target_group,
    RegisterTargets => targets::register,
    DeregisterTargets => targets::deregister,
    DescribeTargetHealth => targets::health,
    CreateListener => listeners::create,
    DescribeListeners => listeners::describe,
    ModifyListener => listeners::modify,
    DeleteListener => listeners::delete,
    DescribeListenerAttributes => attributes::describe_listener,
    CreateRule => rules::create,
    DescribeRules => rules::describe,
    ModifyRule => rules::modify,
    DeleteRule => rules::delete,
    SetRulePriorities => rules::set_priorities,
    AddTags => tags::add,
    RemoveTags => tags::remove,
    DescribeTags => tags::describe,
    DescribeAccountLimits => tags::account_limits,
});

/// The limits of an account ("Quotas for your Application Load Balancers"), shown and kept.
pub(crate) const LIMITS: &[(&str, usize)] = &[
    ("application-load-balancers", 50),
    ("target-groups", 3000),
    ("targets-per-application-load-balancer", 1000),
    ("listeners-per-application-load-balancer", 50),
    ("rules-per-application-load-balancer", 100),
    ("targets-per-target-group", 1000),
    ("target-groups-per-action-on-application-load-balancer", 5),
    ("condition-values-per-alb-rule", 5),
];

/// `ValidationError` with a text.
fn invalid(message: impl Into<String>) -> Fault {
    Fault::new("ValidationError", message)
}

/// Refuses a member that is not served; absent ones are fine.
fn refuse<T>(member: &Option<T>, name: &str) -> Result<(), Fault> {
    match member {
        None => Ok(()),
        Some(_) => Err(invalid(format!("The parameter '{name}' is not supported"))),
    }
}

/// A quota of [`LIMITS`].
fn limit(name: &str) -> usize {
    LIMITS.iter().find(|(known, _)| *known == name).map_or(usize::MAX, |(_, max)| *max)
}

/// Cuts a page of a list that the caller named item by item, or that is in the order shown: the marker counts items,
/// since each page's request names the same ones.
fn page<T>(
    items: Vec<T>,
    marker: Option<String>,
    page_size: Option<i64>,
) -> Result<(Vec<T>, Option<String>), Fault> {
    let numbered = items.into_iter().enumerate();
    let (items, next) = page_by(numbered, marker, page_size, |(number, _)| format!("{number:06}"))?;
    Ok((items.into_iter().map(|(_, item)| item).collect(), next))
}

/// Cuts a page of a list that is sorted by `key`.
fn page_by<T>(
    items: impl IntoIterator<Item = T>,
    marker: Option<String>,
    page_size: Option<i64>,
    key: impl Fn(&T) -> String,
) -> Result<(Vec<T>, Option<String>), Fault> {
    let page = crate::Page { token: marker.as_deref(), limit: page_size.unwrap_or(400) as usize };
    if !page.is_valid() {
        return Err(invalid(format!("The marker '{}' is not valid", marker.unwrap_or_default())));
    }
    Ok(page.take(items, key))
}

/// The text of a member that validation made sure of.
fn text(member: &Option<String>) -> &str {
    member.as_deref().unwrap_or_default()
}

/// Names of load balancers and target groups: "up to 32 alphanumeric characters or hyphens, and must not begin or end
/// with a hyphen".
fn check_name(kind: &str, name: &str) -> Result<(), Fault> {
    if name.len() > 32 {
        return Err(invalid(format!("{kind} name '{name}' cannot be longer than '32' characters")));
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err(invalid(format!(
            "{kind} name '{name}' can only contain characters that are alphanumeric characters or hyphens(-)"
        )));
    }
    if name.is_empty() || name.starts_with('-') || name.ends_with('-') {
        return Err(invalid(format!("{kind} name '{name}' cannot begin or end with '-'")));
    }
    Ok(())
}
