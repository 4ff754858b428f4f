//! TCP: the maximum segment size of a SYN (RFC 9293 section 3.7.1), lowered to what a tunnel carries.

use crate::checksum;

/// Length of a header without options, in bytes.
pub const LEN_BYTES: usize = 20;

const FLAGS_AT: usize = 13;
/// Where the checksum stands.
pub const CHECKSUM_AT: usize = 16;
const SYN: u8 = 0x02;
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;

/// Lowers the MSS option of a SYN to `limit_bytes` and mends the checksum; says whether it changed anything. Segments
/// without SYN or without the option, and malformed ones, stay as they are.
#[inline]
pub fn clamp_mss(segment: &mut [u8], limit_bytes: u16) -> bool {
    match segment.get(FLAGS_AT) {
        Some(flags) if flags & SYN != 0 => clamp_syn(segment, limit_bytes).is_some(),
        _ => false,
    }
}

#[cold]
fn clamp_syn(segment: &mut [u8], limit_bytes: u16) -> Option<()> {
    let at = mss_value_at(segment)?;
    let field = segment.get_mut(at..at + 2)?;
    let old = u16::from_be_bytes([field[0], field[1]]);
    if old <= limit_bytes {
        return None;
    }
    field.copy_from_slice(&limit_bytes.to_be_bytes());
    // A value at an odd offset lies across two words of the sum: swapped bytes give the same result.
    let (old, new) =
        if at % 2 == 0 { (old, limit_bytes) } else { (old.swap_bytes(), limit_bytes.swap_bytes()) };
    let field = segment.get_mut(CHECKSUM_AT..CHECKSUM_AT + 2)?;
    let sum = checksum::update(u16::from_be_bytes([field[0], field[1]]), old, new);
    field.copy_from_slice(&sum.to_be_bytes());
    Some(())
}

/// Offset of the value of the MSS option.
fn mss_value_at(segment: &[u8]) -> Option<usize> {
    let header_len = usize::from(segment.get(12)? >> 4) * 4;
    let header = segment.get(..header_len)?;
    let mut at = LEN_BYTES;
    while let Some(kind) = header.get(at) {
        match *kind {
            END_OF_OPTIONS => return None,
            NO_OPERATION => at += 1,
            kind => {
                let len = usize::from(*header.get(at + 1)?);
                if kind == MAXIMUM_SEGMENT_SIZE {
                    return (len == 4 && at + 4 <= header.len()).then_some(at + 2);
                }
                at += len.max(2);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn syn(options: &[u8]) -> Vec<u8> {
        let mut segment =
            vec![0x12, 0x34, 0x00, 0x50, 1, 2, 3, 4, 0, 0, 0, 0, 0, SYN, 0xff, 0xff, 0, 0, 0, 0];
        segment.extend(options);
        segment[12] = ((segment.len() / 4) as u8) << 4;
        let sum = checksum::checksum(&segment);
        segment[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&sum.to_be_bytes());
        segment
    }

    #[test]
    fn lowers_and_never_raises() {
        let mut segment = syn(&[2, 4, 0x05, 0xb4]);
        assert!(!clamp_mss(&mut segment, 1460));
        assert!(clamp_mss(&mut segment, 1402));
        assert_eq!(segment[22..24], 1402u16.to_be_bytes());
        assert_eq!(checksum::checksum(&segment), 0);
        segment[FLAGS_AT] = 0x10;
        assert!(!clamp_mss(&mut segment, 100));
    }

    #[test]
    fn finds_the_option_at_an_odd_offset() {
        let mut segment = syn(&[1, 2, 4, 0x05, 0xb4, 1, 1, 0]);
        assert!(clamp_mss(&mut segment, 1000));
        assert_eq!(checksum::checksum(&segment), 0);
        assert_eq!(segment[23..25], 1000u16.to_be_bytes());
    }

    #[test]
    fn malformed_options_are_left_alone() {
        for options in [
            &[2u8, 3, 5, 0xb4][..],
            &[2, 4, 5][..],
            &[9, 0, 0, 0][..],
            &[9, 200, 0, 0][..],
            &[0, 2, 4, 9][..],
        ] {
            let mut segment = syn(options);
            let before = segment.clone();
            assert!(!clamp_mss(&mut segment, 100), "{options:?}");
            assert_eq!(segment, before);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..80), limit: u16) {
            let len = bytes.len();
            clamp_mss(&mut bytes, limit);
            prop_assert_eq!(bytes.len(), len);
        }
    }
}
