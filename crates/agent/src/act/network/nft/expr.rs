//! Rules as lists of nf_tables expressions: match, then act.

use std::net::Ipv4Addr;

use state::ec2::Cidr;

use super::Attributes;

/// The name pattern that the kernel turns into a fresh name.
pub(super) const ANONYMOUS_SET: &str = "__set%d";

/// Register 1: the sixteen bytes that all matches here go through.
const REGISTER: u32 = 1;
/// Register 2, for a port beside an address.
const REGISTER_2: u32 = 2;
const VERDICT_REGISTER: u32 = 0;

const COMPARE_EQUAL: u32 = 0;
const COMPARE_NOT_EQUAL: u32 = 1;

const META_IN_NAME: u32 = 6;
const META_OUT_NAME: u32 = 7;
const META_PROTOCOL: u32 = 16;

const BASE_NETWORK: u32 = 1;
const BASE_TRANSPORT: u32 = 2;
const OFFSET_SOURCE: u32 = 12;
const OFFSET_DESTINATION: u32 = 16;

const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
/// `ESTABLISHED | RELATED` as nf_tables' state bits.
const STATE_KNOWN: u32 = 2 | 4;
/// `IPS_DST_NAT`.
const STATUS_DESTINATION_TRANSLATED: u32 = 1 << 5;

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Let it through this chain.
    Accept,
    /// Throw it away.
    Drop,
    /// Go on in the calling chain.
    Return,
    /// Ask another chain.
    Jump(&'a str),
}

/// A rule's comment, as the field's tools keep it in the user data and show it: type, length, text with a final zero.
pub(super) fn comment(text: &str) -> Vec<u8> {
    let mut bytes = vec![0, text.len() as u8 + 1];
    bytes.extend(text.as_bytes());
    bytes.push(0);
    bytes
}

/// A rule being written: methods add matches in order, the last adds what to do.
#[derive(Default)]
pub struct Rule {
    pub(super) expressions: Attributes,
    pub(super) label: String,
}

impl Rule {
    /// A rule that matches everything so far.
    pub fn new() -> Rule {
        Rule::default()
    }

    /// A comment kept with the rule, to find it again; at most 128 bytes.
    pub fn label(mut self, label: &str) -> Rule {
        self.label = label.into();
        self
    }

    fn push(mut self, name: &str, fill: impl FnOnce(&mut Attributes)) -> Rule {
        self.expressions.nest(1, |e| {
            e.text(1, name).nest(2, fill);
        });
        self
    }

    fn compare(self, op: u32, value: &[u8]) -> Rule {
        self.push("cmp", |a| {
            a.number(1, REGISTER).number(2, op).nest(3, |d| {
                d.raw(1, value);
            });
        })
    }

    fn meta(self, key: u32) -> Rule {
        self.push("meta", |a| {
            a.number(1, REGISTER).number(2, key);
        })
    }

    fn payload(self, base: u32, offset: u32, len: u32) -> Rule {
        self.push("payload", |a| {
            a.number(1, REGISTER).number(2, base).number(3, offset).number(4, len);
        })
    }

    fn mask(self, mask: u32, big_endian: bool) -> Rule {
        let bytes = if big_endian { mask.to_be_bytes() } else { mask.to_ne_bytes() };
        self.push("bitwise", |a| {
            a.number(1, REGISTER).number(2, REGISTER).number(3, 4);
            a.nest(4, |d| {
                d.raw(1, &bytes);
            });
            a.nest(5, |d| {
                d.raw(1, &[0; 4]);
            });
        })
    }

    fn interface(self, key: u32, name: &str, op: u32) -> Rule {
        // A trailing * compares the bytes before it; a whole name compares all sixteen.
        let mut bytes = name.trim_end_matches('*').as_bytes().to_vec();
        if !name.ends_with('*') {
            bytes.resize(libc::IFNAMSIZ, 0);
        }
        self.meta(key).compare(op, &bytes)
    }

    /// It came in by this interface (`rs-*`: any whose name begins so).
    pub fn incoming(self, name: &str) -> Rule {
        self.interface(META_IN_NAME, name, COMPARE_EQUAL)
    }

    /// It leaves by this interface.
    pub fn outgoing(self, name: &str) -> Rule {
        self.interface(META_OUT_NAME, name, COMPARE_EQUAL)
    }

    /// It leaves by any other interface.
    pub fn not_outgoing(self, name: &str) -> Rule {
        self.interface(META_OUT_NAME, name, COMPARE_NOT_EQUAL)
    }

    fn network(self, offset: u32, cidr: Cidr, op: u32) -> Rule {
        if cidr.prefix == 0 && op == COMPARE_EQUAL {
            return self;
        }
        let rule = self.payload(BASE_NETWORK, offset, 4);
        let rule = if cidr.prefix < 32 { rule.mask(cidr.mask(), true) } else { rule };
        rule.compare(op, &cidr.base.octets())
    }

    /// Its source is in the network.
    pub fn source(self, cidr: Cidr) -> Rule {
        self.network(OFFSET_SOURCE, cidr, COMPARE_EQUAL)
    }

    /// Its source is not in the network.
    pub fn not_source(self, cidr: Cidr) -> Rule {
        self.network(OFFSET_SOURCE, cidr, COMPARE_NOT_EQUAL)
    }

    /// Its destination is in the network.
    pub fn destination(self, cidr: Cidr) -> Rule {
        self.network(OFFSET_DESTINATION, cidr, COMPARE_EQUAL)
    }

    /// Its destination is not in the network.
    pub fn not_destination(self, cidr: Cidr) -> Rule {
        self.network(OFFSET_DESTINATION, cidr, COMPARE_NOT_EQUAL)
    }

    /// Its destination is this address.
    pub fn destination_address(self, address: Ipv4Addr) -> Rule {
        self.destination(Cidr { base: address, prefix: 32 })
    }

    /// Its destination is not this address.
    pub fn not_destination_address(self, address: Ipv4Addr) -> Rule {
        self.not_destination(Cidr { base: address, prefix: 32 })
    }

    fn in_set(self, offset: u32, set: u32) -> Rule {
        self.payload(BASE_NETWORK, offset, 4).push("lookup", |a| {
            a.text(1, ANONYMOUS_SET).number(2, REGISTER).number(4, set);
        })
    }

    /// Its source is in a set made by [`super::Batch::address_set`].
    pub fn source_in(self, set: u32) -> Rule {
        self.in_set(OFFSET_SOURCE, set)
    }

    /// Its destination is in a set.
    pub fn destination_in(self, set: u32) -> Rule {
        self.in_set(OFFSET_DESTINATION, set)
    }

    /// Its destination is an address of this host.
    pub fn destination_local(self) -> Rule {
        const ADDRESS_TYPE: u32 = 3;
        const OF_DESTINATION: u32 = 2;
        self.push("fib", |a| {
            a.number(1, REGISTER).number(2, ADDRESS_TYPE).number(3, OF_DESTINATION);
        })
        .compare(COMPARE_EQUAL, &u32::from(libc::RTN_LOCAL).to_ne_bytes())
    }

    /// Its protocol, by IANA number.
    pub fn protocol(self, number: u8) -> Rule {
        self.meta(META_PROTOCOL).compare(COMPARE_EQUAL, &[number])
    }

    /// Its destination port (TCP, UDP and others that begin as they do) is in the range.
    pub fn port(self, first: u16, last: u16) -> Rule {
        let rule = self.payload(BASE_TRANSPORT, 2, 2);
        if first == last {
            return rule.compare(COMPARE_EQUAL, &first.to_be_bytes());
        }
        rule.push("range", |a| {
            a.number(1, REGISTER).number(2, COMPARE_EQUAL);
            a.nest(3, |d| {
                d.raw(1, &first.to_be_bytes());
            });
            a.nest(4, |d| {
                d.raw(1, &last.to_be_bytes());
            });
        })
    }

    /// Its ICMP type.
    pub fn icmp_type(self, kind: u8) -> Rule {
        self.payload(BASE_TRANSPORT, 0, 1).compare(COMPARE_EQUAL, &[kind])
    }

    /// Its ICMP code.
    pub fn icmp_code(self, code: u8) -> Rule {
        self.payload(BASE_TRANSPORT, 1, 1).compare(COMPARE_EQUAL, &[code])
    }

    fn conntrack(self, key: u32, bits: u32) -> Rule {
        self.push("ct", |a| {
            a.number(1, REGISTER).number(2, key);
        })
        .mask(bits, false)
        .compare(COMPARE_NOT_EQUAL, &[0; 4])
    }

    /// It belongs or relates to a connection that was let through before.
    pub fn known_connection(self) -> Rule {
        self.conntrack(CT_STATE, STATE_KNOWN)
    }

    /// Its connection's destination was translated.
    pub fn translated(self) -> Rule {
        self.conntrack(CT_STATUS, STATUS_DESTINATION_TRANSLATED)
    }

    /// Counts packets and bytes, as rules written by iptables do.
    pub fn count(self) -> Rule {
        self.push("counter", |_| ())
    }

    fn load(self, register: u32, value: &[u8]) -> Rule {
        self.push("immediate", |a| {
            a.number(1, register).nest(2, |d| {
                d.raw(1, value);
            });
        })
    }

    /// Sends the connection to another address and port.
    pub fn translate_to(self, address: Ipv4Addr, port: u16) -> Rule {
        const DESTINATION: u32 = 1;
        self.load(REGISTER, &address.octets()).load(REGISTER_2, &port.to_be_bytes()).push("nat", |a| {
            a.number(1, DESTINATION).number(2, u32::from(super::FAMILY_IPV4));
            a.number(3, REGISTER).number(5, REGISTER_2);
        })
    }

    /// Gives the connection the address of the interface it leaves by.
    pub fn masquerade(self) -> Rule {
        self.push("masq", |_| ())
    }

    /// Ends the rule.
    pub fn verdict(self, verdict: Verdict) -> Rule {
        let (code, chain): (i32, _) = match verdict {
            Verdict::Drop => (0, None),
            Verdict::Accept => (1, None),
            Verdict::Jump(chain) => (-3, Some(chain)),
            Verdict::Return => (-5, None),
        };
        self.push("immediate", |a| {
            a.number(1, VERDICT_REGISTER).nest(2, |d| {
                d.nest(2, |v| {
                    v.number(1, code as u32);
                    if let Some(chain) = chain {
                        v.text(2, chain);
                    }
                });
            });
        })
    }
}
