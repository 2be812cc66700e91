//! Rules, actions and headers: what a client and a target see of the balancer.

mod common;

use balancer::config::*;
use common::*;

#[test]
fn rules_route_by_path_and_the_rest_goes_to_the_default() {
    let (products, cart, other) = (Origin::named("products"), Origin::named("cart"), Origin::named("other"));
    let fixture = Fixture::with(&[other.addr], |config| {
        config.target_groups.push(group("products", &[products.addr]));
        config.target_groups.push(group("cart", &[cart.addr]));
        config.load_balancers[0].listeners[0].rules =
            vec![path_rule("/products/*", forward_to("products")), path_rule("/cart/*", forward_to("cart"))];
    });
    let mut client = Client::connect(fixture.addr);
    assert_eq!(client.get("/products/1").text(), "products");
    assert_eq!(client.get("/cart/1?x=/products/").text(), "cart");
    assert_eq!(client.get("/Products/1").text(), "other");
    assert_eq!(client.get("/").text(), "other");
    let counters = fixture.balancer.counters();
    assert_eq!((counters.load_balancers[0].requests, counters.load_balancers[0].new_connections), (4, 1));
    let main = counters.target_groups.iter().find(|group| group.arn == GROUP).unwrap();
    assert_eq!((main.requests, main.target_codes), (2, [0, 0, 2, 0, 0, 0]));
}

#[test]
fn targets_take_turns_and_connections_are_kept() {
    let (a, b) = (Origin::named("a"), Origin::named("b"));
    let fixture = Fixture::new(&[a.addr, b.addr]);
    fixture.wait_healthy();
    let probes = a.connections.load(std::sync::atomic::Ordering::SeqCst);
    let mut client = Client::connect(fixture.addr);
    let answers: Vec<_> = (0..40).map(|_| client.get("/").text().to_owned()).collect();
    assert_eq!(answers.iter().filter(|text| *text == "a").count(), 20, "{answers:?}");
    let now = a.connections.load(std::sync::atomic::Ordering::SeqCst);
    // One connection for the twenty requests; the rest are health checks, ten a second.
    assert!(now - probes < 15, "{} connections for 20 requests", now - probes);
}

#[test]
fn fixed_responses_and_redirects() {
    let fixed = |status_code, content_type: Option<&str>, body: Option<&str>| {
        Action::FixedResponse(FixedResponse {
            status_code,
            content_type: content_type.map(Into::into),
            message_body: body.map(Into::into),
        })
    };
    let fixture = Fixture::with(&[], |config| {
        let to = Redirect { protocol: "HTTPS".into(), port: "443".into(), ..Redirect::default() };
        config.load_balancers[0].listeners[0].rules = vec![
            path_rule("/fixed", fixed(418, Some("application/json"), Some("{}"))),
            path_rule("/empty", fixed(204, None, None)),
            path_rule("/old/*", Action::Redirect(to)),
            path_rule(
                "/tmp",
                Action::Redirect(Redirect { permanent: false, path: "/x".into(), ..Redirect::default() }),
            ),
        ];
    });
    let mut client = Client::connect(fixture.addr);
    let answer = client.get("/fixed");
    assert_eq!((answer.status(), answer.text()), (418, "{}"));
    assert_eq!(
        (answer.header("content-type"), answer.header("server")),
        (Some("application/json"), Some("awselb/2.0"))
    );
    assert_eq!(client.get("/empty").status(), 204);
    let moved = client.get("/old/a?b=c");
    assert_eq!((moved.status(), moved.header("location")), (301, Some("https://shop.example:443/old/a?b=c")));
    assert_eq!(moved.header("content-length"), Some("134"));
    let found = client.get("/tmp");
    assert_eq!((found.status(), found.header("location")), (302, Some("http://shop.example:8080/x")));
    let counts = &fixture.balancer.counters().load_balancers[0];
    assert_eq!((counts.fixed_responses, counts.redirects, counts.elb_codes), (2, 2, [0, 0, 1, 2, 1, 0]));
}

#[test]
fn error_pages_are_those_of_an_application_load_balancer() {
    let fixture = Fixture::new(&[]);
    let answer = get(fixture.addr, "/");
    assert_eq!(answer.status(), 503);
    assert_eq!(
        answer.text(),
        "<html>\r\n<head><title>503 Service Temporarily Unavailable</title></head>\r\n<body>\r\n\
         <center><h1>503 Service Temporarily Unavailable</h1></center>\r\n</body>\r\n</html>\r\n"
    );
    assert_eq!(answer.header("server"), Some("awselb/2.0"));
    assert_eq!(answer.header("content-type"), Some("text/html"));
    assert_eq!(answer.header("content-length"), Some("162"));
}

#[test]
fn headers_to_the_target() {
    let mirror = Origin::mirror();
    let fixture = Fixture::new(&[mirror.addr]);
    let mut client = Client::connect(fixture.addr);
    let seen = |text: &str| text.to_ascii_lowercase().lines().map(str::to_owned).collect::<Vec<_>>();
    let plain = seen(client.get("/a%20b?c=d").text());
    assert_eq!(plain[0], "get /a%20b?c=d http/1.1");
    for line in [
        "host: shop.example:8080",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-port: 8080",
    ] {
        assert!(plain.iter().any(|seen| seen == line), "{line} in {plain:?}");
    }
    let trace =
        plain.iter().find_map(|line| line.strip_prefix("x-amzn-trace-id: root=1-")).expect("a trace id");
    let (time, id) = trace.split_once('-').unwrap();
    assert!(
        time.len() == 8 && id.len() == 24 && trace.chars().all(|c| c.is_ascii_hexdigit() || c == '-'),
        "{trace}"
    );
    let more = client.request(
        "POST / HTTP/1.1\r\nHost: h:1\r\nX-Forwarded-For: 10.0.0.9\r\nX-Forwarded-Proto: https\r\nKeep-Alive: 5\r\n\
         Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nX-Amzn-Trace-Id: Root=1-a-b\r\nTE: trailers, gzip\r\n\
         Upgrade: h2c\r\nContent-Length: 2\r\n\r\nhi",
    );
    let more = seen(more.text());
    for line in
        ["host: h:1", "x-forwarded-for: 10.0.0.9, 127.0.0.1", "x-forwarded-proto: http", "te: trailers", "hi"]
    {
        assert!(more.iter().any(|seen| seen == line), "{line} in {more:?}");
    }
    assert!(
        more.iter().any(|line| line.starts_with("x-amzn-trace-id: self=1-") && line.ends_with(";root=1-a-b"))
    );
    for gone in ["keep-alive:", "x-hop:", "connection:", "upgrade:"] {
        assert!(!more.iter().any(|line| line.starts_with(gone)), "{gone} in {more:?}");
    }
}

#[test]
fn attributes_change_headers() {
    let mirror = Origin::mirror();
    let fixture = Fixture::with(&[mirror.addr], |config| {
        config.load_balancers[0].attributes = LoadBalancerAttributes {
            preserve_host_header: true,
            xff_header_processing: XffMode::Preserve,
            drop_invalid_header_fields: true,
            ..LoadBalancerAttributes::default()
        };
    });
    let answer = Client::connect(fixture.addr)
        .request("GET http://Other.example/p HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-For: 10.0.0.9\r\nx_bad: 1\r\n\r\n");
    let seen = answer.text().to_ascii_lowercase();
    assert!(seen.starts_with("get /p http/1.1\n"), "{seen}");
    assert!(seen.contains("host: other.example\n") && seen.contains("x-forwarded-for: 10.0.0.9\n"), "{seen}");
    assert!(!seen.contains("x_bad"), "{seen}");
}

#[test]
fn bad_requests_are_refused() {
    let origin = Origin::named("ok");
    let fixture = Fixture::new(&[origin.addr]);
    let long = "x".repeat(17 * 1024);
    let many: String = (0..90).map(|i| format!("h{i}: {}\r\n", "x".repeat(800))).collect();
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".into(), 400),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n".into(), 400),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n".into(), 405),
        ("G@T / HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n".into(), 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".into(), 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n".into(), 400),
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"), 400),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 431),
    ] {
        let mut client = Client::connect(fixture.addr);
        let answer = client.request(&request);
        assert_eq!(answer.status(), status, "{}", &request[..request.len().min(80)]);
        assert!(client.is_ended(), "the connection goes on after {}", &request[..request.len().min(80)]);
    }
    assert_eq!(get(fixture.addr, "/").text(), "ok");
}

#[test]
fn a_length_beside_chunks_is_not_passed_on() {
    let mirror = Origin::mirror();
    let fixture = Fixture::new(&[mirror.addr]);
    let mut client = Client::connect(fixture.addr);
    let answer = client.request(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    let seen = answer.text().to_ascii_lowercase();
    assert!(
        seen.ends_with("hello")
            && seen.contains("transfer-encoding: chunked")
            && !seen.contains("content-length")
    );
    assert!(client.is_ended(), "an ambiguous request is the last on its connection");
}

#[test]
fn http_1_0_and_head() {
    let mirror = Origin::mirror();
    let fixture = Fixture::new(&[mirror.addr]);
    let mut old = Client::connect(fixture.addr);
    let answer = old.request("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(answer.status(), 200);
    assert!(answer.text().to_ascii_lowercase().contains("host: main.elb.localhost\n"), "{}", answer.text());
    assert!(old.is_ended());
    let mut client = Client::connect(fixture.addr);
    let head = client.request("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(head.status(), 200);
    assert!(head.header("content-length").unwrap().parse::<usize>().unwrap() > 0);
    assert_eq!(client.get("/").status(), 200, "a HEAD's length is not waited for");
}

#[test]
fn weights_share_between_groups() {
    let (blue, green) = (Origin::named("blue"), Origin::named("green"));
    let fixture = Fixture::with(&[], |config| {
        config.target_groups = vec![group("blue", &[blue.addr]), group("green", &[green.addr])];
        let weighted = |arn: &str, weight| WeightedGroup { target_group: arn.into(), weight };
        config.load_balancers[0].listeners[0].default_action = Action::Forward(Forward {
            target_groups: vec![weighted("blue", 3), weighted("green", 1)],
            stickiness_duration_s: Some(60),
        });
    });
    let mut client = Client::connect(fixture.addr);
    let answers: Vec<_> = (0..200).map(|_| client.get("/")).collect();
    let green = answers.iter().filter(|answer| answer.text() == "green").count();
    assert!((25..=80).contains(&green), "{green} of 200 by a weight of a quarter");
    let cookie =
        answers.iter().find(|a| a.text() == "green").unwrap().all("set-cookie")[0].split(';').next().unwrap();
    assert!(cookie.starts_with("AWSALBTG="), "{cookie}");
    for _ in 0..20 {
        let again = client.request(&format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n"));
        assert_eq!(again.text(), "green");
    }
}
