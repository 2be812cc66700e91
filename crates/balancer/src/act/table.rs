//! The configuration made ready for requests: names resolved to the live things they name.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::counters::{GroupCounters, LoadBalancerCounters};
use super::target::{Changes, LiveTarget};
use crate::config::{
    Action, BalancerConfig, FixedResponse, Forward, LoadBalancer, LoadBalancerAttributes, Redirect, Rule,
    TargetGroup,
};
use crate::decide::{sites, sticky};

/// One configuration, immutable; the targets and counts in it live on from one to the next.
#[derive(Default)]
pub(crate) struct Table {
    pub load_balancers: Vec<Arc<LiveLoadBalancer>>,
    pub groups: BTreeMap<Arc<str>, Arc<LiveGroup>>,
    /// What answers at each address: more than one where load balancers share it.
    pub sites: HashMap<SocketAddr, Vec<Arc<LiveListener>>>,
    /// The addresses that are a load balancer's own; the others are shared fronts.
    pub own: BTreeSet<SocketAddr>,
}

pub(crate) struct LiveLoadBalancer {
    pub arn: Arc<str>,
    pub dns_name: String,
    pub attributes: LoadBalancerAttributes,
    pub counters: Arc<LoadBalancerCounters>,
}

pub(crate) struct LiveListener {
    pub arn: Arc<str>,
    pub load_balancer: Arc<LiveLoadBalancer>,
    pub port: u16,
    pub rules: Vec<Rule>,
    /// One action per rule, then the default one.
    pub actions: Vec<LiveAction>,
}

pub(crate) enum LiveAction {
    Forward(LiveForward),
    Redirect(Redirect),
    FixedResponse(FixedResponse),
}

pub(crate) struct LiveForward {
    pub groups: Vec<WeightedGroup>,
    pub stickiness_duration_s: Option<u32>,
}

pub(crate) struct WeightedGroup {
    /// Absent when the configuration names a group that it does not have.
    pub group: Option<Arc<LiveGroup>>,
    pub weight: u32,
}

pub(crate) struct LiveGroup {
    pub arn: Arc<str>,
    /// What a stickiness cookie calls it.
    pub token: String,
    /// Its settings; `config.targets` and `targets` go in step.
    pub config: TargetGroup,
    /// Some listener forwards to it.
    pub in_use: bool,
    pub targets: Vec<Arc<LiveTarget>>,
    pub turn: Arc<AtomicU64>,
    pub counters: Arc<GroupCounters>,
}

impl Table {
    /// Builds the table for a configuration, taking over what lives on from the previous one.
    pub fn build(
        config: BalancerConfig,
        previous: &Table,
        workers: usize,
        fronts: &[IpAddr],
        changes: &Changes,
    ) -> Self {
        let used = used_groups(&config);
        let groups: BTreeMap<_, _> = config
            .target_groups
            .into_iter()
            .map(|group| {
                let arn: Arc<str> = group.arn.as_str().into();
                let old = previous.groups.get(&arn);
                let in_use = used.contains(&*arn);
                (
                    arn.clone(),
                    Arc::new(build_group(arn, group, in_use, old.map(|old| &**old), workers, changes)),
                )
            })
            .collect();
        let mut table = Table { groups, ..Table::default() };
        for load_balancer in config.load_balancers {
            table.add_load_balancer(load_balancer, previous, fronts);
        }
        table
    }

    fn add_load_balancer(&mut self, config: LoadBalancer, previous: &Table, fronts: &[IpAddr]) {
        let arn: Arc<str> = config.arn.as_str().into();
        let old = previous.load_balancers.iter().find(|old| old.arn == arn);
        let live = Arc::new(LiveLoadBalancer {
            arn,
            dns_name: config.dns_name,
            attributes: config.attributes,
            counters: old.map(|old| old.counters.clone()).unwrap_or_default(),
        });
        self.load_balancers.push(live.clone());
        for listener in config.listeners {
            let actions = listener.rules.iter().map(|rule| &rule.action).chain([&listener.default_action]);
            let site = Arc::new(LiveListener {
                arn: listener.arn.as_str().into(),
                load_balancer: live.clone(),
                port: listener.port,
                actions: actions.map(|action| self.live_action(action)).collect(),
                rules: listener.rules,
            });
            let own = SocketAddr::new(config.address, listener.port);
            self.own.insert(own);
            let shared = fronts.iter().map(|front| SocketAddr::new(*front, listener.port));
            for address in
                shared.filter(|address| *address != own && !config.address.is_unspecified()).chain([own])
            {
                self.sites.entry(address).or_default().push(site.clone());
            }
        }
    }

    fn live_action(&self, action: &Action) -> LiveAction {
        let Forward { target_groups, stickiness_duration_s } = match action {
            Action::Forward(forward) => forward,
            Action::Redirect(redirect) => return LiveAction::Redirect(redirect.clone()),
            Action::FixedResponse(fixed) => return LiveAction::FixedResponse(fixed.clone()),
        };
        let live = |arn: &str| self.groups.get(arn).cloned();
        let groups = target_groups
            .iter()
            .map(|g| WeightedGroup { group: live(&g.target_group), weight: g.weight })
            .collect();
        LiveAction::Forward(LiveForward { groups, stickiness_duration_s: *stickiness_duration_s })
    }

    /// The listener that answers a request for `host` (without port) at an address.
    pub fn listener(&self, address: &SocketAddr, host: &str) -> Option<&Arc<LiveListener>> {
        let candidates = self.sites.get(address)?;
        let sites = candidates.iter().map(|listener| sites::Site {
            dns_name: &listener.load_balancer.dns_name,
            rules: &listener.rules,
        });
        candidates.get(sites::choose(sites, host)?)
    }

    /// Brings the live targets into the state this table says, once requests can see the table: those now draining get
    /// no more requests, those that are gone are cut.
    pub fn settle(&self, previous: &Table) {
        for group in self.groups.values() {
            for (target, config) in group.targets.iter().zip(&group.config.targets) {
                if target.is_draining() != config.draining {
                    target.set_draining(config.draining);
                }
                if !group.in_use {
                    target.forget_health();
                }
            }
        }
        let kept: std::collections::HashSet<_> =
            self.targets().map(|(_, target)| Arc::as_ptr(target)).collect();
        previous
            .targets()
            .filter(|(_, old)| !kept.contains(&Arc::as_ptr(old)))
            .for_each(|(_, old)| old.end());
    }

    /// Every target of every group.
    pub fn targets(&self) -> impl Iterator<Item = (&Arc<LiveGroup>, &Arc<LiveTarget>)> {
        self.groups.values().flat_map(|group| group.targets.iter().map(move |target| (group, target)))
    }
}

fn used_groups(config: &BalancerConfig) -> BTreeSet<String> {
    let listeners = config.load_balancers.iter().flat_map(|lb| &lb.listeners);
    let actions = listeners.flat_map(|l| l.rules.iter().map(|rule| &rule.action).chain([&l.default_action]));
    let forwards = actions.filter_map(|action| match action {
        Action::Forward(forward) => Some(&forward.target_groups),
        _ => None,
    });
    forwards.flatten().map(|group| group.target_group.clone()).collect()
}

fn build_group(
    arn: Arc<str>,
    config: TargetGroup,
    in_use: bool,
    old: Option<&LiveGroup>,
    workers: usize,
    changes: &Changes,
) -> LiveGroup {
    let same = |target: &crate::config::Target| {
        old?.targets.iter().find(|old| old.id == target.id && old.addr == target.socket_addr()).cloned()
    };
    let live = |target| {
        same(target).unwrap_or_else(|| Arc::new(LiveTarget::new(&arn, target, workers, changes.clone())))
    };
    let targets = config.targets.iter().map(live).collect();
    LiveGroup {
        token: sticky::token(&[&arn]),
        config,
        in_use,
        targets,
        turn: old.map(|old| old.turn.clone()).unwrap_or_default(),
        counters: old.map(|old| old.counters.clone()).unwrap_or_default(),
        arn,
    }
}
