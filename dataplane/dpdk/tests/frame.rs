//! An mbuf behaves as the test frame does, whatever is done to it.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "helpers of tests")]

mod virtual_device;

use packet::{Frame, TestFrame, Twin};
use proptest::prelude::*;
use virtual_device::pool;

#[derive(Debug, Clone)]
enum Step {
    Prepend(usize),
    Append(usize),
    TrimFront(usize),
    TrimBack(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0usize..200).prop_map(Step::Prepend),
        (0usize..1500).prop_map(Step::Append),
        (0usize..800).prop_map(Step::TrimFront),
        (0usize..800).prop_map(Step::TrimBack),
    ]
}

fn take(step: &Step, frame: &mut impl Frame) -> bool {
    let fill = |bytes: Option<&mut [u8]>| bytes.map(|bytes| bytes.fill(0x5a)).is_some();
    match *step {
        Step::Prepend(len) => fill(frame.prepend(len)),
        Step::Append(len) => fill(frame.append(len)),
        Step::TrimFront(len) => frame.trim_front(len),
        Step::TrimBack(len) => frame.trim_back(len),
    }
}

#[test]
fn any_sequence_of_steps_does_the_same_to_both_frames() {
    let pool = pool("steps");
    let before = pool.available();
    proptest!(|(steps in proptest::collection::vec(step(), 0..40), bytes in proptest::collection::vec(any::<u8>(), 0..1500))| {
        let mut mbuf = pool.allocate().expect("a buffer");
        mbuf.append(bytes.len()).expect("room").copy_from_slice(&bytes);
        let mut model = TestFrame::new(&bytes);
        for step in &steps {
            prop_assert_eq!(take(step, &mut mbuf), take(step, &mut model), "{:?}", step);
            prop_assert_eq!(mbuf.bytes(), model.bytes());
            prop_assert_eq!((mbuf.headroom(), mbuf.tailroom()), (model.headroom(), model.tailroom()));
        }
    });
    assert_eq!(pool.available(), before);
}

#[test]
fn meta_travels_with_the_buffer_and_a_new_buffer_has_none() {
    let pool = pool("meta");
    let mut mbuf = pool.allocate().unwrap();
    assert_eq!(*mbuf.meta(), packet::Meta::default());
    mbuf.meta_mut().twin = Twin::tun(17);
    let mbuf = std::thread::spawn(move || mbuf).join().unwrap();
    assert_eq!(mbuf.meta().twin, Twin::tun(17));
    let sibling = mbuf.sibling().unwrap();
    assert_eq!(*sibling.meta(), packet::Meta::default());
    assert_eq!((sibling.bytes().len(), sibling.headroom()), (0, 128));
}

#[test]
fn an_exhausted_pool_gives_nothing_and_recovers() {
    let pool = pool("exhausted");
    let before = pool.available();
    let mut held = Vec::new();
    while let Some(mbuf) = pool.allocate() {
        held.push(mbuf);
    }
    assert_eq!(held.len() as u32, before);
    assert!(held[0].sibling().is_none());
    let mut burst = dpdk::Burst::new();
    assert!(!pool.allocate_bulk(&mut burst, 1));
    drop(held);
    assert_eq!(pool.available(), before);
    assert!(pool.allocate_bulk(&mut burst, 32));
    assert!(!pool.allocate_bulk(&mut burst, 1), "the burst is full");
}
