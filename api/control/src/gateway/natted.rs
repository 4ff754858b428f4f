//! Tunnels whose ESP goes in UDP (RFC 3948): eight bytes of each packet are not the passenger's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use shm::records::{Address, TunnelRecord, protection};

use super::Gateway;
use crate::compile::{Compiled, Owner, PolicyKey};

impl Gateway {
    /// The MTU of a tunnel's twin and its clamp follow the SA in use. While there is none they stay as they were.
    pub(super) fn watch_nats(&mut self, compiled: &Compiled, now: Instant) {
        let in_udp: BTreeMap<&Owner, bool> =
            self.executor.destinations().map(|(owner, _, udp)| (owner, udp)).collect();
        let is_natted = |(name, record): (&String, &TunnelRecord)| {
            let owner = owner(name, record, compiled)?;
            let natted = in_udp.get(&owner).copied().unwrap_or_else(|| self.executor.is_natted(name));
            natted.then(|| name.clone())
        };
        let natted: BTreeSet<String> = compiled.tunnels.iter().filter_map(is_natted).collect();
        if natted.iter().all(|name| self.executor.is_natted(name))
            && compiled.tunnels.keys().all(|name| natted.contains(name) || !self.executor.is_natted(name))
        {
            return;
        }
        self.executor.set_natted(natted);
        let progress = self.executor.sync(now);
        self.absorb(progress);
        self.apply_devices();
    }
}

/// Whose SA protects a tunnel.
fn owner(name: &str, record: &TunnelRecord, compiled: &Compiled) -> Option<Owner> {
    match record.protection {
        protection::PROFILE => Some(Owner::Tunnel(name.to_owned())),
        protection::CRYPTO_MAP => {
            protecting(record, compiled.policies.iter()).map(|key| Owner::Policy(key.clone()))
        }
        _ => None,
    }
}

/// The flow that a tunnel's GRE packets meet first, of these.
pub(super) fn protecting<'a>(
    tunnel: &TunnelRecord,
    flows: impl Iterator<Item = &'a PolicyKey>,
) -> Option<&'a PolicyKey> {
    const GRE: u8 = 47;
    let (local, remote) = (tunnel.local.to_ip(tunnel.family)?, tunnel.remote.to_ip(tunnel.family)?);
    let holds = |family: u8, base: Address, prefix_len: u8, address: IpAddr| {
        let net = || ipnet::IpNet::new(base.to_ip(family)?, prefix_len).ok();
        family == 0 || net().is_some_and(|net| net.contains(&address))
    };
    flows
        .filter(|key| {
            let selector = key.selector.selector();
            [0, GRE].contains(&selector.protocol)
                && holds(selector.family, selector.source, selector.source_prefix_len, local)
                && holds(selector.family, selector.destination, selector.destination_prefix_len, remote)
        })
        .min_by_key(|key| (key.map_sequence, key.rule_sequence))
}
