//! A peer has one key for each of our identities; a key that is shared with everyone is a long one.

use std::collections::BTreeMap;

use super::Violation;
use crate::{Desired, Kind, Peer, Secret};

pub(super) fn check(desired: &Desired, found: &mut Vec<Violation>) {
    let mut seen = BTreeMap::new();
    for (name, key) in &desired.pre_shared_keys {
        let wildcard = matches!(&key.peer, Peer::Prefix(prefix) if prefix.prefix_len() == 0);
        if wildcard && key.key.as_ref().is_some_and(Secret::is_short) {
            let detail = "a key that is shared with every peer must have 20 bytes or more";
            found.push(Violation::new(Kind::PreSharedKey, name, "/key", detail));
        }
        if let Some(other) = seen.insert((&key.peer, &key.local_identity), name) {
            for (this, that) in [(name, other), (other, name)] {
                found.push(Violation::new(
                    Kind::PreSharedKey,
                    this,
                    "/peer",
                    format!("pre-shared-keys/{that} is for the same peer and local identity"),
                ));
            }
        }
    }
}
