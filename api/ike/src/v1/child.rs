//! Pairs of ESP SAs: which one serves, and when the others go.
//!
//! Version 1 has no word for "this replaces that": a new pair of a child replaces the older ones. Only where both ends
//! made one at once, each before it knew of the other's, is there a choice, and the higher nonces win. What lost is
//! still received on for a while, then deleted; if the peer has had it last, not before there is one more pair, for
//! peers that know nothing of nonces hold on to that.
//!
//! Nor does version 1 say when a responder receives on a pair: some do once they have answered, some only when message 3
//! has come (RFC 2409 section 5.5). Who asked goes on sending on the old pair until the new one is seen to work.

use std::time::{Duration, Instant};

use super::peer::Peer;
use crate::exchange::after;
use crate::v2::core::Core;
use crate::wire::isakmp::Delete;
use crate::{Cause, ChildConfig, ChildId, Event, IkeSaId};

/// When the pairs of a child are looked at after a new one came.
const REVIEW: Duration = Duration::from_secs(3);
/// How long after message 3 a responder that sends nothing has the pair for sure.
const TAKEN_IN: Duration = Duration::from_secs(1);
/// How long after its quick mode a peer has surely judged what only it can judge, and told.
const PEER_JUDGES: Duration = Duration::from_secs(20);
/// How long after the review a pair that settles what the two ends may see differently is begun at the latest.
const ANEW: Duration = Duration::from_secs(1);
/// How long a pair that lost is kept after the review.
const RETIREMENT: Duration = Duration::from_secs(5);

/// A pair, without its keys: those went to the dataplane.
pub(crate) struct ChildSa {
    pub(super) config: ChildConfig,
    pub(super) spi_in: u32,
    pub(super) spi_out: u32,
    /// The phase 1 that it was made on.
    pub(super) made_on: IkeSaId,
    pub(super) lowest_nonce: Vec<u8>,
    /// We asked for it.
    pub(super) ours: bool,
    /// When its quick mode began.
    pub(super) begun_at: Instant,
    /// When both ends had it.
    pub(super) committed_at: Option<Instant>,
    /// When we first and last said what makes it the peer's: message 2 of a quick mode that it asked for, message 3 of ours.
    pub(super) told: Option<(Instant, Instant)>,
    /// Traffic moves to it then, or before if the responder sends on it.
    pub(super) send_at: Option<Instant>,
    pub(super) soft_at: Instant,
    pub(super) hard_at: Instant,
    pub(super) review_at: Option<Instant>,
    pub(super) retire_at: Option<Instant>,
}

impl ChildSa {
    /// It may be rekeyed.
    pub(super) fn is_current(&self) -> bool {
        self.committed_at.is_some() && self.retire_at.is_none()
    }

    /// Both ends have it, and it is the only one of its child: nothing is to happen to it but with time.
    pub(super) fn is_settled(&self) -> bool {
        self.is_current() && self.send_at.is_none() && self.review_at.is_none()
    }

    /// We had asked for it before the peer's was there, and the peer's was there first. Whether the peer heard of ours before
    /// or after its own was made, it alone knows.
    fn is_judged_by_peer(&self, other: &Self) -> bool {
        let first = other.committed_at.filter(|there| self.committed_at.is_some_and(|mine| *there <= mine));
        self.ours && !other.ours && first.is_some_and(|there| self.begun_at < there)
    }

    /// Of the two, the peer may have had this one last: there are peers for which that one counts, whatever the nonces are.
    /// libreswan that is told to delete it goes without any until it has made another.
    fn may_be_peers_newest(&self, other: &Self) -> bool {
        self.told.zip(other.told).is_some_and(|((_, last), (first, _))| last >= first)
    }

    /// Whether it takes the place of `other`, once both are there: the newer one does, unless the two ends asked for them at
    /// once. strongSwan has no such exception: it stops sending on the older one as soon as it is asked for another.
    fn supersedes(&self, other: &Self) -> bool {
        let (Some(mine), Some(theirs)) = (self.committed_at, other.committed_at) else { return false };
        let (newer, older) = if mine >= theirs { (self, other) } else { (other, self) };
        let met = !newer.ours && older.ours && older.committed_at.is_some_and(|there| newer.begun_at < there);
        let newer_wins = !met || newer.lowest_nonce > older.lowest_nonce;
        newer_wins == (newer.spi_in == self.spi_in)
    }
}

impl Peer {
    /// Both ends have the pair: it serves from now on.
    pub(super) fn commit(&mut self, core: &mut Core, now: Instant, spi_in: u32) {
        let Some(child) = self.children.get_mut(&spi_in).filter(|child| child.committed_at.is_none()) else {
            return;
        };
        child.committed_at = Some(now);
        let (id, ours) = (child.config.id, child.ours);
        if let Some(state) = core.connections.get_mut(self.id) {
            state.want(id).backoff.clear();
        }
        let older = self
            .children
            .values()
            .filter(|other| other.config.id == id && other.spi_in != spi_in && other.is_current())
            .max_by_key(|other| other.committed_at)
            .map(|other| other.spi_in);
        if !ours || older.is_none() {
            core.switch_outbound(id, spi_in);
        }
        match older {
            None => core.event(Event::ChildUp { child: id, spi_in }),
            Some(replaced) => {
                if let Some(child) = self.children.get_mut(&spi_in) {
                    child.send_at = ours.then(|| after(now, TAKEN_IN));
                    child.review_at = Some(after(now, REVIEW));
                }
                core.event(Event::ChildRekeyed { child: id, spi_in, replaced });
            }
        }
    }

    /// The peer gets what makes a pair its own, for the first time or once more: it did not have it before. As a responder it
    /// then does not receive on it yet.
    pub(super) fn told(&mut self, now: Instant, spi_in: u32) {
        if let Some(child) = self.children.get_mut(&spi_in) {
            child.told = Some((child.told.map_or(now, |(first, _)| first), now));
            child.send_at = child.send_at.map(|_| after(now, TAKEN_IN));
            if child.retire_at.take().is_some() {
                // So late, it becomes the peer's newest.
                child.review_at = Some(now);
            }
        }
    }

    /// The responder has the pair.
    fn taken_in(&mut self, core: &mut Core, spi_in: u32) {
        let Some(child) = self.children.get_mut(&spi_in) else { return };
        if child.send_at.take().is_some() {
            core.switch_outbound(child.config.id, spi_in);
        }
    }

    /// One pair of the child serves; the others go when nothing more can come on them. If the peer may prefer one of these, a
    /// new one is made first, in whose favour both must judge.
    fn review(&mut self, core: &mut Core, now: Instant, id: ChildId) {
        let rivals = || self.children.values().filter(|child| child.config.id == id && child.is_current());
        let winner = rivals().reduce(|best, next| if next.supersedes(best) { next } else { best });
        let Some(winner) = winner else { return };
        let (spi_in, awaited) = (winner.spi_in, winner.send_at.is_some());
        let until = winner.committed_at.map(|there| after(there, PEER_JUDGES)).filter(|until| now < *until);
        let (contested, lost): (Vec<&ChildSa>, Vec<&ChildSa>) = rivals()
            .filter(|child| child.spi_in != spi_in)
            .partition(|child| until.is_some() && winner.is_judged_by_peer(child));
        let again = until.filter(|_| !contested.is_empty());
        let (preferred, lost): (Vec<&ChildSa>, Vec<&ChildSa>) =
            lost.into_iter().partition(|child| child.may_be_peers_newest(winner));
        let [preferred, lost] =
            [preferred, lost].map(|found| found.into_iter().map(|child| child.spi_in).collect::<Vec<_>>());
        if !awaited {
            core.switch_outbound(id, spi_in);
        }
        for child in self.children.values_mut() {
            if lost.contains(&child.spi_in) {
                (child.send_at, child.retire_at) = (None, Some(after(now, RETIREMENT)));
            } else if preferred.contains(&child.spi_in) {
                // Not at the same time as the peer, if it sees the same.
                (child.send_at, child.soft_at) = (None, after(now, core.random.shortened(ANEW, 100)));
            } else if child.spi_in == spi_in {
                child.review_at = child.review_at.or(again);
            }
        }
    }

    /// Does what is due for the pairs.
    pub(super) fn check_children(&mut self, core: &mut Core, now: Instant) {
        let due = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        let taken_in = self.children.values().filter(|child| due(child.send_at)).map(|child| child.spi_in);
        for spi_in in taken_in.collect::<Vec<_>>() {
            self.taken_in(core, spi_in);
        }
        let to_review: Vec<ChildId> = self
            .children
            .values_mut()
            .filter(|child| due(child.review_at))
            .map(|child| {
                child.review_at = None;
                child.config.id
            })
            .collect();
        for id in to_review {
            self.review(core, now, id);
        }
        let over: Vec<u32> = self
            .children
            .values()
            .filter(|child| now >= child.hard_at || due(child.retire_at))
            .map(|child| child.spi_in)
            .collect();
        for spi_in in over {
            self.delete_child(core, now, spi_in, Cause::Expired);
        }
        let soft: Vec<(u32, ChildId)> = self
            .children
            .values()
            .filter(|child| child.is_current() && now >= child.soft_at)
            .map(|child| (child.spi_in, child.config.id))
            .collect();
        for (spi_in, id) in soft {
            self.rekey_child(core, now, spi_in, id);
        }
    }

    /// Begins a quick mode that will replace the pair; what fails is tried again until the hard limit.
    pub(crate) fn rekey_child(&mut self, core: &mut Core, now: Instant, spi_in: u32, id: ChildId) {
        const AGAIN: Duration = Duration::from_secs(20);
        if let Some(child) = self.children.get_mut(&spi_in) {
            child.soft_at = after(now, core.random.shortened(AGAIN, 50)).min(child.hard_at);
        }
        if self.is_working_on(id) || self.awaits_confirmation() {
            return;
        }
        if !self.begin_quick(core, now, id) {
            // Without a phase 1 there is first one to make.
            self.begin_phase_one(core, now);
        }
    }

    /// The pair with this inbound SPI was used by the peer.
    pub(crate) fn first_packet(&mut self, core: &mut Core, now: Instant, spi_in: u32) {
        self.heard_traffic(now);
        // Whoever sends on it has it.
        self.commit(core, now, spi_in);
        self.taken_in(core, spi_in);
    }

    /// Takes a pair out and tells the peer.
    pub(crate) fn delete_child(&mut self, core: &mut Core, now: Instant, spi_in: u32, cause: Cause) {
        if self.children.contains_key(&spi_in) {
            self.forget_child(core, spi_in, cause);
            self.say_deleted(core, now, &Delete::Esp(vec![spi_in]));
        }
    }

    /// Takes a pair out.
    pub(super) fn forget_child(&mut self, core: &mut Core, spi_in: u32, cause: Cause) {
        let Some(child) = self.children.remove(&spi_in) else { return };
        let id = child.config.id;
        let current = self.children.values().filter(|other| other.config.id == id && other.is_current());
        let heir = current.max_by_key(|other| other.committed_at).map(|other| other.spi_in);
        let linger = core.limits.linger;
        if core.pair_down(id, spi_in, heir, linger) {
            core.child_down(self.id, id, cause);
        }
    }

    /// The peer deleted the pair on which it receives with this SPI.
    pub(super) fn deleted_by_peer(&mut self, core: &mut Core, spi_out: u32) {
        let found = self.children.values().find(|child| child.spi_out == spi_out).map(|child| child.spi_in);
        if let Some(spi_in) = found {
            self.forget_child(core, spi_in, Cause::DeletedByPeer);
        }
    }
}
