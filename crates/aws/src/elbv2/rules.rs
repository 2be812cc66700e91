//! Listener rules. A listener's default actions are shown as its default rule.

use std::sync::Arc;

use state::elb::{Listener, Rule};
use wire::Fault;
use wire::shapes::elbv2 as shape;

use super::listeners::{find as find_listener, rules};
use super::{actions, conditions, invalid, limit, listeners, page, refuse, tags, text};
use crate::Call;

fn not_found(arn: &str) -> Fault {
    Fault::new("RuleNotFound", format!("Rule '{arn}' not found"))
}

/// The rule of an ARN, if it is of the caller's account and region.
pub(super) fn find(call: &Call<'_>, arn: &str) -> Result<Arc<Rule>, Fault> {
    let own = call.scope().arn("elasticloadbalancing", "listener-rule/");
    call.tx.get::<Rule>(arn).filter(|_| arn.starts_with(&own)).ok_or_else(|| not_found(arn))
}

/// The ARN of a listener's default rule: not stored, so its id is made of the listener's own.
fn default_rule_arn(listener: &Listener) -> String {
    let id = listener.arn.rsplit('/').next().unwrap_or_default();
    let turned: String = id.chars().rev().collect();
    format!("{}/{turned}", listener.arn.replacen(":listener/", ":listener-rule/", 1))
}

/// The listener whose default rule has this ARN.
fn listener_of_default(call: &Call<'_>, rule_arn: &str) -> Option<Arc<Listener>> {
    let listener = rule_arn.rsplit_once('/')?.0.replacen(":listener-rule/", ":listener/", 1);
    let listener = find_listener(call, &listener).ok()?;
    (default_rule_arn(&listener) == rule_arn).then_some(listener)
}

fn check_priority(call: &Call<'_>, listener_arn: &str, priority: i64) -> Result<u32, Fault> {
    let priority = u32::try_from(priority).ok().filter(|p| (1..=50_000).contains(p));
    let priority = priority.ok_or_else(|| invalid("A rule priority must be from 1 to 50000"))?;
    match rules(call, listener_arn).iter().any(|rule| rule.priority == priority) {
        true => Err(Fault::new("PriorityInUse", format!("Priority '{priority}' is currently in use"))),
        false => Ok(priority),
    }
}

pub(super) fn create(
    call: &mut Call<'_>,
    input: shape::CreateRuleInput,
) -> Result<shape::CreateRuleOutput, Fault> {
    refuse(&input.transforms, "Transforms")?;
    let listener = find_listener(call, text(&input.listener_arn))?;
    let priority = check_priority(call, &listener.arn, input.priority.unwrap_or(0))?;
    let siblings = listeners::of(call, &listener.load_balancer_arn);
    let count: usize = siblings.iter().map(|sibling| rules(call, &sibling.arn).len()).sum();
    if count >= limit("rules-per-application-load-balancer") {
        return Err(Fault::new("TooManyRules", "The maximum number of rules has been reached"));
    }
    let rule = Rule {
        arn: format!("{}/{}", listener.arn.replacen(":listener/", ":listener-rule/", 1), call.ids.hex(16)),
        listener_arn: listener.arn.clone(),
        priority,
        conditions: conditions::from_wire(input.conditions.unwrap_or_default())?,
        actions: actions::from_wire(call, &listener.load_balancer_arn, input.actions.unwrap_or_default())?,
        tags: tags::from_wire(input.tags)?,
    };
    call.tx.put(rule.clone());
    Ok(shape::CreateRuleOutput { rules: Some(vec![view(&rule)]) })
}

pub(super) fn describe(
    call: &mut Call<'_>,
    input: shape::DescribeRulesInput,
) -> Result<shape::DescribeRulesOutput, Fault> {
    let arns = input.rule_arns.unwrap_or_default();
    let shown = match &input.listener_arn {
        Some(_) if !arns.is_empty() => {
            return Err(invalid("Rule ARNs and a listener ARN cannot be specified at the same time"));
        }
        None if arns.is_empty() => {
            return Err(invalid("You must specify either listener rule ARNs or a listener ARN"));
        }
        Some(listener) => {
            let listener = find_listener(call, listener)?;
            let mut shown: Vec<_> = rules(call, &listener.arn).iter().map(|rule| view(rule)).collect();
            shown.push(default_view(&listener));
            shown
        }
        None => {
            let one = |arn: &String| match listener_of_default(call, arn) {
                Some(listener) => Ok(default_view(&listener)),
                None => find(call, arn).map(|rule| view(&rule)),
            };
            arns.iter().map(one).collect::<Result<_, _>>()?
        }
    };
    let (rules, next_marker) = page(shown, input.marker, input.page_size)?;
    Ok(shape::DescribeRulesOutput { rules: Some(rules), next_marker })
}

pub(super) fn modify(
    call: &mut Call<'_>,
    input: shape::ModifyRuleInput,
) -> Result<shape::ModifyRuleOutput, Fault> {
    refuse(&input.transforms, "Transforms")?;
    refuse(&input.reset_transforms, "ResetTransforms")?;
    let arn = text(&input.rule_arn);
    if listener_of_default(call, arn).is_some() {
        return Err(Fault::new("OperationNotPermitted", format!("Default rule '{arn}' cannot be modified")));
    }
    let mut rule = Rule::clone(&*find(call, arn)?);
    if let Some(given) = input.conditions {
        rule.conditions = conditions::from_wire(given)?;
    }
    if let Some(given) = input.actions {
        let listener = find_listener(call, &rule.listener_arn)?;
        rule.actions = actions::from_wire(call, &listener.load_balancer_arn, given)?;
    }
    call.tx.put(rule.clone());
    Ok(shape::ModifyRuleOutput { rules: Some(vec![view(&rule)]) })
}

pub(super) fn delete(
    call: &mut Call<'_>,
    input: shape::DeleteRuleInput,
) -> Result<shape::DeleteRuleOutput, Fault> {
    let arn = text(&input.rule_arn);
    if listener_of_default(call, arn).is_some() {
        return Err(Fault::new("OperationNotPermitted", format!("Default rule '{arn}' cannot be deleted")));
    }
    let rule = find(call, arn)?;
    call.tx.delete::<Rule>(&rule.arn);
    Ok(shape::DeleteRuleOutput {})
}

pub(super) fn set_priorities(
    call: &mut Call<'_>,
    input: shape::SetRulePrioritiesInput,
) -> Result<shape::SetRulePrioritiesOutput, Fault> {
    let mut changed = Vec::new();
    for pair in input.rule_priorities.unwrap_or_default() {
        let arn = text(&pair.rule_arn);
        if listener_of_default(call, arn).is_some() {
            let message = format!("Priority of default rule '{arn}' cannot be modified");
            return Err(Fault::new("OperationNotPermitted", message));
        }
        let priority = u32::try_from(pair.priority.unwrap_or(0)).ok().filter(|p| (1..=50_000).contains(p));
        let priority = priority.ok_or_else(|| invalid("A rule priority must be from 1 to 50000"))?;
        let rule = find(call, arn)?;
        call.tx.update::<Rule>(&rule.arn, |rule| rule.priority = priority);
        changed.push(rule.arn.clone());
    }
    // Checked when all are set: two rules may change places in one call.
    let mut shown = Vec::new();
    for arn in &changed {
        let rule = find(call, arn)?;
        let same = rules(call, &rule.listener_arn).iter().filter(|r| r.priority == rule.priority).count();
        if same > 1 {
            return Err(Fault::new(
                "PriorityInUse",
                format!("Priority '{}' is currently in use", rule.priority),
            ));
        }
        shown.push(view(&rule));
    }
    Ok(shape::SetRulePrioritiesOutput { rules: Some(shown) })
}

fn view(rule: &Rule) -> shape::Rule {
    shape::Rule {
        rule_arn: Some(rule.arn.clone()),
        priority: Some(rule.priority.to_string()),
        conditions: Some(rule.conditions.iter().map(conditions::to_wire).collect()),
        actions: Some(actions::to_wire(&rule.actions)),
        is_default: Some(false),
        transforms: None,
    }
}

fn default_view(listener: &Listener) -> shape::Rule {
    shape::Rule {
        rule_arn: Some(default_rule_arn(listener)),
        priority: Some("default".into()),
        conditions: Some(Vec::new()),
        actions: Some(actions::to_wire(&listener.default_actions)),
        is_default: Some(true),
        transforms: None,
    }
}
