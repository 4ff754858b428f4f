//! Bursts of packets of many SAs, suites and sizes: whichever engine, the same bytes and the same verdicts.

#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

use esp::framing::{self, Aad, HEADER_BYTES, Nonce};
use esp::{
    Aead, Algorithm, Cbc, Choice, CipherEngine, Engine, EngineError, Integrity, Keys, Lanes, MAX_BATCH,
    OpenOp, SaKey, SealOp,
};
use proptest::prelude::*;
use proptest::sample::Index;

/// What stands around a packet, and must stand there afterwards.
const AROUND: u8 = 0xee;
const AROUND_BYTES: usize = 64;

fn suites() -> Vec<Algorithm> {
    let pairs = Cbc::ALL.into_iter().flat_map(|cipher| Integrity::ALL.map(|integrity| (cipher, integrity)));
    let separate = pairs.map(|(cipher, integrity)| Algorithm::Separate(cipher, integrity));
    separate.chain(Aead::ALL.map(Algorithm::Combined)).collect()
}

/// An engine, and the keys that it expanded for all suites, several SAs of each.
struct Site {
    lanes: Lanes,
    keys: Vec<SaKey>,
}

/// SAs of each suite.
const SAS: usize = 2;

impl Site {
    fn new(engine: Engine) -> Self {
        let keys = (0..suites().len() * SAS).map(|sa| {
            let algorithm = suites()[sa / SAS];
            let mut secret = [0; 64];
            secret.iter_mut().zip(0u8..).for_each(|(byte, at)| *byte = at.wrapping_mul(7) ^ sa as u8);
            let keys = Keys {
                cipher: &secret[..algorithm.key_bytes()],
                integrity: &secret[64 - algorithm.integrity_key_bytes()..],
            };
            let mut key = SaKey::default();
            engine.expand(algorithm, keys, &mut key).unwrap();
            key
        });
        Self { keys: keys.collect(), lanes: engine.lanes().unwrap() }
    }

    fn all() -> Vec<Self> {
        let mut sites = [Choice::Portable, Choice::Auto]
            .map(|choice| Self::new(Engine::select(choice).unwrap()))
            .into_iter()
            .collect::<Vec<_>>();
        match Engine::select(Choice::IpsecMb) {
            Ok(engine) => sites.push(Self::new(engine)),
            Err(error) => assert!(
                error == EngineError::NotBuilt || matches!(error, EngineError::CpuLacks(_)),
                "ipsec-mb was built in and does not work: {error}"
            ),
        }
        sites
    }

    fn seal(&mut self, packets: &mut [Packet]) -> u64 {
        let keys = &self.keys;
        self.lanes.seal(packets.iter_mut().map(|packet| SealOp {
            key: &keys[packet.sa],
            nonce: &packet.nonce,
            aad: packet.aad.as_bytes(),
            text_and_icv: &mut packet.bytes[packet.start..packet.end],
        }))
    }

    fn open(&mut self, packets: &mut [Packet]) -> u64 {
        let keys = &self.keys;
        self.lanes.open(packets.iter_mut().map(|packet| OpenOp {
            key: &keys[packet.sa],
            nonce: &packet.nonce,
            aad: packet.aad.as_bytes(),
            text_and_icv: &mut packet.bytes[packet.start..packet.end],
        }))
    }
}

/// An ESP packet somewhere in a buffer.
#[derive(Clone, Debug, PartialEq)]
struct Packet {
    sa: usize,
    nonce: Nonce,
    aad: Aad,
    bytes: Vec<u8>,
    /// Where what the engine takes begins and ends, and where the payload begins.
    start: usize,
    end: usize,
    payload_at: usize,
}

impl Packet {
    /// Before it is sealed.
    fn new(sa: usize, sequence: u64, esn: bool, offset: usize, payload: &[u8]) -> Self {
        let framing = suites()[sa / SAS].framing();
        let spi = 0x1000 + sa as u32;
        let len = framing.sealed_len(payload.len());
        let mut bytes = vec![AROUND; AROUND_BYTES + offset + len + AROUND_BYTES];
        let at = AROUND_BYTES + offset;
        let packet = &mut bytes[at..at + len];
        packet.fill(0);
        packet[..4].copy_from_slice(&spi.to_be_bytes());
        packet[4..HEADER_BYTES].copy_from_slice(&(sequence as u32).to_be_bytes());
        packet[framing.payload_at()..][..payload.len()].copy_from_slice(payload);
        let tail = framing.payload_at() + payload.len();
        framing::write_trailer(&mut packet[tail..], framing.pad_len(payload.len()), 47);
        Self {
            sa,
            nonce: framing::nonce([1, 2, 3, 4], sequence),
            aad: Aad::new(spi, sequence, esn),
            bytes,
            start: at + framing.operation_at(),
            end: at + len,
            payload_at: at + framing.payload_at(),
        }
    }

    fn payload(&self) -> &[u8] {
        let icv = suites()[self.sa / SAS].framing().icv_bytes();
        let text = &self.bytes[self.payload_at..self.end - icv];
        let trailer = framing::read_trailer(text).unwrap();
        assert_eq!(trailer.next_header, 47);
        &text[..text.len() - trailer.len_bytes]
    }

    fn nothing_around_it_changed(&self) -> bool {
        let (front, back) = (&self.bytes[..self.start], &self.bytes[self.end..]);
        let untouched = front.len().min(AROUND_BYTES);
        front[..untouched].iter().chain(back).all(|byte| *byte == AROUND)
    }
}

fn packet() -> impl Strategy<Value = Packet> {
    let size = prop_oneof![6 => 0usize..300, 3 => 300usize..1500, 1 => 1500usize..9000];
    let sequence = prop_oneof![1u64..1000, (1u64 << 32) - 5..(1 << 32) + 5, 1..u64::MAX];
    (0..suites().len() * SAS, sequence, any::<bool>(), 0usize..64, size, any::<u8>()).prop_map(
        |(sa, sequence, esn, offset, size, fill)| {
            let payload: Vec<u8> = (0..size).map(|at| (at as u8).wrapping_mul(31) ^ fill).collect();
            Packet::new(sa, sequence, esn, offset, &payload)
        },
    )
}

fn all(count: usize) -> u64 {
    u64::MAX >> (MAX_BATCH - count)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn bursts_come_out_alike(
        burst in proptest::collection::vec(packet(), 1..=MAX_BATCH),
        damages in proptest::collection::vec((any::<Index>(), any::<Index>(), 0u32..8), 0..6),
    ) {
        let plain: Vec<Vec<u8>> = burst.iter().map(|packet| packet.payload().to_vec()).collect();
        let mut outcomes = vec![];
        for mut site in Site::all() {
            let mut sealed = burst.clone();
            prop_assert_eq!(site.seal(&mut sealed), all(burst.len()));
            let mut received = sealed.clone();
            let mut intact = all(burst.len());
            for (which, at, bit) in &damages {
                let which = which.index(received.len());
                // An even number of damages could undo each other.
                if intact >> which & 1 == 1 {
                    intact &= !(1 << which);
                    let packet = &mut received[which];
                    let at = packet.start + at.index(packet.end - packet.start);
                    packet.bytes[at] ^= 1 << bit;
                }
            }
            prop_assert_eq!(site.open(&mut received), intact);
            for (at, packet) in received.iter().enumerate().filter(|(at, _)| intact >> at & 1 == 1) {
                prop_assert_eq!(packet.payload(), &plain[at][..]);
            }
            prop_assert!(sealed.iter().chain(&received).all(Packet::nothing_around_it_changed));
            outcomes.push(sealed);
        }
        for other in &outcomes[1..] {
            prop_assert_eq!(other, &outcomes[0]);
        }
    }

    /// What comes from the wire has any length and any content; so do batches that mix it with good packets.
    #[test]
    fn hostile_packets_are_refused_and_harm_no_neighbour(
        burst in proptest::collection::vec((packet(), prop_oneof![
            Just(None),
            (0usize..400, any::<u8>()).prop_map(Some),
        ]), 1..=MAX_BATCH),
    ) {
        for mut site in Site::all() {
            let mut packets: Vec<Packet> = burst.iter().map(|(packet, _)| packet.clone()).collect();
            site.seal(&mut packets);
            let mut good = 0;
            for (at, (packet, (_, hostile))) in packets.iter_mut().zip(&burst).enumerate() {
                let Some((len, fill)) = hostile else {
                    good |= 1 << at;
                    continue;
                };
                packet.start = AROUND_BYTES;
                packet.end = AROUND_BYTES + len;
                packet.bytes = [vec![AROUND; AROUND_BYTES], vec![*fill; *len], vec![AROUND; AROUND_BYTES]].concat();
            }
            prop_assert_eq!(site.open(&mut packets), good);
            prop_assert!(packets.iter().all(Packet::nothing_around_it_changed));
            // Nor is anything sealed whose lengths are wrong; there is nothing left in the lanes.
            let right = packets.iter().enumerate().filter(|(_, packet)| {
                let framing = suites()[packet.sa / SAS].framing();
                let len = packet.end - packet.start;
                if framing.operation_at() == 0 { framing.fits(len) } else { len >= framing.icv_bytes() }
            });
            let right = right.fold(0, |bits, (at, _)| bits | 1 << at);
            prop_assert_eq!(site.seal(&mut packets), right);
            prop_assert!(packets.iter().all(Packet::nothing_around_it_changed));
        }
    }
}

/// One forgery at each place in bursts of each length: its neighbours in the lanes are opened, it is not.
#[test]
fn a_forgery_at_any_place_is_found() {
    for mut site in Site::all() {
        for suite in 0..suites().len() {
            for count in [1, 2, 3, 7, 8, 9, 16, 17, 31, 32, 33, 63, 64] {
                let burst = (0..count)
                    .map(|n| Packet::new(suite * SAS + n % SAS, n as u64 + 1, n % 3 == 0, 0, &[n as u8; 40]));
                let mut sealed: Vec<Packet> = burst.collect();
                assert_eq!(site.seal(&mut sealed), all(count));
                for place in 0..count {
                    let mut received = sealed.clone();
                    let last = received[place].end - 1;
                    received[place].bytes[last] ^= 1;
                    assert_eq!(site.open(&mut received), all(count) & !(1 << place), "{:?}", suites()[suite]);
                }
            }
        }
    }
}

/// Every length up to that of a large passenger, ends of blocks of ciphers and hashes among them.
#[test]
fn every_size_comes_out_alike() {
    let mut sites = Site::all();
    for suite in 0..suites().len() {
        for sizes in
            (0..=520).collect::<Vec<_>>().chunks(MAX_BATCH).chain([&[1400, 8999, 9000, 4095, 4096][..]])
        {
            let burst: Vec<Packet> = sizes
                .iter()
                .map(|size| {
                    Packet::new(suite * SAS, 1 + *size as u64, size % 2 == 0, 0, &vec![*size as u8; *size])
                })
                .collect();
            let sealed = sites.iter_mut().map(|site| {
                let mut sealed = burst.clone();
                assert_eq!(site.seal(&mut sealed), all(burst.len()));
                sealed
            });
            let sealed: Vec<_> = sealed.collect();
            for (site, theirs) in sites.iter_mut().zip(sealed.iter().rev()) {
                assert_eq!(*theirs, sealed[0], "{:?}", suites()[suite]);
                let mut opened = theirs.clone();
                assert_eq!(site.open(&mut opened), all(burst.len()));
                let payloads = opened.iter().zip(&burst);
                assert!(payloads.into_iter().all(|(opened, plain)| opened.payload() == plain.payload()));
            }
        }
    }
}

/// What is longer than lanes count is refused, not cut: no IP packet is so long.
#[test]
fn a_packet_longer_than_ip_allows_harms_nothing() {
    for mut site in Site::all() {
        for suite in 0..suites().len() - Aead::ALL.len() {
            let mut burst = [
                Packet::new(suite * SAS, 1, true, 0, &[1; 50]),
                Packet::new(suite * SAS, 2, true, 0, &vec![1; 66_000]),
            ];
            assert_eq!(site.seal(&mut burst) & 1, 1);
            let authentic = site.open(&mut burst);
            assert_eq!(authentic & 1, 1);
            assert_eq!(burst[0].payload(), [1; 50]);
        }
    }
}

#[test]
fn lanes_go_to_another_thread() {
    let sites = Site::all();
    let thread = std::thread::spawn(move || {
        for mut site in sites {
            let mut packets = [Packet::new(0, 1, true, 0, b"passenger")];
            assert_eq!(site.seal(&mut packets), 1);
            assert_eq!(site.open(&mut packets), 1);
        }
    });
    thread.join().unwrap();
}
