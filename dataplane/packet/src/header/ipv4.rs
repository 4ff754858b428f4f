//! IPv4 (RFC 791).

use super::Malformed;
use crate::checksum;

/// Length of a header without options, in bytes.
pub const LEN_BYTES: usize = 20;
/// The bit "don't fragment" of [`Ipv4::fragment_word`].
pub const DONT_FRAGMENT: u16 = 0x4000;
/// The bit "more fragments" of [`Ipv4::fragment_word`].
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// The fragment offset, in units of eight bytes, of [`Ipv4::fragment_word`].
pub const OFFSET_MASK: u16 = 0x1fff;

/// The fixed part of an IPv4 header.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4<'a>(&'a [u8; LEN_BYTES]);

impl<'a> Ipv4<'a> {
    /// The header at the start of `packet`, of which nothing but the length was checked.
    #[inline]
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        packet.first_chunk().map(Self)
    }

    /// The header at the start of `packet`, checked: version, header and total length, checksum. Bytes behind the total
    /// length are allowed: a short Ethernet frame is padded.
    ///
    /// # Errors
    /// What is wrong. A checksum over options is checked as well.
    #[inline]
    pub fn checked(packet: &'a [u8]) -> Result<Self, Malformed> {
        let fixed: &[u8; LEN_BYTES] = packet.first_chunk().ok_or(Malformed::Truncated)?;
        let header = Self(fixed);
        if fixed[0] == 0x45 {
            if !checksum::verify_ipv4(fixed) {
                return Err(Malformed::Checksum);
            }
        } else {
            header.check_options(packet)?;
        }
        let total = header.total_len_bytes();
        if total > packet.len() {
            return Err(Malformed::Truncated);
        }
        if total < header.len_bytes() {
            return Err(Malformed::Field);
        }
        Ok(header)
    }

    #[cold]
    fn check_options(self, packet: &[u8]) -> Result<(), Malformed> {
        if self.0[0] >> 4 != 4 || self.len_bytes() < LEN_BYTES {
            return Err(Malformed::Field);
        }
        let header = packet.get(..self.len_bytes()).ok_or(Malformed::Truncated)?;
        if checksum::checksum(header) == 0 { Ok(()) } else { Err(Malformed::Checksum) }
    }

    /// Length of the header with options, in bytes, as it claims.
    #[inline]
    pub fn len_bytes(self) -> usize {
        usize::from(self.0[0] & 0xf) * 4
    }

    /// Whether there are options.
    #[inline]
    pub fn has_options(self) -> bool {
        self.0[0] != 0x45
    }

    /// Type of service: DSCP and ECN.
    #[inline]
    pub fn tos(self) -> u8 {
        self.0[1]
    }

    /// Total length in bytes, as it claims.
    #[inline]
    pub fn total_len_bytes(self) -> usize {
        usize::from(self.word(2))
    }

    /// Identification.
    #[inline]
    pub fn identification(self) -> u16 {
        self.word(4)
    }

    /// Flags and fragment offset.
    #[inline]
    pub fn fragment_word(self) -> u16 {
        self.word(6)
    }

    /// Whether the packet is a fragment, the first included.
    #[inline]
    pub fn is_fragment(self) -> bool {
        self.fragment_word() & (MORE_FRAGMENTS | OFFSET_MASK) != 0
    }

    /// Whether "don't fragment" is set.
    #[inline]
    pub fn dont_fragment(self) -> bool {
        self.fragment_word() & DONT_FRAGMENT != 0
    }

    /// Time to live.
    #[inline]
    pub fn ttl(self) -> u8 {
        self.0[8]
    }

    /// Protocol of the payload.
    #[inline]
    pub fn protocol(self) -> u8 {
        self.0[9]
    }

    /// Source address.
    #[inline]
    pub fn source(self) -> [u8; 4] {
        [self.0[12], self.0[13], self.0[14], self.0[15]]
    }

    /// Destination address.
    #[inline]
    pub fn destination(self) -> [u8; 4] {
        [self.0[16], self.0[17], self.0[18], self.0[19]]
    }

    #[inline]
    fn word(self, at: usize) -> u16 {
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }
}

/// What a header without options says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Type of service.
    pub tos: u8,
    /// Total length in bytes.
    pub total_len_bytes: u16,
    /// Identification.
    pub identification: u16,
    /// Flags and fragment offset.
    pub fragment_word: u16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
}

impl Repr {
    /// The header's bytes, checksum included.
    pub fn to_bytes(self) -> [u8; LEN_BYTES] {
        let mut bytes = [0; LEN_BYTES];
        bytes[0] = 0x45;
        bytes[1] = self.tos;
        bytes[2..4].copy_from_slice(&self.total_len_bytes.to_be_bytes());
        bytes[4..6].copy_from_slice(&self.identification.to_be_bytes());
        bytes[6..8].copy_from_slice(&self.fragment_word.to_be_bytes());
        bytes[8] = self.ttl;
        bytes[9] = self.protocol;
        bytes[12..16].copy_from_slice(&self.source);
        bytes[16..20].copy_from_slice(&self.destination);
        let sum = checksum::checksum(&bytes);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

/// Takes one from the time to live and mends the checksum; the caller has seen that it is above 1.
#[inline]
pub fn decrement_ttl(header: &mut [u8; LEN_BYTES]) {
    header[8] = header[8].wrapping_sub(1);
    // One less in the high half of a word is one more in the high half of the checksum (RFC 1141).
    let sum = u32::from(u16::from_be_bytes([header[10], header[11]])) + 0x100;
    header[10..12].copy_from_slice(&((sum + (sum >> 16)) as u16).to_be_bytes());
}

/// Sets the type of service and mends the checksum.
#[inline]
pub fn set_tos(header: &mut [u8; LEN_BYTES], tos: u8) {
    let old = u16::from_be_bytes([header[0], header[1]]);
    header[1] = tos;
    set_checksum(header, old, (old & 0xff00) | u16::from(tos));
}

/// Sets protocol and total length and mends the checksum, as ESP in transport mode does both ways.
#[inline]
pub fn set_payload(header: &mut [u8; LEN_BYTES], protocol: u8, total_len_bytes: u16) {
    let old = u16::from_be_bytes([header[2], header[3]]);
    header[2..4].copy_from_slice(&total_len_bytes.to_be_bytes());
    set_checksum(header, old, total_len_bytes);
    let old = u16::from_be_bytes([header[8], header[9]]);
    header[9] = protocol;
    set_checksum(header, old, (old & 0xff00) | u16::from(protocol));
}

/// Replaces the source address, and mends the checksum.
pub fn set_source(header: &mut [u8; LEN_BYTES], source: [u8; 4]) {
    set_address(header, 12, source);
}

/// Replaces the destination address, and mends the checksum.
pub fn set_destination(header: &mut [u8; LEN_BYTES], destination: [u8; 4]) {
    set_address(header, 16, destination);
}

fn set_address(header: &mut [u8; LEN_BYTES], at: usize, address: [u8; 4]) {
    for (at, new) in [(at, [address[0], address[1]]), (at + 2, [address[2], address[3]])] {
        let old = u16::from_be_bytes([header[at], header[at + 1]]);
        header[at..at + 2].copy_from_slice(&new);
        set_checksum(header, old, u16::from_be_bytes(new));
    }
}

#[inline]
fn set_checksum(header: &mut [u8; LEN_BYTES], old: u16, new: u16) {
    let sum = checksum::update(u16::from_be_bytes([header[10], header[11]]), old, new);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn any_repr()(tos: u8, len in 20u16..=9000, id: u16, fragment in 0u16..0x8000, ttl in 1u8.., protocol: u8,
                      source: [u8; 4], destination: [u8; 4]) -> Repr {
            Repr { tos, total_len_bytes: len, identification: id, fragment_word: fragment, ttl, protocol, source, destination }
        }
    }

    proptest! {
        #[test]
        fn changes_keep_the_checksum_right(repr in any_repr(), tos: u8, protocol: u8, len in 20u16..9000) {
            let mut bytes = repr.to_bytes();
            decrement_ttl(&mut bytes);
            set_tos(&mut bytes, tos);
            set_payload(&mut bytes, protocol, len);
            let expected = Repr { ttl: repr.ttl - 1, tos, protocol, total_len_bytes: len, ..repr };
            prop_assert!(checksum::verify_ipv4(&bytes));
            prop_assert_eq!(&bytes[..10], &expected.to_bytes()[..10]);
        }

        #[test]
        fn arbitrary_bytes_are_refused_or_consistent(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Ok(header) = Ipv4::checked(&bytes) {
                prop_assert!(header.len_bytes() >= 20);
                prop_assert!(header.len_bytes() <= header.total_len_bytes());
                prop_assert!(header.total_len_bytes() <= bytes.len());
            }
        }
    }

    #[test]
    fn each_lie_is_named() {
        let repr = Repr {
            tos: 0,
            total_len_bytes: 24,
            identification: 1,
            fragment_word: 0,
            ttl: 3,
            protocol: 17,
            source: [10, 0, 0, 1],
            destination: [10, 0, 0, 2],
        };
        let mut packet = repr.to_bytes().to_vec();
        assert_eq!(Ipv4::checked(&packet).unwrap_err(), Malformed::Truncated);
        packet.extend([0; 4]);
        assert!(Ipv4::checked(&packet).is_ok());
        assert_eq!(Ipv4::checked(&packet[..19]).unwrap_err(), Malformed::Truncated);
        packet[11] ^= 1;
        assert_eq!(Ipv4::checked(&packet).unwrap_err(), Malformed::Checksum);
        packet[0] = 0x44;
        assert_eq!(Ipv4::checked(&packet).unwrap_err(), Malformed::Field);
        packet[0] = 0x65;
        assert_eq!(Ipv4::checked(&packet).unwrap_err(), Malformed::Field);
        let short = Repr { total_len_bytes: 19, ..repr }.to_bytes();
        assert_eq!(Ipv4::checked(&short).unwrap_err(), Malformed::Field);
    }

    #[test]
    fn options_are_covered_by_the_checksum() {
        let mut packet = [0x46, 0, 0, 24, 0, 0, 0, 0, 1, 2, 0, 0, 10, 0, 0, 1, 224, 0, 0, 22, 0x94, 4, 0, 0];
        let sum = checksum::checksum(&packet);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        assert!(Ipv4::checked(&packet).unwrap().has_options());
        packet[23] = 1;
        assert_eq!(Ipv4::checked(&packet).unwrap_err(), Malformed::Checksum);
    }
}
