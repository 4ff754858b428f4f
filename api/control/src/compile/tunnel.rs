//! Interfaces to ports, tunnels to tunnel records and the children of their IPsec profiles.

use std::net::IpAddr;

use model::{Desired, Df, Side, TcpMss, Tunnel, TunnelProtection};
use shm::name_bytes;
use shm::records::{Address, NONE, PortRecord, Selector, TunnelRecord, protection};

use super::connection::{Connections, Request};
use super::names::{Object, Owner, Problem};
use super::{Compiled, Sizes};

/// IPv4 and TCP headers without options: what an MSS leaves out (RFC 6691).
const TCP_IPV4_HEADER_BYTES: u32 = 40;

pub(super) fn ports(desired: &Desired, compiled: &mut Compiled) {
    for (name, interface) in &desired.interfaces {
        let record = PortRecord {
            present: 1,
            side: match interface.side {
                Side::Red => 0,
                Side::Black => 1,
            },
            enabled: u8::from(interface.enabled),
            crypto_map: u8::from(interface.crypto_map.is_some()),
            mtu_bytes: interface.mtu_bytes,
            name: name_bytes(name.as_str()),
            device: name_bytes(&interface.device.to_string()),
        };
        compiled.ports.insert(name.as_str().to_owned(), record);
    }
}

pub(super) fn tunnels(desired: &Desired, compiled: &mut Compiled, connections: &mut Connections<'_>) {
    for (name, tunnel) in &desired.tunnels {
        let name = name.as_str();
        let result = record(desired, name, tunnel, compiled).and_then(|record| {
            protect(desired, name, tunnel, &record, connections).map_or_else(
                // Without a connection the tunnel stands, and drops what it should have protected.
                |cause| Ok((record, Some(cause))),
                |()| Ok((record, None)),
            )
        });
        let cause = match result {
            Ok((record, cause)) => {
                compiled.tunnels.insert(name.to_owned(), record);
                cause
            }
            Err(cause) => Some(cause),
        };
        compiled.problems.extend(cause.map(|cause| problem(name, cause)));
    }
}

fn record(
    desired: &Desired,
    name: &str,
    tunnel: &Tunnel,
    compiled: &mut Compiled,
) -> Result<TunnelRecord, String> {
    let (_, interface, local) = desired.source_interface_of(tunnel).ok_or_else(|| match &tunnel.source {
        model::TunnelSource::Interface(interface) => {
            format!("its source, the interface {interface}, has no IPv4 address")
        }
        model::TunnelSource::Address(address) => format!("no interface has its source address {address}"),
    })?;
    let exact_bytes = |natted| desired.passenger_mtu_bytes(tunnel, interface.mtu_bytes, natted);
    let exact = exact_bytes(false);
    if let Some(wanted_bytes) = tunnel.mtu_bytes.filter(|wanted_bytes| *wanted_bytes > exact) {
        let cause = format!("its MTU of {wanted_bytes} bytes is more than fits; {exact} is used");
        compiled.problems.push(problem(name, cause));
    }
    let fitting = sizes(tunnel, exact);
    compiled.natted_sizes.insert(name.to_owned(), sizes(tunnel, exact_bytes(true)));
    let (family, local) = Address::from_ip(IpAddr::V4(local));
    Ok(TunnelRecord {
        present: 1,
        enabled: u8::from(tunnel.enabled),
        protection: match &tunnel.protection {
            TunnelProtection::IpsecProfile(_) => protection::PROFILE,
            TunnelProtection::CryptoMap => protection::CRYPTO_MAP,
            TunnelProtection::None => protection::NONE,
        },
        family,
        has_key: u8::from(tunnel.key.is_some()),
        ttl: tunnel.ttl,
        df: match tunnel.df {
            Df::Clear => 0,
            Df::Set => 1,
            Df::Copy => 2,
        },
        reserved: 0,
        key: tunnel.key.unwrap_or(0),
        mtu_bytes: fitting.mtu_bytes,
        outbound_sa: NONE,
        tcp_mss_bytes: fitting.tcp_mss_bytes,
        local,
        remote: IpAddr::V4(tunnel.destination).into(),
        name: name_bytes(name),
    })
}

/// What is wanted, as far as it fits.
fn sizes(tunnel: &Tunnel, exact_bytes: u32) -> Sizes {
    let mtu_bytes = tunnel.mtu_bytes.map_or(exact_bytes, |wanted_bytes| wanted_bytes.min(exact_bytes));
    let tcp_mss_bytes = match tunnel.tcp_mss {
        TcpMss::Auto => mtu_bytes.saturating_sub(TCP_IPV4_HEADER_BYTES),
        TcpMss::Off => 0,
        TcpMss::Bytes(bytes) => u32::from(bytes),
    };
    Sizes { mtu_bytes, tcp_mss_bytes }
}

/// Asks for the child of a tunnel that has an IPsec profile.
fn protect(
    desired: &Desired,
    name: &str,
    tunnel: &Tunnel,
    record: &TunnelRecord,
    connections: &mut Connections<'_>,
) -> Result<(), String> {
    let TunnelProtection::IpsecProfile(profile_name) = &tunnel.protection else {
        return Ok(());
    };
    if !tunnel.enabled {
        return Ok(());
    }
    let profile = desired
        .ipsec_profiles
        .get(profile_name)
        .ok_or_else(|| format!("its IPsec profile {profile_name} does not exist"))?;
    let local = desired.source_of(tunnel).ok_or_else(|| "it has no source address".to_owned())?;
    connections.add(Request {
        owner: Owner::Tunnel(name.to_owned()),
        local,
        remote: tunnel.destination,
        local_identity: tunnel.local_identity.as_ref(),
        remote_identity: tunnel.remote_identity.as_ref(),
        terms: &profile.terms,
        selector: gre_between_hosts(record),
        start: true,
    })
}

/// GRE between the two ends of a tunnel.
fn gre_between_hosts(record: &TunnelRecord) -> Selector {
    const GRE: u8 = 47;
    Selector {
        source: record.local,
        destination: record.remote,
        source_prefix_len: 32,
        destination_prefix_len: 32,
        protocol: GRE,
        family: record.family,
        source_ports: [0, u16::MAX],
        destination_ports: [0, u16::MAX],
        reserved: [0; 4],
    }
}

fn problem(name: &str, cause: String) -> Problem {
    Problem { object: Object::Tunnel(name.to_owned()), cause }
}
