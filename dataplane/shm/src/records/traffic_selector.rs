//! What an SA may carry on one of its sides.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Address, Family};

/// Most traffic selectors of an SA on each side.
pub const SELECTORS_MOST: usize = 8;

/// A traffic selector of one side as it was agreed (RFC 7296 section 3.13.1): a range of addresses, a protocol, and a range
/// of ports. All zero where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TrafficSelector {
    /// Lowest address.
    pub first: Address,
    /// Highest address, inclusive.
    pub last: Address,
    /// Lowest and highest port, inclusive; 0 to 65535 for any. Packets whose ports cannot be seen lie in no other range.
    pub ports: [u16; 2],
    /// IP protocol, 0 for any.
    pub protocol: u8,
    /// Address family of `first` and `last`; 0 where there is no selector.
    pub family: Family,
    /// Reserved, zero.
    pub reserved: [u8; 2],
}

impl TrafficSelector {
    /// There is none.
    pub const NONE: Self =
        Self { ports: [0; 2], ..Self::range(0, Address { bytes: [0; 16] }, Address { bytes: [0; 16] }) };
    /// All of IPv4.
    pub const ANY_V4: Self = Self::range(
        4,
        Address { bytes: [0; 16] },
        Address { bytes: [255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] },
    );
    /// All of IPv6.
    pub const ANY_V6: Self = Self::range(6, Address { bytes: [0; 16] }, Address { bytes: [255; 16] });

    /// Everything from one address to another of the same family.
    pub const fn range(family: Family, first: Address, last: Address) -> Self {
        Self { first, last, ports: [0, u16::MAX], protocol: 0, family, reserved: [0; 2] }
    }

    /// One address.
    pub const fn host(family: Family, address: Address) -> Self {
        Self::range(family, address, address)
    }

    /// This one alone on a side of an SA.
    pub const fn alone(self) -> [Self; SELECTORS_MOST] {
        let mut side = [Self::NONE; SELECTORS_MOST];
        side[0] = self;
        side
    }

    /// Those of a side that are there.
    pub fn present(side: &[Self]) -> &[Self] {
        let count = side.iter().take_while(|selector| selector.family != 0).count();
        side.get(..count).unwrap_or_default()
    }
}
