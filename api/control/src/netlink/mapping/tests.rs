use shm::records::route as kind;

use super::*;

const PORT: u32 = 3;
const TUNNEL: u32 = 7;
const ELSEWHERE: u32 = 9;

fn attachments() -> Attachments {
    Attachments::from([(PORT, Attachment::Port(30)), (TUNNEL, Attachment::Tunnel(70))])
}

fn hop(link: u32, gateway: Option<&str>) -> Hop {
    Hop {
        link,
        gateway: gateway.map(|text| text.parse().expect("address")),
        alive: true,
        carrier: true,
        wraps: false,
    }
}

fn forward_route(prefix: &str, hops: Vec<Hop>) -> Route {
    Route {
        table: RouteTable::Main,
        prefix: prefix.parse().expect("prefix"),
        metric: 0,
        tos: 0,
        protocol: 4,
        fate: Fate::Forward,
        hops,
    }
}

fn of(route: Route) -> Option<RouteRecord> {
    route_record(route.prefix, &[route], &attachments())
}

#[test]
fn a_gateway_on_a_port_is_a_port_route_with_that_gateway() {
    let record = of(forward_route("10.0.0.0/8", vec![hop(PORT, Some("192.0.2.1"))])).expect("a record");
    assert_eq!((record.kind, record.target, record.has_gateway), (kind::PORT, 30, 1));
    assert_eq!(&record.gateway.bytes[..5], &[192, 0, 2, 1, 0]);
    assert_eq!((record.family, record.prefix_len), (4, 8));
}

#[test]
fn a_connected_prefix_is_a_port_route_without_gateway() {
    let record = of(forward_route("2001:db8::/64", vec![hop(PORT, None)])).expect("a record");
    assert_eq!((record.kind, record.has_gateway, record.family), (kind::PORT, 0, 6));
}

#[test]
fn every_form_of_a_route_over_a_tunnel_leads_to_the_tunnel() {
    // `dev tunnel1`, `via 10.255.0.2 dev tunnel1`, and FRR's `via 2.2.2.2 dev tunnel1 onlink` of unnumbered OSPF.
    for gateway in [None, Some("10.255.0.2"), Some("2.2.2.2")] {
        let record = of(forward_route("10.2.0.0/16", vec![hop(TUNNEL, gateway)])).expect("a record");
        assert_eq!((record.kind, record.target, record.has_gateway), (kind::TUNNEL, 70, 0), "{gateway:?}");
    }
    let by_v6 = of(forward_route("10.2.0.0/16", vec![hop(TUNNEL, Some("fe80::1"))])).expect("a record");
    assert_eq!(by_v6.kind, kind::TUNNEL);
}

#[test]
fn of_several_next_hops_the_first_live_one_is_taken() {
    let dead = Hop { alive: false, ..hop(PORT, Some("192.0.2.1")) };
    let live = hop(PORT, Some("192.0.2.2"));
    let record = of(forward_route("10.0.0.0/8", vec![dead, live, hop(TUNNEL, None)])).expect("a record");
    assert_eq!(&record.gateway.bytes[..4], &[192, 0, 2, 2]);
}

#[test]
fn a_twin_without_carrier_is_passed_over_and_another_device_without_carrier_is_not() {
    let prefix = "10.0.0.0/8".parse().expect("prefix");
    let quiet = |link| forward_route("10.0.0.0/8", vec![Hop { carrier: false, ..hop(link, None) }]);
    assert!(route_record(prefix, &[quiet(PORT)], &attachments()).is_none());
    let elsewhere = route_record(prefix, &[quiet(ELSEWHERE)], &attachments()).expect("a record");
    assert_eq!(elsewhere.kind, kind::UNREACHABLE);
}

#[test]
fn a_dead_route_gives_way_to_the_next_metric() {
    let dead = Hop { alive: false, ..hop(PORT, Some("192.0.2.1")) };
    let prefix = "10.0.0.0/8".parse().expect("prefix");
    let routes = [
        forward_route("10.0.0.0/8", vec![dead]),
        Route { metric: 10, ..forward_route("10.0.0.0/8", vec![hop(TUNNEL, None)]) },
    ];
    assert_eq!(route_record(prefix, &routes, &attachments()).expect("a record").kind, kind::TUNNEL);
    assert!(route_record(prefix, &routes[..1], &attachments()).is_none());
}

#[test]
fn what_the_fast_path_cannot_do_is_unreachable_and_never_falls_to_a_shorter_prefix() {
    let wrapped = Hop { wraps: true, ..hop(PORT, Some("192.0.2.1")) };
    for hops in [vec![hop(ELSEWHERE, None)], vec![wrapped], vec![hop(PORT, Some("fe80::1"))]] {
        let record = of(forward_route("10.0.0.0/8", hops.clone())).expect("a record");
        assert_eq!((record.kind, record.target), (kind::UNREACHABLE, NONE), "{hops:?}");
    }
}

#[test]
fn the_kernels_verdicts_are_kept() {
    let cases = [
        (Fate::Deliver, RouteTable::Local, Some(kind::LOCAL)),
        (Fate::Blackhole, RouteTable::Main, Some(kind::BLACKHOLE)),
        (Fate::Unreachable, RouteTable::Main, Some(kind::UNREACHABLE)),
        (Fate::Throw, RouteTable::Main, Some(kind::UNREACHABLE)),
        (Fate::Throw, RouteTable::Local, None),
    ];
    for (fate, table, expected) in cases {
        let route = Route { fate, table, ..forward_route("192.0.2.7/32", Vec::new()) };
        assert_eq!(of(route).map(|record| record.kind), expected, "{fate:?} in {table:?}");
    }
}

#[test]
fn loopback_link_local_and_multicast_need_no_route() {
    for prefix in
        ["127.0.0.0/8", "127.0.0.1/32", "224.0.0.0/4", "::1/128", "fe80::/64", "ff00::/8", "fe80::1/128"]
    {
        assert!(of(forward_route(prefix, vec![hop(PORT, None)])).is_none(), "{prefix}");
    }
    for prefix in ["0.0.0.0/0", "::/0"] {
        assert!(of(forward_route(prefix, vec![hop(PORT, None)])).is_some(), "{prefix}");
    }
}

#[test]
fn routes_for_marked_packets_are_not_for_all() {
    let route = Route { tos: 0x10, ..forward_route("10.0.0.0/8", vec![hop(PORT, None)]) };
    assert!(of(route).is_none());
}

fn neighbour(certainty: Certainty) -> Neighbour {
    Neighbour {
        link: PORT,
        address: "192.0.2.1".parse().expect("address"),
        mac: Some([2, 0, 0, 0, 0, 1]),
        certainty,
    }
}

#[test]
fn a_neighbour_is_used_while_its_address_is_known() {
    for certainty in [Certainty::Known, Certainty::Permanent] {
        let record = neighbour_record(&neighbour(certainty), &attachments()).expect("a record");
        assert_eq!((record.port, record.family, record.mac), (30, 4, [2, 0, 0, 0, 0, 1]));
    }
    assert!(neighbour_record(&neighbour(Certainty::Unknown), &attachments()).is_none());
}

#[test]
fn neighbours_that_are_no_single_station_are_not_used() {
    let known = neighbour(Certainty::Known);
    let group = Neighbour { mac: Some([1, 0, 0x5e, 0, 0, 5]), ..known };
    let nobody = Neighbour { mac: Some([0; 6]), ..known };
    let absent = Neighbour { mac: None, ..known };
    let multicast = Neighbour { address: "224.0.0.5".parse().expect("address"), ..known };
    let on_tunnel = Neighbour { link: TUNNEL, ..known };
    for other in [group, nobody, absent, multicast, on_tunnel] {
        assert!(neighbour_record(&other, &attachments()).is_none(), "{other:?}");
    }
}
