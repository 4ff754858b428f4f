//! One environment per test process: `cargo nextest` gives each test its own, `cargo test` shares it.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::sync::OnceLock;

use dpdk::{Burst, Eal, EalOptions, Pool, Port, RxQueue, Started, TxQueue};
use packet::Frame;

pub fn eal() -> &'static Eal {
    static EAL: OnceLock<Eal> = OnceLock::new();
    EAL.get_or_init(|| {
        let options = EalOptions { memory_mb: 256, ..EalOptions::default() };
        Eal::start("dpdk-test", &options).expect("no huge pages, no PCI and no privilege are needed")
    })
}

pub fn pool(name: &str) -> Pool {
    Pool::new(eal(), name, 4095, 2048).expect("memory for the pool")
}

pub fn started(device: &str, pool: &Pool) -> (Port<Started>, RxQueue, TxQueue) {
    let port = Port::probe(eal(), &device.parse().expect("a device string"), 0, 1500).expect("probe");
    port.start(pool).map_err(|(_, error)| error).expect("start")
}

pub fn burst_of(pool: &Pool, packets: &[Vec<u8>]) -> Burst {
    let mut burst = Burst::new();
    assert!(pool.allocate_bulk(&mut burst, packets.len()));
    for (mbuf, bytes) in burst.iter_mut().zip(packets) {
        mbuf.append(bytes.len()).expect("room").copy_from_slice(bytes);
    }
    burst
}

pub fn packets(count: usize, from: u8) -> Vec<Vec<u8>> {
    (0..count).map(|index| vec![from.wrapping_add(index as u8); 60 + index]).collect()
}
