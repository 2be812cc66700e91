//! Targets and listeners that come, fail, drain and go, under load.

mod common;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use balancer::config::*;
use balancer::{Balancer, Settings};
use common::*;

#[test]
fn health_goes_through_its_states() {
    let code = Arc::new(AtomicU16::new(500));
    let answer = code.clone();
    let origin = Origin::start(move |exchange| {
        assert_eq!(exchange.request.header("user-agent"), Some("ELB-HealthChecker/2.0"));
        assert_eq!(exchange.request.first_line, "GET /health HTTP/1.1");
        exchange.reply(&format!("{} X", answer.load(SeqCst)), "")
    });
    let mut fixture = Fixture::with(&[origin.addr], |config| {
        config.target_groups[0].health_check.path = "/health".into();
        config.target_groups[0].health_check.unhealthy_threshold = 3;
    });
    let mut changes = fixture.balancer.changes();
    let first = fixture.health();
    assert!(first[0].starts_with("initial Elb."), "{first:?}");
    wait("unhealthy", || fixture.health() == ["unhealthy Target.ResponseCodeMismatch"]);
    let said = fixture.balancer.targets()[0].health.description.clone();
    assert_eq!(said.as_deref(), Some("Health checks failed with these codes: [500]"));
    assert!(changes.has_changed().unwrap(), "a change of health is announced");
    changes.mark_unchanged();
    code.store(200, SeqCst);
    wait("healthy", || fixture.health() == ["healthy"]);
    assert!(changes.has_changed().unwrap());
    // State outlives a configuration that does not change the target.
    fixture.group().health_check.unhealthy_threshold = 2;
    fixture.apply();
    assert_eq!(fixture.health(), ["healthy"]);
    origin.stop();
    wait("unreachable", || fixture.health() == ["unhealthy Target.FailedHealthChecks"]);
    fixture.config.load_balancers.clear();
    fixture.apply();
    assert_eq!(fixture.health(), ["unused Target.NotInUse"]);
    fixture.group().targets[0].draining = true;
    fixture.apply();
    assert_eq!(fixture.health(), ["draining Target.DeregistrationInProgress"]);
}

#[test]
fn health_may_be_asked_at_another_port() {
    let (health, traffic) = (Origin::named("well"), Origin::named("traffic"));
    let fixture = Fixture::with(&[traffic.addr], |config| {
        config.target_groups[0].health_check.port = Some(health.addr.port());
    });
    fixture.wait_healthy();
    assert_eq!(traffic.requests.load(SeqCst), 0);
    assert_eq!(get(fixture.addr, "/").text(), "traffic");
    health.stop();
    wait("unhealthy", || fixture.health()[0].starts_with("unhealthy"));
}

#[test]
fn a_target_that_opens_late_is_found_long_before_its_next_interval() {
    let reserved = TcpListener::bind("127.0.0.1:0").unwrap();
    let late = Origin::named("late");
    let addr = reserved.local_addr().unwrap();
    drop(reserved);
    let fixture = Fixture::with(&[addr], |config| {
        config.target_groups[0].health_check.interval_ms = 300_000;
        config.target_groups[0].health_check.unhealthy_threshold = 2;
    });
    wait("a failed check", || fixture.health() == ["initial Elb.InitialHealthChecking"]);
    // Missed early checks are not counted.
    std::thread::sleep(Duration::from_millis(800));
    assert_eq!(fixture.health(), ["initial Elb.InitialHealthChecking"]);
    let listener = TcpListener::bind(addr).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut from, mut to) = (stream.unwrap(), std::net::TcpStream::connect(late.addr).unwrap());
            let (mut back, mut answer) = (to.try_clone().unwrap(), from.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            std::thread::spawn(move || std::io::copy(&mut back, &mut answer));
        }
    });
    fixture.wait_healthy();
}

#[test]
fn a_target_that_does_not_answer_times_out() {
    let origin = Origin::start(|exchange| {
        std::thread::sleep(Duration::from_millis(600));
        exchange.reply("200 OK", "")
    });
    let fixture =
        Fixture::with(&[origin.addr], |config| config.target_groups[0].health_check.timeout_ms = 100);
    wait("a time-out", || fixture.health() == ["unhealthy Target.Timeout"]);
    let health = fixture.balancer.targets().remove(0).health;
    assert_eq!(health.description.as_deref(), Some("Request timed out"));
}

/// A target whose health is what the flag says, and which answers all else with its name.
fn switchable(name: &'static str) -> (Origin, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(true));
    let flag = well.clone();
    let origin = Origin::start(move |exchange| {
        let probe = exchange.request.header("user-agent") == Some("ELB-HealthChecker/2.0");
        let head = if probe && !flag.load(SeqCst) { "503 Unwell" } else { "200 OK" };
        exchange.reply(head, name)
    });
    (origin, well)
}

#[test]
fn the_unhealthy_get_nothing_until_all_are_unhealthy() {
    let ((a, a_well), (b, b_well)) = (switchable("a"), switchable("b"));
    let fixture = Fixture::new(&[a.addr, b.addr]);
    fixture.wait_healthy();
    let mut client = Client::connect(fixture.addr);
    let mut answers = || -> Vec<_> { (0..20).map(|_| client.get("/").text().to_owned()).collect() };
    a_well.store(false, SeqCst);
    wait("a to be unhealthy", || fixture.health()[0].starts_with("unhealthy"));
    assert!(answers().iter().all(|name| name == "b"));
    b_well.store(false, SeqCst);
    wait("b to be unhealthy", || fixture.health()[1].starts_with("unhealthy"));
    let open = answers();
    assert_eq!(open.iter().filter(|name| *name == "a").count(), 10, "fails open: {open:?}");
    a_well.store(true, SeqCst);
    wait("a to be healthy", || fixture.health()[0] == "healthy");
    assert!(answers().iter().all(|name| name == "a"));
}

#[test]
fn a_refused_connection_goes_to_another_target() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let mut fixture = Fixture::with(&[a.addr, b.addr], |config| {
        config.target_groups[0].health_check.interval_ms = 60_000;
    });
    fixture.wait_healthy();
    a.stop();
    for _ in 0..10 {
        assert_eq!(get(fixture.addr, "/").text(), "b");
        let post = Client::connect(fixture.addr)
            .request("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(post.text(), "b", "a body not yet touched goes along");
    }
    let counts = fixture.balancer.counters().target_groups.remove(0);
    assert!(counts.connection_errors > 0);
    fixture.group().targets.pop();
    fixture.apply();
    assert_eq!(get(fixture.addr, "/").status(), 502, "no other target");
}

#[test]
fn a_stale_connection_is_no_error() {
    // Each connection takes two requests; the third is cut off without a byte, as by a keep-alive time-out.
    let origin = Origin::start(|exchange| {
        if exchange.request.header("user-agent").is_none() && exchange.nth > 2 {
            return false;
        }
        exchange.reply("200 OK", "ok")
    });
    let fixture = Fixture::new(&[origin.addr]);
    let mut client = Client::connect(fixture.addr);
    for i in 0..60 {
        assert_eq!(client.get("/").status(), 200, "request {i}");
    }
}

#[test]
fn a_stale_connection_is_not_used_for_what_cannot_be_repeated() {
    // Closes after each response, without saying so in a header.
    let origin = Origin::start(|exchange| {
        exchange.read_body();
        exchange.reply("200 OK", "ok");
        false
    });
    let fixture = Fixture::with(&[origin.addr], |config| {
        config.target_groups[0].health_check.interval_ms = 60_000;
    });
    fixture.wait_healthy();
    let mut client = Client::connect(fixture.addr);
    for i in 0..200 {
        let answer = client.request("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(answer.status(), 200, "request {i}");
        // Closed by the target; whether the balancer's event loop has seen it yet is left to chance.
        wait("the close", || origin.open.load(SeqCst) == 0);
    }
}

#[test]
fn draining_finishes_what_is_in_flight_and_says_when() {
    let release = Arc::new(AtomicBool::new(false));
    let (flag, begun) = (release.clone(), Arc::new(AtomicUsize::new(0)));
    let count = begun.clone();
    let old = Origin::start(move |exchange| {
        if exchange.request.first_line.contains("/hold") {
            count.fetch_add(1, SeqCst);
            wait("release", || flag.load(SeqCst));
        }
        exchange.reply("200 OK", "old")
    });
    let new = Origin::named("new");
    let mut fixture = Fixture::new(&[old.addr]);
    fixture.wait_healthy();
    let addr = fixture.addr;
    let held = std::thread::spawn(move || get(addr, "/hold"));
    wait("the held request", || begun.load(SeqCst) == 1);
    fixture.group().targets[0].draining = true;
    fixture.group().targets.push(target(new.addr));
    fixture.apply();
    let in_flight = || fixture.balancer.in_flight(GROUP, "127.0.0.1", old.addr.port());
    assert_eq!(in_flight(), 1);
    for _ in 0..20 {
        assert_eq!(get(addr, "/").text(), "new", "a draining target gets nothing new");
    }
    let mut changes = fixture.balancer.changes();
    wait("new to be healthy", || fixture.health()[1] == "healthy");
    changes.mark_unchanged();
    release.store(true, SeqCst);
    assert_eq!(held.join().unwrap().text(), "old");
    wait("drained", || in_flight() == 0);
    wait("the announcement", || changes.has_changed().unwrap());
    wait("its connections to be closed", || old.open.load(SeqCst) == 0);
}

#[test]
fn a_removed_target_is_cut_off() {
    let asked = Arc::new(AtomicBool::new(false));
    let held = asked.clone();
    let origin = Origin::start(move |exchange| {
        if exchange.request.first_line.contains("/hold") {
            held.store(true, SeqCst);
            let _ = std::io::Read::read(exchange.reader, &mut [0]);
            return false;
        }
        exchange.reply("200 OK", "ok")
    });
    let mut fixture = Fixture::new(&[origin.addr]);
    let mut client = Client::connect(fixture.addr);
    client.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    // Counted is not sent yet: one that has not gone out would be given to another target.
    wait("the request", || asked.load(SeqCst));
    fixture.group().targets.clear();
    fixture.apply();
    assert_eq!(client.read(false).unwrap().status(), 502);
    assert_eq!(client.get("/").status(), 503);
}

/// Requests in a loop on `clients` connections while `work` runs; the number of answers, and those that were not 200.
///
/// `work` gets the count of answers so far.
fn under_load(addr: SocketAddr, clients: usize, work: impl FnOnce(&AtomicUsize)) -> (usize, Vec<String>) {
    let (stop, total) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let run = |n: usize| {
        let (stop, total) = (stop.clone(), total.clone());
        std::thread::spawn(move || {
            let (mut bad, mut client) = (Vec::new(), Client::connect(addr));
            while !stop.load(SeqCst) {
                // Some connections are kept, some are new each time; some requests cannot be repeated.
                if n.is_multiple_of(3) {
                    client = Client::connect(addr);
                }
                let request = match n % 2 {
                    0 => "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
                    _ => "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
                };
                client.send(request);
                match client.read(false) {
                    Some(answer) if answer.status() == 200 => {}
                    Some(answer) => bad.push(answer.first_line),
                    None => {
                        bad.push("connection lost".into());
                        client = Client::connect(addr);
                    }
                }
                total.fetch_add(1, SeqCst);
            }
            bad
        })
    };
    let threads: Vec<_> = (0..clients).map(run).collect();
    work(&total);
    stop.store(true, SeqCst);
    let bad = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    (total.load(SeqCst), bad)
}

#[test]
fn rolling_over_all_targets_loses_no_request() {
    let mut targets = vec![Origin::named("ok"), Origin::named("ok")];
    let mut fixture = Fixture::new(&targets.iter().map(|origin| origin.addr).collect::<Vec<_>>());
    fixture.wait_healthy();
    let (total, bad) = under_load(fixture.addr, 6, |answers| {
        for round in 1..=15 {
            wait("answers", || answers.load(SeqCst) > round * 30);
            let fresh = Origin::named("ok");
            fixture.group().targets.push(target(fresh.addr));
            fixture.apply();
            fixture.wait_healthy();
            let old = targets.remove(0);
            fixture.group().targets[0].draining = true;
            fixture.apply();
            wait("the old target to drain", || {
                fixture.balancer.in_flight(GROUP, "127.0.0.1", old.addr.port()) == 0
            });
            old.stop();
            fixture.group().targets.remove(0);
            fixture.apply();
            targets.push(fresh);
        }
    });
    assert_eq!(bad, Vec::<String>::new(), "of {total}");
}

#[test]
fn replacing_all_targets_at_once_loses_no_request() {
    let mut now = Origin::named("ok");
    let mut fixture = Fixture::new(&[now.addr]);
    let (total, bad) = under_load(fixture.addr, 6, |answers| {
        for round in 1..=60 {
            wait("answers", || answers.load(SeqCst) > round * 30);
            let next = Origin::named("ok");
            fixture.group().targets = vec![Target { draining: true, ..target(now.addr) }, target(next.addr)];
            fixture.apply();
            wait("the old target to drain", || {
                fixture.balancer.in_flight(GROUP, "127.0.0.1", now.addr.port()) == 0
            });
            now.stop();
            now = next;
        }
    });
    assert_eq!(bad, Vec::<String>::new(), "of {total}");
}

#[test]
fn sessions_stick_and_move_on_when_their_target_drains() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let mut fixture = Fixture::with(&[a.addr, b.addr], |config| {
        config.target_groups[0].stickiness = Some(Stickiness::LbCookie { duration_s: 3600 });
    });
    fixture.wait_healthy();
    let mut client = Client::connect(fixture.addr);
    let first = client.get("/");
    let cookies = first.all("set-cookie");
    assert!(cookies[0].starts_with("AWSALB=") && cookies[0].contains("; Path=/"), "{cookies:?}");
    assert!(cookies[1].starts_with("AWSALBCORS=") && cookies[1].ends_with("SameSite=None"), "{cookies:?}");
    let with_cookie =
        format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {}\r\n\r\n", cookies[0].split(';').next().unwrap());
    for _ in 0..20 {
        assert_eq!(client.request(&with_cookie).text(), first.text());
    }
    let stuck = usize::from(first.text() == "b");
    fixture.group().targets[stuck].draining = true;
    fixture.apply();
    let moved = client.request(&with_cookie);
    assert_ne!(moved.text(), first.text());
    assert_ne!(moved.all("set-cookie")[0].split(';').next(), cookies[0].split(';').next());
}

#[test]
fn application_cookies_stick() {
    let login = |name: &'static str| {
        Origin::start(move |exchange| {
            let cookie = exchange.request.first_line.contains("/login").then_some("\r\nSet-Cookie: sid=1");
            exchange.reply(&format!("200 OK{}", cookie.unwrap_or("")), name)
        })
    };
    let (a, b) = (login("a"), login("b"));
    let fixture = Fixture::with(&[a.addr, b.addr], |config| {
        config.target_groups[0].stickiness =
            Some(Stickiness::AppCookie { cookie_name: "sid".into(), duration_s: 3600 });
    });
    fixture.wait_healthy();
    let mut client = Client::connect(fixture.addr);
    assert!(client.get("/").header("set-cookie").is_none());
    let first = client.get("/login");
    let cookies = first.all("set-cookie");
    assert!(cookies[0] == "sid=1" && cookies[1].starts_with("AWSALBAPP-0="), "{cookies:?}");
    let balancer_cookie = cookies[1].split(';').next().unwrap();
    for _ in 0..10 {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: sid=1; {balancer_cookie}\r\n\r\n");
        assert_eq!(client.request(&text).text(), first.text());
    }
    let others: Vec<_> = (0..10)
        .map(|_| client.request(&format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {balancer_cookie}\r\n\r\n")))
        .collect();
    assert!(
        others.iter().any(|answer| answer.text() != first.text()),
        "without the application's cookie none sticks"
    );
}

fn fronted(front: IpAddr) -> Balancer {
    Balancer::start(Settings { seed: 1, workers: 1, fronts: vec![front], connections_max: usize::MAX })
        .unwrap()
}

#[test]
fn a_shared_front_tells_load_balancers_apart_by_host() {
    let fixed = |name: &str| {
        Action::FixedResponse(FixedResponse {
            status_code: 200,
            content_type: None,
            message_body: Some(name.into()),
        })
    };
    let front = fresh_address();
    let balancer = fronted(front);
    let (one, two) = (fresh_address(), fresh_address());
    let mut config = BalancerConfig {
        load_balancers: vec![load_balancer("one", one, vec![], fixed("one"))],
        target_groups: vec![],
    };
    apply(&balancer, config.clone());
    let ask = |address: IpAddr, host: &str| {
        let mut client = Client::connect(SocketAddr::new(address, 8080));
        client.request(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    };
    assert_eq!(ask(front, "any.example").text(), "one", "the only one answers to any name");
    let own_name = Rule {
        arn: "r".into(),
        conditions: vec![Condition::HostHeader(vec!["*.shop.example".into()])],
        action: fixed("two by rule"),
    };
    config.load_balancers.push(load_balancer("two", two, vec![own_name], fixed("two")));
    apply(&balancer, config.clone());
    assert_eq!(ask(front, "one.elb.localhost:8080").text(), "one");
    assert_eq!(ask(front, "TWO.elb.localhost").text(), "two");
    assert_eq!(ask(front, "www.shop.example").text(), "two by rule");
    let nobody = ask(front, "other.example");
    assert_eq!((nobody.status(), nobody.text().contains("'other.example'")), (404, true));
    assert_eq!(ask(two, "other.example").text(), "two", "its own address needs no name");
    config.load_balancers.remove(0);
    apply(&balancer, config);
    assert_eq!(ask(front, "one.elb.localhost").text(), "two");
    wait("the removed address to close", || {
        std::net::TcpStream::connect(SocketAddr::new(one, 8080)).is_err()
    });
}

#[test]
fn a_taken_port_is_reported_and_tried_again() {
    let (front, address) = (fresh_address(), fresh_address());
    let occupied = TcpListener::bind(SocketAddr::new(front, 8080)).unwrap();
    let balancer = fronted(front);
    let fixed = FixedResponse { status_code: 200, content_type: None, message_body: None };
    let config = BalancerConfig {
        load_balancers: vec![load_balancer("one", address, vec![], Action::FixedResponse(fixed))],
        target_groups: vec![],
    };
    let statuses = apply(&balancer, config);
    let of = |ip: IpAddr| statuses.iter().find(|status| status.address.ip() == ip).unwrap();
    assert!(of(address).error.is_none() && of(address).own && !of(front).own);
    assert!(of(front).error.as_ref().unwrap().starts_with("cannot listen on "), "{:?}", of(front));
    assert_eq!(get(SocketAddr::new(address, 8080), "/").status(), 200, "its own address works");
    drop(occupied);
    wait("the front to open", || balancer.listeners().iter().all(|status| status.error.is_none()));
    assert_eq!(get(SocketAddr::new(front, 8080), "/").status(), 200);
}

#[test]
fn a_closed_listener_finishes_its_requests() {
    let begun = Arc::new(AtomicBool::new(false));
    let flag = begun.clone();
    let origin = Origin::start(move |exchange| {
        if exchange.request.first_line.contains("/slow") {
            flag.store(true, SeqCst);
            std::thread::sleep(Duration::from_millis(300));
        }
        exchange.reply("200 OK", "whole")
    });
    let mut fixture = Fixture::new(&[origin.addr]);
    let mut client = Client::connect(fixture.addr);
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    wait("the request", || begun.load(SeqCst));
    fixture.config.load_balancers[0].listeners.clear();
    fixture.apply();
    let answer = client.read(false).unwrap();
    assert_eq!((answer.text(), answer.header("connection")), ("whole", Some("close")));
    assert!(client.is_ended());
}

#[test]
fn dropping_the_balancer_frees_its_ports() {
    let fixture = Fixture::new(&[]);
    let addr = fixture.addr;
    let mut client = Client::connect(addr);
    assert_eq!(client.get("/").status(), 503);
    drop(fixture);
    assert!(client.is_ended());
    assert!(std::net::TcpStream::connect(addr).is_err());
}
