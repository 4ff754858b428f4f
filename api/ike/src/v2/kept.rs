//! What is kept of an established IKE SA, so that an engine that follows this one goes on with it.
//!
//! The state is written down before a message that rests on it is sent, and once it no longer holds it is taken back
//! before that: whoever reads it finds the two message ids (RFC 7296 section 2.2) where the peer has them. An SA in the
//! middle of an exchange that changes what the two ends have is not kept; a sign of life that was asked for is asked for
//! again, with the same bytes.

use std::time::Instant;

use zeroize::Zeroizing;

use super::child::{ChildSa, ChildState};
use super::established::{Established, Job, Life, Request};
use super::sa::Ends;
use crate::Path;
use crate::crypto::{Datagrams, Secret};
use crate::kept::pair::KeptPair;
use crate::kept::sa::KeptSa;
use crate::kept::terms::terms;
use crate::kept::{FORM, Kept};
use crate::wire::Writer;

/// What the kept state depends on: while it stays, so does what was kept.
#[derive(PartialEq, Eq)]
pub(crate) struct Mark {
    next_ids: (u32, u32),
    path: Path,
    /// Inbound SPIs, with the pair that took the place of each.
    children: Vec<(u32, Option<u32>)>,
}

impl Established {
    /// The mark of what is to be kept; `None` while the SA cannot be resumed from any state.
    pub(crate) fn mark(&self, ends: &Ends) -> Option<Mark> {
        let settled = self.life == Life::Active
            && self.contends_with.is_none()
            && self.theirs.is_none()
            && self.take_over_at.is_none()
            && self.installing.is_empty()
            && !self.children.values().any(|child| child.redundant)
            && !self.receive.is_pending();
        let asks_nothing = matches!(self.send.task(), None | Some(Request::Probe));
        // What time brings again may wait; what the peer is owed may not be forgotten.
        let owes_nothing =
            !self.queue.iter().any(|(_, job)| matches!(job, Job::DeleteChild(_) | Job::DeleteIke));
        let installed = self.children.values().all(|child| child.state == ChildState::Installed);
        (settled && asks_nothing && owes_nothing && installed).then(|| Mark {
            next_ids: (self.send.next_id(), self.receive.next_id()),
            path: ends.path,
            children: self.children.values().map(|child| (child.spi_in, child.replaced_by)).collect(),
        })
    }

    /// The state, in the form that [`super::resume`] reads.
    pub(crate) fn keep(&self, ends: &Ends, now: Instant, unix_secs: u64) -> Secret {
        let key = &self.keys.derive;
        let sa = KeptSa {
            connection: ends.connection,
            kept_unix_secs: unix_secs,
            terms: terms(key, &self.config),
            initiator: ends.initiator,
            spis: ends.spis,
            path: ends.path,
            nat: ends.nat,
            peer_certificates: ends.peer_certificates.clone(),
            lowest_nonce: self.lowest_nonce.clone(),
            age: now.saturating_duration_since(self.established_at),
            rekey_in: self.rekey_at.saturating_duration_since(now),
            expires_in: self.expires_at.saturating_duration_since(now),
            pairs: self.children.values().map(|child| kept_pair(key, child, now)).collect(),
        };
        let len_most_bytes = sa
            .len_most_bytes()
            .saturating_add(len_most_bytes(self.send.datagrams()))
            .saturating_add(len_most_bytes(self.receive.response()));
        let mut writer = Writer::with_capacity(len_most_bytes);
        writer.u8(FORM);
        writer.u8(Kept::VERSION_2);
        sa.encode(&mut writer);
        self.keys.keep(&mut writer);
        for flag in [ends.fragments.agreed, ends.mobike, ends.additional] {
            writer.u8(u8::from(flag));
        }
        writer.u32(self.send.next_id());
        keep_datagrams(self.send.datagrams().unwrap_or(&Vec::new()), &mut writer);
        writer.u32(self.receive.next_id());
        writer.counted(self.last_request.as_ref().map_or(&[], |digest| digest.as_bytes()));
        keep_datagrams(self.receive.response().unwrap_or(&Vec::new()), &mut writer);
        Zeroizing::new(writer.into_bytes())
    }
}

fn kept_pair(key: &Secret, child: &ChildSa, now: Instant) -> KeptPair {
    let kept = KeptPair::new(key, &child.config, child.spi_in, child.spi_out);
    KeptPair {
        lowest_nonce: child.lowest_nonce.clone(),
        ours: child.ours,
        replaces: child.replaces,
        replaced_by: child.replaced_by,
        ..kept.living(now, child.soft_at, child.hard_at)
    }
}

/// More bytes than [`keep_datagrams`] writes.
fn len_most_bytes(datagrams: Option<&Datagrams>) -> usize {
    const EACH_DATAGRAM: usize = 8;
    datagrams.into_iter().flatten().map(|each| each.len().saturating_add(EACH_DATAGRAM)).sum()
}

fn keep_datagrams(datagrams: &Datagrams, writer: &mut Writer) {
    writer.u32(u32::try_from(datagrams.len()).unwrap_or(u32::MAX));
    for datagram in datagrams {
        writer.counted(datagram);
    }
}
