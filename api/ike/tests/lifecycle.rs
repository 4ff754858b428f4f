//! Two engines over a fair link: what an operator expects of a connection's life.

use std::time::Duration;

use ike::sim::{Delivery, Simulation, Weather, setup};
use ike::*;

const FIRST: ChildId = ChildId(1);

fn pair(children: u64) -> Simulation {
    Simulation::between(7, Limits::default(), Weather::FAIR, |side| setup::called(side, children))
}

fn up(children: u64) -> Simulation {
    let mut sim = pair(children);
    sim.run(Duration::from_secs(2));
    for id in 1..=children {
        assert_eq!(sim.disagreement(ChildId(id)), None, "child {id}");
    }
    sim
}

fn causes(sim: &Simulation, side: usize) -> Vec<String> {
    let cause = |event: &Event| match event {
        Event::IkeDown { cause, .. } | Event::ChildDown { cause, .. } => Some(cause.to_string()),
        _ => None,
    };
    sim.hosts[side].events.iter().filter_map(|(_, event)| cause(event)).collect()
}

#[test]
fn comes_up_in_two_exchanges() {
    let sim = up(1);
    assert_eq!(sim.link.log.len(), 4);
    assert_eq!(sim.ike_sas(), [1, 1]);
    for host in &sim.hosts {
        let views = host.engine.isakmp_sas(sim.now);
        assert_eq!(views[0].state, "established");
        assert_eq!(views[0].suite, "aes-256-gcm / prf sha2-256 / group 31");
    }
}

#[test]
fn an_engine_whose_forerunners_sas_live_on_does_not_make_the_peer_forget_them() {
    for (initial_contact, forgotten) in [(true, Some(&1)), (false, None)] {
        let mut sim = up(1);
        sim.hosts[0].engine = Engine::new(Limits { initial_contact, ..Limits::default() }, [9; 32]);
        // The forerunner's SAs are not looked after any more: what is sent must come on the new ones.
        sim.hosts[0].dataplane = Default::default();
        sim.configure(0, setup::connection(0, 1));
        sim.run(Duration::from_secs(2));
        assert_eq!(sim.hosts[0].engine.isakmp_sas(sim.now).len(), 1);
        assert_eq!(sim.hosts[1].engine.counters().get("forgotten_by_initial_contact"), forgotten);
        for sender in 0..2 {
            let delivery = sim.send_packet(sender, FIRST);
            assert!(!matches!(delivery, Delivery::NoSa | Delivery::UnknownSpi), "{sender}: {delivery:?}");
        }
        // Without a word of the peer, the old IKE SA goes when the peer does not answer on it.
        sim.run(Duration::from_secs(15));
        assert_eq!((sim.ike_sas(), sim.disagreement(FIRST)), ([1, 1], None));
    }
}

#[test]
fn brings_up_further_children_over_the_same_ike_sa() {
    let sim = up(5);
    assert_eq!(sim.ike_sas(), [1, 1]);
    assert_eq!(sim.link.log.len(), 4 + 2 * 4);
}

#[test]
fn rekeys_a_child_by_command_from_each_end_without_losing_a_packet() {
    for side in 0..2 {
        let mut sim = up(1);
        let old = sim.hosts[0].dataplane.sending_on(FIRST);
        sim.command(side, Command::RekeyChild(FIRST));
        for _ in 0..200 {
            sim.run(Duration::from_millis(1));
            for sender in 0..2 {
                let delivery = sim.send_packet(sender, FIRST);
                assert!(!matches!(delivery, Delivery::NoSa | Delivery::UnknownSpi), "{delivery:?}");
            }
        }
        assert_eq!(sim.disagreement(FIRST), None);
        assert_ne!(sim.hosts[0].dataplane.sending_on(FIRST), old);
        assert!(sim.hosts.iter().all(|host| {
            host.events.iter().any(|(_, event)| matches!(event, Event::ChildRekeyed { .. }))
        }));
    }
}

#[test]
fn rekeys_a_child_by_time_and_by_the_dataplanes_count() {
    let mut sim = up(1);
    let old = sim.hosts[0].dataplane.sending_on(FIRST);
    sim.run(Duration::from_secs(3700));
    let by_time = sim.hosts[0].dataplane.sending_on(FIRST);
    assert_ne!(old, by_time);
    assert_eq!(sim.disagreement(FIRST), None);
    let spi_in = sim.hosts[1].dataplane.sending_on(FIRST).unwrap();
    sim.dataplane(1, DataplaneEvent::SoftLimit { spi_in });
    sim.dataplane(1, DataplaneEvent::SoftLimit { spi_in });
    sim.run(Duration::from_secs(1));
    assert_ne!(by_time, sim.hosts[0].dataplane.sending_on(FIRST));
    assert_eq!(sim.disagreement(FIRST), None);
}

#[test]
fn rekeys_the_ike_sa_from_each_end_and_keeps_the_children() {
    for side in 0..2 {
        let mut sim = up(3);
        let before = sim.hosts[0].engine.isakmp_sas(sim.now)[0].spi_i;
        let pair = sim.hosts[0].dataplane.sending_on(FIRST);
        sim.command(side, Command::RekeyIke(ConnectionId(1)));
        sim.run(Duration::from_secs(2));
        assert_eq!(sim.ike_sas(), [1, 1]);
        let view = &sim.hosts[0].engine.isakmp_sas(sim.now)[0];
        assert_ne!(view.spi_i, before);
        assert_eq!(view.children.len(), 3);
        assert_eq!(sim.hosts[0].dataplane.sending_on(FIRST), pair);
        sim.command(1 - side, Command::RekeyChild(FIRST));
        sim.run(Duration::from_secs(2));
        assert_eq!(sim.disagreement(FIRST), None);
        assert_ne!(sim.hosts[0].dataplane.sending_on(FIRST), pair);
    }
}

/// Nothing comes back after the DELETE of the old SA: a peer that has answered once may have nothing left to answer with.
#[test]
fn an_sa_with_an_heir_is_gone_in_time_though_its_end_is_not_confirmed() {
    let mut sim = up(1);
    sim.command(0, Command::RekeyIke(ConnectionId(1)));
    while sim.ike_sas() != [2, 2] {
        sim.run(Duration::from_millis(1));
    }
    // The DELETE is on its way; its answer is not.
    sim.link.cut = true;
    sim.run(Duration::from_secs(6));
    assert_eq!(sim.ike_sas(), [2, 1], "it is told again");
    sim.run(Duration::from_secs(15));
    assert_eq!(sim.ike_sas(), [1, 1]);
    sim.link.cut = false;
    sim.run(Duration::from_secs(60));
    assert_eq!(sim.disagreement(FIRST), None);
}

#[test]
fn terminate_ends_both_sides_and_stays_ended() {
    let mut sim = up(2);
    sim.command(0, Command::Terminate(ConnectionId(1)));
    sim.run(Duration::from_secs(120));
    assert_eq!(sim.ike_sas(), [0, 0]);
    assert!(sim.hosts.iter().all(|host| host.dataplane.is_empty()));
    assert!(causes(&sim, 1).iter().any(|cause| cause == "the peer deleted the SA"));
    sim.command(0, Command::Initiate(ConnectionId(1)));
    sim.run(Duration::from_secs(2));
    assert_eq!(sim.disagreement(FIRST), None);
}

#[test]
fn asks_for_life_only_when_idle() {
    let mut sim = up(1);
    let sent = sim.link.log.len();
    for _ in 0..20 {
        sim.run(Duration::from_secs(10));
        sim.send_packet(0, FIRST);
        sim.send_packet(1, FIRST);
    }
    assert_eq!(sim.link.log.len(), sent, "traffic counts as life");
    sim.run(Duration::from_secs(35));
    assert!(sim.link.log.len() > sent);
    assert_eq!(sim.ike_sas(), [1, 1]);
}

#[test]
fn a_dead_peer_is_found_and_a_live_one_found_again() {
    let mut sim = up(1);
    sim.link.cut = true;
    sim.run(Duration::from_secs(260));
    assert!(causes(&sim, 0).iter().any(|cause| cause.contains("stopped answering")), "{:?}", causes(&sim, 0));
    assert!(sim.hosts[0].dataplane.is_empty());
    sim.link.cut = false;
    sim.run(Duration::from_secs(200));
    assert_eq!(sim.disagreement(FIRST), None);
}

#[test]
fn a_restarted_peer_replaces_what_it_had() {
    let mut sim = up(1);
    sim.hosts[0].engine = Engine::new(Limits::default(), [9; 32]);
    sim.hosts[0].dataplane = Default::default();
    sim.configure(0, setup::connection(0, 1));
    sim.run(Duration::from_secs(3));
    assert_eq!(sim.disagreement(FIRST), None);
    assert_eq!(sim.ike_sas(), [1, 1]);
    assert!(
        !sim.hosts[1].events.iter().any(|(_, event)| matches!(event, Event::ChildDown { .. })),
        "no flap"
    );
}

#[test]
fn both_ends_starting_at_once_end_with_one_pair_and_no_flap() {
    for seed in 0..30 {
        let mut sim =
            Simulation::between(seed, Limits::default(), Weather::FAIR, |side| setup::connection(side, 3));
        sim.run(Duration::from_secs(120));
        for id in 1..=3 {
            assert_eq!(sim.disagreement(ChildId(id)), None, "seed {seed} child {id}");
        }
        assert_eq!(sim.ike_sas(), [1, 1], "seed {seed}");
        for host in &sim.hosts {
            let down = host
                .events
                .iter()
                .any(|(_, event)| matches!(event, Event::ChildDown { .. } | Event::IkeDown { .. }));
            assert!(
                !down || host.events.iter().all(|(_, event)| !matches!(event, Event::ChildDown { .. })),
                "seed {seed}: {:?}",
                host.events
            );
        }
    }
}
