//! `rte_fib` and `rte_acl` give the answers of the linear models.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "helpers of tests")]

mod virtual_device;

use std::cell::RefCell;

use dpdk::{Acl, Fib, FibCapacity};
use packet::{
    Classifier, FiveTuple, LinearClassifier, LinearRoutes, NO_MATCH, PortMatch, Prefix, RouteError,
    RouteLookup, Rule, RuleMatch,
};
use proptest::prelude::*;
use virtual_device::eal;

const SMALL: FibCapacity = FibCapacity { v4_routes: 1000, v6_routes: 1000 };

#[derive(Debug, Clone)]
enum Change {
    Insert(Prefix, u64),
    Remove(prop::sample::Index),
}

/// Prefixes that nest: few distinct bits.
fn prefix() -> impl Strategy<Value = Prefix> {
    let v4 = (0u32..64, 8u8..=32).prop_map(|(bits, len)| {
        Prefix::v4(0x0a00_0000 | bits.wrapping_mul(0x0001_0841) & 0x00ff_ffff, len).unwrap()
    });
    let v6 = (0u8..4, 0u8..4, 8u8..=128).prop_map(|(a, b, len)| {
        let mut base = [0x20, 1, 0xd, 0xb8, 0, 0, 0, a, 0, 0, 0, 0, 0, 0, b, 0];
        base[15] = a ^ b;
        Prefix::v6(base, len).unwrap()
    });
    prop_oneof![v4, v6]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (prefix(), 1u64..=packet::MAX_ADJACENCY).prop_map(|(p, a)| Change::Insert(p, a)),
        1 => any::<prop::sample::Index>().prop_map(Change::Remove),
    ]
}

#[test]
fn the_fib_answers_as_the_linear_table_after_any_changes() {
    let state = RefCell::new((Fib::new(eal(), "prop", SMALL).unwrap(), Vec::<Prefix>::new()));
    proptest!(ProptestConfig::with_cases(64), |(changes in proptest::collection::vec(change(), 1..60))| {
        let mut state = state.borrow_mut();
        let (fib, known) = &mut *state;
        // What the case before left, also when it failed.
        for prefix in known.drain(..) {
            fib.remove(prefix).unwrap();
        }
        let mut model = LinearRoutes::new();
        for change in changes {
            match change {
                Change::Insert(prefix, adjacency) => {
                    model.insert(prefix, adjacency).unwrap();
                    fib.insert(prefix, adjacency).unwrap();
                    known.retain(|known| *known != prefix);
                    known.push(prefix);
                }
                Change::Remove(index) if !known.is_empty() => {
                    let prefix = known.remove(index.index(known.len()));
                    model.remove(prefix).unwrap();
                    fib.remove(prefix).unwrap();
                }
                Change::Remove(_) => {}
            }
        }
        let v4: Vec<u32> = (0..64u32).map(|bits| 0x0a00_0000 | bits.wrapping_mul(0x0001_0841) & 0x00ff_ffff).collect();
        let (mut found, mut expected) = ([77u64; 64], [78u64; 64]);
        fib.lookup_v4(&v4, &mut found);
        model.lookup_v4(&v4, &mut expected);
        prop_assert_eq!(found, expected);
        let v6: Vec<[u8; 16]> = (0..64u8).map(|bits| {
            let (a, b) = (bits & 3, bits >> 2 & 3);
            [0x20, 1, 0xd, 0xb8, 0, 0, 0, a, 0, 0, 0, 0, 0, bits >> 4, b, a ^ b]
        }).collect();
        fib.lookup_v6(&v6, &mut found);
        model.lookup_v6(&v6, &mut expected);
        prop_assert_eq!(found, expected);
    });
}

#[test]
fn a_full_fib_says_so_and_a_prefix_that_is_not_there_cannot_be_removed() {
    let mut fib = Fib::new(eal(), "full", FibCapacity { v4_routes: 16, v6_routes: 16 }).unwrap();
    let mut inserted = 0;
    let full = (0..10_000u32).find_map(|index| {
        let result = fib.insert(Prefix::V4(0x0a00_0000 + (index << 8), 24), 1);
        inserted += u32::from(result.is_ok());
        result.err()
    });
    assert_eq!(full, Some(RouteError::Full));
    assert!(inserted >= 16, "{inserted}");
    assert_eq!(fib.remove(Prefix::V4(0x0b00_0000, 24)), Err(RouteError::Unknown));
}

fn ports() -> impl Strategy<Value = PortMatch> {
    prop_oneof![
        Just(PortMatch::ANY),
        (0u16..8, 0u16..8).prop_map(|(low, span)| PortMatch { low, high: low + span })
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let v4 = || {
        (0u32..8, prop::sample::select(vec![0u8, 8, 29, 30, 31, 32]))
            .prop_map(|(last, len)| Prefix::v4(0x0a00_0000 | last, len).unwrap())
    };
    let v6 = Just((Prefix::V6([0; 16], 0), Prefix::V6([0; 16], 0)));
    let addresses = prop_oneof![
        1 => Just(None),
        6 => (v4(), v4()).prop_map(Some),
        1 => v6.prop_map(Some),
    ];
    let protocol = prop::sample::select(vec![0u8, 6, 17, 47]);
    (0u32..5, 0u32..40, proptest::option::weighted(0.7, 0u32..100), addresses, protocol, ports(), ports())
        .prop_map(|(entry, sequence, policy, addresses, protocol, source_ports, destination_ports)| Rule {
            entry,
            sequence,
            policy,
            matches: RuleMatch { addresses, protocol, source_ports, destination_ports },
        })
}

fn key() -> impl Strategy<Value = FiveTuple> {
    (0u8..8, 0u8..8, prop::sample::select(vec![1u8, 6, 17, 47]), 0u16..16, 0u16..16).prop_map(
        |(source, destination, protocol, source_port, destination_port)| FiveTuple {
            protocol,
            reserved: [0; 3],
            source: [10, 0, 0, source],
            destination: [10, 0, 0, destination],
            source_port: source_port.to_be_bytes(),
            destination_port: destination_port.to_be_bytes(),
        },
    )
}

#[test]
fn the_acl_answers_as_the_linear_classifier_with_denies_and_all() {
    proptest!(ProptestConfig::with_cases(96), |(
        mut rules in proptest::collection::vec(rule(), 0..24),
        keys in proptest::collection::vec(key(), 1..=64),
    )| {
        // Sequences are unique within an entry.
        rules.sort_by_key(|rule| (rule.entry, rule.sequence));
        rules.dedup_by_key(|rule| (rule.entry, rule.sequence));
        let acl = Acl::build(eal(), &rules).unwrap();
        let (mut found, mut expected) = (vec![77; keys.len()], vec![78; keys.len()]);
        acl.classify(&keys, &mut found);
        LinearClassifier::new(&rules).classify(&keys, &mut expected);
        prop_assert_eq!(found, expected);
    });
}

#[test]
fn an_empty_crypto_map_matches_nothing() {
    let acl = Acl::build(eal(), &[]).unwrap();
    let mut verdicts = [5; 2];
    acl.classify(&[FiveTuple::default(); 2], &mut verdicts);
    assert_eq!(verdicts, [NO_MATCH; 2]);
}
