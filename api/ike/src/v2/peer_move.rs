//! A peer whose NAT shows it elsewhere than before (RFC 7296 section 2.23).

use super::core::Core;
use super::established::Established;
use super::nat::Nat;
use super::sa::Ends;
use crate::{Output, Path, SaOperation};

impl Established {
    /// Follows the peer to where an authentic packet, newer than all before it, came from: the IKE SA goes on there, and
    /// so do its pairs.
    pub(crate) fn follow(&self, ends: &mut Ends, core: &mut Core, path: Path) {
        // A peer that can say where it is does so (RFC 4555 section 3.8).
        if ends.mobike || path == ends.path || !may_follow(ends.nat, ends.path, path) {
            return;
        }
        ends.path = path;
        core.peer_moved(ends.connection, path);
        if ends.nat.is_present() {
            for spi_in in self.children.keys() {
                let moved = SaOperation::Move { spi_in: *spi_in, path, udp_encapsulation: true };
                core.outputs.push_back(Output::Sa(moved));
            }
        }
    }
}

/// Whoever can delay a packet could send it on from an address of its own and so lead its receiver astray. Another address
/// is therefore followed only where a NAT stands before the peer and none before us; another port of the same host always,
/// for what comes from there passes by the same way.
pub(crate) fn may_follow(nat: Nat, before: Path, after: Path) -> bool {
    // Encapsulated ESP shares the socket of the SA: it does not leave that.
    let same_socket = !nat.is_present() || before.local == after.local;
    let same_host = before.local.ip() == after.local.ip() && before.remote.ip() == after.remote.ip();
    same_socket && (same_host || (nat.remote && !nat.local))
}
