//! Writes the capture that the generator (`net_pcap`, infinite) replays.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// The address that `net_pcap` gives to the `index`-th of its ports.
pub(crate) fn generator_mac(index: u8) -> [u8; 6] {
    [0x02, b'p', b'c', b'a', b'p', index]
}

/// Packets in a capture: enough to shuffle tunnels, few enough to stay in the cache as a real receive ring would.
const PACKETS: u32 = 1024;

/// Prefix of the passengers behind tunnel `index`: a /24 of 10/8.
pub(crate) fn passenger_prefix(index: u32) -> [u8; 4] {
    [10, (index >> 8) as u8, index as u8, 0]
}

/// Writes UDP packets of `size` bytes of IP to the link-layer address `mac`, round robin over `tunnels` in a shuffled
/// order.
pub(crate) fn write(path: &Path, mac: [u8; 6], size: u16, tunnels: u32) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    // Magic, version 2.4, time zone, accuracy, snap length, link type Ethernet: native byte order.
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65535, 1] {
        file.write_all(&word.to_ne_bytes())?;
    }
    let count = PACKETS.max(tunnels);
    let length = 14 + u32::from(size);
    for number in 0..count {
        for word in [0, 0, length, length] {
            file.write_all(&word.to_ne_bytes())?;
        }
        file.write_all(&packet(mac, size, shuffled(number, count) % tunnels, number))?;
    }
    file.flush()
}

/// A permutation of the numbers below `count`: neighbours in the capture belong to distant tunnels.
fn shuffled(number: u32, count: u32) -> u32 {
    // 7919 is prime and no capture is a multiple of it.
    (u64::from(number) * 7919 % u64::from(count)) as u32
}

/// Ethernet, IPv4, UDP.
fn packet(mac: [u8; 6], size: u16, tunnel: u32, number: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(14 + usize::from(size));
    bytes.extend(mac);
    bytes.extend([0x02, 0, 0, 0, 0, 0xfe]);
    bytes.extend([0x08, 0x00]);
    let mut header = [0u8; 20];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&size.to_be_bytes());
    header[8] = 64;
    header[9] = 17;
    header[12..16].copy_from_slice(&[172, 16, (number >> 8) as u8, number as u8]);
    let mut destination = passenger_prefix(tunnel);
    destination[3] = 1 + (number % 250) as u8;
    header[16..20].copy_from_slice(&destination);
    let checksum = checksum(&header);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    bytes.extend(header);
    bytes.extend(4000u16.to_be_bytes());
    bytes.extend(5000u16.to_be_bytes());
    bytes.extend((size - 20).to_be_bytes());
    bytes.extend([0, 0]);
    let fill = 14 + usize::from(size) - bytes.len();
    bytes.extend((0..fill).map(|index| index as u8));
    bytes
}

fn checksum(header: &[u8; 20]) -> u16 {
    let sum: u32 = header.as_chunks::<2>().0.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
    !((sum & 0xffff) + (sum >> 16)) as u16
}
