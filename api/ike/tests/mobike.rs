//! A peer on the move (MOBIKE, RFC 4555): wherever it goes in whatever weather, its SAs follow where it says that it is,
//! and nobody else leads them away.

#[allow(dead_code, reason = "each test file is a crate of its own and uses a part")]
mod storms;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ike::sim::{Simulation, Weather, setup};
use ike::*;
use storms::{assert_settled, seeds};

const FIRST: ChildId = ChildId(1);
/// The one that moves.
const MOBILE: usize = 0;

fn begin(seed: u64) -> Simulation {
    let mut sim = Simulation::between(seed, Limits::default(), Weather::FAIR, |side| {
        let mut connection = setup::connection(side, storms::CHILDREN);
        for child in &mut connection.children {
            child.mode = Mode::Tunnel;
            // Only the mobile one can find the other.
            child.start = side == MOBILE;
        }
        connection
    });
    sim.run(Duration::from_secs(10));
    sim.agree_on_mobike();
    sim
}

fn abroad(number: u64) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, (1 + number % 250) as u8))
}

/// Tells until it is told; everything else goes on meanwhile.
fn tell(sim: &mut Simulation, patience: Duration) {
    let deadline = sim.now + patience;
    while !sim.tell_where(MOBILE) && sim.now < deadline {
        sim.run(Duration::from_millis(500));
    }
}

/// Where the peer sends the packets of a child.
fn sends_to(sim: &Simulation, child: ChildId) -> IpAddr {
    sim.hosts[1].dataplane.pairs_of(child)[0].pair.path.remote.ip()
}

#[test]
fn sas_follow_a_peer_through_any_weather() {
    for seed in seeds(100) {
        let mut sim = begin(seed);
        // What is on the way to an address that is gone is lost too.
        let (loss_percent, jitter) = (15, Duration::from_millis(1500));
        sim.link.turn(Weather { loss_percent, jitter, ..Weather::FOUL });
        let mut mix = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for round in 0..8 {
            mix = mix.rotate_left(13).wrapping_mul(0xd134_2543_de82_ef95) ^ round;
            sim.move_to(MOBILE, abroad(mix));
            tell(&mut sim, Duration::from_secs(20));
            match mix % 4 {
                0 => sim.command(MOBILE, Command::RekeyChild(FIRST)),
                1 => sim.command(MOBILE, Command::RekeyIke(ConnectionId(1))),
                2 => sim.command(1, Command::RekeyChild(FIRST)),
                _ => {}
            }
            sim.run(Duration::from_millis(2000 + mix % 12_000));
        }
        sim.link.turn(Weather::FAIR);
        sim.run(Duration::from_secs(60));
        let home = abroad(seed);
        sim.move_to(MOBILE, home);
        tell(&mut sim, Duration::from_secs(200));
        sim.run(Duration::from_secs(300));
        assert_settled(&sim, seed);
        for id in 1..=storms::CHILDREN {
            assert_eq!(sends_to(&sim, ChildId(id)), home, "seed {seed}");
        }
        let paths: Vec<IpAddr> =
            sim.hosts[1].engine.isakmp_sas(sim.now).iter().map(|sa| sa.path.remote.ip()).collect();
        assert_eq!(paths, [home], "seed {seed}");
    }
}

/// A word of before, or one that somebody changed, leads nowhere; and neither does the true one from elsewhere, when the
/// peer has said more since.
#[test]
fn old_and_forged_words_move_nothing() {
    let mut sim = begin(1);
    let first = sim.link.log.len();
    sim.move_to(MOBILE, abroad(1));
    assert!(sim.tell_where(MOBILE));
    sim.run(Duration::from_secs(5));
    assert_eq!(sends_to(&sim, FIRST), abroad(1));
    let (_, sent, word) = sim.link.log[first..].iter().find(|(from, ..)| *from == MOBILE).cloned().unwrap();
    sim.move_to(MOBILE, abroad(2));
    assert!(sim.tell_where(MOBILE));
    sim.run(Duration::from_secs(5));
    assert_eq!(sends_to(&sim, FIRST), abroad(2));
    let thief = Path { local: sent.remote, remote: (abroad(66), sent.local.port()).into() };
    sim.inject(1, thief, &word);
    for index in 0..word.len() {
        let mut forged = word.clone();
        forged[index] ^= 1;
        sim.inject(1, thief, &forged);
    }
    // What is under way now, changed on its way.
    sim.link.cut = true;
    sim.move_to(MOBILE, abroad(3));
    assert!(sim.tell_where(MOBILE));
    let (.., word) = sim.link.log.last().cloned().unwrap();
    for index in 28..word.len() {
        let mut forged = word.clone();
        forged[index] ^= 1;
        assert!(matches!(sim.inject(1, thief, &forged), Classified::Dropped(_)), "at {index}");
    }
    assert_eq!(sends_to(&sim, FIRST), abroad(2));
    assert_eq!(sim.hosts[1].engine.counters()["peer_moves"], 2);
    sim.link.cut = false;
    sim.run(Duration::from_secs(30));
    assert_eq!(sends_to(&sim, FIRST), abroad(3));
}
