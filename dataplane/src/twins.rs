//! Twins: the Linux interfaces that stand for ports (TAP) and tunnels (TUN).
//!
//! Control makes them and passes their descriptors; the host thread reads what Linux sends and writes what the
//! workers punt. Descriptors are shared with control, so the interfaces outlive this process.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use dpdk::{Mbuf, Pool};
use packet::{Frame, Twin, TwinKind};
use rtrb::Producer;
use rustix::event::epoll;
use rustix::io::Errno;
use shm::Drop as DropReason;
use shm::WorkerCounters;
use shm::socket_messages::{TwinKind as LabelKind, TwinLabel};

/// Packets read from one twin before the others get their turn.
const READ_BATCH: usize = 64;

/// What may wait in a twin that nobody read: the queue of a TAP (1000) or TUN (500), with room to spare.
const BACKLOG_MOST: usize = 4096;

/// The twins whose descriptors this process holds.
#[derive(Debug, Default)]
pub struct Twins {
    held: BTreeMap<TwinLabelKey, Held>,
}

/// Kind and slot, ordered.
type TwinLabelKey = (LabelKind, u32);

#[derive(Debug)]
struct Held {
    label: TwinLabel,
    descriptor: OwnedFd,
}

/// The twin of a label.
#[must_use]
pub fn twin_of(kind: LabelKind, slot: u32) -> Twin {
    match kind {
        LabelKind::Tap => Twin::tap(slot),
        LabelKind::Tun => Twin::tun(slot),
    }
}

fn key_of(twin: Twin) -> TwinLabelKey {
    match twin.kind {
        TwinKind::Tap => (LabelKind::Tap, twin.slot),
        TwinKind::Tun => (LabelKind::Tun, twin.slot),
    }
}

impl Twins {
    /// Takes a twin, in the place of one with the same kind and slot, and lets `epoll` watch it.
    ///
    /// What piled up in it while nobody read is stale by now and is discarded.
    ///
    /// # Errors
    /// The descriptor cannot be watched: it is no twin.
    pub fn insert(
        &mut self,
        epoll: impl AsFd,
        token: epoll::EventData,
        label: TwinLabel,
        descriptor: OwnedFd,
    ) -> rustix::io::Result<()> {
        let flags = rustix::fs::fcntl_getfl(&descriptor)?;
        rustix::fs::fcntl_setfl(&descriptor, flags | rustix::fs::OFlags::NONBLOCK)?;
        epoll::add(&epoll, &descriptor, token, epoll::EventFlags::IN)?;
        let key = (label.kind, label.slot);
        let known = self.held.get(&key).is_some_and(|held| held.label.name == label.name);
        if !known {
            discard_backlog(descriptor.as_fd());
        }
        if let Some(old) = self.held.insert(key, Held { label, descriptor }) {
            // Closing would not be enough: control holds the same open file.
            let _ = epoll::delete(&epoll, &old.descriptor);
        }
        Ok(())
    }

    /// Closes a twin.
    pub fn remove(&mut self, epoll: impl AsFd, twin: Twin) {
        if let Some(old) = self.held.remove(&key_of(twin)) {
            let _ = epoll::delete(epoll, &old.descriptor);
        }
    }

    /// Every twin, with its label.
    pub fn iter(&self) -> impl Iterator<Item = (TwinLabel, BorrowedFd<'_>)> {
        self.held.values().map(|held| (held.label, held.descriptor.as_fd()))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Switches the carrier of a port's twin.
    pub fn set_carrier(&self, port: u32, on: bool) {
        if let Some(held) = self.held.get(&(LabelKind::Tap, port))
            && let Err(error) = crate::sys::set_carrier(&held.descriptor, on)
        {
            tracing::warn!(twin = held.label.name(), %error, "the carrier of a twin could not be set");
        }
    }

    /// Passes what Linux sent by a twin to the worker, one batch; `false` when the twin's interface is gone.
    pub fn read(
        &self,
        twin: Twin,
        pool: &Pool,
        to_worker: &mut Producer<Mbuf>,
        counters: &WorkerCounters,
    ) -> bool {
        let Some(held) = self.held.get(&key_of(twin)) else { return false };
        for _ in 0..READ_BATCH {
            if to_worker.is_full() {
                // The packets wait in the twin, which is watched level-triggered.
                return true;
            }
            let Some(mut mbuf) = pool.allocate() else {
                counters.count_drops(DropReason::NoBuffer, 1);
                discard_one(held.descriptor.as_fd());
                return true;
            };
            let room = mbuf.tailroom();
            let Some(space) = mbuf.append(room) else { return true };
            let length = match rustix::io::read(&held.descriptor, space) {
                Ok(length) => length,
                Err(Errno::AGAIN | Errno::INTR) => return true,
                Err(_) => return false,
            };
            if !mbuf.trim_back(room - length) {
                continue;
            }
            mbuf.meta_mut().twin = twin;
            if to_worker.push(mbuf).is_err() {
                counters.count_drops(DropReason::HostRingFull, 1);
            }
        }
        true
    }

    /// Hands a punted packet to Linux.
    pub fn write(&self, mbuf: &Mbuf, counters: &WorkerCounters) {
        let taken = self.held.get(&key_of(mbuf.meta().twin)).is_some_and(|held| {
            // An interface that is down answers EIO: the packet is for nobody.
            rustix::io::write(&held.descriptor, mbuf.bytes()).is_ok()
        });
        if !taken {
            counters.count_drops(DropReason::TwinFull, 1);
        }
    }
}

fn discard_backlog(descriptor: BorrowedFd<'_>) {
    for _ in 0..BACKLOG_MOST {
        if !discard_one(descriptor) {
            return;
        }
    }
}

/// Reads one packet and forgets it; a short buffer takes a packet off the queue all the same.
fn discard_one(descriptor: BorrowedFd<'_>) -> bool {
    rustix::io::read(descriptor, &mut [0u8; 64]).is_ok()
}
