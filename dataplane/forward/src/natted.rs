//! What transport mode carries from a peer behind a NAT (RFC 3948 section 3.1.2).

use packet::checksum;
use packet::header::{protocol, tcp, udp};

/// Writes the checksum of a TCP or UDP segment anew: the peer reckoned it with the address that it has behind its NAT. That
/// the segment is as the peer sent it, ESP has shown.
#[cold]
pub(crate) fn mend(segment: &mut [u8], protocol: u8, source: [u8; 4], destination: [u8; 4]) {
    let at = match protocol {
        protocol::TCP if segment.len() >= tcp::LEN_BYTES => tcp::CHECKSUM_AT,
        // None was reckoned (RFC 768).
        protocol::UDP if segment.get(udp::CHECKSUM_AT..udp::LEN_BYTES).is_none_or(|sum| sum == [0, 0]) => {
            return;
        }
        protocol::UDP => udp::CHECKSUM_AT,
        _ => return,
    };
    if let Some(field) = segment.get_mut(at..at + 2) {
        field.fill(0);
    }
    let pseudo = [&source[..], &destination].map(checksum::sum).into_iter().sum::<u64>()
        + u64::from(protocol)
        + segment.len() as u64;
    let sum = !checksum::fold(pseudo + checksum::sum(segment));
    // Zero means "none" in UDP; the other zero is sent for it (RFC 768).
    let sum = if sum == 0 && protocol == protocol::UDP { u16::MAX } else { sum };
    if let Some(field) = segment.get_mut(at..at + 2) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}
