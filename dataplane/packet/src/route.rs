//! The lookup of routes: longest prefix match from an address to an adjacency.

use thiserror::Error;

/// The adjacency of an address that no prefix covers.
pub const MISS: u64 = 0;

/// Largest adjacency that a table must hold: fifteen bits, the next hop of a two-byte `rte_fib` entry.
pub const MAX_ADJACENCY: u64 = (1 << 15) - 1;

/// A longest-prefix-match table. Adjacencies are opaque to it, from 1 to [`MAX_ADJACENCY`]; 0 is [`MISS`].
///
/// Prefixes shorter than eight bits never reach it: the forwarder keeps them itself, because a table of 2^24 direct
/// entries takes milliseconds to write them.
pub trait RouteLookup {
    /// Looks up IPv4 addresses in host byte order. Both slices have the same length, at most 64.
    fn lookup_v4(&self, addresses: &[u32], adjacencies: &mut [u64]);

    /// Looks up IPv6 addresses. Both slices have the same length, at most 64.
    fn lookup_v6(&self, addresses: &[[u8; 16]], adjacencies: &mut [u64]);

    /// Inserts a prefix, or replaces its adjacency.
    ///
    /// # Errors
    /// [`RouteError::Full`] when the table has no room: it is then as before.
    fn insert(&mut self, prefix: Prefix, adjacency: u64) -> Result<(), RouteError>;

    /// Removes a prefix.
    ///
    /// # Errors
    /// [`RouteError::Unknown`] when it is not there.
    fn remove(&mut self, prefix: Prefix) -> Result<(), RouteError>;
}

/// Why a route table refused a change.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RouteError {
    /// No room for another prefix.
    #[error("the route table is full")]
    Full,
    /// The prefix is not in the table.
    #[error("the prefix is not in the route table")]
    Unknown,
}

/// An IPv4 or IPv6 prefix whose host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Prefix {
    /// Base in host byte order, and length in bits (0 to 32).
    V4(u32, u8),
    /// Base and length in bits (0 to 128).
    V6([u8; 16], u8),
}

/// Why a prefix is none.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("prefix length {0} is longer than the address")]
pub struct PrefixError(pub u8);

impl Prefix {
    /// An IPv4 prefix; host bits of `base` are cleared.
    ///
    /// # Errors
    /// When `len` exceeds 32.
    pub fn v4(base: u32, len: u8) -> Result<Self, PrefixError> {
        match len {
            0 => Ok(Self::V4(0, 0)),
            1..=32 => Ok(Self::V4(base & (u32::MAX << (32 - len)), len)),
            _ => Err(PrefixError(len)),
        }
    }

    /// An IPv6 prefix; host bits of `base` are cleared.
    ///
    /// # Errors
    /// When `len` exceeds 128.
    pub fn v6(base: [u8; 16], len: u8) -> Result<Self, PrefixError> {
        match len {
            0 => Ok(Self::V6([0; 16], 0)),
            1..=128 => {
                let bits = u128::from_be_bytes(base) & (u128::MAX << (128 - len));
                Ok(Self::V6(bits.to_be_bytes(), len))
            }
            _ => Err(PrefixError(len)),
        }
    }

    /// Length in bits.
    pub const fn len_bits(self) -> u8 {
        match self {
            Self::V4(_, len) | Self::V6(_, len) => len,
        }
    }

    /// Whether this prefix covers an IPv4 address in host byte order.
    pub fn covers_v4(self, address: u32) -> bool {
        match self {
            Self::V4(base, len) => Self::v4(address, len) == Ok(Self::V4(base, len)),
            Self::V6(..) => false,
        }
    }

    /// Whether this prefix covers an IPv6 address.
    pub fn covers_v6(self, address: &[u8; 16]) -> bool {
        match self {
            Self::V6(base, len) => Self::v6(*address, len) == Ok(Self::V6(base, len)),
            Self::V4(..) => false,
        }
    }
}

/// A route table that asks each prefix in turn: the model for tests.
#[derive(Clone, Debug, Default)]
pub struct LinearRoutes {
    /// Longest first.
    entries: Vec<(Prefix, u64)>,
}

impl LinearRoutes {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }
}

impl RouteLookup for LinearRoutes {
    fn lookup_v4(&self, addresses: &[u32], adjacencies: &mut [u64]) {
        for (address, adjacency) in addresses.iter().zip(adjacencies) {
            let hit = self.entries.iter().find(|(prefix, _)| prefix.covers_v4(*address));
            *adjacency = hit.map_or(MISS, |(_, adjacency)| *adjacency);
        }
    }

    fn lookup_v6(&self, addresses: &[[u8; 16]], adjacencies: &mut [u64]) {
        for (address, adjacency) in addresses.iter().zip(adjacencies) {
            let hit = self.entries.iter().find(|(prefix, _)| prefix.covers_v6(address));
            *adjacency = hit.map_or(MISS, |(_, adjacency)| *adjacency);
        }
    }

    fn insert(&mut self, prefix: Prefix, adjacency: u64) -> Result<(), RouteError> {
        self.entries.retain(|(known, _)| *known != prefix);
        let at = self.entries.partition_point(|(known, _)| known.len_bits() > prefix.len_bits());
        self.entries.insert(at, (prefix, adjacency));
        Ok(())
    }

    fn remove(&mut self, prefix: Prefix) -> Result<(), RouteError> {
        let before = self.entries.len();
        self.entries.retain(|(known, _)| *known != prefix);
        if self.entries.len() == before { Err(RouteError::Unknown) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_wins_whatever_the_order_of_insertion() {
        let mut routes = LinearRoutes::new();
        routes.insert(Prefix::v4(0x0a01_0203, 32).unwrap(), 3).unwrap();
        routes.insert(Prefix::v4(0x0a00_0000, 8).unwrap(), 1).unwrap();
        routes.insert(Prefix::v4(0x0a01_0000, 16).unwrap(), 2).unwrap();
        let mut found = [9; 4];
        routes.lookup_v4(&[0x0a01_0203, 0x0a01_0204, 0x0a02_0000, 0x0b00_0000], &mut found);
        assert_eq!(found, [3, 2, 1, MISS]);
        routes.remove(Prefix::v4(0x0a01_0203, 32).unwrap()).unwrap();
        routes.lookup_v4(&[0x0a01_0203], &mut found[..1]);
        assert_eq!(found[0], 2);
        assert_eq!(routes.remove(Prefix::V4(1, 32)), Err(RouteError::Unknown));
    }

    #[test]
    fn prefixes_lose_their_host_bits_and_refuse_long_lengths() {
        assert_eq!(Prefix::v4(0x0a01_02ff, 24), Ok(Prefix::V4(0x0a01_0200, 24)));
        assert_eq!(Prefix::v4(1, 33), Err(PrefixError(33)));
        assert_eq!(Prefix::v6([0xff; 16], 0), Ok(Prefix::V6([0; 16], 0)));
        assert_eq!(Prefix::v6([0; 16], 129), Err(PrefixError(129)));
        assert!(Prefix::v6([0x20; 16], 3).unwrap().covers_v6(&[0x3f; 16]));
    }
}
