//! Answers, checked against what Route 53 and the DNS standards say.

use std::collections::HashSet;

use hickory_proto::op::Query;
use state::ec2::Cidr;

use super::*;

fn record(name: &str, vpc_id: Option<&str>, data: NameData) -> NameRecord {
    NameRecord { name: name.into(), ttl_s: 30, vpc_id: vpc_id.map(Into::into), data }
}

fn a(last: u8) -> NameData {
    NameData::A(Ipv4Addr::new(172, 31, 0, last))
}

fn zones() -> Zones {
    let mut records = vec![
        record("cart.shop.local", Some("vpc-1"), a(1)),
        record("cart.shop.local", Some("vpc-2"), a(2)),
        record(
            "_web._tcp.orders.shop.local",
            Some("vpc-1"),
            NameData::Srv(1, 5, 8080, "i1.orders.shop.local".into()),
        ),
        record("i1.orders.shop.local", Some("vpc-1"), a(3)),
        record("alias.shop.local", None, NameData::Cname("cart.shop.local".into())),
        record("away.shop.local", None, NameData::Cname("example.com".into())),
        record("loop.shop.local", None, NameData::Cname("loop.shop.local".into())),
        record("web-1.us-east-1.elb.example", None, a(9)),
    ];
    records.extend((0..20).map(|n| record("many.shop.local", None, a(100 + n))));
    Zones::new(Names { zones: vec!["shop.local".into()], records })
}

fn view(vpc_id: &str) -> View {
    View { vpc_id: Some(vpc_id.into()), vpc_cidr: Cidr::parse("172.31.0.0/16"), region: "us-east-1".into() }
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(absolute(name).unwrap(), kind));
    message
}

/// What is answered to a viewer in `vpc-1`: the code, and answers as text.
fn ask(name: &str, kind: RecordType) -> (ResponseCode, Vec<String>) {
    let Decision::Reply(reply) = zones().decide(&query(name, kind), &view("vpc-1"), 7) else {
        panic!("{name} is not answered");
    };
    assert!(reply.metadata.recursion_available && reply.metadata.authoritative);
    let is_empty = reply.answers.is_empty();
    assert_eq!(
        reply.authorities.iter().filter(|r| r.record_type() == RecordType::SOA).count(),
        is_empty as usize
    );
    (reply.metadata.response_code, reply.answers.iter().map(|r| r.data.to_string()).collect())
}

#[test]
fn addresses_are_answered_without_regard_to_case() {
    assert_eq!(ask("CART.Shop.local", RecordType::A), (ResponseCode::NoError, vec!["172.31.0.1".into()]));
    assert_eq!(
        ask("web-1.us-east-1.elb.example", RecordType::A),
        (ResponseCode::NoError, vec!["172.31.0.9".into()])
    );
}

#[test]
fn names_are_scoped_by_vpc() {
    let ask = |view: View| match zones().decide(&query("cart.shop.local", RecordType::A), &view, 1) {
        Decision::Reply(reply) => reply.answers.iter().map(|r| r.data.to_string()).collect::<HashSet<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(ask(view("vpc-2")), HashSet::from(["172.31.0.2".into()]));
    assert_eq!(ask(view("vpc-3")), HashSet::new());
    let host = View { vpc_id: None, ..view("") };
    assert_eq!(ask(host).len(), 2, "a task on the host sees all");
}

#[test]
fn what_does_not_exist_is_told_from_what_has_other_records() {
    assert_eq!(ask("nothing.shop.local", RecordType::A), (ResponseCode::NXDomain, vec![]));
    assert_eq!(ask("cart.shop.local", RecordType::AAAA), (ResponseCode::NoError, vec![]));
    assert_eq!(ask("shop.local", RecordType::A), (ResponseCode::NoError, vec![]));
    assert_eq!(
        ask("_tcp.orders.shop.local", RecordType::A),
        (ResponseCode::NoError, vec![]),
        "it has one beneath it"
    );
    assert_eq!(
        ask("cart.ec2.internal", RecordType::A),
        (ResponseCode::NXDomain, vec![]),
        "the search domain"
    );
}

#[test]
fn a_service_record_comes_with_its_targets_address() {
    let question = query("_web._tcp.orders.shop.local", RecordType::SRV);
    let Decision::Reply(reply) = zones().decide(&question, &view("vpc-1"), 7) else { panic!("not answered") };
    assert_eq!(reply.answers[0].data.to_string(), "1 5 8080 i1.orders.shop.local.");
    assert_eq!(reply.answers[0].ttl, 30);
    assert_eq!(reply.additionals[0].data.to_string(), "172.31.0.3");
}

#[test]
fn at_most_eight_are_answered_and_which_changes() {
    let zones = zones();
    let mut seen = HashSet::new();
    for seed in 0..50 {
        let Decision::Reply(reply) =
            zones.decide(&query("many.shop.local", RecordType::A), &view("vpc-1"), seed * 77)
        else {
            panic!("not answered");
        };
        let answers: Vec<String> = reply.answers.iter().map(|r| r.data.to_string()).collect();
        assert_eq!(answers.iter().collect::<HashSet<_>>().len(), MAX_ANSWERS);
        seen.extend(answers);
    }
    assert_eq!(seen.len(), 20, "each comes up");
}

#[test]
fn aliases_are_followed_here_and_abroad() {
    let answer = ask("alias.shop.local", RecordType::A);
    assert_eq!(answer, (ResponseCode::NoError, vec!["cart.shop.local.".into(), "172.31.0.1".into()]));
    assert_eq!(ask("alias.shop.local", RecordType::CNAME).1, ["cart.shop.local."]);
    match zones().decide(&query("away.shop.local", RecordType::A), &view("vpc-1"), 1) {
        Decision::Follow(reply, target) => {
            assert_eq!((reply.answers.len(), target.to_ascii()), (1, "example.com.".into()));
        }
        other => panic!("{other:?}"),
    }
    match zones().decide(&query("loop.shop.local", RecordType::A), &view("vpc-1"), 1) {
        Decision::Reply(reply) => assert_eq!(reply.metadata.response_code, ResponseCode::ServFail),
        other => panic!("{other:?}"),
    }
}

#[test]
fn host_names_of_the_vpc_are_answered_both_ways() {
    assert_eq!(ask("ip-172-31-5-6.ec2.internal", RecordType::A).1, ["172.31.5.6"]);
    assert_eq!(ask("ip-172-31-5-6.ec2.internal", RecordType::AAAA), (ResponseCode::NoError, vec![]));
    assert_eq!(ask("6.5.31.172.in-addr.arpa", RecordType::PTR).1, ["ip-172-31-5-6.ec2.internal."]);
    assert_eq!(ask("ip-10-0-0-1.ec2.internal", RecordType::A).0, ResponseCode::NXDomain);
    let abroad = zones().decide(&query("8.8.8.8.in-addr.arpa", RecordType::PTR), &view("vpc-1"), 1);
    assert!(matches!(abroad, Decision::Forward));
}

#[test]
fn other_names_are_passed_on() {
    for name in ["example.com", "local", "notshop.local", "."] {
        let decision = zones().decide(&query(name, RecordType::A), &view("vpc-1"), 1);
        assert!(matches!(decision, Decision::Forward), "{name}: {decision:?}");
    }
}

#[test]
fn what_is_no_plain_query_is_refused() {
    let code = |message: &Message| match zones().decide(message, &view("vpc-1"), 1) {
        Decision::Reply(reply) => {
            assert_eq!(reply.metadata.id, message.metadata.id);
            Some(reply.metadata.response_code)
        }
        _ => None,
    };
    let plain = query("cart.shop.local", RecordType::A);
    let mut two = plain.clone();
    two.add_query(plain.queries[0].clone());
    assert_eq!(code(&two), Some(ResponseCode::FormErr));
    let mut many = plain.clone();
    many.add_queries(vec![plain.queries[0].clone(); 100]);
    let Decision::Reply(refused) = zones().decide(&many, &view("vpc-1"), 1) else { panic!("no reply") };
    assert!(refused.to_vec().unwrap().len() < 100, "it fits whoever asks");
    let mut update = plain.clone();
    update.metadata.op_code = OpCode::Update;
    assert_eq!(code(&update), Some(ResponseCode::NotImp));
    let mut chaos = plain.clone();
    chaos.queries[0].query_class = DNSClass::CH;
    assert_eq!(code(&chaos), Some(ResponseCode::Refused));
    let mut future = plain.clone();
    future.set_edns(Edns::new()).edns.as_mut().unwrap().set_version(1);
    assert_eq!(code(&future), Some(ResponseCode::BADVERS));
    assert_eq!(code(&plain.clone().into_response()), None, "a response is not answered");
}

#[test]
fn edns_is_answered_with_edns() {
    let mut question = query("cart.shop.local", RecordType::A);
    let Decision::Reply(plain) = zones().decide(&question, &view("vpc-1"), 1) else { panic!("not answered") };
    question.set_edns(Edns::new());
    let Decision::Reply(extended) = zones().decide(&question, &view("vpc-1"), 1) else {
        panic!("not answered")
    };
    assert_eq!((plain.edns.is_some(), extended.edns.is_some()), (false, true));
    assert_eq!(extended.edns.unwrap().max_payload(), MAX_DATAGRAM);
}

#[test]
fn names_that_are_awaited_fail_for_the_moment() {
    let names = Names {
        zones: vec!["shop.local".into()],
        records: vec![record("cart.shop.local", None, a(1)), record("web-1.elb.example", None, a(2))],
    };
    let zones = Zones::awaited(owned(&names));
    for name in ["cart.shop.local", "web-1.elb.example"] {
        match zones.decide(&query(name, RecordType::A), &view("vpc-1"), 1) {
            Decision::Reply(reply) => assert_eq!(reply.metadata.response_code, ResponseCode::ServFail),
            other => panic!("{name}: {other:?}"),
        }
    }
    let abroad = zones.decide(&query("elb.example", RecordType::A), &view("vpc-1"), 1);
    assert!(matches!(abroad, Decision::Forward));
}
