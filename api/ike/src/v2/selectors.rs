//! Narrowing of traffic selectors (RFC 7296 section 2.9): never wider than what both sides named.

use std::fmt::Write;
use std::net::IpAddr;

use crate::{SELECTORS_MOST, TrafficSelector};

/// What both match, if anything.
pub(crate) fn intersect(one: &TrafficSelector, other: &TrafficSelector) -> Option<TrafficSelector> {
    if one.first.is_ipv4() != other.first.is_ipv4() {
        return None;
    }
    let protocol = match (one.protocol, other.protocol) {
        (0, protocol) | (protocol, 0) => protocol,
        (protocol, same) if protocol == same => protocol,
        _ => return None,
    };
    let first = one.first.max(other.first);
    let last = one.last.min(other.last);
    let ports = (one.ports.0.max(other.ports.0), one.ports.1.min(other.ports.1));
    (first <= last && ports.0 <= ports.1).then_some(TrafficSelector { first, last, protocol, ports })
}

/// Whether all that `inner` matches, `outer` matches too.
pub(crate) fn covers(outer: &TrafficSelector, inner: &TrafficSelector) -> bool {
    intersect(outer, inner) == Some(*inner)
}

/// Whether each selector of `inner` lies within one of `outer`.
pub(crate) fn all_covered(outer: &[TrafficSelector], inner: &[TrafficSelector]) -> bool {
    inner.iter().all(|inner| outer.iter().any(|outer| covers(outer, inner)))
}

/// All pairwise intersections, without those that another one covers: as many of the first as an SA can have. What is left out
/// is refused (section 2.9 lets the responder choose a subset that holds the first ones).
pub(crate) fn narrow(policy: &[TrafficSelector], asked: &[TrafficSelector]) -> Vec<TrafficSelector> {
    let mut agreed: Vec<TrafficSelector> = Vec::new();
    for asked in asked {
        for policy in policy {
            let Some(common) = intersect(policy, asked) else { continue };
            if agreed.iter().any(|known| covers(known, &common)) {
                continue;
            }
            agreed.retain(|known| !covers(&common, known));
            if agreed.len() < SELECTORS_MOST {
                agreed.push(common);
            }
        }
    }
    agreed
}

/// Whether some packet lies in both sides: one protocol, and addresses of one family.
pub(crate) fn meet(local: &[TrafficSelector], remote: &[TrafficSelector]) -> bool {
    local.iter().any(|local| {
        remote.iter().any(|remote| {
            local.first.is_ipv4() == remote.first.is_ipv4()
                && (local.protocol == 0 || remote.protocol == 0 || local.protocol == remote.protocol)
        })
    })
}

/// Why an answer cannot be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It is wider than what was asked, or no packet lies in it.
    NotOurs,
    /// It has more selectors than an SA can have. All of them were agreed and the peer sends by each: none may be left out.
    TooMany,
}

/// The selectors of an answer without what is said twice, if they lie in those that were asked for; of both, our side first.
pub(crate) fn accept(
    asked: [&[TrafficSelector]; 2],
    answered: [&[TrafficSelector]; 2],
) -> Result<[Vec<TrafficSelector>; 2], Unfit> {
    let [[asked_local, asked_remote], [local, remote]] = [asked, answered];
    if !all_covered(asked_local, local) || !all_covered(asked_remote, remote) || !meet(local, remote) {
        return Err(Unfit::NotOurs);
    }
    let agreed = [narrow(asked_local, local), narrow(asked_remote, remote)];
    let [agreed_local, agreed_remote] = &agreed;
    if all_covered(agreed_local, local) && all_covered(agreed_remote, remote) {
        Ok(agreed)
    } else {
        Err(Unfit::TooMany)
    }
}

/// In words: `192.0.2.1 gre, 10.0.0.0-10.0.0.255 tcp 80`.
pub(crate) fn describe(selectors: &[TrafficSelector]) -> String {
    let mut text = String::new();
    for selector in selectors.iter().take(8) {
        if !text.is_empty() {
            text.push_str(", ");
        }
        describe_one(&mut text, selector);
    }
    match selectors.len() {
        0 => "nothing".to_owned(),
        1..=8 => text,
        more => format!("{text} and {} more", more.saturating_sub(8)),
    }
}

fn describe_one(text: &mut String, selector: &TrafficSelector) {
    let any = |address: IpAddr| address.is_unspecified();
    // Writing to a string cannot fail.
    let _ = if selector.first == selector.last {
        write!(text, "{}", selector.first)
    } else if any(selector.first)
        && (selector.last == IpAddr::from([0xff; 4]) || selector.last == IpAddr::from([0xff; 16]))
    {
        write!(text, "any")
    } else {
        write!(text, "{}-{}", selector.first, selector.last)
    };
    let _ = match selector.protocol {
        0 => Ok(()),
        1 => write!(text, " icmp"),
        6 => write!(text, " tcp"),
        17 => write!(text, " udp"),
        47 => write!(text, " gre"),
        other => write!(text, " protocol {other}"),
    };
    let _ = match selector.ports {
        (0, u16::MAX) => Ok(()),
        (first, last) if first == last => write!(text, " {first}"),
        (first, last) => write!(text, " {first}-{last}"),
    };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn selector() -> impl Strategy<Value = TrafficSelector> {
        let range = (0u8..8, 0u8..8).prop_map(|(a, b)| (a.min(b), a.max(b)));
        let ports = (0u16..6, 0u16..6).prop_map(|(a, b)| (a.min(b), a.max(b)));
        (range, prop_oneof![Just(0u8), Just(6), Just(47)], ports).prop_map(
            |((first, last), protocol, ports)| TrafficSelector {
                first: [10, 0, 0, first].into(),
                last: [10, 0, 0, last].into(),
                protocol,
                ports,
            },
        )
    }

    fn matches(selectors: &[TrafficSelector], address: IpAddr, protocol: u8, port: u16) -> bool {
        selectors.iter().any(|selector| {
            (selector.first..=selector.last).contains(&address)
                && (selector.protocol == 0 || selector.protocol == protocol)
                && (selector.ports.0..=selector.ports.1).contains(&port)
        })
    }

    fn host(last: u8) -> TrafficSelector {
        let address = IpAddr::from([10, 0, 0, last]);
        TrafficSelector { first: address, last: address, protocol: 0, ports: (0, u16::MAX) }
    }

    const ANY: TrafficSelector = TrafficSelector {
        first: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        last: IpAddr::V4(std::net::Ipv4Addr::BROADCAST),
        protocol: 0,
        ports: (0, u16::MAX),
    };

    #[test]
    fn more_than_an_sa_can_have_is_cut_in_an_answer_of_ours_and_refused_in_one_of_the_peers() {
        let many: Vec<_> = (1..=10).map(|number| host(number * 2)).collect();
        let (first, rest) = many.split_at(SELECTORS_MOST);
        assert_eq!(narrow(&[ANY], &many), first);
        assert_eq!(accept([&[ANY], &[ANY]], [first, &[ANY]]), Ok([first.to_vec(), vec![ANY]]));
        assert_eq!(accept([&[ANY], &[ANY]], [&many, &[ANY]]), Err(Unfit::TooMany));
        assert_eq!(accept([&[ANY], &[ANY]], [&[ANY], &many]), Err(Unfit::TooMany));
        // What another one covers takes no room.
        let twice = [first, &[ANY], rest].concat();
        assert_eq!(accept([&[ANY], &[ANY]], [&twice, &[ANY]]), Ok([vec![ANY], vec![ANY]]));
    }

    #[test]
    fn an_answer_in_which_no_packet_lies_is_none() {
        let tcp = TrafficSelector { protocol: 6, ..ANY };
        let gre = TrafficSelector { protocol: 47, ..ANY };
        let v6 = TrafficSelector { first: [0; 16].into(), last: [255; 16].into(), ..ANY };
        let asked = [ANY, v6];
        for (local, remote) in [(tcp, gre), (ANY, v6), (v6, tcp)] {
            assert_eq!(accept([&asked, &asked], [&[local], &[remote]]), Err(Unfit::NotOurs));
        }
        assert_eq!(accept([&asked, &asked], [&[], &[ANY]]), Err(Unfit::NotOurs));
        assert!(accept([&asked, &asked], [&[v6, tcp], &[ANY]]).is_ok());
    }

    proptest! {
        /// Packet by packet: narrowing allows what both sides allow, no more and no less.
        #[test]
        fn narrowing_is_the_intersection(
            policy in proptest::collection::vec(selector(), 0..4),
            asked in proptest::collection::vec(selector(), 0..4),
        ) {
            let agreed = narrow(&policy, &asked);
            // From so many on, some may be left out.
            let complete = agreed.len() < SELECTORS_MOST;
            for last in (0..8).filter(|_| complete) {
                for protocol in [6, 17, 47] {
                    for port in 0..6 {
                        let address = IpAddr::from([10, 0, 0, last]);
                        let both = matches(&policy, address, protocol, port) && matches(&asked, address, protocol, port);
                        prop_assert_eq!(matches(&agreed, address, protocol, port), both);
                    }
                }
            }
            prop_assert!(all_covered(&policy, &agreed) && all_covered(&asked, &agreed));
        }
    }
}
