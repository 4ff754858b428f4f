//! The runtime state of an SA: what must outlive the process that forwards.

use std::sync::atomic::{AtomicU64, Ordering};

/// Words of the replay window: 4096 packets.
pub const WINDOW_WORDS: usize = 64;

/// Runtime state of the SA in the slot of the same number. Written only by the worker that owns the SA; every access is
/// relaxed, and readers of another process see each word whole but no two words at one moment.
///
/// The owner resets it when `generation` is not that of the record; otherwise it resumes. It resumes an outbound SA
/// with [`SaRuntime::resume_outbound`] before the first packet after the start of a process, so that no sequence number,
/// and with it no nonce, is used twice (RFC 4106 section 3.1), wherever the former process died.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct SaRuntime {
    /// Generation of the record that this state belongs to.
    pub generation: AtomicU64,
    /// Outbound: the next sequence number to use. Inbound: the highest authentic one seen. With ESN all 64 bits.
    pub next_sequence: AtomicU64,
    /// Authentic packets.
    pub packets: AtomicU64,
    /// Their ESP payload bytes.
    pub bytes: AtomicU64,
    /// Time of the last authentic packet, milliseconds since the Unix epoch, to within the worker's clock tick.
    pub last_packet_unix_ms: AtomicU64,
    /// 1 once the soft-limit event was sent.
    pub soft_sent: AtomicU64,
    /// 1 once the SA stopped for a hard limit.
    pub hard_sent: AtomicU64,
    /// 1 once the first-packet event was sent.
    pub first_sent: AtomicU64,
    /// Dropped: sequence number already seen.
    pub replayed: AtomicU64,
    /// Dropped: sequence number left of the window.
    pub late: AtomicU64,
    /// Dropped: wrong ICV.
    pub auth_failed: AtomicU64,
    /// Dropped: the packet that it protects is not what the SA may carry.
    pub selector_mismatch: AtomicU64,
    /// Dropped: padding, next header or length make no sense.
    pub malformed: AtomicU64,
    /// Dropped: no room in the buffer.
    pub no_space: AtomicU64,
    reserved: [AtomicU64; 2],
    /// Bitmap of the replay window.
    pub window: [AtomicU64; WINDOW_WORDS],
}

impl SaRuntime {
    /// How far an outbound SA jumps ahead when a process resumes it. It must exceed what a worker sends between two
    /// stores of `next_sequence` (one burst).
    pub const RESUME_JUMP: u64 = 1024;

    /// State that belongs to no SA yet; for tests and benches that need no region.
    pub const fn new() -> Self {
        Self {
            generation: AtomicU64::new(0),
            next_sequence: AtomicU64::new(0),
            packets: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            last_packet_unix_ms: AtomicU64::new(0),
            soft_sent: AtomicU64::new(0),
            hard_sent: AtomicU64::new(0),
            first_sent: AtomicU64::new(0),
            replayed: AtomicU64::new(0),
            late: AtomicU64::new(0),
            auth_failed: AtomicU64::new(0),
            selector_mismatch: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            no_space: AtomicU64::new(0),
            reserved: [const { AtomicU64::new(0) }; 2],
            window: [const { AtomicU64::new(0) }; WINDOW_WORDS],
        }
    }

    /// Starts the state of a new SA: all counts zero, `first_sequence` (1 outbound, 0 inbound), then the generation.
    ///
    /// The generation is cleared first and set last: a process that dies in between leaves a state that is reset again.
    pub fn reset(&self, generation: u64, first_sequence: u64) {
        self.generation.store(0, Ordering::Release);
        self.next_sequence.store(first_sequence, Ordering::Relaxed);
        let counts = [
            &self.packets,
            &self.bytes,
            &self.last_packet_unix_ms,
            &self.soft_sent,
            &self.hard_sent,
            &self.first_sent,
            &self.replayed,
            &self.late,
            &self.auth_failed,
            &self.selector_mismatch,
            &self.malformed,
            &self.no_space,
        ];
        for cell in counts.into_iter().chain(&self.window) {
            cell.store(0, Ordering::Relaxed);
        }
        self.generation.store(generation, Ordering::Release);
    }

    /// Jumps an outbound SA ahead by [`SaRuntime::RESUME_JUMP`] and returns the next sequence number. Call it once per
    /// start of a process and SA, before its first packet.
    pub fn resume_outbound(&self) -> u64 {
        let next = self.next_sequence.load(Ordering::Relaxed).saturating_add(Self::RESUME_JUMP);
        self.next_sequence.store(next, Ordering::Relaxed);
        next
    }
}

impl Default for SaRuntime {
    fn default() -> Self {
        Self::new()
    }
}

const _: () = assert!(size_of::<SaRuntime>() == 640);
