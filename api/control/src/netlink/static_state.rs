//! Addresses and static routes: what is desired against what the kernel has of ours. Pure.

use std::collections::BTreeSet;

use super::kernel::StaticRoute;
use super::route::{Fate, Route, RouteTable};
use super::{Family, OUR_PROTOCOL};

/// What is to be added and what removed to make `found` into `desired`, duplicates dropped.
pub fn differences<T: Ord + Clone>(desired: &BTreeSet<T>, found: &BTreeSet<T>) -> (Vec<T>, Vec<T>) {
    (desired.difference(found).cloned().collect(), found.difference(desired).cloned().collect())
}

/// Our static routes among the kernel's, in the form in which they are desired.
///
/// `exact` are the desired ones: a route that the kernel completed (the device found by the gateway, the default
/// metric filled in) counts as the desired one that it fits.
pub(crate) fn ours(routes: &[Route], exact: &BTreeSet<StaticRoute>) -> BTreeSet<StaticRoute> {
    routes
        .iter()
        .filter(|route| route.protocol == OUR_PROTOCOL && route.table == RouteTable::Main)
        .filter(|route| route.fate == Fate::Forward)
        .map(|route| {
            let hop = route.hops.first();
            let found = StaticRoute {
                prefix: route.prefix,
                metric: Some(route.metric),
                gateway: hop.and_then(|hop| hop.gateway),
                link: hop.map(|hop| hop.link),
            };
            exact.iter().find(|desired| fits(desired, &found)).cloned().unwrap_or(found)
        })
        .collect()
}

fn fits(desired: &StaticRoute, found: &StaticRoute) -> bool {
    let default_metric = match Family::of(desired.prefix.addr()) {
        Family::V4 => 0,
        // IP6_RT_PRIO_USER.
        Family::V6 => 1024,
    };
    desired.prefix == found.prefix
        && desired.metric.unwrap_or(default_metric) == found.metric.unwrap_or(default_metric)
        && desired.gateway == found.gateway
        && desired.link.is_none_or(|link| found.link == Some(link))
}

#[cfg(test)]
mod tests {
    use super::super::route::Hop;
    use super::*;

    fn kernel_route(prefix: &str, metric: u32, gateway: Option<&str>, link: u32) -> Route {
        Route {
            table: RouteTable::Main,
            prefix: prefix.parse().expect("prefix"),
            metric,
            tos: 0,
            protocol: OUR_PROTOCOL,
            fate: Fate::Forward,
            hops: vec![Hop {
                link,
                gateway: gateway.map(|text| text.parse().expect("address")),
                alive: true,
                carrier: true,
                wraps: false,
            }],
        }
    }

    fn desired(prefix: &str, metric: Option<u32>, gateway: Option<&str>, link: Option<u32>) -> StaticRoute {
        StaticRoute {
            prefix: prefix.parse().expect("prefix"),
            metric,
            gateway: gateway.map(|text| text.parse().expect("address")),
            link,
        }
    }

    #[test]
    fn what_the_kernel_completed_is_what_was_desired() {
        let wanted = BTreeSet::from([
            desired("10.0.0.0/8", None, Some("192.0.2.1"), None),
            desired("2001:db8::/32", None, None, Some(4)),
        ]);
        let kernel = [
            kernel_route("10.0.0.0/8", 0, Some("192.0.2.1"), 9),
            kernel_route("2001:db8::/32", 1024, None, 4),
        ];
        assert_eq!(differences(&wanted, &ours(&kernel, &wanted)), (vec![], vec![]));
    }

    #[test]
    fn a_changed_gateway_is_one_removal_and_one_addition() {
        let wanted = BTreeSet::from([desired("10.0.0.0/8", None, Some("192.0.2.9"), None)]);
        let kernel = [kernel_route("10.0.0.0/8", 0, Some("192.0.2.1"), 9)];
        let (add, remove) = differences(&wanted, &ours(&kernel, &wanted));
        assert_eq!(add, wanted.into_iter().collect::<Vec<_>>());
        assert_eq!(remove, [desired("10.0.0.0/8", Some(0), Some("192.0.2.1"), Some(9))]);
    }

    #[test]
    fn routes_of_others_are_not_ours() {
        let of_ospf = Route { protocol: 188, ..kernel_route("10.0.0.0/8", 20, Some("192.0.2.1"), 9) };
        let by_hand = Route { protocol: 4, ..kernel_route("10.1.0.0/16", 0, None, 9) };
        assert!(ours(&[of_ospf, by_hand], &BTreeSet::new()).is_empty());
    }
}
