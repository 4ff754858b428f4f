//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! Sums are of sixteen-bit words in network byte order, kept unfolded in a `u32` or `u64`.

/// Unfolded sum of `bytes`; an odd last byte counts as the high half of a word.
pub fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut total: u64 = words.iter().map(|word| u64::from(u32::from_be_bytes(*word))).sum();
    let (pairs, last) = rest.as_chunks::<2>();
    total += pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum::<u64>();
    total + last.first().map_or(0, |byte| u64::from(*byte) << 8)
}

/// Folds a sum to sixteen bits, carries added back.
pub fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    sum as u16
}

/// The checksum of `bytes`, whose own checksum field is zero.
pub fn checksum(bytes: &[u8]) -> u16 {
    !fold(sum(bytes))
}

/// Whether an IPv4 header without options bears the right checksum.
#[inline]
pub fn verify_ipv4(header: &[u8; 20]) -> bool {
    // The one's complement sum does not care for byte order, and folds to 0xffff exactly when it is a multiple of
    // 0xffff other than zero: one multiplication instead of a chain of carries.
    let (words, _) = header.as_chunks::<4>();
    let total: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    total != 0 && total.is_multiple_of(0xffff)
}

/// The checksum after one sixteen-bit word changed from `old` to `new` (RFC 1624, equation 3).
#[inline]
pub fn update(checksum: u16, old: u16, new: u16) -> u16 {
    !fold(u64::from(!checksum) + u64::from(!old) + u64::from(new))
}

/// Unfolded sum of the pseudo header of an IPv6 upper layer (RFC 8200 section 8.1).
pub fn pseudo_v6(source: &[u8; 16], destination: &[u8; 16], len_bytes: u32, next_header: u8) -> u64 {
    sum(source) + sum(destination) + u64::from(len_bytes) + u64::from(next_header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn agrees_with_the_example_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(&bytes)), 0xddf2);
        assert_eq!(checksum(&bytes), !0xddf2);
    }

    #[test]
    fn verifies_a_header_and_notices_one_changed_bit() {
        let mut header =
            [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 192, 168, 0, 1, 192, 168, 0, 199];
        assert!(verify_ipv4(&header));
        header[8] ^= 1;
        assert!(!verify_ipv4(&header));
    }

    proptest! {
        #[test]
        fn agrees_with_a_sum_word_by_word(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut expected = 0u32;
            for pair in bytes.chunks(2) {
                expected += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
                expected = (expected & 0xffff) + (expected >> 16);
            }
            prop_assert_eq!(u32::from(fold(sum(&bytes))), expected);
        }

        #[test]
        fn an_update_equals_a_new_sum(mut words in proptest::collection::vec(any::<u16>(), 10), at in 0usize..10, new: u16) {
            prop_assume!(words.iter().enumerate().any(|(i, w)| i != at && *w != 0));
            let bytes = |words: &[u16]| words.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<_>>();
            let before = checksum(&bytes(&words));
            let old = std::mem::replace(&mut words[at], new);
            prop_assert_eq!(update(before, old, new), checksum(&bytes(&words)));
        }
    }
}
