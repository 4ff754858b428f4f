//! A hash map for the fast path: open addressing, linear probing, no pointer, deletion without tombstones.

/// A key: its bits are spread by multiplication.
pub(crate) trait FlatKey: Copy + Eq + Default {
    /// A number whose high bits differ between keys.
    fn hash(self) -> u64;
}

const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl FlatKey for u32 {
    #[inline]
    fn hash(self) -> u64 {
        u64::from(self).wrapping_mul(SPREAD)
    }
}

impl FlatKey for u128 {
    #[inline]
    fn hash(self) -> u64 {
        ((self as u64).wrapping_mul(SPREAD).rotate_left(32) ^ (self >> 64) as u64).wrapping_mul(SPREAD)
    }
}

const VACANT: u32 = u32::MAX;

/// From keys to slots (any `u32` but the largest).
#[derive(Debug)]
pub(crate) struct FlatMap<K> {
    entries: Box<[(K, u32)]>,
    len: usize,
    shift: u32,
}

impl<K: FlatKey> FlatMap<K> {
    /// A map for up to `most` entries, at most half full.
    pub(crate) fn new(most: usize) -> Self {
        let size = (most.max(1) * 2).next_power_of_two();
        Self {
            entries: vec![(K::default(), VACANT); size].into_boxed_slice(),
            len: 0,
            shift: 64 - size.trailing_zeros(),
        }
    }

    /// The slot of a key.
    #[inline]
    pub(crate) fn find(&self, key: K) -> Option<u32> {
        let mask = self.entries.len() - 1;
        let mut at = self.home(key);
        // A map at most half full ends every probe at a vacant entry.
        while let Some((known, slot)) = self.entries.get(at & mask) {
            if *slot == VACANT {
                return None;
            }
            if *known == key {
                return Some(*slot);
            }
            at += 1;
        }
        None
    }

    /// Inserts a key, or replaces its slot; `false` when the map is full.
    pub(crate) fn insert(&mut self, key: K, slot: u32) -> bool {
        let mask = self.entries.len() - 1;
        let mut at = self.home(key) & mask;
        while self.entries[at].1 != VACANT {
            if self.entries[at].0 == key {
                self.entries[at].1 = slot;
                return true;
            }
            at = (at + 1) & mask;
        }
        if self.len * 2 >= self.entries.len() {
            return false;
        }
        self.entries[at] = (key, slot);
        self.len += 1;
        true
    }

    /// Removes a key and moves those behind it up, so that no probe breaks.
    pub(crate) fn remove(&mut self, key: K) {
        let mask = self.entries.len() - 1;
        let mut at = self.home(key) & mask;
        loop {
            match self.entries[at] {
                (_, VACANT) => return,
                (known, _) if known == key => break,
                _ => at = (at + 1) & mask,
            }
        }
        self.len -= 1;
        let mut hole = at;
        let mut next = (at + 1) & mask;
        while self.entries[next].1 != VACANT {
            let home = self.home(self.entries[next].0) & mask;
            // An entry may move into the hole if its home is not between the hole and itself.
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask) {
                self.entries[hole] = self.entries[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.entries[hole].1 = VACANT;
    }

    #[inline]
    fn home(&self, key: K) -> usize {
        (key.hash() >> self.shift) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn agrees_with_a_tree(steps in proptest::collection::vec((0u32..40, 0u32..9, any::<bool>()), 1..200)) {
            let mut map = FlatMap::new(16);
            let mut model = BTreeMap::new();
            for (key, slot, insert) in steps {
                if insert {
                    if map.insert(key, slot) {
                        model.insert(key, slot);
                    } else {
                        prop_assert!(model.len() >= 16 && !model.contains_key(&key));
                    }
                } else {
                    map.remove(key);
                    model.remove(&key);
                }
                for key in 0..40 {
                    prop_assert_eq!(map.find(key), model.get(&key).copied());
                }
            }
        }
    }

    #[test]
    fn keys_that_collide_all_stay_reachable() {
        let mut map: FlatMap<u128> = FlatMap::new(1000);
        let keys: Vec<u128> = (0..1000u128).map(|n| (n << 96) | (n % 3)).collect();
        for (slot, key) in keys.iter().enumerate() {
            assert!(map.insert(*key, slot as u32));
        }
        for key in &keys[..500] {
            map.remove(*key);
        }
        for (slot, key) in keys.iter().enumerate() {
            assert_eq!(map.find(*key), (slot >= 500).then_some(slot as u32));
        }
    }
}
