//! Questions to netfilter: which base chains and rules there are, to live with rules that others made.

use std::io;

use super::{REQUEST, SUBSYSTEM, messages, open};

const GET_CHAIN: u16 = 4;
const GET_RULE: u16 = 7;
const DUMP: u16 = 0x300;
const DONE: u16 = 3;
const KIND_MASK: u16 = 0x3fff;

/// A base chain of any table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundChain {
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// The hook's number.
    pub hook: u32,
    /// What no rule decides is dropped.
    pub drops: bool,
}

/// A rule of one chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRule {
    /// The kernel's handle of it.
    pub handle: u64,
    /// Data kept with it.
    user_data: Vec<u8>,
}

impl FoundRule {
    /// Whether the rule was written with this label.
    pub fn is_labelled(&self, label: &str) -> bool {
        self.user_data == super::expr::comment(label)
    }
}

/// All base chains of a family in the calling thread's network namespace.
pub fn base_chains(family: u8) -> io::Result<Vec<FoundChain>> {
    let mut found = Vec::new();
    dump(family, GET_CHAIN, &[], |attributes| {
        let hook = find(attributes, 4).and_then(|h| find(h, 1)).and_then(number);
        if let (Some(table), Some(name), Some(hook)) = (find(attributes, 1), find(attributes, 3), hook) {
            let drops = find(attributes, 5).and_then(number) == Some(0);
            found.push(FoundChain { table: text(table), name: text(name), hook, drops });
        }
    })?;
    Ok(found)
}

/// The rules of one chain, first to last.
pub fn rules_of(family: u8, table: &str, chain: &str) -> io::Result<Vec<FoundRule>> {
    let mut request = super::Attributes::default();
    request.text(1, table).text(2, chain);
    let mut found = Vec::new();
    dump(family, GET_RULE, &request.bytes, |attributes| {
        // Kernels before 4.15 do not filter by table and chain.
        let is_asked = find(attributes, 1).map(text).as_deref() == Some(table)
            && find(attributes, 2).map(text).as_deref() == Some(chain);
        let handle = find(attributes, 3).and_then(|h| Some(u64::from_be_bytes(h.try_into().ok()?)));
        if let (true, Some(handle)) = (is_asked, handle) {
            found.push(FoundRule { handle, user_data: find(attributes, 7).unwrap_or_default().to_vec() });
        }
    })?;
    Ok(found)
}

fn dump(family: u8, kind: u16, attributes: &[u8], each: impl FnMut(&[u8])) -> io::Result<()> {
    request(SUBSYSTEM, kind, DUMP, family, attributes, each)
}

/// Sends one request of a netfilter subsystem; `each` gets the attributes of every answer.
pub(super) fn request(
    subsystem: u16,
    kind: u16,
    flags: u16,
    family: u8,
    attributes: &[u8],
    mut each: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut request = Vec::new();
    request.extend((20 + attributes.len() as u32).to_ne_bytes());
    request.extend((subsystem << 8 | kind).to_ne_bytes());
    request.extend((REQUEST | flags).to_ne_bytes());
    request.extend(1u32.to_ne_bytes());
    request.extend([0; 4]);
    request.extend([family, 0, 0, 0]);
    request.extend(attributes);
    let socket = open()?;
    socket.send(&request, 0)?;
    loop {
        let mut answer = Vec::with_capacity(65536);
        socket.recv(&mut answer, 0)?;
        for message in messages(&answer) {
            match message.kind {
                DONE => return Ok(()),
                kind if kind == libc::NLMSG_ERROR as u16 => {
                    let code =
                        message.body.get(..4).and_then(|b| Some(i32::from_ne_bytes(b.try_into().ok()?)));
                    return match code {
                        Some(0) => Ok(()),
                        code => Err(io::Error::from_raw_os_error(-code.unwrap_or(-libc::EIO))),
                    };
                }
                _ => each(message.body.get(4..).unwrap_or_default()),
            }
        }
    }
}

/// The value of the first attribute of a kind.
pub(super) fn find(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    while attributes.len() >= 4 {
        let len = usize::from(u16::from_ne_bytes([attributes[0], attributes[1]]));
        let found = u16::from_ne_bytes([attributes[2], attributes[3]]) & KIND_MASK;
        let value = attributes.get(4..len)?;
        if found == kind {
            return Some(value);
        }
        attributes = attributes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.try_into().ok()?))
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned()
}
