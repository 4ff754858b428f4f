//! The dataplane as seen from here: whether it lives, what it says on the socket, and what its SAs did.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use ike::{Command, DataplaneEvent};
use shm::records::direction;
use shm::socket_messages::Doorbell;
use shm::{EventKind, EventRecord, PortState, Region};

use super::Gateway;
use crate::compile::Owner;
use crate::picture::heartbeat_age;
use crate::sa_table::SaEntry;
use crate::server::{DataplaneLink, ServerEvent};

/// Whether there is a dataplane.
pub(super) struct Presence {
    link: Option<DataplaneLink>,
    alive: bool,
    /// Since when it has been silent; before it was ever seen, the start of this process.
    silent_since: Instant,
}

impl Presence {
    pub(super) fn new() -> Self {
        Self { link: None, alive: false, silent_since: Instant::now() }
    }

    /// Its heartbeat moves.
    pub(super) const fn is_alive(&self) -> bool {
        self.alive
    }

    /// It is on the socket.
    pub(super) const fn is_connected(&self) -> bool {
        self.link.is_some()
    }

    /// Rings its doorbell. Without one there is nobody to ring for: it reads everything when it comes.
    pub(super) fn ring(&self) {
        if let Some(link) = &self.link {
            link.ring();
        }
    }
}

/// What was already told to the engine of each SA's runtime state: by slot, for one generation.
#[derive(Default)]
pub(super) struct Runtimes {
    told: BTreeMap<u32, Told>,
}

#[derive(Clone, Copy, Default)]
struct Told {
    generation: u64,
    first: bool,
    soft: bool,
    hard: bool,
    packets: u64,
}

impl Runtimes {
    /// What the runtime state of an SA says that was not told yet. The state is the truth and lasts; the dataplane's
    /// events only say when to look, so a lost one costs a moment.
    fn look(&mut self, region: &Region, entry: &SaEntry) -> Vec<DataplaneEvent> {
        let (Some(spi_in), Some(runtime)) = (entry.pair, region.sa_runtime(entry.slot)) else {
            return Vec::new();
        };
        let generation = runtime.generation.load(Relaxed);
        let told = self.told.entry(entry.slot).or_default();
        if told.generation != generation {
            *told = Told { generation, ..Told::default() };
        }
        let mut events = Vec::new();
        let mut once = |told: &mut bool, happened: bool, event| {
            if happened && !*told {
                *told = true;
                events.push(event);
            }
        };
        let packets = runtime.packets.load(Relaxed);
        if entry.direction == direction::INBOUND {
            once(&mut told.first, packets > 0, DataplaneEvent::FirstPacket { spi_in });
        }
        once(&mut told.soft, runtime.soft_sent.load(Relaxed) != 0, DataplaneEvent::SoftLimit { spi_in });
        once(&mut told.hard, runtime.hard_sent.load(Relaxed) != 0, DataplaneEvent::HardLimit { spi_in });
        if entry.direction == direction::INBOUND && packets != told.packets {
            events.push(DataplaneEvent::Traffic { spi_in });
        }
        told.packets = packets;
        events
    }

    fn retain(&mut self, entries: &[SaEntry]) {
        self.told.retain(|slot, _| entries.iter().any(|entry| entry.slot == *slot));
    }
}

impl Gateway {
    pub(super) fn on_server(&mut self, event: ServerEvent) {
        match event {
            ServerEvent::Connected { link, pid, epoch, twins } => {
                tracing::info!(pid, epoch, twins = twins.len(), "the dataplane connected");
                self.greeted = Some((link.clone(), twins));
                self.dataplane.link = Some(link);
                // Twins that were busy are here now and want their settings.
                self.apply_devices();
                self.dataplane.ring();
                self.beat(Instant::now());
            }
            ServerEvent::Doorbell(Doorbell::Acks | Doorbell::Changes) => {
                let progress = self.executor.progress(Instant::now());
                self.absorb(progress);
                self.survey_soon();
            }
            ServerEvent::Doorbell(Doorbell::Events) => self.take_events(),
            ServerEvent::Disconnected { connection } => {
                if self.dataplane.link.as_ref().is_some_and(|link| link.connection() == connection) {
                    self.dataplane.link = None;
                    self.twins.disconnected();
                }
                self.survey_soon();
            }
        }
    }

    /// The regular look: heartbeat, events, runtime states, neighbours.
    pub(super) fn beat(&mut self, now: Instant) {
        const KEEP_EVERY: Duration = Duration::from_secs(2);
        let fresh = heartbeat_age(&self.region).is_some_and(|age| age < self.config.away_after);
        if fresh {
            self.dataplane.silent_since = now;
        }
        match (self.dataplane.alive, fresh) {
            (false, true) => {
                tracing::info!("the dataplane is running");
                self.dataplane.alive = true;
                self.mirror.hold_neighbours(false);
                self.set_carriers();
                self.settle_at.get_or_insert(now);
                self.connect(now);
                self.survey_soon();
            }
            (true, false) => {
                tracing::warn!(away_after = ?self.config.away_after, "the dataplane is silent");
                self.dataplane.alive = false;
                self.mirror.hold_neighbours(true);
                self.set_carriers();
                self.survey_soon();
            }
            // It never came: routing must not lead here either.
            (false, false) if now - self.dataplane.silent_since >= self.config.away_after => {
                self.mirror.hold_neighbours(true);
                self.set_carriers();
            }
            _ => {}
        }
        self.take_events();
        self.look_at_runtimes();
        if self.dataplane.alive && now >= self.keep_at {
            self.keep_at = now + KEEP_EVERY;
            self.keep_neighbours(true);
        }
    }

    /// Carriers follow the dataplane, and the TAP's also its wire.
    fn set_carriers(&mut self) {
        let alive = self.dataplane.alive;
        let names: Vec<(String, bool)> = self
            .specs
            .iter()
            .map(|spec| {
                let wire = match spec.kind {
                    shm::socket_messages::TwinKind::Tap => self.has_wire(spec.slot),
                    shm::socket_messages::TwinKind::Tun => true,
                };
                (spec.name.clone(), alive && wire)
            })
            .collect();
        for (name, on) in names {
            self.twins.set_carrier(&name, on);
        }
    }

    /// Whether the wire of a port may have a carrier. A port that is being opened has: an interruption of routing for
    /// each restart of the dataplane would be worse than the wrong word for a moment.
    fn has_wire(&self, slot: u32) -> bool {
        self.region
            .port_status(slot)
            .is_none_or(|status| !matches!(status.state(), PortState::LinkDown | PortState::Failed))
    }

    fn take_events(&mut self) {
        let mut slots = Vec::new();
        while let Some(event) = self.events.pop() {
            match EventKind::from_number(event.kind) {
                Some(
                    EventKind::SoftLimit | EventKind::HardLimit | EventKind::FirstPacket | EventKind::Traffic,
                ) => slots.push(event.slot),
                Some(EventKind::AcquireTunnel | EventKind::AcquirePolicy) => self.acquire(&event),
                Some(EventKind::PeerMoved) => self.peer_moved(&event),
                Some(EventKind::PortChanged) => {
                    self.apply_devices();
                    self.set_carriers();
                    self.survey_soon();
                }
                None => tracing::debug!(kind = event.kind, "the dataplane sent an event of an unknown kind"),
            }
        }
        if !slots.is_empty() {
            self.look_at_runtimes();
        }
    }

    /// Tells the engine what SAs did.
    fn look_at_runtimes(&mut self) {
        let entries: Vec<SaEntry> = self.executor.sas().entries().collect();
        self.runtimes.retain(&entries);
        let runtimes = &mut self.runtimes;
        let region = &self.region;
        let events: Vec<DataplaneEvent> =
            entries.iter().flat_map(|entry| runtimes.look(region, entry)).collect();
        if events.is_empty() {
            return;
        }
        let now = Instant::now();
        for event in events {
            self.driver.dataplane(now, event);
            self.negotiate();
        }
    }

    /// An authentic packet came from where the peer was not before. An event of an SA that another one followed in its slot
    /// means nothing any more.
    fn peer_moved(&mut self, event: &EventRecord) {
        let runtime = self.region.sa_runtime(event.slot);
        let is_current = runtime.is_some_and(|runtime| runtime.generation.load(Relaxed) == event.a);
        let pair = self.executor.sas().pair_in_slot(event.slot).filter(|_| is_current);
        let place = u32::try_from(event.c).ok().zip(u16::try_from(event.d).ok());
        let (Some(spi_in), Some((address, port))) = (pair, place) else { return };
        let remote = SocketAddr::from((Ipv4Addr::from_bits(address), port));
        tracing::info!(spi_in = format!("{spi_in:#010x}"), %remote, "the peer's NAT shows it elsewhere");
        self.driver.dataplane(Instant::now(), DataplaneEvent::PeerMoved { spi_in, remote });
        self.negotiate();
    }

    /// A packet met a tunnel or a flow that has no SA.
    fn acquire(&mut self, event: &EventRecord) {
        let slots = self.executor.slots();
        let owner = match EventKind::from_number(event.kind) {
            Some(EventKind::AcquireTunnel) => slots.tunnels.key(event.slot).cloned().map(Owner::Tunnel),
            _ => slots.policies.key(event.slot).cloned().map(Owner::Policy),
        };
        let child = owner.and_then(|owner| Some(self.compiled.as_ref()?.child_of(&owner)?.0));
        if let Some(child) = child {
            self.driver.command(Instant::now(), Command::InitiateChild(child));
            self.negotiate();
        }
    }
}
