//! Both sides as processes that are killed at any instant. This test runs itself again as the other side.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use shm::records::{NONE, PolicyRecord};
use shm::{BootId, Capacities, Change, ReadError, Region, Table};

const BOOT: BootId = BootId([3, 4]);
const ROLE: &str = "SHM_TEST_ROLE";
const REGION: &str = "SHM_TEST_REGION";
const WRITER_TEST: &str = "a_killed_writer_leaves_whole_records_and_the_next_one_goes_on";
const READER_TEST: &str = "a_killed_reader_is_followed_by_one_that_catches_up";
const SLOTS: u32 = 16;

/// A record all of whose parts say the same number: half of one and half of another would be seen.
fn record(number: u32) -> PolicyRecord {
    let mut peer = [0; 16];
    peer[..4].copy_from_slice(&number.to_be_bytes());
    PolicyRecord {
        present: 1,
        mode: (number % 2) as u8,
        family: 4,
        reserved: [0; 5],
        outbound_sa: if number.is_multiple_of(3) { NONE } else { number % 64 },
        port: number % 8,
        peer: shm::records::Address { bytes: peer },
    }
}

fn is_whole(found: &PolicyRecord) -> bool {
    let [a, b, c, d, ..] = found.peer.bytes;
    *found == record(u32::from_be_bytes([a, b, c, d]))
}

/// The other side's life, until it is killed; returns at once in the process that was started first.
fn live_if_other_side() {
    let (Ok(role), Ok(path)) = (std::env::var(ROLE), std::env::var(REGION)) else { return };
    let path = PathBuf::from(path);
    if role == "writer" {
        let (region, _) = Region::create_or_attach(&path, Capacities::small(), BOOT).unwrap();
        let mut writer = region.writer().unwrap();
        for number in 0.. {
            writer.put(number % SLOTS, &record(number)).unwrap();
        }
    }
    let region = attach(&path);
    let mut reader = region.reader().unwrap();
    loop {
        match reader.next_change() {
            Some(Change::Slot(Table::Policies, slot)) => apply(&reader, slot),
            Some(Change::Slot(..)) => panic!("a change of a table that no one writes"),
            Some(Change::Rescan) => (0..SLOTS).for_each(|slot| apply(&reader, slot)),
            None => std::thread::yield_now(),
        }
    }
}

fn apply(reader: &shm::Reader, slot: u32) {
    match reader.read::<PolicyRecord>(slot) {
        Ok(found) => {
            assert!(found.record.is_none_or(|record| is_whole(&record)));
            reader.acknowledge(Table::Policies, slot, found.version);
        }
        Err(ReadError::Torn) => {}
        Err(error) => panic!("{error}"),
    }
}

/// The other side, killed at the latest when the test ends.
struct OtherSide(Child);

impl OtherSide {
    fn start(role: &str, test: &str, path: &Path) -> OtherSide {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(ROLE, role)
            .env(REGION, path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        OtherSide(child)
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for OtherSide {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Attaches as soon as there is a region, and no process that is being started still holds a copy of the lock.
fn attach(path: &Path) -> Region {
    let mut region = None;
    wait_until("the region", || {
        region = Region::attach(path, BOOT).ok();
        region.is_some()
    });
    region.unwrap()
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_killed_writer_leaves_whole_records_and_the_next_one_goes_on() {
    live_if_other_side();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("region");
    for round in 0..5 {
        let mut writer = OtherSide::start("writer", WRITER_TEST, &path);
        let region = attach(&path);
        let mut reader = region.reader().unwrap();
        let before = region.read::<PolicyRecord>(0).map_or(0, |slot| slot.version);
        wait_until("a change", || region.read::<PolicyRecord>(0).is_ok_and(|slot| slot.version > before));
        for _ in 0..20_000 {
            if let Some(Change::Slot(_, slot)) = reader.next_change() {
                apply(&reader, slot);
            }
        }
        writer.kill();
        for slot in 0..SLOTS {
            match region.read::<PolicyRecord>(slot) {
                Ok(found) => assert!(found.record.is_some_and(|record| is_whole(&record)), "round {round}"),
                Err(error) => assert_eq!(error, ReadError::Torn, "round {round}"),
            }
        }
    }
    // Its lock died with it; what it left half written is repaired by the next write.
    let (region, _) = Region::create_or_attach(&path, Capacities::small(), BOOT).unwrap();
    let mut writer = region.writer().unwrap();
    for slot in 0..SLOTS {
        writer.put(slot, &record(slot)).unwrap();
        assert_eq!(region.read::<PolicyRecord>(slot).unwrap().record, Some(record(slot)));
    }
}

#[test]
fn a_killed_reader_is_followed_by_one_that_catches_up() {
    live_if_other_side();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("region");
    let (region, _) = Region::create_or_attach(&path, Capacities::small(), BOOT).unwrap();
    let mut writer = region.writer().unwrap();
    for round in 1..=3_u32 {
        let mut reader = OtherSide::start("reader", READER_TEST, &path);
        for number in 0..5_000 {
            writer.put(number % SLOTS, &record(round * 10_000 + number)).unwrap();
        }
        wait_until("the reader's acknowledgement of all", || {
            (0..SLOTS).all(|slot| region.is_settled(Table::Policies, slot))
        });
        assert_eq!(region.epoch(), u64::from(round));
        for number in 0..5_000 {
            writer.put(number % SLOTS, &record(round * 10_000 + 5_000 + number)).unwrap();
        }
        reader.kill();
    }
}
