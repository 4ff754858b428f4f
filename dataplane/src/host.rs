//! The host thread: everything of the data plane that is not the fast path.
//!
//! It owns what outlives a region: DPDK, the pools, the cipher engine, the twins and the socket to control. For as
//! long as a region lasts, a [`Session`] applies its tables to a worker.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use dpdk::{Eal, Memory};
use packet::Twin;
use rustix::event::{Timespec, epoll};
use shm::socket_messages::{Doorbell, Message};
use shm::{BootId, Region, RegionError};

use crate::control_socket::ControlSocket;
use crate::options::Options;
use crate::pools::Pools;
use crate::session::Session;
use crate::twins::{Twins, twin_of};
use crate::wake::Wake;

/// Heartbeat, and the longest that anything here waits to be noticed without a doorbell.
const TICK: Duration = Duration::from_millis(100);

/// Between two looks at the links of the ports.
const LINK_CHECK: Duration = Duration::from_millis(500);

/// Between two attempts to attach to a region.
const ATTACH_RETRY: Duration = Duration::from_millis(100);

/// Turns of the host loop look at this many descriptors.
const EVENTS: usize = 64;

const TOKEN_WAKE: u64 = u64::MAX;
const TOKEN_CONTROL: u64 = u64::MAX - 1;
const TOKEN_TUN: u64 = 1 << 32;

/// What the host thread keeps for the life of the process.
pub struct Host {
    /// The command line.
    pub options: Options,
    /// DPDK.
    pub eal: Eal,
    /// Where its memory comes from.
    pub memory: Memory,
    /// Packet buffers.
    pub pools: Pools,
    /// Cipher engine.
    pub engine: forward::Engine,
    /// When the process started, in milliseconds since the Unix epoch.
    pub started_unix_ms: u64,
    twins: Twins,
    socket: ControlSocket,
    epoll: OwnedFd,
    wake: Wake,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The process is to stop.
    Stop,
    /// Control replaced the region.
    Retired,
}

impl Host {
    /// With DPDK running and an engine chosen.
    ///
    /// # Errors
    /// DPDK's heap has no room, or the process has no descriptor left.
    pub fn new(options: Options, eal: Eal, memory: Memory, engine: forward::Engine) -> anyhow::Result<Self> {
        let pools = Pools::new(&eal).context("no memory for packet buffers (raise --memory-mb)")?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = Wake::new()?;
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(TOKEN_WAKE), epoll::EventFlags::IN)?;
        let socket = ControlSocket::new(options.run_dir.join("dataplane.sock"));
        let started_unix_ms = crate::clock::unix_ms();
        let twins = Twins::default();
        Ok(Self { options, eal, memory, pools, engine, started_unix_ms, twins, socket, epoll, wake })
    }

    /// Forwards until `stop` is set.
    ///
    /// # Errors
    /// What makes it impossible to go on.
    pub fn run(mut self, stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
        let boot_id = BootId::current().context("the id of this boot cannot be read")?;
        while let Some(region) = self.attach(boot_id, stop) {
            let region = region.leak();
            let mut session = Session::begin(region, &self, self.wake.clone())?;
            let end = self.run_session(&mut session, stop)?;
            session.end();
            match end {
                End::Stop => break,
                End::Retired => tracing::info!("control made a new region: attaching anew"),
            }
        }
        tracing::info!("stopped");
        Ok(())
    }

    /// Waits for a region that this process may use; `None` when it is to stop.
    fn attach(&self, boot_id: BootId, stop: &AtomicBool) -> Option<Region> {
        let path = self.options.run_dir.join("region");
        let mut told = String::new();
        while !stop.load(Ordering::Relaxed) {
            match Region::attach(&path, boot_id) {
                Ok(region) => {
                    tracing::info!(path = %path.display(), "attached to the region");
                    return Some(region);
                }
                Err(error) => {
                    let reason = reason(&error);
                    if reason != told {
                        tracing::warn!(path = %path.display(), "waiting for a region: {reason}");
                        told = reason;
                    }
                }
            }
            std::thread::sleep(ATTACH_RETRY);
        }
        None
    }

    fn run_session(&mut self, session: &mut Session, stop: &AtomicBool) -> anyhow::Result<End> {
        let mut next_tick = Instant::now();
        let mut next_link_check = next_tick;
        let mut ready = Vec::with_capacity(EVENTS);
        loop {
            let now = Instant::now();
            if stop.load(Ordering::Relaxed) {
                return Ok(End::Stop);
            }
            if now >= next_tick {
                next_tick = now + TICK;
                session.beat();
                if session.is_retired() {
                    return Ok(End::Retired);
                }
                anyhow::ensure!(!session.worker_is_dead(), "the worker died");
                self.connect(session, now);
            }
            session.apply_changes(self);
            if now >= next_link_check && session.is_ready() {
                next_link_check = now + LINK_CHECK;
                session.check_links(&self.twins);
            }
            session.write_punted(&self.twins);
            for doorbell in session.doorbells() {
                self.socket.ring(doorbell);
            }
            self.wait(session, &mut ready, next_tick)?;
            self.serve(session, &ready);
        }
    }

    fn connect(&mut self, session: &Session, now: Instant) {
        let connected = self.socket.connect_if_due(now, session.epoch(), self.twins.iter());
        if let (true, Some(descriptor)) = (connected, self.socket.descriptor()) {
            let token = epoll::EventData::new_u64(TOKEN_CONTROL);
            if let Err(error) = epoll::add(&self.epoll, descriptor, token, epoll::EventFlags::IN) {
                tracing::warn!(%error, "the socket of control cannot be watched");
            }
        }
    }

    /// Sleeps until a descriptor is ready, the worker has something, or the next tick is due.
    fn wait(
        &self,
        session: &Session,
        ready: &mut Vec<epoll::Event>,
        next_tick: Instant,
    ) -> anyhow::Result<()> {
        ready.clear();
        self.wake.going_to_sleep();
        let mut timeout = next_tick.saturating_duration_since(Instant::now());
        if session.has_work() {
            timeout = Duration::ZERO;
        }
        let timeout = Timespec::try_from(timeout)?;
        let waited = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(ready), Some(&timeout));
        self.wake.awake();
        match waited {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("epoll_wait"),
        }
    }

    fn serve(&mut self, session: &mut Session, ready: &[epoll::Event]) {
        for event in ready {
            match event.data.u64() {
                TOKEN_WAKE => {}
                TOKEN_CONTROL => self.hear_control(session),
                token if session.is_ready() => {
                    let slot = token as u32;
                    let twin = if token & TOKEN_TUN == 0 { Twin::tap(slot) } else { Twin::tun(slot) };
                    if !session.read_twin(&self.twins, &self.pools, twin) {
                        tracing::info!(?twin, "the interface of a twin is gone");
                        self.twins.remove(&self.epoll, twin);
                    }
                }
                // Before the tables are in force, what a twin sends could leave in clear: it waits in the twin.
                _ => std::thread::sleep(Duration::from_micros(100)),
            }
        }
    }

    fn hear_control(&mut self, session: &mut Session) {
        loop {
            match self.socket.receive() {
                Ok(Some((Message::Twin(label), Some(descriptor)))) => {
                    let twin = twin_of(label.kind, label.slot);
                    let token = match twin.kind {
                        packet::TwinKind::Tap => u64::from(label.slot),
                        packet::TwinKind::Tun => TOKEN_TUN | u64::from(label.slot),
                    };
                    let data = epoll::EventData::new_u64(token);
                    match self.twins.insert(&self.epoll, data, label, descriptor) {
                        Ok(()) => {
                            tracing::info!(twin = label.name(), slot = label.slot, "twin taken");
                            session.twin_arrived(&self.twins, twin);
                        }
                        Err(error) => {
                            tracing::warn!(twin = label.name(), %error, "a twin cannot be watched");
                        }
                    }
                }
                Ok(Some((Message::TwinGone { kind, slot }, _))) => {
                    self.twins.remove(&self.epoll, twin_of(kind, slot));
                }
                Ok(Some((Message::Doorbell(Doorbell::Changes), _))) => {}
                Ok(Some((message, _))) => tracing::warn!(?message, "control sent what only we may send"),
                Ok(None) => return,
                Err(error) => {
                    tracing::info!(%error, "control is away: forwarding goes on");
                    return;
                }
            }
        }
    }
}

/// An error of attaching, with its source, in one line.
fn reason(error: &RegionError) -> String {
    match error {
        RegionError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            "culvertd has not made one yet".to_owned()
        }
        RegionError::Io { source, .. } => format!("{error}: {source}"),
        _ => error.to_string(),
    }
}
