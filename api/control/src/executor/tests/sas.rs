//! SAs from the engine's operations to the region, over restarts and changes.

use zerocopy::IntoBytes;

use super::*;

fn gre_host(address: [u8; 4]) -> shm::records::TrafficSelector {
    let (family, address) = Address::from_ip(address.into());
    shm::records::TrafficSelector { protocol: 47, ..shm::records::TrafficSelector::host(family, address) }
}

#[test]
fn a_pair_is_sent_on_once_both_halves_are_acknowledged() {
    let mut lab = Lab::new();
    let progress = lab.begin_install(1, 0x5000, true);
    assert!(progress.wrote && progress.answers.is_empty());
    assert_eq!(progress.wake_at, Some(lab.now + ACKNOWLEDGE_WITHIN));
    assert_eq!(lab.sends_with(), None);
    assert_eq!(lab.settle(), [(OperationId(1), Ok(()))]);
    assert_eq!(lab.sends_with(), Some(0x6000));
    let sas = lab.sas();
    assert_eq!(sas.len(), 2);
    let generations: BTreeSet<u64> = sas.iter().map(|(_, sa)| sa.generation).collect();
    assert_eq!(generations.len(), 2);
    for (slot, sa) in sas {
        let inbound = sa.direction == direction::INBOUND;
        assert_eq!(sa.key, if inbound { [1; 32] } else { [2; 32] });
        assert_eq!(sa.replay_window, if inbound { 1024 } else { 0 });
        assert_eq!((sa.soft_packets, sa.hard_packets), (9_000, 10_000));
        assert_eq!(sa.remote_selectors, gre_host([198, 51, 100, 2]).alone());
        assert_eq!(lab.executor.sas().pair_in_slot(slot), Some(0x5000));
    }
}

#[test]
fn a_responder_sends_on_the_old_pair_until_it_is_told() {
    let mut lab = Lab::new();
    lab.install(0x5000, true);
    lab.install(0x5001, false);
    assert_eq!(lab.sends_with(), Some(0x6000));
    let (child, _) = lab.compiled.child_of(&Owner::Tunnel("gre1".to_owned())).unwrap();
    lab.executor.operate(&SaOperation::SwitchOutbound { child, spi_in: 0x5001 }, lab.now);
    assert_eq!(lab.sends_with(), Some(0x6001));
    let linger = Duration::from_secs(5);
    let progress = lab.executor.operate(&SaOperation::Remove { spi_in: 0x5000, linger }, lab.now);
    assert_eq!(lab.spis(), [0x5000, 0x5001, 0x6001], "inbound still accepts");
    assert_eq!(progress.wake_at, Some(lab.now + linger));
    lab.executor.progress(lab.now + linger);
    assert_eq!(lab.spis(), [0x5001, 0x6001]);
}

#[test]
fn the_last_pair_that_goes_leaves_the_tunnel_closed() {
    let mut lab = Lab::new();
    lab.install(0x5000, true);
    lab.install(0x5001, true);
    let remove = |spi_in| SaOperation::Remove { spi_in, linger: Duration::ZERO };
    lab.executor.operate(&remove(0x5001), lab.now);
    assert_eq!(lab.sends_with(), Some(0x6000), "the other pair serves");
    lab.executor.operate(&remove(0x5000), lab.now);
    assert_eq!(lab.tunnel("gre1").outbound_sa, NONE);
    assert!(lab.sas().is_empty());
}

#[test]
fn a_refusal_reaches_the_engine_and_leaves_nothing() {
    let mut lab = Lab::new();
    lab.begin_install(1, 0x5000, true);
    let (slot, _) = lab.sas()[0];
    let version = lab.region.read::<SaRecord>(slot).unwrap().version;
    lab.dataplane.refuse(Table::Sas, slot, version, Refusal::Duplicate);
    let answers = lab.executor.progress(lab.now).answers;
    assert_eq!(answers, [(OperationId(1), Err(SaError::Refused(Refusal::Duplicate)))]);
    assert!(lab.sas().is_empty());
    assert_eq!(lab.tunnel("gre1").outbound_sa, NONE);
}

#[test]
fn a_silent_dataplane_is_an_answer_too() {
    let mut lab = Lab::new();
    lab.begin_install(1, 0x5000, true);
    let late = lab.now + ACKNOWLEDGE_WITHIN;
    assert_eq!(lab.executor.progress(late).answers, [(OperationId(1), Err(SaError::NoAnswer))]);
    assert!(lab.sas().is_empty());
}

#[test]
fn what_cannot_be_begun_is_answered_at_once() {
    let mut lab = Lab::new();
    let mut pair = lab.pair(0x5000);
    pair.child = ike::ChildId(1);
    let install = |pair: ChildPair| SaOperation::Install {
        operation: OperationId(4),
        send: true,
        pair: Box::new(pair),
    };
    let answers = lab.executor.operate(&install(pair), lab.now).answers;
    assert_eq!(answers, [(OperationId(4), Err(SaError::UnknownChild))]);
    let mut pair = lab.pair(0x5000);
    pair.keys_out.key = Zeroizing::new(vec![0; 16]);
    let answers = lab.executor.operate(&install(pair), lab.now).answers;
    assert_eq!(answers, [(OperationId(4), Err(SaError::Keys))]);
    assert!(lab.sas().is_empty());
}

#[test]
fn an_sa_carries_just_what_was_agreed() {
    let range = |first: [u8; 4], last: [u8; 4]| TrafficSelector {
        first: first.into(),
        last: last.into(),
        protocol: 0,
        ports: (0, 65535),
    };
    let v6 = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
    let written = |first, last, protocol, ports| {
        let ((family, first), last) = (Address::from_ip(first), Address::from(last));
        shm::records::TrafficSelector {
            protocol,
            ports,
            ..shm::records::TrafficSelector::range(family, first, last)
        }
    };
    let (low, high) = ([10, 1, 0, 5], [10, 1, 0, 9]);
    let lan = ([10, 1, 2, 0], [10, 1, 2, 255]);
    let mut lab = Lab::new();
    let mut pair = lab.pair(0x5000);
    pair.local_selectors = vec![
        TrafficSelector { protocol: 17, ports: (53, 60), ..range(low, high) },
        TrafficSelector { protocol: 17, ..range(lan.0, lan.1) },
        TrafficSelector { first: v6(1), last: v6(7), ..range(low, high) },
    ];
    pair.remote_selectors = vec![TrafficSelector { protocol: 6, ..range([10, 3, 0, 0], [10, 3, 0, 127]) }];
    assert_eq!(lab.install_pair(pair.clone()), [(OperationId(7), Ok(()))]);
    let sas = lab.sas();
    assert_eq!(sas.len(), 2);
    for (_, sa) in sas {
        let mut local = [shm::records::TrafficSelector::NONE; ike::SELECTORS_MOST];
        local[0] = written(low.into(), high.into(), 17, [53, 60]);
        local[1] = written(lan.0.into(), lan.1.into(), 17, [0, 65535]);
        local[2] = written(v6(1), v6(7), 0, [0, 65535]);
        assert_eq!(sa.local_selectors, local);
        let remote = written([10, 3, 0, 0].into(), [10, 3, 0, 127].into(), 6, [0, 65535]);
        assert_eq!(sa.remote_selectors, remote.alone());
    }
    // As many as there is room for, and not one more; none at all is no agreement.
    pair.remote_selectors = (0..8).map(|last| range([10, 3, last, 1], [10, 3, last, 1])).collect();
    pair.spi_in = 0x5001;
    assert_eq!(lab.install_pair(pair.clone()), [(OperationId(7), Ok(()))]);
    let (_, sa) = lab.sas().into_iter().find(|(_, sa)| sa.spi == 0x5001).unwrap();
    assert!(sa.remote_selectors.iter().all(|selector| selector.family == 4));
    pair.spi_in = 0x5002;
    pair.remote_selectors.push(range([10, 3, 9, 1], [10, 3, 9, 1]));
    assert_eq!(lab.install_pair(pair.clone()), [(OperationId(7), Err(SaError::Selectors))]);
    pair.remote_selectors.clear();
    assert_eq!(lab.install_pair(pair), [(OperationId(7), Err(SaError::Selectors))]);
}

#[test]
fn a_restart_keeps_the_pair_until_a_new_one_is_sent_on() {
    let mut lab = Lab::new();
    lab.install(0x5000, true);
    let mut lab = lab.restart();
    lab.executor.sync(lab.now);
    lab.settle();
    assert_eq!(lab.spis(), [0x5000, 0x6000]);
    assert_eq!(lab.sends_with(), Some(0x6000));

    lab.install(0x7000, true);
    assert_eq!(lab.sends_with(), Some(0x8000));
    assert_eq!(lab.spis(), [0x5000, 0x7000, 0x8000], "the peer may still send on the old one");
    lab.executor.progress(lab.now + ADOPTED_LINGER);
    assert_eq!(lab.spis(), [0x7000, 0x8000]);
}

#[test]
fn a_restart_without_the_tunnel_clears_its_sas() {
    let mut lab = Lab::new();
    lab.install(0x5000, true);
    lab.compiled = Arc::new(compile(&gateway()));
    let mut lab = lab.restart();
    lab.executor.sync(lab.now);
    lab.settle();
    assert!(lab.sas().is_empty());
    assert!(Tables::read(&lab.region).tunnels.is_empty());
}

#[test]
fn a_tunnel_that_moves_to_another_peer_never_sends_on_the_sa_of_the_old_one() {
    for restarted in [false, true] {
        let mut lab = Lab::new();
        lab.install(0x5000, true);
        let mut desired = gateway();
        apply_crypto_map(&mut desired);
        tunnel(&mut desired, "gre1", "198.51.100.3", json!({"ipsec_profile": "branch"}));
        lab.compiled = Arc::new(compile(&desired));
        if restarted {
            lab = lab.restart();
        } else {
            let compiled = Arc::clone(&lab.compiled);
            lab.executor.set_compiled(compiled);
        }
        assert_eq!(lab.tunnel("gre1").outbound_sa, NONE);
        assert!(lab.sas().is_empty());
        lab.executor.sync(lab.now);
        lab.settle();
        let record = lab.tunnel("gre1");
        assert_eq!(record.remote.to_ip(4), Some([198, 51, 100, 3].into()));
        assert_eq!(record.outbound_sa, NONE);
    }
}

#[test]
fn a_slot_is_used_again_only_after_the_dataplane_acknowledged_its_clearing() {
    let mut lab = Lab::new();
    let mut used = BTreeSet::new();
    for spi in 0..32 {
        lab.install(0x5000 + spi, true);
        let remove = SaOperation::Remove { spi_in: 0x5000 + spi, linger: Duration::ZERO };
        used.extend(lab.sas().into_iter().map(|(slot, _)| slot));
        lab.executor.operate(&remove, lab.now);
    }
    assert_eq!(used.len(), 64, "freed slots are used again as late as possible");
    // The last clearing is not acknowledged: 62 slots are free.
    for spi in 0..31 {
        assert!(lab.begin_install(u64::from(spi), 0x9000 + spi, false).answers.is_empty());
    }
    let full = lab.begin_install(99, 0xa000, false).answers;
    assert_eq!(full, [(OperationId(99), Err(SaError::Full))]);
}

#[test]
fn a_moved_peer_is_written_into_both_halves_and_nothing_else_changes() {
    let mut lab = Lab::new();
    let mut pair = lab.pair(0x5000);
    pair.udp_encapsulation = true;
    let install = SaOperation::Install { operation: OperationId(1), send: true, pair: Box::new(pair) };
    lab.executor.operate(&install, lab.now);
    // The peer may move before the dataplane has seen the pair: the answer comes all the same.
    let path = ike::Path { local: lab.pair(0x5000).path.local, remote: "203.0.113.9:31007".parse().unwrap() };
    let before = lab.sas();
    lab.executor.operate(&SaOperation::Move { spi_in: 0x5000, path, udp_encapsulation: true }, lab.now);
    assert_eq!(lab.settle(), [(OperationId(1), Ok(()))]);
    for ((slot, before), (same_slot, after)) in before.into_iter().zip(lab.sas()) {
        assert_eq!(slot, same_slot);
        assert_eq!(after.remote, Address::from(path.remote.ip()));
        assert_eq!(after.peer, before.remote, "it stays whom the child was made with");
        assert_eq!((after.local_port, after.remote_port), (500, 31007));
        let back = SaRecord { remote: before.remote, remote_port: before.remote_port, ..after };
        assert!(back.as_bytes() == before.as_bytes());
    }
    assert_eq!(lab.sends_with(), Some(0x6000));
    // A later control plane knows it by its peer, wherever that is.
    let mut lab = lab.restart();
    lab.executor.sync(lab.now);
    lab.settle();
    assert_eq!(lab.spis(), [0x5000, 0x6000]);
    assert_eq!(lab.sends_with(), Some(0x6000));
    let destinations: Vec<_> = lab.executor.destinations().map(|(_, address, udp)| (address, udp)).collect();
    assert_eq!(destinations, [(path.remote.ip(), true)]);
}
