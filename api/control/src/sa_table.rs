//! The SAs of the dataplane: pairs that the IKE engine asked for, and those that a former process left behind.
//!
//! ```text
//!              both halves acknowledged       Remove / owner gone
//!  Installing ──────────────────────► Active ─────────────────► Lingering ──► (cleared)
//!      │ refused, or no answer in time                              ▲
//!      └──► (cleared), the engine is told            Adopted ───────┘ a new pair of the owner is sent on
//!                                                     ▲   │ its IKE SA is resumed
//!                                             Release └───▼
//!                                                      Active
//! ```
//! An owner's record names the SA that protects what it sends only after the dataplane acknowledged that SA, and stops
//! naming it before it is cleared.

mod record;
mod resumption;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ike::{ChildId, ChildKeyExchange, ChildPair, OperationId, Path};
use shm::records::{NONE, PolicyRecord, SaRecord, TunnelRecord, direction};
use shm::{Ack, Refusal, Table, Writer};

use crate::compile::{Compiled, Owner};
use crate::slots::Slots;

/// How long the dataplane may take to acknowledge a pair.
pub const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(2);

/// How long the inbound half of an adopted SA still accepts once its owner has a new pair.
pub const ADOPTED_LINGER: Duration = Duration::from_secs(10);

/// Why a pair was not installed; a clause for the engine's cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaError {
    /// The configuration has changed since the engine began.
    #[error("the tunnel or flow that it serves is gone")]
    UnknownChild,
    /// The owner has no slot.
    #[error("the tunnel or flow that it serves has no place in the dataplane's tables")]
    NoOwnerSlot,
    /// No slot is free.
    #[error("the SA table is full")]
    Full,
    /// The keys do not fit the algorithm.
    #[error("the keying material has a wrong length")]
    Keys,
    /// No traffic selector, or more of them than a record has room for.
    #[error("an SA carries 1 to {} traffic selectors on each side", shm::records::SELECTORS_MOST)]
    Selectors,
    /// The dataplane said no.
    #[error("{}", .0.description())]
    Refused(Refusal),
    /// The dataplane said nothing.
    #[error("the dataplane did not answer in time")]
    NoAnswer,
}

/// An answer for [`ike::Engine::handle_sa_result`].
pub type Answer = (OperationId, Result<(), SaError>);

/// What is known of an SA slot in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaEntry {
    /// Its slot.
    pub slot: u32,
    /// One of [`direction`].
    pub direction: u8,
    /// Whom it serves.
    pub owner: Owner,
    /// The inbound SPI that names its pair; `None` for an adopted SA.
    pub pair: Option<u32>,
    /// Whether its owner sends on it.
    pub sending: bool,
    /// The key exchange of its pair's own, where there was one; not known of what a former process had installed.
    pub key_exchange: Option<ChildKeyExchange>,
}

/// All SAs in use.
#[derive(Default)]
pub struct SaTable {
    /// By inbound SPI.
    pairs: BTreeMap<u32, Pair>,
    /// Inbound halves that still accept, and adopted SAs, by slot.
    leftovers: BTreeMap<u32, Leftover>,
    /// The slot that each owner sends on.
    outbound: BTreeMap<Owner, u32>,
    /// Where the search for a free slot goes on.
    next: u32,
}

struct Pair {
    child: ChildId,
    owner: Owner,
    inbound: u32,
    outbound: u32,
    stage: Stage,
    key_exchange: Option<ChildKeyExchange>,
    /// Grows with each pair: the youngest serves when the one in use goes.
    age: u64,
}

enum Stage {
    Installing { operation: OperationId, send: bool, versions: [u64; 2], deadline: Instant },
    Active,
}

/// An SA that no pair of the engine holds.
struct Leftover {
    owner: Owner,
    direction: u8,
    /// When it goes; `None` for an adopted SA whose owner has no new pair yet.
    until: Option<Instant>,
}

impl SaTable {
    /// Takes over what a former process left in the region. SAs that cannot be read or named are cleared.
    #[must_use]
    pub fn adopt(writer: &mut Writer, slots: &Slots) -> Self {
        let mut table = Self::default();
        let mut unusable = Vec::new();
        for slot in 0..writer.region().capacities().sas {
            match writer.read::<SaRecord>(slot).map(|found| found.record) {
                Ok(None) => {}
                Ok(Some(sa)) => match record::owner_of(&sa, slots) {
                    Some(owner) => {
                        let leftover = Leftover { owner, direction: sa.direction, until: None };
                        table.leftovers.insert(slot, leftover);
                    }
                    None => unusable.push(slot),
                },
                Err(_) => unusable.push(slot),
            }
        }
        for (slot, leftover) in &table.leftovers {
            let in_use = record::outbound_of(writer, slots, &leftover.owner);
            if leftover.direction == direction::OUTBOUND && in_use == Some(*slot) {
                table.outbound.insert(leftover.owner.clone(), *slot);
            }
        }
        for slot in unusable {
            clear(writer, slot);
        }
        table
    }

    /// The slot that an owner sends on.
    #[must_use]
    pub fn outbound(&self, owner: &Owner) -> Option<u32> {
        self.outbound.get(owner).copied()
    }

    /// Where each owner sends to, and whether in UDP.
    pub fn destinations<'a>(&'a self, writer: &'a Writer) -> impl Iterator<Item = (&'a Owner, IpAddr, bool)> {
        self.outbound.iter().filter_map(|(owner, slot)| {
            let (address, udp) = record::destination(writer, *slot)?;
            Some((owner, address, udp))
        })
    }

    /// All SAs in use.
    pub fn entries(&self) -> impl Iterator<Item = SaEntry> + '_ {
        let pairs = self.pairs.iter().flat_map(|(spi_in, pair)| {
            [(pair.inbound, direction::INBOUND), (pair.outbound, direction::OUTBOUND)]
                .map(|(slot, direction)| self.entry(slot, direction, &pair.owner, Some(*spi_in)))
        });
        let leftovers =
            self.leftovers.iter().map(|(slot, sa)| self.entry(*slot, sa.direction, &sa.owner, None));
        pairs.chain(leftovers)
    }

    fn entry(&self, slot: u32, direction: u8, owner: &Owner, pair: Option<u32>) -> SaEntry {
        let sending = self.outbound(owner) == Some(slot);
        let key_exchange = pair.and_then(|spi_in| self.pairs.get(&spi_in)?.key_exchange.clone());
        SaEntry { slot, direction, owner: owner.clone(), pair, sending, key_exchange }
    }

    /// The inbound SPI that names the pair with a half in this slot; for events of the dataplane.
    #[must_use]
    pub fn pair_in_slot(&self, slot: u32) -> Option<u32> {
        self.pairs
            .iter()
            .find(|(_, pair)| pair.inbound == slot || pair.outbound == slot)
            .map(|(spi_in, _)| *spi_in)
    }

    /// Removes the SAs of children that are no longer compiled, or that now are something else.
    pub fn retain_compiled(&mut self, writer: &mut Writer, slots: &Slots, compiled: &Compiled) {
        let gone: Vec<u32> = self
            .pairs
            .iter()
            .filter(|(_, pair)| !compiled.children.contains_key(&pair.child))
            .map(|(spi_in, _)| *spi_in)
            .collect();
        for spi_in in gone {
            // What a child no longer wants must not accept either: no linger.
            self.remove(writer, slots, spi_in, Duration::ZERO, None);
        }
        let misfits: Vec<u32> = self
            .leftovers
            .iter()
            .filter(|(slot, sa)| {
                let child = compiled.child_of(&sa.owner);
                let found = writer.read::<SaRecord>(**slot).ok().and_then(|found| found.record);
                !found.is_some_and(|found| child.is_some_and(|(_, child)| record::serves(&found, child)))
            })
            .map(|(slot, _)| *slot)
            .collect();
        for slot in misfits {
            self.drop_leftover(writer, slots, slot);
        }
    }

    /// Writes both halves of a pair. The answer comes out of [`SaTable::progress`].
    ///
    /// # Errors
    /// The pair cannot be installed; nothing was written.
    pub fn install(
        &mut self,
        writer: &mut Writer,
        slots: &Slots,
        compiled: &Compiled,
        pair: &ChildPair,
        (operation, send): (OperationId, bool),
        now: Instant,
    ) -> Result<(), SaError> {
        let child = compiled.children.get(&pair.child).ok_or(SaError::UnknownChild)?;
        let (owner_kind, owner_slot) = record::owner_slot(slots, &child.owner).ok_or(SaError::NoOwnerSlot)?;
        let mut halves = record::records(pair, child, owner_kind, owner_slot)?;
        let inbound = self.free_slot(writer, NONE)?;
        let outbound = self.free_slot(writer, inbound)?;
        let mut versions = [0; 2];
        for ((half, slot), version) in halves.iter_mut().zip([inbound, outbound]).zip(&mut versions) {
            half.record.generation = writer.next_sa_generation();
            *version = writer.put(slot, &half.record).map_err(|_| SaError::Full)?;
        }
        let stage = Stage::Installing { operation, send, versions, deadline: now + ACKNOWLEDGE_WITHIN };
        let age = self.pairs.values().map(|pair| pair.age + 1).max().unwrap_or(0);
        let installed = Pair {
            child: pair.child,
            owner: child.owner.clone(),
            inbound,
            outbound,
            stage,
            key_exchange: pair.key_exchange.clone(),
            age,
        };
        self.pairs.insert(pair.spi_in, installed);
        Ok(())
    }

    /// Moves what the owner of a pair sends to this pair.
    pub fn switch_outbound(&mut self, writer: &mut Writer, slots: &Slots, spi_in: u32, now: Instant) {
        match self.pairs.get_mut(&spi_in) {
            // The engine is ahead of the dataplane: the switch comes with the acknowledgement.
            Some(Pair { stage: Stage::Installing { send, .. }, .. }) => *send = true,
            Some(Pair { owner, outbound, .. }) => {
                let (owner, outbound) = (owner.clone(), *outbound);
                self.send_on(writer, slots, &owner, outbound, now);
            }
            None => {}
        }
    }

    /// Both halves of a pair go on between these addresses, in UDP or not. The generation stays, and with it sequence numbers, replay
    /// window and counts.
    pub fn relocate(&mut self, writer: &mut Writer, spi_in: u32, path: Path, udp_encapsulation: bool) {
        let Some(pair) = self.pairs.get(&spi_in) else { return };
        for slot in [pair.inbound, pair.outbound] {
            let found = writer.read::<SaRecord>(slot).ok().and_then(|found| found.record);
            let Some(mut half) = found.map(|record| record::Half { record }) else { continue };
            half.record.udp_encapsulation = u8::from(udp_encapsulation);
            half.send_between(path);
            // The slot came out of the table itself: it is within it.
            let _ = writer.put(slot, &half.record);
        }
    }

    /// Removes a pair: outbound at once, inbound after `linger` (at once without `now`).
    pub fn remove(
        &mut self,
        writer: &mut Writer,
        slots: &Slots,
        spi_in: u32,
        linger: Duration,
        now: Option<Instant>,
    ) {
        let Some(pair) = self.pairs.remove(&spi_in) else { return };
        if self.outbound(&pair.owner) == Some(pair.outbound) {
            let heir = self
                .pairs
                .values()
                .filter(|other| other.owner == pair.owner && matches!(other.stage, Stage::Active))
                .max_by_key(|other| other.age)
                .map(|other| other.outbound);
            match heir {
                Some(heir) => self.outbound.insert(pair.owner.clone(), heir),
                None => self.outbound.remove(&pair.owner),
            };
            record::put_outbound(writer, slots, &pair.owner, heir);
        }
        clear(writer, pair.outbound);
        match now {
            Some(now) if !linger.is_zero() => {
                let until = Some(now + linger);
                let leftover = Leftover { owner: pair.owner, direction: direction::INBOUND, until };
                self.leftovers.insert(pair.inbound, leftover);
            }
            _ => clear(writer, pair.inbound),
        }
    }

    /// Looks at acknowledgements and at the clock.
    pub fn progress(&mut self, writer: &mut Writer, slots: &Slots, now: Instant) -> Vec<Answer> {
        let mut answers = Vec::new();
        let installing: Vec<u32> = self
            .pairs
            .iter()
            .filter(|(_, pair)| matches!(pair.stage, Stage::Installing { .. }))
            .map(|(spi_in, _)| *spi_in)
            .collect();
        for spi_in in installing {
            answers.extend(self.progress_install(writer, slots, spi_in, now));
        }
        let over: Vec<u32> = self
            .leftovers
            .iter()
            .filter(|(_, sa)| sa.until.is_some_and(|until| until <= now))
            .map(|(slot, _)| *slot)
            .collect();
        for slot in over {
            self.drop_leftover(writer, slots, slot);
        }
        answers
    }

    /// When [`SaTable::progress`] has something to do at the latest.
    #[must_use]
    pub fn wake_at(&self) -> Option<Instant> {
        let deadlines = self.pairs.values().filter_map(|pair| match pair.stage {
            Stage::Installing { deadline, .. } => Some(deadline),
            Stage::Active => None,
        });
        deadlines.chain(self.leftovers.values().filter_map(|sa| sa.until)).min()
    }

    fn progress_install(
        &mut self,
        writer: &mut Writer,
        slots: &Slots,
        spi_in: u32,
        now: Instant,
    ) -> Option<Answer> {
        let pair = self.pairs.get_mut(&spi_in)?;
        let Stage::Installing { operation, send, versions, deadline } = pair.stage else { return None };
        let verdict = match verdict(writer, [pair.inbound, pair.outbound], versions) {
            None if now < deadline => return None,
            None => Err(SaError::NoAnswer),
            Some(verdict) => verdict,
        };
        if verdict.is_ok() {
            pair.stage = Stage::Active;
            if send {
                self.switch_outbound(writer, slots, spi_in, now);
            }
        } else {
            self.remove(writer, slots, spi_in, Duration::ZERO, None);
        }
        Some((operation, verdict))
    }

    /// The owner's record names `outbound` from now on; what it named before from an adopted SA goes.
    fn send_on(&mut self, writer: &mut Writer, slots: &Slots, owner: &Owner, outbound: u32, now: Instant) {
        self.outbound.insert(owner.clone(), outbound);
        record::put_outbound(writer, slots, owner, Some(outbound));
        let adopted: Vec<(u32, u8)> = self
            .leftovers
            .iter()
            .filter(|(_, sa)| sa.owner == *owner && sa.until.is_none())
            .map(|(slot, sa)| (*slot, sa.direction))
            .collect();
        for (slot, direction) in adopted {
            if direction == direction::OUTBOUND {
                self.drop_leftover(writer, slots, slot);
            } else if let Some(sa) = self.leftovers.get_mut(&slot) {
                sa.until = Some(now + ADOPTED_LINGER);
            }
        }
    }

    fn drop_leftover(&mut self, writer: &mut Writer, slots: &Slots, slot: u32) {
        let Some(sa) = self.leftovers.remove(&slot) else { return };
        if self.outbound(&sa.owner) == Some(slot) {
            self.outbound.remove(&sa.owner);
            record::put_outbound(writer, slots, &sa.owner, None);
        }
        clear(writer, slot);
    }

    /// A slot that is not in use, not `but`, and that the dataplane let go of.
    fn free_slot(&mut self, writer: &Writer, but: u32) -> Result<u32, SaError> {
        let capacity = writer.region().capacities().sas;
        let free = (0..capacity)
            .map(|offset| (self.next + offset) % capacity)
            .find(|slot| *slot != but && writer.region().is_reusable(Table::Sas, *slot))
            .ok_or(SaError::Full)?;
        self.next = (free + 1) % capacity;
        Ok(free)
    }
}

/// What the dataplane said of both halves; `None` while it has not looked at both.
fn verdict(writer: &Writer, slots: [u32; 2], versions: [u64; 2]) -> Option<Result<(), SaError>> {
    let acks = slots.map(|slot| writer.region().ack(Table::Sas, slot));
    if let Some(refusal) = acks
        .iter()
        .zip(versions)
        .find_map(|(Ack { applied, refused }, version)| refused.filter(|_| *applied >= version))
    {
        return Some(Err(SaError::Refused(refusal)));
    }
    acks.iter().zip(versions).all(|(ack, version)| ack.applied >= version).then_some(Ok(()))
}

/// Overwrites an SA, and its keys, with zeroes.
fn clear(writer: &mut Writer, slot: u32) {
    // The slot came out of the table itself: it is within it.
    let _ = writer.clear(Table::Sas, slot);
}

/// The record that names the SA of an owner.
enum OwnerRecord {
    Tunnel(u32, TunnelRecord),
    Policy(u32, PolicyRecord),
}
