//! Bodies, upgrades and time: nothing is held back, nothing is read ahead without bound, nothing hangs for ever.

mod common;

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use common::*;

const BIG: usize = 64 * 1024 * 1024;

/// A position-dependent byte, so that loss, repetition and reordering all show.
fn byte(i: usize) -> u8 {
    (i ^ (i >> 8) ^ (i >> 16)) as u8
}

fn read_pattern(reader: &mut impl Read, len: usize) {
    let (mut at, mut buffer) = (0, vec![0; 256 * 1024]);
    while at < len {
        let want = buffer.len().min(len - at);
        let count = reader.read(&mut buffer[..want]).unwrap();
        assert!(count > 0, "the stream ended at {at} of {len}");
        assert!(buffer[..count].iter().enumerate().all(|(i, b)| *b == byte(at + i)), "wrong bytes near {at}");
        at += count;
    }
}

fn write_pattern(writer: &mut impl Write, len: usize) {
    let all: Vec<u8> = (0..1 << 20).map(byte).collect();
    for start in (0..len).step_by(all.len()) {
        let chunk: Vec<u8> = all.iter().enumerate().map(|(i, _)| byte(start + i)).collect();
        writer.write_all(&chunk[..chunk.len().min(len - start)]).unwrap();
    }
}

#[test]
fn large_bodies_both_ways() {
    let origin = Origin::start(|exchange| {
        let length = exchange.request.header("content-length").map(|text| text.parse().unwrap());
        if let Some(length) = length {
            read_pattern(exchange.reader, length);
            return exchange.reply("200 OK", "taken");
        }
        write!(exchange.stream, "HTTP/1.1 200 OK\r\nContent-Length: {BIG}\r\n\r\n").unwrap();
        write_pattern(exchange.stream, BIG);
        true
    });
    let fixture = Fixture::new(&[origin.addr]);
    let mut client = Client::connect(fixture.addr);
    client.send(&format!("PUT /up HTTP/1.1\r\nHost: a\r\nContent-Length: {BIG}\r\n\r\n"));
    write_pattern(&mut client.stream, BIG);
    assert_eq!(client.read(false).unwrap().text(), "taken");
    client.send("GET /down HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = read_head(&mut client.reader).unwrap();
    assert_eq!(head.header("content-length"), Some(BIG.to_string().as_str()));
    read_pattern(&mut client.reader, BIG);
    assert!(fixture.balancer.counters().load_balancers[0].processed_bytes > BIG as u64);
}

#[test]
fn a_slow_reader_slows_the_writer() {
    let written = Arc::new(AtomicUsize::new(0));
    let counted = written.clone();
    let origin = Origin::start(move |exchange| {
        if !exchange.request.first_line.contains("/big") {
            return exchange.reply("200 OK", "");
        }
        write!(exchange.stream, "HTTP/1.1 200 OK\r\nContent-Length: {BIG}\r\n\r\n").unwrap();
        let chunk = vec![7; 64 * 1024];
        for _ in 0..BIG / chunk.len() {
            if exchange.stream.write_all(&chunk).is_err() {
                return false;
            }
            counted.fetch_add(chunk.len(), SeqCst);
        }
        true
    });
    let fixture = Fixture::new(&[origin.addr]);
    let mut client = Client::connect(fixture.addr);
    client.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
    read_head(&mut client.reader).unwrap();
    // Wait until nothing more is written: all buffers on the way are full.
    let mut last = usize::MAX;
    wait("the writer to stall", || {
        std::thread::sleep(Duration::from_millis(200));
        std::mem::replace(&mut last, written.load(SeqCst)) == written.load(SeqCst)
    });
    let stalled = written.load(SeqCst);
    assert!(stalled < BIG / 2, "{stalled} bytes were taken for a client that reads nothing");
    let mut rest = vec![0; BIG];
    client.reader.read_exact(&mut rest).unwrap();
    assert!(rest.iter().all(|b| *b == 7));
}

#[test]
fn bytes_are_passed_on_as_they_come() {
    let origin = Origin::start(|exchange| {
        exchange.stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        // Each piece is answered only when its request piece has come: buffering either way would hang.
        for _ in 0..3 {
            let mut line = String::new();
            std::io::BufRead::read_line(exchange.reader, &mut line).unwrap();
            let mut piece = [0; 6];
            exchange.reader.read_exact(&mut piece).unwrap();
            assert_eq!(&piece[..4], b"ping");
            exchange.stream.write_all(b"4\r\npong\r\n").unwrap();
        }
        exchange.stream.write_all(b"0\r\n\r\n").unwrap();
        true
    });
    let fixture =
        Fixture::with(&[origin.addr], |config| config.target_groups[0].health_check.interval_ms = 60_000);
    let mut client = Client::connect(fixture.addr);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nping\r\n");
    assert_eq!(read_head(&mut client.reader).unwrap().status(), 200);
    for round in 0..3 {
        let mut piece = [0; 9];
        client.reader.read_exact(&mut piece).unwrap();
        assert_eq!(&piece, b"4\r\npong\r\n");
        client.send(if round < 2 { "4\r\nping\r\n" } else { "0\r\n\r\n" });
    }
    let mut end = [0; 5];
    client.reader.read_exact(&mut end).unwrap();
    assert_eq!(&end, b"0\r\n\r\n");
}

#[test]
fn trailers_pass_both_ways() {
    let origin = Origin::start(|exchange| {
        exchange.read_body();
        let sum = exchange.request.header("x-sum").unwrap_or("none").to_owned();
        let text = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Back\r\n\r\n2\r\nok\r\n0\r\nX-Back: {sum}\r\n\r\n"
        );
        exchange.stream.write_all(text.as_bytes()).is_ok()
    });
    let fixture = Fixture::new(&[origin.addr]);
    let answer = Client::connect(fixture.addr).request(
        "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
         2\r\nhi\r\n0\r\nX-Sum: 42\r\n\r\n",
    );
    assert_eq!((answer.text(), answer.header("x-back")), ("ok", Some("42")));
}

#[test]
fn expect_100_continue_is_answered() {
    let origin = Origin::mirror();
    let fixture = Fixture::new(&[origin.addr]);
    let mut client = Client::connect(fixture.addr);
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.read(false).unwrap().status(), 100);
    client.send("hello");
    let answer = client.read(false).unwrap();
    assert!(answer.status() == 200 && answer.text().ends_with("hello"), "{}", answer.text());
    assert!(!answer.text().to_ascii_lowercase().contains("expect:"));
}

/// A target that accepts WebSockets on /ws and echoes their bytes.
fn echo_origin() -> Origin {
    Origin::start(|exchange| {
        if exchange.request.header("upgrade") != Some("websocket") {
            return exchange.reply("200 OK", "plain");
        }
        let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        exchange.stream.write_all(head.as_bytes()).unwrap();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = exchange.reader.read(&mut buffer) {
            exchange.stream.write_all(&buffer[..count]).unwrap();
        }
        false
    })
}

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[test]
fn websocket_tunnel() {
    let origin = echo_origin();
    let fixture = Fixture::new(&[origin.addr]);
    let mut client = Client::connect(fixture.addr);
    client.send(UPGRADE);
    let answer = client.read(false).unwrap();
    assert_eq!(answer.status(), 101, "{answer:?}");
    assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(answer.header("upgrade"), Some("websocket"));
    for size in [1, 125, 4096, 1 << 20] {
        let sent: Vec<u8> = (0..size).map(byte).collect();
        let mut writer = client.stream.try_clone().unwrap();
        let copy = sent.clone();
        let writing = std::thread::spawn(move || writer.write_all(&copy).unwrap());
        let mut back = vec![0; size];
        client.reader.read_exact(&mut back).unwrap();
        writing.join().unwrap();
        assert!(back == sent);
    }
    assert_eq!(
        fixture.balancer.in_flight(GROUP, "127.0.0.1", origin.addr.port()),
        1,
        "a tunnel is in flight"
    );
    client.stream.shutdown(std::net::Shutdown::Both).unwrap();
    wait("the tunnel to end", || fixture.balancer.in_flight(GROUP, "127.0.0.1", origin.addr.port()) == 0);
}

#[test]
fn an_old_connection_may_still_become_a_tunnel_and_a_silent_one_ends() {
    let origin = echo_origin();
    let fixture = Fixture::with(&[origin.addr], |config| {
        config.load_balancers[0].attributes.client_keep_alive_ms = 50;
        config.load_balancers[0].attributes.idle_timeout_ms = 600;
    });
    let mut client = Client::connect(fixture.addr);
    std::thread::sleep(Duration::from_millis(300));
    client.send(UPGRADE);
    let answer = client.read(false).unwrap();
    assert_eq!((answer.status(), answer.header("connection")), (101, Some("Upgrade")));
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(250));
        client.send("ping");
        let mut back = [0; 4];
        client.reader.read_exact(&mut back).unwrap();
    }
    let silent = Instant::now();
    assert!(client.is_ended());
    assert!(silent.elapsed() >= Duration::from_millis(400), "{:?}", silent.elapsed());
}

#[test]
fn a_tunnel_ends_when_its_target_is_removed() {
    let origin = echo_origin();
    let mut fixture = Fixture::new(&[origin.addr]);
    let mut client = Client::connect(fixture.addr);
    client.send(UPGRADE);
    assert_eq!(client.read(false).unwrap().status(), 101);
    fixture.group().targets[0].draining = true;
    fixture.apply();
    client.send("still here");
    let mut back = [0; 10];
    client.reader.read_exact(&mut back).unwrap();
    fixture.group().targets.clear();
    fixture.apply();
    assert!(client.is_ended());
}

#[test]
fn a_silent_target_gives_504_and_a_silent_client_408() {
    let origin = Origin::start(|exchange| {
        if exchange.request.first_line.contains("/slow") {
            std::thread::sleep(Duration::from_secs(3));
        }
        exchange.reply("200 OK", "late")
    });
    let fixture =
        Fixture::with(&[origin.addr], |config| config.load_balancers[0].attributes.idle_timeout_ms = 400);
    let started = Instant::now();
    let mut client = Client::connect(fixture.addr);
    let answer = client.get("/slow");
    assert_eq!(answer.status(), 504);
    assert!(answer.text().contains("504 Gateway Time-out"));
    assert!((350..2000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
    assert_eq!(client.get("/quick").text(), "late", "the connection goes on");
    let mirror = Origin::mirror();
    let fixture =
        Fixture::with(&[mirror.addr], |config| config.load_balancers[0].attributes.idle_timeout_ms = 400);
    let mut client = Client::connect(fixture.addr);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
    assert_eq!(client.read(false).unwrap().status(), 408);
    assert!(client.is_ended());
}

#[test]
fn idle_connections_are_closed() {
    let origin = Origin::named("ok");
    let fixture =
        Fixture::with(&[origin.addr], |config| config.load_balancers[0].attributes.idle_timeout_ms = 300);
    let mut client = Client::connect(fixture.addr);
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(150));
        assert_eq!(client.get("/").text(), "ok", "use keeps it open");
    }
    let idle = Instant::now();
    assert!(client.is_ended());
    assert!((250..2000).contains(&idle.elapsed().as_millis()), "{:?}", idle.elapsed());
}

#[test]
fn a_client_that_leaves_ends_the_target_request() {
    let (started, noticed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (begun, gone) = (started.clone(), noticed.clone());
    let origin = Origin::start(move |exchange| {
        if exchange.request.first_line.contains("/wait") {
            begun.store(true, SeqCst);
            gone.store(exchange.reader.read(&mut [0]).is_ok_and(|count| count == 0), SeqCst);
            return false;
        }
        exchange.reply("200 OK", "")
    });
    let fixture = Fixture::new(&[origin.addr]);
    let mut client = Client::connect(fixture.addr);
    client.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    wait("the request to arrive", || started.load(SeqCst));
    drop(client);
    wait("the target to notice", || noticed.load(SeqCst));
    wait("nothing in flight", || fixture.balancer.in_flight(GROUP, "127.0.0.1", origin.addr.port()) == 0);
}

#[test]
fn misbehaving_targets_give_502() {
    let origin = Origin::start(|exchange| {
        let answer: &[u8] = match exchange.request.first_line.split(' ').nth(1) {
            Some("/closes") => b"",
            Some("/nonsense") => b"SSH-2.0-OpenSSH\r\n\r\n",
            Some("/half-a-head") => b"HTTP/1.1 200 OK\r\nContent-Le",
            Some("/switches") => {
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
            }
            _ => return exchange.reply("200 OK", "ok"),
        };
        exchange.stream.write_all(answer).unwrap();
        false
    });
    let fixture = Fixture::new(&[origin.addr]);
    let mut client = Client::connect(fixture.addr);
    for path in ["/closes", "/nonsense", "/half-a-head", "/switches"] {
        let answer = client.get(path);
        assert_eq!(answer.status(), 502, "{path}");
        assert_eq!(answer.header("content-length"), Some("122"));
        assert_eq!(client.get("/").text(), "ok", "after {path}");
    }
}

#[test]
fn a_response_cut_short_is_cut_short() {
    let origin = Origin::start(|exchange| {
        if !exchange.request.first_line.contains("/short") {
            return exchange.reply("200 OK", "ok");
        }
        exchange.stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").unwrap();
        false
    });
    let fixture = Fixture::new(&[origin.addr]);
    let mut client = Client::connect(fixture.addr);
    client.send("GET /short HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.read(false).is_none(), "a truncated body must not look whole");
}

#[test]
fn an_early_answer_reaches_a_client_that_still_sends() {
    let origin = Origin::start(|exchange| {
        exchange.reply("413 Too Large", "enough");
        // Reads on, as a server that closes in an orderly way does.
        let _ = std::io::copy(exchange.reader, &mut std::io::sink());
        false
    });
    let fixture = Fixture::new(&[origin.addr]);
    for _ in 0..20 {
        let mut client = Client::connect(fixture.addr);
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n");
        let mut writer = client.stream.try_clone().unwrap();
        let writing = std::thread::spawn(move || while writer.write_all(&[1; 65536]).is_ok() {});
        let answer = client.read(false).expect("an answer");
        assert_eq!((answer.status(), answer.text()), (413, "enough"));
        client.stream.shutdown(std::net::Shutdown::Both).ok();
        writing.join().unwrap();
    }
}

#[test]
fn a_body_that_stalls_is_cut() {
    let origin = Origin::start(|exchange| {
        if !exchange.request.first_line.contains("/stall") {
            return exchange.reply("200 OK", "ok");
        }
        exchange.stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").unwrap();
        let _ = exchange.reader.read(&mut [0]);
        false
    });
    let fixture =
        Fixture::with(&[origin.addr], |config| config.load_balancers[0].attributes.idle_timeout_ms = 300);
    let mut client = Client::connect(fixture.addr);
    client.send("GET /stall HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.read(false).is_none());
    wait("nothing in flight", || fixture.balancer.in_flight(GROUP, "127.0.0.1", origin.addr.port()) == 0);
}

#[test]
fn an_old_connection_is_closed_between_requests() {
    let origin = Origin::named("ok");
    let fixture = Fixture::with(&[origin.addr], |config| {
        config.load_balancers[0].attributes.client_keep_alive_ms = 200;
        config.load_balancers[0].attributes.idle_timeout_ms = 800;
    });
    let mut client = Client::connect(fixture.addr);
    let started = Instant::now();
    loop {
        let answer = client.get("/");
        assert_eq!(answer.text(), "ok");
        if answer.header("connection") == Some("close") {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(5), "it is never closed");
    }
    assert!(started.elapsed() >= Duration::from_millis(200));
    assert!(client.is_ended());
}
