//! Narrowing of traffic selectors (RFC 7296 section 2.9): never wider than what both sides named.

use std::fmt::Write;
use std::net::IpAddr;

use crate::TrafficSelector;

/// Most selectors that an agreement may end up with per side.
const MAX_AGREED: usize = 64;

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

/// All pairwise intersections, without those that another one covers.
pub(crate) fn narrow(policy: &[TrafficSelector], asked: &[TrafficSelector]) -> Vec<TrafficSelector> {
    let mut agreed: Vec<TrafficSelector> = Vec::new();
    for asked in asked {
        for policy in policy {
            let Some(common) = intersect(policy, asked) else { continue };
            if agreed.iter().any(|known| covers(known, &common)) {
                continue;
            }
            agreed.retain(|known| !covers(&common, known));
            if agreed.len() < MAX_AGREED {
                agreed.push(common);
            }
        }
    }
    agreed
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
