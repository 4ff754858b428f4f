//! IKEv1 between two engines: suites, roles, rekeying, refusals, DPD, deletion.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail by panicking")]

use std::time::{Duration, Instant};

use ike::sim::{Delivery, Simulation, Weather, setup};
use ike::*;
use zeroize::Zeroizing;

const CHILD: ChildId = ChildId(1);

fn group(group: Group) -> IkeProposal {
    IkeProposal { groups: vec![group], ..setup::classic().0 }
}

/// Side 0 starts, side 1 answers.
fn sim(change: impl Fn(usize, &mut Connection)) -> Simulation {
    Simulation::between(1, Limits::default(), Weather::FAIR, |side| {
        let mut connection = classic(side);
        change(side, &mut connection);
        connection
    })
}

/// Side 0 starts, with the suite of old routers.
fn classic(side: usize) -> Connection {
    let (ike, esp) = setup::classic();
    setup::only_caller_starts(side, setup::connection_v1(side, 1, ike, &esp))
}

fn causes(sim: &Simulation, side: usize) -> Vec<Cause> {
    let down = |event: &Event| match event {
        Event::IkeDown { cause, .. } | Event::ChildDown { cause, .. } => Some(cause.clone()),
        _ => None,
    };
    sim.hosts[side].events.iter().filter_map(|(_, event)| down(event)).collect()
}

fn counter(sim: &Simulation, side: usize, name: &str) -> u64 {
    sim.hosts[side].engine.counters().get(name).copied().unwrap_or(0)
}

#[test]
fn the_classic_suite_comes_up_in_nine_messages() {
    let mut sim = sim(|_, _| {});
    sim.run(Duration::from_secs(2));
    assert_eq!(sim.disagreement(CHILD), None);
    assert_eq!(sim.link.log.len(), 9, "six of main mode, three of quick mode");
    let pair = &sim.hosts[0].dataplane.pairs_of(CHILD)[0].pair;
    assert_eq!((pair.encryption, pair.integrity), (EspEncryption::Aes128Cbc, Some(EspIntegrity::HmacMd5_96)));
    assert_eq!((pair.mode, pair.esn, pair.udp_encapsulation), (Mode::Transport, false, false));
    assert_eq!((pair.keys_in.key.len(), pair.keys_in.integrity.len(), pair.keys_in.salt.len()), (16, 16, 0));
    let view = &sim.hosts[1].engine.isakmp_sas(sim.now)[0];
    assert_eq!(
        (view.version, view.state, view.suite.as_str()),
        (1, "established", "aes-128-cbc / sha1 / group 2")
    );
    for side in 0..2 {
        assert!(matches!(sim.send_packet(side, CHILD), Delivery::First { .. }));
    }
}

/// Version 1 has no number for it: the next cipher is taken, at either end.
#[test]
fn chacha20_poly1305_is_neither_offered_nor_taken() {
    let mut sim = sim(|_, connection| {
        for child in &mut connection.children {
            child.proposals = vec![EspProposal {
                encryption: vec![EspEncryption::ChaCha20Poly1305, EspEncryption::Aes128Gcm16],
                integrity: vec![],
                groups: vec![Group::Modp1536],
                esn: vec![false],
            }];
        }
    });
    sim.run(Duration::from_secs(2));
    assert_eq!(sim.disagreement(CHILD), None);
    for host in &sim.hosts {
        let pair = &host.dataplane.pairs_of(CHILD)[0].pair;
        assert_eq!(pair.encryption, EspEncryption::Aes128Gcm16);
        let made = ChildKeyExchange { group: Group::Modp1536, additional: vec![] };
        assert_eq!(pair.key_exchange, Some(made));
    }
}

#[test]
fn every_suite_comes_up() {
    use EspEncryption as E;
    use EspIntegrity as I;
    let suites = [
        (IkeEncryption::TripleDesCbc, Hash::Md5, Group::Modp1024, E::TripleDesCbc, Some(I::HmacMd5_96)),
        (IkeEncryption::TripleDesCbc, Hash::Sha1, Group::Modp1536, E::TripleDesCbc, Some(I::HmacSha1_96)),
        (IkeEncryption::Aes192Cbc, Hash::Md5, Group::EcpP256, E::Aes192Cbc, Some(I::HmacSha2_384_192)),
        (IkeEncryption::Aes256Cbc, Hash::Sha2_256, Group::Modp2048, E::Aes256Cbc, Some(I::HmacSha2_256_128)),
        (IkeEncryption::Aes256Cbc, Hash::Sha2_384, Group::EcpP384, E::Aes256Gcm16, None),
        (IkeEncryption::Aes128Cbc, Hash::Sha2_512, Group::EcpP521, E::Aes128Gcm16, None),
        (IkeEncryption::Aes256Cbc, Hash::Sha2_256, Group::Modp3072, E::Aes256Cbc, Some(I::HmacSha2_512_256)),
    ];
    for (encryption, hash, group, esp, integrity) in suites {
        for mode in [Mode::Transport, Mode::Tunnel] {
            let mut sim = sim(|_, connection| {
                let (encryption, prf) = (vec![encryption], vec![hash]);
                let integrity_of_ike = prf.clone();
                connection.proposals = vec![IkeProposal {
                    encryption,
                    integrity: integrity_of_ike,
                    prf,
                    groups: vec![group],
                    ..IkeProposal::default()
                }];
                connection.children[0].mode = mode;
                connection.children[0].proposals = vec![EspProposal {
                    encryption: vec![esp],
                    integrity: integrity.into_iter().collect(),
                    groups: vec![group],
                    esn: vec![false],
                }];
            });
            sim.run(Duration::from_secs(2));
            assert_eq!(sim.disagreement(CHILD), None, "{encryption:?} {hash:?} {group:?} {esp:?} {mode:?}");
            let pair = &sim.hosts[1].dataplane.pairs_of(CHILD)[0].pair;
            assert_eq!((pair.encryption, pair.integrity, pair.mode), (esp, integrity, mode));
        }
    }
}

/// Every message of a negotiation is lost once, in turn; each time it comes up, and once only.
#[test]
fn any_one_message_may_be_lost() {
    for lost in 0..9 {
        let mut sim = sim(|_, _| {});
        let mut count = 0;
        let deadline = sim.now + Duration::from_secs(60);
        loop {
            let logged = sim.link.log.len();
            sim.link.cut = logged == lost;
            if !sim.step(deadline) {
                break;
            }
            count = count.max(sim.link.log.len());
            sim.link.cut = false;
        }
        assert_eq!(sim.disagreement(CHILD), None, "message {lost}");
        assert_eq!(sim.ike_sas(), [1, 1]);
        assert!(count >= 9);
    }
}

#[test]
fn what_does_not_fit_is_refused_with_its_cause() {
    let mut wrong_group = sim(|side, connection| {
        if side == 0 {
            connection.proposals = vec![group(Group::Modp1536)];
        }
    });
    wrong_group.run(Duration::from_secs(5));
    let cause = causes(&wrong_group, 1).remove(0);
    assert!(matches!(&cause, Cause::NoProposalChosen { phase: Phase::MainMode, .. }), "{cause}");
    assert_eq!(
        cause.to_string(),
        "no proposal in common in MainMode: we have aes-128-cbc/sha1/group 2/pre-share; the peer has aes-128-cbc/sha1/group 5/pre-share"
    );
    assert_eq!(wrong_group.ike_sas()[1], 0);
    // Nobody vouches for the refusal: it is believed when nothing better came.
    assert!(causes(&wrong_group, 0).is_empty());
    wrong_group.run(Duration::from_secs(200));
    assert_eq!(
        causes(&wrong_group, 0).remove(0).to_string(),
        "no proposal in common in MainMode: we have aes-128-cbc/sha1/group 5/pre-share; the peer has (the peer did not say)"
    );

    let mut wrong_key = sim(|side, connection| {
        let key = format!("a key of its own for side {side}").into_bytes();
        connection.authentication = Authentication::pre_shared_key(PreSharedKey(Zeroizing::new(key)));
    });
    wrong_key.run(Duration::from_secs(200));
    for side in 0..2 {
        let found = causes(&wrong_key, side);
        assert!(found.iter().any(|cause| matches!(cause, Cause::AuthenticationFailed { .. })), "{found:?}");
        assert!(wrong_key.hosts[side].dataplane.is_empty());
    }

    let mut wrong_identity = sim(|side, connection| {
        if side == 0 {
            connection.remote_identity = Identity::Fqdn("someone.example".to_owned());
        }
    });
    wrong_identity.run(Duration::from_secs(5));
    assert!(causes(&wrong_identity, 0)[0].to_string().contains("someone.example is expected"));

    let mut wrong_selectors = sim(|side, connection| {
        if side == 0 {
            connection.children[0].local_selectors[0].protocol = 17;
            connection.children[0].remote_selectors[0].protocol = 17;
        }
    });
    wrong_selectors.run(Duration::from_secs(5));
    for side in 0..2 {
        let found = causes(&wrong_selectors, side);
        assert!(matches!(found[0], Cause::TsUnacceptable { .. }), "{found:?}");
    }
    assert_eq!(wrong_selectors.ike_sas(), [1, 1], "phase 1 stays");

    let mut wrong_mode = sim(|side, connection| {
        if side == 0 {
            connection.children[0].mode = Mode::Tunnel;
        }
    });
    wrong_mode.run(Duration::from_secs(5));
    assert!(matches!(
        causes(&wrong_mode, 1)[0],
        Cause::ModeMismatch { ours: Mode::Transport, theirs: Mode::Tunnel }
    ));

    let mut wrong_pfs = sim(|side, connection| {
        if side == 1 {
            connection.children[0].proposals[0].groups = vec![Group::Modp1024];
        }
    });
    wrong_pfs.run(Duration::from_secs(5));
    assert!(matches!(causes(&wrong_pfs, 1)[0], Cause::NoProposalChosen { phase: Phase::QuickMode, .. }));
    assert!(matches!(causes(&wrong_pfs, 0)[0], Cause::NoProposalChosen { phase: Phase::QuickMode, .. }));
}

#[test]
fn a_superset_is_taken_only_where_it_is_allowed() {
    for allowed in [false, true] {
        let mut sim = sim(|side, connection| {
            if side == 0 {
                let any = TrafficSelector {
                    first: [0, 0, 0, 0].into(),
                    last: [255; 4].into(),
                    protocol: 47,
                    ports: (0, u16::MAX),
                };
                connection.children[0].local_selectors = vec![any];
                connection.children[0].remote_selectors = vec![any];
            } else {
                connection.version = Version::V1(Ikev1 { accept_superset: allowed, aggressive_mode: false });
            }
        });
        sim.run(Duration::from_secs(3));
        let installed = sim.hosts[1].dataplane.pairs_of(CHILD);
        assert_eq!(installed.len(), usize::from(allowed));
        if let Some(installed) = installed.first() {
            let host = setup::gre(setup::address(1));
            assert_eq!(installed.pair.local_selectors, [host], "never wider than the child");
        }
    }
}

#[test]
fn a_rekey_by_either_side_loses_no_packet() {
    for side in 0..2 {
        let mut sim = sim(|_, _| {});
        sim.run(Duration::from_secs(2));
        let first = sim.hosts[0].dataplane.sending_on(CHILD);
        sim.command(side, Command::RekeyChild(CHILD));
        for _ in 0..400 {
            sim.run(Duration::from_millis(100));
            for side in 0..2 {
                let delivery = sim.send_packet(side, CHILD);
                assert!(!matches!(delivery, Delivery::NoSa | Delivery::UnknownSpi), "{delivery:?}");
            }
        }
        assert_ne!(sim.hosts[0].dataplane.sending_on(CHILD), first);
        assert_eq!(sim.disagreement(CHILD), None);
    }
}

#[test]
fn children_outlive_their_phase_one_and_are_served_by_the_next() {
    let mut sim = sim(|_, connection| {
        connection.lifetime = Duration::from_secs(400);
        connection.children[0].lifetime.soft = Duration::from_secs(1500);
        connection.children[0].lifetime.hard = Duration::from_secs(1800);
    });
    sim.run(Duration::from_secs(2));
    let (phase_one, pair) =
        (sim.hosts[0].engine.isakmp_sas(sim.now)[0].spi_i, sim.hosts[0].dataplane.sending_on(CHILD));
    sim.run(Duration::from_secs(800));
    // Made anew on the successor before its own phase 1 went, since some peers end it with that; it was never down.
    assert_ne!(sim.hosts[0].dataplane.sending_on(CHILD), pair);
    let pair = sim.hosts[0].dataplane.sending_on(CHILD);
    assert!(causes(&sim, 0).is_empty() && causes(&sim, 1).is_empty());
    assert_eq!(sim.disagreement(CHILD), None);
    let later = sim.hosts[0].engine.isakmp_sas(sim.now);
    assert!(later.iter().all(|sa| sa.spi_i != phase_one) && !later.is_empty());
    // The successor rekeys the child that it did not make.
    sim.run(Duration::from_secs(1400));
    assert_ne!(sim.hosts[0].dataplane.sending_on(CHILD), pair);
    assert_eq!(sim.disagreement(CHILD), None);
    assert!(causes(&sim, 0).is_empty() && causes(&sim, 1).is_empty());
}

#[test]
fn several_children_share_one_phase_one() {
    let (ike, esp) = setup::classic();
    let mut sim = sim(|side, connection| {
        *connection = setup::connection_v1(side, 5, ike.clone(), &esp);
    });
    sim.run(Duration::from_secs(60));
    for id in 1..=5 {
        assert_eq!(sim.disagreement(ChildId(id)), None, "child {id}");
    }
    assert_eq!(sim.ike_sas(), [1, 1]);
}

#[test]
fn a_silent_peer_is_dead_and_comes_back() {
    let mut sim = sim(|_, _| {});
    sim.run(Duration::from_secs(2));
    sim.link.cut = true;
    sim.run(Duration::from_secs(300));
    for side in 0..2 {
        assert!(causes(&sim, side).iter().any(|cause| matches!(cause, Cause::PeerDead { .. })));
        assert!(sim.hosts[side].dataplane.is_empty());
    }
    sim.link.cut = false;
    sim.run(Duration::from_secs(150));
    assert_eq!(sim.disagreement(CHILD), None);
}

#[test]
fn an_idle_pair_of_peers_that_answer_stays_up() {
    for asking in [vec![0, 1], vec![0], vec![1]] {
        let mut sim = sim(|side, connection| {
            connection.dpd = connection.dpd.filter(|_| asking.contains(&side));
        });
        sim.run(Duration::from_secs(1200));
        assert!(causes(&sim, 0).is_empty() && causes(&sim, 1).is_empty());
        assert_eq!(sim.disagreement(CHILD), None);
        // The numbers of an end only grow, and each question is answered at once.
        let since_up = sim.link.log.len() - 9;
        assert!((70..=90).contains(&since_up), "{since_up} messages of {asking:?}");
        assert_eq!([0, 1].map(|side| counter(&sim, side, "stale_probes")), [0, 0]);
    }
}

#[test]
fn deletion_is_told_and_forged_deletion_is_not_believed() {
    let mut sim = sim(|_, _| {});
    sim.run(Duration::from_secs(2));
    let sa = sim.hosts[1].engine.isakmp_sas(sim.now)[0].clone();
    // DELETE of the ISAKMP SA in clear: header, DOI, protocol 1, SPI of 16 octets, one of them.
    let mut forged = [sa.spi_i.to_be_bytes(), sa.spi_r.to_be_bytes()].concat();
    forged.extend([12, 0x10, 5, 0, 0, 0, 0, 9, 0, 0, 0, 56, 0, 0, 0, 28, 0, 0, 0, 1, 1, 16, 0, 1]);
    forged.extend([sa.spi_i.to_be_bytes(), sa.spi_r.to_be_bytes()].concat());
    let path = Path { local: (setup::address(1), 500).into(), remote: (setup::address(0), 500).into() };
    assert_eq!(sim.inject(1, path, &forged), Classified::Dropped("unauthenticated_informational"));
    forged[19] = 1;
    assert_eq!(sim.inject(1, path, &forged), Classified::Dropped("unauthenticated_informational"));
    assert_eq!(counter(&sim, 1, "unauthenticated_informational"), 2);
    assert_eq!(sim.disagreement(CHILD), None);

    sim.command(0, Command::Terminate(ConnectionId(1)));
    sim.run(Duration::from_secs(60));
    assert_eq!(sim.ike_sas(), [0, 0]);
    assert!(sim.hosts.iter().all(|host| host.dataplane.is_empty()));
    assert!(causes(&sim, 1).contains(&Cause::DeletedByPeer));
}

#[test]
fn replayed_messages_change_nothing() {
    let mut sim = sim(|_, _| {});
    sim.run(Duration::from_secs(2));
    sim.command(0, Command::RekeyChild(CHILD));
    sim.run(Duration::from_secs(60));
    let (log, before) = (sim.link.log.clone(), sim.hosts[1].dataplane.installs);
    for (from, sent, bytes) in log {
        let there = Path { local: sent.remote, remote: sent.local };
        sim.inject(1 - from, there, &bytes);
    }
    sim.run(Duration::from_secs(120));
    assert_eq!(sim.hosts[1].dataplane.installs, before);
    assert_eq!(sim.disagreement(CHILD), None);
}

/// CVE-2016-5361: whoever has not shown that it receives gets no more than it sent, and nothing unasked.
#[test]
fn a_first_message_is_not_amplified() {
    let mut sim = sim(|_, _| {});
    sim.drain(0);
    let (_, sent, first) = sim.link.log[0].clone();
    for port in 1000..1010u16 {
        let there = Path { local: sent.remote, remote: (sent.local.ip(), port).into() };
        for _ in 0..10 {
            sim.inject(1, there, &first);
        }
    }
    let answers = |sim: &Simulation| sim.link.log.iter().skip(1).filter(|(from, ..)| *from == 1).count();
    let answered = answers(&sim);
    assert!(answered <= 40, "{answered} answers to 100");
    assert!(sim.link.log.iter().all(|(from, _, bytes)| *from == 0 || bytes.len() <= first.len()));
    sim.link.cut = true;
    // What was under way arrives, and nothing passes after it.
    sim.run(Duration::from_millis(100));
    let answered = answers(&sim);
    sim.run(Duration::from_secs(60));
    assert_eq!(answers(&sim), answered, "nothing unasked");
    assert_eq!(sim.ike_sas()[1], 0, "half-open SAs are forgotten");
}

/// A first message of one transform, whose lifetime is said once more, in 1300 octets: an answer repeats what it chooses.
fn with_long_lifetime(first: &[u8]) -> Vec<u8> {
    const SA: usize = 28;
    const LIFE_DURATION: u16 = 12;
    let attribute = [&LIFE_DURATION.to_be_bytes(), &1300u16.to_be_bytes(), [0; 1300].as_slice()].concat();
    let grown = |field: &[u8]| {
        let length = field.iter().fold(0, |length: usize, octet| length << 8 | usize::from(*octet));
        (length + attribute.len()).to_be_bytes()
    };
    let sa_end = SA + usize::from(u16::from_be_bytes([first[SA + 2], first[SA + 3]]));
    let mut long = first.to_vec();
    // The lengths of the message, of the SA, of the proposal and of the transform.
    for at in [24..28, SA + 2..SA + 4, SA + 14..SA + 16, SA + 22..SA + 24] {
        let length = grown(&first[at.clone()]);
        let octets = at.len();
        long[at].copy_from_slice(&length[length.len() - octets..]);
    }
    long.splice(sa_end..sa_end, attribute);
    long
}

/// A first message that is longer than a piece comes whole, and so does its answer: the headers of pieces would be more
/// bytes than came.
#[test]
fn a_long_first_message_is_not_amplified() {
    let mut sim = sim(|_, _| {});
    let (_, sent, first) = sim.link.log[0].clone();
    let there = Path { local: sent.remote, remote: sent.local };
    let long = with_long_lifetime(&first);
    let before = sim.link.log.len();
    for _ in 0..3 {
        sim.inject(1, there, &long);
    }
    let answers: Vec<usize> = sim.link.log[before..].iter().map(|(_, _, bytes)| bytes.len()).collect();
    assert_eq!(answers.len(), 3, "{answers:?}");
    assert!(answers.iter().all(|answer| *answer <= long.len()), "{answers:?} to {}", long.len());
}

#[test]
fn initial_contact_ends_what_a_restarted_peer_had() {
    let mut sim = sim(|_, _| {});
    sim.run(Duration::from_secs(2));
    sim.hosts[0].engine = Engine::new(Limits::default(), [77; 32]);
    sim.hosts[0].dataplane = ike::sim::Dataplane::default();
    sim.configure(0, classic(0));
    sim.run(Duration::from_secs(5));
    assert_eq!(counter(&sim, 1, "forgotten_by_initial_contact"), 1);
    assert_eq!(sim.disagreement(CHILD), None);
    assert_eq!(sim.ike_sas(), [1, 1]);
}

#[test]
fn the_versions_do_not_meet() {
    let mut sim = sim(|side, connection| {
        if side == 1 {
            connection.version = Version::V2;
        }
    });
    sim.run(Duration::from_secs(30));
    assert!(sim.hosts.iter().all(|host| host.dataplane.is_empty()));
    assert!(counter(&sim, 1, "unknown_peer") > 0);
    assert_eq!(sim.ike_sas()[1], 0);
}

#[test]
fn a_dataplane_that_refuses_is_told_to_the_peer() {
    for side in 0..2 {
        let mut sim = sim(|_, _| {});
        sim.hosts[side].refuses_installs = true;
        sim.run(Duration::from_secs(40));
        assert!(sim.hosts[side].dataplane.is_empty());
        assert_eq!(sim.hosts[side].dataplane.strays, 0);
        sim.hosts[side].refuses_installs = false;
        sim.run(Duration::from_secs(200));
        assert_eq!(sim.disagreement(CHILD), None, "side {side}");
    }
}

fn aggressive(connection: &mut Connection) {
    connection.version = Version::V1(Ikev1 { aggressive_mode: true, ..Ikev1::default() });
}

#[test]
fn aggressive_mode_comes_up_in_six_messages_where_both_were_told_to() {
    let mut sim = sim(|_, connection| aggressive(connection));
    sim.run(Duration::from_secs(2));
    assert_eq!(sim.disagreement(CHILD), None);
    assert_eq!(sim.link.log.len(), 6, "three of aggressive mode, three of quick mode");
    for side in 0..2 {
        for sa in sim.hosts[side].engine.isakmp_sas(sim.now) {
            assert!(sa.insecure.contains(&Insecurity::AggressiveMode), "{sa:?}");
        }
        assert!(matches!(sim.send_packet(side, CHILD), Delivery::First { .. }));
    }
    sim.command(0, Command::RekeyIke(ConnectionId(1)));
    sim.command(1, Command::RekeyChild(CHILD));
    sim.run(Duration::from_secs(60));
    assert_eq!(sim.disagreement(CHILD), None);
}

#[test]
fn aggressive_mode_bears_loss_and_a_lost_proof() {
    for seed in 0..30 {
        let weather = Weather { loss_percent: 30, duplication_percent: 30, ..Weather::FAIR };
        let mut sim = Simulation::between(seed, Limits::default(), weather, |side| {
            let mut connection = classic(side);
            aggressive(&mut connection);
            connection
        });
        sim.run(Duration::from_secs(300));
        assert_eq!(sim.disagreement(CHILD), None, "seed {seed}");
    }
}

#[test]
fn aggressive_mode_with_another_key_says_so() {
    let mut sim = sim(|side, connection| {
        aggressive(connection);
        if side == 1 {
            let other = PreSharedKey(Zeroizing::new(b"another key than theirs".to_vec()));
            connection.authentication = Authentication::pre_shared_key(other);
        }
    });
    sim.run(Duration::from_secs(300));
    let told = causes(&sim, 0).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(told.contains("its proof is made with another key than ours"), "{told}");
    assert!(sim.hosts.iter().all(|host| host.dataplane.is_empty()));
}

#[test]
fn aggressive_mode_of_another_identity_is_not_answered() {
    let mut sim = sim(|side, connection| {
        aggressive(connection);
        if side == 1 {
            connection.remote_identity = Identity::Fqdn("somebody.example".to_owned());
        }
    });
    sim.run(Duration::from_secs(20));
    let answers = sim.link.log.iter().filter(|(from, ..)| *from == 1).count();
    assert_eq!(answers, 0, "it would have been told our identity, and a hash");
}

#[test]
fn aggressive_mode_is_refused() {
    let mut sim = sim(|_, _| {});
    let (_, sent, first) = sim.link.log[0].clone();
    let mut aggressive = first;
    aggressive[18] = 4;
    let there = Path { local: sent.remote, remote: sent.local };
    assert_eq!(sim.inject(1, there, &aggressive), Classified::Dropped("aggressive_mode_refused"));
}

/// Two peers behind one NAT, each with a key of its own: the one whose key is not the first that fits its address is told why.
#[test]
fn peers_with_one_address_and_two_keys_are_told_apart_in_words() {
    let named = |name: &str| Identity::Fqdn(name.to_owned());
    let keyed =
        |key: &str| Authentication::pre_shared_key(PreSharedKey(Zeroizing::new(key.as_bytes().to_vec())));
    let mut sim = Simulation::new(Instant::now(), 16, Limits::default(), Weather::FAIR);
    for (number, name, key) in [(1, "one.example", "the key of one"), (2, "two.example", "the key of two")] {
        let mut here = classic(1);
        here.id = ConnectionId(number);
        here.children[0].id = ChildId(number);
        (here.remote_identity, here.authentication) = (named(name), keyed(key));
        sim.configure(1, here);
    }
    let mut two = classic(0);
    (two.local_identity, two.authentication) = (named("two.example"), keyed("the key of two"));
    sim.configure(0, two);
    sim.run(Duration::from_secs(300));
    assert!(sim.hosts.iter().all(|host| host.dataplane.is_empty()));
    let told = |connection: u64| {
        sim.hosts[1].events.iter().any(|(_, event)| match event {
            Event::IkeDown {
                connection: found, cause: Cause::AuthenticationFailed { detail, .. }, ..
            } => found.0 == connection && detail.contains("several connections have its address"),
            _ => false,
        })
    };
    assert!(told(1) && told(2), "{:?}", sim.hosts[1].events);
    assert!(!causes(&sim, 0).is_empty(), "the peer has no cause");
}
