//! A defect that a stranger's datagram meets costs that datagram.

use std::time::Duration;

use crate::sim::{Simulation, Weather, setup};
use crate::{ChildId, Classified, Connection, Group, IkeProposal, Ikev1, Limits, Path, Version};

const FIRST: ChildId = ChildId(1);

fn begin(change: impl Fn(usize, &mut Connection)) -> (Simulation, Path, Vec<u8>) {
    let sim = Simulation::between(7, Limits::default(), Weather::FAIR, |side| {
        let mut connection = setup::called(side, 1);
        change(side, &mut connection);
        connection
    });
    let (_, sent, first) = sim.link.log[0].clone();
    (sim, Path { local: sent.remote, remote: sent.local }, first)
}

fn count(sim: &Simulation, name: &str) -> u64 {
    sim.hosts[1].engine.counters().get(name).copied().unwrap_or(0)
}

fn break_generator(sim: &mut Simulation, broken: bool) {
    sim.hosts[1].engine.core.random.broken = broken;
}

#[test]
fn a_panic_over_a_first_message_ends_nothing_else() {
    let (mut sim, path, first) = begin(|_, _| {});
    let mut strange = first.clone();
    break_generator(&mut sim, true);
    for number in 1..=20u64 {
        strange[..8].copy_from_slice(&number.to_be_bytes());
        assert_eq!(sim.inject(1, path, &strange), Classified::Dropped("panicked"));
    }
    assert_eq!((count(&sim, "panics"), count(&sim, "panicked")), (20, 20));
    // Nothing is left of them: no SPI, no place among the half-open.
    assert_eq!((sim.hosts[1].engine.core.by_spi.len(), sim.ike_sas()[1]), (0, 0));
    break_generator(&mut sim, false);
    sim.run(Duration::from_secs(5));
    assert_eq!(sim.disagreement(FIRST), None);
    // What is up stays up, whatever else comes.
    break_generator(&mut sim, true);
    strange[..8].copy_from_slice(&[0xee; 8]);
    assert_eq!(sim.inject(1, path, &strange), Classified::Dropped("panicked"));
    break_generator(&mut sim, false);
    assert_eq!((sim.disagreement(FIRST), sim.ike_sas()), (None, [1, 1]));
}

#[test]
fn a_panic_over_a_first_message_of_version_1_ends_nothing_else() {
    // Nothing that it offers is acceptable, until it is.
    let connection = |side, group| {
        let (ike, esp) = setup::classic();
        let mut connection = setup::called(side, 1);
        connection.version = Version::V1(Ikev1::default());
        connection.proposals = vec![IkeProposal { groups: vec![group], ..ike }];
        connection.children[0].proposals = vec![esp];
        connection
    };
    let (mut sim, path, first) = begin(|side, configured| {
        *configured = connection(side, if side == 0 { Group::EcpP256 } else { Group::Modp2048 });
    });
    break_generator(&mut sim, true);
    assert_eq!(sim.inject(1, path, &first), Classified::Dropped("panicked"));
    assert_eq!((count(&sim, "panics"), count(&sim, "panicked")), (1, 1));
    break_generator(&mut sim, false);
    sim.configure(1, connection(1, Group::EcpP256));
    sim.run(Duration::from_secs(5));
    assert_eq!(sim.disagreement(FIRST), None);
}
