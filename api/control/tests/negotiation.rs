//! Two control planes negotiate over their twins; a wire between the twins is all that the dataplanes give. Needs
//! root.
#![allow(clippy::expect_used, clippy::panic, reason = "a test says what it expects")]

mod support;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use shm::records::{NONE, SaRecord, TunnelRecord, direction};
use support::dataplane::Dataplane;
use support::{Role, config, desired, in_own_network, lay_wires, run_dir, until};

fn side(own: &str, peer: &str, key: &str) -> Value {
    json!({
        "interfaces": {"black": {"device": "af_packet:wireblack", "side": "black", "addresses": [format!("{own}/24")],
                                 "mtu_bytes": 1500}},
        "isakmp_policies": {"strong": {"priority": 10, "encryption": ["aes-256-gcm"], "hash": ["sha2-256"],
                                       "groups": [31]}},
        "pre_shared_keys": {"shared": {"peer": peer, "key": key}},
        "transform_sets": {"strong": {"encryption": "aes-256-gcm", "mode": "transport"}},
        "ipsec_profiles": {"strong": {"transform_sets": ["strong"]}},
        "tunnels": {"gre1": {"source": "black", "destination": peer, "protection": {"ipsec_profile": "strong"}}},
    })
}

/// Carries frames between two TAP twins.
struct Wire {
    stop: Arc<AtomicBool>,
    running: Option<std::thread::JoinHandle<()>>,
}

impl Wire {
    fn lay(a: OwnedFd, b: OwnedFd) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let running = std::thread::spawn(move || {
            let mut frame = [0; 2048];
            while !stopped.load(Ordering::Relaxed) {
                for (from, to) in [(&a, &b), (&b, &a)] {
                    while let Ok(len) = rustix::io::read(from, &mut frame) {
                        let _ = rustix::io::write(to, &frame[..len]);
                    }
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Self { stop, running: Some(running) }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(running) = self.running.take() {
            let _ = running.join();
        }
    }
}

/// All SAs of one direction.
fn sas(dataplane: &Dataplane, wanted: u8) -> Vec<SaRecord> {
    (0..dataplane.region.capacities().sas)
        .filter_map(|slot| dataplane.region.read::<SaRecord>(slot).ok()?.record)
        .filter(|sa| sa.direction == wanted)
        .collect()
}

/// The SA that the tunnel sends on.
fn sends_on(dataplane: &Dataplane) -> Option<SaRecord> {
    let slot = dataplane.tunnel("gre1")?;
    let outbound = dataplane.region.read::<TunnelRecord>(slot).ok()?.record?.outbound_sa;
    if outbound == NONE { None } else { dataplane.region.read::<SaRecord>(outbound).ok()?.record }
}

/// Each side sends on an SA that the other side receives.
fn agree(a: &Dataplane, b: &Dataplane) -> bool {
    let received = |from: &Dataplane, to: &Dataplane| {
        sends_on(from).is_some_and(|sent| {
            sas(to, direction::INBOUND)
                .iter()
                .any(|sa| (sa.spi, sa.key, sa.salt) == (sent.spi, sent.key, sent.salt))
        })
    };
    received(a, b) && received(b, a)
}

const A: &str = "192.0.2.1";
const B: &str = "192.0.2.2";

fn role(test: &str, role: &str) {
    lay_wires();
    let value = match role {
        "a" => side(A, B, "a secret of the two"),
        "b" => side(B, A, "a secret of the two"),
        "b-wrong" => side(B, A, "some other secret"),
        other => panic!("no role {other}"),
    };
    let side = role.chars().next().map_or_else(String::new, |first| format!("{test}-{first}"));
    support::control_for_ever(config(&side), desired(1, &value), Duration::ZERO)
}

fn fresh(test: &str) -> [std::path::PathBuf; 2] {
    ["a", "b"].map(|side| {
        let path = run_dir(&format!("{test}-{side}"));
        std::fs::remove_dir_all(&path).expect("the run directory");
        path
    })
}

#[test]
fn two_control_planes_agree_and_a_killed_one_comes_back_without_a_gap() {
    let test = "two_control_planes_agree_and_a_killed_one_comes_back_without_a_gap";
    let body = || {
        let [run_a, run_b] = fresh(test);
        // The namespace of `a` is this one, so that its second life is in the same.
        let mut a = Role::start(test, "a");
        let _b = Role::start_elsewhere(test, "b");
        let (at_a, at_b) = (Dataplane::start(&run_a), Dataplane::start(&run_b));
        until("both twins", || [&at_a, &at_b].iter().all(|side| side.twins().contains(&"black".to_owned())));
        let _wire = Wire::lay(at_a.twin("black"), at_b.twin("black"));
        until("both sides send on what the other receives", || agree(&at_a, &at_b));

        let before = sends_on(&at_a).expect("an SA");
        a.kill();
        assert_eq!(
            sends_on(&at_a).map(|sa| sa.spi),
            Some(before.spi),
            "the SA goes on without its control plane"
        );
        support::sh("ip link del wireblack && ip link del wirered");
        let _a = Role::start(test, "a");
        until("a new pair replaces it, and there is an SA at every moment", || {
            let now = sends_on(&at_a).expect("never without an SA");
            now.spi != before.spi && agree(&at_a, &at_b)
        });
        assert!(
            sas(&at_a, direction::INBOUND).len() >= 2,
            "the inbound half of the adopted pair lingers for what is still on its way"
        );
        // The peer was not told to forget its half: it goes there when the engine finds the old IKE SA silent.
        support::eventually_within(Duration::from_secs(20), "and then goes", || {
            (sas(&at_a, direction::INBOUND).len() == 1).then_some(())
        });
        assert!(agree(&at_a, &at_b), "both ends stay on the new pair");
    };
    in_own_network(test, body, |name| role(test, name));
}

#[test]
fn a_wrong_key_leaves_both_sides_closed() {
    let test = "a_wrong_key_leaves_both_sides_closed";
    let body = || {
        let [run_a, run_b] = fresh(test);
        let _a = Role::start_elsewhere(test, "a");
        let _b = Role::start_elsewhere(test, "b-wrong");
        let (at_a, at_b) = (Dataplane::start(&run_a), Dataplane::start(&run_b));
        until("both twins", || [&at_a, &at_b].iter().all(|side| side.twins().contains(&"black".to_owned())));
        let _wire = Wire::lay(at_a.twin("black"), at_b.twin("black"));
        std::thread::sleep(Duration::from_secs(4));
        for side in [&at_a, &at_b] {
            assert!(side.tunnel("gre1").is_some());
            assert!(sends_on(side).is_none() && sas(side, direction::INBOUND).is_empty());
        }
    };
    in_own_network(test, body, |name| role(test, name));
}
