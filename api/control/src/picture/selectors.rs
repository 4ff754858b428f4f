//! What an SA may carry, in words.

use std::net::IpAddr;

use ipnet::IpNet;
use shm::records::{SaRecord, TrafficSelector};

/// `LOCAL -> REMOTE protocol N`; a side has its selectors separated by commas. A protocol that is not that of all stands with
/// each.
pub(crate) fn selectors_text(record: &SaRecord) -> String {
    let local = TrafficSelector::present(&record.local_selectors);
    let remote = TrafficSelector::present(&record.remote_selectors);
    let first = local.first().map_or(0, |selector| selector.protocol);
    let common = local.iter().chain(remote).all(|selector| selector.protocol == first).then_some(first);
    let side = |selectors: &[TrafficSelector]| {
        let texts: Vec<String> = selectors.iter().map(|selector| text(selector, common.is_some())).collect();
        texts.join(", ")
    };
    format!("{} -> {}{}", side(local), side(remote), protocol_text(common.unwrap_or(0)))
}

fn text(selector: &TrafficSelector, protocol_is_said: bool) -> String {
    let range = (selector.first.to_ip(selector.family), selector.last.to_ip(selector.family));
    let addresses = match range {
        (Some(first), Some(last)) => match prefix(first, last) {
            Some(net) => net.to_string(),
            None => format!("{first}-{last}"),
        },
        _ => String::new(),
    };
    let protocol = if protocol_is_said { String::new() } else { protocol_text(selector.protocol) };
    let ports = match selector.ports {
        [0, u16::MAX] => String::new(),
        [one, same] if one == same => format!(" port {one}"),
        [low, high] => format!(" ports {low}-{high}"),
    };
    format!("{addresses}{protocol}{ports}")
}

fn protocol_text(protocol: u8) -> String {
    match protocol {
        0 => String::new(),
        number => format!(" protocol {number}"),
    }
}

/// The prefix that a range of addresses is, if it is one.
fn prefix(first: IpAddr, last: IpAddr) -> Option<IpNet> {
    let common = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => (first.to_bits() ^ last.to_bits()).leading_zeros(),
        (IpAddr::V6(first), IpAddr::V6(last)) => (first.to_bits() ^ last.to_bits()).leading_zeros(),
        _ => return None,
    };
    let net = IpNet::new(first, u8::try_from(common).ok()?).ok()?;
    (net.network() == first && net.broadcast() == last).then_some(net)
}

#[cfg(test)]
mod tests {
    use shm::records::Address;
    use zerocopy::FromZeros;

    use super::*;

    fn range(first: &str, last: &str) -> TrafficSelector {
        let (family, first) = Address::from_ip(first.parse().unwrap());
        TrafficSelector::range(family, first, last.parse::<IpAddr>().unwrap().into())
    }

    #[test]
    fn says_prefixes_ranges_protocols_and_ports() {
        let mut record = SaRecord::new_zeroed();
        let gre = |address| TrafficSelector { protocol: 47, ..range(address, address) };
        record.local_selectors = gre("192.0.2.1").alone();
        record.remote_selectors = gre("203.0.113.1").alone();
        assert_eq!(selectors_text(&record), "192.0.2.1/32 -> 203.0.113.1/32 protocol 47");
        record.local_selectors[1] = range("10.0.0.5", "10.0.0.9");
        record.remote_selectors[1] = range("2001:db8::", "2001:db8::ffff");
        record.remote_selectors[1].ports = [53, 53];
        assert_eq!(
            selectors_text(&record),
            "192.0.2.1/32 protocol 47, 10.0.0.5-10.0.0.9 -> 203.0.113.1/32 protocol 47, 2001:db8::/112 port 53"
        );
        record.local_selectors = TrafficSelector::ANY_V4.alone();
        record.remote_selectors = TrafficSelector { ports: [1, 9], ..TrafficSelector::ANY_V6 }.alone();
        assert_eq!(selectors_text(&record), "0.0.0.0/0 -> ::/0 ports 1-9");
    }
}
