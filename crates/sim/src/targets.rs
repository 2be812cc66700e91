//! Operations on what leads to a service's tasks: its target group, that group's listener, its name in Cloud Map.

use serde_json::{Value as Json, json};
use state::ContainerGroup;

use crate::ops::{Op, Options};
use crate::world::World;

/// Where load balancers' listeners begin to be counted.
const FIRST_PORT: u16 = 8_000;

impl World {
    /// Does an operation on targets and target groups; false if it is another.
    pub(crate) fn apply_to_targets(&mut self, op: &Op) -> bool {
        match op {
            Op::Deregister { service, task } => self.deregister(service, *task),
            Op::Register { service, task } => {
                if let Some(group) = self.task(service, *task) {
                    self.register(service, &group);
                }
            }
            Op::RegisterGone { service } => {
                let of = |g: &ContainerGroup| g.task().service.as_ref().is_some_and(|s| s.name == *service);
                let ended = self.snapshot.groups.iter().filter(|(_, g)| g.is_stopped() && of(g));
                let last = ended.max_by_key(|(_, g)| g.observed.stopped_at_ms).map(|(_, g)| g.clone());
                if let Some(group) = last {
                    self.register(service, &group);
                }
            }
            Op::Listen { service, on } => self.listen(service, *on),
            Op::Delay { service, seconds } => {
                let Some(arn) = self.group_of(service) else { return true };
                let attribute =
                    json!({"Key": "deregistration_delay.timeout_seconds", "Value": seconds.to_string()});
                let input = json!({"TargetGroupArn": arn, "Attributes": [attribute]});
                self.ask("elbv2", "ModifyTargetGroupAttributes", &input);
            }
            Op::DropTargetGroup { service } => {
                if let Some(arn) = self.group_of(service) {
                    self.ask("elbv2", "DeleteTargetGroup", &json!({"TargetGroupArn": arn}));
                }
            }
            _ => return false,
        }
        true
    }

    /// What a balanced service is given: its target group, made if it is not there.
    pub(crate) fn balancers(&mut self, service: &str, options: &Options) -> Json {
        let arn = self.target_group(service, options.ec2);
        json!([{"targetGroupArn": arn, "containerName": "app", "containerPort": 80}])
    }

    /// A service's target group, which a listener forwards to.
    fn target_group(&mut self, service: &str, ec2: bool) -> Json {
        let kind = if ec2 { "instance" } else { "ip" };
        let name = format!("{service}-{kind}");
        if let Some((arn, _)) = self.snapshot.target_groups.iter().find(|(_, group)| group.name == name) {
            return json!(arn);
        }
        let vpc = self.vpc();
        let group = json!({"Name": name, "Protocol": "HTTP", "Port": 80, "VpcId": vpc, "TargetType": kind});
        let made = self.ask("elbv2", "CreateTargetGroup", &group).unwrap_or_default();
        let arn = made["TargetGroups"][0]["TargetGroupArn"].clone();
        self.add_listener(&arn);
        arn
    }

    fn add_listener(&mut self, target_group: &Json) {
        let balancer = self.snapshot.load_balancers.iter().next().map(|(arn, _)| arn.to_owned());
        let free = |port: &u16| self.snapshot.listeners.iter().all(|(_, listener)| listener.port != *port);
        let port = (FIRST_PORT..).find(free);
        let actions = json!([{"Type": "forward", "TargetGroupArn": target_group}]);
        let listener =
            json!({"LoadBalancerArn": balancer, "Protocol": "HTTP", "Port": port, "DefaultActions": actions});
        self.ask("elbv2", "CreateListener", &listener);
    }

    /// The first of a service's target groups.
    fn group_of(&self, service: &str) -> Option<String> {
        let names = ["instance", "ip"].map(|kind| format!("{service}-{kind}"));
        let mut groups = self.snapshot.target_groups.iter();
        groups.find(|(_, group)| names.contains(&group.name)).map(|(arn, _)| arn.to_owned())
    }

    fn listen(&mut self, service: &str, on: bool) {
        let Some(arn) = self.group_of(service) else { return };
        if on {
            return self.add_listener(&json!(arn));
        }
        let forwards = |listener: &state::elb::Listener| {
            listener.default_actions.iter().any(|action| match action {
                state::elb::Action::Forward { groups, .. } => groups.iter().any(|(group, _)| *group == arn),
                _ => false,
            })
        };
        let listeners = &self.snapshot.listeners;
        let found = listeners.iter().find(|(_, listener)| forwards(listener)).map(|(arn, _)| arn.to_owned());
        if let Some(listener) = found {
            self.ask("elbv2", "DeleteListener", &json!({"ListenerArn": listener}));
        }
    }

    fn deregister(&mut self, service: &str, task: u32) {
        let Some(group) = self.task(service, task) else { return };
        let target = self.snapshot.targets.by_index("owner", &state::Record::key(&*group)).next().cloned();
        if let Some(target) = target {
            let targets = json!([{"Id": target.id, "Port": target.port}]);
            let input = json!({"TargetGroupArn": target.target_group_arn, "Targets": targets});
            self.ask("elbv2", "DeregisterTargets", &input);
        }
    }

    /// By the address of its own, or by the host port that it has.
    fn register(&mut self, service: &str, group: &ContainerGroup) {
        let Some(arn) = self.group_of(service) else { return };
        let target = match group.attachment() {
            Some(attachment) => json!({"Id": attachment.private_ip.to_string(), "Port": 80}),
            None => {
                let bindings = group.observed.containers.iter().flat_map(|c| &c.bindings);
                let port = bindings.map(|binding| binding.host_port).next().unwrap_or(80);
                json!({"Id": state::node::instance_id(group.node().unwrap_or_default()), "Port": port})
            }
        };
        self.ask("elbv2", "RegisterTargets", &json!({"TargetGroupArn": arn, "Targets": [target]}));
    }

    /// A service's Cloud Map service, made with its namespace if it is not there.
    pub(crate) fn registry(&mut self, service: &str) -> Json {
        let known = &self.snapshot.discovery_services;
        if let Some((_, found)) = known.iter().find(|(_, found)| found.name == service) {
            return json!(found.scope.arn("servicediscovery", &format!("service/{}", found.id)));
        }
        if self.snapshot.namespaces.is_empty() {
            let vpc = self.vpc();
            self.ask("servicediscovery", "CreatePrivateDnsNamespace", &json!({"Name": "sim", "Vpc": vpc}));
        }
        let namespace = self.snapshot.namespaces.iter().next().map(|(_, namespace)| namespace.id.clone());
        let records = json!([{"Type": "SRV", "TTL": 10}]);
        let input = json!({"Name": service, "NamespaceId": namespace, "DnsConfig": {"DnsRecords": records},
                           "HealthCheckCustomConfig": {"FailureThreshold": 1}});
        let made = self.ask("servicediscovery", "CreateService", &input).unwrap_or_default();
        made["Service"]["Arn"].clone()
    }
}
