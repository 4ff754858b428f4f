//! A peer that changes its address and says so (MOBIKE, RFC 4555). We are its responder: we announce that we can, and
//! follow where it goes; we never ask for a change of our own.

use std::time::Instant;

use super::core::Core;
use super::established::{Established, Job};
use super::nat;
use super::payloads::Picked;
use super::sa::Ends;
use crate::wire::registry::notify;
use crate::wire::{Notify, Payload};
use crate::{Connection, Mode, Output, Path, SaOperation};

/// What an INFORMATIONAL request that speaks MOBIKE is answered with.
pub(super) type Answer = Vec<Payload>;

/// Whether the answer to IKE_AUTH announces MOBIKE: the peer did (section 3.1), and no child is of transport mode, whose
/// packets have the addresses that would change.
pub(super) fn agrees(config: &Connection, picked: &Picked) -> bool {
    picked.notify(notify::MOBIKE_SUPPORTED).is_some()
        && config.children.iter().all(|child| child.mode == Mode::Tunnel)
}

/// Our announcement.
pub(super) fn supported() -> Payload {
    Payload::Notify(Notify::new(notify::MOBIKE_SUPPORTED, Vec::new()))
}

impl Established {
    /// Does what the notifications of an authentic request ask, and gives what the answer says to them.
    pub(super) fn follow_announced(
        &mut self,
        ends: &mut Ends,
        core: &mut Core,
        now: Instant,
        path: Path,
        picked: &Picked,
    ) -> Answer {
        let mut answer: Answer = Vec::new();
        if !ends.mobike {
            return answer;
        }
        // Section 3.7: it shows that we receive where we are believed to be.
        if let Some(cookie) = picked.notify(notify::COOKIE2) {
            answer.push(Payload::Notify(Notify::new(notify::COOKIE2, cookie.data.clone())));
        }
        // Section 3.9: the peer wants a way without NATs, or none.
        let forbidden = picked.notify(notify::NO_NATS_ALLOWED).filter(|seen| seen.data != addresses(path));
        if forbidden.is_some() {
            core.count("mobike_refused");
            answer.push(Payload::Notify(Notify::new(notify::UNEXPECTED_NAT_DETECTED, Vec::new())));
            return answer;
        }
        if picked.notify(notify::NAT_DETECTION_SOURCE_IP).is_some() {
            answer.extend(nat::payloads(ends.spis, path, ends.nat.forced));
        }
        if picked.notify(notify::UPDATE_SA_ADDRESSES).is_none() {
            return answer;
        }
        if path.local.ip() != self.config.local || path.remote.is_ipv4() != path.local.is_ipv4() {
            core.count("mobike_refused");
            return vec![Payload::Notify(Notify::new(notify::UNACCEPTABLE_ADDRESSES, Vec::new()))];
        }
        let notifications: Vec<Payload> = picked.notifies.iter().cloned().map(Payload::Notify).collect();
        let nat = nat::detect(ends.spis, path, &notifications, ends.nat.forced);
        if path != ends.path || nat != ends.nat {
            (ends.path, ends.nat) = (path, nat);
            core.peer_moved(ends.connection, path);
            for spi_in in self.children.keys() {
                let udp_encapsulation = nat.is_present();
                core.outputs.push_back(Output::Sa(SaOperation::Move {
                    spi_in: *spi_in,
                    path,
                    udp_encapsulation,
                }));
            }
            // Section 3.5: what waits for an answer goes to the new address too; it has waited at one that is gone.
            if let Some(asked) = self.send.retransmission() {
                asked.begin_anew(now, &core.limits);
            }
            // Whoever sits between could have sent the peer's packet on: an answer from there shows that the peer is.
            self.enqueue(now, Job::Probe);
        }
        answer
    }
}

/// The data of NO_NATS_ALLOWED of a peer whose packets come on this path: its address, ours, its port, ours.
fn addresses(path: Path) -> Vec<u8> {
    let octets = |address: std::net::IpAddr| match address {
        std::net::IpAddr::V4(address) => address.octets().to_vec(),
        std::net::IpAddr::V6(address) => address.octets().to_vec(),
    };
    let ports = [path.remote.port().to_be_bytes(), path.local.port().to_be_bytes()];
    [octets(path.remote.ip()), octets(path.local.ip()), ports.concat()].concat()
}

#[cfg(test)]
#[path = "mobike_tests.rs"]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "a test may fail by panicking"
)]
mod tests;
