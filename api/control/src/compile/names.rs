//! What compiled things are called: keys by which they keep their slots, and words for operators.

use std::fmt;
use std::net::IpAddr;

use shm::records::{Address, Selector};

/// A protected flow: one `permit` rule of an entry of a crypto map, on one interface. All that the peer agreed to is
/// part of the key: a flow that changes is another flow, with SAs of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyKey {
    /// Interface that the crypto map is applied to.
    pub interface: String,
    /// Sequence of the entry.
    pub map_sequence: u32,
    /// Sequence of the rule in the entry's access-list.
    pub rule_sequence: u32,
    /// The peer.
    pub peer: IpAddr,
    /// One of [`shm::records::mode`].
    pub mode: u8,
    /// What matches.
    pub selector: SelectorKey,
}

/// A rule: of a policy, or a `deny`. A rule that changes is another rule, in a slot of its own: the new one is in
/// force before the old one goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleKey {
    /// Protect what matches.
    Permit(PolicyKey),
    /// Leave what matches to the next entry.
    Deny {
        /// Interface that the crypto map is applied to.
        interface: String,
        /// Sequence of the entry.
        map_sequence: u32,
        /// Sequence of the rule in the entry's access-list.
        rule_sequence: u32,
        /// What matches.
        selector: SelectorKey,
    },
}

/// A [`Selector`] that has an order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SelectorKey {
    addresses: [[u8; 16]; 2],
    prefix_lens: [u8; 2],
    protocol: u8,
    family: u8,
    ports: [[u16; 2]; 2],
}

impl From<&Selector> for SelectorKey {
    fn from(selector: &Selector) -> Self {
        Self {
            addresses: [selector.source.bytes, selector.destination.bytes],
            prefix_lens: [selector.source_prefix_len, selector.destination_prefix_len],
            protocol: selector.protocol,
            family: selector.family,
            ports: [selector.source_ports, selector.destination_ports],
        }
    }
}

impl SelectorKey {
    /// The selector.
    #[must_use]
    pub fn selector(&self) -> Selector {
        let [source, destination] = self.addresses.map(|bytes| Address { bytes });
        let [source_prefix_len, destination_prefix_len] = self.prefix_lens;
        let [source_ports, destination_ports] = self.ports;
        Selector {
            source,
            destination,
            source_prefix_len,
            destination_prefix_len,
            protocol: self.protocol,
            family: self.family,
            source_ports,
            destination_ports,
            reserved: [0; 4],
        }
    }
}

impl RuleKey {
    /// Interface that the crypto map is applied to.
    #[must_use]
    pub fn interface(&self) -> &str {
        match self {
            RuleKey::Permit(policy) => &policy.interface,
            RuleKey::Deny { interface, .. } => interface,
        }
    }
}

/// Whom an SA serves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// The tunnel of this name, by its IPsec profile.
    Tunnel(String),
    /// A flow of a crypto map.
    Policy(PolicyKey),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Tunnel(name) => write!(f, "tunnel {name}"),
            Owner::Policy(key) => {
                write!(f, "interface {} entry {} rule {}", key.interface, key.map_sequence, key.rule_sequence)
            }
        }
    }
}

/// What a problem is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    /// An interface.
    Interface(String),
    /// A tunnel.
    Tunnel(String),
    /// An entry of the crypto map that is applied to an interface.
    CryptoMapEntry {
        /// The interface.
        interface: String,
        /// The crypto map.
        crypto_map: String,
        /// Sequence of the entry.
        sequence: u32,
    },
    /// A static route.
    Route(String),
}

/// Something that cannot run, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What.
    pub object: Object,
    /// Why, as a sentence without a capital or a stop.
    pub cause: String,
}

/// A number that stays the same for the same parts: FNV-1a over the parts, each with its length.
pub(super) fn stable_id(parts: &[&dyn fmt::Debug]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut take = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    for part in parts {
        let text = format!("{part:?}");
        take(&(text.len() as u64).to_le_bytes());
        take(text.as_bytes());
    }
    hash
}
