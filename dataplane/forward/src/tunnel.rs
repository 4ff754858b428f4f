//! A GRE tunnel, as the stages use it.

use shm::records::{NONE, TunnelRecord, protection};

use crate::plan::Plan;
use crate::sa::v4;
use crate::update::RecordError;

/// What protects a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    /// Nothing, by the operator's word.
    None,
    /// The SA of its ipsec-profile; without one its packets are dropped.
    Profile(Option<u32>),
    /// The crypto map of the port that it leaves by.
    CryptoMap,
}

/// DF of the transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DontFragment {
    Clear,
    Set,
    Copy,
}

/// A tunnel: the plan of encapsulation that packets use, and the configuration that it is made from.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub struct Tunnel {
    pub(crate) plan: Plan,
    pub(crate) slot: u32,
    pub(crate) local: [u8; 4],
    pub(crate) remote: [u8; 4],
    pub(crate) key: Option<u32>,
    pub(crate) protection: Protection,
    pub(crate) dont_fragment: DontFragment,
    pub(crate) enabled: bool,
    pub(crate) ttl: u8,
    /// MTU for passengers, in bytes, as configured.
    pub(crate) mtu_bytes: usize,
    /// MSS for TCP over IPv4, in bytes; 0 leaves it alone.
    pub(crate) mss_v4_bytes: u16,
    /// MSS for TCP over IPv6, in bytes; 0 leaves it alone.
    pub(crate) mss_v6_bytes: u16,
    /// When an acquire event was last raised, in milliseconds since the Unix epoch.
    pub(crate) acquire_told_ms: u64,
}

impl Tunnel {
    /// From its record.
    ///
    /// # Errors
    /// The record asks for what the fast path does not have.
    pub fn new(slot: u32, record: &TunnelRecord) -> Result<Box<Self>, RecordError> {
        if record.family != 4 {
            return Err(RecordError::Family);
        }
        let protection = match record.protection {
            protection::NONE => Protection::None,
            protection::PROFILE => {
                Protection::Profile((record.outbound_sa != NONE).then_some(record.outbound_sa))
            }
            protection::CRYPTO_MAP => Protection::CryptoMap,
            _ => return Err(RecordError::Protection),
        };
        let dont_fragment = match record.df {
            0 => DontFragment::Clear,
            1 => DontFragment::Set,
            _ => DontFragment::Copy,
        };
        let mss = u16::try_from(record.tcp_mss_bytes).unwrap_or(u16::MAX);
        Ok(Box::new(Self {
            plan: Plan::unmade(),
            slot,
            local: v4(&record.local.bytes),
            remote: v4(&record.remote.bytes),
            key: (record.has_key != 0).then_some(record.key),
            protection,
            dont_fragment,
            enabled: record.enabled != 0,
            ttl: record.ttl,
            mtu_bytes: record.mtu_bytes as usize,
            mss_v4_bytes: mss,
            mss_v6_bytes: mss.saturating_sub(20),
            acquire_told_ms: 0,
        }))
    }

    /// The key under which received GRE finds it: our address, the peer's, and the GRE key.
    pub(crate) fn lookup_key(&self) -> u128 {
        lookup_key(self.local, self.remote, self.key)
    }
}

/// The key under which GRE from `remote` to `local` finds its tunnel.
#[inline]
pub(crate) fn lookup_key(local: [u8; 4], remote: [u8; 4], key: Option<u32>) -> u128 {
    let addresses = (u128::from(u32::from_be_bytes(local)) << 32) | u128::from(u32::from_be_bytes(remote));
    (addresses << 64) | key.map_or(0, |key| (1 << 32) | u128::from(key))
}
