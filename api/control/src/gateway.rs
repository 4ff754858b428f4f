//! The gateway: the one task that owns the writer of the region, the IKE engine, the twins and the mirror.
//!
//! Everything that happens arrives here as an event, changes one thing, and is followed by what must follow. Nothing
//! here waits for anything but the next event: acknowledgements of the dataplane and deadlines are events too.

mod apply;
mod dataplane;
mod natted;
mod negotiation;
mod resumption;
mod survey;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ike::ChildId;
use shm::socket_messages::TwinLabel;
use shm::{BootId, EventReader, Origin, Region, RegionError};
use tokio::sync::mpsc;

use crate::compile::{Compiled, PolicyKey};
use crate::config::Config;
#[cfg(feature = "key-log")]
use crate::driver::key_log::KeyLog;
use crate::driver::{Datagram, Driver};
use crate::executor::{Executor, Progress};
use crate::handle::{Inbox, Order, Shared};
use crate::keeper::{self, IkeSaKeeper, KeptState, Stored};
use crate::netlink::{Announcements, Kernel, Mirror, Touched};
use crate::recursion::Guard;
use crate::server::{DataplaneLink, Server, ServerEvent};
use crate::source::{DesiredSource, Loader};
use crate::state::Standings;
use crate::twins::{TwinSpec, Twins, Wires};
use dataplane::Runtimes;

/// Why the control plane could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The run directory, the socket, netlink or randomness could not be had.
    #[error("{what} could not be had")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The shared memory could not be had.
    #[error("the shared memory could not be had")]
    Region(#[from] RegionError),
}

/// Runs the control plane until `shutdown` completes.
///
/// The start in order: take the region and its lock over, adopt the SAs in it, listen for the dataplane, subscribe to
/// the kernel, then apply the desired state. Nothing that runs is touched before the desired state could be read. With
/// what `keeper` has of them, the IKE SAs of the adopted SAs are resumed.
///
/// # Errors
/// See [`RunError`]; after the start there are none.
pub async fn run(
    config: Config,
    source: impl DesiredSource,
    keeper: impl IkeSaKeeper,
    inbox: Inbox,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let system = |what| move |source| RunError::System { what, source };
    std::fs::create_dir_all(&config.run_dir).map_err(system("the run directory"))?;
    let boot_id = BootId::current().map_err(system("the boot id"))?;
    let (region, origin) = Region::create_or_attach(&config.region(), config.capacities(), boot_id)?;
    match origin {
        Origin::Recreated(reason) => tracing::warn!(%reason, "the shared memory was made anew"),
        Origin::Created => tracing::info!("the shared memory was made"),
        Origin::Attached => tracing::info!("the shared memory was taken over"),
    }
    let executor = Executor::attach(&region)?;
    let events = region.event_reader()?;
    crate::sysctl::log(&crate::sysctl::prepare_namespace());
    let server = Server::bind(&config.socket()).map_err(system("the dataplane's socket"))?;
    let (server_events, from_server) = mpsc::unbounded_channel();
    let serving = tokio::spawn(server.serve(server_events));
    let announcements = Announcements::subscribe().map_err(system("the kernel's announcements"))?;
    let kernel = Kernel::open().map_err(system("netlink"))?;
    let kept = keeper.take().await.unwrap_or_else(|error| {
        tracing::warn!(%error, "what was kept of IKE SAs cannot be read: they are negotiated anew");
        Vec::new()
    });
    let keeping = keeper::start(keeper);
    let follows = executor.sas().entries().next().is_some();
    let (driver, datagrams) = Driver::new(follows, keeping.changes).map_err(system("randomness"))?;
    #[cfg(feature = "key-log")]
    let driver = match &config.ike_key_log {
        Some(path) => driver.logging_keys(KeyLog::open(path).map_err(system("the log of keys"))?),
        None => driver,
    };
    let Inbox { shared, orders } = inbox;
    let inputs = Inputs { from_server, datagrams, stored: keeping.stored, orders, announcements };
    let mut gateway = Gateway::new(config, region, executor, events, kernel, driver, shared);
    gateway.kept_ike_sas = kept;
    gateway.attend(inputs, source, shutdown).await;
    serving.abort();
    // The last changes are stored before the store is closed.
    drop(gateway);
    let _ = keeping.task.await;
    Ok(())
}

/// Where events come from.
struct Inputs {
    from_server: mpsc::UnboundedReceiver<ServerEvent>,
    datagrams: mpsc::Receiver<Datagram>,
    stored: mpsc::UnboundedReceiver<Stored>,
    orders: mpsc::Receiver<Order>,
    announcements: Announcements,
}

/// All that the task owns.
struct Gateway {
    config: Config,
    region: Region,
    executor: Executor,
    events: EventReader,
    kernel: Kernel,
    mirror: Mirror,
    twins: Twins,
    wires: Wires,
    driver: Driver,
    guard: Guard,
    shared: Arc<Shared>,

    /// What runs; `None` before the first desired state.
    compiled: Option<Arc<Compiled>>,
    names: apply::Names,
    specs: Vec<TwinSpec>,
    /// A dataplane that said hello, with its twins. It is answered once it is known which twins are desired.
    greeted: Option<(DataplaneLink, Vec<(TwinLabel, OwnedFd)>)>,
    /// What is wrong, by what was being done.
    complaints: apply::Complaints,
    /// The region holds what `compiled` and the mirror say, or a plan is under way to it.
    synchronised: bool,
    /// The connections of `compiled` are in the engine.
    negotiating: bool,
    /// What a former process kept of its IKE SAs, until the first connections are in the engine.
    kept_ike_sas: Vec<KeptState>,

    dataplane: dataplane::Presence,
    runtimes: Runtimes,
    orphans: BTreeMap<u32, crate::compile::Owner>,
    /// What IKE last said against a child.
    causes: BTreeMap<ChildId, String>,
    /// How often the desired state had moved when it was read last.
    read_moves: u64,
    /// Orders that wait for the desired state that was written before them, and how often it had moved then.
    held_orders: Vec<(u64, Order)>,
    /// Neighbours kept resolved.
    kept: BTreeSet<(u32, IpAddr)>,
    /// When all of them are asked for again.
    keep_at: Instant,
    /// When each SA was first seen, by slot and generation.
    seen: BTreeMap<(u32, u64), Instant>,
    tunnel_standings: Standings<String>,
    flow_standings: Standings<PolicyKey>,

    /// When the executor wants to be asked again.
    executor_wake: Option<Instant>,
    /// When stale routes are read anew.
    settle_at: Option<Instant>,
    /// When states are judged and published next; `None` when nothing changed.
    survey_at: Option<Instant>,
}

impl Gateway {
    fn new(
        config: Config,
        region: Region,
        executor: Executor,
        events: EventReader,
        kernel: Kernel,
        driver: Driver,
        shared: Arc<Shared>,
    ) -> Self {
        let wires = Wires::recover(config.wires());
        Self {
            dataplane: dataplane::Presence::new(),
            config,
            region,
            executor,
            events,
            kernel,
            mirror: Mirror::new(),
            twins: Twins::default(),
            wires,
            driver,
            guard: Guard::default(),
            shared,
            compiled: None,
            names: apply::Names::default(),
            specs: Vec::new(),
            greeted: None,
            complaints: apply::Complaints::default(),
            synchronised: false,
            negotiating: false,
            kept_ike_sas: Vec::new(),
            runtimes: Runtimes::default(),
            orphans: BTreeMap::new(),
            causes: BTreeMap::new(),
            read_moves: 0,
            held_orders: Vec::new(),
            kept: BTreeSet::new(),
            keep_at: Instant::now(),
            seen: BTreeMap::new(),
            tunnel_standings: Standings::default(),
            flow_standings: Standings::default(),
            executor_wake: None,
            settle_at: None,
            survey_at: Some(Instant::now()),
        }
    }

    /// The loop.
    async fn attend(
        &mut self,
        mut inputs: Inputs,
        source: impl DesiredSource,
        shutdown: impl Future<Output = ()>,
    ) {
        let mut shutdown = std::pin::pin!(shutdown);
        let shared = Arc::clone(&self.shared);
        let mut loader = {
            let shared = Arc::clone(&self.shared);
            Loader::start(source, move || shared.moves())
        };
        let mut heartbeat = tokio::time::interval(HEARTBEAT_EVERY);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut resync = tokio::time::interval(self.config.resync_every);
        resync.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let wake_at = self.wake_at();
            tokio::select! {
                () = &mut shutdown => break,
                () = shared.moved.notified() => loader.ask(),
                // The first tick comes at once: it is the start.
                _ = resync.tick() => {
                    // Something may have been changed behind our back.
                    self.mirror.distrust();
                    self.driver.bind_sockets();
                    loader.ask();
                }
                Some((moves, loaded)) = loader.loaded() => {
                    self.on_loaded(loaded);
                    self.on_reading(moves);
                }
                _ = heartbeat.tick() => self.beat(Instant::now()),
                Some(event) = inputs.from_server.recv() => self.on_server(event),
                Some(datagram) = inputs.datagrams.recv() => {
                    self.driver.datagram(Instant::now(), &datagram);
                    self.negotiate();
                }
                Some(stored) = inputs.stored.recv() => self.driver.stored(stored),
                Some(order) = inputs.orders.recv() => self.on_order(order),
                readable = inputs.announcements.readable() => match readable {
                    Ok(()) => self.on_announcements(&mut inputs.announcements),
                    Err(error) => tracing::error!(%error, "the kernel's announcements cannot be waited for"),
                },
                () = until(wake_at) => self.on_time(Instant::now()),
            }
        }
        if self.config.delete_sas_on_exit {
            self.take_leave(&mut inputs).await;
        }
    }

    /// The next moment at which something is due.
    fn wake_at(&self) -> Option<Instant> {
        [self.driver.wake_at(), self.executor_wake, self.settle_at, self.survey_at]
            .into_iter()
            .flatten()
            .min()
    }

    fn on_time(&mut self, now: Instant) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.driver.wake_at()) {
            self.driver.timeout(now);
            self.negotiate();
        }
        if due(self.executor_wake) {
            let progress = self.executor.progress(now);
            self.absorb(progress);
        }
        if due(self.settle_at) {
            self.settle(now);
        }
        if due(self.survey_at) {
            self.survey(now);
        }
    }

    /// What must follow a call of the executor: the doorbell, the engine's answers, the next look.
    fn absorb(&mut self, progress: Progress) {
        if progress.wrote {
            self.dataplane.ring();
            self.survey_soon();
        }
        self.executor_wake = progress.wake_at;
        if progress.answers.is_empty() {
            return;
        }
        let now = Instant::now();
        for (operation, result) in progress.answers {
            self.driver.sa_result(now, operation, result.map_err(|error| error.to_string()));
        }
        self.survey_soon();
        self.negotiate();
    }

    fn on_announcements(&mut self, announcements: &mut Announcements) {
        let mut touched = Touched::default();
        let mirror = &mut self.mirror;
        match announcements.drain(|message| mirror.take(&message, &mut touched)) {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!("announcements of the kernel were lost: everything is read anew");
                self.mirror.overrun();
            }
            Err(error) => {
                tracing::error!(%error, "the kernel's announcements cannot be read");
                self.mirror.overrun();
            }
        }
        let changes = self.mirror.changes_of(touched);
        self.write_changes(changes);
        if let (None, Some(patience)) = (self.settle_at, self.mirror.patience()) {
            self.settle_at = Some(Instant::now() + patience);
        }
    }

    /// Judges and publishes soon; a burst of changes costs one survey.
    fn survey_soon(&mut self) {
        const BURST: Duration = Duration::from_millis(50);
        let soon = Instant::now() + BURST;
        self.survey_at = Some(self.survey_at.map_or(soon, |at| at.min(soon)));
    }
}

/// How often the dataplane's heartbeat and the state of SAs are looked at.
const HEARTBEAT_EVERY: Duration = Duration::from_millis(500);

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
