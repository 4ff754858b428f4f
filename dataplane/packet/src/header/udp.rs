//! UDP (RFC 768), and ESP in it (RFC 3948).

/// Length of the header in bytes.
pub const LEN_BYTES: usize = 8;
/// Where the checksum stands.
pub const CHECKSUM_AT: usize = 6;
/// The port of IKE.
pub const IKE_PORT: u16 = 500;
/// The port of IKE and ESP behind a NAT.
pub const NAT_PORT: u16 = 4500;

/// A UDP header.
#[derive(Clone, Copy, Debug)]
pub struct Udp<'a>(&'a [u8; LEN_BYTES]);

impl<'a> Udp<'a> {
    /// The header at the start of `segment`, if it is long enough.
    #[inline]
    pub fn parse(segment: &'a [u8]) -> Option<Self> {
        segment.first_chunk().map(Self)
    }

    /// Source port.
    #[inline]
    pub fn source_port(self) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]])
    }

    /// Destination port.
    #[inline]
    pub fn destination_port(self) -> u16 {
        u16::from_be_bytes([self.0[2], self.0[3]])
    }

    /// Length of header and payload in bytes, as it claims.
    #[inline]
    pub fn len_bytes(self) -> usize {
        usize::from(u16::from_be_bytes([self.0[4], self.0[5]]))
    }
}

/// The bytes of a header with checksum zero, as ESP in UDP has it over IPv4 (RFC 3948 section 2.1).
pub fn header(source_port: u16, destination_port: u16, len_bytes: u16) -> [u8; LEN_BYTES] {
    let mut bytes = [0; LEN_BYTES];
    bytes[..2].copy_from_slice(&source_port.to_be_bytes());
    bytes[2..4].copy_from_slice(&destination_port.to_be_bytes());
    bytes[4..6].copy_from_slice(&len_bytes.to_be_bytes());
    bytes
}

/// What stands behind a UDP header of port 4500 (RFC 3948 section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatPayload {
    /// ESP: a first word other than zero, the SPI.
    Esp,
    /// IKE: the non-ESP marker, or too short to be anything else.
    Ike,
    /// A NAT keepalive: one byte 0xff.
    Keepalive,
}

/// Tells ESP, IKE and keepalives apart by the first bytes of a datagram's payload.
#[inline]
pub fn nat_payload(payload: &[u8]) -> NatPayload {
    match payload.first_chunk::<4>() {
        Some([0, 0, 0, 0]) => NatPayload::Ike,
        Some(_) => NatPayload::Esp,
        None if payload == [0xff] => NatPayload::Keepalive,
        None => NatPayload::Ike,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_4500_carries_three_things() {
        assert_eq!(nat_payload(&[0, 0, 0, 0, 9]), NatPayload::Ike);
        assert_eq!(nat_payload(&[0, 0, 1, 0, 9]), NatPayload::Esp);
        assert_eq!(nat_payload(&[0xff]), NatPayload::Keepalive);
        assert_eq!(nat_payload(&[0xfe]), NatPayload::Ike);
        assert_eq!(nat_payload(&[]), NatPayload::Ike);
    }

    #[test]
    fn reads_what_it_writes() {
        let bytes = header(4500, 60000, 77);
        let view = Udp::parse(&bytes).unwrap();
        assert_eq!((view.source_port(), view.destination_port(), view.len_bytes()), (4500, 60000, 77));
        assert_eq!(bytes[6..], [0, 0]);
    }
}
