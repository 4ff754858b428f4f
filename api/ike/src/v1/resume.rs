//! A phase 1 of an engine before this one, from what that kept of it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::child::ChildSa;
use super::conclusion::Conclusion;
use super::peer::Peer;
use super::phase_one::{Life, PhaseOne, Stage, Up};
use super::proof::Method;
use super::proposals::PhaseOneSuite;
use super::sealed::IvChain;
use super::vendor::Announced;
use crate::crypto::{PhaseOneKeys, Secret};
use crate::engine::Engine;
use crate::exchange::after;
use crate::kept::pair::KeptPair;
use crate::kept::sa::{Clock, KeptSa};
use crate::kept::{ASKED_AGAIN, NOT_ANSWERED};
use crate::v2::core::{Core, Followup};
use crate::wire::{Reader, WireError};
use crate::{Cause, ChildConfig, Event, Group, IkeSaId, ResumablePair};

/// What is due is not begun before the peer has said that it has the phase 1.
const PATIENCE: Duration = Duration::from_secs(10);

/// A phase 1 that may be resumed, once, and the children of its peer.
pub(crate) struct KeptPhaseOne {
    pub(crate) sa: KeptSa,
    keys: PhaseOneKeys,
    suite: PhaseOneSuite,
    aggressive: bool,
    chain: IvChain,
    announced: Announced,
    next_probe: Option<u32>,
    /// The sequence number that the peer was asked with and did not acknowledge.
    asked: Option<u32>,
    probed_with: Option<u32>,
    used_ids: BTreeSet<u32>,
    conclusions: Vec<Conclusion>,
}

/// The peer is asked whether it has a phase 1 of before this engine.
pub(super) struct Question {
    sequence: u32,
    asked: u32,
    wait: Duration,
    at: Instant,
}

impl Question {
    pub(super) fn sequence(&self) -> u32 {
        self.sequence
    }

    /// When it is asked again, or not any more.
    pub(super) fn at(&self) -> Instant {
        self.at
    }
}

impl KeptPhaseOne {
    /// The key of its terms: SKEYID_d.
    pub(crate) fn key_of_terms(&self) -> &Secret {
        self.keys.derive_key()
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let sa = KeptSa::decode(reader)?;
        let (encryption, keys) = PhaseOneKeys::resume(reader)?;
        let group = Group::from_number(reader.u16()?).ok_or(WireError::BadValue)?;
        let method = Method::from_number(reader.u64()?).ok_or(WireError::BadValue)?;
        let suite = PhaseOneSuite { encryption, cipher: keys.cipher, hash: keys.hash, group, method };
        let aggressive = reader.u8()? == 1;
        let chain = IvChain::resumed(&keys, reader.counted()?).ok_or(WireError::BadLength)?;
        let announced = Announced::resume(reader)?;
        let mut number = || -> Result<Option<u32>, WireError> {
            let (given, number) = (reader.u8()? == 1, reader.u32()?);
            Ok(given.then_some(number))
        };
        let (next_probe, asked, probed_with) = (number()?, number()?, number()?);
        let used_ids: Result<_, WireError> = (0..reader.u32()?).map(|_| reader.u32()).collect();
        let conclusions: Result<_, WireError> =
            (0..reader.u32()?).map(|_| Conclusion::decode(reader)).collect();
        Ok(Self {
            sa,
            keys,
            suite,
            aggressive,
            chain,
            announced,
            next_probe,
            asked,
            probed_with,
            used_ids: used_ids?,
            conclusions: conclusions?,
        })
    }

    /// What is there once the peer was authenticated, as it was kept.
    fn up(self, clock: Clock) -> Up {
        let now = clock.now;
        Up {
            suite: self.suite,
            aggressive: self.aggressive,
            keys: self.keys,
            chain: self.chain,
            lowest_nonce: self.sa.lowest_nonce,
            up_at: clock.began(self.sa.age),
            replace_at: clock.due(self.sa.rekey_in).max(after(now, PATIENCE)),
            expires_at: clock.due(self.sa.expires_in),
            peer_certificates: self.sa.peer_certificates,
            review_at: None,
            replaced_at: None,
            life: Life::Active,
            used_ids: self.used_ids,
            heard_at: now,
            probe: None,
            next_probe: self.next_probe,
            probed_with: self.probed_with,
            farewells: Vec::new(),
            question: None,
        }
    }
}

impl Engine {
    /// Goes on with a phase 1; its peer is there already.
    pub(crate) fn resume_phase_one(&mut self, now: Instant, kept: KeptPhaseOne) {
        self.with_peer(now, kept.sa.connection, |peer, core| peer.resume(core, now, kept));
    }

    /// Notes what is to be kept of a peer after a step of it.
    pub(super) fn keep_peer(&mut self, now: Instant, peer: &Peer) {
        let before = self.v1.kept.remove(&peer.id);
        // Without a clock nobody could tell later how much of its lifetime is left.
        let marked = peer.mark().zip(self.core.unix_secs(now));
        let name = marked.as_ref().map(|(mark, _)| mark.name);
        if let Some(gone) = before.as_ref().filter(|before| Some(before.name) != name) {
            self.core.keepings.insert(gone.name, None);
        }
        let Some((mark, unix_secs)) = marked else { return };
        if before.as_ref() != Some(&mark) {
            self.core.keepings.insert(mark.name, peer.keep(now, unix_secs));
        }
        self.v1.kept.insert(peer.id, mark);
    }
}

impl Peer {
    fn resume(&mut self, core: &mut Core, now: Instant, mut kept: KeptPhaseOne) {
        let clock = kept.sa.clock(now, core.unix_secs(now));
        let id = core.new_ike_sa_id();
        for pair in std::mem::take(&mut kept.sa.pairs) {
            let config = self.config.children.iter().find(|config| config.id == pair.pair.child);
            let Some(config) = config.cloned() else { continue };
            let ResumablePair { child, spi_in, sends, .. } = pair.pair;
            core.esp.insert(spi_in, self.holder);
            core.pair_up(child, spi_in, sends);
            // What was made on a phase 1 that is gone is nobody's.
            let made_on = if pair.made_here { id } else { self.holder };
            self.children.insert(spi_in, child_sa(pair, config, clock, made_on));
        }
        let KeptSa { initiator, spis, path, nat, .. } = kept.sa;
        let (announced, asked) = (kept.announced, kept.asked);
        let conclusions = std::mem::take(&mut kept.conclusions);
        let up = kept.up(clock);
        let often = core.limits.retransmit_tries.saturating_mul(2);
        for conclusion in conclusions {
            let quick = conclusion.into_quick(id, &up, clock, often);
            self.quicks.insert(quick.key(), quick);
        }
        let mut found = PhaseOne::new(id, initiator, spis, path, up.up_at, Stage::Up(Box::new(up)));
        (found.nat, found.announced, found.sent_at) = (nat, announced, now);
        core.by_spi.insert(found.our_cookie(), id);
        self.phase_ones.insert(id, found);
        self.ask(core, now, id, asked);
    }

    /// Asks the peer whether it has the phase 1: again, or for the first time.
    fn ask(&mut self, core: &mut Core, now: Instant, id: IkeSaId, asked: Option<u32>) {
        let Some(up) = self.up_of(id) else { return };
        let sequence = asked.unwrap_or_else(|| up.new_probe(&mut core.random));
        let wait = core.limits.retransmit_base;
        up.question = Some(Question { sequence, asked: 0, wait, at: after(now, wait) });
        self.ask_for_life(core, now, id, sequence);
    }

    /// Asks again, or gives the phase 1 up.
    pub(super) fn check_question(&mut self, core: &mut Core, now: Instant, id: IkeSaId) {
        let Some(up) = self.up_of(id) else { return };
        let Some(question) = up.question.as_mut().filter(|question| now >= question.at) else { return };
        if question.asked >= ASKED_AGAIN {
            return self.release(core, now, id);
        }
        question.asked = question.asked.saturating_add(1);
        question.wait = question.wait.mul_f64(1.8);
        question.at = after(now, question.wait);
        let sequence = question.sequence;
        self.ask_for_life(core, now, id, sequence);
    }

    /// The phase 1 that serves may be one that the peer does not have.
    pub(crate) fn awaits_confirmation(&self) -> bool {
        self.active().and_then(PhaseOne::up).is_some_and(|up| up.question.is_some())
    }

    /// The peer has the phase 1.
    pub(super) fn confirm(&mut self, core: &mut Core, id: IkeSaId) {
        if self.up_of(id).is_some_and(|up| up.question.take().is_some()) {
            core.count("ike_sas_resumed");
            core.event(Event::IkeResumed { connection: self.id, ike_sa: id });
            core.followups.push_back(Followup::Ensure(self.id));
        }
    }

    /// The peer no longer has the phase 1, which ends without a word. The pairs that came with it are the host's, until
    /// others take their place.
    fn release(&mut self, core: &mut Core, now: Instant, id: IkeSaId) {
        if let Some(found) = self.phase_ones.get_mut(&id) {
            found.stage = Stage::Closed;
        }
        core.count("ike_sas_not_resumed");
        self.bury(core, now);
        let elsewhere = |child: &ChildSa| self.phase_ones.contains_key(&child.made_on);
        let left: Vec<u32> =
            self.children.values().filter(|child| !elsewhere(child)).map(|child| child.spi_in).collect();
        for spi_in in left {
            if let Some(child) = self.children.remove(&spi_in) {
                core.pair_released(child.config.id, spi_in);
            }
        }
        if self.active().is_none() {
            let cause = Cause::NotResumed { detail: NOT_ANSWERED.to_owned() };
            core.event(Event::IkeDown { connection: self.id, cause, retry_in: None });
        }
        core.followups.push_back(Followup::Ensure(self.id));
    }
}

fn child_sa(kept: KeptPair, config: ChildConfig, clock: Clock, made_on: IkeSaId) -> ChildSa {
    let committed_at = clock.began(kept.age);
    ChildSa {
        config,
        spi_in: kept.pair.spi_in,
        spi_out: kept.pair.spi_out,
        made_on,
        lowest_nonce: kept.lowest_nonce,
        ours: kept.ours,
        begun_at: committed_at,
        committed_at: Some(committed_at),
        told: None,
        send_at: None,
        soft_at: clock.due(kept.soft_in),
        hard_at: clock.due(kept.hard_in),
        review_at: None,
        retire_at: None,
    }
}
