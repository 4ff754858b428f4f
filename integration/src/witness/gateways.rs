//! The witness of a lab: all IKE that its gateways say is captured on their own cables from the first moment on, and read
//! when the lab ends.
//!
//! What comes along a cable the other way is not judged: it may be a peer's, or what somebody made of it, or a forgery.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use super::keys::Keys;
use super::message::{Form, Message};
use super::{Direction, Read, all_at_once, read};
use crate::namespace::Namespace;
use crate::pcap::{self, Datagram, Passing};
use crate::process::Process;
use crate::wait;

/// IKE, on UDP 4500 behind the marker that tells it from ESP (RFC 3948 section 2.2), and further pieces of UDP datagrams.
const FILTER: &str =
    "(ip proto 17 and ip[6:2] & 0x1fff != 0) or udp port 500 or (udp port 4500 and udp[8:4] = 0)";
/// Kibibytes of the kernel's buffer.
const BUFFER_KIB: &str = "4096";

/// What it watches.
#[derive(Debug)]
pub struct Witness(Mutex<Watched>);

#[derive(Debug)]
struct Watched {
    dir: PathBuf,
    taps: Vec<Arc<Tap>>,
    gateways: Vec<Watch>,
}

/// A gateway's cable.
#[derive(Debug)]
struct Watch {
    gateway: String,
    /// Where it tells its keys.
    keys: PathBuf,
    /// The far end of its cable: which tap sees it, and its number there. More than one if it was plugged in elsewhere.
    ends: Vec<(usize, u32)>,
}

/// What a gateway said and heard on its cable, each message once, and the keys that it made.
#[derive(Clone, Debug)]
pub struct Testimony {
    /// Its name.
    pub gateway: String,
    /// In their order.
    pub messages: Vec<(Direction, Datagram)>,
    /// As it told them.
    pub keys: Keys,
}

impl Witness {
    /// Listens on all interfaces that a namespace has and will have; files go to a directory.
    pub fn start(underlay: &Namespace, dir: &Path) -> Result<Self> {
        let taps = vec![Arc::new(Tap::start(underlay, dir)?)];
        Ok(Self(Mutex::new(Watched { dir: dir.to_owned(), taps, gateways: Vec::new() })))
    }

    /// There is a gateway behind this interface of the namespace that the witness began in; it tells its keys in this file.
    pub fn gateway(&self, name: &str, keys: &Path, underlay: &Namespace, interface: &str) -> Result<()> {
        let ends = vec![(0, index(underlay, interface)?)];
        let watch = Watch { gateway: name.to_owned(), keys: keys.to_owned(), ends };
        self.watched().gateways.push(watch);
        Ok(())
    }

    /// The far end of a gateway's cable went to another namespace. What listens there must be gone before it: see
    /// [`Listening`]. `None` if no such gateway is watched.
    pub fn replugged(&self, name: &str, to: &Namespace, interface: &str) -> Result<Option<Listening>> {
        let watched = &mut *self.watched();
        let Some(watch) = watched.gateways.iter_mut().find(|watch| watch.gateway == name) else {
            return Ok(None);
        };
        let number = match watched.taps.iter().position(|tap| tap.namespace == to.name()) {
            Some(number) => number,
            None => {
                watched.taps.push(Arc::new(Tap::start(to, &watched.dir)?));
                watched.taps.len() - 1
            }
        };
        watch.ends.push((number, index(to, interface)?));
        Ok(Some(Listening(Arc::clone(&watched.taps[number]))))
    }

    /// What was captured of each gateway so far. Nothing is captured any more.
    pub fn testimonies(&self) -> Result<Vec<Testimony>> {
        let watched = self.watched();
        let passed = watched.taps.iter().map(|tap| tap.stop()).collect::<Result<Vec<_>>>()?;
        watched.gateways.iter().map(|watch| watch.testimony(&passed)).collect()
    }

    /// Has all that the gateways said read, and tells of it.
    pub fn judge(&self) -> Result<()> {
        let dir = self.watched().dir.clone();
        let testimonies = self.testimonies()?;
        let judged = |number: usize| {
            let testimony = &testimonies[number];
            testimony.judge(&dir).with_context(|| format!("what {} said", testimony.gateway))
        };
        let read = all_at_once(testimonies.len(), judged)?;
        for (testimony, read) in testimonies.iter().zip(read) {
            println!("witness: {}: {read}", testimony.gateway);
        }
        Ok(())
    }

    fn watched(&self) -> std::sync::MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    fn testimony(&self, passed: &[Vec<Passing>]) -> Result<Testimony> {
        let told = match fs::read_to_string(&self.keys) {
            Ok(told) => told,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).context("keys cannot be read"),
        };
        let mut seen = HashSet::new();
        let mut messages = Vec::new();
        for (tap, interface) in &self.ends {
            for Passing { datagram, leaves, .. } in
                passed[*tap].iter().filter(|passing| passing.interface == *interface)
            {
                let direction = if *leaves { Direction::In } else { Direction::Out };
                // A retransmission tells nothing new, and a decoder of IKEv1 would take it for the next in the chain of IVs.
                if seen.insert((*leaves, &datagram.payload)) {
                    messages.push((direction, datagram.clone()));
                }
            }
        }
        // Of what floods in, only what it answered helps to understand the answers.
        let own: HashSet<u64> = messages.iter().filter_map(|message| spi_i(said(message)?)).collect();
        messages.retain(|message| {
            said(message).is_some() || spi_i(&message.1).is_some_and(|spi| own.contains(&spi))
        });
        Ok(Testimony { gateway: self.gateway.clone(), messages, keys: Keys::parse(&told)? })
    }
}

impl Testimony {
    /// Whether all of it is as it should be; files go to a directory.
    pub fn judge(&self, dir: &Path) -> Result<Read> {
        let Self { gateway, messages, keys } = self;
        let mut said_of = HashSet::new();
        for datagram in messages.iter().filter_map(said) {
            let message =
                Message::of(datagram).with_context(|| format!("no message: {:02x?}", datagram.payload))?;
            let sealed = matches!(message.form, Form::Sealed | Form::SealedPiece { .. });
            ensure!(!sealed || !keys.is_empty(), "it told no keys, and sent {message:x?}");
            said_of.insert(message.spis.0);
        }
        // A witness that sees nothing objects to nothing.
        let seen = keys.ike_sas.keys().any(|(spi_i, _)| said_of.contains(spi_i));
        ensure!(keys.ike_sas.is_empty() || seen, "nothing was seen of any of its IKE SAs");
        ensure!(keys.is_empty() || !said_of.is_empty(), "it made keys, and nothing was seen");
        read(&dir.join(format!("{gateway}-ike.pcap")), messages, keys)
    }
}

/// What is of the gateway itself.
fn said((direction, datagram): &(Direction, Datagram)) -> Option<&Datagram> {
    (*direction == Direction::Out).then_some(datagram)
}

fn spi_i(datagram: &Datagram) -> Option<u64> {
    Message::of(datagram).map(|message| message.spis.0)
}

/// A tcpdump on all interfaces of a namespace.
struct Tap {
    namespace: String,
    file: PathBuf,
    log: PathBuf,
    process: Mutex<Option<Process>>,
}

/// Has the witness listen in a namespace until it is dropped: then what was seen there is whole. It must go before the
/// namespace does, which kills whatever runs inside.
#[derive(Debug)]
pub struct Listening(Arc<Tap>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tap").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Tap {
    fn start(namespace: &Namespace, dir: &Path) -> Result<Self> {
        let (file, log) =
            ["pcap", "log"].map(|kind| dir.join(format!("ike-in-{}.{kind}", namespace.name()))).into();
        let mut command = namespace.tied_command("tcpdump");
        // Without a delay of its own: what was seen is in the file when it is told to end.
        command.args(["-i", "any", "-y", "LINUX_SLL2", "-n", "-U", "--immediate-mode", "-Z", "root"]);
        command.args(["-B", BUFFER_KIB, "-w"]).arg(&file).arg(FILTER);
        let process = Process::start("tcpdump", &mut command, &log)?;
        wait::until("tcpdump to listen", Duration::from_secs(10), || {
            let said = fs::read_to_string(&log).unwrap_or_default();
            if said.contains("listening on") { Ok(()) } else { Err(said) }
        })?;
        let namespace = namespace.name().to_owned();
        Ok(Self { namespace, file, log, process: Mutex::new(Some(process)) })
    }

    /// Ends the capture, and tells what passed; an error if it is not whole.
    fn stop(&self) -> Result<Vec<Passing>> {
        self.end();
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        let dropped = said.lines().find(|line| line.contains("dropped by kernel"));
        let dropped = dropped.with_context(|| format!("tcpdump was ended by somebody else: {said}"))?;
        if !dropped.trim_start().starts_with("0 ") {
            bail!("the capture in {} is not whole: {dropped}", self.namespace);
        }
        pcap::read_cooked(&self.file)
    }

    fn end(&self) {
        let Some(process) = self.process.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        // What is on the cable now comes through.
        sleep(Duration::from_millis(50));
        // One that is gone already has not said how it ended, and is found out by that.
        let _gone = process.signal(Signal::INT);
        let _late = wait::until("the end of tcpdump", Duration::from_secs(5), || {
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            if said.contains("dropped by kernel") { Ok(()) } else { Err(said) }
        });
    }
}

/// The number of an interface in its namespace.
fn index(namespace: &Namespace, interface: &str) -> Result<u32> {
    let shown = namespace.ip(&format!("-o link show dev {interface}"))?;
    let number = shown.split(':').next().and_then(|number| number.trim().parse().ok());
    number.with_context(|| format!("no number in {shown:?}"))
}
