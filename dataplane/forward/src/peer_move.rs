//! A peer whose NAT shows it elsewhere than before (RFC 7296 section 2.23).

use packet::header::ethernet;
use packet::header::ipv4::{self, Ipv4};
use packet::header::protocol;
use packet::header::udp::{self, Udp};
use shm::EventKind;

use crate::outcome::Outcome;
use crate::sa::Sa;

/// Least time between two tellings, in milliseconds.
const TELL_INTERVAL_MS: u64 = 1000;

/// Tells when an authentic packet, just taken into the window, came from elsewhere than the peer of its SA. A packet that
/// others overtook tells nothing: it may be from before the move, or held back by somebody who sends it on from a place of
/// his choice.
#[inline]
pub(crate) fn watch<F>(sa: &mut Sa, frame: &[u8], sequence: u64, now_unix_ms: u64, outcome: &mut Outcome<F>) {
    if !sa.udp || sequence != sa.window().highest() {
        return;
    }
    let Some((address, port)) = source(frame) else { return };
    if (address, port) != (sa.remote, sa.remote_port) {
        tell(sa, address, port, now_unix_ms, outcome);
    }
}

/// Where a frame with UDP came from. A frame with options before it never gets as far as an SA.
#[inline]
fn source(frame: &[u8]) -> Option<([u8; 4], u16)> {
    let header = frame.get(ethernet::LEN_BYTES..).and_then(Ipv4::parse)?;
    let udp = frame.get(ethernet::LEN_BYTES + ipv4::LEN_BYTES..).and_then(Udp::parse)?;
    (header.protocol() == protocol::UDP && udp.destination_port() == udp::NAT_PORT)
        .then(|| (header.source(), udp.source_port()))
}

#[cold]
fn tell<F>(sa: &mut Sa, address: [u8; 4], port: u16, now_unix_ms: u64, outcome: &mut Outcome<F>) {
    if now_unix_ms.wrapping_sub(sa.move_told_ms) < TELL_INTERVAL_MS {
        return;
    }
    let mut event = sa.event(EventKind::PeerMoved);
    (event.c, event.d) = (u64::from(u32::from_be_bytes(address)), u64::from(port));
    if outcome.raise(event) {
        sa.move_told_ms = now_unix_ms;
    }
}
