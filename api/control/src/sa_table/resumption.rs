//! Adopted pairs that go back into the hands of an engine, because it resumes their IKE SA, and out of them again when
//! the peer no longer has that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use ike::{Resumable, ResumablePair};
use shm::Writer;
use shm::records::{SaRecord, direction};

use super::{ADOPTED_LINGER, Leftover, Pair, SaTable, Stage};
use crate::compile::{Compiled, Owner};
use crate::slots::Slots;

impl SaTable {
    /// Gives adopted pairs to the IKE SAs that they belong to. An IKE SA stays in the list only if all its pairs are here,
    /// and if its children have no other: the peer may send on that.
    pub fn give_back(
        &mut self,
        writer: &Writer,
        compiled: &Compiled,
        resumables: &mut Vec<Resumable>,
        now: Instant,
    ) {
        let adopted = self.adopted(writer);
        let halves = |pair: &ResumablePair| {
            let owner = &compiled.children.get(&pair.child)?.owner;
            let slot = |direction, spi| adopted.get(&(owner.clone(), direction, spi)).copied();
            let inbound = slot(direction::INBOUND, pair.spi_in)?;
            Some((owner, inbound, slot(direction::OUTBOUND, pair.spi_out)?))
        };
        loop {
            let claimed: BTreeSet<u32> = resumables
                .iter()
                .flat_map(Resumable::pairs)
                .filter_map(|pair| halves(pair).map(|(_, _, outbound)| outbound))
                .collect();
            let stands = |pair: &ResumablePair| {
                halves(pair).is_some_and(|(owner, _, _)| {
                    // The inbound half of a pair that was replaced may be here alone for a while.
                    let mut of_owner = adopted
                        .iter()
                        .filter(|((other, way, _), _)| other == owner && *way == direction::OUTBOUND);
                    self.outbound(owner).is_some() && of_owner.all(|(_, slot)| claimed.contains(slot))
                })
            };
            let before = resumables.len();
            resumables.retain(|resumable| resumable.pairs().all(stands));
            if resumables.len() == before {
                break;
            }
        }
        for resumable in resumables {
            let pairs: Vec<ResumablePair> = resumable.pairs().copied().collect();
            for pair in pairs {
                let Some((owner, inbound, outbound)) = halves(&pair) else { continue };
                if self.outbound(owner) == Some(outbound) {
                    resumable.sends_on(pair.spi_in);
                }
                self.take_back(&pair, owner, [inbound, outbound], now);
            }
        }
    }

    /// Adopted SAs that nothing has replaced, by whom they serve, direction and SPI.
    fn adopted(&self, writer: &Writer) -> BTreeMap<(Owner, u8, u32), u32> {
        self.leftovers
            .iter()
            .filter(|(_, sa)| sa.until.is_none())
            .filter_map(|(slot, sa)| {
                let spi = writer.read::<SaRecord>(*slot).ok()?.record?.spi;
                Some(((sa.owner.clone(), sa.direction, spi), *slot))
            })
            .collect()
    }

    fn take_back(&mut self, pair: &ResumablePair, owner: &Owner, slots: [u32; 2], now: Instant) {
        let [inbound, outbound] = slots;
        for slot in slots {
            self.leftovers.remove(&slot);
        }
        for sa in self.leftovers.values_mut().filter(|sa| sa.owner == *owner) {
            if sa.direction == direction::INBOUND && sa.until.is_none() {
                sa.until = Some(now + ADOPTED_LINGER);
            }
        }
        let age = self.pairs.values().map(|pair| pair.age + 1).max().unwrap_or(0);
        let (owner, stage) = (owner.clone(), Stage::Active);
        let child = pair.child;
        let key_exchange = None;
        self.pairs.insert(pair.spi_in, Pair { child, owner, inbound, outbound, stage, key_exchange, age });
    }

    /// A pair goes on without an engine, as an adopted one does: until its owner sends on another pair. If it does so
    /// already, it goes now, the inbound half after a while.
    pub fn release(&mut self, writer: &mut Writer, slots: &Slots, spi_in: u32, now: Instant) {
        let Some(pair) = self.pairs.remove(&spi_in) else { return };
        for (slot, direction) in [(pair.inbound, direction::INBOUND), (pair.outbound, direction::OUTBOUND)] {
            let leftover = Leftover { owner: pair.owner.clone(), direction, until: None };
            self.leftovers.insert(slot, leftover);
        }
        let serving = self.outbound(&pair.owner).filter(|slot| !self.leftovers.contains_key(slot));
        if let Some(serving) = serving {
            self.send_on(writer, slots, &pair.owner, serving, now);
        }
    }
}
