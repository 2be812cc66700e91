//! A short digest that names things derived from others: container instances, overridden specifications.

/// 32 hexadecimal digits of a text (FNV-1a, 128 bits). Not for secrets: who needs uniqueness checks for it.
pub fn hex32(text: &str) -> String {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let hash = text.bytes().fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    format!("{hash:032x}")
}

#[cfg(test)]
mod tests {
    use super::hex32;

    #[test]
    fn digests_are_those_of_the_published_vectors() {
        assert_eq!(hex32(""), "6c62272e07bb014262b821756295c58d");
        assert_eq!(hex32("a"), "d228cb696f1a8caf78912b704e4a8964");
    }
}
