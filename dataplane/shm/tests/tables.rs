//! Both sides in one process: what control writes, the dataplane reads, acknowledges and answers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::net::IpAddr;

use shm::records::{Address, NONE, TunnelRecord};
use shm::{
    Ack, Capacities, Change, EventKind, EventRecord, ReadError, Refusal, Region, Table, name_bytes, name_text,
};

fn tunnel(name: &str) -> TunnelRecord {
    let (family, local) = Address::from_ip(IpAddr::from([192, 0, 2, 1]));
    let (_, remote) = Address::from_ip(IpAddr::from([192, 0, 2, 2]));
    TunnelRecord {
        present: 1,
        enabled: 1,
        protection: 1,
        family,
        has_key: 0,
        ttl: 64,
        df: 2,
        reserved: 0,
        key: 0,
        mtu_bytes: 1442,
        outbound_sa: NONE,
        tcp_mss_bytes: 0,
        local,
        remote,
        name: name_bytes(name),
    }
}

#[test]
fn the_reader_begins_with_a_rescan_and_then_sees_each_slot() {
    let region = Region::anonymous(Capacities::small()).unwrap();
    let mut writer = region.writer().unwrap();
    writer.put(3, &tunnel("before")).unwrap();
    let mut reader = region.reader().unwrap();
    assert_eq!(reader.next_change(), Some(Change::Rescan));
    assert_eq!(reader.next_change(), None);

    let version = writer.put(4, &tunnel("after")).unwrap();
    assert_eq!(reader.next_change(), Some(Change::Slot(Table::Tunnels, 4)));
    let slot = reader.read::<TunnelRecord>(4).unwrap();
    assert_eq!(slot.version, version);
    assert_eq!(name_text(&slot.record.unwrap().name), "after");
    assert_eq!(name_text(&reader.read::<TunnelRecord>(3).unwrap().record.unwrap().name), "before");
}

#[test]
fn an_acknowledgement_tells_version_and_refusal() {
    let region = Region::anonymous(Capacities::small()).unwrap();
    let mut writer = region.writer().unwrap();
    let reader = region.reader().unwrap();
    assert_eq!(region.ack(Table::Tunnels, 1), Ack::default());
    let version = writer.put(1, &tunnel("t")).unwrap();
    reader.refuse(Table::Tunnels, 1, version, Refusal::Duplicate);
    assert_eq!(region.ack(Table::Tunnels, 1), Ack { applied: version, refused: Some(Refusal::Duplicate) });
    let version = writer.clear(Table::Tunnels, 1).unwrap();
    reader.acknowledge(Table::Tunnels, 1, version);
    assert_eq!(region.ack(Table::Tunnels, 1), Ack { applied: version, refused: None });
    assert!(reader.read::<TunnelRecord>(1).unwrap().record.is_none());
}

#[test]
fn a_record_that_refers_beyond_a_table_is_refused_by_name() {
    let region = Region::anonymous(Capacities::small()).unwrap();
    let mut writer = region.writer().unwrap();
    let record = TunnelRecord { outbound_sa: 64, ..tunnel("t") };
    let version = writer.put(0, &record).unwrap();
    let error = region.read::<TunnelRecord>(0).unwrap_err();
    assert!(matches!(error, ReadError::Invalid { version: at, .. } if at == version), "{error}");
    assert_eq!(
        error.to_string(),
        format!("version {version}: field outbound_sa refers to slot 64, beyond the table")
    );
    assert_eq!(region.read::<TunnelRecord>(16).unwrap_err(), ReadError::OutOfRange(16));
    assert!(writer.put(16, &record).is_err());
}

#[test]
fn a_change_ring_that_overflows_asks_for_a_rescan() {
    let region = Region::anonymous(Capacities::small()).unwrap();
    let mut writer = region.writer().unwrap();
    let mut reader = region.reader().unwrap();
    assert_eq!(reader.next_change(), Some(Change::Rescan));
    for _ in 0..65 {
        writer.put(0, &tunnel("t")).unwrap();
    }
    assert_eq!(reader.next_change(), Some(Change::Rescan));
    assert_eq!(reader.next_change(), None);
    writer.put(0, &tunnel("t")).unwrap();
    assert_eq!(reader.next_change(), Some(Change::Slot(Table::Tunnels, 0)));
}

#[test]
fn a_new_writer_asks_for_a_rescan() {
    let region = Region::anonymous(Capacities::small()).unwrap();
    let mut reader = region.reader().unwrap();
    assert_eq!(reader.next_change(), Some(Change::Rescan));
    assert_eq!(reader.next_change(), None);
    drop(region.writer().unwrap());
    assert_eq!(reader.next_change(), Some(Change::Rescan));
    assert_eq!(reader.next_change(), None);
}

#[test]
fn events_come_out_in_order_and_lost_ones_are_counted() {
    let region = Region::anonymous(Capacities::small()).unwrap();
    let mut events = region.event_writer().unwrap();
    let mut control = region.event_reader().unwrap();
    for spi in 0..66 {
        assert_eq!(events.push(EventRecord::of_sa(EventKind::Traffic, 7, 9, spi)), spi < 64);
    }
    assert_eq!(region.events_lost(), 2);
    for spi in 0..64 {
        assert_eq!(control.pop(), Some(EventRecord { kind: 4, slot: 7, a: 9, b: spi, c: 0, d: 0 }));
    }
    assert_eq!(control.pop(), None);
}

#[test]
fn each_role_is_taken_once_and_free_again_after_its_end() {
    let region = Region::anonymous(Capacities::small()).unwrap();
    let writer = region.writer().unwrap();
    assert!(region.writer().is_err());
    drop(writer);
    assert!(region.writer().is_ok());
}

#[test]
fn sa_generations_never_repeat() {
    let region = Region::anonymous(Capacities::small()).unwrap();
    let first = region.writer().unwrap().next_sa_generation();
    let second = region.writer().unwrap().next_sa_generation();
    assert!(first != 0 && second > first);
}
