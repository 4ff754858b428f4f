//! The kernel's routes as this process knows them, kept by announcements and corrected by dumps.
//!
//! An announcement changes the set only where its meaning is beyond doubt. Everything else (appended next hops,
//! replaced siblings, a withdrawal that fits several routes) is answered with [`Effect::Unclear`], and the caller
//! reads the family anew.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::Family;
use super::route::Route;

/// What an announcement did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing that was not known.
    None,
    /// The routes of this prefix changed.
    Changed(IpNet),
    /// The family must be read anew.
    Unclear,
}

/// Routes by prefix; those of one prefix in the order in which the kernel prefers them.
#[derive(Debug, Default)]
pub(super) struct RouteSet {
    routes: BTreeMap<IpNet, Vec<Route>>,
}

impl RouteSet {
    /// Takes in an `RTM_NEWROUTE`; `replaces` and `appends` are its `NLM_F_REPLACE` and `NLM_F_APPEND`.
    pub(super) fn announce(&mut self, route: Route, replaces: bool, appends: bool) -> Effect {
        let prefix = route.prefix;
        let known = self.routes.entry(prefix).or_default();
        if known.contains(&route) {
            return Effect::None;
        }
        let mut siblings = known.iter_mut().filter(|sibling| rank(sibling) == rank(&route));
        match (siblings.next(), siblings.next(), replaces, appends) {
            (None, _, false, _) => {
                let place = known.partition_point(|other| rank(other) <= rank(&route));
                known.insert(place, route);
            }
            (Some(only), None, true, _) => *only = route,
            _ => return Effect::Unclear,
        }
        Effect::Changed(prefix)
    }

    /// Takes in an `RTM_DELROUTE`.
    pub(super) fn withdraw(&mut self, route: &Route) -> Effect {
        let Some(known) = self.routes.get_mut(&route.prefix) else {
            return Effect::None;
        };
        let mut fitting = known.iter().enumerate().filter(|(_, other)| rank(other) == rank(route));
        let (first, second) = (fitting.next(), fitting.next());
        match (first, second) {
            (None, _) => return Effect::None,
            (Some((place, only)), None) if same_way(only, route) => {
                known.remove(place);
            }
            _ => return Effect::Unclear,
        }
        if known.is_empty() {
            self.routes.remove(&route.prefix);
        }
        Effect::Changed(route.prefix)
    }

    /// Takes a dump of one family for the truth; returns the prefixes whose routes differ from before.
    pub(super) fn replace(&mut self, family: Family, dump: Vec<Route>) -> BTreeSet<IpNet> {
        let mut fresh: BTreeMap<IpNet, Vec<Route>> = BTreeMap::new();
        for route in dump {
            let known = fresh.entry(route.prefix).or_default();
            let place = known.partition_point(|other| rank(other) <= rank(&route));
            known.insert(place, route);
        }
        let mut changed: BTreeSet<IpNet> = self
            .routes
            .iter()
            .filter(|(prefix, routes)| {
                Family::of(prefix.addr()) == family && fresh.get(prefix) != Some(routes)
            })
            .map(|(prefix, _)| *prefix)
            .collect();
        changed.extend(fresh.keys().filter(|prefix| !self.routes.contains_key(prefix)));
        self.routes.retain(|prefix, _| Family::of(prefix.addr()) != family);
        self.routes.append(&mut fresh);
        changed
    }

    /// The routes of a prefix, best first.
    #[must_use]
    pub(super) fn of(&self, prefix: &IpNet) -> &[Route] {
        self.routes.get(prefix).map_or(&[], Vec::as_slice)
    }

    /// All prefixes.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.routes.keys().copied()
    }
}

/// What orders the routes of a prefix: the kernel asks the local table first, then goes by metric.
fn rank(route: &Route) -> (super::route::RouteTable, u32, u8) {
    (route.table, route.metric, route.tos)
}

/// Whether a withdrawal names this route: same fate, same hops. Whether a hop was alive does not matter.
fn same_way(known: &Route, withdrawn: &Route) -> bool {
    let way = |route: &Route| route.hops.iter().map(|hop| (hop.link, hop.gateway)).collect::<Vec<_>>();
    known.fate == withdrawn.fate && way(known) == way(withdrawn)
}

#[cfg(test)]
mod tests {
    use super::super::route::{Fate, Hop, RouteTable};
    use super::*;

    fn route(prefix: &str, metric: u32, gateway: &str) -> Route {
        Route {
            table: RouteTable::Main,
            prefix: prefix.parse().expect("prefix"),
            metric,
            tos: 0,
            protocol: 4,
            fate: Fate::Forward,
            hops: vec![Hop {
                link: 1,
                gateway: gateway.parse().ok(),
                alive: true,
                carrier: true,
                wraps: false,
            }],
        }
    }

    fn gateways(set: &RouteSet, prefix: &str) -> Vec<String> {
        let prefix = prefix.parse().expect("prefix");
        set.of(&prefix).iter().filter_map(|route| Some(route.hops.first()?.gateway?.to_string())).collect()
    }

    #[test]
    fn the_lowest_metric_comes_first() {
        let mut set = RouteSet::default();
        set.announce(route("10.0.0.0/8", 20, "1.1.1.20"), false, false);
        set.announce(route("10.0.0.0/8", 10, "1.1.1.10"), false, false);
        set.announce(route("10.0.0.0/8", 15, "1.1.1.15"), false, false);
        assert_eq!(gateways(&set, "10.0.0.0/8"), ["1.1.1.10", "1.1.1.15", "1.1.1.20"]);
    }

    #[test]
    fn a_replacement_takes_the_place_of_the_one_route_of_its_metric() {
        let mut set = RouteSet::default();
        set.announce(route("10.0.0.0/8", 0, "1.1.1.1"), false, false);
        let effect = set.announce(route("10.0.0.0/8", 0, "1.1.1.2"), true, false);
        assert_eq!(effect, Effect::Changed("10.0.0.0/8".parse().expect("prefix")));
        assert_eq!(gateways(&set, "10.0.0.0/8"), ["1.1.1.2"]);
    }

    #[test]
    fn an_appended_sibling_asks_for_a_dump() {
        let mut set = RouteSet::default();
        set.announce(route("2001:db8::/32", 1024, "fe80::1"), false, false);
        assert_eq!(set.announce(route("2001:db8::/32", 1024, "fe80::2"), false, true), Effect::Unclear);
    }

    #[test]
    fn a_withdrawal_of_another_way_asks_for_a_dump() {
        let mut set = RouteSet::default();
        set.announce(route("10.0.0.0/8", 0, "1.1.1.1"), false, false);
        assert_eq!(set.withdraw(&route("10.0.0.0/8", 0, "9.9.9.9")), Effect::Unclear);
        assert_eq!(set.withdraw(&route("10.0.0.0/8", 5, "1.1.1.1")), Effect::None);
        assert!(matches!(set.withdraw(&route("10.0.0.0/8", 0, "1.1.1.1")), Effect::Changed(_)));
        assert_eq!(set.prefixes().count(), 0);
    }

    #[test]
    fn a_dump_names_what_differs_in_its_family_only() {
        let mut set = RouteSet::default();
        for prefix in ["10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32"] {
            set.announce(route(prefix, 0, "1.1.1.1"), false, false);
        }
        let changed = set
            .replace(Family::V4, vec![route("10.0.0.0/8", 0, "1.1.1.1"), route("10.2.0.0/16", 0, "1.1.1.1")]);
        let names: Vec<_> = changed.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["10.1.0.0/16", "10.2.0.0/16"]);
        assert_eq!(set.prefixes().count(), 3);
    }
}
