//! A crypto map as it is applied to a port, and the policies that its rules lead to.

use packet::{FiveTuple, LinearClassifier, PortMatch, Prefix, Rule, RuleMatch};
use shm::records::{NONE, PolicyRecord, RuleRecord, Selector};

use crate::update::RecordError;

/// A protected flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Slot of the SA that protects it outbound; `None` drops its packets.
    pub(crate) outbound_sa: Option<u32>,
    /// When an acquire event was last raised, in milliseconds since the Unix epoch; 0 for never.
    pub(crate) acquire_told_ms: u64,
}

impl Policy {
    /// From its record.
    pub fn new(record: &PolicyRecord) -> Self {
        Self { outbound_sa: (record.outbound_sa != NONE).then_some(record.outbound_sa), acquire_told_ms: 0 }
    }
}

/// The rules of a port: compiled for the packets that are many, linear for those that a compiled classifier can't judge.
#[derive(Debug)]
pub struct CryptoMap<C> {
    pub(crate) compiled: C,
    pub(crate) linear: LinearClassifier,
    /// Whether a `permit` looks at ports, so that a fragment can escape it.
    looks_at_ports: bool,
    /// Whether a rule matches IPv6.
    covers_v6: bool,
}

impl<C> CryptoMap<C> {
    /// From the rules of one port and their compiled form.
    pub fn new(rules: &[Rule], compiled: C) -> Self {
        let ports = |rule: &Rule| {
            rule.policy.is_some()
                && !(rule.matches.source_ports.is_any() && rule.matches.destination_ports.is_any())
        };
        let v6 = |rule: &Rule| matches!(rule.matches.addresses, None | Some((Prefix::V6(..), _)));
        Self {
            compiled,
            linear: LinearClassifier::new(rules),
            looks_at_ports: rules.iter().any(ports),
            covers_v6: rules.iter().any(v6),
        }
    }

    /// Whether a fragment, of which at most the first shows ports, could belong to a flow that must be protected by
    /// its ports: it must then not leave in clear.
    pub(crate) fn may_cover_fragment(&self, key: &FiveTuple) -> bool {
        self.looks_at_ports
            && self
                .linear
                .rules()
                .iter()
                .any(|rule| rule.policy.is_some() && rule.matches.matches_without_ports(key))
    }

    /// Whether an IPv6 packet must be protected. No SA carries IPv6 transport: it must then not leave.
    pub(crate) fn covers_v6(&self, source: &[u8; 16], destination: &[u8; 16], next_header: u8) -> bool {
        self.covers_v6
            && self.linear.first_permit(|rule| rule.matches_v6(source, destination, next_header)).is_some()
    }
}

/// What a selector matches.
///
/// # Errors
/// The prefixes make no sense in their family.
fn rule_match(selector: &Selector) -> Result<RuleMatch, RecordError> {
    let wrong = |_| RecordError::Selector;
    let prefix = |bytes: [u8; 16], len: u8| match selector.family {
        4 => Prefix::v4(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]), len).map_err(wrong),
        6 => Prefix::v6(bytes, len).map_err(wrong),
        _ => Err(RecordError::Selector),
    };
    let addresses = match selector.family {
        0 => None,
        _ => Some((
            prefix(selector.source.bytes, selector.source_prefix_len)?,
            prefix(selector.destination.bytes, selector.destination_prefix_len)?,
        )),
    };
    let ports = |[low, high]: [u16; 2]| PortMatch { low, high };
    Ok(RuleMatch {
        addresses,
        protocol: selector.protocol,
        source_ports: ports(selector.source_ports),
        destination_ports: ports(selector.destination_ports),
    })
}

/// A rule from its record.
///
/// # Errors
/// Its selector makes no sense.
pub(crate) fn rule(record: &RuleRecord) -> Result<Rule, RecordError> {
    Ok(Rule {
        entry: record.map_sequence,
        sequence: record.rule_sequence,
        policy: (record.permit != 0).then_some(record.policy),
        matches: rule_match(&record.selector)?,
    })
}
