//! CBOR data items: what RPC v2 uses of RFC 8949, read and written.

/// A data item. Map keys are text, as RPC v2 has no other.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// null and undefined
    Null,
    /// true and false
    Bool(bool),
    /// Integers of 64 bits
    Int(i64),
    /// Half, single and double floats
    Float(f64),
    /// Byte strings
    Bytes(Vec<u8>),
    /// Text strings
    Text(String),
    /// Arrays
    Array(Vec<Item>),
    /// Maps
    Map(Vec<(String, Item)>),
    /// Tagged items
    Tag(u64, Box<Item>),
}

/// As deep as serde_json goes.
const DEPTH_MAX: usize = 128;
const BREAK: u8 = 0xff;

impl Item {
    /// Parses exactly one item; the error says what is wrong and at which byte.
    pub fn parse(bytes: &[u8]) -> Result<Item, String> {
        let mut parser = Parser { bytes, at: 0 };
        let item = parser.item(0).map_err(|why| format!("invalid CBOR at byte {}: {why}", parser.at))?;
        if parser.at < bytes.len() {
            return Err(format!("invalid CBOR at byte {}: something follows the item", parser.at));
        }
        Ok(item)
    }

    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Item::Null => "null",
            Item::Bool(_) => "boolean",
            Item::Int(_) => "integer",
            Item::Float(_) => "float",
            Item::Bytes(_) => "byte string",
            Item::Text(_) => "text string",
            Item::Array(_) => "array",
            Item::Map(_) => "map",
            Item::Tag(..) => "tagged item",
        }
    }

    /// Appends the item with definite lengths and the shortest heads.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Item::Null => out.push(0xf6),
            Item::Bool(truth) => out.push(if *truth { 0xf5 } else { 0xf4 }),
            Item::Int(number) if *number >= 0 => head(0, *number as u64, out),
            Item::Int(number) => head(1, !*number as u64, out),
            Item::Float(number) => {
                out.push(0xfb);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Item::Bytes(bytes) => {
                head(2, bytes.len() as u64, out);
                out.extend_from_slice(bytes);
            }
            Item::Text(text) => {
                head(3, text.len() as u64, out);
                out.extend_from_slice(text.as_bytes());
            }
            Item::Array(items) => {
                head(4, items.len() as u64, out);
                items.iter().for_each(|item| item.write(out));
            }
            Item::Map(entries) => {
                head(5, entries.len() as u64, out);
                for (key, item) in entries {
                    head(3, key.len() as u64, out);
                    out.extend_from_slice(key.as_bytes());
                    item.write(out);
                }
            }
            Item::Tag(tag, item) => {
                head(6, *tag, out);
                item.write(out);
            }
        }
    }
}

fn head(major: u8, number: u64, out: &mut Vec<u8>) {
    let major = major << 5;
    match number {
        0..=23 => out.push(major | number as u8),
        24..=0xff => out.extend_from_slice(&[major | 24, number as u8]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend_from_slice(&(number as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend_from_slice(&(number as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Parser<'a> {
    fn take(&mut self, count: u64) -> Result<&'a [u8], &'static str> {
        let count = usize::try_from(count).map_err(|_| "a length is too large")?;
        let end = self.at.checked_add(count).ok_or("a length is too large")?;
        let taken = self.bytes.get(self.at..end).ok_or("it ends early")?;
        self.at = end;
        Ok(taken)
    }

    fn at_break(&mut self) -> bool {
        let found = self.bytes.get(self.at) == Some(&BREAK);
        self.at += usize::from(found);
        found
    }

    /// The number of a head; `None` for an indefinite length.
    fn number(&mut self, low: u8) -> Result<Option<u64>, &'static str> {
        let width = match low {
            0..=23 => return Ok(Some(low.into())),
            24..=27 => 1 << (low - 24),
            31 => return Ok(None),
            _ => return Err("a reserved length"),
        };
        Ok(Some(self.take(width)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))))
    }

    fn item(&mut self, depth: usize) -> Result<Item, &'static str> {
        if depth > DEPTH_MAX {
            return Err("it is nested too deeply");
        }
        let first = self.take(1)?[0];
        let (major, low) = (first >> 5, first & 0x1f);
        if major == 7 {
            return self.simple(low);
        }
        let number = self.number(low)?;
        match major {
            0 => to_int(number, |number| number),
            1 => to_int(number, |number| !number),
            2 => self.string(2, number).map(Item::Bytes),
            3 => self.text(number).map(Item::Text),
            4 => {
                let mut items = Vec::new();
                while !self.done(number, items.len())? {
                    items.push(self.item(depth + 1)?);
                }
                Ok(Item::Array(items))
            }
            5 => {
                let mut entries = Vec::new();
                while !self.done(number, entries.len())? {
                    let Item::Text(key) = self.item(depth + 1)? else { return Err("a map key is no text") };
                    entries.push((key, self.item(depth + 1)?));
                }
                Ok(Item::Map(entries))
            }
            _ => Ok(Item::Tag(number.ok_or("a tag has no number")?, Box::new(self.item(depth + 1)?))),
        }
    }

    /// Whether an array or map has all its entries.
    fn done(&mut self, wanted: Option<u64>, have: usize) -> Result<bool, &'static str> {
        Ok(match wanted {
            Some(wanted) => have as u64 >= wanted,
            None => self.at_break(),
        })
    }

    fn string(&mut self, major: u8, length: Option<u64>) -> Result<Vec<u8>, &'static str> {
        if let Some(length) = length {
            return Ok(self.take(length)?.to_vec());
        }
        let mut whole = Vec::new();
        while !self.at_break() {
            let first = self.take(1)?[0];
            if first >> 5 != major {
                return Err("a chunk of another kind");
            }
            let length = self.number(first & 0x1f)?.ok_or("a chunk without a length")?;
            whole.extend_from_slice(self.take(length)?);
        }
        Ok(whole)
    }

    fn text(&mut self, length: Option<u64>) -> Result<String, &'static str> {
        String::from_utf8(self.string(3, length)?).map_err(|_| "a text is not UTF-8")
    }

    fn simple(&mut self, low: u8) -> Result<Item, &'static str> {
        Ok(match low {
            20 => Item::Bool(false),
            21 => Item::Bool(true),
            22 | 23 => Item::Null,
            25 => Item::Float(half(u16::from_be_bytes(self.take(2)?.try_into().expect("two bytes")))),
            26 => Item::Float(f32::from_be_bytes(self.take(4)?.try_into().expect("four bytes")).into()),
            27 => Item::Float(f64::from_be_bytes(self.take(8)?.try_into().expect("eight bytes"))),
            _ => return Err("an unknown simple value"),
        })
    }
}

fn to_int(number: Option<u64>, sign: fn(i64) -> i64) -> Result<Item, &'static str> {
    let number = number.ok_or("an integer of indefinite length")?;
    i64::try_from(number).map(|number| Item::Int(sign(number))).map_err(|_| "an integer is too large")
}

fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = ((bits >> 10) & 0x1f, f64::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f64.powi(i32::from(exponent) - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn items() -> impl Strategy<Value = Item> {
        let leaf = prop_oneof![
            Just(Item::Null),
            any::<bool>().prop_map(Item::Bool),
            any::<i64>().prop_map(Item::Int),
            (-1e300..1e300).prop_map(Item::Float),
            prop::collection::vec(any::<u8>(), 0..300).prop_map(Item::Bytes),
            ".{0,30}".prop_map(Item::Text),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Item::Array),
                prop::collection::vec((".{0,8}", inner.clone()), 0..6).prop_map(Item::Map),
                (any::<u64>(), inner).prop_map(|(tag, item)| Item::Tag(tag, Box::new(item))),
            ]
        })
    }

    #[test]
    fn examples_of_the_rfc() {
        // RFC 8949, appendix A.
        for (hex, item) in [
            ("f90001", Item::Float(5.960464477539063e-8)),
            ("f93e00", Item::Float(1.5)),
            ("f9fc00", Item::Float(f64::NEG_INFINITY)),
            ("fa47c35000", Item::Float(100_000.0)),
            ("3903e7", Item::Int(-1000)),
            ("c11a514b67b0", Item::Tag(1, Box::new(Item::Int(1_363_896_240)))),
            ("5f42010243030405ff", Item::Bytes(vec![1, 2, 3, 4, 5])),
            ("7f657374726561646d696e67ff", Item::Text("streaming".into())),
            (
                "bf61610161629f0203ffff",
                Item::Map(vec![
                    ("a".into(), Item::Int(1)),
                    ("b".into(), Item::Array(vec![Item::Int(2), Item::Int(3)])),
                ]),
            ),
        ] {
            let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(digits).collect();
            assert_eq!(Item::parse(&bytes), Ok(item), "{hex}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let deep = [0x81; 1000];
        for bytes in [&[][..], &[0x1c], &[0x62, b'a'], &[0x5b; 9], &[0x01, 0x01], &[0xa1, 0x01, 0x01], &deep]
        {
            assert!(Item::parse(bytes).is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn items_come_back(item in items()) {
            let mut bytes = Vec::new();
            item.write(&mut bytes);
            prop_assert_eq!(Item::parse(&bytes), Ok(item));
        }

        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Item::parse(&bytes);
        }
    }
}
