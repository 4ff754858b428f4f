//! What is kept of an established IKE SA, so that an engine that follows this one goes on with it.
//!
//! The state is written down before a message that rests on it is sent, and once it no longer holds it is taken back
//! before that: whoever reads it finds the two message ids (RFC 7296 section 2.2) where the peer has them. An SA in the
//! middle of an exchange that changes what the two ends have is not kept; a sign of life that was asked for is asked for
//! again, with the same bytes.

use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::child::{ChildSa, ChildState};
use super::established::{Established, Job, Life, Request};
use super::nat::Nat;
use super::sa::Ends;
use crate::crypto::{Datagrams, Secret, prf};
use crate::wire::Writer;
use crate::{ChildConfig, Connection, Hash, LocalProof, Path, RemoteProof};

/// Version of the form. Another one is not read: the SA is negotiated anew.
pub(super) const FORM: u8 = 3;

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
        let mut writer = Writer::with_capacity(self.kept_len_most_bytes(ends));
        writer.u8(FORM);
        writer.u64(ends.connection.0);
        writer.u64(unix_secs);
        self.keys.keep(&mut writer);
        writer.bytes(&terms(&self.keys.derive, &self.config));
        keep_ends(ends, &mut writer);
        writer.counted(&self.lowest_nonce);
        writer.u32(self.send.next_id());
        keep_datagrams(self.send.datagrams().unwrap_or(&Vec::new()), &mut writer);
        writer.u32(self.receive.next_id());
        writer.counted(self.last_request.as_ref().map_or(&[], |digest| digest.as_bytes()));
        keep_datagrams(self.receive.response().unwrap_or(&Vec::new()), &mut writer);
        writer.u64(millis(now.saturating_duration_since(self.established_at)));
        writer.u64(millis(self.rekey_at.saturating_duration_since(now)));
        writer.u64(millis(self.expires_at.saturating_duration_since(now)));
        writer.u32(u32::try_from(self.children.len()).unwrap_or(u32::MAX));
        for child in self.children.values() {
            self.keep_child(child, now, &mut writer);
        }
        Zeroizing::new(writer.into_bytes())
    }

    fn keep_child(&self, child: &ChildSa, now: Instant, writer: &mut Writer) {
        writer.u64(child.id().0);
        writer.bytes(&child_terms(&self.keys.derive, &child.config));
        writer.u32(child.spi_in);
        writer.u32(child.spi_out);
        writer.counted(&child.lowest_nonce);
        writer.u8(u8::from(child.ours));
        writer.u64(millis(child.soft_at.saturating_duration_since(now)));
        writer.u64(millis(child.hard_at.saturating_duration_since(now)));
        // No pair has SPI 0 (RFC 4303 section 2.1).
        writer.u32(child.replaces.unwrap_or(0));
        writer.u32(child.replaced_by.unwrap_or(0));
    }

    /// More than the state takes: the buffer with the keys must not grow by moving.
    fn kept_len_most_bytes(&self, ends: &Ends) -> usize {
        const FIXED: usize = 2048;
        const EACH_CHILD: usize = 512;
        const EACH_DATAGRAM: usize = 8;
        let of_datagrams = |datagrams: Option<&Datagrams>| -> usize {
            datagrams.into_iter().flatten().map(|each| each.len().saturating_add(EACH_DATAGRAM)).sum()
        };
        let certificates = ends.peer_certificates.as_ref().map_or(0, |found| found.kept_len_most_bytes());
        FIXED
            .saturating_add(self.children.len().saturating_mul(EACH_CHILD))
            .saturating_add(of_datagrams(self.send.datagrams()))
            .saturating_add(of_datagrams(self.receive.response()))
            .saturating_add(certificates)
    }
}

fn keep_ends(ends: &Ends, writer: &mut Writer) {
    writer.u8(u8::from(ends.initiator));
    writer.u64(ends.spis.initiator);
    writer.u64(ends.spis.responder);
    for address in [ends.path.local, ends.path.remote] {
        writer.counted(address.to_string().as_bytes());
    }
    let Nat { local, remote, forced } = ends.nat;
    for flag in [local, remote, forced, ends.fragments.agreed, ends.mobike, ends.additional] {
        writer.u8(u8::from(flag));
    }
    match &ends.peer_certificates {
        Some(certificates) => certificates.keep(writer),
        None => writer.u32(0),
    }
}

fn keep_datagrams(datagrams: &Datagrams, writer: &mut Writer) {
    writer.u32(u32::try_from(datagrams.len()).unwrap_or(u32::MAX));
    for datagram in datagrams {
        writer.counted(datagram);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Length of [`terms`] and [`child_terms`].
pub(super) const TERMS_LEN_BYTES: usize = 32;

/// Fingerprint of all under which an IKE SA is made, keyed with SK_d. A program that writes a term in other words than the
/// one before it finds another fingerprint, and negotiates anew.
pub(super) fn terms(sk_d: &Secret, connection: &Connection) -> Secret {
    let Connection { version, local, remote, nat_traversal, proposals, .. } = connection;
    let identities = (&connection.local_identity, &connection.remote_identity);
    let plain = format!("{:?}", (version, local, remote, identities, nat_traversal, proposals)).into_bytes();
    let none: &[u8] = &[];
    let (ours, our_key) = match &connection.authentication.local {
        LocalProof::PreSharedKey(key) => (1, key.0.as_slice()),
        LocalProof::Certificate(_) => (2, none),
    };
    let (theirs, their_key) = match &connection.authentication.remote {
        RemoteProof::PreSharedKey(key) => (1, key.0.as_slice()),
        RemoteProof::Certificate(_) => (2, none),
    };
    let (ppk_id, ppk) =
        connection.ppk.as_ref().map_or((none, none), |ppk| (ppk.id.as_slice(), ppk.key.0.as_slice()));
    let ppk_flags = connection.ppk.as_ref().map_or(0, |ppk| 1_u8.saturating_add(u8::from(ppk.required)));
    let part = |bytes: &[u8]| prf(Hash::Sha2_256, sk_d, &[bytes]);
    let parts = [plain.as_slice(), our_key, their_key, ppk_id, ppk].map(part);
    let [plain, our_key, their_key, ppk_id, ppk] = &parts;
    prf(Hash::Sha2_256, sk_d, &[&[ours, theirs, ppk_flags], plain, our_key, their_key, ppk_id, ppk])
}

/// The same for a child.
pub(super) fn child_terms(sk_d: &Secret, config: &ChildConfig) -> Secret {
    let ChildConfig { id, mode, local_selectors, remote_selectors, proposals, .. } = config;
    let terms = format!("{:?}", (id, mode, local_selectors, remote_selectors, proposals));
    prf(Hash::Sha2_256, sk_d, &[terms.as_bytes()])
}
