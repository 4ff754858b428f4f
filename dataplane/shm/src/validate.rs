//! Validation of records, as of a hostile writer: no enumeration, length or slot reference is taken on trust.

use zerocopy::IntoBytes;

use crate::record::Capacities;
use crate::records::{
    Address, Family, NONE, NeighbourRecord, PolicyRecord, PortRecord, RouteRecord, RuleRecord, SaRecord,
    Selector, TrafficSelector, TunnelRecord, algorithm, direction, integrity, mode, owner, protection, route,
};

/// Most packets of a replay window.
const WINDOW_MOST: u32 = 4096;
/// Least packets of a replay window (RFC 4303 section 3.4.3).
const WINDOW_LEAST: u32 = 64;
/// SPIs up to this are reserved (RFC 4303 section 2.1).
const SPI_RESERVED: u32 = 255;
/// The least MTU of IPv4 (RFC 791 section 3.2: 68) bounds them all from below.
const MTU_LEAST: u32 = 68;
/// No IP packet is longer.
const MTU_MOST: u32 = 65535;

/// Which part of a record is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Invalid {
    #[error("field {field} has the unknown value {value}")]
    Enumeration { field: &'static str, value: u32 },
    #[error("field {field} is {value}, out of range")]
    Range { field: &'static str, value: u64 },
    #[error("field {field} refers to slot {slot}, beyond the table")]
    Reference { field: &'static str, slot: u32 },
    #[error("field {field} is not a NUL-padded printable name")]
    Name { field: &'static str },
    #[error("field {field} has bits outside its prefix or family")]
    Prefix { field: &'static str },
    #[error("field {field} ends before it begins")]
    Reversed { field: &'static str },
    #[error("field {field} is set where it is not in use")]
    Unused { field: &'static str },
}

pub(crate) fn port(record: &PortRecord, _capacities: &Capacities) -> Result<(), Invalid> {
    flag("present", record.present)?;
    flag("side", record.side)?;
    flag("enabled", record.enabled)?;
    flag("crypto_map", record.crypto_map)?;
    range("mtu_bytes", record.mtu_bytes, MTU_LEAST, MTU_MOST)?;
    name("name", &record.name)?;
    name("device", &record.device)
}

pub(crate) fn tunnel(record: &TunnelRecord, capacities: &Capacities) -> Result<(), Invalid> {
    flag("present", record.present)?;
    flag("enabled", record.enabled)?;
    one_of(
        "protection",
        record.protection,
        &[protection::NONE, protection::PROFILE, protection::CRYPTO_MAP],
    )?;
    family("family", record.family)?;
    flag("has_key", record.has_key)?;
    range("ttl", u32::from(record.ttl), 1, 255)?;
    one_of("df", record.df, &[0, 1, 2])?;
    range("mtu_bytes", record.mtu_bytes, MTU_LEAST, MTU_MOST)?;
    optional_reference("outbound_sa", record.outbound_sa, capacities.sas)?;
    range("tcp_mss_bytes", record.tcp_mss_bytes, 0, MTU_MOST)?;
    address("local", &record.local, record.family)?;
    address("remote", &record.remote, record.family)?;
    name("name", &record.name)
}

pub(crate) fn sa(record: &SaRecord, capacities: &Capacities) -> Result<(), Invalid> {
    flag("present", record.present)?;
    one_of("direction", record.direction, &[direction::INBOUND, direction::OUTBOUND])?;
    one_of("mode", record.mode, &[mode::TRANSPORT, mode::TUNNEL])?;
    keys(record)?;
    flag("esn", record.esn)?;
    flag("udp_encapsulation", record.udp_encapsulation)?;
    family("family", record.family)?;
    match record.owner_kind {
        owner::TUNNEL => reference("owner", record.owner, capacities.tunnels)?,
        owner::POLICY => reference("owner", record.owner, capacities.policies)?,
        other => return Err(Invalid::Enumeration { field: "owner_kind", value: u32::from(other) }),
    }
    range("spi", record.spi, SPI_RESERVED + 1, u32::MAX)?;
    if record.replay_window != 0 {
        range("replay_window", record.replay_window, WINDOW_LEAST, WINDOW_MOST)?;
        if !record.replay_window.is_power_of_two() {
            return Err(Invalid::Range { field: "replay_window", value: u64::from(record.replay_window) });
        }
    }
    if record.generation == 0 {
        return Err(Invalid::Range { field: "generation", value: 0 });
    }
    address("local", &record.local, record.family)?;
    address("remote", &record.remote, record.family)?;
    address("peer", &record.peer, record.family)?;
    traffic_selectors("local_selectors", &record.local_selectors)?;
    traffic_selectors("remote_selectors", &record.remote_selectors)
}

/// Algorithms that go together, and their keys in full: a key cut short is one that was never agreed.
fn keys(record: &SaRecord) -> Result<(), Invalid> {
    let unknown = |field, value: u8| Invalid::Enumeration { field, value: u32::from(value) };
    let key_len =
        algorithm::key_len(record.algorithm).ok_or_else(|| unknown("algorithm", record.algorithm))?;
    range("key_len", u32::from(record.key_len), u32::from(key_len), u32::from(key_len))?;
    zero("key", record.key.get(usize::from(key_len)..))?;
    let combined = algorithm::is_combined(record.algorithm);
    let integrity_key_len = integrity::key_len(record.integrity)
        .filter(|_| combined == (record.integrity == integrity::NONE))
        .ok_or_else(|| unknown("integrity", record.integrity))?;
    zero("integrity_key", record.integrity_key.get(integrity_key_len..))?;
    if combined { Ok(()) } else { zero("salt", Some(&record.salt)) }
}

pub(crate) fn policy(record: &PolicyRecord, capacities: &Capacities) -> Result<(), Invalid> {
    flag("present", record.present)?;
    one_of("mode", record.mode, &[mode::TRANSPORT, mode::TUNNEL])?;
    family("family", record.family)?;
    optional_reference("outbound_sa", record.outbound_sa, capacities.sas)?;
    reference("port", record.port, capacities.ports)?;
    address("peer", &record.peer, record.family)
}

pub(crate) fn rule(record: &RuleRecord, capacities: &Capacities) -> Result<(), Invalid> {
    flag("present", record.present)?;
    flag("permit", record.permit)?;
    reference("port", record.port, capacities.ports)?;
    if record.permit == 1 {
        reference("policy", record.policy, capacities.policies)?;
    } else if record.policy != NONE {
        return Err(Invalid::Reference { field: "policy", slot: record.policy });
    }
    selector(&record.selector)
}

pub(crate) fn route(record: &RouteRecord, capacities: &Capacities) -> Result<(), Invalid> {
    flag("present", record.present)?;
    family("family", record.family)?;
    flag("has_gateway", record.has_gateway)?;
    match record.kind {
        route::PORT => reference("target", record.target, capacities.ports)?,
        route::TUNNEL => reference("target", record.target, capacities.tunnels)?,
        route::LOCAL | route::BLACKHOLE | route::UNREACHABLE => {}
        other => return Err(Invalid::Enumeration { field: "kind", value: u32::from(other) }),
    }
    prefix("prefix", &record.prefix, record.prefix_len, record.family)?;
    address("gateway", &record.gateway, record.family)
}

pub(crate) fn neighbour(record: &NeighbourRecord, capacities: &Capacities) -> Result<(), Invalid> {
    flag("present", record.present)?;
    family("family", record.family)?;
    reference("port", record.port, capacities.ports)?;
    address("address", &record.address, record.family)
}

fn selector(selector: &Selector) -> Result<(), Invalid> {
    if selector.family == 0 {
        range("selector.source_prefix_len", u32::from(selector.source_prefix_len), 0, 0)?;
        range("selector.destination_prefix_len", u32::from(selector.destination_prefix_len), 0, 0)?;
        address("selector.source", &selector.source, 0)?;
        address("selector.destination", &selector.destination, 0)?;
    } else {
        family("selector.family", selector.family)?;
        prefix("selector.source", &selector.source, selector.source_prefix_len, selector.family)?;
        prefix(
            "selector.destination",
            &selector.destination,
            selector.destination_prefix_len,
            selector.family,
        )?;
    }
    ports("selector.source_ports", selector.source_ports)?;
    ports("selector.destination_ports", selector.destination_ports)
}

/// One at least, those in use first, each a range of one family.
fn traffic_selectors(field: &'static str, side: &[TrafficSelector]) -> Result<(), Invalid> {
    let (used, unused) = side.split_at(TrafficSelector::present(side).len());
    if used.is_empty() {
        return Err(Invalid::Range { field, value: 0 });
    }
    for selector in used {
        family(field, selector.family)?;
        address(field, &selector.first, selector.family)?;
        address(field, &selector.last, selector.family)?;
        if selector.first.bytes > selector.last.bytes {
            return Err(Invalid::Reversed { field });
        }
        ports(field, selector.ports)?;
        zero(field, Some(&selector.reserved))?;
    }
    zero(field, Some(unused.as_bytes()))
}

fn flag(field: &'static str, value: u8) -> Result<(), Invalid> {
    one_of(field, value, &[0, 1])
}

fn one_of(field: &'static str, value: u8, known: &[u8]) -> Result<(), Invalid> {
    if known.contains(&value) { Ok(()) } else { Err(Invalid::Enumeration { field, value: u32::from(value) }) }
}

fn family(field: &'static str, value: Family) -> Result<(), Invalid> {
    one_of(field, value, &[4, 6])
}

fn range(field: &'static str, value: u32, least: u32, most: u32) -> Result<(), Invalid> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(Invalid::Range { field, value: u64::from(value) })
    }
}

/// Octets that are not in use.
fn zero(field: &'static str, octets: Option<&[u8]>) -> Result<(), Invalid> {
    match octets {
        Some(octets) if octets.iter().all(|octet| *octet == 0) => Ok(()),
        _ => Err(Invalid::Unused { field }),
    }
}

fn reference(field: &'static str, slot: u32, capacity: u32) -> Result<(), Invalid> {
    if slot < capacity { Ok(()) } else { Err(Invalid::Reference { field, slot }) }
}

fn optional_reference(field: &'static str, slot: u32, capacity: u32) -> Result<(), Invalid> {
    if slot == NONE { Ok(()) } else { reference(field, slot, capacity) }
}

fn ports(field: &'static str, [low, high]: [u16; 2]) -> Result<(), Invalid> {
    if low <= high { Ok(()) } else { Err(Invalid::Range { field, value: u64::from(low) }) }
}

/// An address has no bits beyond its family; of family 0 it is all zero.
fn address(field: &'static str, address: &Address, family: Family) -> Result<(), Invalid> {
    prefix(field, address, family_bits(family), family)
}

fn prefix(field: &'static str, base: &Address, length_bits: u8, family: Family) -> Result<(), Invalid> {
    if length_bits > family_bits(family) {
        return Err(Invalid::Range { field, value: u64::from(length_bits) });
    }
    let host_bits = u128::from_be_bytes(base.bytes).checked_shl(u32::from(length_bits)).unwrap_or(0);
    if host_bits == 0 { Ok(()) } else { Err(Invalid::Prefix { field }) }
}

const fn family_bits(family: Family) -> u8 {
    match family {
        4 => 32,
        6 => 128,
        _ => 0,
    }
}

/// A NUL-padded name of printable ASCII, not empty.
fn name(field: &'static str, bytes: &[u8]) -> Result<(), Invalid> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (text, padding) = bytes.split_at(end);
    let sound = !text.is_empty()
        && text.iter().all(u8::is_ascii_graphic)
        && padding.iter().all(|byte| *byte == 0)
        && !padding.is_empty();
    if sound { Ok(()) } else { Err(Invalid::Name { field }) }
}

#[cfg(all(test, not(loom)))]
mod tests;
