//! A crypto map compiled for `rte_acl`.

use packet::{Classifier, FiveTuple, NO_MATCH, Prefix, Rule};

use crate::acl_context::{AclContext, ContextRule, ports_field, prefix_field, protocol_field};
use crate::eal::Eal;
use crate::error::Error;

/// Most keys that one call classifies.
const KEYS_MOST: usize = 64;

/// Result of a `deny`; a `permit` gives its policy plus [`FIRST_PERMIT`].
const DENY: u32 = 1;
const FIRST_PERMIT: u32 = 2;

/// A compiled crypto map: the first rule of an entry decides, `deny` goes on with the next entry.
///
/// `rte_acl` knows only "first match wins". That is the right answer as long as no `deny` has to skip the rest of
/// its own entry and then go on, so consecutive entries share a context until one that holds a `deny` closes it:
///
/// ```text
///   entry 10: permit, permit   \
///   entry 20: permit            } context 0: permit -> policy; deny or nothing -> context 1
///   entry 30: deny, permit     /
///   entry 40: permit           -- context 1: permit -> policy; nothing -> no match
/// ```
///
/// Rules of IPv6 are left out: a [`FiveTuple`] is of an IPv4 packet.
#[derive(Debug, Default)]
pub struct Acl {
    contexts: Vec<AclContext>,
}

impl Acl {
    /// Compiles rules given in any order. Takes up to seconds for tens of thousands: never on a worker.
    ///
    /// # Errors
    /// When DPDK's heap has no room.
    pub fn build(_eal: &Eal, rules: &[Rule]) -> Result<Self, Error> {
        let mut rules: Vec<&Rule> = rules.iter().filter(|rule| !is_v6_only(rule)).collect();
        rules.sort_by_key(|rule| (rule.entry, rule.sequence));
        let mut contexts = Vec::new();
        let mut chain: Vec<ContextRule> = Vec::new();
        for entry in rules.chunk_by(|a, b| a.entry == b.entry) {
            chain.extend(entry.iter().map(|rule| context_rule(rule)));
            if entry.iter().any(|rule| rule.policy.is_none()) {
                contexts.push(AclContext::build(&chain)?);
                chain.clear();
            }
        }
        if !chain.is_empty() {
            contexts.push(AclContext::build(&chain)?);
        }
        Ok(Self { contexts })
    }
}

impl Classifier for Acl {
    fn classify(&self, keys: &[FiveTuple], verdicts: &mut [u32]) {
        for (keys, verdicts) in keys.chunks(KEYS_MOST).zip(verdicts.chunks_mut(KEYS_MOST)) {
            self.classify_chunk(keys, verdicts);
        }
    }
}

impl Acl {
    fn classify_chunk(&self, keys: &[FiveTuple], verdicts: &mut [u32]) {
        verdicts.fill(NO_MATCH);
        let Some(first) = keys.first() else { return };
        // Which keys are still without an answer, and pointers to them.
        let mut pending = [0usize; KEYS_MOST];
        let mut pointers = [first; KEYS_MOST];
        let mut results = [0u32; KEYS_MOST];
        let mut count = 0;
        for (index, key) in keys.iter().enumerate() {
            pending[index] = index;
            pointers[index] = key;
            count += 1;
        }
        for context in &self.contexts {
            if count == 0 {
                return;
            }
            context.classify(&pointers[..count], &mut results[..count]);
            let mut left = 0;
            for position in 0..count {
                let index = pending[position];
                if let Some(policy) = results[position].checked_sub(FIRST_PERMIT) {
                    verdicts[index] = policy + 1;
                } else {
                    pending[left] = index;
                    pointers[left] = pointers[position];
                    left += 1;
                }
            }
            count = left;
        }
    }
}

fn is_v6_only(rule: &Rule) -> bool {
    matches!(rule.matches.addresses, Some((Prefix::V6(..), _) | (_, Prefix::V6(..))))
}

fn context_rule(rule: &Rule) -> ContextRule {
    let address = |prefix: Option<Prefix>| match prefix {
        Some(Prefix::V4(base, len)) => prefix_field(base, len),
        Some(Prefix::V6(..)) | None => prefix_field(0, 0),
    };
    let matches = &rule.matches;
    ContextRule {
        fields: [
            protocol_field(matches.protocol),
            address(matches.addresses.map(|(source, _)| source)),
            address(matches.addresses.map(|(_, destination)| destination)),
            ports_field(matches.source_ports),
            ports_field(matches.destination_ports),
        ],
        result: rule.policy.map_or(DENY, |policy| policy + FIRST_PERMIT),
    }
}
