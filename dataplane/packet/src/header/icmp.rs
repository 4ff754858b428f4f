//! ICMP errors (RFC 792, RFC 1191, RFC 1812).

use super::{ipv4, protocol};
use crate::checksum;

/// Length of the header of an error, in bytes.
pub const LEN_BYTES: usize = 8;
/// Most bytes of an ICMP error with its IP header (RFC 1812 section 4.3.2.3).
pub const MAX_ERROR_BYTES: usize = 576;

/// An error about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpError {
    /// Time to live exceeded in transit.
    TimeExceeded,
    /// Fragmentation needed and "don't fragment" set; the next hop's MTU in bytes.
    FragmentationNeeded(u16),
    /// Network unreachable.
    NetworkUnreachable,
}

impl IcmpError {
    fn words(self) -> [u8; LEN_BYTES] {
        match self {
            Self::TimeExceeded => [11, 0, 0, 0, 0, 0, 0, 0],
            Self::FragmentationNeeded(mtu) => {
                let [high, low] = mtu.to_be_bytes();
                [3, 4, 0, 0, 0, 0, high, low]
            }
            Self::NetworkUnreachable => [3, 0, 0, 0, 0, 0, 0, 0],
        }
    }
}

/// Whether an error may be sent about this packet (RFC 1812 section 4.3.2.7): not about an ICMP error, a fragment other
/// than the first, or an address that is not one host's.
pub fn may_answer(packet: &[u8]) -> bool {
    let Some(header) = ipv4::Ipv4::parse(packet) else { return false };
    let source = header.source();
    let one_host = !matches!(source[0], 0 | 127 | 224..) && !matches!(header.destination()[0], 224..);
    if !one_host || header.fragment_word() & ipv4::OFFSET_MASK != 0 {
        return false;
    }
    if header.protocol() != protocol::ICMP {
        return true;
    }
    // Queries and their replies may be answered: echo, router discovery, timestamp, information, mask.
    matches!(packet.get(header.len_bytes()), Some(0 | 8 | 9 | 10 | 13..=18))
}

/// Writes an error about `packet` from `source` into `out`, IP header included, and returns its length in bytes.
pub fn write_error(
    out: &mut [u8; MAX_ERROR_BYTES],
    error: IcmpError,
    packet: &[u8],
    source: [u8; 4],
) -> Option<usize> {
    let original = ipv4::Ipv4::parse(packet)?;
    let quoted = packet.get(..packet.len().min(MAX_ERROR_BYTES - ipv4::LEN_BYTES - LEN_BYTES))?;
    let total = ipv4::LEN_BYTES + LEN_BYTES + quoted.len();
    let header = ipv4::Repr {
        // Precedence 6, as RFC 1812 section 4.3.2.5 asks for errors.
        tos: 0xc0,
        total_len_bytes: total as u16,
        identification: 0,
        fragment_word: 0,
        ttl: 64,
        protocol: protocol::ICMP,
        source,
        destination: original.source(),
    };
    let (ip, rest) = out.split_first_chunk_mut::<{ ipv4::LEN_BYTES }>()?;
    *ip = header.to_bytes();
    let icmp = rest.get_mut(..LEN_BYTES + quoted.len())?;
    icmp[..LEN_BYTES].copy_from_slice(&error.words());
    icmp[LEN_BYTES..].copy_from_slice(quoted);
    let sum = checksum::checksum(icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let repr = ipv4::Repr {
            tos: 0,
            total_len_bytes: (20 + payload.len()) as u16,
            identification: 7,
            fragment_word: 0,
            ttl: 1,
            protocol,
            source: [10, 0, 0, 1],
            destination: [10, 9, 0, 1],
        };
        [&repr.to_bytes()[..], payload].concat()
    }

    #[test]
    fn an_error_quotes_the_packet_and_bears_right_checksums() {
        let original = packet(17, &[5; 1400]);
        let mut out = [0; MAX_ERROR_BYTES];
        let len =
            write_error(&mut out, IcmpError::FragmentationNeeded(1442), &original, [10, 0, 0, 254]).unwrap();
        assert_eq!(len, MAX_ERROR_BYTES);
        let header = ipv4::Ipv4::checked(&out[..len]).unwrap();
        assert_eq!((header.source(), header.destination()), ([10, 0, 0, 254], [10, 0, 0, 1]));
        assert_eq!(out[20..22], [3, 4]);
        assert_eq!(out[26..28], 1442u16.to_be_bytes());
        assert_eq!(checksum::checksum(&out[20..len]), 0);
        assert_eq!(out[28..len], original[..len - 28]);
    }

    #[test]
    fn nothing_is_said_about_errors_fragments_and_groups() {
        assert!(may_answer(&packet(17, &[0; 8])));
        assert!(may_answer(&packet(1, &[8, 0])));
        assert!(!may_answer(&packet(1, &[3, 4])));
        assert!(!may_answer(&packet(1, &[])));
        let mut fragment = packet(17, &[0; 8]);
        fragment[7] = 1;
        assert!(!may_answer(&fragment));
        for (at, value) in [(12, 224), (12, 0), (12, 127), (16, 239)] {
            let mut group = packet(17, &[0; 8]);
            group[at] = value;
            assert!(!may_answer(&group));
        }
    }
}
