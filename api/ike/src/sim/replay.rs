//! What the fuzzers run, and what plain tests replay over the corpus.

mod choice;
mod codec;
mod sealed;

use std::time::Duration;

pub use choice::{identity, proposals, selectors};
pub use codec::datagram_v1;
pub use sealed::{fragments, opened};

use super::{Simulation, Weather, setup};
use crate::{ChildId, Classified, Command, ConnectionId, DataplaneEvent, Limits, Path};

fn path(to: usize, port: u16) -> Path {
    Path { local: (setup::address(to), port).into(), remote: (setup::address(1 - to), port).into() }
}

fn simulation() -> Simulation {
    Simulation::between(1, Limits::default(), Weather::FAIR, |side| setup::called(side, 2))
}

fn assert_sane(sim: &Simulation) {
    for host in &sim.hosts {
        assert_eq!(host.engine.counters().get("panics"), None);
        assert_eq!(host.dataplane.strays, 0);
    }
}

/// One datagram to a responder that knows its sender, on either port: no panic, and no answer longer than it.
pub fn datagram(data: &[u8]) {
    for port in [500, 4500] {
        let mut sim = simulation();
        let unasked = sim.link.log.len();
        let classified = sim.inject(1, path(1, port), data);
        let answered: usize = sim.link.log.iter().skip(unasked).map(|(_, _, bytes)| bytes.len()).sum();
        assert!(answered <= data.len(), "{answered} bytes answer {}", data.len());
        if matches!(classified, Classified::Dropped(_) | Classified::Keepalive | Classified::Esp) {
            assert_eq!(sim.ike_sas()[1], 0, "state is kept for {classified:?}");
        }
        assert_sane(&sim);
    }
}

/// Steps on two connected engines: each takes an operation byte and an argument byte. Messages between the ends are
/// held back, changed, repeated and dropped as the input says; at the end the ends must agree again.
pub fn steps(data: &[u8]) {
    let mut sim = simulation();
    sim.run(Duration::from_secs(1));
    for step in data.chunks_exact(2).take(200) {
        let (operation, argument) = (step[0], usize::from(step[1]));
        let side = argument % 2;
        let spi_in = sim.hosts[side].dataplane.sending_on(ChildId(1)).unwrap_or(0);
        match operation % 12 {
            0 => sim.command(side, Command::RekeyChild(ChildId(1))),
            1 => sim.command(side, Command::RekeyChild(ChildId(2))),
            2 => sim.command(side, Command::RekeyIke(ConnectionId(1))),
            3 => sim.dataplane(side, DataplaneEvent::SoftLimit { spi_in }),
            4 => sim.dataplane(side, DataplaneEvent::HardLimit { spi_in }),
            5 => {
                // An earlier message again, one of its bytes changed if the argument says so.
                let count = sim.link.log.len();
                if let Some((from, sent, mut bytes)) = sim.link.log.get(argument % count.max(1)).cloned() {
                    let index = argument * 31 % bytes.len().max(1);
                    if side == 1
                        && let Some(byte) = bytes.get_mut(index)
                    {
                        *byte ^= 1;
                    }
                    let there = Path { local: sent.remote, remote: sent.local };
                    sim.inject(1 - from, there, &bytes);
                }
            }
            6 => sim.link.cut = side == 1,
            7 => sim.run(Duration::from_millis(argument as u64)),
            8 => sim.run(Duration::from_secs(argument as u64)),
            9 => sim.command(side, Command::Terminate(ConnectionId(1))),
            10 => sim.command(side, Command::Initiate(ConnectionId(1))),
            _ => sim.hosts[side].refuses_installs = argument > 128,
        }
        assert_sane(&sim);
    }
    sim.link.cut = false;
    sim.hosts.iter_mut().for_each(|host| host.refuses_installs = false);
    sim.run(Duration::from_secs(700));
    sim.command(1, Command::Initiate(ConnectionId(1)));
    sim.command(0, Command::Initiate(ConnectionId(1)));
    sim.run(Duration::from_secs(400));
    for id in 1..=2 {
        assert_eq!(sim.disagreement(ChildId(id)), None);
    }
    assert_sane(&sim);
}
