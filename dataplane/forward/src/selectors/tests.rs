//! A packet is carried if, and only if, it lies in some pair of what was agreed.

use std::net::IpAddr;

use packet::FiveTuple;
use proptest::prelude::*;
use shm::records::{Address, SELECTORS_MOST, SaRecord, TrafficSelector};
use zerocopy::FromZeros;

use super::Selectors;
use crate::update::RecordError;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const GRE: u8 = 47;
const PROTOCOLS: [u8; 4] = [ICMP, TCP, UDP, GRE];

/// A world of sixteen addresses of each family.
fn address(is_v4: bool, number: u8) -> IpAddr {
    if is_v4 { [10, 0, 0, number].into() } else { [0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(number)].into() }
}

fn selector() -> impl Strategy<Value = TrafficSelector> {
    let ports = prop_oneof![
        Just([0, u16::MAX]),
        Just([0, 0]),
        (0u16..4, 0u16..4).prop_map(|(a, b)| [a.min(b), a.max(b)])
    ];
    let protocol = prop_oneof![Just(0), prop::sample::select(PROTOCOLS.to_vec())];
    (any::<bool>(), (0u8..16, 0u8..16), protocol, ports).prop_map(|(is_v4, (a, b), protocol, ports)| {
        let (family, first) = Address::from_ip(address(is_v4, a.min(b)));
        let (_, last) = Address::from_ip(address(is_v4, a.max(b)));
        TrafficSelector { protocol, ports, ..TrafficSelector::range(family, first, last) }
    })
}

fn side() -> impl Strategy<Value = Vec<TrafficSelector>> {
    let few = prop_oneof![Just(1), Just(2), 1..=SELECTORS_MOST];
    few.prop_flat_map(|count| proptest::collection::vec(selector(), count))
}

fn record(local: &[TrafficSelector], remote: &[TrafficSelector]) -> SaRecord {
    let mut record = SaRecord::new_zeroed();
    record.local_selectors[..local.len()].copy_from_slice(local);
    record.remote_selectors[..remote.len()].copy_from_slice(remote);
    record
}

/// An end of a packet, as RFC 7296 section 2.9 puts the question.
fn lies_in(side: &[TrafficSelector], address: IpAddr, protocol: u8, port: Option<u16>) -> bool {
    side.iter().any(|one| {
        let (first, last) = (one.first.to_ip(one.family).unwrap(), one.last.to_ip(one.family).unwrap());
        first.is_ipv4() == address.is_ipv4()
            && (first..=last).contains(&address)
            && [0, protocol].contains(&one.protocol)
            && match port {
                Some(port) => (one.ports[0]..=one.ports[1]).contains(&port),
                None => one.ports == [0, u16::MAX],
            }
    })
}

fn carries(selectors: &Selectors, ends: [IpAddr; 2], protocol: u8, ports: [u16; 2], later: bool) -> bool {
    let [source_port, destination_port] = ports.map(u16::to_be_bytes);
    match ends {
        [IpAddr::V4(local), IpAddr::V4(remote)] => {
            let (source, destination) = (local.octets(), remote.octets());
            let key = FiveTuple {
                protocol,
                source,
                destination,
                source_port,
                destination_port,
                ..FiveTuple::default()
            };
            selectors.carry(&key, later)
        }
        [IpAddr::V6(local), IpAddr::V6(remote)] => {
            let ports = (!later).then_some([source_port, destination_port]);
            selectors.carry_v6([local.octets(), remote.octets()], protocol, ports)
        }
        _ => panic!("a packet of two families"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_packet_is_carried_if_it_lies_in_some_agreed_pair_and_no_other_is(
        local in side(), remote in side(), later in any::<bool>(),
    ) {
        let selectors = Selectors::new(&record(&local, &remote)).unwrap();
        for is_v4 in [true, false] {
            for (from, to) in (0..16).flat_map(|from| (0..16).map(move |to| (from, to))) {
                let ends = [address(is_v4, from), address(is_v4, to)];
                for protocol in PROTOCOLS {
                    // Some ports of the world's four, and one beyond.
                    let ports = [u16::from(from % 5), u16::from(to % 5)];
                    let seen = |port| (!later && [TCP, UDP].contains(&protocol)).then_some(port);
                    let agreed = lies_in(&local, ends[0], protocol, seen(ports[0]))
                        && lies_in(&remote, ends[1], protocol, seen(ports[1]));
                    prop_assert_eq!(
                        carries(&selectors, ends, protocol, ports, later), agreed,
                        "{:?} {} {:?}", ends, protocol, ports
                    );
                }
            }
        }
    }
}

#[test]
fn the_ends_of_a_range_lie_in_it() {
    let bound = |last| Address { bytes: [10, 0, 0, last, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] };
    let range = TrafficSelector::range(4, bound(5), bound(9));
    let selectors = Selectors::new(&record(&[range], &[TrafficSelector::ANY_V4])).unwrap();
    let carried: Vec<u8> = (0..16)
        .filter(|number| {
            carries(&selectors, [address(true, *number), [255; 4].into()], UDP, [0, u16::MAX], false)
        })
        .collect();
    assert_eq!(carried, [5, 6, 7, 8, 9]);
}

#[test]
fn any_to_any_is_everything_of_both_families() {
    let any = [TrafficSelector::ANY_V4, TrafficSelector::ANY_V6];
    let selectors = Selectors::new(&record(&any, &any)).unwrap();
    for (lowest, highest) in [([0u8; 4].into(), [255u8; 4].into()), ([0u16; 8].into(), [u16::MAX; 8].into())]
    {
        assert!(carries(&selectors, [lowest, highest], GRE, [0, 0], true));
    }
}

#[test]
fn a_record_without_sense_is_refused() {
    let any = TrafficSelector::ANY_V4;
    let reversed = TrafficSelector { first: any.last, last: any.first, ..any };
    for (local, remote) in [
        (vec![], vec![any]),
        (vec![any], vec![]),
        (vec![any, reversed], vec![any]),
        (vec![any], vec![TrafficSelector { family: 5, ..any }]),
        (vec![any], vec![TrafficSelector { ports: [2, 1], ..any }]),
    ] {
        assert_eq!(Selectors::new(&record(&local, &remote)).unwrap_err(), RecordError::Selector);
    }
}
