//! The seqlock of one slot: a version and the words of a record.
//!
//! The version is odd while the one writer writes, and rises by two with each record. A reader copies the words and
//! believes them only if the version was even and the same before and after. No reader ever writes.

use crate::sync::{AtomicU64, Ordering, fence};

/// How often a reader tries again before it calls the slot torn. A writer holds a slot for well under a microsecond;
/// one that is still writing after this many tries has died in the middle.
const TRIES: u32 = if cfg!(loom) { 2 } else { 10_000 };

/// Writes `words` to the slot and returns the new, even version. Words beyond `words` become zero.
///
/// Only the one writer of the table may call this. A slot that a writer left half-written (odd) is taken over.
pub(crate) fn write(version: &AtomicU64, cells: &[AtomicU64], words: &[u64]) -> u64 {
    let before = version.load(Ordering::Relaxed);
    let writing = if before.is_multiple_of(2) { before.wrapping_add(1) } else { before.wrapping_add(2) };
    version.store(writing, Ordering::Relaxed);
    // The odd version must be seen before any of the words: see Boehm, "Can seqlocks get along with programming
    // language memory models?" (MSPC 2012), section 4.
    fence(Ordering::Release);
    let mut words = words.iter();
    for cell in cells {
        cell.store(words.next().copied().unwrap_or(0), Ordering::Relaxed);
    }
    let published = writing.wrapping_add(1);
    version.store(published, Ordering::Release);
    published
}

/// Copies the slot's words to `words` and returns their version; `None` if the slot is torn.
pub(crate) fn read(version: &AtomicU64, cells: &[AtomicU64], words: &mut [u64]) -> Option<u64> {
    for _ in 0..TRIES {
        let before = version.load(Ordering::Acquire);
        if before.is_multiple_of(2) {
            for (word, cell) in words.iter_mut().zip(cells) {
                *word = cell.load(Ordering::Relaxed);
            }
            fence(Ordering::Acquire);
            if version.load(Ordering::Relaxed) == before {
                return Some(before);
            }
        }
        pause();
    }
    None
}

#[cfg(not(loom))]
fn pause() {
    std::hint::spin_loop();
}

#[cfg(loom)]
fn pause() {
    loom::thread::yield_now();
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_a_dead_writer_left_is_torn_until_the_next_write() {
        let (version, cells) = (AtomicU64::new(5), [AtomicU64::new(1), AtomicU64::new(2)]);
        let mut words = [0; 2];
        assert_eq!(read(&version, &cells, &mut words), None);
        assert_eq!(write(&version, &cells, &[9]), 8);
        assert_eq!(read(&version, &cells, &mut words), Some(8));
        assert_eq!(words, [9, 0]);
    }
}
