//! Responder's SAs that are not authenticated yet: how many there are, of whom, and which came first.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::IkeSaId;

/// Counts that first messages ask for are kept, not counted: no walk over what others have begun.
#[derive(Default)]
pub(crate) struct HalfOpen {
    by_id: BTreeMap<IkeSaId, IpAddr>,
    by_source: BTreeMap<IpAddr, BTreeSet<IkeSaId>>,
}

impl HalfOpen {
    /// Notes an SA; one that is noted stays with the source that it began from.
    pub(crate) fn insert(&mut self, id: IkeSaId, source: IpAddr) {
        if let std::collections::btree_map::Entry::Vacant(place) = self.by_id.entry(id) {
            place.insert(source);
            self.by_source.entry(source).or_default().insert(id);
        }
    }

    pub(crate) fn remove(&mut self, id: IkeSaId) {
        let Some(source) = self.by_id.remove(&id) else { return };
        if let Some(ids) = self.by_source.get_mut(&source) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_source.remove(&source);
            }
        }
    }

    pub(crate) fn contains(&self, id: IkeSaId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// The one that began first.
    pub(crate) fn oldest(&self) -> Option<IkeSaId> {
        // Ids only grow.
        self.by_id.first_key_value().map(|(id, _)| *id)
    }

    pub(crate) fn oldest_of(&self, source: IpAddr) -> Option<IkeSaId> {
        self.by_source.get(&source)?.first().copied()
    }

    pub(crate) fn total(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn of_source(&self, source: IpAddr) -> usize {
        self.by_source.get(&source).map_or(0, BTreeSet::len)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_kept_is_what_a_walk_counts(
            operations in proptest::collection::vec((any::<bool>(), 0..12u64, 0..4u8), 0..80),
        ) {
            let mut half_open = HalfOpen::default();
            let mut known: BTreeMap<u64, u8> = BTreeMap::new();
            for (comes, id, source) in operations {
                if comes {
                    half_open.insert(IkeSaId(id), IpAddr::from([192, 0, 2, source]));
                    known.entry(id).or_insert(source);
                } else {
                    half_open.remove(IkeSaId(id));
                    known.remove(&id);
                }
                prop_assert_eq!(half_open.total(), known.len());
                prop_assert_eq!(half_open.contains(IkeSaId(id)), known.contains_key(&id));
                for source in 0..4 {
                    let walked = known.values().filter(|known| **known == source).count();
                    let address = IpAddr::from([192, 0, 2, source]);
                    prop_assert_eq!(half_open.of_source(address), walked);
                    let oldest = known.iter().find(|(_, known)| **known == source).map(|(id, _)| IkeSaId(*id));
                    prop_assert_eq!(half_open.oldest_of(address), oldest);
                }
                prop_assert_eq!(half_open.oldest(), known.keys().next().map(|id| IkeSaId(*id)));
                let sources: BTreeSet<u8> = known.values().copied().collect();
                prop_assert_eq!(half_open.by_source.len(), sources.len(), "nothing is left behind");
            }
        }
    }
}
