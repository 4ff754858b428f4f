//! A peer has one key for each of our identities.

use std::collections::BTreeMap;

use super::Violation;
use crate::{Desired, Kind};

pub(super) fn check(desired: &Desired, found: &mut Vec<Violation>) {
    let mut seen = BTreeMap::new();
    for (name, key) in &desired.pre_shared_keys {
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
