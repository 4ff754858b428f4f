//! All interleavings, by loom: `RUSTFLAGS="--cfg loom" cargo test -p shm --lib`.

use loom::sync::Arc;
use loom::thread;

use crate::event::EventRecord;
use crate::ring::{ChangeRing, EventRing, Popped};
use crate::slot;
use crate::sync::{AtomicU64, Ordering};

fn cells<const N: usize>() -> [AtomicU64; N] {
    std::array::from_fn(|_| AtomicU64::new(0))
}

#[test]
fn a_reader_never_sees_half_a_record() {
    loom::model(|| {
        let shared = Arc::new((AtomicU64::new(0), cells::<2>()));
        let writer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || slot::write(&shared.0, &shared.1, &[7, 7]))
        };
        let mut words = [1, 2];
        match slot::read(&shared.0, &shared.1, &mut words) {
            Some(0) => assert_eq!(words, [0, 0]),
            Some(2) => assert_eq!(words, [7, 7]),
            Some(version) => panic!("version {version} was never published"),
            None => {}
        }
        assert_eq!(writer.join().unwrap(), 2);
        assert_eq!(slot::read(&shared.0, &shared.1, &mut words), Some(2));
        assert_eq!(words, [7, 7]);
    });
}

#[test]
fn a_slot_that_a_dead_writer_left_is_torn_until_the_next_write() {
    loom::model(|| {
        let (version, cells) = (AtomicU64::new(5), cells::<1>());
        let mut words = [0];
        assert_eq!(slot::read(&version, &cells, &mut words), None);
        assert_eq!(slot::write(&version, &cells, &[9]), 8);
        assert_eq!(slot::read(&version, &cells, &mut words), Some(8));
        assert_eq!(words, [9]);
    });
}

struct Changes {
    indices: [AtomicU64; 4],
    entries: [AtomicU64; 2],
}

impl Changes {
    fn ring(&self) -> ChangeRing<'_> {
        let [head, tail, rescans_asked, rescans_begun] = &self.indices;
        ChangeRing { head, tail, rescans_asked, rescans_begun, entries: &self.entries }
    }
}

/// What the ring must guarantee: once it is empty, the reader has seen all that was written, be it by an entry or by a
/// rescan that began afterwards.
#[test]
fn no_change_is_lost_even_when_the_ring_overflows() {
    loom::model(|| {
        let shared = Arc::new((Changes { indices: cells(), entries: cells() }, AtomicU64::new(0)));
        let writer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                for value in 1..=3 {
                    shared.1.store(value, Ordering::Release);
                    shared.0.ring().push(value);
                }
            })
        };
        let mut seen = 0;
        let mut look = |popped: &Popped| {
            if *popped != Popped::Empty {
                seen = shared.1.load(Ordering::Acquire);
            }
        };
        for _ in 0..2 {
            look(&shared.0.ring().pop());
        }
        writer.join().unwrap();
        loop {
            let popped = shared.0.ring().pop();
            look(&popped);
            if popped == Popped::Empty {
                break;
            }
        }
        assert_eq!(seen, 3);
    });
}

struct Events {
    indices: [AtomicU64; 3],
    entries: [AtomicU64; 2 * EventRecord::WORDS],
}

impl Events {
    fn ring(&self) -> EventRing<'_> {
        let [head, tail, lost] = &self.indices;
        EventRing { head, tail, lost, entries: &self.entries }
    }
}

#[test]
fn events_come_whole_and_in_order_and_lost_ones_are_counted() {
    loom::model(|| {
        let shared = Arc::new(Events { indices: cells(), entries: cells() });
        let writer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                (1..=3)
                    .filter(|number| {
                        let event = EventRecord { kind: 1, slot: 0, a: *number, b: *number, c: 0, d: 0 };
                        shared.ring().push(event)
                    })
                    .count()
            })
        };
        let mut last = 0;
        let mut taken = 0;
        let mut take = |event: Option<EventRecord>| {
            let Some(event) = event else { return false };
            assert_eq!(event.a, event.b);
            assert!(event.a > last);
            last = event.a;
            taken += 1;
            true
        };
        take(shared.ring().pop());
        let pushed = writer.join().unwrap();
        while take(shared.ring().pop()) {}
        assert_eq!(taken, pushed);
        assert_eq!(shared.indices[2].load(Ordering::Relaxed), 3 - pushed as u64);
    });
}
