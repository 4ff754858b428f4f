//! ICMP errors about packets that go no further.

use packet::header::{icmp, icmpv6, ipv4, ipv6};
use packet::{Classifier, Frame, RouteLookup, Twin};
use shm::Counter;

use crate::outcome::Outcome;
use crate::pipeline::Pipeline;
use crate::work::{LIST_CAPACITY, Origin, Passenger};

impl<F: Frame, R: RouteLookup, C: Classifier> Pipeline<F, R, C> {
    /// Answers an IPv4 packet, if the rules allow it and the budget lasts. The host is answered by the twin that it sent
    /// by, as if by the destination: from one of its own addresses it would take no error.
    #[cold]
    pub(crate) fn answer_v4(
        &mut self,
        about: &F,
        error: icmp::IcmpError,
        from: Twin,
        origin: Origin,
        outcome: &mut Outcome<F>,
    ) {
        let packet = about.bytes();
        let Some(header) = ipv4::Ipv4::parse(packet) else { return };
        if origin == Origin::Local || self.icmp_left == 0 || !icmp::may_answer(packet) {
            return;
        }
        let source = match origin {
            Origin::Host => Some(header.destination()),
            _ => self.tables.locals.nearest_v4(header.source()),
        };
        let mut bytes = [0; icmp::MAX_ERROR_BYTES];
        let Some(source) = source else { return };
        let Some(len) = icmp::write_error(&mut bytes, error, packet, source) else { return };
        self.send_answer(about, bytes.get(..len).unwrap_or_default(), from, origin, outcome);
    }

    /// Answers an IPv6 packet, as [`Pipeline::answer_v4`].
    #[cold]
    pub(crate) fn answer_v6(
        &mut self,
        about: &F,
        error: icmpv6::Icmpv6Error,
        from: Twin,
        origin: Origin,
        outcome: &mut Outcome<F>,
    ) {
        let packet = about.bytes();
        let Some(header) = ipv6::Ipv6::parse(packet) else { return };
        if origin == Origin::Local || self.icmp_left == 0 || !icmpv6::may_answer(packet, error) {
            return;
        }
        let destination = header.destination();
        let source = match origin {
            Origin::Host if !ipv6::is_multicast(&destination) => Some(destination),
            _ => self.tables.locals.nearest_v6(header.source()),
        };
        let mut bytes = [0; icmpv6::MAX_ERROR_BYTES];
        let Some(source) = source else { return };
        let Some(len) = icmpv6::write_error(&mut bytes, error, packet, &source) else { return };
        self.send_answer(about, bytes.get(..len).unwrap_or_default(), from, origin, outcome);
    }

    fn send_answer(&mut self, about: &F, bytes: &[u8], from: Twin, origin: Origin, outcome: &mut Outcome<F>) {
        let Some(mut frame) = about.sibling() else { return };
        let Some(room) = frame.append(bytes.len()) else { return };
        room.copy_from_slice(bytes);
        self.icmp_left -= 1;
        self.shared.count(Counter::IcmpSent, 1);
        if origin == Origin::Host {
            let passenger = Passenger { frame, from, origin: Origin::Local };
            self.punt(passenger, outcome);
        } else if self.lists.replies.len() < LIST_CAPACITY {
            self.lists.replies.push(Passenger { frame, from, origin: Origin::Local });
        }
    }
}
