//! Our engine on two UDP sockets in a namespace, on a thread of its own, with all that passes kept.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use ike::key_log::{KeyRecord, Made};
use ike::{
    Cause, ChildId, ChildPair, Classified, Command, Connection, ConnectionId, Engine, Event, IkeSaView,
    Limits, Output, Path, SaOperation,
};
use integration::namespace::Namespace;
use integration::wait;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::relay::{Direction, Lane};
use crate::witness::{self, Testimony};

pub(crate) const CONNECTION: ConnectionId = ConnectionId(1);
pub(crate) const CHILD: ChildId = ChildId(1);
/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A datagram that was on the wire at our end.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) direction: Direction,
    pub(crate) path: Path,
    pub(crate) bytes: Vec<u8>,
}

/// What the engine's thread and the test share.
pub(crate) struct State {
    pub(crate) engine: Engine,
    pub(crate) out: Lane<Path>,
    pub(crate) inward: Lane<Path>,
    /// What the engine said.
    pub(crate) events: Vec<Event>,
    /// The pair on which the child sends.
    pub(crate) sending: Option<u32>,
    /// Pairs in the dataplane, by inbound SPI.
    pub(crate) installed: BTreeMap<u32, ChildPair>,
    /// Every pair that ever was, in order.
    pub(crate) pairs: Vec<ChildPair>,
    /// What was sent, and what arrived.
    pub(crate) wire: Vec<Datagram>,
    /// Keys of all IKE SAs of version 2.
    pub(crate) keys: Vec<KeyRecord>,
    /// What independent eyes look at in the end.
    pub(crate) testimony: Testimony,
    /// Why datagrams were dropped.
    pub(crate) dropped: Vec<&'static str>,
    /// What the dataplane answers to an install, if not yes.
    pub(crate) refusal: Option<String>,
}

/// The running engine.
pub(crate) struct Ours {
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ours {
    /// Starts it with a connection.
    pub(crate) fn start(namespace: &Namespace, limits: Limits, connection: Connection) -> Result<Self> {
        witness::ensure_present()?;
        let home = File::open(format!("/run/netns/{}", namespace.name())).context("no such namespace")?;
        let local = connection.local;
        let ports = [limits.ike_port, limits.nat_port];
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let mut engine = Engine::new(limits, seed(since));
        engine.set_wall_clock(Instant::now(), since.as_secs());
        engine.set_connection(Instant::now(), connection);
        let state = Arc::new(Mutex::new(State {
            engine,
            out: Lane::new(),
            inward: Lane::new(),
            events: Vec::new(),
            sending: None,
            installed: BTreeMap::new(),
            pairs: Vec::new(),
            wire: Vec::new(),
            keys: Vec::new(),
            testimony: Testimony::default(),
            dropped: Vec::new(),
            refusal: None,
        }));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, ended) = (Arc::clone(&state), Arc::clone(&stop));
        let (tell, bound) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let sockets = move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(anyhow::Error::from)
                .and_then(|()| bind(local, ports));
            let (sockets, outcome) = match sockets {
                Ok(sockets) => (Some(sockets), Ok(())),
                Err(error) => (None, Err(error)),
            };
            // Who waits for it is there.
            let _waiting = tell.send(outcome);
            let Some(sockets) = sockets else { return };
            while !ended.load(Ordering::Acquire) {
                let busy = lock(&shared).turn(&sockets);
                if !busy {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        bound.recv().context("the engine's thread is gone")??;
        Ok(Self { state, stop, thread: Some(thread) })
    }

    /// The state, while nothing moves.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Gives the engine a command.
    pub(crate) fn command(&self, command: Command) {
        let mut state = self.state();
        state.engine.handle_command(Instant::now(), command);
        state.take_keys();
    }

    /// Waits until the state shows something.
    pub(crate) fn until<T>(&self, what: &str, mut probe: impl FnMut(&mut State) -> Result<T>) -> Result<T> {
        wait::until(what, PATIENCE, || probe(&mut self.state()))
    }

    /// Waits until exactly one IKE SA with this many pairs is up, and nothing else.
    pub(crate) fn settles(&self, pairs: usize) -> Result<IkeSaView> {
        self.until(&format!("one IKE SA with {pairs} pairs"), |state| {
            let mut sas = state.engine.isakmp_sas(Instant::now());
            ensure!(
                sas.len() == 1
                    && sas.iter().all(|sa| sa.state == "established" && sa.children.len() == pairs),
                "{sas:?}; events {:?}",
                state.events
            );
            ensure!(state.installed.len() == pairs, "{:x?} installed", state.installed.keys());
            sas.pop().context("none")
        })
    }

    /// Waits for an event that is this, and returns what the test makes of it.
    pub(crate) fn event<T>(&self, what: &str, mut of: impl FnMut(&Event) -> Option<T>) -> Result<T> {
        self.until(what, |state| {
            state.events.iter().find_map(&mut of).with_context(|| format!("{:?}", state.events))
        })
    }

    /// Waits until the connection is down, and returns why.
    pub(crate) fn ike_down(&self) -> Result<Cause> {
        self.event("the IKE SA's end", |event| match event {
            Event::IkeDown { cause, .. } => Some(cause.clone()),
            _ => None,
        })
    }

    /// Waits until the child is down, and returns why.
    pub(crate) fn child_down(&self) -> Result<Cause> {
        self.event("the child's end", |event| match event {
            Event::ChildDown { cause, .. } => Some(cause.clone()),
            _ => None,
        })
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // If it panicked, the test has failed with what it waited for.
            let _ended = thread.join();
        }
        let mut state = self.state();
        let mut testimony = std::mem::take(&mut state.testimony);
        testimony.pairs.clone_from(&state.pairs);
        drop(state);
        witness::hear(testimony);
    }
}

impl State {
    /// One step; false if there was nothing to do.
    fn turn(&mut self, sockets: &[UdpSocket; 2]) -> bool {
        let now = Instant::now();
        let mut busy = false;
        self.drain(now);
        while let Some((path, bytes)) = self.out.pop(now) {
            let socket = sockets.iter().find(|socket| port(socket) == Some(path.local.port()));
            if let Some(socket) = socket {
                // A peer that is gone refuses; the engine is to find that out by silence.
                let _refused = socket.send_to(&bytes, path.remote);
            }
            self.keep(Direction::Out, path, bytes);
            busy = true;
        }
        let mut buffer = [0; 65_536];
        for socket in sockets {
            let Ok(local) = socket.local_addr() else { continue };
            if let Ok((len, remote)) = socket.recv_from(&mut buffer) {
                busy = true;
                let bytes = buffer.get(..len).unwrap_or_default().to_vec();
                self.inward.push(now, Path { local, remote }, bytes);
            }
        }
        while let Some((path, bytes)) = self.inward.pop(now) {
            self.testimony.message(Direction::In, path, &bytes);
            let classified = self.engine.handle_datagram(now, path, &bytes);
            if let Classified::Dropped(why) = classified {
                self.dropped.push(why);
            }
            self.keep(Direction::In, path, bytes);
            self.drain(now);
            busy = true;
        }
        if self.engine.poll_timeout().is_some_and(|at| at <= now) {
            self.engine.handle_timeout(now);
            self.drain(now);
        }
        self.take_keys();
        busy
    }

    /// Takes the keys that were made on this thread.
    fn take_keys(&mut self) {
        let Made { ike_sas, mixed, phase_ones } = ike::key_log::take();
        self.keys.extend(ike_sas.iter().cloned());
        self.testimony.keys.ike_sas.extend(ike_sas);
        self.testimony.keys.mixed.extend(mixed);
        self.testimony.keys.phase_ones.extend(phase_ones);
    }

    fn keep(&mut self, direction: Direction, path: Path, bytes: Vec<u8>) {
        self.wire.push(Datagram { direction, path, bytes });
    }

    fn drain(&mut self, now: Instant) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Transmit { path, bytes } => {
                    self.testimony.message(Direction::Out, path, &bytes);
                    self.out.push(now, path, bytes);
                }
                Output::Event(event) => {
                    if let Event::IkeUp { ike_sa, .. } | Event::IkeRekeyed { ike_sa, .. } = event {
                        let sas = self.engine.isakmp_sas(now);
                        let up = sas.iter().filter(|sa| sa.id == ike_sa);
                        self.testimony.established.extend(up.map(|sa| (sa.spi_i, sa.spi_r)));
                    }
                    self.events.push(event);
                }
                Output::Sa(SaOperation::Install { operation, pair, send }) => {
                    let answer = self.refusal.clone().map_or(Ok(()), Err);
                    if answer.is_ok() {
                        if send {
                            self.sending = Some(pair.spi_in);
                        }
                        self.pairs.push((*pair).clone());
                        self.installed.insert(pair.spi_in, *pair);
                    }
                    self.engine.handle_sa_result(now, operation, answer);
                }
                Output::Sa(SaOperation::Remove { spi_in, .. }) => {
                    self.installed.remove(&spi_in);
                    self.sending.take_if(|sending| *sending == spi_in);
                }
                Output::Sa(SaOperation::Move { spi_in, path, udp_encapsulation }) => {
                    if let Some(pair) = self.installed.get_mut(&spi_in) {
                        (pair.path, pair.udp_encapsulation) = (path, udp_encapsulation);
                    }
                }
                Output::Sa(SaOperation::SwitchOutbound { spi_in, .. }) => self.sending = Some(spi_in),
                Output::Sa(SaOperation::Release { .. }) | Output::Keep(_) => {}
            }
        }
    }
}

fn bind(local: std::net::IpAddr, ports: [u16; 2]) -> Result<[UdpSocket; 2]> {
    let bind = |port| -> Result<UdpSocket> {
        let socket = UdpSocket::bind(SocketAddr::new(local, port)).context("cannot bind")?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    Ok([bind(ports[0])?, bind(ports[1])?])
}

fn port(socket: &UdpSocket) -> Option<u16> {
    socket.local_addr().ok().map(|address| address.port())
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Another seed for each engine: no two in one test draw the same SPIs.
fn seed(since: Duration) -> [u8; 32] {
    static STARTED: AtomicU64 = AtomicU64::new(0);
    let mut seed = [0; 32];
    seed[..16].copy_from_slice(&since.as_nanos().to_be_bytes());
    seed[16..24].copy_from_slice(&STARTED.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    seed
}
