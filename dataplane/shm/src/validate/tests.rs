//! Hostile records.

use proptest::prelude::*;
use zerocopy::IntoBytes;

use crate::record::{Capacities, Record, Table};
use crate::records::{
    Address, NONE, NeighbourRecord, PolicyRecord, PortRecord, RouteRecord, RuleRecord, SELECTORS_MOST,
    SaRecord, TrafficSelector, TunnelRecord, algorithm, integrity, owner, protection, route,
};
use crate::region::{ReadError, Region};

const CAPACITIES: Capacities = Capacities::small();

const ANY_PORTS: [u16; 2] = [0, u16::MAX];

/// A record of zeroes but for what `fill` sets.
fn record<R: Record>(fill: impl Fn(&mut R)) -> R {
    let mut record = R::new_zeroed();
    fill(&mut record);
    assert_eq!(record.validate(&CAPACITIES), Ok(()));
    record
}

fn sa() -> SaRecord {
    record(|sa: &mut SaRecord| {
        sa.present = 1;
        sa.algorithm = algorithm::AES_256_GCM_16;
        sa.key_len = 32;
        sa.owner_kind = owner::TUNNEL;
        sa.family = 4;
        sa.spi = 0x1000;
        sa.generation = 1;
        sa.replay_window = 1024;
        sa.local_selectors = TrafficSelector::ANY_V4.alone();
        sa.remote_selectors = TrafficSelector::ANY_V4.alone();
    })
}

fn tunnel() -> TunnelRecord {
    record(|tunnel: &mut TunnelRecord| {
        (tunnel.present, tunnel.protection, tunnel.family, tunnel.ttl) = (1, protection::PROFILE, 4, 64);
        (tunnel.mtu_bytes, tunnel.outbound_sa) = (1442, NONE);
        tunnel.name[0] = b't';
    })
}

fn policy() -> PolicyRecord {
    record(|policy: &mut PolicyRecord| {
        (policy.present, policy.family, policy.outbound_sa) = (1, 4, 3);
    })
}

fn rule() -> RuleRecord {
    record(|rule: &mut RuleRecord| {
        (rule.present, rule.permit) = (1, 1);
        rule.selector.source_ports = ANY_PORTS;
        rule.selector.destination_ports = ANY_PORTS;
    })
}

fn route(kind: u8) -> RouteRecord {
    record(|route: &mut RouteRecord| {
        (route.present, route.kind, route.family, route.prefix_len) = (1, kind, 4, 8);
        route.prefix.bytes[0] = 10;
    })
}

fn neighbour() -> NeighbourRecord {
    record(|neighbour: &mut NeighbourRecord| (neighbour.present, neighbour.family) = (1, 6))
}

fn port() -> PortRecord {
    record(|port: &mut PortRecord| {
        (port.present, port.mtu_bytes, port.name[0], port.device[0]) = (1, 1500, b'p', b'd');
    })
}

type Spoil = fn(&mut SaRecord);

#[test]
fn each_spoiled_field_is_named() {
    let spoiled: [(&str, Spoil); 29] = [
        ("present", |sa| sa.present = 2),
        ("direction", |sa| sa.direction = 2),
        ("mode", |sa| sa.mode = 2),
        ("algorithm", |sa| sa.algorithm = 8),
        ("key_len", |sa| sa.key_len = 16),
        ("key", |sa| (sa.algorithm, sa.key_len, sa.key[16]) = (algorithm::AES_128_GCM_16, 16, 1)),
        ("integrity", |sa| sa.integrity = integrity::HMAC_SHA1_96),
        ("integrity", |sa| sa.algorithm = algorithm::AES_256_CBC),
        ("integrity_key", |sa| sa.integrity_key[0] = 1),
        ("integrity", |sa| {
            (sa.algorithm, sa.integrity) = (algorithm::CHACHA20_POLY1305, integrity::HMAC_SHA2_256_128);
        }),
        ("key_len", |sa| (sa.algorithm, sa.key_len) = (algorithm::CHACHA20_POLY1305, 16)),
        ("salt", |sa| {
            (sa.algorithm, sa.integrity) = (algorithm::AES_256_CBC, integrity::HMAC_SHA2_512_256);
            sa.salt[3] = 1;
        }),
        ("owner_kind", |sa| sa.owner_kind = 0),
        ("owner", |sa| sa.owner = 16),
        ("family", |sa| sa.family = 5),
        ("spi", |sa| sa.spi = 255),
        ("replay_window", |sa| sa.replay_window = 96),
        ("generation", |sa| sa.generation = 0),
        ("local_selectors", |sa| sa.local_selectors[0].ports = [2, 1]),
        ("local_selectors", |sa| sa.local_selectors[0] = TrafficSelector::NONE),
        ("local_selectors", |sa| sa.local_selectors[0].family = 5),
        ("local_selectors", |sa| sa.local_selectors[0].first.bytes[4] = 1),
        ("local_selectors", |sa| sa.local_selectors[0].last.bytes[15] = 1),
        ("local_selectors", |sa| sa.local_selectors[0].reserved[1] = 1),
        // Hidden behind the end of the list.
        ("local_selectors", |sa| sa.local_selectors[2] = TrafficSelector::ANY_V4),
        ("local_selectors", |sa| sa.local_selectors[1].protocol = 47),
        ("remote_selectors", |sa| sa.remote_selectors = TrafficSelector::NONE.alone()),
        ("remote_selectors", |sa| {
            let [first, last] = [2, 1].map(|octet| Address { bytes: [octet; 16] });
            sa.remote_selectors[1] = TrafficSelector::range(6, first, last);
        }),
        ("remote_selectors", |sa| {
            sa.remote_selectors = [TrafficSelector::ANY_V6; SELECTORS_MOST];
            sa.remote_selectors[SELECTORS_MOST - 1].ports = [1, 0];
        }),
    ];
    for (field, spoil) in spoiled {
        let mut sa = sa();
        spoil(&mut sa);
        let error = sa.validate(&CAPACITIES).unwrap_err().to_string();
        assert!(error.starts_with(&format!("field {field} ")), "{field}: {error}");
    }
}

/// RFC 3602, RFC 2451; RFC 2403, RFC 2404, RFC 4868.
#[test]
fn every_cipher_goes_with_every_integrity_algorithm_and_keys_of_their_lengths() {
    use algorithm::{AES_128_CBC, AES_192_CBC, AES_256_CBC, TRIPLE_DES_CBC};
    for (cipher, key_len) in [(AES_128_CBC, 16), (AES_192_CBC, 24), (AES_256_CBC, 32), (TRIPLE_DES_CBC, 24)] {
        for (number, integrity_key_len) in [(1, 16), (2, 20), (3, 32), (4, 48), (5, 64)] {
            let mut sa = sa();
            (sa.algorithm, sa.key_len, sa.integrity) = (cipher, key_len, number);
            sa.key[..usize::from(key_len)].fill(1);
            sa.integrity_key[..integrity_key_len].fill(1);
            assert_eq!(sa.validate(&CAPACITIES), Ok(()));
            if let Some(unused) = sa.integrity_key.get_mut(integrity_key_len) {
                *unused = 1;
                assert!(sa.validate(&CAPACITIES).is_err());
            }
        }
    }
}

/// Where a hostile writer overwrites a record, and with what.
fn spoils() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    let byte = prop_oneof![0u8..8, Just(16), Just(64), any::<u8>()];
    proptest::collection::vec((any::<prop::sample::Index>(), byte), 0..4)
}

/// A record that passes after it was overwritten still keeps the promise that its reader relies on.
fn holds<R: Record>(
    mut record: R,
    spoils: &[(prop::sample::Index, u8)],
    promise: impl Fn(&R) -> bool,
) -> Result<(), TestCaseError> {
    for (place, byte) in spoils {
        if let Some(target) = record.as_mut_bytes().get_mut(place.index(size_of::<R>())) {
            *target = *byte;
        }
    }
    prop_assert!(record.validate(&CAPACITIES).is_err() || promise(&record));
    Ok(())
}

fn in_table(slot: u32, table: Table) -> bool {
    slot < CAPACITIES.of(table)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn what_passes_refers_only_to_what_exists(spoils in spoils()) {
        holds(tunnel(), &spoils, |record| {
            (record.outbound_sa == NONE || in_table(record.outbound_sa, Table::Sas))
                && record.protection <= protection::CRYPTO_MAP
                && record.local.to_ip(record.family).is_some()
                && record.ttl > 0
        })?;
        holds(sa(), &spoils, |record| {
            let owners = if record.owner_kind == owner::TUNNEL { Table::Tunnels } else { Table::Policies };
            in_table(record.owner, owners)
                && record.key.get(..usize::from(record.key_len)).is_some()
                && algorithm::is_combined(record.algorithm) == (record.integrity == integrity::NONE)
                && record.replay_window <= 4096
                && [record.local_selectors, record.remote_selectors].iter().all(|side| {
                    let used = TrafficSelector::present(side);
                    !used.is_empty() && used.iter().all(|one| one.first.to_ip(one.family) <= one.last.to_ip(one.family))
                })
        })?;
        holds(policy(), &spoils, |record| in_table(record.port, Table::Ports) && record.mode <= 1)?;
        holds(rule(), &spoils, |record| {
            (record.permit == 0 || in_table(record.policy, Table::Policies))
                && record.selector.source_prefix_len <= 128
                && record.selector.source_ports[0] <= record.selector.source_ports[1]
        })?;
        for kind in [route::PORT, route::TUNNEL] {
            holds(route(kind), &spoils, |record| match record.kind {
                route::PORT => in_table(record.target, Table::Ports),
                route::TUNNEL => in_table(record.target, Table::Tunnels),
                kind => kind <= route::UNREACHABLE,
            })?;
        }
        holds(neighbour(), &spoils, |record| in_table(record.port, Table::Ports))?;
        holds(port(), &spoils, |record| record.mtu_bytes >= 68 && record.name.contains(&0))?;
    }
}

proptest! {
    #[test]
    fn a_slot_gives_back_the_bytes_that_were_put(spoils in spoils(), slot in 0u32..300) {
        let region = Region::anonymous(CAPACITIES).unwrap();
        let mut writer = region.writer().unwrap();
        let mut record = route(route::PORT);
        for (place, byte) in &spoils {
            record.as_mut_bytes()[place.index(size_of::<RouteRecord>())] = *byte;
        }
        record.present = 1;
        let put = writer.put(slot, &record);
        prop_assert_eq!(put.is_ok(), in_table(slot, Table::Routes));
        match region.read::<RouteRecord>(slot) {
            Ok(found) => {
                let found = found.record.unwrap();
                prop_assert_eq!(found.as_bytes(), record.as_bytes());
            }
            Err(ReadError::OutOfRange(_)) => prop_assert!(put.is_err()),
            Err(ReadError::Invalid { version, reason }) => {
                prop_assert_eq!(Ok(version), put);
                prop_assert_eq!(record.validate(&CAPACITIES), Err(reason));
            }
            Err(ReadError::Torn) => prop_assert!(false, "torn"),
        }
    }
}

#[test]
fn a_cleared_sa_leaves_no_key_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("region");
    let (region, _) = Region::create_or_attach(&path, CAPACITIES, crate::BootId([0; 2])).unwrap();
    let mut writer = region.writer().unwrap();
    let key = *b"thirty-two octets of a true key!";
    let sa = SaRecord { key, ..sa() };
    writer.put(7, &sa).unwrap();
    let holds_key = || std::fs::read(&path).unwrap().windows(32).any(|window| window == key);
    assert!(holds_key());
    writer.clear(Table::Sas, 7).unwrap();
    assert!(!holds_key());
}
