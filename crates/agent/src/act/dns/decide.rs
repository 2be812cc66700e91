//! What a query is answered, from the names there are: pure.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, PTR, SOA, SRV};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use state::assignment::{NameData, NameRecord, Names};

use super::View;
use crate::act::network::{host_name, internal_domain};

/// How long a client may remember that there is nothing: Cloud Map's default for the SOA of a private namespace.
const NEGATIVE_TTL_S: u32 = 15;
/// How long host names of addresses may be remembered, as EC2 answers.
const HOST_NAME_TTL_S: u32 = 60;
/// Cloud Map's MULTIVALUE routing answers at most so many.
const MAX_ANSWERS: usize = 8;
const MAX_ALIASES: usize = 8;
/// The largest datagram we say we take.
const MAX_DATAGRAM: u16 = 1232;

/// All names, ready to be looked up.
#[derive(Debug, Default)]
pub struct Zones {
    records: HashMap<String, Vec<NameRecord>>,
    zones: HashSet<String>,
    /// Names that have no record but have one beneath them: they exist.
    inner_nodes: HashSet<String>,
    /// The records are not known yet: of names in the zones nothing can be said.
    is_awaited: bool,
}

/// What becomes of a query.
#[derive(Debug)]
pub enum Decision {
    /// This is the answer.
    Reply(Message),
    /// The name is not ours: ask the host's servers.
    Forward,
    /// An alias of ours leads to a name that is not: ask for that, and append what is answered.
    Follow(Message, Name),
    /// Not a query: say nothing.
    Ignore,
}

/// What there is of a name.
enum Found<'a> {
    Records(Vec<&'a NameRecord>),
    Nothing,
    NoSuchName,
    NotOurs,
    Unknown,
}

/// The zones, and names outside of them, that are answered with authority: what an agent remembers over a restart.
pub fn owned(names: &Names) -> Vec<String> {
    let is_inside = |name: &str| ancestors(name).any(|n| names.zones.iter().any(|z| z == n));
    let outside = names.records.iter().map(|r| &r.name).filter(|n| !is_inside(n));
    let mut owned: Vec<String> = names.zones.iter().chain(outside).cloned().collect();
    owned.sort();
    owned.dedup();
    owned
}

impl Zones {
    /// Prepares names for being looked up.
    pub fn new(names: Names) -> Zones {
        let mut zones = Zones { zones: names.zones.into_iter().collect(), ..Zones::default() };
        for record in names.records {
            let mut above = record.name.as_str();
            while let Some((_, parent)) = above.split_once('.') {
                zones.inner_nodes.insert(parent.into());
                above = parent;
            }
            zones.records.entry(record.name.clone()).or_default().push(record);
        }
        zones
    }

    /// Zones whose records are still to come. Until then their names fail, for the moment: the host's servers would say
    /// that there are none, and clients remember that.
    pub fn awaited(owned: Vec<String>) -> Zones {
        Zones { zones: owned.into_iter().collect(), is_awaited: true, ..Zones::default() }
    }

    /// Decides on one query. `seed` orders answers of equal rank.
    pub fn decide(&self, query: &Message, view: &View, seed: u64) -> Decision {
        if query.metadata.message_type == MessageType::Response {
            return Decision::Ignore;
        }
        let mut reply = reply_to(query);
        let [question] = query.queries.as_slice() else {
            // RFC 9619. Of many questions, which a datagram may name by pointers, the answer could not take all.
            reply.queries.clear();
            return refuse(reply, ResponseCode::FormErr);
        };
        if query.metadata.op_code != OpCode::Query {
            return refuse(reply, ResponseCode::NotImp);
        }
        if query.version() > 0 {
            return refuse(reply, ResponseCode::BADVERS);
        }
        if !matches!(question.query_class, DNSClass::IN | DNSClass::ANY) {
            return refuse(reply, ResponseCode::Refused);
        }
        if let Some(answer) = host_record(&question.name, question.query_type, view) {
            reply.metadata.authoritative = true;
            return match answer {
                Some(record) => {
                    reply.add_answer(record);
                    Decision::Reply(reply)
                }
                None => self.nothing(reply, &text(&question.name), ResponseCode::NoError),
            };
        }
        self.resolve(reply, question.name.clone(), question.query_type, view, seed)
    }

    fn resolve(
        &self,
        mut reply: Message,
        mut name: Name,
        kind: RecordType,
        view: &View,
        seed: u64,
    ) -> Decision {
        for _ in 0..MAX_ALIASES {
            let found = self.find(&text(&name), view);
            let code = match found {
                Found::NotOurs if reply.answers.is_empty() => return Decision::Forward,
                Found::NotOurs => return Decision::Follow(reply, name),
                Found::Unknown => return refuse(reply, ResponseCode::ServFail),
                Found::NoSuchName => Some(ResponseCode::NXDomain),
                Found::Nothing => Some(ResponseCode::NoError),
                Found::Records(_) => None,
            };
            reply.metadata.authoritative = true;
            let (None, Found::Records(records)) = (code, found) else {
                return self.nothing(reply, &text(&name), code.unwrap_or(ResponseCode::NoError));
            };
            let alias = records.iter().find_map(|r| match &r.data {
                NameData::Cname(target) if kind != RecordType::CNAME => Some((r.ttl_s, target)),
                _ => None,
            });
            let Some((ttl_s, target)) = alias else {
                return self.answer(reply, &name, records, kind, view, seed);
            };
            let Ok(target) = absolute(target) else { return refuse(reply, ResponseCode::ServFail) };
            reply.add_answer(Record::from_rdata(name, ttl_s, RData::CNAME(CNAME(target.clone()))));
            name = target;
        }
        refuse(reply, ResponseCode::ServFail)
    }

    fn answer(
        &self,
        mut reply: Message,
        name: &Name,
        records: Vec<&NameRecord>,
        kind: RecordType,
        view: &View,
        seed: u64,
    ) -> Decision {
        let mut answers: Vec<Record> = records.iter().filter_map(|r| to_record(name, r, kind)).collect();
        shuffle(&mut answers, seed);
        answers.truncate(MAX_ANSWERS);
        if answers.is_empty() {
            return self.nothing(reply, &text(name), ResponseCode::NoError);
        }
        for answer in &answers {
            let RData::SRV(srv) = &answer.data else { continue };
            let Found::Records(of_target) = self.find(&text(&srv.target), view) else { continue };
            let addresses = of_target.into_iter().filter_map(|r| to_record(&srv.target, r, RecordType::A));
            reply.add_additionals(addresses);
        }
        reply.add_answers(answers);
        Decision::Reply(reply)
    }

    /// An answer without records: the SOA says how long that may be remembered.
    fn nothing(&self, mut reply: Message, name: &str, code: ResponseCode) -> Decision {
        reply.metadata.response_code = code;
        let zone = ancestors(name).find(|n| self.zones.contains(*n)).unwrap_or(name);
        if let (Ok(owner), Ok(server), Ok(mailbox)) =
            (absolute(zone), absolute(&format!("ns.{zone}")), absolute(&format!("hostmaster.{zone}")))
        {
            let soa = SOA::new(server, mailbox, 1, 7200, 900, 1_209_600, NEGATIVE_TTL_S);
            reply.add_authority(Record::from_rdata(owner, NEGATIVE_TTL_S, RData::SOA(soa)));
        }
        Decision::Reply(reply)
    }

    fn find(&self, name: &str, view: &View) -> Found<'_> {
        let all = self.records.get(name).map(Vec::as_slice).unwrap_or_default();
        let is_visible =
            |r: &&NameRecord| r.vpc_id.is_none() || view.vpc_id.is_none() || r.vpc_id == view.vpc_id;
        let visible: Vec<_> = all.iter().filter(is_visible).collect();
        if !visible.is_empty() {
            return Found::Records(visible);
        }
        let domain = internal_domain(&view.region);
        let is_internal = ancestors(name).any(|n| n == domain);
        match ancestors(name).any(|n| self.zones.contains(n)) {
            true if self.is_awaited => Found::Unknown,
            true if self.zones.contains(name) || self.inner_nodes.contains(name) => Found::Nothing,
            true => Found::NoSuchName,
            false if is_internal => Found::NoSuchName,
            false => Found::NotOurs,
        }
    }
}

/// An empty answer to a query.
pub fn reply_to(query: &Message) -> Message {
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.add_queries(query.queries.iter().cloned());
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_DATAGRAM).set_version(0);
        reply.set_edns(edns);
    }
    reply
}

fn refuse(mut reply: Message, code: ResponseCode) -> Decision {
    reply.metadata.response_code = code;
    if let Some(edns) = &mut reply.edns {
        edns.set_rcode_high(code.high());
    }
    Decision::Reply(reply)
}

/// EC2's names of addresses, forwards and backwards, for addresses of the asker's VPC. The inner `None`: the name is
/// one of these, and has no record of this type.
fn host_record(name: &Name, kind: RecordType, view: &View) -> Option<Option<Record>> {
    let cidr = view.vpc_cidr?;
    let asked = text(name);
    if let Some(reversed) = asked.strip_suffix(".in-addr.arpa") {
        let address = Ipv4Addr::from(u32::from(reversed.parse::<Ipv4Addr>().ok()?).swap_bytes());
        let target =
            cidr.contains(address).then(|| absolute(&host_name(address, &view.region)).ok()).flatten()?;
        let is_asked = matches!(kind, RecordType::PTR | RecordType::ANY);
        return Some(
            is_asked.then(|| Record::from_rdata(name.clone(), HOST_NAME_TTL_S, RData::PTR(PTR(target)))),
        );
    }
    let label = asked.strip_suffix(&internal_domain(&view.region))?.strip_suffix('.')?;
    let address: Ipv4Addr = label.strip_prefix("ip-")?.replace('-', ".").parse().ok()?;
    let is_asked = matches!(kind, RecordType::A | RecordType::ANY);
    let record = || Record::from_rdata(name.clone(), HOST_NAME_TTL_S, RData::A(A(address)));
    cidr.contains(address).then(|| is_asked.then(record))
}

/// The name and all above it, nearest first.
fn ancestors(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |n| n.split_once('.').map(|(_, parent)| parent))
}

/// Lower case, without the final dot: as records are named.
fn text(name: &Name) -> String {
    let mut text = name.to_ascii().to_ascii_lowercase();
    if text.ends_with('.') {
        text.pop();
    }
    text
}

fn absolute(name: &str) -> Result<Name, hickory_proto::ProtoError> {
    let mut name = Name::from_str_relaxed(name)?;
    name.set_fqdn(true);
    Ok(name)
}

fn to_record(name: &Name, record: &NameRecord, kind: RecordType) -> Option<Record> {
    let data = match &record.data {
        NameData::A(address) => RData::A(A(*address)),
        NameData::Srv(priority, weight, port, target) => {
            RData::SRV(SRV::new(*priority, *weight, *port, absolute(target).ok()?))
        }
        NameData::Cname(target) => RData::CNAME(CNAME(absolute(target).ok()?)),
    };
    let is_asked = kind == RecordType::ANY || data.record_type() == kind;
    is_asked.then(|| Record::from_rdata(name.clone(), record.ttl_s, data))
}

/// Fisher and Yates's shuffle with a xorshift generator: spreads load, needs no secrecy.
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut state = seed | 1;
    for i in (1..items.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        items.swap(i, (state % (i as u64 + 1)) as usize);
    }
}

#[cfg(test)]
mod tests;
