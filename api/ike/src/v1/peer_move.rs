//! A peer whose NAT shows it elsewhere than before. RFC 3947 has no word on it; it is followed as in version 2 (RFC 7296
//! section 2.23), by what is authentic and was not seen before. Version 1 does not number its messages: one that was held
//! back counts as new, and the next one of the peer leads back.

use std::net::SocketAddr;
use std::time::Instant;

use super::peer::Peer;
use crate::v2::core::Core;
use crate::v2::peer_move::may_follow;
use crate::{IkeSaId, Output, Path, SaOperation};

impl Peer {
    /// An authentic, new message of this phase 1 came.
    pub(super) fn heard(&mut self, core: &mut Core, now: Instant, id: IkeSaId) {
        self.heard_at = now;
        if let Some(up) = self.up_of(id) {
            up.heard_at = now;
        }
        self.confirm(core, id);
        self.follow_on(core, id, self.arrival);
    }

    /// Authentic packets of ESP came.
    pub(super) fn heard_traffic(&mut self, now: Instant) {
        (self.heard_at, self.traffic_at) = (now, now);
    }

    /// An authentic packet of ESP came from there.
    pub(super) fn moved(&mut self, core: &mut Core, remote: SocketAddr) {
        let Some((id, local)) = self.active().map(|found| (found.id, found.path.local)) else { return };
        self.follow_on(core, id, Path { local, remote });
    }

    /// Where a phase 1 begins: behind a NAT the peer is reached where it is now, by the ports that are open (RFC 3947
    /// section 4).
    pub(super) fn way_to_begin(&self, ike_port: u16) -> Path {
        let configured = Path {
            local: (self.config.local, ike_port).into(),
            remote: (self.config.remote, ike_port).into(),
        };
        self.active().filter(|found| found.nat.is_present()).map_or(configured, |found| found.path)
    }

    /// All phase 1 SAs that were on the way of this one go on by the new one, and so do the pairs.
    fn follow_on(&mut self, core: &mut Core, id: IkeSaId, path: Path) {
        let Some(found) = self.phase_ones.get(&id).filter(|found| found.up().is_some()) else { return };
        let (before, nat) = (found.path, found.nat);
        if path == before || !may_follow(nat, before, path) {
            return;
        }
        for found in self.phase_ones.values_mut().filter(|found| found.path == before) {
            found.path = path;
        }
        core.peer_moved(self.id, path);
        if nat.is_present() {
            for spi_in in self.children.keys() {
                let moved = SaOperation::Move { spi_in: *spi_in, path, udp_encapsulation: true };
                core.outputs.push_back(Output::Sa(moved));
            }
        }
    }
}
