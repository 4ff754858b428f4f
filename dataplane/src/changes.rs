//! What changed in the region: the change ring, rescans, and slots to look at once more.

use std::collections::VecDeque;

use shm::{Change, ReadError, Reader, Record, Table};

/// The slots to look at, in order, and the last version seen of each.
pub struct Changes {
    reader: Reader,
    scan: Option<Scan>,
    again: VecDeque<(Table, u32)>,
    versions: [Vec<u64>; Table::ALL.len()],
}

/// Where a rescan stands: all slots of all tables, in the order of [`Table::ALL`].
#[derive(Debug, Clone, Copy)]
struct Scan {
    table: usize,
    slot: u32,
}

/// What a slot says now.
#[derive(Debug)]
pub enum Seen<R> {
    /// Nothing new, or nothing that can be read: keep what was there.
    Unchanged,
    /// A record, or that the slot is vacant.
    Changed(u64, Option<R>),
    /// A record that is not valid: keep what was there.
    Invalid(u64),
}

impl Changes {
    /// Of a region that was just attached to: begins with a scan.
    #[must_use]
    pub fn new(reader: Reader) -> Self {
        let capacities = reader.region().capacities();
        // By number, which is not the order of a scan.
        let versions = std::array::from_fn(|number| {
            let slots = Table::from_number(number as u32).map_or(0, |table| capacities.of(table));
            vec![0; slots as usize]
        });
        Self { reader, scan: None, again: VecDeque::new(), versions }
    }

    /// The region's reader, for acknowledgements and status.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The next slot to look at.
    pub fn next_slot(&mut self) -> Option<(Table, u32)> {
        if let Some(slot) = self.again.pop_front() {
            return Some(slot);
        }
        loop {
            if let Some(scan) = &mut self.scan {
                let table = Table::ALL.get(scan.table).copied();
                match table {
                    Some(table) if scan.slot < self.reader.region().capacities().of(table) => {
                        scan.slot += 1;
                        return Some((table, scan.slot - 1));
                    }
                    Some(_) => *scan = Scan { table: scan.table + 1, slot: 0 },
                    None => self.scan = None,
                }
                continue;
            }
            match self.reader.next_change()? {
                Change::Slot(table, slot) => return Some((table, slot)),
                Change::Rescan => self.scan = Some(Scan { table: 0, slot: 0 }),
            }
        }
    }

    /// Whether a rescan is under way.
    #[must_use]
    pub fn is_scanning(&self) -> bool {
        self.scan.is_some()
    }

    /// Looks at a slot once more later, as if it had changed.
    pub fn look_again(&mut self, table: Table, slot: u32) {
        if let Some(version) = self.versions[table as usize].get_mut(slot as usize) {
            *version = 0;
        }
        self.again.push_back((table, slot));
    }

    /// Reads a slot, if it changed since.
    pub fn read<R: Record>(&mut self, slot: u32) -> Seen<R> {
        let Some(known) = self.versions[R::TABLE as usize].get_mut(slot as usize) else {
            return Seen::Unchanged;
        };
        // Before the record is copied: of the slots of a rescan nearly all are as they were.
        if self.reader.region().version(R::TABLE, slot) == Some(*known) {
            return Seen::Unchanged;
        }
        match self.reader.read::<R>(slot) {
            Ok(read) if read.version == *known => Seen::Unchanged,
            Ok(read) => {
                *known = read.version;
                Seen::Changed(read.version, read.record)
            }
            Err(ReadError::Invalid { version, .. }) if version == *known => Seen::Unchanged,
            Err(ReadError::Invalid { version, reason }) => {
                *known = version;
                tracing::warn!(table = R::TABLE.name(), slot, %reason, "refused a record");
                Seen::Invalid(version)
            }
            // Half written: whoever repairs it announces it.
            Err(ReadError::Torn | ReadError::OutOfRange(_)) => Seen::Unchanged,
        }
    }
}
