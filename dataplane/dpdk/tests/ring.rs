//! Packets through a `net_ring` port, which receives what it sends.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "helpers of tests")]

mod virtual_device;

use dpdk::{BURST_SIZE, Burst, Device, Port};
use packet::Frame;
use virtual_device::{burst_of, eal, packets, pool, started};

#[test]
fn what_a_ring_sends_it_receives_in_order_and_every_buffer_comes_home() {
    let pool = pool("order");
    let before = pool.available();
    let (port, mut rx, mut tx) = started("vdev:net_ring_order", &pool);
    let sent = packets(BURST_SIZE, 1);
    let mut burst = burst_of(&pool, &sent);
    assert_eq!(tx.transmit(&mut burst), BURST_SIZE);
    assert!(burst.is_empty());
    let mut received = Burst::new();
    assert_eq!(rx.receive(&mut received), BURST_SIZE);
    let bytes: Vec<&[u8]> = received.iter().map(Frame::bytes).collect();
    assert_eq!(bytes, sent);
    assert_eq!(pool.available(), before - BURST_SIZE as u32);
    drop(received);
    assert_eq!(pool.available(), before);
    let port = port.stop(rx, tx).map_err(|(.., error)| error).unwrap();
    port.remove().unwrap();
}

#[test]
fn a_full_ring_leaves_the_rest_in_the_burst_in_order() {
    let pool = pool("full");
    let (_port, mut rx, mut tx) = started("vdev:net_ring_full", &pool);
    let mut sent = 0;
    let rest = loop {
        let mut burst = burst_of(&pool, &packets(BURST_SIZE, 0));
        let taken = tx.transmit(&mut burst);
        sent += taken;
        if taken < BURST_SIZE {
            break burst;
        }
    };
    // A ring of 1024 entries holds 1023.
    assert_eq!(sent, 1023);
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0].bytes(), packets(BURST_SIZE, 0)[BURST_SIZE - 1]);
    let mut received = 0;
    loop {
        let mut burst = Burst::new();
        match rx.receive(&mut burst) {
            0 => break,
            count => received += count,
        }
    }
    assert_eq!(received, sent);
}

#[test]
fn receive_appends_only_as_far_as_the_burst_has_room() {
    let pool = pool("room");
    let (_port, mut rx, mut tx) = started("vdev:net_ring_room", &pool);
    assert_eq!(tx.transmit(&mut burst_of(&pool, &packets(20, 100))), 20);
    let mut burst = burst_of(&pool, &packets(20, 0));
    assert_eq!(rx.receive(&mut burst), BURST_SIZE - 20);
    assert_eq!(burst[19].bytes()[0], 19);
    assert_eq!(burst[20].bytes()[0], 100);
    assert!(burst.is_full());
}

#[test]
fn packets_can_be_freed_on_another_thread() {
    let pool = pool("threads");
    let before = pool.available();
    let burst = burst_of(&pool, &packets(8, 0));
    let registrar = eal().thread_registrar();
    std::thread::spawn(move || {
        let _registered = registrar.register().unwrap();
        drop(burst);
    })
    .join()
    .unwrap();
    assert_eq!(pool.available(), before);
}

#[test]
fn a_port_is_stopped_with_its_own_queues_only_and_can_be_probed_again() {
    let pool = pool("again");
    let (first, first_rx, first_tx) = started("vdev:net_ring_first", &pool);
    let (second, second_rx, second_tx) = started("vdev:net_ring_second", &pool);
    let (first, second_rx, first_tx, error) = first.stop(second_rx, first_tx).unwrap_err();
    assert_eq!(error, dpdk::Error::ForeignQueue { port: first.id(), queue_port: second.id() });
    first.stop(first_rx, first_tx).map_err(|(.., error)| error).unwrap().remove().unwrap();
    second.stop(second_rx, second_tx).map_err(|(.., error)| error).unwrap().remove().unwrap();
    let (again, rx, tx) = started("vdev:net_ring_first", &pool);
    assert!(again.link_is_up());
    assert_eq!(again.driver(), "net_ring");
    again.stop(rx, tx).map_err(|(.., error)| error).unwrap().remove().unwrap();
}

#[test]
fn a_device_that_is_not_there_is_refused_with_a_reason() {
    let device: Device = "af_packet:absent0".parse().unwrap();
    let error = Port::probe(eal(), &device, 0, 1500).unwrap_err();
    assert!(error.to_string().starts_with("rte_dev_probe: "), "{error}");
}

#[test]
fn the_environment_starts_once_per_process() {
    let _ = eal();
    let error = dpdk::Eal::start("second", &dpdk::EalOptions::default()).unwrap_err();
    assert_eq!(error, dpdk::Error::AlreadyStarted);
}
