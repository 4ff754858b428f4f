//! Reading captures: classic pcap files of Ethernet frames, and what each frame is.
//!
//! Small on purpose and without any code of the product, so that it can bear witness against it.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

mod cooked;
mod write;

pub use cooked::{Passing, read_cooked};
pub use write::{Datagram, write};

/// What a frame on the underlay is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// IKE on UDP 500, or on UDP 4500 behind the non-ESP marker (RFC 3948), with its exchange type.
    Ike(u8),
    /// An ICMP error that quotes an IKE message: nobody listened there. It shows nothing that IKE itself did not show.
    IkeRefused,
    /// IP protocol 50.
    Esp,
    /// ESP, or a keepalive, on UDP 4500.
    EspInUdp,
    /// ARP.
    Arp,
    /// IPv6 neighbour discovery (RFC 4861) and the multicast listener reports it needs (RFC 3810).
    NeighbourDiscovery,
    /// Anything else: on our underlay, a leak or a mistake. Says what.
    Other(String),
}

/// One frame of a capture.
#[derive(Clone, Debug)]
pub struct Frame {
    /// When it was captured.
    pub at: SystemTime,
    /// Its class.
    pub kind: Kind,
    /// Outer addresses, if it is IP.
    pub addresses: Option<(IpAddr, IpAddr)>,
    /// SPI and the low half of the sequence number, if it is ESP in either form.
    pub esp: Option<(u32, u32)>,
}

/// IKEv2 exchange types (RFC 7296 section 3.1).
pub mod exchange {
    /// IKE_SA_INIT.
    pub const IKE_SA_INIT: u8 = 34;
    /// IKE_AUTH.
    pub const IKE_AUTH: u8 = 35;
    /// CREATE_CHILD_SA.
    pub const CREATE_CHILD_SA: u8 = 36;
    /// INFORMATIONAL.
    pub const INFORMATIONAL: u8 = 37;
    /// Main mode of version 1.
    pub const MAIN_MODE: u8 = 2;
    /// Informational exchanges of version 1.
    pub const INFORMATIONAL_1: u8 = 5;
    /// Quick mode of version 1.
    pub const QUICK_MODE: u8 = 32;
}

const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
const ETHERNET: u32 = 1;

/// Reads a capture; a last record that is still being written is left out.
pub fn read(path: &Path) -> Result<Vec<Frame>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {path:?}"))?;
    let records = records(&bytes, ETHERNET).with_context(|| format!("{path:?}"))?;
    Ok(records.into_iter().map(|(at, data)| frame(at, data)).collect())
}

/// The records of a capture of this type of link.
fn records(bytes: &[u8], link: u32) -> Result<Vec<(SystemTime, &[u8])>> {
    if bytes.len() < FILE_HEADER {
        return Ok(Vec::new());
    }
    if word(bytes, 0) != Some(0xa1b2_c3d4) || word(bytes, 20) != Some(link) {
        bail!("not a little-endian microsecond capture of link type {link}");
    }
    let mut records = Vec::new();
    let mut rest = &bytes[FILE_HEADER..];
    while let (Some(seconds), Some(micros), Some(length)) = (word(rest, 0), word(rest, 4), word(rest, 8)) {
        let end = RECORD_HEADER + length as usize;
        let Some(data) = rest.get(RECORD_HEADER..end) else { break };
        let since = Duration::from_secs(seconds.into()) + Duration::from_micros(micros.into());
        records.push((SystemTime::UNIX_EPOCH + since, data));
        rest = &rest[end..];
    }
    Ok(records)
}

/// How many frames of each kind.
pub fn count(frames: &[Frame]) -> BTreeMap<Kind, usize> {
    let mut counts = BTreeMap::new();
    for frame in frames {
        *counts.entry(frame.kind.clone()).or_insert(0) += 1;
    }
    counts
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn big16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn big32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn frame(at: SystemTime, data: &[u8]) -> Frame {
    let packet = data.get(14..).unwrap_or_default();
    let (kind, addresses, esp) = match big16(data, 12) {
        Some(0x0806) => (Kind::Arp, None, None),
        Some(0x0800) => ipv4(packet).unwrap_or_else(|| other("a truncated IPv4 packet")),
        Some(0x86dd) => ipv6(packet).unwrap_or_else(|| other("a truncated IPv6 packet")),
        ethertype => other(&format!("ethertype {ethertype:04x?}")),
    };
    Frame { at, kind, addresses, esp }
}

type Seen = (Kind, Option<(IpAddr, IpAddr)>, Option<(u32, u32)>);

fn other(what: &str) -> Seen {
    (Kind::Other(what.to_owned()), None, None)
}

fn ipv4(packet: &[u8]) -> Option<Seen> {
    let header = usize::from(packet.first()? & 15) * 4;
    let address = |at: usize| Some(IpAddr::V4(Ipv4Addr::from(big32(packet, at)?)));
    let addresses = (address(12)?, address(16)?);
    let later_fragment = big16(packet, 6)? & 0x1fff != 0;
    let payload = packet.get(header..)?;
    let (kind, esp) = match (packet.get(9)?, later_fragment) {
        (50, true) => (Kind::Esp, None),
        (50, false) => (Kind::Esp, Some((big32(payload, 0)?, big32(payload, 4)?))),
        (17, false) => udp(payload)?,
        (1, false) if quotes_ike(payload) => (Kind::IkeRefused, None),
        (protocol, _) => {
            (Kind::Other(format!("IP protocol {protocol} {} > {}", addresses.0, addresses.1)), None)
        }
    };
    Some((kind, Some(addresses), esp))
}

/// Whether an ICMP message is an error about a UDP datagram of IKE's ports (RFC 792).
fn quotes_ike(message: &[u8]) -> bool {
    const UNREACHABLE: u8 = 3;
    let quoted = message.get(8..).unwrap_or_default();
    let header = usize::from(quoted.first().copied().unwrap_or(0) & 15) * 4;
    let port = big16(quoted, header + 2);
    message.first() == Some(&UNREACHABLE) && quoted.get(9) == Some(&17) && matches!(port, Some(500 | 4500))
}

fn ipv6(packet: &[u8]) -> Option<Seen> {
    let address = |at: usize| {
        let octets: [u8; 16] = packet.get(at..at + 16)?.try_into().ok()?;
        Some(IpAddr::V6(Ipv6Addr::from(octets)))
    };
    let addresses = (address(8)?, address(24)?);
    let (mut next, mut payload) = (*packet.get(6)?, packet.get(40..)?);
    if next == 0 {
        // Multicast listener reports carry a router alert in a hop-by-hop header.
        let length = (usize::from(*payload.get(1)?) + 1) * 8;
        (next, payload) = (*payload.first()?, payload.get(length..)?);
    }
    let (kind, esp) = match next {
        50 => (Kind::Esp, Some((big32(payload, 0)?, big32(payload, 4)?))),
        17 => udp(payload)?,
        58 if matches!(payload.first()?, 130..=137 | 143) => (Kind::NeighbourDiscovery, None),
        next => (Kind::Other(format!("IPv6 next header {next} {} > {}", addresses.0, addresses.1)), None),
    };
    Some((kind, Some(addresses), esp))
}

fn udp(datagram: &[u8]) -> Option<(Kind, Option<(u32, u32)>)> {
    const EXCHANGE_TYPE: usize = 18;
    let (source, destination) = (big16(datagram, 0)?, big16(datagram, 2)?);
    let payload = datagram.get(8..)?;
    Some(if source == 500 || destination == 500 {
        (Kind::Ike(*payload.get(EXCHANGE_TYPE)?), None)
    } else if source != 4500 && destination != 4500 {
        (Kind::Other(format!("UDP {source} > {destination}")), None)
    } else if payload.len() < 8 {
        (Kind::EspInUdp, None)
    } else if big32(payload, 0)? == 0 {
        (Kind::Ike(*payload.get(4 + EXCHANGE_TYPE)?), None)
    } else {
        (Kind::EspInUdp, Some((big32(payload, 0)?, big32(payload, 4)?)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipv4_frame(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut data = vec![0; 12];
        data.extend([
            0x08, 0x00, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 198, 51, 100, 1,
        ]);
        data.extend(payload);
        data
    }

    fn kind(data: &[u8]) -> Kind {
        frame(SystemTime::UNIX_EPOCH, data).kind
    }

    #[test]
    fn clear_gre_is_never_taken_for_something_allowed() {
        assert_eq!(
            kind(&ipv4_frame(47, &[0; 8])),
            Kind::Other("IP protocol 47 192.0.2.1 > 198.51.100.1".into())
        );
    }

    #[test]
    fn esp_shows_its_spi_and_sequence_number() {
        let seen = frame(SystemTime::UNIX_EPOCH, &ipv4_frame(50, &[0, 0, 1, 2, 0, 0, 0, 9]));
        assert_eq!((seen.kind, seen.esp), (Kind::Esp, Some((0x102, 9))));
    }

    #[test]
    fn port_4500_holds_ike_behind_the_marker_and_esp_without() {
        let mut ike = vec![0x11, 0x94, 0x11, 0x94, 0, 0, 0, 0, 0, 0, 0, 0];
        ike.extend([7; 18]);
        ike.push(exchange::IKE_AUTH);
        assert_eq!(kind(&ipv4_frame(17, &ike)), Kind::Ike(exchange::IKE_AUTH));
        let esp = [0x11, 0x94, 0x11, 0x94, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 6];
        assert_eq!(kind(&ipv4_frame(17, &esp)), Kind::EspInUdp);
    }

    #[test]
    fn icmp_may_quote_ike_and_nothing_else() {
        let quote = |protocol: u8, port: u16| {
            let mut message = vec![3, 3, 0, 0, 0, 0, 0, 0];
            message.extend(&ipv4_frame(protocol, &[0, 0])[14..]);
            message.extend(port.to_be_bytes());
            kind(&ipv4_frame(1, &message))
        };
        assert_eq!(quote(17, 500), Kind::IkeRefused);
        for (protocol, port) in [(17, 501), (47, 500), (50, 500)] {
            assert!(matches!(quote(protocol, port), Kind::Other(_)));
        }
        assert!(matches!(kind(&ipv4_frame(1, &[8, 0])), Kind::Other(_)));
    }

    #[test]
    fn a_truncated_packet_is_not_allowed_through() {
        assert!(matches!(kind(&ipv4_frame(17, &[1])), Kind::Other(_)));
        assert!(matches!(kind(&[0; 13]), Kind::Other(_)));
    }
}
