//! The name server of containers.

use std::sync::OnceLock;

use agent::act::dns::{AtOnce, DnsServer, View};
use hickory_proto::op::{Message, MessageType};
use state::assignment::{NameData, NameRecord, Names};
use state::ec2::Cidr;

/// A datagram without EDNS.
const PLAIN_DATAGRAM: usize = 512;

/// Takes a byte that says who asks and how, and a query. What is answered belongs to the query and fits.
pub fn query(bytes: &[u8]) {
    let Some((&how, query)) = bytes.split_first() else { return };
    let is_datagram = how & 1 == 0;
    let view = View {
        vpc_id: (how & 2 == 0).then(|| "vpc-1".to_owned()),
        vpc_cidr: (how & 4 == 0).then(|| Cidr::parse("172.31.0.0/16").expect("a block")),
        region: if how & 8 == 0 { "us-east-1" } else { "eu-west-1" }.to_owned(),
    };
    let AtOnce::Answer(answer) = server().at_once(query, view, is_datagram) else { return };
    assert_eq!(answer[..2], query[..2], "another query's answer");
    let reply = Message::from_vec(&answer).expect("an answer can be read");
    assert_eq!(reply.metadata.message_type, MessageType::Response);
    assert!(answer.len() <= usize::from(u16::MAX));
    assert!(reply.answers.len() <= 16 && reply.authorities.len() <= 1, "{reply:?}");
    let asked = Message::from_vec(query).ok();
    if is_datagram {
        let limit =
            asked.as_ref().map_or(PLAIN_DATAGRAM, |asked| asked.max_payload().into()).max(PLAIN_DATAGRAM);
        assert!(answer.len() <= limit, "{} bytes for at most {limit}", answer.len());
    }
    if let Some(asked) = asked.filter(|asked| asked.queries.len() == 1 && !reply.queries.is_empty()) {
        assert_eq!(reply.queries, asked.queries);
    }
}

fn server() -> &'static DnsServer {
    static SERVER: OnceLock<DnsServer> = OnceLock::new();
    SERVER.get_or_init(|| {
        let runtime = crate::registry::runtime().handle().clone();
        let server = DnsServer::new(runtime, "/nonexistent".into(), Vec::new());
        server.set_names(names());
        server
    })
}

fn names() -> Names {
    let record = |name: &str, data: NameData| NameRecord {
        name: name.to_owned(),
        ttl_s: 60,
        vpc_id: Some("vpc-1".into()),
        data,
    };
    let address = |n: u8| NameData::A([172, 31, 0, n].into());
    let mut records: Vec<NameRecord> = (0..40).map(|n| record("many.shop.local", address(n))).collect();
    records.extend([
        record("web.shop.local", address(1)),
        record("_web._tcp.shop.local", NameData::Srv(1, 1, 80, "a.web.shop.local".into())),
        record("_web._tcp.shop.local", NameData::Srv(1, 1, 80, "many.shop.local".into())),
        record("a.web.shop.local", address(2)),
        record("alias.shop.local", NameData::Cname("web.shop.local".into())),
        record("loop.shop.local", NameData::Cname("pool.shop.local".into())),
        record("pool.shop.local", NameData::Cname("loop.shop.local".into())),
        record("away.shop.local", NameData::Cname("example.com".into())),
        NameRecord { vpc_id: None, ..record("web-1.us-east-1.elb.localhost", address(9)) },
    ]);
    records.sort();
    Names { zones: vec!["shop.local".into()], records }
}
