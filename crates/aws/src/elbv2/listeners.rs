//! Listeners.

use std::sync::Arc;

use state::elb::{Listener, Rule};
use wire::Fault;
use wire::shapes::elbv2 as shape;

use super::load_balancers::{delete_listener, find as find_load_balancer};
use super::{actions, invalid, limit, page, page_by, refuse, tags, text};
use crate::Call;

/// The listener of an ARN, if it is of the caller's account and region.
pub(super) fn find(call: &Call<'_>, arn: &str) -> Result<Arc<Listener>, Fault> {
    let own = call.scope().arn("elasticloadbalancing", "listener/");
    let found = call.tx.get::<Listener>(arn).filter(|_| arn.starts_with(&own));
    found.ok_or_else(|| Fault::new("ListenerNotFound", format!("Listener '{arn}' not found")))
}

/// The listeners of a load balancer.
pub(super) fn of(call: &Call<'_>, load_balancer_arn: &str) -> Vec<Arc<Listener>> {
    call.tx.table::<Listener>().by_index("lb", load_balancer_arn).cloned().collect()
}

fn check_protocol(protocol: &str) -> Result<(), Fault> {
    match protocol {
        "HTTP" => Ok(()),
        "HTTPS" => {
            Err(Fault::new("UnsupportedProtocol", "Listener protocol 'HTTPS' is not supported: use 'HTTP'"))
        }
        other => Err(Fault::new(
            "UnsupportedProtocol",
            format!("Listener protocol '{other}' must be one of 'HTTPS, HTTP'"),
        )),
    }
}

fn check_port(
    call: &Call<'_>,
    load_balancer_arn: &str,
    port: i64,
    except: Option<&str>,
) -> Result<u16, Fault> {
    let port = u16::try_from(port).ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| invalid("A listener port must be from 1 to 65535"))?;
    let taken = of(call, load_balancer_arn).iter().any(|l| l.port == port && Some(l.arn.as_str()) != except);
    match taken {
        true => Err(Fault::new(
            "DuplicateListener",
            format!("A listener already exists on this port for this load balancer '{load_balancer_arn}'"),
        )),
        false => Ok(port),
    }
}

pub(super) fn create(
    call: &mut Call<'_>,
    input: shape::CreateListenerInput,
) -> Result<shape::CreateListenerOutput, Fault> {
    refuse(&input.ssl_policy, "SslPolicy")?;
    refuse(&input.certificates, "Certificates")?;
    refuse(&input.alpn_policy, "AlpnPolicy")?;
    refuse(&input.mutual_authentication, "MutualAuthentication")?;
    let balancer = find_load_balancer(call, text(&input.load_balancer_arn))?;
    let protocol = input.protocol.ok_or_else(|| invalid("A listener protocol must be specified"))?;
    check_protocol(&protocol)?;
    let port = input.port.ok_or_else(|| invalid("A listener port must be specified"))?;
    let port = check_port(call, &balancer.arn, port, None)?;
    if of(call, &balancer.arn).len() >= limit("listeners-per-application-load-balancer") {
        return Err(Fault::new("TooManyListeners", "The maximum number of listeners has been reached"));
    }
    let default_actions = actions::from_wire(call, &balancer.arn, input.default_actions.unwrap_or_default())?;
    let listener = Listener {
        arn: format!("{}/{}", balancer.arn.replacen(":loadbalancer/", ":listener/", 1), call.ids.hex(16)),
        load_balancer_arn: balancer.arn.clone(),
        port,
        protocol,
        default_actions,
        attributes: Default::default(),
        tags: tags::from_wire(input.tags)?,
    };
    call.tx.put(listener.clone());
    Ok(shape::CreateListenerOutput { listeners: Some(vec![view(&listener)]) })
}

pub(super) fn describe(
    call: &mut Call<'_>,
    input: shape::DescribeListenersInput,
) -> Result<shape::DescribeListenersOutput, Fault> {
    let arns = input.listener_arns.unwrap_or_default();
    let found = match &input.load_balancer_arn {
        Some(_) if !arns.is_empty() => {
            return Err(invalid(
                "Listener ARNs and a load balancer ARN cannot be specified at the same time",
            ));
        }
        Some(balancer) => of(call, &find_load_balancer(call, balancer)?.arn),
        None if arns.is_empty() => {
            return Err(invalid("You must specify either listener ARNs or a load balancer ARN"));
        }
        None => arns.iter().map(|arn| find(call, arn)).collect::<Result<_, _>>()?,
    };
    let (items, next_marker) = match arns.is_empty() {
        true => page_by(found, input.marker, input.page_size, |listener| listener.arn.clone())?,
        false => page(found, input.marker, input.page_size)?,
    };
    let listeners = items.iter().map(|listener| view(listener)).collect();
    Ok(shape::DescribeListenersOutput { listeners: Some(listeners), next_marker })
}

pub(super) fn modify(
    call: &mut Call<'_>,
    input: shape::ModifyListenerInput,
) -> Result<shape::ModifyListenerOutput, Fault> {
    refuse(&input.ssl_policy, "SslPolicy")?;
    refuse(&input.certificates, "Certificates")?;
    refuse(&input.alpn_policy, "AlpnPolicy")?;
    refuse(&input.mutual_authentication, "MutualAuthentication")?;
    let mut listener = Listener::clone(&*find(call, text(&input.listener_arn))?);
    if let Some(protocol) = input.protocol {
        check_protocol(&protocol)?;
        listener.protocol = protocol;
    }
    if let Some(port) = input.port {
        listener.port = check_port(call, &listener.load_balancer_arn, port, Some(&listener.arn))?;
    }
    if let Some(given) = input.default_actions.filter(|given| !given.is_empty()) {
        listener.default_actions = actions::from_wire(call, &listener.load_balancer_arn, given)?;
    }
    call.tx.put(listener.clone());
    Ok(shape::ModifyListenerOutput { listeners: Some(vec![view(&listener)]) })
}

pub(super) fn delete(
    call: &mut Call<'_>,
    input: shape::DeleteListenerInput,
) -> Result<shape::DeleteListenerOutput, Fault> {
    let listener = find(call, text(&input.listener_arn))?;
    delete_listener(call, &listener.arn);
    Ok(shape::DeleteListenerOutput {})
}

fn view(listener: &Listener) -> shape::Listener {
    shape::Listener {
        listener_arn: Some(listener.arn.clone()),
        load_balancer_arn: Some(listener.load_balancer_arn.clone()),
        port: Some(i64::from(listener.port)),
        protocol: Some(listener.protocol.clone()),
        default_actions: Some(actions::to_wire(&listener.default_actions)),
        ..Default::default()
    }
}

/// The rules of a listener, by priority.
pub(super) fn rules(call: &Call<'_>, listener_arn: &str) -> Vec<Arc<Rule>> {
    let mut rules: Vec<Arc<Rule>> =
        call.tx.table::<Rule>().by_index("listener", listener_arn).cloned().collect();
    rules.sort_by_key(|rule| rule.priority);
    rules
}
