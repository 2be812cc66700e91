//! What happens when there is no more of something. One test, because it takes all descriptors of the process.

mod common;

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use balancer::{Balancer, Settings};
use common::*;

fn limit_files(soft: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure lives through both calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = soft.min(limit.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
}

#[test]
fn clients_wait_at_the_bound_and_checks_without_descriptors_are_not_counted() {
    limit_files(200);
    let origin = Origin::named("here");
    let mut fixture = Fixture::with(&[origin.addr], |config| {
        config.target_groups[0].health_check.interval_ms = 100;
        config.target_groups[0].health_check.unhealthy_threshold = 3;
    });
    let settings = Settings { seed: 7, workers: 2, fronts: vec![], connections_max: 3 };
    fixture.balancer = Arc::new(Balancer::start(settings).unwrap());
    fixture.apply();
    fixture.wait_healthy();

    let mut idle: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(fixture.addr).unwrap()).collect();
    // Until the last of them is accepted.
    std::thread::sleep(Duration::from_millis(200));
    let mut waiting = TcpStream::connect(fixture.addr).unwrap();
    waiting.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    waiting.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let silence = waiting.peek(&mut [0]).unwrap_err().kind();
    assert!(matches!(silence, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{silence:?}");
    drop(idle.pop());
    waiting.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(waiting.peek(&mut [0]).unwrap(), 1, "answered once another has ended");

    let mut taken = Vec::new();
    let begun = Instant::now();
    // What a check that is under way gives back is taken too.
    while begun.elapsed() < Duration::from_millis(1500) {
        match File::open("/dev/null") {
            Ok(file) => taken.push(file),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    assert_eq!(fixture.health(), ["healthy"]);
    drop(taken);
    origin.stop();
    wait("unhealthy", || fixture.health()[0].starts_with("unhealthy"));
}
