//! Classification: from the five-tuple of a transport packet to the policy that must protect it.

use crate::Prefix;

/// The verdict of a packet that no `permit` rule matches: it may leave in clear.
pub const NO_MATCH: u32 = 0;

/// What an access-list matches in an IPv4 packet, in network byte order, laid out as `rte_acl` reads it: the protocol
/// first, then four-byte fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(4))]
pub struct FiveTuple {
    /// IP protocol.
    pub protocol: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
    /// Source port; zero for protocols without ports.
    pub source_port: [u8; 2],
    /// Destination port; zero for protocols without ports.
    pub destination_port: [u8; 2],
}

const _: () = assert!(size_of::<FiveTuple>() == 16);

/// A compiled crypto map of one port.
///
/// Entries are asked in ascending order. Within an entry the first rule that matches decides: `permit` ends the search
/// with its policy, `deny` goes on with the next entry.
pub trait Classifier {
    /// Gives each key its verdict: [`NO_MATCH`], or the policy's slot plus one. Both slices have the same length, at
    /// most 64.
    fn classify(&self, keys: &[FiveTuple], verdicts: &mut [u32]);
}

/// One rule of a crypto map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Sequence of the crypto-map entry.
    pub entry: u32,
    /// Sequence of the rule in the entry's access-list.
    pub sequence: u32,
    /// Slot of the policy for `permit`, `None` for `deny`.
    pub policy: Option<u32>,
    /// What it matches.
    pub matches: RuleMatch,
}

/// What a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleMatch {
    /// Source and destination prefix, of one family; `None` matches any address of either family.
    pub addresses: Option<(Prefix, Prefix)>,
    /// IP protocol, 0 for any.
    pub protocol: u8,
    /// Source ports.
    pub source_ports: PortMatch,
    /// Destination ports.
    pub destination_ports: PortMatch,
}

/// An inclusive range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortMatch {
    /// Lowest.
    pub low: u16,
    /// Highest.
    pub high: u16,
}

impl PortMatch {
    /// Any port, and packets that have none.
    pub const ANY: Self = Self { low: 0, high: u16::MAX };

    /// Whether this is [`PortMatch::ANY`].
    pub fn is_any(self) -> bool {
        self == Self::ANY
    }

    fn covers(self, port: [u8; 2]) -> bool {
        (self.low..=self.high).contains(&u16::from_be_bytes(port))
    }
}

impl RuleMatch {
    /// Matches every packet.
    pub const ANY: Self = Self {
        addresses: None,
        protocol: 0,
        source_ports: PortMatch::ANY,
        destination_ports: PortMatch::ANY,
    };

    /// Whether an IPv4 packet matches.
    pub fn matches(&self, key: &FiveTuple) -> bool {
        self.matches_without_ports(key)
            && self.source_ports.covers(key.source_port)
            && self.destination_ports.covers(key.destination_port)
    }

    /// Whether addresses and protocol match: what can be said of a fragment that has no ports.
    pub fn matches_without_ports(&self, key: &FiveTuple) -> bool {
        let addresses = match self.addresses {
            None => true,
            Some((source, destination)) => {
                source.covers_v4(u32::from_be_bytes(key.source))
                    && destination.covers_v4(u32::from_be_bytes(key.destination))
            }
        };
        addresses && (self.protocol == 0 || self.protocol == key.protocol)
    }

    /// Whether an IPv6 packet with these addresses matches, as far as addresses and the next header tell.
    pub fn matches_v6(&self, source: &[u8; 16], destination: &[u8; 16], next_header: u8) -> bool {
        let addresses = match self.addresses {
            None => true,
            Some((from, to)) => from.covers_v6(source) && to.covers_v6(destination),
        };
        addresses && (self.protocol == 0 || self.protocol == next_header)
    }
}

/// A classifier that asks each rule in turn: the model for tests, and the slow path for what a compiled one can't see.
#[derive(Clone, Debug, Default)]
pub struct LinearClassifier {
    /// Sorted by entry and sequence.
    rules: Vec<Rule>,
}

impl LinearClassifier {
    /// From rules in any order.
    pub fn new(rules: &[Rule]) -> Self {
        let mut rules = rules.to_vec();
        rules.sort_by_key(|rule| (rule.entry, rule.sequence));
        Self { rules }
    }

    /// The rules, in the order in which they are asked.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The policy of the first entry whose first matching rule is a `permit`.
    pub fn first_permit(&self, mut matches: impl FnMut(&RuleMatch) -> bool) -> Option<u32> {
        let mut denied_entry = None;
        for rule in &self.rules {
            if denied_entry == Some(rule.entry) || !matches(&rule.matches) {
                continue;
            }
            match rule.policy {
                Some(policy) => return Some(policy),
                None => denied_entry = Some(rule.entry),
            }
        }
        None
    }
}

impl Classifier for LinearClassifier {
    fn classify(&self, keys: &[FiveTuple], verdicts: &mut [u32]) {
        for (key, verdict) in keys.iter().zip(verdicts) {
            *verdict = self.first_permit(|rule| rule.matches(key)).map_or(NO_MATCH, |policy| policy + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(entry: u32, sequence: u32, policy: Option<u32>, protocol: u8) -> Rule {
        Rule { entry, sequence, policy, matches: RuleMatch { protocol, ..RuleMatch::ANY } }
    }

    fn verdict(classifier: &LinearClassifier, key: FiveTuple) -> u32 {
        let mut verdicts = [99];
        classifier.classify(&[key], &mut verdicts);
        verdicts[0]
    }

    #[test]
    fn a_deny_goes_on_with_the_next_entry_and_not_with_the_next_rule() {
        let classifier = LinearClassifier::new(&[
            rule(20, 10, Some(7), 6),
            rule(10, 20, Some(5), 0),
            rule(10, 10, None, 6),
        ]);
        let tcp = FiveTuple { protocol: 6, ..FiveTuple::default() };
        let udp = FiveTuple { protocol: 17, ..FiveTuple::default() };
        assert_eq!(verdict(&classifier, tcp), 8);
        assert_eq!(verdict(&classifier, udp), 6);
        assert_eq!(verdict(&LinearClassifier::new(&[rule(1, 1, None, 0)]), udp), NO_MATCH);
    }

    #[test]
    fn addresses_and_ports_are_inclusive_ranges() {
        let source = Prefix::v4(0xc000_0200, 24).unwrap();
        let any = Prefix::v4(0, 0).unwrap();
        let matches = RuleMatch {
            addresses: Some((source, any)),
            protocol: 17,
            source_ports: PortMatch::ANY,
            destination_ports: PortMatch { low: 1000, high: 2000 },
        };
        let key = |last: u8, port: u16| FiveTuple {
            protocol: 17,
            source: [192, 0, 2, last],
            destination_port: port.to_be_bytes(),
            ..FiveTuple::default()
        };
        assert!(matches.matches(&key(1, 1000)) && matches.matches(&key(255, 2000)));
        assert!(!matches.matches(&key(1, 999)) && !matches.matches(&key(1, 2001)));
        assert!(matches.matches_without_ports(&key(1, 999)));
        assert!(!matches.matches(&FiveTuple { source: [192, 0, 3, 1], ..key(1, 1500) }));
        assert!(!matches.matches_v6(&[0; 16], &[0; 16], 17));
    }
}
