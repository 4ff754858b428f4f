//! A security association, as the stages use it.

use esp::framing::Framing;
use esp::{Aead, Algorithm, Cbc, Engine, Integrity, Keys, ReplayWindow, SaKey};
use packet::header::{ipv4, protocol, udp};
use shm::records::{SaRecord, algorithm, direction, integrity, mode, owner};
use shm::{EventKind, EventRecord, SaRuntime};

use crate::selectors::Selectors;
use crate::update::RecordError;

/// Whom an SA serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A tunnel with an ipsec-profile.
    Tunnel(u32),
    /// A policy of a crypto map.
    Policy(u32),
}

/// Sequence numbers left of an SA without ESN when it asks to be replaced, whatever its record says.
const SEQUENCES_LEFT_AT_SOFT_LIMIT: u64 = 1 << 28;

/// An SA: what a packet needs first, then the expanded key, in one aligned block.
#[repr(C, align(64))]
pub struct Sa {
    // What every packet needs: one cache line.
    pub(crate) runtime: &'static SaRuntime,
    pub(crate) spi: u32,
    pub(crate) salt: [u8; 4],
    pub(crate) local: [u8; 4],
    pub(crate) replay_window: u32,
    pub(crate) slot: u32,
    /// Of combined mode, whose framing is a constant.
    combined: bool,
    pub(crate) esn: bool,
    pub(crate) tunnel_mode: bool,
    pub(crate) udp: bool,
    soft_packets: u64,
    hard_packets: u64,
    soft_bytes: u64,
    hard_bytes: u64,
    // What inbound packets need besides.
    pub(crate) owner: Owner,
    pub(crate) remote: [u8; 4],
    /// The peer as it is configured, wherever its NAT shows it.
    pub(crate) peer: [u8; 4],
    local_port: u16,
    pub(crate) remote_port: u16,
    /// When [`EventKind::Traffic`] was last raised, in milliseconds since the Unix epoch.
    pub(crate) traffic_told_ms: u64,
    /// When [`EventKind::PeerMoved`] was last raised, in milliseconds since the Unix epoch.
    pub(crate) move_told_ms: u64,
    pub(crate) generation: u64,
    pub(crate) outbound: bool,
    framing: Framing,
    /// What it may carry.
    pub(crate) selectors: Selectors,
    pub(crate) key: SaKey,
}

/// What limits say about one more packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Within,
    Soft,
    Hard,
}

impl Sa {
    /// From its record, with the key expanded for `engine` in its final place.
    ///
    /// # Errors
    /// The record asks for what the fast path does not have, or its key has the wrong length.
    pub fn new(
        slot: u32,
        record: &SaRecord,
        engine: &Engine,
        runtime: &'static SaRuntime,
    ) -> Result<Box<Self>, RecordError> {
        if record.family != 4 {
            return Err(RecordError::Family);
        }
        let algorithm = algorithm_of(record).ok_or(RecordError::Algorithm)?;
        let owner = match record.owner_kind {
            owner::TUNNEL => Owner::Tunnel(record.owner),
            owner::POLICY => Owner::Policy(record.owner),
            _ => return Err(RecordError::Owner),
        };
        let selectors = Selectors::new(record)?;
        // A tunnel is between two addresses, and its GRE has no ports: what could not carry it is for something else.
        if matches!(owner, Owner::Tunnel(_)) && !selectors.carry_all_of(protocol::GRE) {
            return Err(RecordError::Selector);
        }
        let limit = |value: u64| if value == 0 { u64::MAX } else { value };
        let mut sa = Box::new(Self {
            runtime,
            slot,
            spi: record.spi,
            salt: record.salt,
            replay_window: record.replay_window,
            outbound: record.direction == direction::OUTBOUND,
            esn: record.esn != 0,
            tunnel_mode: record.mode == mode::TUNNEL,
            udp: record.udp_encapsulation != 0,
            owner,
            local: v4(&record.local.bytes),
            remote: v4(&record.remote.bytes),
            peer: v4(&record.peer.bytes),
            soft_packets: limit(record.soft_packets),
            hard_packets: limit(record.hard_packets),
            soft_bytes: limit(record.soft_bytes),
            hard_bytes: limit(record.hard_bytes),
            generation: record.generation,
            combined: matches!(algorithm, Algorithm::Combined(_)),
            framing: algorithm.framing(),
            traffic_told_ms: 0,
            move_told_ms: 0,
            key: SaKey::default(),
            local_port: record.local_port,
            remote_port: record.remote_port,
            selectors,
        });
        let cipher = record.key.get(..usize::from(record.key_len)).ok_or(RecordError::Key)?;
        let integrity =
            record.integrity_key.get(..algorithm.integrity_key_bytes()).ok_or(RecordError::Key)?;
        engine.expand(algorithm, Keys { cipher, integrity }, &mut sa.key).map_err(|_| RecordError::Key)?;
        Ok(sa)
    }

    /// Takes up the state of the region: a new SA starts at the beginning, one that a former process used goes on, an
    /// outbound one after a jump that no number it may have sent lies beyond. Called by the worker that owns the SA.
    pub(crate) fn take_up(&self) {
        use std::sync::atomic::Ordering::Relaxed;
        if self.runtime.generation.load(Relaxed) != self.generation {
            self.runtime.reset(self.generation, u64::from(self.outbound));
        } else if self.outbound {
            self.runtime.resume_outbound();
        }
    }

    /// How its packets are laid out. Those of combined mode need not look it up.
    #[inline]
    pub(crate) const fn framing(&self) -> Framing {
        if self.combined { Framing::COMBINED } else { self.separate_framing() }
    }

    /// Out of the way: what combined mode needs is constants, and the field is in no cache line of its path.
    #[cold]
    #[inline(never)]
    const fn separate_framing(&self) -> Framing {
        self.framing
    }

    /// Bytes in front of the payload: outer IPv4 header, UDP header, ESP header and IV.
    pub(crate) const fn headers_len(&self) -> usize {
        self.outer_len() + self.framing().payload_at()
    }

    /// Bytes in front of ESP: outer IPv4 header and UDP header.
    pub(crate) const fn outer_len(&self) -> usize {
        ipv4::LEN_BYTES + if self.udp { udp::LEN_BYTES } else { 0 }
    }

    /// The largest payload (in tunnel mode: the largest IP packet) whose ESP packet fits an MTU, in bytes.
    pub(crate) fn payload_that_fits(&self, mtu_bytes: usize) -> Option<usize> {
        self.framing().payload_that_fits(mtu_bytes.checked_sub(self.outer_len())?)
    }

    /// Whom a packet of transport mode is from, by the source of its outer header: behind a NAT that is the NAT's, and not
    /// what the peer was configured by; the key tells who sent it (RFC 7296 section 2.23.1).
    #[inline]
    pub(crate) const fn original_source(&self, outer: [u8; 4]) -> [u8; 4] {
        if self.udp { self.peer } else { outer }
    }

    /// The IP protocol that the outer header names.
    pub(crate) const fn outer_protocol(&self) -> u8 {
        if self.udp { protocol::UDP } else { protocol::ESP }
    }

    /// The UDP header of a packet, its length zero.
    pub(crate) fn udp_header(&self) -> [u8; udp::LEN_BYTES] {
        udp::header(self.local_port, self.remote_port, 0)
    }

    /// Reads what a packet will need of it, for the sake of the cache.
    #[inline]
    pub(crate) fn touch(&self) -> u64 {
        use std::sync::atomic::Ordering::Relaxed;
        self.runtime.next_sequence.load(Relaxed) ^ self.hard_bytes ^ self.key.touch()
    }

    /// Reads the word of the replay window that a sequence number will need, for the sake of the cache.
    #[inline]
    pub(crate) fn touch_window(&self, sequence_low: u32) -> u64 {
        let word = self.runtime.window.get((sequence_low / 64) as usize % shm::WINDOW_WORDS);
        word.map_or(0, |word| word.load(std::sync::atomic::Ordering::Relaxed))
    }

    /// The window by which the high half of an extended sequence number is inferred: that of the replay check, or the
    /// widest when that is off.
    #[inline]
    pub(crate) fn inference_window(&self) -> u32 {
        if self.replay_window == 0 { esp::WINDOW_BITS as u32 } else { self.replay_window }
    }

    /// The replay window.
    #[inline]
    pub(crate) fn window(&self) -> ReplayWindow<'static> {
        ReplayWindow::new(&self.runtime.next_sequence, &self.runtime.window, self.replay_window)
    }

    /// Judges the counts as they are before one more packet.
    #[inline]
    pub(crate) fn limit(&self, packets: u64, bytes: u64, sequence: u64) -> Limit {
        if packets >= self.hard_packets || bytes >= self.hard_bytes {
            return Limit::Hard;
        }
        let near_end = !self.esn && sequence > u64::from(u32::MAX) - SEQUENCES_LEFT_AT_SOFT_LIMIT;
        if packets >= self.soft_packets || bytes >= self.soft_bytes || near_end {
            return Limit::Soft;
        }
        Limit::Within
    }

    /// An event about this SA.
    pub(crate) fn event(&self, kind: EventKind) -> EventRecord {
        EventRecord::of_sa(kind, self.slot, self.generation, self.spi)
    }
}

/// The algorithm that a record names; `None` if its numbers make none.
fn algorithm_of(record: &SaRecord) -> Option<Algorithm> {
    let integrity = match record.integrity {
        integrity::NONE => None,
        integrity::HMAC_MD5_96 => Some(Integrity::HmacMd5_96),
        integrity::HMAC_SHA1_96 => Some(Integrity::HmacSha1_96),
        integrity::HMAC_SHA2_256_128 => Some(Integrity::HmacSha2_256_128),
        integrity::HMAC_SHA2_384_192 => Some(Integrity::HmacSha2_384_192),
        integrity::HMAC_SHA2_512_256 => Some(Integrity::HmacSha2_512_256),
        _ => return None,
    };
    let separate = |cipher| integrity.map(|integrity| Algorithm::Separate(cipher, integrity));
    let combined = |aead| integrity.is_none().then_some(Algorithm::Combined(aead));
    match record.algorithm {
        algorithm::AES_128_GCM_16 => combined(Aead::Aes128Gcm),
        algorithm::AES_256_GCM_16 => combined(Aead::Aes256Gcm),
        algorithm::CHACHA20_POLY1305 => combined(Aead::ChaCha20Poly1305),
        algorithm::AES_128_CBC => separate(Cbc::Aes128),
        algorithm::AES_192_CBC => separate(Cbc::Aes192),
        algorithm::AES_256_CBC => separate(Cbc::Aes256),
        algorithm::TRIPLE_DES_CBC => separate(Cbc::TripleDes),
        _ => None,
    }
}

impl std::fmt::Debug for Sa {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Sa")
            .field("slot", &self.slot)
            .field("spi", &self.spi)
            .field("outbound", &self.outbound)
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

/// The IPv4 address in the first four of sixteen bytes.
pub(crate) fn v4(bytes: &[u8; 16]) -> [u8; 4] {
    [bytes[0], bytes[1], bytes[2], bytes[3]]
}
