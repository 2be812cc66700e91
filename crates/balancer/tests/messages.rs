//! HTTP/1.1 as it is and as it is abused: how messages are framed, cut, run together and refused.

mod common;

use std::io::{Read, Write};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use balancer::config::*;
use common::*;

#[test]
fn requests_that_come_at_once_are_answered_in_order() {
    let mirror = Origin::mirror();
    let fixture = Fixture::new(&[mirror.addr]);
    let mut client = Client::connect(fixture.addr);
    let post = |n: usize| format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n<{n}>");
    let chunked = |n: usize| {
        format!("POST /{n} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n<{n}>\r\n0\r\n\r\n")
    };
    let get = |n: usize| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n");
    client.send(&[post(0), chunked(1), get(2), post(3), get(4)].concat());
    for n in 0..5 {
        let answer = client.read(false).unwrap();
        assert!(answer.text().contains(&format!(" /{n} HTTP/1.1\n")), "{n}: {}", answer.text());
        assert_eq!(answer.text().ends_with(&format!("<{n}>")), n != 2 && n != 4, "{}", answer.text());
    }
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let mirror = Origin::mirror();
    let fixture = Fixture::new(&[mirror.addr]);
    let mut client = Client::connect(fixture.addr);
    let text =
        "\r\nPOST /slow HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhi\r\n0\r\n\r\n";
    for byte in text.as_bytes() {
        client.stream.write_all(&[*byte]).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    let answer = client.read(false).unwrap();
    assert!(answer.text().starts_with("POST /slow HTTP/1.1\n") && answer.text().ends_with("\nhi"));
}

/// A target that answers with what the path names.
fn odd_origin() -> Origin {
    Origin::start(|exchange| {
        exchange.read_body();
        let answer: &[u8] = match exchange.request.first_line.split(' ').nth(1) {
            Some("/chunks") => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            Some("/close") => b"HTTP/1.1 200 OK\r\n\r\nabcde",
            Some("/close-1.0") => b"HTTP/1.0 200 OK\r\n\r\nabcde",
            Some("/hints") => {
                b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde"
            }
            Some("/more") => {
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcdeHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
            }
            Some("/bad-chunks") => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
            Some("/two-lengths") => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
            Some("/coded") => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            Some("/none") => b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
            Some("/same") => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nEtag: x\r\n\r\n",
            _ => return exchange.reply("200 OK", "plain"),
        };
        exchange.stream.write_all(answer).unwrap();
        let path = exchange.request.first_line.clone();
        !(path.contains("/close") || path.contains("bad-chunks"))
    })
}

#[test]
fn responses_of_every_framing() {
    let origin = odd_origin();
    let fixture = Fixture::new(&[origin.addr]);
    let mut client = Client::connect(fixture.addr);
    for path in ["/chunks", "/close", "/close-1.0", "/hints", "/more"] {
        for _ in 0..3 {
            let answer = client.get(path);
            assert_eq!((answer.status(), answer.text()), (200, "abcde"), "{path}");
            assert!(answer.header("date").is_some_and(|date| date.ends_with(" GMT")), "{answer:?}");
            assert_eq!(client.get("/plain").text(), "plain", "after {path}");
        }
    }
    let none = client.get("/none");
    assert_eq!((none.status(), none.header("content-length")), (204, None));
    let same = client.get("/same");
    assert_eq!(
        (same.status(), same.header("content-length"), same.header("etag")),
        (304, Some("99"), Some("x"))
    );
    for path in ["/two-lengths", "/coded"] {
        assert_eq!(client.get(path).status(), 502, "{path}");
        assert_eq!(client.get("/plain").text(), "plain", "after {path}");
    }
    client.send("GET /bad-chunks HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.read(false).is_none(), "a broken body must not look whole");
}

#[test]
fn an_old_client_gets_no_chunks_and_may_keep_its_connection() {
    let origin = odd_origin();
    let fixture = Fixture::new(&[origin.addr]);
    for path in ["/chunks", "/close", "/close-1.0"] {
        let mut old = Client::connect(fixture.addr);
        let answer = old.request(&format!("GET {path} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
        assert_eq!((answer.text(), answer.header("transfer-encoding")), ("abcde", None), "{path}");
        assert_eq!(answer.header("connection"), Some("close"));
    }
    let mut old = Client::connect(fixture.addr);
    for _ in 0..3 {
        let answer = old.request("GET /plain HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!((answer.text(), answer.header("connection")), ("plain", Some("keep-alive")));
    }
    assert_eq!(old.request("GET /plain HTTP/1.0\r\n\r\n").text(), "plain");
    assert!(old.is_ended());
}

#[test]
fn a_body_that_is_badly_chunked_is_refused() {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let seen = bodies.clone();
    let origin = Origin::start(move |exchange| {
        let mut line = exchange.request.first_line.clone();
        if line.starts_with("POST") {
            // All that comes, as it comes.
            let mut text = Vec::new();
            let _ = exchange.reader.read_to_end(&mut text);
            line.push_str(&String::from_utf8_lossy(&text));
            seen.lock().unwrap().push(line);
            return false;
        }
        exchange.reply("200 OK", "ok")
    });
    let fixture = Fixture::new(&[origin.addr]);
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (come, rest) in [
        ("x\r\n", ""),
        ("2\r\nhi\r\n", "2\nhi\r\n0\r\n\r\n"),
        ("2\r\nhi\r\n", "-1\r\n"),
        ("2\r\nhi\r\n", "0\r\nGET /hidden HTTP/1.1\r\n\r\n"),
    ] {
        let mut client = Client::connect(fixture.addr);
        client.send(&format!("{head}{come}"));
        std::thread::sleep(Duration::from_millis(100));
        client.send(rest);
        assert_eq!(client.read(false).map(|answer| answer.status()), Some(400), "{come:?} {rest:?}");
        assert!(client.is_ended());
    }
    wait("the target to see the ends", || origin.open.load(SeqCst) == 0);
    for body in bodies.lock().unwrap().iter() {
        assert!(!body.contains("0\r\n\r\n") && !body.contains("hidden"), "{body:?} looks whole");
    }
}

#[test]
fn a_body_for_the_balancer_itself_is_skipped_or_ends_the_connection() {
    let fixture = Fixture::with(&[], |config| {
        let fixed =
            FixedResponse { status_code: 200, content_type: None, message_body: Some("fixed".into()) };
        config.load_balancers[0].listeners[0].default_action = Action::FixedResponse(fixed);
    });
    let mut client = Client::connect(fixture.addr);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhiGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    for _ in 0..2 {
        let answer = client.read(false).unwrap();
        assert_eq!((answer.text(), answer.header("connection")), ("fixed", None));
    }
    let answer = client.request("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nh");
    assert_eq!((answer.text(), answer.header("connection")), ("fixed", Some("close")));
    assert!(client.is_ended());
    let head = Client::connect(fixture.addr).request("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((head.status(), head.header("content-length")), (200, Some("5")));
}

#[test]
fn what_follows_an_upgrade_at_once_is_the_tunnels() {
    let origin = Origin::start(|exchange| {
        if exchange.request.header("upgrade").is_none() {
            return exchange.reply("200 OK", "");
        }
        exchange
            .stream
            .write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello",
            )
            .unwrap();
        let mut first = [0; 5];
        exchange.reader.read_exact(&mut first).unwrap();
        exchange.stream.write_all(&first).unwrap();
        false
    });
    let fixture = Fixture::new(&[origin.addr]);
    let mut client = Client::connect(fixture.addr);
    client.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly");
    assert_eq!(client.read(false).unwrap().status(), 101);
    let mut back = [0; 10];
    client.reader.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"helloearly");
    assert!(client.is_ended());
}

#[test]
fn a_head_beyond_the_limit_is_not_waited_for() {
    let origin = Origin::start(|exchange| {
        let long = "x".repeat(40 * 1024);
        exchange.reply(&format!("200 OK\r\nX-Long: {long}"), "ok")
    });
    let fixture = Fixture::with(&[origin.addr], |config| {
        config.target_groups[0].health_check.interval_ms = 60_000;
    });
    assert_eq!(get(fixture.addr, "/").status(), 502, "a response's head of 40 KiB");
    let mut client = Client::connect(fixture.addr);
    client.send("GET / HTTP/1.1\r\n");
    let mut writer = client.stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        // Without an end; more than is ever taken.
        (0..10_000).all(|i| writer.write_all(format!("X-{i}: {}\r\n", "x".repeat(8000)).as_bytes()).is_ok())
    });
    assert_eq!(client.read(false).unwrap().status(), 431);
    client.stream.shutdown(std::net::Shutdown::Both).ok();
    assert!(!writing.join().unwrap());
}
