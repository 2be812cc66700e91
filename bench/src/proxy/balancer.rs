//! A load balancer of Roadstead's, made by the public API.

use std::time::{Duration, Instant};

use super::Proxy;
use crate::client::Client;
use crate::roadstead::Roadstead;

const VERSION: &str = "2015-12-01";
const PORT: u16 = 8080;

/// A load balancer that clients reach on a loopback port: `/a/*` and `/b/*` go to a target group each.
pub struct Balancer {
    elb: Client,
    /// The port clients use.
    pub port: u16,
    /// The target groups, in the order of the origins.
    pub groups: Vec<String>,
}

/// What a balancer needs to know of the network.
pub struct Network {
    pub vpc: String,
    pub subnets: Vec<String>,
}

impl Network {
    /// The default network.
    pub fn default_of(roadstead: &Roadstead) -> Result<Network, String> {
        let answer =
            roadstead.client("ec2").call("DescribeSubnets", "Action=DescribeSubnets&Version=2016-11-15")?;
        let subnets = values(&answer, "subnetId");
        let vpc = values(&answer, "vpcId").into_iter().next().ok_or("no VPC")?;
        Ok(Network { vpc, subnets })
    }
}

impl Balancer {
    /// Makes one over two origins on loopback ports.
    pub fn create(roadstead: &Roadstead, origins: [u16; 2]) -> Result<Balancer, String> {
        let network = Network::default_of(roadstead)?;
        let mut balancer = Balancer { elb: roadstead.client("elbv2"), port: PORT, groups: Vec::new() };
        let made = balancer.load_balancer("bench", &network, None)?;
        for (name, port) in ["a", "b"].into_iter().zip(origins) {
            let group = balancer.target_group(name, port, "/", &network)?;
            balancer.groups.push(group);
            balancer.register(balancer.groups.len() - 1, "127.0.0.1", port)?;
        }
        let listener = balancer.listener(
            &made,
            PORT,
            "FixedResponseConfig.StatusCode=404&DefaultActions.member.1.Type=fixed-response",
        )?;
        for (at, path) in ["/a/*", "/b/*"].iter().enumerate() {
            let group = balancer.groups[at].clone();
            balancer.call(
                "CreateRule",
                &[
                    ("ListenerArn", &listener),
                    ("Priority", &(at + 1).to_string()),
                    ("Conditions.member.1.Field", "path-pattern"),
                    ("Conditions.member.1.Values.member.1", path),
                    ("Actions.member.1.Type", "forward"),
                    ("Actions.member.1.TargetGroupArn", &group),
                ],
            )?;
        }
        for group in 0..2 {
            balancer.wait_healthy(group, 1)?;
        }
        Ok(balancer)
    }

    /// Makes one that forwards all to one empty group of tasks on a port.
    pub fn before_tasks(
        roadstead: &Roadstead,
        security_group: &str,
        network: &Network,
    ) -> Result<Balancer, String> {
        let mut balancer = Balancer { elb: roadstead.client("elbv2"), port: PORT + 10, groups: Vec::new() };
        let made = balancer.load_balancer("tasks", network, Some(security_group))?;
        let group = balancer.target_group("tasks", 8080, "/", network)?;
        let action = format!("TargetGroupArn={}&DefaultActions.member.1.Type=forward", encode(&group));
        balancer.listener(&made, PORT + 10, &action)?;
        balancer.groups.push(group);
        Ok(balancer)
    }

    fn load_balancer(
        &mut self,
        name: &str,
        network: &Network,
        security_group: Option<&str>,
    ) -> Result<String, String> {
        let mut input = vec![("Name".to_owned(), name.to_owned())];
        for (at, subnet) in network.subnets.iter().enumerate() {
            input.push((format!("Subnets.member.{}", at + 1), subnet.clone()));
        }
        input.extend(security_group.map(|id| ("SecurityGroups.member.1".to_owned(), id.to_owned())));
        let input: Vec<(&str, &str)> = input.iter().map(|(key, value)| (&**key, &**value)).collect();
        let answer = self.call("CreateLoadBalancer", &input)?;
        values(&answer, "LoadBalancerArn").into_iter().next().ok_or(answer)
    }

    fn target_group(
        &mut self,
        name: &str,
        port: u16,
        path: &str,
        network: &Network,
    ) -> Result<String, String> {
        let answer = self.call(
            "CreateTargetGroup",
            &[
                ("Name", name),
                ("Protocol", "HTTP"),
                ("Port", &port.to_string()),
                ("VpcId", &network.vpc),
                ("TargetType", "ip"),
                ("HealthCheckPath", path),
                ("HealthCheckIntervalSeconds", "5"),
                ("HealthCheckTimeoutSeconds", "2"),
                ("HealthyThresholdCount", "2"),
            ],
        )?;
        let arn = values(&answer, "TargetGroupArn").into_iter().next().ok_or(answer)?;
        self.call(
            "ModifyTargetGroupAttributes",
            &[
                ("TargetGroupArn", &arn),
                ("Attributes.member.1.Key", "deregistration_delay.timeout_seconds"),
                ("Attributes.member.1.Value", "5"),
            ],
        )?;
        Ok(arn)
    }

    /// `action` is the default action's further input.
    fn listener(&mut self, load_balancer: &str, port: u16, action: &str) -> Result<String, String> {
        let body = format!(
            "Action=CreateListener&Version={VERSION}&LoadBalancerArn={}&Protocol=HTTP&Port={port}&DefaultActions.member.1.{action}",
            encode(load_balancer)
        );
        let answer = self.elb.call("CreateListener", &body)?;
        values(&answer, "ListenerArn").into_iter().next().ok_or(answer)
    }

    /// Speaks to the API over a new connection: the server closes one that has been silent for long.
    pub fn reconnect(&mut self, roadstead: &Roadstead) {
        self.elb = roadstead.client("elbv2");
    }

    /// Registers a loopback address as a target.
    pub fn register(&mut self, group: usize, address: &str, port: u16) -> Result<(), String> {
        self.change("RegisterTargets", group, address, port)
    }

    /// Deregisters it.
    pub fn deregister(&mut self, group: usize, address: &str, port: u16) -> Result<(), String> {
        self.change("DeregisterTargets", group, address, port)
    }

    fn change(&mut self, operation: &str, group: usize, address: &str, port: u16) -> Result<(), String> {
        let (arn, port) = (self.groups[group].clone(), port.to_string());
        let mut input = vec![
            ("TargetGroupArn", arn.as_str()),
            ("Targets.member.1.Id", address),
            ("Targets.member.1.Port", port.as_str()),
        ];
        // Outside of the VPC.
        if operation == "RegisterTargets" {
            input.push(("Targets.member.1.AvailabilityZone", "all"));
        }
        self.call(operation, &input).map(drop)
    }

    /// Waits until so many targets of a group are healthy.
    pub fn wait_healthy(&mut self, group: usize, count: usize) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let arn = self.groups[group].clone();
            let answer = self.call("DescribeTargetHealth", &[("TargetGroupArn", &arn)])?;
            if values(&answer, "State").iter().filter(|state| *state == "healthy").count() == count {
                return Ok(());
            }
            if begun.elapsed() > Duration::from_secs(60) {
                return Err(format!("not {count} healthy targets after a minute: {answer}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn call(&mut self, operation: &str, input: &[(&str, &str)]) -> Result<String, String> {
        let mut body = format!("Action={operation}&Version={VERSION}");
        for (key, value) in input {
            body.push_str(&format!("&{key}={}", encode(value)));
        }
        self.elb.call(operation, &body)
    }
}

/// A form value.
pub fn encode(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    value.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// The texts of all elements of a name in an XML document.
pub fn values(xml: &str, name: &str) -> Vec<String> {
    let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
    let after = xml.split(begin.as_str()).skip(1);
    after.filter_map(|rest| rest.split(end.as_str()).next()).map(str::to_owned).collect()
}

/// Roadstead as one of the proxies.
pub struct Measured<'a> {
    pub balancer: &'a Balancer,
    pub roadstead: &'a mut Roadstead,
}

impl Proxy for Measured<'_> {
    fn name(&self) -> String {
        "Roadstead".into()
    }

    fn port(&self) -> u16 {
        self.balancer.port
    }

    fn cpu(&mut self) -> Result<Duration, String> {
        self.roadstead.process.check_alive().map(|()| self.roadstead.process.cpu())
    }

    fn mark(&self) -> &'static str {
        "trace=Root=1-"
    }
}
