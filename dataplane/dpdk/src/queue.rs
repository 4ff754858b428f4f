//! Receive and transmit queues of a started port.

use arrayvec::ArrayVec;

use crate::burst::spare;
use crate::mbuf::Mbuf;

/// The only queue number in use: a port has one pair per worker, and there is one worker.
const QUEUE: usize = 0;

/// A receive queue. One thread polls it: it can move to a thread but has no copy.
///
/// ```compile_fail,E0599
/// fn two(queue: dpdk::RxQueue) {
///     let other = queue.clone();
/// }
/// ```
///
/// ```compile_fail,E0499
/// fn shared(queue: &mut dpdk::RxQueue, burst: &mut dpdk::Burst) {
///     std::thread::scope(|scope| {
///         scope.spawn(|| queue.receive(&mut dpdk::Burst::new()));
///         scope.spawn(|| queue.receive(&mut dpdk::Burst::new()));
///     });
/// }
/// ```
#[derive(Debug)]
pub struct RxQueue {
    port: u16,
}

/// A transmit queue. One thread fills it: it can move to a thread but has no copy.
///
/// A packet that was sent belongs to the driver:
///
/// ```compile_fail,E0382
/// fn after(queue: &mut dpdk::TxQueue, mbuf: dpdk::Mbuf) {
///     let mut burst = dpdk::Burst::new();
///     burst.push(mbuf).unwrap();
///     queue.transmit(&mut burst);
///     drop(mbuf);
/// }
/// ```
#[derive(Debug)]
pub struct TxQueue {
    port: u16,
}

impl RxQueue {
    pub(crate) fn new(port: u16) -> Self {
        Self { port }
    }

    /// DPDK's number of the port.
    #[must_use]
    pub fn port_id(&self) -> u16 {
        self.port
    }

    /// Appends what the port has received to the burst, as far as it has room; returns how many packets came.
    ///
    /// The packets' `Meta` is whatever their buffers' last use left there: who parses a packet sets it first.
    #[inline]
    pub fn receive<const N: usize>(&mut self, burst: &mut ArrayVec<Mbuf, N>) -> usize {
        const { assert!(N <= u16::MAX as usize, "drivers count in sixteen bits") };
        let len = burst.len();
        let room = spare(burst);
        // SAFETY: the queue exists only while the port is started, so the table's entry holds the driver's
        // function and the queue's data; `&mut self` makes this the only caller. The function writes at most
        // `room` pointers to packets that nothing else refers to.
        unsafe {
            let functions = &raw const dpdk_sys::rte_eth_fp_ops[self.port as usize];
            let Some(receive) = (*functions).rx_pkt_burst else { return 0 };
            let queue = *(*functions).rxq.data.add(QUEUE);
            let count = usize::from(receive(queue, room.as_mut_ptr().cast(), room.len() as u16));
            burst.set_len(len + count);
            count
        }
    }
}

impl TxQueue {
    pub(crate) fn new(port: u16) -> Self {
        Self { port }
    }

    /// DPDK's number of the port.
    #[must_use]
    pub fn port_id(&self) -> u16 {
        self.port
    }

    /// Sends from the front of the burst and returns how many packets went; those that the driver did not take
    /// remain, in order.
    #[inline]
    pub fn transmit<const N: usize>(&mut self, burst: &mut ArrayVec<Mbuf, N>) -> usize {
        const { assert!(N <= u16::MAX as usize, "drivers count in sixteen bits") };
        let len = burst.len();
        // SAFETY: as in `RxQueue::receive`; the driver takes the first `sent` packets, which then leave the
        // burst: the rest moves to the front and the length shrinks, so no packet is referred to twice.
        unsafe {
            let functions = &raw const dpdk_sys::rte_eth_fp_ops[self.port as usize];
            let Some(transmit) = (*functions).tx_pkt_burst else { return 0 };
            let queue = *(*functions).txq.data.add(QUEUE);
            let first = burst.as_mut_ptr();
            let sent = usize::from(transmit(queue, first.cast(), len as u16)).min(len);
            if sent < len {
                std::ptr::copy(first.add(sent), first, len - sent);
            }
            burst.set_len(len - sent);
            sent
        }
    }
}

const _: () = {
    assert!(size_of::<Mbuf>() == size_of::<*mut dpdk_sys::rte_mbuf>(), "a burst is an array of pointers");
};
