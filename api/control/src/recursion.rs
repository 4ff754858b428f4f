//! Recursive routing at run time: a tunnel whose far end is reached through the tunnel itself, or through another one
//! whose far end is reached through the first.
//!
//! Such a tunnel is closed, with its cause; it opens again when the routes lead elsewhere. Closing a tunnel often
//! withdraws the very routes that closed it, so a tunnel that came back waits longer each time before it opens again.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use shm::records::{RouteRecord, TunnelRecord, route};

use crate::tables::Tables;

/// How long a tunnel stays closed after its first recursion.
pub const FIRST_HOLD: Duration = Duration::from_secs(5);
/// How long it stays closed at most.
pub const LONGEST_HOLD: Duration = Duration::from_secs(300);
/// After this long without recursion the count begins anew.
pub const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

/// The far end of each tunnel, by its slot.
pub type FarEnds = BTreeMap<u32, IpAddr>;

/// Far ends of tunnels by slot; of enabled ones, closed or not.
#[must_use]
pub fn far_ends<'a>(tunnels: impl IntoIterator<Item = (u32, &'a TunnelRecord)>) -> FarEnds {
    tunnels
        .into_iter()
        .filter(|(_, tunnel)| tunnel.enabled == 1)
        .filter_map(|(slot, tunnel)| Some((slot, tunnel.remote.to_ip(tunnel.family)?)))
        .collect()
}

/// The tunnels, by slot, whose far end the routes reach only through the tunnel itself, with the slots that the packet
/// enters on its way (the last is the tunnel).
#[must_use]
pub fn recursive(far_ends: &FarEnds, routes: &BTreeMap<IpNet, RouteRecord>) -> BTreeMap<u32, Vec<u32>> {
    let next: BTreeMap<u32, u32> = far_ends
        .iter()
        .filter_map(|(slot, far_end)| {
            let found = Tables::best_route(routes, *far_end)?;
            (found.kind == route::TUNNEL).then_some((*slot, found.target))
        })
        .collect();
    let mut circles = BTreeMap::new();
    for start in next.keys() {
        let mut way = Vec::new();
        let mut seen = BTreeSet::new();
        let mut at = *start;
        while let Some(through) = next.get(&at) {
            way.push(*through);
            if through == start {
                circles.insert(*start, way);
                break;
            }
            if !seen.insert(*through) {
                break;
            }
            at = *through;
        }
    }
    circles
}

/// Which tunnels are closed for recursive routing, and since when they may open again.
#[derive(Debug, Default)]
pub struct Guard {
    /// By name.
    tunnels: BTreeMap<String, Offence>,
}

#[derive(Debug)]
struct Offence {
    /// How often it was closed.
    times: u32,
    /// When the routes last were recursive.
    last: Instant,
    closed: bool,
    cause: String,
}

impl Guard {
    /// Takes in what [`recursive`] found, by name of the tunnel with the names on the way, and returns whether the
    /// closed tunnels changed.
    pub fn observe(&mut self, circles: &BTreeMap<String, Vec<String>>, now: Instant) -> bool {
        let mut changed = false;
        for (name, way) in circles {
            let cause = cause(way);
            let offence = self.tunnels.entry(name.clone()).or_insert(Offence {
                times: 0,
                last: now,
                closed: false,
                cause: String::new(),
            });
            if !offence.closed {
                offence.times += 1;
                offence.closed = true;
                changed = true;
            }
            offence.last = now;
            offence.cause = cause;
        }
        self.tunnels.retain(|name, offence| {
            if circles.contains_key(name) {
                return true;
            }
            if offence.closed && now >= offence.last + hold(offence.times) {
                offence.closed = false;
                changed = true;
            }
            offence.closed || now < offence.last + FORGIVEN_AFTER
        });
        changed
    }

    /// The tunnels that are closed, by name, with the cause as a sentence.
    pub fn closed(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tunnels
            .iter()
            .filter(|(_, offence)| offence.closed)
            .map(|(name, offence)| (name.as_str(), offence.cause.as_str()))
    }

    /// When [`Guard::observe`] may open a tunnel at the earliest.
    #[must_use]
    pub fn wake_at(&self) -> Option<Instant> {
        self.tunnels
            .values()
            .filter(|offence| offence.closed)
            .map(|offence| offence.last + hold(offence.times))
            .min()
    }
}

/// Doubles with each time.
fn hold(times: u32) -> Duration {
    FIRST_HOLD.saturating_mul(1 << times.saturating_sub(1).min(16)).min(LONGEST_HOLD)
}

fn cause(way: &[String]) -> String {
    match way {
        [_] => "recursive routing: the route to its destination leads through the tunnel itself".to_owned(),
        way => format!(
            "recursive routing: the route to its destination leads through {} and so through the tunnel itself",
            way.iter().rev().skip(1).rev().map(String::as_str).collect::<Vec<_>>().join(", ")
        ),
    }
}
