//! What is kept of a peer's phase 1 and children, so that an engine that follows this one goes on with them.
//!
//! It is kept while nothing is open that changes what the two ends have: one phase 1 serves, no other is made or makes way,
//! each child has one pair, no quick mode waits for a message, and the peer is owed no DELETE. A peer that cannot be asked
//! whether it lives (RFC 3706) could not say that it still has the phase 1: nothing is kept of it.
//!
//! All message ids that were used are kept too, of both ends: what was said before is refused after it as before it, and
//! as no id is used twice (RFC 2408 section 3.1), no IV is. The peer's last message of a quick mode that we concluded is
//! kept with its answer, for it says that our last message was lost.

use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::child::ChildSa;
use super::conclusion::Conclusion;
use super::peer::Peer;
use super::phase_one::{Life, PhaseOne, Probe, Up};
use super::quick::Step;
use crate::crypto::Secret;
use crate::kept::pair::KeptPair;
use crate::kept::sa::KeptSa;
use crate::kept::terms::terms;
use crate::kept::{FORM, Kept};
use crate::wire::Writer;
use crate::{IkeSaId, Path};

/// What the kept state depends on: while it stays, so does what was kept.
#[derive(PartialEq, Eq)]
pub(crate) struct Mark {
    /// What the state is kept under: our cookie.
    pub(crate) name: u64,
    /// Ids are only ever added.
    used_ids: usize,
    path: Path,
    children: Vec<u32>,
}

impl Peer {
    /// The mark of what is to be kept; `None` while nothing can be resumed from any state.
    pub(crate) fn mark(&self) -> Option<Mark> {
        let (found, up) = self.resumable()?;
        let settled = self.quicks.values().all(|quick| matches!(quick.step, Step::Concluded { .. }))
            && self.installing.is_empty()
            && self.children.values().all(ChildSa::is_settled);
        settled.then(|| Mark {
            name: found.our_cookie(),
            used_ids: up.used_ids.len(),
            path: found.path,
            children: self.children.keys().copied().collect(),
        })
    }

    /// The only phase 1 that is up, if the peer could vouch for it and is owed nothing on it.
    fn resumable(&self) -> Option<(&PhaseOne, &Up)> {
        let mut up = self.phase_ones.values().filter_map(|found| Some((found, found.up()?)));
        let (found, only) = up.next().filter(|_| !self.leaving && !self.is_trying())?;
        let serves = only.life == Life::Active && only.farewells.is_empty() && found.announced.dpd;
        (up.next().is_none() && serves).then_some((found, only))
    }

    /// The state, in the form that [`super::resume`] reads.
    pub(crate) fn keep(&self, now: Instant, unix_secs: u64) -> Option<Secret> {
        let (found, up) = self.resumable()?;
        let key = up.keys.derive_key();
        let sa = KeptSa {
            connection: self.id,
            kept_unix_secs: unix_secs,
            terms: terms(key, &self.config),
            initiator: found.initiator,
            spis: found.cookies,
            path: found.path,
            nat: found.nat,
            peer_certificates: up.peer_certificates.clone(),
            lowest_nonce: up.lowest_nonce.clone(),
            age: now.saturating_duration_since(up.up_at),
            rekey_in: up.replace_at.saturating_duration_since(now),
            expires_in: up.expires_at.saturating_duration_since(now),
            pairs: self.children.values().map(|child| kept_pair(key, child, found.id, now)).collect(),
        };
        let conclusions: Vec<Conclusion> =
            self.quicks.values().filter_map(|quick| Conclusion::of(quick, now)).collect();
        let mut writer = Writer::with_capacity(len_most_bytes(&sa, up, &conclusions));
        writer.u8(FORM);
        writer.u8(Kept::VERSION_1);
        sa.encode(&mut writer);
        up.keys.keep(up.suite.encryption, &mut writer);
        writer.u16(up.suite.group.number());
        writer.u64(up.suite.method.number());
        writer.u8(u8::from(up.aggressive));
        writer.counted(up.chain.as_bytes());
        found.announced.keep(&mut writer);
        let asked = up.probe.as_ref().map(|Probe { sequence, .. }| *sequence);
        let asked = asked.or_else(|| up.question.as_ref().map(|question| question.sequence()));
        for number in [up.next_probe, asked, up.probed_with] {
            writer.u8(u8::from(number.is_some()));
            writer.u32(number.unwrap_or(0));
        }
        writer.u32(u32::try_from(up.used_ids.len()).unwrap_or(u32::MAX));
        for id in &up.used_ids {
            writer.u32(*id);
        }
        writer.u32(u32::try_from(conclusions.len()).unwrap_or(u32::MAX));
        for conclusion in &conclusions {
            conclusion.encode(&mut writer);
        }
        Some(Zeroizing::new(writer.into_bytes()))
    }
}

fn kept_pair(key: &Secret, child: &ChildSa, phase_one: IkeSaId, now: Instant) -> KeptPair {
    let kept = KeptPair::new(key, &child.config, child.spi_in, child.spi_out);
    KeptPair {
        lowest_nonce: child.lowest_nonce.clone(),
        ours: child.ours,
        age: child.committed_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at)),
        made_here: child.made_on == phase_one,
        ..kept.living(now, child.soft_at, child.hard_at)
    }
}

/// More than the state takes: the buffer with the keys must not grow by moving.
fn len_most_bytes(sa: &KeptSa, up: &Up, conclusions: &[Conclusion]) -> usize {
    const EACH_ID: usize = 4;
    let conclusions = conclusions.iter().map(Conclusion::len_most_bytes);
    sa.len_most_bytes()
        .saturating_add(up.used_ids.len().saturating_mul(EACH_ID))
        .saturating_add(conclusions.fold(0, usize::saturating_add))
}
