//! Many peers that stay: one engine with an address for each, which rekeys with the responder for as long as it runs.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ike::{Engine, Limits, Output, Path, SaOperation};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::peers::{self, Options, Terms};
use crate::tally::{Asked, Tally};

/// Handshakes at once while they come up.
const AT_ONCE: usize = 64;
/// A machine that answers at all has all peers up by then.
const PATIENCE: Duration = Duration::from_secs(300);
/// Longest sleep: a report may be asked for.
const LONGEST_WAIT: Duration = Duration::from_millis(20);
const EVENTS_PER_TURN: usize = 256;

struct Peers {
    engine: Engine,
    /// Port 500 of each: nothing is between the two ends that would move them to another.
    sockets: Vec<UdpSocket>,
    poll: OwnedFd,
    tally: Tally,
}

/// Prints "up" when all have their child, and a report for each line of input. Runs until it is killed.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let remote: Ipv4Addr = options.value("remote", None)?;
    let count: u32 = options.value("peers", None)?;
    let terms = options.terms()?;
    let asked = Asked::listen();
    let mut peers = Peers::bind(count, terms)?;
    let mut waiting = 0..count;
    let mut begun = 0;
    let begin = Instant::now();
    let mut told = false;
    loop {
        while begun < peers.tally.up() + AT_ONCE
            && let Some(number) = waiting.next()
        {
            let connection = peers::connection(number, remote, &terms, true);
            peers.engine.set_connection(Instant::now(), connection);
            peers.drain()?;
            begun += 1;
        }
        if !told && peers.tally.up() == count as usize {
            println!("up");
            told = true;
        }
        if !told && begin.elapsed() > PATIENCE {
            bail!("{} of {count} peers are up after {PATIENCE:?}", peers.tally.up());
        }
        if asked.take() {
            println!("{}", peers.tally.report(Instant::now(), &peers.engine));
        }
        peers.turn()?;
    }
}

impl Peers {
    fn bind(count: u32, terms: Terms) -> anyhow::Result<Self> {
        let limits = Limits { initial_contact: false, ..Limits::default() };
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let bind = |number| -> anyhow::Result<UdpSocket> {
            let local = peers::address(number);
            let socket = UdpSocket::bind((local, limits.ike_port))
                .with_context(|| format!("cannot bind {local}; is the limit of open files high enough?"))?;
            socket.set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(u64::from(number));
            epoll::add(&poll, &socket, data, epoll::EventFlags::IN)?;
            Ok(socket)
        };
        let sockets = (0..count).map(bind).collect::<Result<_, _>>()?;
        let engine = Engine::new(limits, peers::seed()?);
        Ok(Self { engine, sockets, poll, tally: Tally::new(terms) })
    }

    /// Waits for a datagram or a deadline, and does what is there.
    fn turn(&mut self) -> anyhow::Result<()> {
        let due = self.engine.poll_timeout().map(|at| at.saturating_duration_since(Instant::now()));
        let wait = due.map_or(LONGEST_WAIT, |due| due.min(LONGEST_WAIT));
        let mut events = Vec::with_capacity(EVENTS_PER_TURN);
        epoll::wait(&self.poll, spare_capacity(&mut events), Some(&Timespec::try_from(wait)?))?;
        for event in events {
            self.receive(event.data.u64() as u32)?;
        }
        if self.engine.poll_timeout().is_some_and(|at| at <= Instant::now()) {
            self.engine.handle_timeout(Instant::now());
            self.drain()?;
        }
        Ok(())
    }

    fn receive(&mut self, number: u32) -> anyhow::Result<()> {
        let mut buffer = [0; 4096];
        let local = SocketAddr::from((peers::address(number), 500));
        loop {
            match self.sockets[number as usize].recv_from(&mut buffer) {
                Ok((len, remote)) => {
                    let path = Path { local, remote };
                    self.engine.handle_datagram(Instant::now(), path, &buffer[..len]);
                    self.drain()?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("cannot receive"),
            }
        }
    }

    fn drain(&mut self) -> anyhow::Result<()> {
        while let Some(output) = self.engine.poll_output() {
            let now = Instant::now();
            self.tally.output(now, &output);
            match output {
                Output::Transmit { path, bytes } => {
                    let IpAddr::V4(local) = path.local.ip() else { bail!("{} is not ours", path.local) };
                    let number = u32::from(local) - u32::from(peers::address(0));
                    // A datagram that is lost is sent again.
                    let _lost = self.sockets[number as usize].send_to(&bytes, path.remote);
                }
                Output::Sa(SaOperation::Install { operation, .. }) => {
                    self.engine.handle_sa_result(now, operation, Ok(()));
                }
                Output::Sa(_) | Output::Event(_) | Output::Keep(_) => {}
            }
        }
        Ok(())
    }
}
