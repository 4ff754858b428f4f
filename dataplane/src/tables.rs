//! Applies the region's tables to a worker, slot by slot.

use dpdk::{Eal, RxQueue, TxQueue};
use forward::{Engine, RecordError, Rib, Update};
use shm::records::{
    NeighbourRecord, PolicyRecord, PortRecord, RouteRecord, RuleRecord, SaRecord, TunnelRecord,
};
use shm::{Reader, Record, Refusal, Region, RegionError, Table};

use crate::answers::{Answer, Answers};
use crate::changes::{Changes, Seen};
use crate::link::{Command, HostLink, Report};
use crate::rules::Rules;

/// Commands that one slot can lead to, at most: a route takes its next hop, releases another, moves a prefix and
/// changes our addresses.
const COMMANDS_PER_SLOT: usize = 16;

/// The host thread's side of the tables of one worker.
pub struct HostTables {
    region: &'static Region,
    engine: Engine,
    changes: Changes,
    answers: Answers,
    rules: Rules,
    /// Answers to the rules that wait for their crypto map to be compiled.
    rule_answers: Vec<Answer>,
    rib: Rib,
    /// The rings to the worker.
    pub link: HostLink,
}

/// What one step did.
pub enum Step {
    /// There is nothing to do now.
    Idle,
    /// Something was done; there may be more.
    Busy,
    /// The record of a port changed: the caller knows devices.
    Port(PortChange),
}

/// A port as its record says it now; `None` when it is gone.
#[derive(Debug, Clone, Copy)]
pub struct PortChange {
    /// Slot of the port.
    pub slot: u32,
    /// Version of the slot.
    pub version: u64,
    /// The record.
    pub record: Option<PortRecord>,
}

/// Queues that a worker gave back.
#[derive(Debug)]
pub struct DetachedPort {
    /// Slot of the port.
    pub slot: u32,
    /// Receive queue.
    pub rx: Option<RxQueue>,
    /// Transmit queue.
    pub tx: Option<TxQueue>,
}

impl HostTables {
    /// For the worker at the other end of `link`.
    ///
    /// # Errors
    /// Somebody else reads this region in this process.
    pub fn new(region: &'static Region, engine: Engine, link: HostLink) -> Result<Self, RegionError> {
        Ok(Self {
            region,
            engine,
            changes: Changes::new(region.reader()?),
            answers: Answers::default(),
            rules: Rules::default(),
            rule_answers: Vec::new(),
            rib: Rib::new(),
            link,
        })
    }

    /// The region's reader, for status.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        self.changes.reader()
    }

    /// Looks at one slot that changed.
    pub fn step(&mut self, eal: &Eal) -> Step {
        if self.link.room() < COMMANDS_PER_SLOT {
            return Step::Idle;
        }
        let next = self.changes.next_slot();
        // Rules are compiled when a batch of them ends: at another table, or when nothing is left.
        if self.rules.are_dirty() && !matches!(next, Some((Table::Rules | Table::Ports, _))) {
            self.compile_rules(eal);
        }
        let Some((table, slot)) = next else { return Step::Idle };
        match table {
            Table::Ports => return self.port_step(slot),
            Table::Tunnels => self.tunnel_step(slot),
            Table::Sas => self.sa_step(slot),
            Table::Policies => self.policy_step(slot),
            Table::Rules => self.rule_step(slot),
            Table::Routes => self.route_step(slot),
            Table::Neighbours => self.neighbour_step(slot),
        }
        Step::Busy
    }

    /// Whether all that is in the region is in force: no scan and no command is under way.
    #[must_use]
    pub fn are_settled(&self) -> bool {
        !self.changes.is_scanning() && !self.rules.are_dirty() && self.link.in_flight() == 0
    }

    /// Puts a port with its device's link-layer address in force.
    pub fn set_port(&mut self, change: PortChange, mac: [u8; 6]) {
        let PortChange { slot, version, record } = change;
        let has_crypto_map = record.is_some_and(|record| record.crypto_map != 0);
        self.rules.set_port(slot, has_crypto_map);
        let update = Update::port(slot, record.as_ref(), mac);
        self.send(vec![update], Self::answer(Table::Ports, slot, version));
    }

    /// Takes a port out of force before its device is closed; its answer comes later.
    pub fn clear_port(&mut self, slot: u32) {
        self.command(Command::Apply(Update::Port(slot, None)), Vec::new());
        self.command(Command::Detach { slot }, Vec::new());
    }

    /// Says that a version of a port is in force without the worker having to do anything.
    pub fn accept_port(&mut self, slot: u32, version: u64) {
        self.rules.set_port(slot, false);
        self.answers.give_in_order(self.changes.reader(), Self::answer(Table::Ports, slot, version));
    }

    /// Says that a version of a port cannot be put in force.
    pub fn refuse_port(&mut self, slot: u32, version: u64, refusal: Refusal) {
        let answer = Answer { refusal: Some(refusal), ..Self::answer(Table::Ports, slot, version) };
        self.answers.give_in_order(self.changes.reader(), answer);
    }

    /// Looks at a port once more, as if its record had changed.
    pub fn look_again_at_port(&mut self, slot: u32) {
        self.changes.look_again(Table::Ports, slot);
    }

    /// Lets the worker poll the queues of a port.
    pub fn attach_port(&mut self, slot: u32, rx: Option<RxQueue>, tx: Option<TxQueue>) {
        self.command(Command::Attach { slot, rx, tx }, Vec::new());
    }

    /// Takes the worker's reports: gives acknowledgements, frees what was replaced, and returns detached ports.
    pub fn take_reports(&mut self) -> Vec<DetachedPort> {
        let mut detached = Vec::new();
        while let Some(report) = self.link.receive() {
            let refusal = match report {
                // What was replaced is freed here, not on the worker.
                Report::Applied(Ok(_retired)) => None,
                Report::Applied(Err(refused)) => Some(refused.reason),
                Report::Attached => None,
                Report::Detached { slot, rx, tx } => {
                    detached.push(DetachedPort { slot, rx, tx });
                    None
                }
            };
            self.answers.done(self.changes.reader(), refusal);
        }
        detached
    }

    /// Whether acknowledgements were given since the last call.
    pub fn gave_answers(&mut self) -> bool {
        self.answers.were_given()
    }

    fn port_step(&mut self, slot: u32) -> Step {
        match self.changes.read::<PortRecord>(slot) {
            Seen::Unchanged => Step::Busy,
            Seen::Changed(version, record) => Step::Port(PortChange { slot, version, record }),
            Seen::Invalid(version) => {
                self.refuse_port(slot, version, Refusal::Invalid);
                Step::Busy
            }
        }
    }

    fn tunnel_step(&mut self, slot: u32) {
        self.record_step::<TunnelRecord>(slot, |_, record| Ok(vec![Update::tunnel(slot, record)?]));
    }

    fn sa_step(&mut self, slot: u32) {
        self.record_step::<SaRecord>(slot, |tables, record| {
            Ok(vec![Update::sa(slot, record, &tables.engine, tables.region)?])
        });
    }

    fn policy_step(&mut self, slot: u32) {
        self.record_step::<PolicyRecord>(slot, |_, record| Ok(vec![Update::policy(slot, record)]));
    }

    fn route_step(&mut self, slot: u32) {
        self.record_step::<RouteRecord>(slot, |tables, record| {
            let mut updates = Vec::new();
            tables.rib.set_route(slot, record, &mut updates)?;
            Ok(updates)
        });
    }

    fn neighbour_step(&mut self, slot: u32) {
        self.record_step::<NeighbourRecord>(slot, |tables, record| {
            let mut updates = Vec::new();
            tables.rib.set_neighbour(slot, record, &mut updates)?;
            Ok(updates)
        });
    }

    fn rule_step(&mut self, slot: u32) {
        match self.changes.read::<RuleRecord>(slot) {
            Seen::Unchanged => {}
            Seen::Changed(version, record) => {
                self.rules.set(slot, record);
                self.rule_answers.push(Self::answer(Table::Rules, slot, version));
                if !self.rules.are_dirty() {
                    // A slot that was vacant and still is.
                    self.answer_rules(None);
                }
            }
            Seen::Invalid(version) => self.refuse(Table::Rules, slot, version, Refusal::Invalid),
        }
    }

    fn compile_rules(&mut self, eal: &Eal) {
        let mut refusal = None;
        let mut updates = Vec::new();
        for compiled in self.rules.compile(eal) {
            match compiled {
                Ok(update) => updates.push(update),
                Err(refused) => refusal = Some(refused),
            }
        }
        let last = updates.pop();
        for update in updates {
            self.command(Command::Apply(update), Vec::new());
        }
        match last {
            Some(last) => {
                let answers = self.take_rule_answers(refusal);
                self.command(Command::Apply(last), answers);
            }
            None => self.answer_rules(refusal),
        }
    }

    fn take_rule_answers(&mut self, refusal: Option<Refusal>) -> Vec<Answer> {
        let mut answers = std::mem::take(&mut self.rule_answers);
        for answer in &mut answers {
            answer.refusal = refusal;
        }
        answers
    }

    fn answer_rules(&mut self, refusal: Option<Refusal>) {
        for answer in self.take_rule_answers(refusal) {
            self.answers.give_in_order(self.changes.reader(), answer);
        }
    }

    /// Reads a slot, makes updates of it, and sends them.
    fn record_step<R: Record>(
        &mut self,
        slot: u32,
        updates: impl FnOnce(&mut Self, Option<&R>) -> Result<Vec<Update<dpdk::Acl>>, RecordError>,
    ) {
        match self.changes.read::<R>(slot) {
            Seen::Unchanged => {}
            Seen::Invalid(version) => self.refuse(R::TABLE, slot, version, Refusal::Invalid),
            Seen::Changed(version, record) => match updates(self, record.as_ref()) {
                Ok(updates) => self.send(updates, Self::answer(R::TABLE, slot, version)),
                Err(error) => {
                    tracing::warn!(table = R::TABLE.name(), slot, %error, "refused a record");
                    self.refuse(R::TABLE, slot, version, refusal_of(error));
                }
            },
        }
    }

    /// Sends updates; the answer waits for the last.
    fn send(&mut self, mut updates: Vec<Update<dpdk::Acl>>, answer: Answer) {
        let Some(last) = updates.pop() else {
            self.answers.give_in_order(self.changes.reader(), answer);
            return;
        };
        for update in updates {
            self.command(Command::Apply(update), Vec::new());
        }
        self.command(Command::Apply(last), vec![answer]);
    }

    fn command(&mut self, command: Command, answers: Vec<Answer>) {
        self.link.send(command);
        self.answers.expect(answers);
    }

    fn refuse(&mut self, table: Table, slot: u32, version: u64, refusal: Refusal) {
        let answer = Answer { refusal: Some(refusal), ..Self::answer(table, slot, version) };
        self.answers.give_in_order(self.changes.reader(), answer);
    }

    fn answer(table: Table, slot: u32, version: u64) -> Answer {
        Answer { table, slot, version, refusal: None }
    }
}

fn refusal_of(error: RecordError) -> Refusal {
    match error {
        RecordError::Algorithm => Refusal::UnsupportedAlgorithm,
        RecordError::NextHopsFull => Refusal::NoSpace,
        _ => Refusal::Invalid,
    }
}
