//! Stable hash function. The hash of a byte string is the same in every process, on every platform and in every version
//! of wgrad. The hash functions of the standard library do not guarantee this.

/// Returns the 64-bit FNV-1a hash of the bytes. Used to derive random streams from names, for keys of files on disk and
/// for checksums. Not cryptographic.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test vectors of the FNV authors.
    #[test]
    fn fnv1a_matches_the_published_test_vectors() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
