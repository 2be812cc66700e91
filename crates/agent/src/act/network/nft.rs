//! The kernel's packet filter (nf_tables) by netlink: exactly the messages and expressions that Roadstead's rules need.
//!
//! A [`Batch`] is one transaction: the kernel applies all of it or nothing. Numbers and names are those of
//! `linux/netfilter/nf_tables.h`. Attribute integers are big-endian, register contents are as the packet or host has them.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

mod conntrack;
mod expr;
mod query;

pub use conntrack::forget_datagrams;
pub use expr::{Rule, Verdict};
pub use query::{FoundChain, base_chains, rules_of};

/// `NFPROTO_IPV4`.
pub const FAMILY_IPV4: u8 = 2;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const NEW_SET_ELEMENTS: u16 = 12;

const REQUEST: u16 = 1;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const NESTED: u16 = 0x8000;

/// Where a base chain is hooked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Packets as they arrive.
    Prerouting = 0,
    /// Packets for this host.
    Input = 1,
    /// Packets passed on.
    Forward = 2,
    /// Packets made here.
    Output = 3,
    /// Packets as they leave.
    Postrouting = 4,
}

/// What a base chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// Accept and drop.
    Filter,
    /// Translate the first packet of each connection.
    Nat,
}

/// Netlink attributes, appended one after another.
#[derive(Default)]
struct Attributes {
    bytes: Vec<u8>,
}

impl Attributes {
    fn raw(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let len = 4 + value.len();
        self.bytes.extend((len as u16).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.raw(kind, &bytes)
    }

    fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.raw(kind, &value.to_be_bytes())
    }

    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes)) -> &mut Self {
        let mut inner = Attributes::default();
        fill(&mut inner);
        self.raw(kind | NESTED, &inner.bytes)
    }
}

/// A transaction over one table.
pub struct Batch {
    table: String,
    family: u8,
    bytes: Vec<u8>,
    /// What each message does, for errors; a message's sequence number is its index.
    steps: Vec<String>,
    sets: u32,
}

impl Batch {
    /// An empty transaction over a table.
    pub fn new(family: u8, table: &str) -> Batch {
        let mut batch = Batch { table: table.into(), family, bytes: Vec::new(), steps: Vec::new(), sets: 0 };
        batch.message(BATCH_BEGIN, 0, "begin", |_| ());
        batch
    }

    fn message(&mut self, kind: u16, flags: u16, step: &str, fill: impl FnOnce(&mut Attributes)) {
        let is_control = kind == BATCH_BEGIN || kind == BATCH_END;
        let (kind, family, resource) = match is_control {
            true => (kind, 0, SUBSYSTEM),
            false => (SUBSYSTEM << 8 | kind, self.family, 0),
        };
        let mut attributes = Attributes::default();
        fill(&mut attributes);
        let sequence = self.steps.len() as u32;
        self.steps.push(step.to_owned());
        self.bytes.extend((20 + attributes.bytes.len() as u32).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((REQUEST | flags).to_ne_bytes());
        self.bytes.extend(sequence.to_ne_bytes());
        self.bytes.extend(0u32.to_ne_bytes());
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        self.bytes.extend(attributes.bytes);
    }

    /// Makes the table if it is not there.
    pub fn table(&mut self) {
        let table = self.table.clone();
        self.message(NEW_TABLE, CREATE, "table", |a| {
            a.text(1, &table).number(2, 0);
        });
    }

    /// Removes the table with all that is in it.
    pub fn delete_table(&mut self) {
        let table = self.table.clone();
        self.message(DELETE_TABLE, 0, "delete table", |a| {
            a.text(1, &table);
        });
    }

    /// Makes a chain that others jump to, if it is not there.
    pub fn chain(&mut self, name: &str) {
        let table = self.table.clone();
        self.message(NEW_CHAIN, CREATE, &format!("chain {name}"), |a| {
            a.text(1, &table).text(3, name);
        });
    }

    /// Makes a chain that the kernel calls, if it is not there. `drop_rest`: what no rule decides is dropped.
    pub fn base_chain(&mut self, name: &str, kind: ChainKind, hook: Hook, priority: i32, drop_rest: bool) {
        let table = self.table.clone();
        let kind = match kind {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
        };
        self.message(NEW_CHAIN, CREATE, &format!("chain {name}"), |a| {
            a.text(1, &table).text(3, name);
            a.nest(4, |h| {
                h.number(1, hook as u32).number(2, priority as u32);
            });
            a.number(5, if drop_rest { 0 } else { 1 }).text(7, kind);
        });
    }

    /// Takes every rule out of the table; its chains stay hooked in.
    pub fn flush(&mut self) {
        let table = self.table.clone();
        self.message(DELETE_RULE, 0, "flush", |a| {
            a.text(1, &table);
        });
    }

    /// Appends a rule to a chain.
    pub fn rule(&mut self, chain: &str, rule: &Rule) {
        self.put_rule(chain, rule, APPEND);
    }

    /// Puts a rule before all others of a chain.
    pub fn rule_first(&mut self, chain: &str, rule: &Rule) {
        self.put_rule(chain, rule, 0);
    }

    fn put_rule(&mut self, chain: &str, rule: &Rule, place: u16) {
        let table = self.table.clone();
        self.message(NEW_RULE, CREATE | place, &format!("rule in {chain}"), |a| {
            a.text(1, &table).text(2, chain);
            a.raw(4 | NESTED, &rule.expressions.bytes);
            if !rule.label.is_empty() {
                a.raw(7, &expr::comment(&rule.label));
            }
        });
    }

    /// Takes one rule out, by the handle that the kernel gave it.
    pub fn delete_rule(&mut self, chain: &str, handle: u64) {
        let table = self.table.clone();
        self.message(DELETE_RULE, 0, &format!("delete rule in {chain}"), |a| {
            a.text(1, &table).text(2, chain).raw(3, &handle.to_be_bytes());
        });
    }

    /// A set of IPv4 addresses that lives as long as the one rule that looks it up; answers its id in this transaction.
    pub fn address_set(&mut self, addresses: &[std::net::Ipv4Addr]) -> u32 {
        const ANONYMOUS_CONSTANT: u32 = 3;
        const TYPE_IPV4_ADDRESS: u32 = 7;
        self.sets += 1;
        let (table, id) = (self.table.clone(), self.sets);
        self.message(NEW_SET, CREATE, "set", |a| {
            a.text(1, &table).text(2, expr::ANONYMOUS_SET).number(3, ANONYMOUS_CONSTANT);
            a.number(4, TYPE_IPV4_ADDRESS).number(5, 4).number(10, id);
            a.nest(9, |d| {
                d.number(1, addresses.len() as u32);
            });
        });
        // A netlink attribute holds at most 64 KiB; an element takes 16 bytes.
        for chunk in addresses.chunks(2000) {
            self.message(NEW_SET_ELEMENTS, CREATE, "set elements", |a| {
                a.text(1, &table).text(2, expr::ANONYMOUS_SET).number(4, id);
                a.nest(3, |list| {
                    for address in chunk {
                        list.nest(1, |element| {
                            element.nest(1, |key| {
                                key.raw(1, &address.octets());
                            });
                        });
                    }
                });
            });
        }
        id
    }

    /// Gives the transaction to the kernel, in the network namespace of the calling thread.
    pub fn commit(mut self) -> io::Result<()> {
        self.message(BATCH_END, 0, "end", |_| ());
        let socket = open()?;
        grow_send_buffer(&socket, self.bytes.len());
        socket.send(&self.bytes, 0)?;
        // The kernel has done all of it when send returns; only what failed is answered.
        let mut failure = None;
        loop {
            let mut answer = Vec::with_capacity(65536);
            match socket.recv(&mut answer, libc::MSG_DONTWAIT) {
                Ok(_) => failure = failure.or(first_error(&answer)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        match failure {
            None => Ok(()),
            Some((sequence, code)) => {
                let cause = io::Error::from_raw_os_error(code);
                let step = self.steps.get(sequence as usize).map_or("?", String::as_str);
                Err(io::Error::new(cause.kind(), format!("nf_tables {}: {step}: {cause}", self.table)))
            }
        }
    }
}

fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// A whole transaction goes in one message, which may be larger than the default buffer.
fn grow_send_buffer(socket: &Socket, bytes: usize) {
    use std::os::fd::AsRawFd;
    let size = (bytes as libc::c_int).saturating_mul(2).max(1 << 18);
    for option in [libc::SO_SNDBUFFORCE, libc::SO_SNDBUF] {
        // SAFETY: the option takes an int, and the length given is an int's.
        let done = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw const size).cast(),
                size_of_val(&size) as u32,
            )
        };
        if done == 0 {
            return;
        }
    }
}

/// Sequence number and errno of the first failure in an answer.
fn first_error(answer: &[u8]) -> Option<(u32, i32)> {
    messages(answer).find_map(|m| {
        let code = (m.kind == libc::NLMSG_ERROR as u16)
            .then(|| i32::from_ne_bytes(m.body.get(..4)?.try_into().ok()?).into())
            .flatten()?;
        (code != 0).then_some((m.sequence, -code))
    })
}

/// One message of an answer, without its netlink header.
struct Message<'a> {
    kind: u16,
    sequence: u32,
    body: &'a [u8],
}

fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let len = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        let message = bytes.get(..len).filter(|m| m.len() >= 16)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes([message[4], message[5]]),
            sequence: u32::from_ne_bytes(message[8..12].try_into().ok()?),
            body: &message[16..],
        })
    })
}
