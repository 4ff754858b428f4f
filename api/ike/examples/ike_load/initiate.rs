//! Many initiators, each an engine with an address of its own, a few at a time.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ike::{Engine, Event, Limits, Output, Path, SaOperation};

use crate::peers::{self, Options};

/// No handshake takes this long on a machine that answers at all.
const PATIENCE: Duration = Duration::from_secs(120);

struct Initiator {
    number: u32,
    engine: Engine,
    /// Ports 500 and 4500.
    sockets: [UdpSocket; 2],
    up: bool,
    trouble: Option<String>,
}

impl Initiator {
    fn start(number: u32, remote: Ipv4Addr, options: &Options) -> anyhow::Result<Self> {
        let local = peers::address(number);
        let limits = Limits { initial_contact: false, ..Limits::default() };
        let bind = |port| -> anyhow::Result<UdpSocket> {
            let socket =
                UdpSocket::bind((local, port)).with_context(|| format!("cannot bind {local}:{port}"))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let sockets = [bind(limits.ike_port)?, bind(limits.nat_port)?];
        let mut engine = Engine::new(limits, peers::seed()?);
        engine.set_connection(Instant::now(), peers::connection(number, remote, &options.terms()?, true));
        let mut initiator = Self { number, engine, sockets, up: false, trouble: None };
        initiator.drain()?;
        Ok(initiator)
    }

    /// One look at the sockets and the clock.
    fn step(&mut self, buffer: &mut [u8]) -> anyhow::Result<bool> {
        let mut busy = false;
        for index in 0..self.sockets.len() {
            let socket = &self.sockets[index];
            match socket.recv_from(buffer) {
                Ok((len, remote)) => {
                    let path = Path { local: socket.local_addr()?, remote };
                    self.engine.handle_datagram(Instant::now(), path, &buffer[..len]);
                    self.drain()?;
                    busy = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => self.trouble = Some(error.to_string()),
            }
        }
        if self.engine.poll_timeout().is_some_and(|at| at <= Instant::now()) {
            self.engine.handle_timeout(Instant::now());
            self.drain()?;
        }
        Ok(busy)
    }

    fn drain(&mut self) -> anyhow::Result<()> {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Transmit { path, bytes } => {
                    let socket = if path.local.port() == 500 { &self.sockets[0] } else { &self.sockets[1] };
                    socket.send_to(&bytes, path.remote)?;
                }
                Output::Sa(SaOperation::Install { operation, .. }) => {
                    self.engine.handle_sa_result(Instant::now(), operation, Ok(()));
                }
                Output::Event(Event::ChildUp { .. }) => self.up = true,
                Output::Event(Event::IkeDown { cause, .. } | Event::ChildDown { cause, .. }) => {
                    self.trouble = Some(cause.to_string());
                }
                Output::Sa(_) | Output::Event(_) | Output::Keep(_) => {}
            }
        }
        Ok(())
    }

    fn remote(&self) -> Option<SocketAddr> {
        self.engine.isakmp_sas(Instant::now()).first().map(|sa| sa.path.remote)
    }
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let remote: Ipv4Addr = options.value("remote", None)?;
    let first: u32 = options.value("first", Some(0))?;
    let count: u32 = options.value("peers", None)?;
    let at_once: usize = options.value("at-once", Some(16))?;
    let mut waiting = first..first + count;
    let mut running: Vec<Initiator> = Vec::new();
    let mut buffer = vec![0; 65_536];
    let begin = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut started: Vec<Instant> = Vec::new();
    while running.len() < at_once
        && let Some(number) = waiting.next()
    {
        running.push(Initiator::start(number, remote, options)?);
        started.push(Instant::now());
    }
    while !running.is_empty() {
        let mut busy = false;
        for (initiator, since) in running.iter_mut().zip(&mut started) {
            busy |= initiator.step(&mut buffer)?;
            if initiator.up {
                slowest = slowest.max(since.elapsed());
                if let Some(number) = waiting.next() {
                    // Its state is forgotten, not deleted: the responder keeps the SA.
                    *initiator = Initiator::start(number, remote, options)?;
                    *since = Instant::now();
                }
            } else if since.elapsed() > PATIENCE {
                bail!(
                    "peer {} is not up after {PATIENCE:?}: {:?}, path to {:?}",
                    initiator.number,
                    initiator.trouble,
                    initiator.remote()
                );
            }
        }
        // No more are waiting: those that are up have nothing left to do.
        let mut index = 0;
        while index < running.len() {
            if running[index].up {
                running.swap_remove(index);
                started.swap_remove(index);
            } else {
                index += 1;
            }
        }
        if !busy {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    println!(
        "{{\"handshakes\":{count},\"seconds\":{:.3},\"slowest_seconds\":{:.3}}}",
        begin.elapsed().as_secs_f64(),
        slowest.as_secs_f64()
    );
    Ok(())
}
