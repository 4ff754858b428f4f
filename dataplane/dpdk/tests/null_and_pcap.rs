//! The generators and sinks of the benches: `net_null` and `net_pcap`.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "helpers of tests")]

mod virtual_device;

use std::path::{Path, PathBuf};

use dpdk::{BURST_SIZE, Burst};
use packet::Frame;
use virtual_device::{packets, pool, started};

#[test]
fn null_gives_and_takes_packets_for_ever_without_losing_a_buffer() {
    let pool = pool("null");
    let before = pool.available();
    let (_port, mut rx, mut tx) = started("vdev:net_null_forever,size=64", &pool);
    for _ in 0..1000 {
        let mut burst = Burst::new();
        assert_eq!(rx.receive(&mut burst), BURST_SIZE);
        assert_eq!(burst[0].bytes().len(), 64);
        // Dropped one by one; the rest is freed by the driver.
        burst.truncate(BURST_SIZE / 2);
        assert_eq!(tx.transmit(&mut burst), BURST_SIZE / 2);
    }
    assert_eq!(pool.available(), before);
}

#[test]
fn a_capture_goes_through_unchanged() {
    let directory = std::env::temp_dir().join(format!("culvert-dpdk-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (input, output) = (directory.join("in.pcap"), directory.join("out.pcap"));
    let sent = packets(100, 7);
    write_pcap(&input, &sent);
    let pool = pool("pcap");
    let device = format!("vdev:net_pcap_golden,rx_pcap={},tx_pcap={}", input.display(), output.display());
    let (port, mut rx, mut tx) = started(&device, &pool);
    let mut burst = Burst::new();
    while rx.receive(&mut burst) > 0 {
        tx.transmit(&mut burst);
        assert!(burst.is_empty());
    }
    // Closing the port flushes the file.
    port.stop(rx, tx).map_err(|(.., error)| error).unwrap().remove().unwrap();
    assert_eq!(read_pcap(&output), sent);
    std::fs::remove_dir_all(&directory).unwrap();
}

fn write_pcap(path: &PathBuf, packets: &[Vec<u8>]) {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65535, 1] {
        file.extend(word.to_ne_bytes());
    }
    for packet in packets {
        for word in [0, 0, packet.len() as u32, packet.len() as u32] {
            file.extend(word.to_ne_bytes());
        }
        file.extend(packet);
    }
    std::fs::write(path, file).unwrap();
}

fn read_pcap(path: &Path) -> Vec<Vec<u8>> {
    let file = std::fs::read(path).unwrap();
    let mut rest = &file[24..];
    let mut packets = Vec::new();
    while let Some((header, body)) = rest.split_first_chunk::<16>() {
        let len = u32::from_ne_bytes(header[8..12].try_into().unwrap()) as usize;
        packets.push(body[..len].to_vec());
        rest = &body[len..];
    }
    packets
}
