//! Twins, with a pair of datagram sockets in the place of a TUN: both keep packets whole.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::os::fd::OwnedFd;

use dataplane::pools::Pools;
use dataplane::twins::Twins;
use dpdk::{Eal, EalOptions, Mbuf};
use packet::{Frame, Twin};
use rtrb::RingBuffer;
use rustix::event::epoll;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use shm::socket_messages::{TwinKind, TwinLabel};
use shm::{Drop as DropReason, WorkerCounters};

fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::NONBLOCK, None).unwrap()
}

#[test]
fn packets_go_both_ways_and_a_backlog_is_discarded_once() {
    let eal = Eal::start("twins", &EalOptions { memory_mb: 128, ..EalOptions::default() }).unwrap();
    let mut pools = Pools::new(&eal).unwrap();
    let pool = pools.fitting(&eal, 0).unwrap();
    let before = pool.available();
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let counters = WorkerCounters::new();
    let (mut to_worker, mut from_host) = RingBuffer::<Mbuf>::new(4);
    let (ours, kernel) = pair();
    let kernel_sends = |text: &[u8]| rustix::io::write(&kernel, text).unwrap();
    let label = TwinLabel::new(TwinKind::Tun, 5, "tunnel1");
    let twin = Twin::tun(5);

    kernel_sends(b"stale");
    let mut twins = Twins::default();
    let again = rustix::io::dup(&ours).unwrap();
    twins.insert(&epoll, epoll::EventData::new_u64(1), label, ours).unwrap();
    assert!(twins.read(twin, &pool, &mut to_worker, &counters));
    assert!(from_host.pop().is_err(), "what waited before the twin was held is stale");

    kernel_sends(b"fresh");
    // The same twin again, as a restarted control may send it: nothing is lost.
    twins.insert(&epoll, epoll::EventData::new_u64(1), label, again).unwrap();
    assert!(twins.read(twin, &pool, &mut to_worker, &counters));
    let mbuf = from_host.pop().unwrap();
    assert_eq!((mbuf.bytes(), mbuf.meta().twin), (b"fresh".as_slice(), twin));

    twins.write(&mbuf, &counters);
    let mut received = [0u8; 64];
    let length = rustix::io::read(&kernel, &mut received).unwrap();
    assert_eq!(&received[..length], b"fresh");

    for _ in 0..6 {
        kernel_sends(b"many");
    }
    assert!(twins.read(twin, &pool, &mut to_worker, &counters));
    assert_eq!(std::iter::from_fn(|| from_host.pop().ok()).count(), 4, "the ring was full");
    assert!(twins.read(twin, &pool, &mut to_worker, &counters));
    assert_eq!(std::iter::from_fn(|| from_host.pop().ok()).count(), 2, "the rest waited in the twin");

    twins.remove(&epoll, twin);
    twins.write(&mbuf, &counters);
    assert_eq!(counters.drops(DropReason::TwinFull), 1);
    assert!(!twins.read(twin, &pool, &mut to_worker, &counters));
    drop(mbuf);
    assert_eq!(pool.available(), before);
}
