//! IPv6 (RFC 8200).

use super::Malformed;

/// Length of the fixed header in bytes.
pub const LEN_BYTES: usize = 40;

/// The fixed IPv6 header.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6<'a>(&'a [u8; LEN_BYTES]);

impl<'a> Ipv6<'a> {
    /// The header at the start of `packet`, of which nothing but the length was checked.
    #[inline]
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        packet.first_chunk().map(Self)
    }

    /// The header at the start of `packet`, checked: version and payload length. Bytes behind the payload are allowed.
    ///
    /// # Errors
    /// What is wrong. Jumbograms are refused as truncated.
    #[inline]
    pub fn checked(packet: &'a [u8]) -> Result<Self, Malformed> {
        let header = Self::parse(packet).ok_or(Malformed::Truncated)?;
        if header.0[0] >> 4 != 6 {
            return Err(Malformed::Field);
        }
        if header.total_len_bytes() > packet.len() {
            return Err(Malformed::Truncated);
        }
        Ok(header)
    }

    /// Traffic class: DSCP and ECN.
    #[inline]
    pub fn traffic_class(self) -> u8 {
        (self.0[0] << 4) | (self.0[1] >> 4)
    }

    /// Length of header and payload in bytes, as it claims.
    #[inline]
    pub fn total_len_bytes(self) -> usize {
        LEN_BYTES + usize::from(u16::from_be_bytes([self.0[4], self.0[5]]))
    }

    /// Next header.
    #[inline]
    pub fn next_header(self) -> u8 {
        self.0[6]
    }

    /// Hop limit.
    #[inline]
    pub fn hop_limit(self) -> u8 {
        self.0[7]
    }

    /// Source address.
    #[inline]
    pub fn source(self) -> [u8; 16] {
        let mut address = [0; 16];
        address.copy_from_slice(&self.0[8..24]);
        address
    }

    /// Destination address.
    #[inline]
    pub fn destination(self) -> [u8; 16] {
        let mut address = [0; 16];
        address.copy_from_slice(&self.0[24..40]);
        address
    }
}

/// Sets the traffic class.
#[inline]
pub fn set_traffic_class(header: &mut [u8; LEN_BYTES], class: u8) {
    header[0] = (header[0] & 0xf0) | (class >> 4);
    header[1] = (header[1] & 0x0f) | (class << 4);
}

/// The bytes of a header with flow label zero.
pub fn header(
    traffic_class: u8,
    payload_len_bytes: u16,
    next_header: u8,
    hop_limit: u8,
    source: &[u8; 16],
    destination: &[u8; 16],
) -> [u8; LEN_BYTES] {
    let mut bytes = [0; LEN_BYTES];
    bytes[0] = 0x60;
    set_traffic_class(&mut bytes, traffic_class);
    bytes[4..6].copy_from_slice(&payload_len_bytes.to_be_bytes());
    bytes[6] = next_header;
    bytes[7] = hop_limit;
    bytes[8..24].copy_from_slice(source);
    bytes[24..40].copy_from_slice(destination);
    bytes
}

/// Whether an address is multicast (ff00::/8).
#[inline]
pub fn is_multicast(address: &[u8; 16]) -> bool {
    address[0] == 0xff
}

/// Whether an address is link-local (fe80::/10).
#[inline]
pub fn is_link_local(address: &[u8; 16]) -> bool {
    address[0] == 0xfe && address[1] & 0xc0 == 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_names_each_lie() {
        let mut packet = header(0xb9, 4, 17, 64, &[1; 16], &[2; 16]).to_vec();
        assert_eq!(Ipv6::checked(&packet).unwrap_err(), Malformed::Truncated);
        packet.extend([0; 4]);
        let view = Ipv6::checked(&packet).unwrap();
        assert_eq!((view.traffic_class(), view.next_header(), view.hop_limit()), (0xb9, 17, 64));
        assert_eq!((view.source(), view.destination()), ([1; 16], [2; 16]));
        assert_eq!(Ipv6::checked(&packet[..39]).unwrap_err(), Malformed::Truncated);
        packet[0] = 0x45;
        assert_eq!(Ipv6::checked(&packet).unwrap_err(), Malformed::Field);
    }

    #[test]
    fn knows_what_never_leaves_a_link() {
        let mut address = [0; 16];
        address[..2].copy_from_slice(&[0xfe, 0xbf]);
        assert!(is_link_local(&address));
        address[1] = 0xc0;
        assert!(!is_link_local(&address));
        assert!(is_multicast(&[0xff; 16]));
    }
}
