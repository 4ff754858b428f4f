//! Neighbours as the kernel tells of them.

use std::net::IpAddr;

use super::message::{Message, address, attributes, u8_at, u16_at, u32_at};

/// How sure the kernel is of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Certainty {
    /// Its link-layer address is known, be it fresh, stale or being probed: forwarding goes on.
    Known,
    /// Known by the operator's word, for ever.
    Permanent,
    /// Being looked for, or failed.
    Unknown,
}

/// A neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Index of the device.
    pub link: u32,
    /// Its address.
    pub address: IpAddr,
    /// Its link-layer address, when it is one of Ethernet.
    pub mac: Option<[u8; 6]>,
    /// Whether to use it.
    pub certainty: Certainty,
}

impl Neighbour {
    /// The neighbour of an `RTM_NEWNEIGH` or `RTM_DELNEIGH`; `None` when malformed, a bridge's or a proxy's.
    pub(crate) fn parse(message: &Message<'_>) -> Option<Self> {
        // struct ndmsg: family, pad, pad, index, state, flags, type.
        let family = i32::from(u8_at(message.payload, 0)?);
        let link = u32_at(message.payload, 4)?;
        let state = u16_at(message.payload, 8)?;
        let flags = u8_at(message.payload, 10)?;
        if !matches!(family, libc::AF_INET | libc::AF_INET6) || flags & libc::NTF_PROXY != 0 {
            return None;
        }
        let (mut target, mut mac) = (None, None);
        for (kind, value) in attributes(message.payload.get(12..)?) {
            match kind {
                libc::NDA_DST => target = address(value),
                libc::NDA_LLADDR => mac = value.try_into().ok(),
                _ => {}
            }
        }
        const KNOWN: u16 =
            libc::NUD_REACHABLE | libc::NUD_STALE | libc::NUD_DELAY | libc::NUD_PROBE | libc::NUD_NOARP;
        let certainty = match state {
            state if state & libc::NUD_PERMANENT != 0 => Certainty::Permanent,
            state if state & KNOWN != 0 => Certainty::Known,
            _ => Certainty::Unknown,
        };
        Some(Self { link, address: target?, mac, certainty })
    }
}
