//! Control's half: writes records, hands out SA generations, takes events.

use std::sync::atomic::Ordering;

use zeroize::Zeroize;

use crate::event::EventRecord;
use crate::layout::RECORD_WORDS_MOST;
use crate::record::{Record, Table};
use crate::region::{ReadError, Region, Slot, role};
use crate::slot;

/// The table has no such slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("slot {slot} is beyond the table of {}", table.name())]
pub struct SlotOutOfRange {
    /// The table.
    pub table: Table,
    /// The slot.
    pub slot: u32,
}

/// The one writer of the tables. Ring the doorbell after a batch of changes.
pub struct Writer {
    region: Region,
}

impl Writer {
    pub(crate) fn new(region: Region) -> Writer {
        if let Some(changes) = region.changes() {
            changes.ask_rescan();
        }
        Writer { region }
    }

    /// The region.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Publishes a record in a slot, announces it, and returns its version: the dataplane acknowledges that.
    ///
    /// # Errors
    /// The table has no such slot.
    pub fn put<R: Record>(&mut self, slot: u32, record: &R) -> Result<u64, SlotOutOfRange> {
        let mut buffer = [0u64; RECORD_WORDS_MOST];
        for (word, bytes) in buffer.iter_mut().zip(record.as_bytes().as_chunks::<8>().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        let version = self.write(R::TABLE, slot, &buffer);
        // An SA's keys were in it.
        buffer.zeroize();
        version
    }

    /// Overwrites a slot with zeroes, announces it, and returns its version.
    ///
    /// # Errors
    /// The table has no such slot.
    pub fn clear(&mut self, table: Table, slot: u32) -> Result<u64, SlotOutOfRange> {
        self.write(table, slot, &[])
    }

    /// Reads a slot back; see [`Region::read`].
    ///
    /// # Errors
    /// See [`ReadError`]. A torn slot is repaired by the next `put` or `clear`.
    pub fn read<R: Record>(&self, slot: u32) -> Result<Slot<R>, ReadError> {
        self.region.read(slot)
    }

    /// A generation for a new SA: unique in the life of the region.
    pub fn next_sa_generation(&mut self) -> u64 {
        self.region.header().map_or(0, |header| {
            let next = header.sa_generation.load(Ordering::Relaxed).wrapping_add(1);
            header.sa_generation.store(next, Ordering::Relaxed);
            next
        })
    }

    fn write(&mut self, table: Table, slot: u32, words: &[u64]) -> Result<u64, SlotOutOfRange> {
        let (version, cells) = self.region.slot_cells(table, slot).ok_or(SlotOutOfRange { table, slot })?;
        let version = slot::write(version, cells, words);
        if let Some(changes) = self.region.changes() {
            changes.push((u64::from(table as u32) << 32) | u64::from(slot));
        }
        Ok(version)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.region.give_back(role::WRITER);
    }
}

/// Control's end of the event ring. One per region.
pub struct EventReader {
    region: Region,
}

impl EventReader {
    pub(crate) fn new(region: Region) -> EventReader {
        EventReader { region }
    }

    /// Takes the oldest event. One that was taken right before a crash may come again.
    pub fn pop(&mut self) -> Option<EventRecord> {
        self.region.events()?.pop()
    }
}

impl Drop for EventReader {
    fn drop(&mut self) {
        self.region.give_back(role::EVENT_READER);
    }
}
