//! scapy, which no one here wrote, opens what we seal, and seals what we open. Debian's package `python3-scapy` must be
//! installed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic in its helpers")]

mod support;

use std::io::Write;
use std::process::{Command, Stdio};

use support::*;

const ORACLE: &str = include_str!("scapy_oracle.py");

/// Runs the oracle: one request in, hexadecimal frames out, one a line.
fn ask(shape: Shape, verb: &str, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut request = format!(
        "{verb} {} {} {} {} {} {} {} {}\n",
        if shape.tunnel_mode { "tunnel" } else { "transport" },
        if shape.udp { "udp" } else { "ip" },
        if shape.esn { "esn" } else { "plain" },
        shape.suite.cipher_name(),
        shape.suite.key_len(),
        shape.suite.integrity_name(),
        shape.suite.integrity_key_len(),
        shape.key.map_or("none".to_owned(), |key| key.to_string()),
    );
    frames.iter().for_each(|frame| request += &format!("{}\n", hex(frame)));
    let mut child = Command::new("/usr/bin/python3")
        .args(["-c", ORACLE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("/usr/bin/python3 must be there");
    child.stdin.take().unwrap().write_all(request.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the oracle failed: is Debian's package python3-scapy installed?");
    let text = String::from_utf8(output.stdout).unwrap();
    let bytes = |line: &str| {
        let digits = line.as_bytes().chunks(2);
        digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    };
    text.lines().map(bytes).collect()
}

/// Every shape with AES-GCM and with a suite of separate algorithms; every suite with and without ESN.
fn shapes() -> Vec<Shape> {
    let base = Shape::default();
    let mut shapes = vec![];
    for suite in [Suite::AES_256_GCM, Suite::AES_256_CBC_SHA2_256] {
        shapes.extend([
            Shape { suite, key: Some(0xdead_beef), ..base },
            Shape { suite, tunnel_mode: true, ..base },
            Shape { suite, tunnel_mode: true, udp: true, esn: false, key: Some(1), ..base },
            Shape { suite, udp: true, ..base },
        ]);
    }
    for suite in Suite::all() {
        shapes.extend([true, false].map(|esn| Shape { suite, esn, ..base }));
    }
    shapes
}

fn packets() -> Vec<Vec<u8>> {
    let mut packets: Vec<_> = [0, 1, 2, 3, 100, 1300].map(|len| passenger(1, 2, len)).into();
    // A burst is routed version by version: IPv6 comes out last.
    packets.push(packet_v6(host_v6(1, 2), host_v6(2, 2), 17, &udp_segment(1, 2, b"hello")));
    packets
}

fn ethertype(packet: &[u8]) -> u16 {
    if packet[0] >> 4 == 6 { 0x86dd } else { 0x0800 }
}

/// The passenger one router on.
fn one_hop_on(mut packet: Vec<u8>) -> Vec<u8> {
    if packet[0] >> 4 == 6 {
        packet[7] -= 1;
    } else {
        packet::header::ipv4::decrement_ttl((&mut packet[..20]).try_into().unwrap());
    }
    packet
}

#[test]
fn scapy_opens_what_we_seal() {
    for shape in shapes() {
        let (mut alpha, _) = pair(shape);
        let frames: Vec<_> =
            packets().iter().map(|packet| ethernet(port_mac(RED), ethertype(packet), packet)).collect();
        let sent: Vec<_> =
            alpha.wire(RED, &frames).sent.into_iter().map(|(_, frame)| frame[14..].to_vec()).collect();
        let expected: Vec<_> = packets().into_iter().map(one_hop_on).collect();
        assert_eq!(ask(shape, "open", &sent), expected, "{shape:?}");
    }
}

#[test]
fn we_open_what_scapy_seals() {
    for shape in shapes() {
        let (_, mut beta) = pair(shape);
        let sealed = ask(shape, "seal", &packets());
        assert_eq!(sealed.len(), packets().len());
        let frames: Vec<_> = sealed.iter().map(|packet| frame_v4(BLACK, packet)).collect();
        let seen = beta.wire(BLACK, &frames);
        let arrived: Vec<_> = seen.sent.into_iter().map(|(_, frame)| frame[14..].to_vec()).collect();
        let expected: Vec<_> = packets().into_iter().map(one_hop_on).collect();
        assert_eq!(arrived, expected, "{shape:?}: {:?}", beta.all_drops());
    }
}
