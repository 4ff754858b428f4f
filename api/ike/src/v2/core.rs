//! What all IKE SAs of an engine share: randomness, indexes, and the way out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connections::Connections;
use super::cookie::CookieJar;
use super::sa::IkeSa;
use crate::crypto::{Datagrams, Random, Secret};
use crate::{
    Cause, ChildId, Connection, ConnectionId, Event, IkeSaId, Limits, OperationId, Output, Path, SaOperation,
};

/// What an SA asks the engine to do to others, once its own step is over.
pub(crate) enum Followup {
    /// A rekey of the IKE SA is decided: children and waiting jobs move.
    MoveChildren { from: IkeSaId, to: IkeSaId },
    /// The peer has forgotten all it had before (RFC 7296 section 2.4, INITIAL_CONTACT).
    ForgetOlder { survivor: IkeSaId },
    /// An SA that lost a rekey collision: its creator deletes it; gone by itself if the delete does not come for so long.
    Abandon(IkeSaId, Duration),
    /// Pairs ended with an SA that was replaced: the peer is told over the one that serves now.
    TellDeleted { connection: ConnectionId, pairs: Vec<u32> },
    /// Look whether the connection has all it wants.
    Ensure(ConnectionId),
    /// An SA came up: attempts that it makes needless stop, duplicates are looked for later.
    Established(IkeSaId),
}

/// Shared by all IKE SAs.
pub(crate) struct Core {
    pub(crate) limits: Limits,
    pub(crate) random: Random,
    /// An instant, and the seconds since 1970 then.
    pub(crate) wall_clock: Option<(Instant, u64)>,
    pub(crate) cookies: CookieJar,
    pub(crate) outputs: VecDeque<Output>,
    /// What is to be kept of IKE SAs, by our SPIs; before all `outputs`.
    pub(crate) keepings: BTreeMap<u64, Option<Secret>>,
    pub(crate) counters: BTreeMap<&'static str, u64>,
    pub(crate) connections: Connections,
    /// Install operations without an answer.
    pub(crate) operations: BTreeMap<OperationId, IkeSaId>,
    /// Our inbound SPIs in use or promised, with the IKE SA that holds them.
    pub(crate) esp: BTreeMap<u32, IkeSaId>,
    pub(crate) by_spi: BTreeMap<u64, IkeSaId>,
    pub(crate) born: Vec<IkeSa>,
    pub(crate) followups: VecDeque<Followup>,
    /// Installed pairs of each child.
    pairs: BTreeMap<ChildId, BTreeSet<u32>>,
    /// The pair on which each child sends.
    sending: BTreeMap<ChildId, u32>,
    next_ike_sa: u64,
    next_operation: u64,
}

/// SPIs below are reserved (RFC 4303 section 2.1) or so small that people use them by hand.
const FIRST_ESP_SPI: u32 = 0x1000;

impl Core {
    /// The peer of a connection was followed to the end of this path.
    pub(crate) fn peer_moved(&mut self, connection: ConnectionId, path: Path) {
        self.count("peer_moves");
        self.connections.followed(connection, path.remote.ip());
    }

    pub(crate) fn new(limits: Limits, seed: [u8; 32]) -> Self {
        Self {
            limits,
            random: Random::new(seed),
            wall_clock: None,
            cookies: CookieJar::default(),
            outputs: VecDeque::new(),
            keepings: BTreeMap::new(),
            counters: BTreeMap::new(),
            connections: Connections::default(),
            operations: BTreeMap::new(),
            esp: BTreeMap::new(),
            by_spi: BTreeMap::new(),
            born: Vec::new(),
            followups: VecDeque::new(),
            pairs: BTreeMap::new(),
            sending: BTreeMap::new(),
            next_ike_sa: 1,
            next_operation: 1,
        }
    }

    pub(crate) fn count(&mut self, name: &'static str) {
        let counter = self.counters.entry(name).or_default();
        *counter = counter.saturating_add(1);
    }

    /// Seconds since 1970; `None` before the host has told.
    pub(crate) fn unix_secs(&self, now: Instant) -> Option<u64> {
        let (then, unix_secs) = self.wall_clock?;
        Some(unix_secs.saturating_add(now.saturating_duration_since(then).as_secs()))
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// Sends a message, behind the non-ESP marker where the path asks for it.
    pub(crate) fn transmit(&mut self, path: Path, message: &[u8]) {
        let mut bytes = Vec::with_capacity(message.len().saturating_add(4));
        if path.local.port() == self.limits.nat_port {
            bytes.extend_from_slice(&[0; 4]);
        }
        bytes.extend_from_slice(message);
        self.outputs.push_back(Output::Transmit { path, bytes });
        self.count("messages_out");
    }

    /// Sends a message that may consist of fragments.
    pub(crate) fn transmit_all(&mut self, path: Path, datagrams: &Datagrams) {
        for datagram in datagrams {
            self.transmit(path, datagram);
        }
    }

    pub(crate) fn config(&self, id: ConnectionId) -> Option<Arc<Connection>> {
        self.connections.get(id).map(|state| Arc::clone(state.config()))
    }

    pub(crate) fn new_ike_sa_id(&mut self) -> IkeSaId {
        let id = IkeSaId(self.next_ike_sa);
        self.next_ike_sa = self.next_ike_sa.wrapping_add(1);
        id
    }

    pub(crate) fn new_ike_spi(&mut self, holder: IkeSaId) -> u64 {
        let spi = self.unused_ike_spi();
        self.by_spi.insert(spi, holder);
        spi
    }

    /// An SPI that nobody has, for an SA that may not come to be: whoever makes that books it.
    pub(crate) fn unused_ike_spi(&mut self) -> u64 {
        loop {
            let spi = self.random.u64();
            if spi != 0 && !self.by_spi.contains_key(&spi) {
                return spi;
            }
        }
    }

    pub(crate) fn new_esp_spi(&mut self, holder: IkeSaId) -> u32 {
        loop {
            let spi = self.random.u32();
            if spi >= FIRST_ESP_SPI && !self.esp.contains_key(&spi) {
                self.esp.insert(spi, holder);
                return spi;
            }
        }
    }

    pub(crate) fn new_operation(&mut self, holder: IkeSaId) -> OperationId {
        let operation = OperationId(self.next_operation);
        self.next_operation = self.next_operation.wrapping_add(1);
        self.operations.insert(operation, holder);
        operation
    }

    pub(crate) fn has_pair(&self, child: ChildId) -> bool {
        self.pairs.contains_key(&child)
    }

    pub(crate) fn other_pairs(&self, child: ChildId, spi_in: u32) -> Vec<u32> {
        let pairs = self.pairs.get(&child).into_iter().flatten();
        pairs.copied().filter(|other| *other != spi_in).collect()
    }

    pub(crate) fn sending_on(&self, child: ChildId) -> Option<u32> {
        self.sending.get(&child).copied()
    }

    /// A pair is installed in the dataplane.
    pub(crate) fn pair_up(&mut self, child: ChildId, spi_in: u32, sends: bool) {
        self.pairs.entry(child).or_default().insert(spi_in);
        if sends {
            self.sending.insert(child, spi_in);
        }
    }

    /// Moves outbound traffic of the child to this pair, unless it is there already.
    pub(crate) fn switch_outbound(&mut self, child: ChildId, spi_in: u32) {
        let installed = self.pairs.get(&child).is_some_and(|pairs| pairs.contains(&spi_in));
        if installed && self.sending.insert(child, spi_in) != Some(spi_in) {
            self.outputs.push_back(Output::Sa(SaOperation::SwitchOutbound { child, spi_in }));
        }
    }

    /// Takes a pair out of the dataplane. Traffic moves to `heir`, or to any other pair of the child; without one the
    /// child is down, which `true` tells.
    pub(crate) fn pair_down(
        &mut self,
        child: ChildId,
        spi_in: u32,
        heir: Option<u32>,
        linger: Duration,
    ) -> bool {
        self.esp.remove(&spi_in);
        let rest = self.pairs.get_mut(&child).map(|pairs| {
            pairs.remove(&spi_in);
            heir.filter(|heir| pairs.contains(heir)).or_else(|| pairs.last().copied())
        });
        let rest = rest.flatten();
        if self.sending_on(child) == Some(spi_in) {
            match rest {
                Some(heir) => self.switch_outbound(child, heir),
                None => {
                    self.sending.remove(&child);
                }
            }
        }
        if rest.is_none() {
            self.pairs.remove(&child);
        }
        self.outputs.push_back(Output::Sa(SaOperation::Remove { spi_in, linger }));
        rest.is_none()
    }

    /// Leaves a pair in the dataplane to the host. Traffic moves to any other pair of the child.
    pub(crate) fn pair_released(&mut self, child: ChildId, spi_in: u32) {
        self.esp.remove(&spi_in);
        let rest = self.pairs.get_mut(&child).and_then(|pairs| {
            pairs.remove(&spi_in);
            pairs.last().copied()
        });
        if rest.is_none() {
            self.pairs.remove(&child);
        }
        if self.sending_on(child) == Some(spi_in) {
            match rest {
                Some(heir) => self.switch_outbound(child, heir),
                None => {
                    self.sending.remove(&child);
                }
            }
        }
        self.outputs.push_back(Output::Sa(SaOperation::Release { spi_in }));
    }

    /// Says that a child is down, and sees to its coming back.
    pub(crate) fn child_down(&mut self, connection: ConnectionId, child: ChildId, cause: Cause) {
        self.event(Event::ChildDown { child, cause });
        self.followups.push_back(Followup::Ensure(connection));
    }
}
