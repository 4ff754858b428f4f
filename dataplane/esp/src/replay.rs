//! The replay window (RFC 4303 section 3.4.3) over cells that someone else owns.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bits of the bitmap, and the largest window, in packets.
pub const WINDOW_BITS: u64 = 4096;
const WORDS: usize = (WINDOW_BITS / 64) as usize;

/// What the window says of a sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// New: right of the window, or in it and not seen.
    New,
    /// Seen before.
    Replayed,
    /// Left of the window.
    Late,
}

/// A view of one SA's window: the highest number seen and a ring of bits, one per number modulo [`WINDOW_BITS`], in the
/// manner of RFC 6479 but cleared bit by bit, so that a window of all 4096 bits is exact. The cells outlive the process;
/// only the worker that owns the SA writes them.
#[derive(Clone, Copy, Debug)]
pub struct ReplayWindow<'a> {
    highest: &'a AtomicU64,
    bits: &'a [AtomicU64; WORDS],
    size: u64,
}

impl<'a> ReplayWindow<'a> {
    /// A window of `size` packets (0 switches it off; more than [`WINDOW_BITS`] counts as that many).
    #[inline]
    pub fn new(highest: &'a AtomicU64, bits: &'a [AtomicU64; WORDS], size: u32) -> Self {
        Self { highest, bits, size: u64::from(size).min(WINDOW_BITS) }
    }

    /// The highest authentic sequence number so far.
    #[inline]
    pub fn highest(&self) -> u64 {
        self.highest.load(Ordering::Relaxed)
    }

    /// Judges a number before its packet is authenticated; changes nothing.
    #[inline]
    pub fn check(&self, sequence: u64) -> Verdict {
        let highest = self.highest();
        if sequence > highest || self.size == 0 {
            return if sequence == 0 { Verdict::Late } else { Verdict::New };
        }
        // Zero is never sent (RFC 4303 section 2.2).
        if highest - sequence >= self.size || sequence == 0 {
            return Verdict::Late;
        }
        if self.word(sequence).load(Ordering::Relaxed) & bit(sequence) != 0 {
            return Verdict::Replayed;
        }
        Verdict::New
    }

    /// Judges the number of an authentic packet, and marks it when it is new: a second copy in the same burst is
    /// noticed here.
    #[inline]
    pub fn accept(&self, sequence: u64) -> Verdict {
        let verdict = self.check(sequence);
        if verdict == Verdict::New {
            let highest = self.highest();
            if sequence > highest {
                if sequence != highest.wrapping_add(1) {
                    self.forget(highest, sequence);
                }
                // The ring's bit belonged to a number that the window has left.
                let cell = self.word(sequence);
                let kept = cell.load(Ordering::Relaxed) & !bit(sequence);
                cell.store(kept | bit(sequence), Ordering::Relaxed);
                self.highest.store(sequence, Ordering::Relaxed);
            } else {
                let cell = self.word(sequence);
                cell.store(cell.load(Ordering::Relaxed) | bit(sequence), Ordering::Relaxed);
            }
        }
        verdict
    }

    /// Clears the bits of the numbers between `highest` and `sequence`, both exclusive.
    #[cold]
    fn forget(&self, highest: u64, sequence: u64) {
        if sequence - highest >= WINDOW_BITS {
            for cell in self.bits {
                cell.store(0, Ordering::Relaxed);
            }
            return;
        }
        let mut from = highest + 1;
        while from < sequence {
            let in_word = (64 - from % 64).min(sequence - from);
            let mask = (u64::MAX >> (64 - in_word)) << (from % 64);
            let cell = self.word(from);
            cell.store(cell.load(Ordering::Relaxed) & !mask, Ordering::Relaxed);
            from += in_word;
        }
    }

    #[inline]
    fn word(&self, sequence: u64) -> &'a AtomicU64 {
        &self.bits[(sequence / 64) as usize % WORDS]
    }
}

#[inline]
const fn bit(sequence: u64) -> u64 {
    1 << (sequence % 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    struct Cells {
        highest: AtomicU64,
        bits: [AtomicU64; WORDS],
    }

    impl Cells {
        fn new(highest: u64) -> Self {
            Self { highest: AtomicU64::new(highest), bits: [const { AtomicU64::new(0) }; WORDS] }
        }

        fn window(&self, size: u32) -> ReplayWindow<'_> {
            ReplayWindow::new(&self.highest, &self.bits, size)
        }
    }

    #[derive(Default)]
    struct Model {
        highest: u64,
        seen: BTreeSet<u64>,
    }

    impl Model {
        fn accept(&mut self, sequence: u64, size: u64) -> Verdict {
            if sequence == 0 || (sequence <= self.highest && self.highest - sequence >= size) {
                return Verdict::Late;
            }
            if !self.seen.insert(sequence) {
                return Verdict::Replayed;
            }
            self.highest = self.highest.max(sequence);
            Verdict::New
        }
    }

    fn sizes() -> impl Strategy<Value = u32> {
        prop_oneof![Just(64u32), Just(128), Just(1024), Just(4096)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn agrees_with_a_set_of_all_numbers_seen(
            size in sizes(),
            start in prop_oneof![Just(0u64), Just((1 << 32) - 50), 1u64..1 << 40],
            steps in proptest::collection::vec(prop_oneof![
                8 => -70i64..70, 4 => -4200i64..4200, 1 => -9000i64..20000], 1..300),
        ) {
            let cells = Cells::new(start);
            let window = cells.window(size);
            let mut model = Model { highest: start, seen: BTreeSet::new() };
            // Numbers up to the start were never marked in the fresh bitmap: the model must not know them either.
            for step in steps {
                let sequence = model.highest.saturating_add_signed(step);
                let expected = model.accept(sequence, u64::from(size));
                prop_assert_eq!(window.check(sequence), expected);
                prop_assert_eq!(window.accept(sequence), expected);
                prop_assert_eq!(window.highest(), model.highest);
            }
        }
    }

    #[test]
    fn a_window_of_4096_holds_exactly_4096() {
        let cells = Cells::new(0);
        let window = cells.window(4096);
        assert_eq!(window.accept(1), Verdict::New);
        assert_eq!(window.accept(4096), Verdict::New);
        assert_eq!(window.accept(1), Verdict::Replayed);
        assert_eq!(window.accept(2), Verdict::New);
        assert_eq!(window.accept(4098), Verdict::New);
        assert_eq!(window.accept(2), Verdict::Late);
        assert_eq!(window.accept(3), Verdict::New);
        assert_eq!(window.accept(3), Verdict::Replayed);
    }

    #[test]
    fn a_new_process_goes_on_with_the_cells() {
        let cells = Cells::new(0);
        assert_eq!(cells.window(64).accept(10), Verdict::New);
        assert_eq!(cells.window(64).accept(10), Verdict::Replayed);
    }

    #[test]
    fn switched_off_it_lets_all_but_zero_through_and_still_follows() {
        let cells = Cells::new(0);
        let window = cells.window(0);
        assert_eq!(window.accept(9), Verdict::New);
        assert_eq!(window.accept(9), Verdict::New);
        assert_eq!(window.accept(0), Verdict::Late);
        assert_eq!(window.accept(3), Verdict::New);
        assert_eq!(window.highest(), 9);
    }
}
