//! The initiator's half of MOBIKE (RFC 4555 section 3.5), which the engine never speaks of itself: for simulations, in
//! which a peer must move.

use std::time::Instant;

use super::core::Core;
use super::established::{Established, Request};
use super::nat;
use super::sa::Ends;
use crate::wire::registry::notify;
use crate::wire::{Notify, Payload};
use crate::{Output, Path, SaOperation};

impl Established {
    /// We are elsewhere: what is sent from now on goes from there, a question that is out included.
    pub(crate) fn go_elsewhere(&mut self, ends: &mut Ends, core: &mut Core, now: Instant, path: Path) {
        ends.path = path;
        if let Some(asked) = self.send.retransmission() {
            asked.begin_anew(now, &core.limits);
        }
        for spi_in in self.children.keys() {
            let udp_encapsulation = ends.nat.is_present();
            core.outputs.push_back(Output::Sa(SaOperation::Move {
                spi_in: *spi_in,
                path,
                udp_encapsulation,
            }));
        }
    }

    /// Tells the peer, which proves by the cookie that the answer is to this; false while another question is out.
    pub(crate) fn tell_where(&mut self, ends: &Ends, core: &mut Core, now: Instant) -> bool {
        if !self.send.is_idle() || !self.is_active() {
            return false;
        }
        let mut payloads = vec![
            Payload::Notify(Notify::new(notify::UPDATE_SA_ADDRESSES, Vec::new())),
            Payload::Notify(Notify::new(notify::COOKIE2, core.random.array::<16>().to_vec())),
        ];
        payloads.extend(nat::payloads(ends.spis, ends.path, ends.nat.forced));
        self.request(ends, core, now, &payloads, Request::Probe);
        true
    }
}
