//! From route and neighbour records to what a worker must change.

#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

mod support;

use forward::{Adjacency, NextHop, Rib, Update};
use packet::{LinearClassifier, Prefix};
use shm::records::{NeighbourRecord, RouteRecord, route};
use support::*;
use zerocopy::FromZeros;

/// Updates as text: they have no equality.
fn told(updates: Vec<Update<LinearClassifier>>) -> Vec<String> {
    let text = |update| match update {
        Update::Route(Prefix::V4(base, len), adjacency) => {
            let [a, b, c, d] = base.to_be_bytes();
            format!(
                "{a}.{b}.{c}.{d}/{len} {}",
                adjacency.map_or("gone".to_owned(), |a: Adjacency| format!("{a:?}"))
            )
        }
        Update::NextHop(index, Some(NextHop { port, mac })) => {
            format!("hop {index} port {port} {}", if mac.is_some() { "resolved" } else { "unresolved" })
        }
        Update::NextHop(index, None) => format!("hop {index} gone"),
        Update::Locals(_) => "locals".to_owned(),
        other => format!("{other:?}"),
    };
    updates.into_iter().map(text).collect()
}

fn set_route(rib: &mut Rib, slot: u32, record: Option<&RouteRecord>) -> Vec<String> {
    let mut updates = vec![];
    rib.set_route(slot, record, &mut updates).unwrap();
    told(updates)
}

fn set_neighbour(rib: &mut Rib, slot: u32, record: Option<&NeighbourRecord>) -> Vec<String> {
    let mut updates = vec![];
    rib.set_neighbour(slot, record, &mut updates).unwrap();
    told(updates)
}

fn route_to(kind: u8, target: u32, third: u8, gateway: Option<[u8; 4]>) -> RouteRecord {
    let mut record = RouteRecord::new_zeroed();
    (record.present, record.kind, record.family, record.prefix_len) = (1, kind, 4, 24);
    (record.target, record.prefix) = (target, v4([10, 0, third, 0]));
    if let Some(gateway) = gateway {
        (record.has_gateway, record.gateway) = (1, v4(gateway));
    }
    record
}

fn neighbour(address: [u8; 4]) -> NeighbourRecord {
    let mut record = NeighbourRecord::new_zeroed();
    (record.present, record.family, record.mac, record.port, record.address) =
        (1, 4, PEER_MAC, 1, v4(address));
    record
}

#[test]
fn routes_by_one_gateway_share_its_next_hop_and_follow_its_neighbour() {
    let mut rib = Rib::new();
    let gateway = Some([192, 0, 2, 2]);
    let first = set_route(&mut rib, 0, Some(&route_to(route::PORT, 1, 1, gateway)));
    assert_eq!(first, ["hop 0 port 1 unresolved", "10.0.1.0/24 NextHop(0)"]);
    assert_eq!(
        set_route(&mut rib, 1, Some(&route_to(route::PORT, 1, 2, gateway))),
        ["10.0.2.0/24 NextHop(0)"]
    );
    let resolved = set_neighbour(&mut rib, 0, Some(&neighbour([192, 0, 2, 2])));
    assert_eq!(resolved, ["hop 0 port 1 resolved", "192.0.2.2/32 NextHop(0)"]);
    assert_eq!(set_neighbour(&mut rib, 0, None), ["192.0.2.2/32 gone", "hop 0 port 1 unresolved"]);
    assert_eq!(set_route(&mut rib, 0, None), ["10.0.1.0/24 gone"]);
    assert_eq!(set_route(&mut rib, 1, None), ["10.0.2.0/24 gone", "hop 0 gone"]);
}

#[test]
fn a_neighbour_whose_record_moves_to_another_slot_stays_resolved() {
    let mut rib = Rib::new();
    set_neighbour(&mut rib, 0, Some(&neighbour([192, 0, 2, 2])));
    assert_eq!(set_neighbour(&mut rib, 1, Some(&neighbour([192, 0, 2, 2]))), ["hop 0 port 1 resolved"]);
    assert_eq!(set_neighbour(&mut rib, 0, None), Vec::<String>::new());
    assert_eq!(set_neighbour(&mut rib, 1, None).last().unwrap(), "hop 0 gone");
}

#[test]
fn the_last_route_to_a_prefix_wins_and_the_one_before_comes_back() {
    let mut rib = Rib::new();
    set_route(&mut rib, 0, Some(&route_to(route::TUNNEL, 3, 1, None)));
    assert_eq!(set_route(&mut rib, 1, Some(&route_to(route::PORT, 1, 1, None))), ["10.0.1.0/24 Glean(1)"]);
    assert_eq!(set_route(&mut rib, 1, None), ["10.0.1.0/24 Tunnel(3)"]);
    // A slot that changes its prefix leaves the old one.
    let moved = set_route(&mut rib, 0, Some(&route_to(route::TUNNEL, 3, 2, None)));
    assert_eq!(moved, ["10.0.2.0/24 Tunnel(3)", "10.0.1.0/24 gone"]);
}

#[test]
fn an_address_of_ours_beats_a_neighbour_that_claims_it() {
    let mut rib = Rib::new();
    set_neighbour(&mut rib, 0, Some(&neighbour([192, 0, 2, 1])));
    let mut local = route_to(route::LOCAL, 1, 0, None);
    (local.prefix, local.prefix_len) = (v4([192, 0, 2, 1]), 32);
    assert_eq!(set_route(&mut rib, 0, Some(&local)), ["192.0.2.1/32 Local", "locals"]);
    assert_eq!(set_neighbour(&mut rib, 1, Some(&neighbour([192, 0, 2, 1]))), ["hop 0 port 1 resolved"]);
}

#[test]
fn records_without_sense_are_refused_and_change_nothing() {
    let mut rib = Rib::new();
    let mut updates: Vec<Update<LinearClassifier>> = vec![];
    for change in [
        |record: &mut RouteRecord| record.family = 5,
        |record: &mut RouteRecord| record.prefix_len = 33,
        |record: &mut RouteRecord| record.kind = 99,
        |record: &mut RouteRecord| record.target = 5000,
    ] {
        let mut record = route_to(route::TUNNEL, 1, 1, None);
        change(&mut record);
        assert!(rib.set_route(0, Some(&record), &mut updates).is_err());
    }
    assert!(updates.is_empty());
    assert!(set_route(&mut rib, 0, None).is_empty());
}
