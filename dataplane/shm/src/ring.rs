//! Single-producer, single-consumer rings whose indices live in the region, so that either side can die and come back.
//!
//! Indices count for ever and are reduced modulo the capacity. Each side treats the other's index as hostile: one that
//! claims more than the capacity counts as an overflow.

use crate::event::EventRecord;
use crate::sync::{AtomicU64, Ordering};

/// What a change ring gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Popped {
    /// Nothing.
    Empty,
    /// An entry.
    Entry(u64),
    /// Entries were lost: look at everything.
    Rescan,
}

/// Control to dataplane: numbers of changed slots. Overflow asks for a rescan.
pub(crate) struct ChangeRing<'a> {
    /// Entries ever written; the producer's.
    pub(crate) head: &'a AtomicU64,
    /// Entries ever read; the consumer's.
    pub(crate) tail: &'a AtomicU64,
    /// Rescans ever asked for; the producer's.
    pub(crate) rescans_asked: &'a AtomicU64,
    /// Rescans ever begun; the consumer's.
    pub(crate) rescans_begun: &'a AtomicU64,
    /// The entries, a power of two of them.
    pub(crate) entries: &'a [AtomicU64],
}

impl ChangeRing<'_> {
    /// Announces an entry, or asks for a rescan if the ring is full. Producer only.
    pub(crate) fn push(&self, entry: u64) {
        let head = self.head.load(Ordering::Relaxed);
        let used = head.wrapping_sub(self.tail.load(Ordering::Acquire));
        if used >= self.entries.len() as u64 {
            self.ask_rescan();
            return;
        }
        if let Some(cell) = cell(self.entries, head, 1, 0) {
            cell.store(entry, Ordering::Relaxed);
            self.head.store(head.wrapping_add(1), Ordering::Release);
        }
    }

    /// Asks for a rescan. Producer only.
    pub(crate) fn ask_rescan(&self) {
        let asked = self.rescans_asked.load(Ordering::Relaxed);
        self.rescans_asked.store(asked.wrapping_add(1), Ordering::Release);
    }

    /// Takes the next entry. Consumer only.
    ///
    /// A rescan is noted as begun before it is returned: what changes during the scan is announced anew.
    pub(crate) fn pop(&self) -> Popped {
        let asked = self.rescans_asked.load(Ordering::Acquire);
        if asked != self.rescans_begun.load(Ordering::Relaxed) {
            self.begin_rescan();
            return Popped::Rescan;
        }
        let tail = self.tail.load(Ordering::Relaxed);
        let head = self.head.load(Ordering::Acquire);
        if head == tail {
            return Popped::Empty;
        }
        if head.wrapping_sub(tail) > self.entries.len() as u64 {
            self.begin_rescan();
            return Popped::Rescan;
        }
        let Some(cell) = cell(self.entries, tail, 1, 0) else {
            return Popped::Empty;
        };
        let entry = cell.load(Ordering::Relaxed);
        self.tail.store(tail.wrapping_add(1), Ordering::Release);
        Popped::Entry(entry)
    }

    /// Forgets what is in the ring, because everything will be looked at. Consumer only.
    pub(crate) fn begin_rescan(&self) {
        self.rescans_begun.store(self.rescans_asked.load(Ordering::Acquire), Ordering::Relaxed);
        self.tail.store(self.head.load(Ordering::Acquire), Ordering::Release);
    }
}

/// Dataplane to control: events. Overflow is counted.
pub(crate) struct EventRing<'a> {
    /// Events ever written; the producer's.
    pub(crate) head: &'a AtomicU64,
    /// Events ever read; the consumer's.
    pub(crate) tail: &'a AtomicU64,
    /// Events that found the ring full; the producer's.
    pub(crate) lost: &'a AtomicU64,
    /// The events, a power of two of them.
    pub(crate) entries: &'a [AtomicU64],
}

impl EventRing<'_> {
    fn capacity(&self) -> u64 {
        (self.entries.len() / EventRecord::WORDS) as u64
    }

    /// Puts an event; false, and counted, if the ring is full. Producer only.
    pub(crate) fn push(&self, event: EventRecord) -> bool {
        let head = self.head.load(Ordering::Relaxed);
        let used = head.wrapping_sub(self.tail.load(Ordering::Acquire));
        if used >= self.capacity() {
            self.lost.store(self.lost.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
            return false;
        }
        for (index, word) in event.to_words().into_iter().enumerate() {
            if let Some(cell) = cell(self.entries, head, EventRecord::WORDS, index) {
                cell.store(word, Ordering::Relaxed);
            }
        }
        self.head.store(head.wrapping_add(1), Ordering::Release);
        true
    }

    /// Takes the oldest event. Consumer only. A consumer that dies after it took an event may meet it again.
    pub(crate) fn pop(&self) -> Option<EventRecord> {
        let mut tail = self.tail.load(Ordering::Relaxed);
        let head = self.head.load(Ordering::Acquire);
        if head == tail {
            return None;
        }
        if head.wrapping_sub(tail) > self.capacity() {
            // Impossible of an honest producer: take what the ring can still hold.
            tail = head.wrapping_sub(self.capacity());
        }
        let mut words = [0; EventRecord::WORDS];
        for (index, word) in words.iter_mut().enumerate() {
            *word = cell(self.entries, tail, EventRecord::WORDS, index)?.load(Ordering::Relaxed);
        }
        self.tail.store(tail.wrapping_add(1), Ordering::Release);
        Some(EventRecord::from_words(words))
    }
}

/// The cell of a word of an entry.
fn cell(entries: &[AtomicU64], index: u64, words_per_entry: usize, word: usize) -> Option<&AtomicU64> {
    let capacity = entries.len() / words_per_entry;
    let position = (index % capacity.max(1) as u64) as usize;
    entries.get(position * words_per_entry + word)
}
