//! What both versions of IKE must hold in any weather. Each property holds for every seed. A run takes the first few
//! hundred; `IKE_SEEDS=5000` takes more, and `IKE_SEED=17` takes that one alone, as a failure names it.

use std::time::Duration;

use ike::sim::{Simulation, Weather};
use ike::*;

/// Children of the connection between the two ends.
pub(crate) const CHILDREN: u64 = 2;

/// Seeds that once found a fault: they are always asked again.
const NOTABLE: [u64; 4] = [134, 1280, 1336, 1997];

/// The seeds of this run.
pub(crate) fn seeds(usual: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("IKE_SEED") {
        Some(seed) => vec![seed],
        None => {
            let first = 0..number("IKE_SEEDS").unwrap_or(usual);
            let notable = NOTABLE.into_iter().filter(|seed| !first.contains(seed));
            first.clone().chain(notable).collect()
        }
    }
}

fn print_history(sim: &Simulation) {
    for side in 0..2 {
        for sa in sim.hosts[side].engine.isakmp_sas(sim.now) {
            println!("side {side}: {:?} {} children {:?}", sa.id, sa.state, sa.children);
        }
        for id in 1..=CHILDREN {
            for installed in sim.hosts[side].dataplane.pairs_of(ChildId(id)) {
                println!(
                    "side {side}: child {id} in {} out {}",
                    installed.pair.spi_in, installed.pair.spi_out
                );
            }
        }
        for (at, event) in sim.hosts[side].events.iter().rev().take(16).rev() {
            println!("side {side}: -{:?} {event:?}", sim.now - *at);
        }
        println!("side {side}: {:?}", sim.hosts[side].engine.counters());
    }
}

/// Both ends hold one and the same pair for each child, and nothing else.
pub(crate) fn assert_settled(sim: &Simulation, seed: u64) {
    for id in 1..=CHILDREN {
        let disagreement = sim.disagreement(ChildId(id));
        if disagreement.is_some() {
            print_history(sim);
        }
        assert_eq!(disagreement, None, "seed {seed}, child {id}");
    }
    if sim.ike_sas() != [1, 1] {
        print_history(sim);
    }
    assert_eq!(sim.ike_sas(), [1, 1], "seed {seed}: IKE SAs");
    for host in &sim.hosts {
        assert_eq!(host.dataplane.len() as u64, CHILDREN, "seed {seed}: orphans in the dataplane");
        assert_eq!(host.dataplane.strays, 0, "seed {seed}: operations on pairs that are not there");
        assert_eq!(host.engine.counters().get("panics"), None, "seed {seed}");
    }
}

/// What began in foul weather is settled once it clears.
pub(crate) fn converges(usual: u64, begin: impl Fn(u64, Weather) -> Simulation) {
    for seed in seeds(usual) {
        let mut sim = begin(seed, Weather::FOUL);
        sim.run(Duration::from_secs(600));
        sim.link.turn(Weather::FAIR);
        sim.run(Duration::from_secs(400));
        assert_settled(&sim, seed);
    }
}

/// Rekeys of children and of the IKE SA from both ends.
pub(crate) fn a_rekey_storm_leaves_no_orphan(usual: u64, begin: impl Fn(u64, Weather) -> Simulation) {
    for seed in seeds(usual) {
        let mut sim = begin(seed, Weather::FOUL);
        sim.run(Duration::from_secs(120));
        for round in 0..40u64 {
            // The same mix for the same seed; both ends often in the same instant.
            let mix = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left((round % 64) as u32) ^ round;
            for side in 0..2usize {
                match (mix >> (side * 8)) % 4 {
                    0 => sim.command(side, Command::RekeyChild(ChildId(1 + (mix >> 20) % CHILDREN))),
                    1 => sim.command(side, Command::RekeyIke(ConnectionId(1))),
                    2 => sim.command(side, Command::RekeyChild(ChildId(1))),
                    _ => {}
                }
            }
            sim.run(Duration::from_millis((mix >> 32) % 9000));
        }
        sim.link.turn(Weather::FAIR);
        sim.run(Duration::from_secs(600));
        assert_settled(&sim, seed);
    }
}

/// Either end dies at any moment, between any two of its outputs, while both rekey and delete in foul weather. `restart`
/// puts another engine, with a seed of this number, in the place of that of one end, and gives the IKE SAs resumed; all that
/// was sent is looked at by `judge`.
#[allow(dead_code, reason = "the tests of restarts alone use it")]
pub(crate) fn deaths_at_any_moment(
    usual: u64,
    begin: impl Fn(u64, Weather) -> Simulation,
    restart: impl Fn(&mut Simulation, u64, usize, u64) -> usize,
    judge: impl Fn(&Simulation, u64),
) {
    let mut resumed = 0;
    for seed in seeds(usual) {
        let mut sim = begin(seed, Weather::FOUL);
        sim.run(Duration::from_secs(120));
        for round in 0..20_u64 {
            let mix =
                (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left((round * 3 % 64) as u32) ^ round;
            let victim = (mix >> 7) as usize % 2;
            if mix % 3 == 0 {
                sim.die_after(victim, (mix >> 40) as usize % 6);
            }
            for side in 0..2_usize {
                match (mix >> (side * 8 + 3)) % 6 {
                    0 | 1 => sim.command(side, Command::RekeyChild(ChildId(1 + (mix >> 20) % CHILDREN))),
                    2 => sim.command(side, Command::RekeyIke(ConnectionId(1))),
                    _ => {}
                }
            }
            sim.run(Duration::from_millis((mix >> 32) % 20_000));
            if mix % 3 == 0 || mix % 5 == 0 {
                resumed += restart(&mut sim, seed, victim, seed << 32 | round);
            }
            sim.run(Duration::from_millis((mix >> 24) % 20_000));
        }
        for side in 0..2 {
            // Whoever is still to die does not.
            resumed += restart(&mut sim, seed, side, seed << 32 | 99);
        }
        sim.link.turn(Weather::FAIR);
        sim.run(Duration::from_secs(1200));
        assert_settled(&sim, seed);
        judge(&sim, seed);
    }
    assert!(resumed > 0 || std::env::var("IKE_SEED").is_ok(), "none was ever resumed");
    println!("{resumed} IKE SAs resumed");
}

/// In weather that loses nothing, no packet ever meets an SPI that the other end lacks, however both ends rekey.
pub(crate) fn no_packet_meets_an_unknown_spi(usual: u64, begin: impl Fn(u64, Weather) -> Simulation) {
    for seed in seeds(usual) {
        let jitter = Duration::from_millis(seed * 2);
        let weather =
            Weather { loss_percent: 0, duplication_percent: 20, delay: Duration::from_millis(5), jitter };
        let mut sim = begin(seed, weather);
        sim.run(Duration::from_secs(60));
        for round in 0..60u64 {
            let mix = (seed + 3).wrapping_mul(0xd134_2543_de82_ef95).rotate_left((round % 64) as u32);
            for side in 0..2usize {
                match (mix >> (side * 8)) % 3 {
                    0 => sim.command(side, Command::RekeyChild(ChildId(1))),
                    1 => sim.command(side, Command::RekeyIke(ConnectionId(1))),
                    _ => {}
                }
            }
            for _ in 0..20 {
                sim.run(Duration::from_millis((mix >> 40) % 40));
                for side in 0..2 {
                    sim.send_packet(side, ChildId(1));
                }
                if sim.unknown_spis > 0 {
                    print_history(&sim);
                }
                assert_eq!(sim.unknown_spis, 0, "seed {seed} round {round}");
            }
        }
        sim.run(Duration::from_secs(300));
        assert_settled(&sim, seed);
    }
}
