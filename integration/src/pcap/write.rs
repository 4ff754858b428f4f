//! Writing captures: UDP datagrams as the Ethernet frames that they would have come in.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::ETHERNET;

const UDP: u8 = 17;
const HOPS: u8 = 64;

/// A UDP datagram.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// Who sent it.
    pub source: SocketAddr,
    /// Who it is for.
    pub destination: SocketAddr,
    /// What it bears.
    pub payload: Vec<u8>,
}

/// Writes a capture of these datagrams, a millisecond apart. IP is not fragmented: captures have no MTU.
pub fn write(path: &Path, datagrams: &[Datagram]) -> Result<()> {
    let mut file = Vec::new();
    file.extend(0xa1b2_c3d4_u32.to_le_bytes());
    file.extend([2, 0, 4, 0]);
    // Time zone and accuracy.
    file.extend([0; 8]);
    file.extend(0x4_0000_u32.to_le_bytes());
    file.extend(ETHERNET.to_le_bytes());
    for (datagram, millis) in datagrams.iter().zip(0u32..) {
        let frame = frame(datagram)?;
        let length = u32::try_from(frame.len())?;
        for word in [millis / 1000, millis % 1000 * 1000, length, length] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame);
    }
    fs::write(path, file).with_context(|| format!("cannot write {path:?}"))
}

fn frame(datagram: &Datagram) -> Result<Vec<u8>> {
    let Datagram { source, destination, payload } = datagram;
    let udp_len = u16::try_from(8 + payload.len()).context("longer than UDP allows")?;
    // Two addresses that nobody has: locally administered.
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    let mut summed = Vec::new();
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let total = u16::try_from(28 + payload.len()).context("longer than IPv4 allows")?;
            let mut header = vec![0x45, 0];
            header.extend(total.to_be_bytes());
            header.extend([0, 0, 0x40, 0, HOPS, UDP, 0, 0]);
            header.extend(from.octets().into_iter().chain(to.octets()));
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            summed.extend(from.octets().into_iter().chain(to.octets()));
            frame.extend([0x08, 0x00]);
            frame.extend(header);
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(udp_len.to_be_bytes());
            frame.extend([UDP, HOPS]);
            frame.extend(from.octets().into_iter().chain(to.octets()));
            summed.extend(from.octets().into_iter().chain(to.octets()));
        }
        (from, to) => bail!("no packet goes from {from} to {to}"),
    }
    let mut udp = Vec::new();
    for word in [source.port(), destination.port(), udp_len, 0] {
        udp.extend(word.to_be_bytes());
    }
    udp.extend(payload);
    // The pseudo-header (RFC 768; RFC 8200 section 8.1): its words may stand in any order.
    summed.extend([0, UDP]);
    summed.extend(udp_len.to_be_bytes());
    summed.extend(&udp);
    let sum = match checksum(&summed) {
        0 => 0xffff,
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    frame.extend(udp);
    Ok(frame)
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, exchange, read};
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("written.pcap");
        let mut ike = vec![0; 18];
        ike.push(exchange::IKE_AUTH);
        let marked = [vec![0; 4], ike.clone()].concat();
        let datagram = |source: &str, destination: &str, payload: &[u8]| Datagram {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            payload: payload.to_vec(),
        };
        let datagrams = [
            datagram("192.0.2.1:500", "192.0.2.2:500", &ike),
            datagram("[2001:db8::1]:4500", "[2001:db8::2]:4500", &marked),
            datagram("192.0.2.1:4500", "192.0.2.2:4500", &[0, 0, 1, 2, 0, 0, 0, 9]),
        ];
        write(&path, &datagrams).unwrap();
        let frames = read(&path).unwrap();
        assert_eq!(frames.len(), 3);
        for (frame, datagram) in frames.iter().zip(&datagrams) {
            assert_eq!(frame.addresses, Some((datagram.source.ip(), datagram.destination.ip())));
        }
        assert_eq!(frames[0].kind, Kind::Ike(exchange::IKE_AUTH));
        assert_eq!(frames[1].kind, Kind::Ike(exchange::IKE_AUTH));
        assert_eq!((frames[2].kind.clone(), frames[2].esp), (Kind::EspInUdp, Some((0x102, 9))));
    }

    /// RFC 1071 section 3 has this example.
    #[test]
    fn checksums_are_ones_complements() {
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }
}
