//! Which partition a key belongs to: as Java producers, and librdkafka's `murmur2_random`, choose it.
//!
//! It is computed here and given to librdkafka with the record, so that what is believed of a partition is believed of
//! the one the record goes to.

/// `org.apache.kafka.common.utils.Utils.murmur2`: 32 bits, little endian.
fn murmur2(key: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    // The hash wraps at 32 bits, and a key is far shorter.
    #[allow(clippy::cast_possible_truncation)]
    let mut hash = SEED ^ key.len() as u32;
    let (words, rest) = key.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The partition of a key, of `count` (at least one).
#[must_use]
pub fn partition(key: &[u8], count: usize) -> usize {
    (murmur2(key) & 0x7fff_ffff) as usize % count.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn the_hash_is_that_of_java_clients() {
        for (key, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
    }

    #[test]
    fn every_key_has_a_partition_that_exists() {
        assert!((0..1_000u32).all(|key| partition(key.to_string().as_bytes(), 7) < 7));
        assert_eq!(partition(b"", 1), 0);
    }
}
