//! What a peer may say in informational exchanges that ours never says.

use std::time::Duration;

use crate::sim::{Simulation, Weather, setup};
use crate::v1::peer::Peer;
use crate::v2::core::Core;
use crate::wire::isakmp::registry::{notify, payload as kind};
use crate::wire::isakmp::{Notify, Payload};
use crate::{ChildId, ConnectionId, Engine, IkeSaId, Limits};

const CHILD: ChildId = ChildId(1);
const CONNECTION: ConnectionId = ConnectionId(1);

/// Two that never say INITIAL-CONTACT in phase 1; side 0 has made a child.
fn up() -> Simulation {
    let mut sim = Simulation::between(9, limits(), Weather::FAIR, |side| {
        let (ike, esp) = setup::classic();
        let connection = setup::connection_v1(side, 1, ike, &esp);
        setup::only_caller_starts(side, crate::Connection { dpd: None, ..connection })
    });
    sim.run(Duration::from_secs(5));
    assert_eq!(sim.disagreement(CHILD), None);
    sim
}

fn limits() -> Limits {
    Limits { initial_contact: false, ..Limits::default() }
}

/// Side 0 comes back without a memory of what was.
fn restart(sim: &mut Simulation) {
    let config = {
        let (ike, esp) = setup::classic();
        crate::Connection { dpd: None, ..setup::connection_v1(0, 1, ike, &esp) }
    };
    sim.hosts[0].engine = Engine::new(limits(), [78; 32]);
    sim.hosts[0].dataplane = crate::sim::Dataplane::default();
    sim.configure(0, config);
    sim.run(Duration::from_secs(2));
}

/// Side 0 says something on its newest phase 1.
fn say(sim: &mut Simulation, kind_of_notify: u16, data: &[u8]) {
    let now = sim.now;
    sim.hosts[0].engine.with_peer(now, CONNECTION, |peer: &mut Peer, core: &mut Core| {
        let found = peer.active().unwrap();
        let (id, cookies): (IkeSaId, _) = (found.id, (found.cookies.initiator, found.cookies.responder));
        let notify = Notify::about_isakmp(kind_of_notify, cookies, data.to_vec());
        peer.inform(core, now, id, Payload::new(kind::NOTIFY, notify.encode()));
    });
    sim.drain(0);
    sim.run(Duration::from_secs(1));
}

fn counter(sim: &Simulation, name: &str) -> u64 {
    sim.hosts[1].engine.counters().get(name).copied().unwrap_or(0)
}

fn sent_by_side_1(sim: &Simulation) -> usize {
    sim.link.log.iter().filter(|(from, ..)| *from == 1).count()
}

/// There are peers that say it only so, after phase 1.
#[test]
fn initial_contact_may_come_after_phase_one() {
    let mut sim = up();
    let old = sim.hosts[1].dataplane.sending_on(CHILD);
    restart(&mut sim);
    assert_eq!(sim.ike_sas(), [1, 2], "nothing told side 1 that the old one is gone");
    assert_eq!(sim.hosts[1].dataplane.pairs_of(CHILD).len(), 2);
    say(&mut sim, notify::INITIAL_CONTACT, &[]);
    assert_eq!(counter(&sim, "forgotten_by_initial_contact"), 1);
    assert_eq!(sim.ike_sas(), [1, 1]);
    assert_eq!(sim.disagreement(CHILD), None);
    let new = sim.hosts[1].dataplane.sending_on(CHILD);
    assert!(new.is_some() && new != old, "what was made on the new one stays");
    // Said again, it finds nothing that is older.
    say(&mut sim, notify::INITIAL_CONTACT, &[]);
    assert_eq!(counter(&sim, "forgotten_by_initial_contact"), 1);
    assert_eq!(sim.hosts[1].dataplane.sending_on(CHILD), new);
}

/// Not even what is intact in all but its place: its hash covers the message id.
#[test]
fn initial_contact_of_nobody_ends_nothing() {
    let mut sim = up();
    restart(&mut sim);
    sim.link.cut = true;
    say(&mut sim, notify::INITIAL_CONTACT, &[]);
    let (_, sent, mut message) = sim.link.log.last().cloned().unwrap();
    let path = crate::Path { local: sent.remote, remote: sent.local };
    let intact = message.clone();
    for at in [20, 28, message.len() - 1] {
        message[at] ^= 1;
        sim.inject(1, path, &message);
        message.clone_from(&intact);
    }
    assert_eq!((counter(&sim, "forgotten_by_initial_contact"), sim.ike_sas()[1]), (0, 2));
    sim.inject(1, path, &intact);
    assert_eq!((counter(&sim, "forgotten_by_initial_contact"), sim.ike_sas()[1]), (1, 1));
}

/// Unanswered it would take us for dead.
#[test]
fn a_peer_that_counts_its_probes_otherwise_is_answered() {
    let mut sim = up();
    for sequence in [0x7000_0000u32, 0x6fff_ffff, 5, 5, u32::MAX] {
        let before = sent_by_side_1(&sim);
        say(&mut sim, notify::R_U_THERE, &sequence.to_be_bytes());
        assert_eq!(sent_by_side_1(&sim), before + 1, "{sequence:#x}");
    }
    assert_eq!(counter(&sim, "stale_probes"), 3);
    let before = sent_by_side_1(&sim);
    say(&mut sim, notify::R_U_THERE, &[1, 2, 3]);
    assert_eq!((sent_by_side_1(&sim), counter(&sim, "malformed_probes")), (before, 1));
}
