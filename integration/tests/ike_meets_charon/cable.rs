//! Our engine, charon, and the cable between them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use ike::sim::setup;
use ike::{ChildConfig, ChildId, Command, Connection, Limits, Mode, TrafficSelector};
use integration::interop::{Role, Scenario};
use integration::leftovers::{self, Files, run_dir};
use integration::namespace::Namespace;
use integration::veth::{self, End, Use};

use crate::charon::{Charon, Release, Settings, child};
use crate::ours::{CONNECTION, Ours};
use crate::witness::Witness;

/// Both ends' namespaces; charon runs, and nobody is told anything yet.
pub(crate) struct Cable {
    pub(crate) charon: Charon,
    pub(crate) ours: Namespace,
    pub(crate) theirs: Namespace,
    pub(crate) dir: PathBuf,
    // Judges when everything has ended and the files are still there.
    _witness: Witness,
    _files: Files,
}

impl Cable {
    /// Lays the cable and starts charon with these lines in its configuration.
    pub(crate) fn with(options: &str) -> Result<Self> {
        Self::to(Release::Five, options)
    }

    /// As [`Self::with`], with that release of strongSwan.
    pub(crate) fn to(release: Release, options: &str) -> Result<Self> {
        leftovers::sweep()?;
        let dir = run_dir("charon")?;
        let (ours, theirs) = (Namespace::create("ours")?, Namespace::create("charon")?);
        let end = |namespace| End { namespace, interface: "eth0" };
        veth::connect((end(&ours), Use::Kernel), (end(&theirs), Use::Kernel))?;
        ours.ip("addr add 192.0.2.1/24 dev eth0")?;
        theirs.ip("addr add 192.0.2.2/24 dev eth0")?;
        // charon installs a child only if it has an address in it and a way to the other side.
        for host in ["10.2.0.1", "10.2.0.2", "10.2.0.3"] {
            theirs.ip(&format!("addr add {host}/32 dev lo"))?;
        }
        theirs.ip("route add 10.1.0.0/16 via 192.0.2.1 dev eth0")?;
        let witness = Witness::new(&dir);
        let charon = Charon::start(release, &theirs, &dir, options)?;
        Ok(Self { charon, ours, theirs, dir, _witness: witness, _files: Files })
    }

    /// As [`Self::with`], as charon comes.
    pub(crate) fn new() -> Result<Self> {
        Self::with("")
    }

    /// Starts our engine with a connection, patient as tests are.
    pub(crate) fn engine(&self, connection: Connection) -> Result<Ours> {
        Ours::start(&self.ours, limits(), connection)
    }

    /// Both ends up: told of each other, and begun by the one whose role it is.
    pub(crate) fn up(&self, role: Role, connection: Connection, settings: &Settings) -> Result<Ours> {
        let ours = self.begin(role, connection, settings)?;
        ours.settles(1)?;
        Ok(ours)
    }

    /// As [`Self::up`], whatever comes of it.
    pub(crate) fn begin(&self, role: Role, connection: Connection, settings: &Settings) -> Result<Ours> {
        self.charon.load(settings)?;
        self.start(role, connection)
    }

    /// Our deletion leaves nothing at either end.
    pub(crate) fn ends(&self, ours: Ours) -> Result<()> {
        ours.command(Command::Terminate(CONNECTION));
        ours.until("the end at both ends", |state| {
            ensure!(state.installed.is_empty(), "a pair is left");
            let shown = self.charon.swanctl("--list-sas")?;
            ensure!(shown.trim().is_empty(), "{shown}");
            Ok(())
        })
    }

    /// Starts our engine, and charon's side if it begins; charon was told before.
    pub(crate) fn start(&self, role: Role, mut connection: Connection) -> Result<Ours> {
        for child in &mut connection.children {
            child.start = role == Role::Initiator;
        }
        let ours = self.engine(connection)?;
        if role == Role::Responder {
            self.charon.try_swanctl("--initiate --child net --timeout 10")?;
        }
        Ok(ours)
    }
}

/// Retransmits soon: the machine is busy, the cable is short.
pub(crate) fn limits() -> Limits {
    Limits { retransmit_base: Duration::from_millis(500), retransmit_tries: 4, ..Limits::default() }
}

/// A connection as [`Settings::default`] answers it: one child in tunnel mode.
pub(crate) fn connection() -> Connection {
    let mut connection = setup::connection(0, 1);
    for child in &mut connection.children {
        child.mode = Mode::Tunnel;
        child.local_selectors = vec![host("10.1.0.1")];
        child.remote_selectors = vec![host("10.2.0.1")];
    }
    connection
}

/// The second child of [`with_second_child`].
pub(crate) const FURTHER: ChildId = ChildId(2);

/// A second child like the first, between the next addresses.
pub(crate) fn with_second_child(mut connection: Connection) -> Connection {
    let further = connection.children.first().map(|first| ChildConfig {
        id: FURTHER,
        local_selectors: vec![host("10.1.0.2")],
        remote_selectors: vec![host("10.2.0.2")],
        ..first.clone()
    });
    connection.children.extend(further);
    connection
}

/// What charon is told of both: `net` and `more`.
pub(crate) fn two_children() -> String {
    child("net", "10.2.0.1/32", "10.1.0.1/32", "") + &child("more", "10.2.0.2/32", "10.1.0.2/32", "")
}

/// One address, any protocol.
pub(crate) fn host(address: &str) -> TrafficSelector {
    let address: IpAddr = address.parse().unwrap_or(IpAddr::from([0, 0, 0, 0]));
    TrafficSelector { first: address, last: address, protocol: 0, ports: (0, u16::MAX) }
}

/// A scenario that strongSwan judges.
pub(crate) fn scenario(number: u8, what: &'static str, role: Role) -> Scenario {
    judged_by(Release::Five, number, what, role)
}

/// A scenario that this release of strongSwan judges.
pub(crate) fn judged_by(release: Release, number: u8, what: &'static str, role: Role) -> Scenario {
    Scenario { number, what, peer: release.name(), role }
}
