//! GRE (RFC 2784) with key and sequence number (RFC 2890).

use super::Malformed;
use crate::checksum;

const CHECKSUM_PRESENT: u16 = 0x8000;
const KEY_PRESENT: u16 = 0x2000;
const SEQUENCE_PRESENT: u16 = 0x1000;
/// Routing, strict source route and the first recursion bit of RFC 1701, which "MUST be zero" for who does not implement
/// it (RFC 2784 section 2.3), and the version.
const MUST_BE_ZERO: u16 = 0x4000 | 0x0c00 | 0x0007;

/// Length of a header without options, in bytes.
pub const LEN_BYTES: usize = 4;

/// A GRE header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gre {
    /// EtherType of the passenger.
    pub protocol_type: u16,
    /// Key, when present.
    pub key: Option<u32>,
    /// Length of the header with its options, in bytes.
    pub len_bytes: usize,
}

impl Gre {
    /// The header at the start of `packet`, which ends where the GRE payload ends. A checksum is verified; a sequence
    /// number is accepted and not looked at (RFC 2890 section 2.2 leaves it to the receiver).
    ///
    /// # Errors
    /// What is wrong.
    #[inline]
    pub fn parse(packet: &[u8]) -> Result<Self, Malformed> {
        let fixed: &[u8; LEN_BYTES] = packet.first_chunk().ok_or(Malformed::Truncated)?;
        let flags = u16::from_be_bytes([fixed[0], fixed[1]]);
        let protocol_type = u16::from_be_bytes([fixed[2], fixed[3]]);
        if flags == 0 {
            return Ok(Self { protocol_type, key: None, len_bytes: LEN_BYTES });
        }
        Self::parse_options(packet, flags, protocol_type)
    }

    fn parse_options(packet: &[u8], flags: u16, protocol_type: u16) -> Result<Self, Malformed> {
        if flags & MUST_BE_ZERO != 0 {
            return Err(Malformed::Field);
        }
        let mut len_bytes = LEN_BYTES;
        if flags & CHECKSUM_PRESENT != 0 {
            len_bytes += 4;
            if packet.len() < len_bytes {
                return Err(Malformed::Truncated);
            }
            if checksum::checksum(packet) != 0 {
                return Err(Malformed::Checksum);
            }
        }
        let mut key = None;
        if flags & KEY_PRESENT != 0 {
            let rest = packet.get(len_bytes..).ok_or(Malformed::Truncated)?;
            key = Some(u32::from_be_bytes(*rest.first_chunk().ok_or(Malformed::Truncated)?));
            len_bytes += 4;
        }
        if flags & SEQUENCE_PRESENT != 0 {
            len_bytes += 4;
        }
        if packet.len() < len_bytes {
            return Err(Malformed::Truncated);
        }
        Ok(Self { protocol_type, key, len_bytes })
    }
}

/// The bytes of a header, and how many of them count: four, or eight with a key.
pub fn header(protocol_type: u16, key: Option<u32>) -> ([u8; 8], usize) {
    let mut bytes = [0; 8];
    bytes[2..4].copy_from_slice(&protocol_type.to_be_bytes());
    match key {
        None => (bytes, LEN_BYTES),
        Some(key) => {
            bytes[..2].copy_from_slice(&KEY_PRESENT.to_be_bytes());
            bytes[4..].copy_from_slice(&key.to_be_bytes());
            (bytes, LEN_BYTES + 4)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_it_writes() {
        for key in [None, Some(0), Some(0xdead_beef)] {
            let (bytes, len) = header(0x86dd, key);
            assert_eq!(Gre::parse(&bytes[..len]), Ok(Gre { protocol_type: 0x86dd, key, len_bytes: len }));
            assert_eq!(Gre::parse(&bytes[..len - 1]), Err(Malformed::Truncated));
        }
    }

    #[test]
    fn bits_of_rfc_1701_and_other_versions_are_refused() {
        for flags in [0x4000u16, 0x0800, 0x0400, 0x0001, 0x2007, 0x3001] {
            let mut bytes = [0; 16];
            bytes[..2].copy_from_slice(&flags.to_be_bytes());
            assert_eq!(Gre::parse(&bytes), Err(Malformed::Field), "{flags:#x}");
        }
    }

    #[test]
    fn reserved_bits_6_to_12_are_ignored_on_receipt() {
        assert!(Gre::parse(&[0x03, 0xf8, 8, 0]).is_ok());
    }

    #[test]
    fn a_checksum_is_verified_over_header_and_payload() {
        let mut bytes = [0xb0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 9, 1, 2, 3];
        let sum = checksum::checksum(&bytes);
        bytes[4..6].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(Gre::parse(&bytes), Ok(Gre { protocol_type: 0x800, key: Some(5), len_bytes: 16 }));
        bytes[18] ^= 1;
        assert_eq!(Gre::parse(&bytes), Err(Malformed::Checksum));
        assert_eq!(Gre::parse(&bytes[..6]), Err(Malformed::Truncated));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(header) = Gre::parse(&bytes) {
                prop_assert!(header.len_bytes <= bytes.len());
            }
        }
    }
}
