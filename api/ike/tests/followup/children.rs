//! Children with a key exchange of their own have the additional ones of their IKE SA too: new ones and rekeyed ones.

use std::time::Duration;

use ike::sim::{Delivery, Simulation, Weather, setup};
use ike::*;

use super::storms::{self, CHILDREN};
use super::{BOTH, CONNECTION, CREATE_CHILD_SA, FIRST, IKE_FOLLOWUP_KE, additional, count, exchanges};

fn begin(seed: u64, weather: Weather) -> Simulation {
    begin_with(seed, weather, |_, connection| forward_secrecy(connection, &BOTH[..1]))
}

fn begin_with(seed: u64, weather: Weather, change: impl Fn(usize, &mut Connection)) -> Simulation {
    Simulation::between(seed, Limits::default(), weather, |side| {
        let mut connection = setup::connection(side, CHILDREN);
        change(side, &mut connection);
        connection
    })
}

/// A group for children, and one additional key exchange for each of these methods.
fn forward_secrecy(connection: &mut Connection, methods: &[KeyEncapsulation]) {
    additional(connection, methods);
    for child in &mut connection.children {
        child.proposals[0].groups = vec![Group::Curve25519];
    }
}

fn rekeyed(sim: &Simulation, side: usize) -> usize {
    let rekeyed = |event: &Event| matches!(event, Event::ChildRekeyed { child, .. } if *child == FIRST);
    sim.hosts[side].events.iter().filter(|(_, event)| rekeyed(event)).count()
}

#[test]
fn either_side_makes_and_rekeys_children_with_them() {
    for side in 0..2 {
        let mut sim = begin_with(1, Weather::FAIR, |_, connection| forward_secrecy(connection, &BOTH));
        sim.run(Duration::from_secs(60));
        storms::assert_settled(&sim, 1);
        // The child that did not come up in IKE_AUTH.
        let before = exchanges(&sim, IKE_FOLLOWUP_KE);
        assert!(before >= 4, "{before} messages for the second child");
        sim.command(side, Command::RekeyChild(FIRST));
        sim.run(Duration::from_secs(60));
        assert!(exchanges(&sim, IKE_FOLLOWUP_KE) >= before + 4, "two exchanges, in fragments or not");
        storms::assert_settled(&sim, 1);
        assert_eq!([rekeyed(&sim, 0), rekeyed(&sim, 1)], [1, 1]);
        let made = ChildKeyExchange { group: Group::Curve25519, additional: BOTH.to_vec() };
        for host in &sim.hosts {
            assert_eq!(host.dataplane.pairs_of(FIRST)[0].pair.key_exchange, Some(made.clone()));
        }
        for from in 0..2 {
            assert!(matches!(
                sim.send_packet(from, FIRST),
                Delivery::First { .. } | Delivery::Delivered { .. }
            ));
        }
        assert_eq!((count(&sim, "followups_refused"), count(&sim, "followups_expired")), (0, 0));
    }
}

#[test]
fn children_without_a_key_exchange_of_their_own_have_none() {
    let mut sim = begin_with(2, Weather::FAIR, |_, connection| {
        additional(connection, &BOTH[..1]);
    });
    sim.run(Duration::from_secs(60));
    sim.command(0, Command::RekeyChild(FIRST));
    sim.run(Duration::from_secs(60));
    storms::assert_settled(&sim, 2);
    assert_eq!((rekeyed(&sim, 0), exchanges(&sim, IKE_FOLLOWUP_KE)), (1, 0));
}

#[test]
fn a_peer_that_lacks_them_is_not_bothered() {
    for able in 0..2 {
        let mut sim = begin_with(3, Weather::FAIR, |side, connection| {
            forward_secrecy(connection, if side == able { &BOTH } else { &[] });
        });
        sim.run(Duration::from_secs(60));
        for side in 0..2 {
            sim.command(side, Command::RekeyChild(FIRST));
            sim.run(Duration::from_secs(60));
        }
        storms::assert_settled(&sim, 3);
        assert_eq!((rekeyed(&sim, 0), exchanges(&sim, IKE_FOLLOWUP_KE)), (2, 0));
    }
}

#[test]
fn both_sides_at_once_end_with_one() {
    let mut collisions = 0;
    for seed in 0..40 {
        let mut sim = begin(seed, Weather::FAIR);
        sim.run(Duration::from_secs(60));
        // From the same instant to so late that the first is about to be done.
        sim.command(0, Command::RekeyChild(FIRST));
        sim.run(Duration::from_millis(seed));
        sim.command(1, Command::RekeyChild(FIRST));
        sim.run(Duration::from_secs(120));
        storms::assert_settled(&sim, seed);
        assert_eq!(count(&sim, "followups_expired"), 0, "seed {seed}: who loses knows it");
        collisions += count(&sim, "rekey_collisions_lost");
    }
    assert!(collisions > 0, "nothing collided");
}

/// A rekey of a child while the IKE SA is rekeyed too, from the other side or the same.
#[test]
fn a_rekey_of_the_ike_sa_waits_or_is_waited_for() {
    for seed in 0..40 {
        let mut sim = begin(seed, Weather::FAIR);
        sim.run(Duration::from_secs(60));
        let side = usize::try_from(seed % 2).unwrap();
        sim.command(side, Command::RekeyChild(FIRST));
        sim.run(Duration::from_millis(2 * seed));
        sim.command(1 - side, Command::RekeyIke(CONNECTION));
        sim.run(Duration::from_secs(120));
        storms::assert_settled(&sim, seed);
    }
}

/// What a peer began and does not go on with is forgotten in time, and it is told so when it comes back.
#[test]
fn a_peer_that_does_not_go_on_is_not_waited_for_without_end() {
    for command in [Command::RekeyChild(FIRST), Command::RekeyIke(CONNECTION)] {
        let mut sim = begin(5, Weather::FAIR);
        sim.run(Duration::from_secs(60));
        let answers = |sim: &Simulation| {
            let answer =
                |(from, _, bytes): &(usize, Path, Vec<u8>)| *from == 1 && bytes[18] == CREATE_CHILD_SA;
            sim.link.log.iter().filter(|sent| answer(sent)).count()
        };
        let before = answers(&sim);
        sim.command(0, command);
        while answers(&sim) == before {
            sim.run(Duration::from_millis(1));
        }
        // The answer has gone; what follows is lost, until shortly after the responder's patience.
        sim.run(Duration::from_millis(1));
        sim.link.cut = true;
        assert_eq!(count(&sim, "followups_expired"), 0);
        sim.run(Duration::from_secs(31));
        assert_eq!(count(&sim, "followups_expired"), 1);
        sim.link.cut = false;
        sim.run(Duration::from_secs(120));
        storms::assert_settled(&sim, 5);
        assert_eq!(count(&sim, "followups_refused"), 1, "STATE_NOT_FOUND");
    }
}

#[test]
fn an_end_in_the_middle_ends_all() {
    super::an_end_in_the_middle_ends_all(begin, Command::RekeyChild(FIRST));
}

#[test]
fn converges_from_a_simultaneous_start() {
    storms::converges(40, begin);
}

#[test]
fn a_rekey_storm_leaves_no_orphan() {
    storms::a_rekey_storm_leaves_no_orphan(60, begin);
}

#[test]
fn no_packet_meets_an_unknown_spi() {
    storms::no_packet_meets_an_unknown_spi(60, begin);
}
