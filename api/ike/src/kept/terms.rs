//! Fingerprints of what an IKE SA and its children were agreed under, keyed with a secret of the SA.

use crate::crypto::{Secret, prf};
use crate::{ChildConfig, Connection, Hash, LocalProof, RemoteProof};

/// Fingerprint of all under which an IKE SA is made, keyed with SK_d or SKEYID_d. A program that writes a term in other
/// words than the one before it finds another fingerprint, and negotiates anew.
pub(crate) fn terms(key: &Secret, connection: &Connection) -> Secret {
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
    let part = |bytes: &[u8]| prf(Hash::Sha2_256, key, &[bytes]);
    let parts = [plain.as_slice(), our_key, their_key, ppk_id, ppk].map(part);
    let [plain, our_key, their_key, ppk_id, ppk] = &parts;
    prf(Hash::Sha2_256, key, &[&[ours, theirs, ppk_flags], plain, our_key, their_key, ppk_id, ppk])
}

/// The same for a child.
pub(crate) fn child_terms(key: &Secret, config: &ChildConfig) -> Secret {
    let ChildConfig { id, mode, tunnel_fallback, local_selectors, remote_selectors, proposals, .. } = config;
    let terms = format!("{:?}", (id, mode, tunnel_fallback, local_selectors, remote_selectors, proposals));
    prf(Hash::Sha2_256, key, &[terms.as_bytes()])
}
