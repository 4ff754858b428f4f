//! Ethernet II.

/// Length of the header in bytes.
pub const LEN_BYTES: usize = 14;

/// EtherTypes.
pub mod ethertype {
    /// IPv4; also the GRE protocol type.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// IPv6; also the GRE protocol type.
    pub const IPV6: u16 = 0x86dd;
}

/// A link-layer address.
pub type Mac = [u8; 6];

/// An Ethernet header.
#[derive(Clone, Copy, Debug)]
pub struct Ethernet<'a>(&'a [u8; LEN_BYTES]);

impl<'a> Ethernet<'a> {
    /// The header at the start of `frame`, if it is long enough.
    #[inline]
    pub fn parse(frame: &'a [u8]) -> Option<Self> {
        frame.first_chunk().map(Self)
    }

    /// Destination.
    #[inline]
    pub fn destination(self) -> Mac {
        let [a, b, c, d, e, f, ..] = *self.0;
        [a, b, c, d, e, f]
    }

    /// Source.
    #[inline]
    pub fn source(self) -> Mac {
        let [_, _, _, _, _, _, a, b, c, d, e, f, ..] = *self.0;
        [a, b, c, d, e, f]
    }

    /// EtherType.
    #[inline]
    pub fn ethertype(self) -> u16 {
        u16::from_be_bytes([self.0[12], self.0[13]])
    }

    /// Whether the destination is a group (multicast or broadcast) address.
    #[inline]
    pub fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
}

/// The bytes of a header.
#[inline]
pub fn header(destination: Mac, source: Mac, ethertype: u16) -> [u8; LEN_BYTES] {
    let mut bytes = [0; LEN_BYTES];
    bytes[..6].copy_from_slice(&destination);
    bytes[6..12].copy_from_slice(&source);
    bytes[12..].copy_from_slice(&ethertype.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let bytes = header([1, 2, 3, 4, 5, 6], [10, 11, 12, 13, 14, 15], ethertype::IPV6);
        let view = Ethernet::parse(&bytes).unwrap();
        assert_eq!((view.destination(), view.source()), ([1, 2, 3, 4, 5, 6], [10, 11, 12, 13, 14, 15]));
        assert_eq!((view.ethertype(), view.is_group()), (0x86dd, true));
        assert!(Ethernet::parse(&bytes[..13]).is_none());
    }
}
