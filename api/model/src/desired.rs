//! Everything that the operator desires, by name.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use crate::identity::Identity;
use crate::mtu::{Encapsulation, Esp, Framing, TransportFamily};
use crate::{
    AccessList, Certificate, CryptoMap, IfName, IkeVersion, Interface, IpsecProfile, IsakmpPolicy, Kind,
    Mode, Name, NatTraversal, Ppk, PreSharedKey, Resource, Route, SaTerms, Site, TransformSet, Tunnel,
    TunnelProtection, TunnelSource,
};

/// All resources of one generation. Its references hold: the store lets none dangle.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the fields are the resources")]
pub struct Desired {
    /// Grows with every change of any resource.
    pub generation: u64,
    pub sites: BTreeMap<Name, Site>,
    pub interfaces: BTreeMap<IfName, Interface>,
    pub isakmp_policies: BTreeMap<Name, IsakmpPolicy>,
    /// With the keys opened when the store was asked for them, otherwise without.
    pub pre_shared_keys: BTreeMap<Name, PreSharedKey>,
    /// Likewise.
    pub ppks: BTreeMap<Name, Ppk>,
    /// With the private keys opened when the store was asked for them, otherwise without.
    pub certificates: BTreeMap<Name, Certificate>,
    pub transform_sets: BTreeMap<Name, TransformSet>,
    pub ipsec_profiles: BTreeMap<Name, IpsecProfile>,
    pub access_lists: BTreeMap<Name, AccessList>,
    pub crypto_maps: BTreeMap<Name, CryptoMap>,
    pub tunnels: BTreeMap<IfName, Tunnel>,
    pub routes: BTreeMap<Name, Route>,
}

impl Desired {
    /// Whether there is a resource of this kind and name.
    #[must_use]
    pub fn contains(&self, kind: Kind, name: &str) -> bool {
        match kind {
            Kind::Site => self.has::<Site>(name),
            Kind::Interface => self.has::<Interface>(name),
            Kind::IsakmpPolicy => self.has::<IsakmpPolicy>(name),
            Kind::PreSharedKey => self.has::<PreSharedKey>(name),
            Kind::Ppk => self.has::<Ppk>(name),
            Kind::Certificate => self.has::<Certificate>(name),
            Kind::TransformSet => self.has::<TransformSet>(name),
            Kind::IpsecProfile => self.has::<IpsecProfile>(name),
            Kind::AccessList => self.has::<AccessList>(name),
            Kind::CryptoMap => self.has::<CryptoMap>(name),
            Kind::Tunnel => self.has::<Tunnel>(name),
            Kind::Route => self.has::<Route>(name),
        }
    }

    fn has<R: Resource>(&self, name: &str) -> bool {
        name.parse::<R::Name>().is_ok_and(|name| R::of(self).contains_key(&name))
    }

    /// The address that a tunnel begins at: of the interface that it names, or its own if an interface bears it.
    #[must_use]
    pub fn source_of(&self, tunnel: &Tunnel) -> Option<Ipv4Addr> {
        self.source_interface_of(tunnel).map(|(_, _, addr)| addr)
    }

    /// The interface that a tunnel begins at, and its address there.
    #[must_use]
    pub fn source_interface_of(&self, tunnel: &Tunnel) -> Option<(&IfName, &Interface, Ipv4Addr)> {
        match &tunnel.source {
            TunnelSource::Interface(name) => {
                let (name, interface) = self.interfaces.get_key_value(name)?;
                first_ipv4(interface).map(|addr| (name, interface, addr))
            }
            TunnelSource::Address(addr) => self
                .interfaces
                .iter()
                .find(|(_, interface)| interface.addresses.iter().any(|own| own.addr() == IpAddr::V4(*addr)))
                .map(|(name, interface)| (name, interface, *addr)),
        }
    }

    /// The transform sets that terms name, best first.
    pub fn transform_sets_of<'a>(
        &'a self,
        terms: &'a SaTerms,
    ) -> impl Iterator<Item = (&'a Name, &'a TransformSet)> {
        terms.transform_sets.iter().filter_map(|name| self.transform_sets.get_key_value(name))
    }

    /// The ISAKMP policies that terms name, in that order; when they name none, all of IKEv2 by priority whose
    /// method of authentication is that of the terms: version 1 is never fallen back to.
    #[must_use]
    pub fn isakmp_policies_of<'a>(&'a self, terms: &'a SaTerms) -> Vec<(&'a Name, &'a IsakmpPolicy)> {
        if terms.isakmp_policies.is_empty() {
            let fits = |policy: &IsakmpPolicy| {
                policy.version == IkeVersion::Ikev2 && policy.authentication == terms.authentication()
            };
            let mut all: Vec<_> = self.isakmp_policies.iter().filter(|(_, policy)| fits(policy)).collect();
            all.sort_by_key(|(name, policy)| (policy.priority, *name));
            return all;
        }
        terms.isakmp_policies.iter().filter_map(|name| self.isakmp_policies.get_key_value(name)).collect()
    }

    /// The mode of terms that is asked for: that of their first transform set.
    #[must_use]
    pub fn mode_of(&self, terms: &SaTerms) -> Option<Mode> {
        self.transform_sets_of(terms).next().map(|(_, set)| set.mode)
    }

    /// Whether tunnel mode is taken where a peer declines transport mode: some of the transform sets are of each.
    #[must_use]
    pub fn falls_back_to_tunnel_mode(&self, terms: &SaTerms) -> bool {
        let of_tunnel_mode = self.transform_sets_of(terms).any(|(_, set)| set.mode == Mode::Tunnel);
        of_tunnel_mode && self.mode_of(terms) == Some(Mode::Transport)
    }

    /// The key for a peer at `address` that is to prove `remote`, on a connection on which we are `local`: the best
    /// match of the peer; of equal ones that which asks for our identity.
    #[must_use]
    pub fn pre_shared_key_for(
        &self,
        address: IpAddr,
        remote: &Identity,
        local: &Identity,
    ) -> Option<(&Name, &PreSharedKey)> {
        self.pre_shared_keys
            .iter()
            .filter(|(_, key)| key.local_identity.as_ref().is_none_or(|identity| identity == local))
            .filter_map(|(name, key)| {
                let score = (key.peer.matches(address, remote)?, key.local_identity.is_some());
                Some((score, name, key))
            })
            .max_by_key(|(score, _, _)| *score)
            .map(|(_, name, key)| (name, key))
    }

    /// The exact largest passenger packet of a tunnel in bytes, from the MTU of the interface that it begins at.
    #[must_use]
    pub fn exact_mtu_bytes(&self, tunnel: &Tunnel) -> Option<u32> {
        let (_, interface, _) = self.source_interface_of(tunnel)?;
        Some(self.passenger_mtu_bytes(tunnel, interface.mtu_bytes, false))
    }

    /// The largest passenger packet of a tunnel that fits a link of this MTU with whichever of its transform sets the
    /// peer chooses; with `natted` ESP goes in UDP, as it always does where the terms force it.
    #[must_use]
    pub fn passenger_mtu_bytes(&self, tunnel: &Tunnel, link_mtu_bytes: u32, natted: bool) -> u32 {
        let around =
            |esp| Encapsulation { family: TransportFamily::Ipv4, gre_key: tunnel.key.is_some(), esp };
        let fits = |esp| around(esp).passenger_mtu_bytes(link_mtu_bytes);
        // What fits with the least overhead depends on the link: blocks are filled or not.
        let esp = self.esp_of(tunnel).into_iter();
        let natted = |esp: Esp| Esp { udp_encapsulation: esp.udp_encapsulation || natted, ..esp };
        let least = esp.map(|esp| fits(Some(natted(esp)))).min();
        least.unwrap_or_else(|| fits(None))
    }

    /// The ESP that may go around the GRE of a tunnel where there is no NAT; none where it has no protection.
    fn esp_of(&self, tunnel: &Tunnel) -> Vec<Esp> {
        match &tunnel.protection {
            TunnelProtection::None => Vec::new(),
            TunnelProtection::IpsecProfile(name) => {
                let profile = self.ipsec_profiles.get(name).into_iter();
                profile.flat_map(|profile| self.esp_by(&profile.terms)).collect()
            }
            TunnelProtection::CryptoMap => self.crypto_map_esp(tunnel),
        }
    }

    fn esp_by<'a>(&'a self, terms: &'a SaTerms) -> impl Iterator<Item = Esp> + 'a {
        let udp_encapsulation = terms.nat_traversal == NatTraversal::Force;
        self.transform_sets_of(terms).map(move |(_, set)| Esp {
            mode: set.mode,
            udp_encapsulation,
            framing: set.framing(),
        })
    }

    /// What the crypto map of a tunnel's interface may add: all that its entries towards the destination allow, in tunnel
    /// mode if any of them has it.
    fn crypto_map_esp(&self, tunnel: &Tunnel) -> Vec<Esp> {
        let entries = self
            .source_interface_of(tunnel)
            .and_then(|(_, interface, _)| interface.crypto_map.as_ref())
            .and_then(|name| self.crypto_maps.get(name))
            .map_or(&[][..], |map| &map.entries);
        let all = |towards_the_peer: bool| {
            let entries =
                entries.iter().filter(move |entry| !towards_the_peer || entry.peer == tunnel.destination);
            entries.flat_map(|entry| self.esp_by(&entry.terms)).collect::<Vec<_>>()
        };
        let mut found = all(true);
        // With no entry towards the peer itself the GRE packet rides to some other gateway: tunnel mode.
        let rides = found.is_empty();
        if rides {
            found = all(false);
        }
        if rides && found.is_empty() {
            found.push(Esp { mode: Mode::Tunnel, udp_encapsulation: false, framing: Framing::COMBINED });
        }
        if rides || found.iter().any(|esp| esp.mode == Mode::Tunnel) {
            found.iter_mut().for_each(|esp| esp.mode = Mode::Tunnel);
        }
        found
    }
}

pub(crate) fn first_ipv4(interface: &Interface) -> Option<Ipv4Addr> {
    interface.addresses.iter().find_map(|address| match address.addr() {
        IpAddr::V4(addr) => Some(addr),
        IpAddr::V6(_) => None,
    })
}
