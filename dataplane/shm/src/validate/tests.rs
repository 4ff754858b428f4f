//! Hostile records.

use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

use crate::record::{Capacities, Record, Table};
use crate::records::{
    NONE, NeighbourRecord, PolicyRecord, PortRecord, RouteRecord, RuleRecord, SaRecord, TunnelRecord,
    algorithm, owner, protection, route,
};
use crate::region::{ReadError, Region};

const CAPACITIES: Capacities = Capacities::small();

fn sa() -> SaRecord {
    let mut sa = SaRecord::read_from_bytes(&[0; size_of::<SaRecord>()]).unwrap();
    sa.present = 1;
    sa.algorithm = algorithm::AES_256_GCM_16;
    sa.key_len = 32;
    sa.owner_kind = owner::TUNNEL;
    sa.family = 4;
    sa.spi = 0x1000;
    sa.generation = 1;
    sa.replay_window = 1024;
    sa.selector.source_ports = [0, u16::MAX];
    sa.selector.destination_ports = [0, u16::MAX];
    sa
}

#[test]
fn a_sound_sa_passes_and_each_spoiled_field_is_named() {
    assert_eq!(sa().validate(&CAPACITIES), Ok(()));
    let spoiled: [(&str, fn(&mut SaRecord)); 12] = [
        ("present", |sa| sa.present = 2),
        ("direction", |sa| sa.direction = 2),
        ("mode", |sa| sa.mode = 2),
        ("algorithm", |sa| sa.algorithm = 3),
        ("key_len", |sa| sa.key_len = 16),
        ("owner_kind", |sa| sa.owner_kind = 0),
        ("owner", |sa| sa.owner = 16),
        ("family", |sa| sa.family = 5),
        ("spi", |sa| sa.spi = 255),
        ("replay_window", |sa| sa.replay_window = 96),
        ("generation", |sa| sa.generation = 0),
        ("selector.source_ports", |sa| sa.selector.source_ports = [2, 1]),
    ];
    for (field, spoil) in spoiled {
        let mut sa = sa();
        spoil(&mut sa);
        let error = sa.validate(&CAPACITIES).unwrap_err().to_string();
        assert!(error.starts_with(&format!("field {field} ")), "{field}: {error}");
    }
}

/// Bytes that are mostly small, so that some of the records are sound.
fn bytes(length: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(
        prop_oneof![8 => Just(0u8), 2 => Just(1u8), 2 => 0u8..8, 1 => any::<u8>()],
        length,
    )
}

/// What the reader of a record relies on without looking again.
fn holds<R: Record>(bytes: &[u8], promise: impl Fn(&R) -> bool) -> Result<(), TestCaseError> {
    let record = R::read_from_bytes(bytes).unwrap();
    prop_assert!(record.validate(&CAPACITIES).is_err() || promise(&record));
    Ok(())
}

fn in_table(slot: u32, table: Table) -> bool {
    slot < CAPACITIES.of(table)
}

proptest! {
    #[test]
    fn what_passes_refers_only_to_slots_that_exist(
        tunnel in bytes(size_of::<TunnelRecord>()),
        sa_bytes in bytes(size_of::<SaRecord>()),
        policy in bytes(size_of::<PolicyRecord>()),
        rule in bytes(size_of::<RuleRecord>()),
        route_bytes in bytes(size_of::<RouteRecord>()),
        neighbour in bytes(size_of::<NeighbourRecord>()),
        port in bytes(size_of::<PortRecord>()),
    ) {
        holds::<TunnelRecord>(&tunnel, |record| {
            (record.outbound_sa == NONE || in_table(record.outbound_sa, Table::Sas))
                && record.protection <= protection::CRYPTO_MAP
                && record.local.to_ip(record.family).is_some()
        })?;
        holds::<SaRecord>(&sa_bytes, |record| {
            let owners = if record.owner_kind == owner::TUNNEL { Table::Tunnels } else { Table::Policies };
            in_table(record.owner, owners) && record.key.get(..record.key_len as usize).is_some()
        })?;
        holds::<PolicyRecord>(&policy, |record| in_table(record.port, Table::Ports))?;
        holds::<RuleRecord>(&rule, |record| {
            record.permit == 0 || in_table(record.policy, Table::Policies)
        })?;
        holds::<RouteRecord>(&route_bytes, |record| match record.kind {
            route::PORT => in_table(record.target, Table::Ports),
            route::TUNNEL => in_table(record.target, Table::Tunnels),
            _ => true,
        })?;
        holds::<NeighbourRecord>(&neighbour, |record| in_table(record.port, Table::Ports))?;
        holds::<PortRecord>(&port, |record| record.mtu_bytes >= 68 && record.name.contains(&0))?;
    }

    #[test]
    fn a_slot_gives_back_the_bytes_that_were_put(route_bytes in bytes(size_of::<RouteRecord>()), slot in 0u32..300) {
        let region = Region::anonymous(CAPACITIES).unwrap();
        let mut writer = region.writer().unwrap();
        let mut record = RouteRecord::read_from_bytes(&route_bytes).unwrap();
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
