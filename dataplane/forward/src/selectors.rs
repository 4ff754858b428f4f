//! What an SA may carry: just what was agreed for it (RFC 4301 section 4.4.2.1, RFC 7296 section 2.9).

use packet::FiveTuple;
use packet::header::protocol;
use shm::records::{Address, SaRecord, TrafficSelector};

use crate::sa::v4;
use crate::update::RecordError;

/// The traffic selectors of an SA. It carries a packet if one of our side holds its address there, its protocol and its port
/// there, and one of the peer's side those of the other end.
#[derive(Debug)]
pub(crate) struct Selectors {
    /// The first of IPv4 on each side. Most SAs have no others.
    local: Range<u32>,
    remote: Range<u32>,
    /// All of them, where there are others.
    all: Option<Box<All>>,
}

#[derive(Debug)]
struct All {
    local_v4: Vec<Range<u32>>,
    remote_v4: Vec<Range<u32>>,
    local_v6: Vec<Range<u128>>,
    remote_v6: Vec<Range<u128>>,
}

/// One traffic selector, its addresses as numbers.
#[derive(Clone, Copy, Debug)]
struct Range<A> {
    first: A,
    /// Distance from the first address to the last one: one comparison is enough for both ends.
    span: A,
    /// Lowest port, and the highest one in the upper half.
    ports: u32,
    protocol: u8,
}

const ANY_PORTS: u32 = 0xffff_0000;

/// An address.
trait Number: Copy + PartialOrd {
    /// How far it lies behind another one; more than any span where it lies before that.
    fn behind(self, other: Self) -> Self;
}

impl Number for u32 {
    #[inline]
    fn behind(self, other: Self) -> Self {
        self.wrapping_sub(other)
    }
}

impl Number for u128 {
    #[inline]
    fn behind(self, other: Self) -> Self {
        self.wrapping_sub(other)
    }
}

/// One end of a packet. Fragments but the first, and protocols other than TCP and UDP, have no port to be seen: they lie in
/// selectors of any port alone (RFC 4301 section 7).
#[derive(Clone, Copy)]
struct End<A> {
    address: A,
    protocol: u8,
    port: [u8; 2],
    /// Of whatever protocol, there are octets where a port would be.
    has_segment: bool,
}

impl<A: Number> Range<A> {
    #[inline]
    fn holds(&self, end: &End<A>) -> bool {
        end.address.behind(self.first) <= self.span
            && (self.protocol == 0 || self.protocol == end.protocol)
            && (self.ports == ANY_PORTS || self.holds_port(end))
    }

    #[cold]
    fn holds_port(&self, end: &End<A>) -> bool {
        let has_ports = end.has_segment && matches!(end.protocol, protocol::TCP | protocol::UDP);
        let port = u16::from_be_bytes(end.port);
        has_ports && (self.ports as u16..=(self.ports >> 16) as u16).contains(&port)
    }
}

impl Selectors {
    /// From the record of an SA.
    ///
    /// # Errors
    /// A side has no selector, or one that makes no sense.
    pub(crate) fn new(record: &SaRecord) -> Result<Self, RecordError> {
        let local = TrafficSelector::present(&record.local_selectors);
        let remote = TrafficSelector::present(&record.remote_selectors);
        let known = |side: &[TrafficSelector]| {
            let makes_sense = |one: &TrafficSelector| {
                matches!(one.family, 4 | 6)
                    && one.first.bytes <= one.last.bytes
                    && one.ports[0] <= one.ports[1]
            };
            !side.is_empty() && side.iter().all(makes_sense)
        };
        if !(known(local) && known(remote)) {
            return Err(RecordError::Selector);
        }
        let number_v4 = |address: &Address| u32::from_be_bytes(v4(&address.bytes));
        let number_v6 = |address: &Address| u128::from_be_bytes(address.bytes);
        let all = All {
            local_v4: ranges(local, 4, number_v4),
            remote_v4: ranges(remote, 4, number_v4),
            local_v6: ranges(local, 6, number_v6),
            remote_v6: ranges(remote, 6, number_v6),
        };
        let alone = matches!((local, remote), ([local], [remote]) if (local.family, remote.family) == (4, 4));
        let nothing = Range { first: 0, span: 0, ports: 1, protocol: u8::MAX };
        let first = |side: &[Range<u32>]| side.first().copied().unwrap_or(nothing);
        Ok(Self {
            local: first(&all.local_v4),
            remote: first(&all.remote_v4),
            all: (!alone).then(|| Box::new(all)),
        })
    }

    /// Whether the SA may carry an IPv4 packet, by its five-tuple from our side; a fragment but the first has no ports.
    #[inline]
    pub(crate) fn carry(&self, key: &FiveTuple, later_fragment: bool) -> bool {
        let end = |address: [u8; 4], port: [u8; 2]| End {
            address: u32::from_be_bytes(address),
            protocol: key.protocol,
            port,
            has_segment: !later_fragment,
        };
        let ends = [end(key.source, key.source_port), end(key.destination, key.destination_port)];
        (self.local.holds(&ends[0]) && self.remote.holds(&ends[1]))
            || self.all.as_ref().is_some_and(|all| all.carry_v4(&ends))
    }

    /// Whether the SA may carry an IPv6 packet with these addresses, ours first, and this next header; `ports` are the first
    /// octets behind the header, ours first likewise.
    pub(crate) fn carry_v6(
        &self,
        addresses: [[u8; 16]; 2],
        next_header: u8,
        ports: Option<[[u8; 2]; 2]>,
    ) -> bool {
        let [local, remote] = addresses.map(u128::from_be_bytes);
        let [local_port, remote_port] = ports.unwrap_or_default();
        let end = |address, port| End { address, protocol: next_header, port, has_segment: ports.is_some() };
        let ends = [end(local, local_port), end(remote, remote_port)];
        self.all.as_ref().is_some_and(|all| pair(&all.local_v6, &all.remote_v6, &ends))
    }

    /// Whether there are IPv4 addresses between which the SA may carry all of a protocol.
    pub(crate) fn carry_all_of(&self, protocol: u8) -> bool {
        let whole = |range: &Range<u32>| [0, protocol].contains(&range.protocol) && range.ports == ANY_PORTS;
        match &self.all {
            None => whole(&self.local) && whole(&self.remote),
            Some(all) => all.local_v4.iter().any(whole) && all.remote_v4.iter().any(whole),
        }
    }
}

impl All {
    #[cold]
    fn carry_v4(&self, ends: &[End<u32>; 2]) -> bool {
        pair(&self.local_v4, &self.remote_v4, ends)
    }
}

fn pair<A: Number>(local: &[Range<A>], remote: &[Range<A>], ends: &[End<A>; 2]) -> bool {
    local.iter().any(|range| range.holds(&ends[0])) && remote.iter().any(|range| range.holds(&ends[1]))
}

/// Those of one family.
fn ranges<A: Number>(side: &[TrafficSelector], family: u8, number: impl Fn(&Address) -> A) -> Vec<Range<A>> {
    side.iter()
        .filter(|selector| selector.family == family)
        .map(|selector| Range {
            first: number(&selector.first),
            span: number(&selector.last).behind(number(&selector.first)),
            ports: u32::from(selector.ports[0]) | u32::from(selector.ports[1]) << 16,
            protocol: selector.protocol,
        })
        .collect()
}

#[cfg(test)]
mod tests;
