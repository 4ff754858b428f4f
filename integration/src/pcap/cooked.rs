//! Captures of all interfaces of a namespace at once (LINKTYPE_LINUX_SLL2), and the UDP datagrams in them: IPv4 alone, which
//! the underlay speaks.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::{Datagram, big16, big32, records};

const LINUX_SLL2: u32 = 276;
/// Length of what stands before a packet, and where the interface and the type of the packet are.
const COOKED_HEADER: usize = 20;
const INTERFACE: usize = 4;
const PACKET_TYPE: usize = 10;
/// The type of a packet that this machine sends.
const OUTGOING: u8 = 4;
const UDP: u8 = 17;
const UDP_HEADER: usize = 8;
/// In the word of IPv4's header with the offset: more fragments follow; the offset in units of eight octets.
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// A datagram that passed an interface.
#[derive(Clone, Debug)]
pub struct Passing {
    /// Number of the interface in its namespace.
    pub interface: u32,
    /// It was sent out there; otherwise it came in.
    pub leaves: bool,
    /// What it is, put together if it came in pieces.
    pub datagram: Datagram,
}

/// Of a packet in pieces: where it passed, its addresses and its identification.
type Whole = (u32, bool, u32, u32, u16);

/// The pieces that are there, by their offset, and the length of all if the last is.
#[derive(Default)]
struct Pieces {
    there: BTreeMap<usize, Vec<u8>>,
    length: Option<usize>,
}

/// Reads a capture; a last record that is still being written is left out.
pub fn read_cooked(path: &Path) -> Result<Vec<Passing>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {path:?}"))?;
    let mut waiting: BTreeMap<Whole, Pieces> = BTreeMap::new();
    let mut passed = Vec::new();
    for (_, data) in records(&bytes, LINUX_SLL2).with_context(|| format!("{path:?}"))? {
        passed.extend(packet(data, &mut waiting));
    }
    // One that lacks its beginning is none of those that were asked for.
    if let Some(((interface, ..), pieces)) = waiting.iter().find(|(_, pieces)| pieces.there.contains_key(&0))
    {
        bail!("a datagram on interface {interface} is not whole: {} pieces", pieces.there.len());
    }
    Ok(passed)
}

/// The datagram that a packet is, or that it completes.
fn packet(data: &[u8], waiting: &mut BTreeMap<Whole, Pieces>) -> Option<Passing> {
    let (interface, leaves) = (big32(data, INTERFACE)?, *data.get(PACKET_TYPE)? == OUTGOING);
    let packet = data.get(COOKED_HEADER..)?;
    if packet.first()? >> 4 != 4 || *packet.get(9)? != UDP {
        return None;
    }
    let header = usize::from(packet.first()? & 15) * 4;
    let payload = packet.get(header..usize::from(big16(packet, 2)?))?;
    let (identification, place) = (big16(packet, 4)?, big16(packet, 6)?);
    let (from, to) = (big32(packet, 12)?, big32(packet, 16)?);
    let payload = if place & (MORE_FRAGMENTS | OFFSET) == 0 {
        payload.to_vec()
    } else {
        let whole = (interface, leaves, from, to, identification);
        let pieces = waiting.entry(whole).or_default();
        let offset = usize::from(place & OFFSET) * 8;
        if place & MORE_FRAGMENTS == 0 {
            pieces.length = Some(offset + payload.len());
        }
        pieces.there.insert(offset, payload.to_vec());
        let payload = pieces.together()?;
        waiting.remove(&whole);
        payload
    };
    let at =
        |address, port| Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(address)), big16(&payload, port)?));
    let (source, destination) = (at(from, 0)?, at(to, 2)?);
    let datagram = Datagram { source, destination, payload: payload.get(UDP_HEADER..)?.to_vec() };
    Some(Passing { interface, leaves, datagram })
}

impl Pieces {
    fn together(&self) -> Option<Vec<u8>> {
        let mut whole = Vec::new();
        for (offset, piece) in &self.there {
            if *offset != whole.len() {
                return None;
            }
            whole.extend(piece);
        }
        (Some(whole.len()) == self.length).then_some(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet that came in at interface 7, of this piece of a UDP datagram.
    fn cooked(place: u16, piece: &[u8]) -> Vec<u8> {
        let mut data = vec![0x08, 0, 0, 0, 0, 0, 0, 7, 0, 1, 3, 6, 2, 0, 0, 0, 0, 1, 0, 0];
        let length = u16::try_from(20 + piece.len()).unwrap();
        data.extend([0x45, 0]);
        data.extend(length.to_be_bytes());
        data.extend([0x12, 0x34]);
        data.extend(place.to_be_bytes());
        data.extend([64, UDP, 0, 0, 192, 0, 2, 1, 198, 51, 100, 1]);
        data.extend(piece);
        // An Ethernet frame has a least length.
        data.extend([0; 3]);
        data
    }

    #[test]
    fn a_datagram_is_put_together_in_any_order() {
        let udp: Vec<u8> = [0x01, 0xf4, 0x11, 0x94, 0, 28, 0, 0].into_iter().chain(1..=20).collect();
        let mut waiting = BTreeMap::new();
        let whole = packet(&cooked(0, &udp), &mut waiting).unwrap();
        assert_eq!((whole.interface, whole.leaves), (7, false));
        assert_eq!(whole.datagram.source, "192.0.2.1:500".parse().unwrap());
        assert_eq!(whole.datagram.destination, "198.51.100.1:4500".parse().unwrap());
        assert_eq!(whole.datagram.payload, udp[8..]);

        let pieces = [
            cooked(2, &udp[16..]),
            cooked(MORE_FRAGMENTS, &udp[..8]),
            cooked(MORE_FRAGMENTS | 1, &udp[8..16]),
        ];
        let [last, first, middle] = &pieces;
        assert!(packet(last, &mut waiting).is_none() && packet(first, &mut waiting).is_none());
        assert_eq!(packet(middle, &mut waiting).unwrap().datagram.payload, udp[8..]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn other_packets_are_no_datagrams() {
        let mut waiting = BTreeMap::new();
        let mut tcp = cooked(0, &[0; 20]);
        tcp[COOKED_HEADER + 9] = 6;
        assert!(packet(&tcp, &mut waiting).is_none());
        assert!(packet(&cooked(0, &[0; 7]), &mut waiting).is_none());
        assert!(packet(&[0; 19], &mut waiting).is_none());
    }
}
