//! Ids, made from a seed: the same seed gives the same ids, which is what the simulator replays.

/// A stream of ids. Not secret: credentials and tokens come from the operating system instead.
#[derive(Debug, Clone)]
pub struct Ids {
    state: u64,
    /// What ids of tasks begin with.
    near: u16,
}

impl Ids {
    /// A stream from a seed.
    pub fn new(seed: u64) -> Ids {
        let mut ids = Ids { state: seed, near: 0 };
        ids.near = (Ids { state: !seed, near: 0 }.next_u64() >> 48) as u16;
        ids
    }

    /// The next 64 bits (SplitMix64, Steele et al. 2014).
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `digits` hexadecimal digits, at most 32.
    pub fn hex(&mut self, digits: usize) -> String {
        assert!(digits <= 32);
        let mut text = format!("{:016x}{:016x}", self.next_u64(), self.next_u64());
        text.truncate(digits);
        text
    }

    /// A task's id: 32 hexadecimal digits. The first four are the same for all of a stream, so that tasks started together
    /// are neighbours in every table and index that is ordered by their ids.
    pub fn task(&mut self) -> String {
        let near = self.near;
        format!("{near:04x}{}", self.hex(28))
    }

    /// A random (version 4) UUID, RFC 9562.
    pub fn uuid(&mut self) -> String {
        let h = self.hex(32);
        let variant = ["8", "9", "a", "b"][(self.next_u64() % 4) as usize];
        format!("{}-{}-4{}-{}{}-{}", &h[..8], &h[8..12], &h[13..16], variant, &h[17..20], &h[20..32])
    }

    /// `digits` decimal digits that do not start with zero, as deployment ids have (`ecs-svc/1234567890123456789`).
    pub fn decimal(&mut self, digits: usize) -> String {
        let mut text = String::with_capacity(digits);
        text.push((b'1' + (self.next_u64() % 9) as u8) as char);
        while text.len() < digits {
            text.push((b'0' + (self.next_u64() % 10) as u8) as char);
        }
        text
    }

    /// `len` characters of lower-case letters and digits (Cloud Map and Route 53 ids).
    pub fn alphanumeric(&mut self, len: usize) -> String {
        const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        (0..len).map(|_| ALPHABET[(self.next_u64() % 36) as usize] as char).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_their_forms_and_repeat_with_the_seed() {
        let mut ids = Ids::new(7);
        let uuid = ids.uuid();
        assert_eq!(uuid.len(), 36);
        assert_eq!(uuid.as_bytes()[14], b'4');
        assert!("89ab".contains(uuid.as_bytes()[19] as char));
        assert_eq!(ids.hex(32).len(), 32);
        let (one, other) = (ids.task(), ids.task());
        assert_eq!((one.len(), &one[..4]), (32, &other[..4]));
        assert!(one != other && one.bytes().all(|b| b.is_ascii_hexdigit()));
        assert_eq!(ids.decimal(19).len(), 19);
        assert_eq!(ids.alphanumeric(12).len(), 12);
        assert_eq!(Ids::new(7).uuid(), uuid);
        assert_ne!(Ids::new(8).uuid(), uuid);
    }
}
