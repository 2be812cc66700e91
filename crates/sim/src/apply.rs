//! How each operation is done: by a call of the API, or as a fault of what is outside the control state.

use serde_json::{Value as Json, json};
use state::ecs::ServiceStatus;
use state::group::TaskStatus;
use state::node::{Capacity, Node};
use state::{ContainerGroup, Record};
use std::sync::Arc;

use crate::machine::Machine;
use crate::ops::{Op, Options};
use crate::place::{PROVIDERS, Place};
use crate::world::{Due, Link, World};

impl World {
    /// The account's default VPC and cluster, a security group, and a load balancer: as a server and its user make them.
    pub fn build(&mut self) {
        let (scope, now_ms) = (self.scope.clone(), self.now_ms);
        self.commit(|tx, ids| plan::network::ensure_default_vpc(tx, ids, &scope, &[], now_ms));
        self.built("ecs", "CreateCluster", &json!({"capacityProviders": PROVIDERS}));
        let vpc = self.vpc();
        let group = json!({"GroupName": "tasks", "Description": "tasks", "VpcId": vpc});
        self.built("ec2", "CreateSecurityGroup", &group);
        let subnets = self.subnets();
        self.built("elbv2", "CreateLoadBalancer", &json!({"Name": "front", "Subnets": subnets}));
    }

    pub(crate) fn vpc(&self) -> String {
        self.snapshot.vpcs.iter().next().map(|(_, vpc)| vpc.id.clone()).unwrap_or_default()
    }

    fn subnets(&self) -> Vec<String> {
        self.snapshot.subnets.iter().map(|(_, subnet)| subnet.id.clone()).collect()
    }

    /// Does an operation. What it names and what is not there is left alone, as is what a server that is down is asked.
    pub fn apply(&mut self, op: &Op) {
        if self.apply_to_machines(op) {
            return;
        }
        match op {
            Op::Wait { ms } => self.run_for(*ms),
            Op::Settle => self.settle(),
            Op::Clock { ms } => {
                self.tally.faults += 1;
                for name in self.machines.keys().cloned().collect::<Vec<_>>() {
                    self.with_machine(&name, |machine, hands| machine.wake_up(hands));
                }
                self.now_ms += ms;
                self.skew_ms += ms;
            }
            Op::KillServer { down_ms } => self.kill_server(*down_ms),
            Op::KillBalancer => {
                self.tally.faults += 1;
                self.balancer = Default::default();
                self.server.balance_due = true;
                self.after(500, Due::Balance);
            }
            Op::LoseCommit => {
                self.tally.faults += 1;
                self.server.loses_commit = true;
            }
            _ if !self.server.up => {}
            Op::Stop { service, task } => {
                if let Some(group) = self.task(service, *task) {
                    self.ask("ecs", "StopTask", &json!({"task": group.task_arn()}));
                }
            }
            Op::Start { node, image } => self.start_on(node, image),
            Op::Run { image, count, ec2, place } => self.run_task(image, *count, *ec2, place),
            _ if self.apply_to_targets(op) => {}
            _ => self.apply_to_service(op),
        }
    }

    /// StartTask on a node.
    fn start_on(&mut self, node: &str, image: &str) {
        let Some(id) = self.machines.get(node).map(|machine| machine.id.clone()) else { return };
        let definition = self.define("start", image, &Options { ec2: true, ..Options::default() });
        let instance = state::node::container_instance_id(&self.scope, "default", &id);
        self.ask(
            "ecs",
            "StartTask",
            &json!({"taskDefinition": definition, "containerInstances": [instance]}),
        );
    }

    fn run_task(&mut self, image: &str, count: u32, ec2: bool, place: &Place) {
        let definition = self.define("run", image, &Options { ec2, ..Options::default() });
        // A task keeps nothing of how it was placed: the checker reads it here.
        let mut input =
            json!({"taskDefinition": definition, "count": count, "startedBy": format!("run{place}")});
        self.put_launch(&mut input, ec2, place);
        self.ask("ecs", "RunTask", &input);
    }

    /// Puts into a call how and where its tasks are launched.
    fn put_launch(&self, input: &mut Json, ec2: bool, place: &Place) {
        if ec2 {
            input["launchType"] = json!("EC2");
            place.put_ec2(input);
            return;
        }
        input["networkConfiguration"] = self.network();
        if !place.put_providers(input) {
            input["launchType"] = json!("FARGATE");
        }
    }

    /// A call that may be refused.
    pub(crate) fn ask(&mut self, service: &str, operation: &str, input: &Json) -> Option<Json> {
        self.tally.calls += 1;
        let answer = self.call(service, operation, input);
        self.tally.refused += u64::from(answer.is_err());
        answer.ok()
    }

    // === services ===

    fn apply_to_service(&mut self, op: &Op) {
        let mut update = |input: Json| {
            self.ask("ecs", "UpdateService", &input);
        };
        match op {
            Op::Service { name, image, options } => self.create_service(name, image, options),
            Op::Deploy { service, image } => {
                let Some(options) = self.options.get(service).cloned() else { return };
                let definition = self.define(service, image, &options);
                let input = json!({"service": service, "taskDefinition": definition});
                self.ask("ecs", "UpdateService", &input);
            }
            Op::Redeploy { service } => update(json!({"service": service, "forceNewDeployment": true})),
            Op::Scale { service, desired } => update(json!({"service": service, "desiredCount": desired})),
            Op::Percent { service, min, max } => {
                update(json!({"service": service, "deploymentConfiguration":
                {"minimumHealthyPercent": min, "maximumPercent": max}}))
            }
            Op::Balance { service, on } => {
                let Some(options) = self.options.get(service).cloned() else { return };
                let balancers = if *on { self.balancers(service, &options) } else { json!([]) };
                self.ask("ecs", "UpdateService", &json!({"service": service, "loadBalancers": balancers}));
            }
            Op::Retire { service } => {
                let found = self.snapshot.services.iter().find(|(_, s)| s.name == *service);
                let Some(arn) = found.map(|(_, s)| s.template.task_definition_arn.clone()) else { return };
                self.ask("ecs", "DeregisterTaskDefinition", &json!({"taskDefinition": arn}));
                self.ask("ecs", "DeleteTaskDefinitions", &json!({"taskDefinitions": [arn]}));
            }
            Op::Delete { service } => {
                self.ask("ecs", "DeleteService", &json!({"service": service, "force": true}));
            }
            Op::Remove { service } => self.remove(service),
            Op::Place { service, place } => {
                let Some(options) = self.options.get(service).cloned() else { return };
                let mut input = json!({"service": service});
                if options.ec2 {
                    place.put_ec2(&mut input);
                } else if !place.put_providers(&mut input) {
                    return;
                }
                self.ask("ecs", "UpdateService", &input);
            }
            _ => {}
        }
    }

    /// DeleteService without `force`: taken where no task is wanted, and nowhere else.
    fn remove(&mut self, name: &str) {
        let found = self.snapshot.services.iter().find(|(_, s)| s.name == name).map(|(_, s)| s.clone());
        let taken = self.ask("ecs", "DeleteService", &json!({"service": name})).is_some();
        let due = found.as_ref().is_some_and(|service| match service.status {
            ServiceStatus::Active => service.desired_count == 0,
            ServiceStatus::Draining => true,
            ServiceStatus::Inactive => false,
        });
        if taken != due {
            let desired = found.map(|service| service.desired_count);
            self.wrong.push(format!("{name} is deleted: {taken}, though its desired count is {desired:?}"));
        }
    }

    /// Registers a task definition; `family:revision`.
    fn define(&mut self, family: &str, image: &str, options: &Options) -> String {
        let check = |interval: u32| json!({"command": ["CMD", "check"], "interval": interval, "retries": 2, "startPeriod": 0});
        let mut app = json!({"name": "app", "image": image, "essential": true, "stopTimeout": 10,
                             "portMappings": [{"containerPort": 80}]});
        if options.checked {
            app["healthCheck"] = check(10);
        }
        let mut containers = vec![];
        if options.restart_s > 0 {
            app["restartPolicy"] = json!({"enabled": true, "ignoredExitCodes": [options.ignore],
                                          "restartAttemptPeriod": options.restart_s});
        }
        if options.sidecar {
            app["dependsOn"] = json!([{"containerName": "side", "condition": "HEALTHY"}]);
            containers.push(json!({"name": "side", "image": "good-side", "essential": false,
                                   "healthCheck": check(5)}));
        }
        if options.ec2 {
            app["portMappings"][0]["hostPort"] = json!(options.host_port);
        }
        containers.insert(0, app);
        let (kind, mode) = if options.ec2 { ("EC2", "bridge") } else { ("FARGATE", "awsvpc") };
        let input = json!({"family": family, "requiresCompatibilities": [kind], "networkMode": mode, "cpu": "256",
                           "memory": options.memory.to_string(), "containerDefinitions": containers});
        let made = self.ask("ecs", "RegisterTaskDefinition", &input);
        let arn = made.and_then(|m| m["taskDefinition"]["taskDefinitionArn"].as_str().map(str::to_owned));
        arn.unwrap_or_else(|| family.to_owned())
    }

    fn network(&self) -> Json {
        let group = self.snapshot.security_groups.iter().find(|(_, group)| group.name == "tasks");
        let groups: Vec<&str> = group.iter().map(|(_, group)| group.id.as_str()).collect();
        json!({"awsvpcConfiguration": {"subnets": self.subnets(), "securityGroups": groups}})
    }

    fn create_service(&mut self, name: &str, image: &str, options: &Options) {
        let definition = self.define(name, image, options);
        let mut input = json!({
            "serviceName": name, "taskDefinition": definition, "desiredCount": options.desired,
            "deploymentConfiguration": {
                "minimumHealthyPercent": options.min, "maximumPercent": options.max,
                "deploymentCircuitBreaker": {"enable": options.breaker.0, "rollback": options.breaker.1}},
        });
        self.put_launch(&mut input, options.ec2, &options.place);
        if options.named {
            let arn = self.registry(name);
            input["serviceRegistries"] =
                json!([{"registryArn": arn, "containerName": "app", "containerPort": 80}]);
        }
        if options.balanced {
            input["loadBalancers"] = self.balancers(name, options);
            input["healthCheckGracePeriodSeconds"] = json!(options.grace_s);
        }
        if self.ask("ecs", "CreateService", &input).is_some() {
            self.options.insert(name.to_owned(), options.clone());
        }
    }

    /// The live tasks of a service, oldest first; `-`: those of no service.
    pub fn tasks(&self, service: &str) -> Vec<Arc<ContainerGroup>> {
        let of = |g: &ContainerGroup| match &g.task().service {
            Some(owner) => owner.name == service,
            None => service == "-",
        };
        let groups = self.snapshot.groups.iter().map(|(_, g)| g);
        let mut found: Vec<_> = groups.filter(|g| of(g) && !g.is_stopped()).cloned().collect();
        found.sort_by(|a, b| (a.created_at_ms, &a.id).cmp(&(b.created_at_ms, &b.id)));
        found
    }

    /// The live task that an operation names.
    pub fn task(&self, service: &str, number: u32) -> Option<Arc<ContainerGroup>> {
        let tasks = self.tasks(service);
        let at = (number as usize).checked_rem(tasks.len())?;
        Some(tasks[at].clone())
    }

    /// What runs of a service: images of RUNNING tasks, oldest first.
    pub fn running(&self, service: &str) -> Vec<String> {
        let running = self.tasks(service).into_iter().filter(|g| g.status() == TaskStatus::Running);
        let image = |g: Arc<ContainerGroup>| {
            self.snapshot.specs.get(&g.spec).map(|s| s.spec.containers[0].image.clone()).unwrap_or_default()
        };
        running.map(image).collect()
    }

    // === machines ===

    /// Does an operation on machines; false if it is another.
    fn apply_to_machines(&mut self, op: &Op) -> bool {
        match op {
            Op::Nodes { count, cpu, memory } => (0..*count).for_each(|_| self.add_node(*cpu, *memory)),
            Op::Kill { service, task } => {
                let killed = |machine: &mut Machine, key: &str, hands: &mut crate::machine::Hands<'_>| {
                    machine.kill_container(key, hands);
                };
                self.on_machine_of(service, *task, killed);
            }
            Op::KillSupervisor { service, task } => {
                let killed = |machine: &mut Machine, key: &str, hands: &mut crate::machine::Hands<'_>| {
                    machine.kill_supervisor(key, hands);
                };
                self.on_machine_of(service, *task, killed);
            }
            Op::Sicken { service, task } | Op::Cure { service, task } => {
                let sick = matches!(op, Op::Sicken { .. });
                self.on_machine_of(service, *task, |machine, key, hands| machine.sicken(key, sick, hands));
            }
            Op::KillAgent { node, down_ms } => {
                if self.machines.get(node).is_some_and(|m| m.agent_up) {
                    self.with_machine(node, |machine, hands| machine.kill_agent(hands));
                    self.unheard(node);
                    self.after(*down_ms, Due::AgentUp(node.clone()));
                }
            }
            Op::Cut { node } => {
                if self.with_machine(node, |machine, _| machine.linked = false).is_some() {
                    self.unheard(node);
                }
            }
            Op::Mend { node } => {
                if self.machines.get(node).is_some_and(|m| !m.linked) {
                    self.with_machine(node, |machine, _| machine.linked = true);
                    self.after(500, Due::Heard(node.clone()));
                }
            }
            Op::PowerOff { node } => {
                self.with_machine(node, |machine, hands| machine.power_off(hands));
                self.machine_went(node);
            }
            Op::PowerOn { node } => {
                if self.machines.get(node).is_some_and(|m| !m.up) {
                    self.with_machine(node, |machine, _| machine.up = true);
                    self.after(5_000, Due::AgentUp(node.clone()));
                }
            }
            Op::Wipe { node } => {
                self.with_machine(node, |machine, hands| machine.wipe(hands));
                self.machine_went(node);
            }
            Op::Drop { node, count } => self.on_link(node, |link| link.drop += count),
            Op::Repeat { node, count } => self.on_link(node, |link| link.repeat += count),
            Op::Late { node, count } => self.on_link(node, |link| link.late += count),
            _ => return false,
        }
        if !matches!(op, Op::Nodes { .. }) {
            self.tally.faults += 1;
        }
        true
    }

    fn on_link(&mut self, node: &str, change: impl FnOnce(&mut Link)) {
        if let Some(link) = self.server.links.get_mut(node) {
            change(link);
        }
    }

    fn on_machine_of(
        &mut self,
        service: &str,
        task: u32,
        work: impl FnOnce(&mut Machine, &str, &mut crate::machine::Hands<'_>),
    ) {
        let Some(group) = self.task(service, task) else { return };
        let (key, name) = (group.key(), self.name_of(group.node().unwrap_or_default()));
        self.with_machine(&name, |machine, hands| work(machine, &key, hands));
        let even_ms = self.even_ms();
        self.balancer.disturbed(&key, even_ms);
        self.work_when_due();
    }

    /// The containers of a machine are gone.
    fn machine_went(&mut self, node: &str) {
        let Some(id) = self.machines.get(node).map(|m| m.id.clone()) else { return };
        self.unheard(node);
        let keys: Vec<String> = self.snapshot.groups.by_index("node", &id).map(|g| g.key()).collect();
        let even_ms = self.even_ms();
        keys.iter().for_each(|key| self.balancer.disturbed(key, even_ms));
        self.work_when_due();
    }

    /// A machine is switched on and its agent registers.
    fn add_node(&mut self, cpu: u32, memory: u32) {
        let number = self.machines.len() + 1;
        let name = format!("n{number}");
        // What makes it unlike others is in the first half: the instance id is made of that.
        let id = format!("{number:08x}{:024x}", 0);
        let zone = ["us-east-1a", "us-east-1b", "us-east-1c"][(number - 1) % 3];
        let record = Node {
            id: id.clone(),
            hostname: name.clone(),
            capacity: Capacity { cpu_units: cpu, memory_mib: memory },
            cpu_physical_units: cpu,
            availability_zone: zone.into(),
            cpu_architecture: "X86_64".into(),
            address: std::net::Ipv4Addr::from(0xc000_0200 + number as u32).into(),
            silent_since_ms: None,
            registered_at_ms: self.now_ms,
        };
        self.machines.insert(name.clone(), Machine::new(&id));
        self.records.insert(name.clone(), record);
        self.server.links.insert(name.clone(), Link::default());
        self.heard(&name);
    }
}
