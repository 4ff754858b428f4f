//! A connection of version 1 with all that is there of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::child::ChildSa;
use super::phase_one::{Life, PhaseOne, Stage, Up};
use super::quick::Quick;
use crate::cert::PeerCertificates;
use crate::exchange::after;
use crate::v2::core::{Core, Followup};
use crate::wire::isakmp::Delete;
use crate::{
    Cause, ChildConfig, ChildId, Connection, ConnectionId, Event, IkeSaId, Ikev1, OperationId, Path, Version,
};

/// When the phase 1 SAs of a peer are looked at after a new one came up.
const REVIEW: Duration = Duration::from_secs(5);
/// A peer that has not answered by then did not hear that we have no other SA with it, or does not want to.
const FIRST_CONTACT_PATIENCE: Duration = Duration::from_secs(10);

/// Anyone can send what is complained of, and as often as it pleases.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(10);

/// See the module's documentation.
pub(crate) struct Peer {
    pub(crate) id: ConnectionId,
    /// Under this id the core books the peer's ESP SPIs and operations.
    pub(crate) holder: IkeSaId,
    pub(crate) config: Arc<Connection>,
    pub(crate) phase_ones: BTreeMap<IkeSaId, PhaseOne>,
    /// Quick modes by phase 1 and message id.
    pub(super) quicks: BTreeMap<(IkeSaId, u32), Quick>,
    pub(crate) children: BTreeMap<u32, ChildSa>,
    /// Installs that the dataplane has not answered.
    pub(super) installing: BTreeMap<OperationId, (IkeSaId, u32)>,
    /// When the peer was last heard of authentically.
    pub(super) heard_at: Instant,
    /// When its traffic came last.
    pub(super) traffic_at: Instant,
    /// Where the message at hand came by.
    pub(super) arrival: Path,
    /// When it was said last that a first message in the peer's name has nothing that we accept.
    complained_at: Option<Instant>,
    /// It goes once the peer was told.
    pub(super) leaving: bool,
}

impl Peer {
    pub(crate) fn new(core: &mut Core, now: Instant, config: Arc<Connection>) -> Self {
        let port = core.limits.ike_port;
        let arrival = Path { local: (config.local, port).into(), remote: (config.remote, port).into() };
        Self {
            arrival,
            id: config.id,
            holder: core.new_ike_sa_id(),
            config,
            phase_ones: BTreeMap::new(),
            quicks: BTreeMap::new(),
            children: BTreeMap::new(),
            installing: BTreeMap::new(),
            heard_at: now,
            traffic_at: now,
            complained_at: None,
            leaving: false,
        }
    }

    pub(super) fn options(&self) -> Ikev1 {
        match self.config.version {
            Version::V1(options) => options,
            Version::V2 => Ikev1::default(),
        }
    }

    /// The phase 1 that new exchanges use: the one that came up last.
    pub(crate) fn active(&self) -> Option<&PhaseOne> {
        let active = self.phase_ones.values().filter(|found| found.is_active());
        active.max_by_key(|found| found.up().map(|up| up.up_at))
    }

    /// Whether we may tell the peer that we have no other SA with it (RFC 2407 section 4.6.3.3): it then forgets all others.
    /// Not while it is making one itself, which may come up before it hears of that.
    pub(super) fn is_first_contact(&self, core: &Core) -> bool {
        let may_come_up = |found: &PhaseOne| !found.initiator && !matches!(found.stage, Stage::Refused);
        let of_both = |found: &PhaseOne| found.up().is_some() || may_come_up(found);
        core.limits.initial_contact && self.children.is_empty() && !self.phase_ones.values().any(of_both)
    }

    /// We said that we have no other SA with the peer, and do not know whether it heard. What it makes meanwhile must not
    /// come up before, or it forgets that too.
    pub(super) fn awaits_first_contact(&self, now: Instant) -> bool {
        self.phase_ones.values().any(|found| {
            found.says_first_contact
                && matches!(found.stage, Stage::IdSent(_))
                && now < after(found.created_at, FIRST_CONTACT_PATIENCE)
        })
    }

    /// Whether what stands in the way may be said again.
    pub(super) fn may_complain(&mut self, now: Instant) -> bool {
        let may = self.complained_at.is_none_or(|at| now >= after(at, COMPLAINT_PAUSE));
        if may {
            self.complained_at = Some(now);
        }
        may
    }

    /// What the peer's proofs rest on.
    pub(super) fn certificates(&self) -> impl Iterator<Item = &PeerCertificates> {
        let active = self.phase_ones.values().filter(|found| found.is_active());
        active.filter_map(|found| found.up()?.peer_certificates.as_deref())
    }

    /// Whether we are trying to make a phase 1.
    pub(crate) fn is_trying(&self) -> bool {
        self.phase_ones.values().any(PhaseOne::is_our_attempt)
    }

    /// A quick mode for the child is under way.
    pub(crate) fn is_working_on(&self, child: ChildId) -> bool {
        self.quicks.values().any(|quick| quick.is_about(child))
    }

    /// A phase 1 is up: what it makes needless goes, and what waited for it begins.
    pub(super) fn came_up(&mut self, core: &mut Core, now: Instant, id: IkeSaId, initial_contact: bool) {
        (self.heard_at, self.traffic_at) = (now, now);
        let created_at = self.phase_ones.get(&id).map_or(now, |found| found.created_at);
        if initial_contact {
            self.forget_older(core, created_at, id);
        }
        for (other, found) in &mut self.phase_ones {
            if *other != id && matches!(found.stage, Stage::SaSent { .. } | Stage::AggressiveSent { .. }) {
                found.stage = Stage::Closed;
            }
        }
        let replaces = self.phase_ones.values().any(|found| found.id != id && found.is_active());
        if let Some(state) = core.connections.get_mut(self.id) {
            state.backoff.clear();
        }
        if replaces {
            if let Some(up) = self.phase_ones.get_mut(&id).and_then(PhaseOne::up_mut) {
                up.review_at = Some(after(now, REVIEW));
            }
            core.event(Event::IkeRekeyed { connection: self.id, ike_sa: id });
        } else {
            let up = self.phase_ones.get(&id).and_then(PhaseOne::up);
            let insecure = up.map(|up| up.insecurities()).unwrap_or_default();
            core.event(Event::IkeUp { connection: self.id, ike_sa: id, insecure });
        }
        core.followups.push_back(Followup::Ensure(self.id));
    }

    /// The peer has nothing of what was there before `created_at` (RFC 2407 section 4.6.3.3).
    pub(super) fn forget_older(&mut self, core: &mut Core, created_at: Instant, survivor: IkeSaId) {
        for found in self.phase_ones.values_mut() {
            if found.id != survivor && found.up().is_some_and(|up| up.up_at < created_at) {
                core.count("forgotten_by_initial_contact");
                found.stage = Stage::Closed;
            }
        }
        let older: Vec<u32> = self
            .children
            .values()
            .filter(|child| child.committed_at.is_some_and(|committed| committed < created_at))
            .map(|child| child.spi_in)
            .collect();
        for spi_in in older {
            self.forget_child(core, spi_in, Cause::DeletedByPeer);
        }
    }

    /// Of several phase 1 SAs one serves: the newest, or, of two that both ends made at once, the one with the higher
    /// nonces.
    pub(super) fn review_phase_ones(&mut self, core: &mut Core, now: Instant) {
        let facts = |found: &PhaseOne| {
            found
                .up()
                .map(|up| (found.id, up.up_at, found.created_at, found.initiator, up.lowest_nonce.clone()))
        };
        let active = || self.phase_ones.values().filter(|found| found.is_active());
        let winner = active().filter_map(facts).reduce(|best, next| {
            let (newer, older) = if next.1 >= best.1 { (next, best) } else { (best, next) };
            let met = newer.2 < older.1 && newer.3 != older.3;
            if !met || newer.4 > older.4 { newer } else { older }
        });
        let Some((winner, _, _, ours, _)) = winner else { return };
        let until = after(now, core.limits.phase_one_linger);
        for found in self.phase_ones.values_mut() {
            let id = found.id;
            if let Some(up) = found.up_mut().filter(|up| id != winner && up.life == Life::Active) {
                up.life = Life::Retiring(until);
                up.replaced_at = Some(now);
            }
        }
        // Its initiator first, lest both do.
        if ours {
            self.renew_children(core, now);
        }
    }

    /// Makes anew what was made on a phase 1 in whose place another one serves. There are peers at which children end with
    /// the phase 1 that they belong to, without a word, and which that is they alone know: strongSwan moves them to the
    /// next one that is begun by us or instead of the old one, and to no other.
    fn renew_children(&mut self, core: &mut Core, now: Instant) {
        // What came later the peer made on the one that it thinks will stay.
        let left_behind = |child: &&ChildSa| {
            let up = self.phase_ones.get(&child.made_on).and_then(PhaseOne::up);
            up.filter(|up| matches!(up.life, Life::Retiring(_)))
                .is_some_and(|up| child.is_current() && child.committed_at <= up.replaced_at)
        };
        let left: Vec<(u32, ChildId)> =
            self.children.values().filter(left_behind).map(|child| (child.spi_in, child.config.id)).collect();
        for (spi_in, id) in left {
            self.rekey_child(core, now, spi_in, id);
        }
    }

    /// A phase 1 in whose place another one serves has been kept long enough, unless a child still belongs to it. If the peer
    /// made one on it meanwhile, the two ends chose differently: their nonces decide, which both know.
    pub(super) fn retire(&mut self, core: &mut Core, now: Instant, id: IkeSaId) {
        let Some(up) = self.phase_ones.get(&id).and_then(PhaseOne::up) else { return };
        let left = || self.children.values().filter(|child| child.is_current() && child.made_on == id);
        if left().next().is_none() {
            return self.end_phase_one(core, now, id);
        }
        let chosen_by_peer = left().any(|child| child.committed_at > up.replaced_at);
        let nonce = |found: &PhaseOne| found.up().map(|up| up.lowest_nonce.clone());
        let stays = chosen_by_peer && self.active().and_then(nonce) < Some(up.lowest_nonce.clone());
        let until = after(now, core.limits.phase_one_linger);
        for found in self.phase_ones.values_mut() {
            let serves = found.id == id && stays;
            let makes_way = found.id == id || (stays && found.is_active());
            let Some(up) = found.up_mut() else { continue };
            if serves {
                (up.life, up.replaced_at) = (Life::Active, None);
            } else if makes_way {
                (up.life, up.replaced_at) = (Life::Retiring(until), Some(now));
            }
        }
        self.renew_children(core, now);
    }

    /// Ends a phase 1 and tells the peer; the word is repeated for a while.
    pub(super) fn end_phase_one(&mut self, core: &mut Core, now: Instant, id: IkeSaId) {
        const ENDING: Duration = Duration::from_secs(10);
        let Some(found) = self.phase_ones.get_mut(&id) else { return };
        let cookies = (found.cookies.initiator, found.cookies.responder);
        match &mut found.stage {
            Stage::Up(up) => {
                up.life = Life::Ending(after(now, ENDING));
                (up.probe, up.question) = (None, None);
                self.say_deleted_on(core, now, id, &Delete::Isakmp(vec![cookies]));
            }
            stage => *stage = Stage::Closed,
        }
        self.drop_quicks_of(core, now, id);
    }

    /// Quick modes of a phase 1 that is gone are gone too.
    pub(super) fn drop_quicks_of(&mut self, core: &mut Core, now: Instant, id: IkeSaId) {
        let gone: Vec<_> = self.quicks.keys().filter(|(of, _)| *of == id).copied().collect();
        for key in gone {
            if let Some(quick) = self.quicks.remove(&key) {
                self.abandon(core, now, quick, Cause::DeletedByPeer);
            }
        }
    }

    /// Forgets phase 1 SAs that are closed; says so when it was the last that was up.
    pub(crate) fn bury(&mut self, core: &mut Core, now: Instant) {
        let closed: Vec<IkeSaId> = self
            .phase_ones
            .values()
            .filter(|found| matches!(found.stage, Stage::Closed))
            .map(|found| found.id)
            .collect();
        for id in closed {
            if let Some(gone) = self.phase_ones.remove(&id) {
                core.by_spi.remove(&gone.our_cookie());
            }
            self.drop_quicks_of(core, now, id);
        }
        // One that was to make way for another that is gone serves again.
        if self.active().is_none() {
            let retiring = self.phase_ones.values_mut().filter_map(PhaseOne::up_mut);
            let retiring = retiring.filter(|up| matches!(up.life, Life::Retiring(_)));
            if let Some(up) = retiring.max_by_key(|up| up.up_at) {
                up.life = Life::Active;
            }
        }
    }

    /// All phase 1 SAs and children are to go: `told` says whether the peer is told.
    pub(crate) fn end(&mut self, core: &mut Core, now: Instant, cause: &Cause, told: bool) {
        let was_up = self.active().is_some();
        for spi_in in self.children.keys().copied().collect::<Vec<_>>() {
            if told {
                self.delete_child(core, now, spi_in, cause.clone());
            } else {
                self.forget_child(core, spi_in, cause.clone());
            }
        }
        let was_trying = self.is_trying();
        for id in self.phase_ones.keys().copied().collect::<Vec<_>>() {
            if told {
                self.end_phase_one(core, now, id);
            } else if let Some(found) = self.phase_ones.get_mut(&id) {
                found.stage = Stage::Closed;
            }
        }
        self.bury(core, now);
        if was_up || was_trying {
            self.down(core, now, cause.clone());
        }
    }

    /// There is no phase 1 any more, or none came up.
    pub(super) fn down(&mut self, core: &mut Core, now: Instant, cause: Cause) {
        if self.active().is_some() {
            return;
        }
        let requested = cause == Cause::Requested;
        let retry_in = core.connections.get_mut(self.id).and_then(|state| {
            let wanted = state.wanted().next().is_some();
            let wait = state.backoff.failed(now, &core.limits, &mut core.random);
            (wanted && !requested).then_some(wait)
        });
        core.event(Event::IkeDown { connection: self.id, cause, retry_in });
        core.followups.push_back(Followup::Ensure(self.id));
    }

    /// An attempt of ours came to nothing. Children that nobody vouches for any more go with it.
    pub(super) fn attempt_failed(&mut self, core: &mut Core, now: Instant, id: IkeSaId, cause: Cause) {
        if let Some(found) = self.phase_ones.get_mut(&id) {
            found.stage = Stage::Closed;
        }
        if self.active().is_none() {
            let dead = matches!(cause, Cause::NoAnswer { .. }) && self.config.dpd.is_some();
            let silent = now.saturating_duration_since(self.heard_at);
            let patience = self.config.dpd.map(|dpd| dpd.interval).unwrap_or_default();
            if dead && silent > patience {
                for spi_in in self.children.keys().copied().collect::<Vec<_>>() {
                    self.forget_child(core, spi_in, Cause::PeerDead { silent_secs: silent.as_secs() });
                }
            }
            self.down(core, now, cause);
        }
        self.bury(core, now);
    }

    /// Brings the children in line with the connection as it is now.
    pub(crate) fn follow(&mut self, core: &mut Core, now: Instant, config: &Arc<Connection>) {
        self.config = Arc::clone(config);
        self.complained_at = None;
        let same = |kept: &ChildConfig, running: &ChildConfig| crate::keeper::is_same_child(kept, running);
        let changed: Vec<u32> = self
            .children
            .values()
            .filter(|child| !config.children.iter().any(|kept| same(kept, &child.config)))
            .map(|child| child.spi_in)
            .collect();
        for spi_in in changed {
            self.delete_child(core, now, spi_in, Cause::Requested);
        }
    }

    pub(super) fn up_of(&mut self, id: IkeSaId) -> Option<&mut Up> {
        self.phase_ones.get_mut(&id).and_then(PhaseOne::up_mut)
    }
}
