//! What a record is: its table, its vacancy, and the tables' capacities.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::records::{
    Address, Family, NeighbourRecord, PolicyRecord, PortRecord, RouteRecord, RuleRecord, SaRecord,
    TunnelRecord,
};
use crate::validate::Invalid;

/// A table of the region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Table {
    /// [`PortRecord`].
    Ports = 0,
    /// [`TunnelRecord`].
    Tunnels = 1,
    /// [`SaRecord`].
    Sas = 2,
    /// [`PolicyRecord`].
    Policies = 3,
    /// [`RuleRecord`].
    Rules = 4,
    /// [`RouteRecord`].
    Routes = 5,
    /// [`NeighbourRecord`].
    Neighbours = 6,
}

impl Table {
    /// Every table, in the order in which a full scan applies them: what protects comes before the ports that let
    /// packets out, owners before their SAs, and routes last. Nothing leaves unprotected while a scan goes on.
    pub const ALL: [Table; 7] = [
        Table::Tunnels,
        Table::Policies,
        Table::Rules,
        Table::Sas,
        Table::Ports,
        Table::Neighbours,
        Table::Routes,
    ];

    /// The table of a number from a ring; `None` if there is none such.
    pub fn from_number(number: u32) -> Option<Table> {
        Table::ALL.into_iter().find(|table| *table as u32 == number)
    }

    /// Name for logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Table::Ports => "ports",
            Table::Tunnels => "tunnels",
            Table::Sas => "sas",
            Table::Policies => "policies",
            Table::Rules => "rules",
            Table::Routes => "routes",
            Table::Neighbours => "neighbours",
        }
    }
}

/// A record of one of the tables.
pub trait Record: FromBytes + IntoBytes + Immutable + KnownLayout + Copy {
    /// Its table.
    const TABLE: Table;

    /// Whether the slot is in use. A vacant slot is all zero.
    fn is_present(&self) -> bool;

    /// Checks every enumeration, length and slot reference, as of a hostile writer.
    ///
    /// # Errors
    /// The first field that is out of its range.
    fn validate(&self, capacities: &Capacities) -> Result<(), Invalid>;
}

macro_rules! record {
    ($record:ty, $table:expr, $validate:path) => {
        impl Record for $record {
            const TABLE: Table = $table;

            fn is_present(&self) -> bool {
                self.present != 0
            }

            fn validate(&self, capacities: &Capacities) -> Result<(), Invalid> {
                $validate(self, capacities)
            }
        }
    };
}

record!(PortRecord, Table::Ports, crate::validate::port);
record!(TunnelRecord, Table::Tunnels, crate::validate::tunnel);
record!(SaRecord, Table::Sas, crate::validate::sa);
record!(PolicyRecord, Table::Policies, crate::validate::policy);
record!(RuleRecord, Table::Rules, crate::validate::rule);
record!(RouteRecord, Table::Routes, crate::validate::route);
record!(NeighbourRecord, Table::Neighbours, crate::validate::neighbour);

/// How many slots each table has, and how long the rings and the counter arrays are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the table of its name")]
pub struct Capacities {
    pub ports: u32,
    pub tunnels: u32,
    pub sas: u32,
    pub policies: u32,
    pub rules: u32,
    pub routes: u32,
    pub neighbours: u32,
    /// Workers that may have counters.
    pub workers: u32,
    /// Entries of the change ring, a power of two.
    pub changes: u32,
    /// Entries of the event ring, a power of two.
    pub events: u32,
}

impl Default for Capacities {
    fn default() -> Self {
        Self {
            ports: 64,
            tunnels: 4096,
            sas: 16384,
            policies: 4096,
            rules: 16384,
            routes: 262_144,
            neighbours: 16384,
            workers: 8,
            changes: 65536,
            events: 16384,
        }
    }
}

#[cfg_attr(loom, expect(dead_code, reason = "the model checker has no region"))]
impl Capacities {
    /// A small region for tests.
    pub const fn small() -> Self {
        Self {
            ports: 8,
            tunnels: 16,
            sas: 64,
            policies: 16,
            rules: 64,
            routes: 256,
            neighbours: 64,
            workers: 2,
            changes: 64,
            events: 64,
        }
    }

    /// Slots of a table.
    pub const fn of(&self, table: Table) -> u32 {
        match table {
            Table::Ports => self.ports,
            Table::Tunnels => self.tunnels,
            Table::Sas => self.sas,
            Table::Policies => self.policies,
            Table::Rules => self.rules,
            Table::Routes => self.routes,
            Table::Neighbours => self.neighbours,
        }
    }

    /// Whether they make sense: nothing empty, nothing absurd, rings of a power of two.
    pub(crate) fn are_sane(&self) -> bool {
        const MOST: u32 = 1 << 24;
        self.to_words().iter().all(|count| (1..=u64::from(MOST)).contains(count))
            && self.workers <= 256
            && self.changes.is_power_of_two()
            && self.events.is_power_of_two()
    }

    pub(crate) const WORDS: usize = 10;

    pub(crate) fn to_words(self) -> [u64; Self::WORDS] {
        [
            self.ports,
            self.tunnels,
            self.sas,
            self.policies,
            self.rules,
            self.routes,
            self.neighbours,
            self.workers,
            self.changes,
            self.events,
        ]
        .map(u64::from)
    }

    pub(crate) fn from_words(words: [u64; Self::WORDS]) -> Option<Self> {
        let mut counts = [0u32; Self::WORDS];
        for (count, word) in counts.iter_mut().zip(words) {
            *count = u32::try_from(word).ok()?;
        }
        let [ports, tunnels, sas, policies, rules, routes, neighbours, workers, changes, events] = counts;
        let capacities =
            Self { ports, tunnels, sas, policies, rules, routes, neighbours, workers, changes, events };
        capacities.are_sane().then_some(capacities)
    }
}

/// Why the dataplane did not apply a record. Zero, applied, has no variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Refusal {
    /// The record failed validation.
    Invalid = 1,
    /// A slot that the record refers to is vacant or was refused.
    DanglingReference = 2,
    /// The cipher engine cannot run the algorithm.
    UnsupportedAlgorithm = 3,
    /// The device could not be opened or configured.
    DeviceFailed = 4,
    /// Memory or table space is exhausted.
    NoSpace = 5,
    /// Another record already holds the same key (an SPI, a GRE tunnel's addresses and key).
    Duplicate = 6,
    /// The lookup structure could not be rebuilt.
    LookupFailed = 7,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Refusal; 7] = [
        Refusal::Invalid,
        Refusal::DanglingReference,
        Refusal::UnsupportedAlgorithm,
        Refusal::DeviceFailed,
        Refusal::NoSpace,
        Refusal::Duplicate,
        Refusal::LookupFailed,
    ];

    /// The refusal of a code; `None` for 0 and for codes that this version does not know.
    pub fn from_code(code: u32) -> Option<Refusal> {
        Refusal::ALL.into_iter().find(|refusal| *refusal as u32 == code)
    }

    /// A clause for operators, to follow "the dataplane refused it: ".
    pub const fn description(self) -> &'static str {
        match self {
            Refusal::Invalid => "the record is not valid",
            Refusal::DanglingReference => "it refers to an object that the dataplane does not have",
            Refusal::UnsupportedAlgorithm => "the cipher engine does not support the algorithm",
            Refusal::DeviceFailed => "the device could not be opened",
            Refusal::NoSpace => "the dataplane is out of space",
            Refusal::Duplicate => "another object already uses the same key",
            Refusal::LookupFailed => "the lookup tables could not be rebuilt",
        }
    }
}

impl Address {
    /// The family (4 or 6) and the bytes of an address.
    pub const fn from_ip(ip: IpAddr) -> (Family, Address) {
        match ip {
            IpAddr::V4(v4) => (4, Address::from_v4(v4)),
            IpAddr::V6(v6) => (6, Address { bytes: v6.octets() }),
        }
    }

    const fn from_v4(v4: Ipv4Addr) -> Address {
        let [a, b, c, d] = v4.octets();
        Address { bytes: [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] }
    }

    /// The address, read in a family; `None` if the family is neither 4 nor 6.
    pub const fn to_ip(self, family: Family) -> Option<IpAddr> {
        match family {
            4 => {
                let [a, b, c, d, ..] = self.bytes;
                Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
            }
            6 => Some(IpAddr::V6(Ipv6Addr::from_octets(self.bytes))),
            _ => None,
        }
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Address {
        Address::from_ip(ip).1
    }
}

/// A text, NUL padded; what does not fit is cut at the last whole byte.
pub fn name_bytes<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    for (byte, source) in bytes.iter_mut().zip(text.bytes()) {
        *byte = source;
    }
    bytes
}

/// The text of a NUL-padded field; empty if it is not UTF-8.
pub fn name_text(bytes: &[u8]) -> &str {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.get(..end).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("")
}
