//! The balancer alone, for measuring: `/a/*` goes to one target, everything else to another.
//!
//! `two_routes <listen address:port> <target a> <target b>` runs until it is killed. Compare it with another proxy over
//! the same targets by CPU time per request (utime and stime of /proc/<pid>/stat over a run of `wrk`).

use std::net::SocketAddr;

use balancer::config::*;
use balancer::{Balancer, Settings};

fn main() {
    let addresses: Vec<SocketAddr> =
        std::env::args().skip(1).map(|arg| arg.parse().expect("address:port")).collect();
    let [listen, a, b] = addresses[..] else { panic!("usage: two_routes <listen> <target a> <target b>") };
    let group = |arn: &str, addr: SocketAddr| TargetGroup {
        arn: arn.into(),
        algorithm: Algorithm::RoundRobin,
        stickiness: None,
        slow_start_ms: 0,
        health_check: HealthCheck::default(),
        targets: vec![Target {
            id: addr.ip().to_string(),
            address: addr.ip(),
            port: addr.port(),
            draining: false,
        }],
    };
    let forward = |arn: &str| {
        let target_groups = vec![WeightedGroup { target_group: arn.into(), weight: 1 }];
        Action::Forward(Forward { target_groups, stickiness_duration_s: None })
    };
    let rule = Rule {
        arn: "rule".into(),
        conditions: vec![Condition::PathPattern(vec!["/a/*".into()])],
        action: forward("a"),
    };
    let listener = Listener {
        arn: "listener".into(),
        port: listen.port(),
        rules: vec![rule],
        default_action: forward("b"),
    };
    let load_balancer = LoadBalancer {
        arn: "lb".into(),
        dns_name: "lb.elb.localhost".into(),
        address: listen.ip(),
        attributes: LoadBalancerAttributes::default(),
        listeners: vec![listener],
    };
    let config = BalancerConfig {
        load_balancers: vec![load_balancer],
        target_groups: vec![group("a", a), group("b", b)],
    };
    let balancer =
        Balancer::start(Settings { seed: 1, workers: 0, fronts: vec![], connections_max: usize::MAX })
            .expect("threads");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    for status in runtime.block_on(balancer.apply(config)) {
        eprintln!("{} {}", status.address, status.error.as_deref().unwrap_or("listening"));
    }
    loop {
        std::thread::park();
    }
}
