//! IKE connections: one per addresses, identities and ISAKMP policies, with the children of all who agree on them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ike::{
    ChildConfig, ChildId, ChildLifetime, Connection, ConnectionId, Dpd, EspEncryption, EspIntegrity,
    EspProposal, Group, Hash, Identity, IkeEncryption, IkeProposal, Ikev1, KeyEncapsulation, Mode,
    NatTraversal, TrafficSelector, Version,
};
use model::{Desired, IsakmpPolicy, Name, SaTerms};
use shm::records::{Selector, mode};

use super::Child;
use super::authentication::{Certificates, Ends};
use super::names::{Owner, stable_id};

/// Connections as they grow.
pub(super) struct Connections<'a> {
    desired: &'a Desired,
    connections: BTreeMap<ConnectionId, Connection>,
    children: BTreeMap<ChildId, Child>,
    certificates: Certificates,
}

/// What one owner asks for.
pub(super) struct Request<'a> {
    pub(super) owner: Owner,
    pub(super) local: Ipv4Addr,
    pub(super) remote: Ipv4Addr,
    pub(super) local_identity: Option<&'a model::Identity>,
    pub(super) remote_identity: Option<&'a model::Identity>,
    pub(super) terms: &'a SaTerms,
    pub(super) selector: Selector,
    pub(super) start: bool,
}

impl<'a> Connections<'a> {
    pub(super) fn new(desired: &'a Desired) -> Self {
        Self {
            desired,
            connections: BTreeMap::new(),
            children: BTreeMap::new(),
            certificates: Certificates::default(),
        }
    }

    /// Adds a child to the connection that it belongs to, which is made if there is none.
    ///
    /// # Errors
    /// A sentence that says what is missing.
    pub(super) fn add(&mut self, request: Request<'_>) -> Result<(), String> {
        let (local, remote) = (IpAddr::V4(request.local), IpAddr::V4(request.remote));
        let local_identity = request.local_identity.cloned().unwrap_or(model::Identity::Address(local));
        let remote_identity = request.remote_identity.cloned().unwrap_or(model::Identity::Address(remote));
        let policies = self.desired.isakmp_policies_of(request.terms);
        let Some((_, first_policy)) = policies.first() else {
            return Err(format!(
                "there is no ISAKMP policy to offer whose authentication is {}",
                request.terms.authentication()
            ));
        };
        let child_mode = self
            .desired
            .mode_of(request.terms)
            .ok_or_else(|| "none of its transform sets exists".to_owned())?;
        let policy_names: Vec<&Name> = policies.iter().map(|(name, _)| *name).collect();
        let certificates = (&request.terms.certificate, &request.terms.trusted_certificates);
        let ppk = (&request.terms.ppk, request.terms.ppk_required);
        let id = stable_id(&[
            &local,
            &remote,
            &local_identity,
            &remote_identity,
            &policy_names,
            &certificates,
            &ppk,
            &request.terms.nat_traversal,
        ]);
        let id = ConnectionId(id);
        if !self.connections.contains_key(&id) {
            let ends = Ends { remote, local_identity: &local_identity, remote_identity: &remote_identity };
            let authentication = self.certificates.authentication(self.desired, request.terms, &ends)?;
            let version = version(first_policy);
            if let (Version::V1(_), Some(reason)) = (version, authentication.unfit_for_version_1()) {
                return Err(reason.to_owned());
            }
            let connection = Connection {
                id,
                version,
                local,
                remote,
                local_identity: identity(&local_identity),
                remote_identity: identity(&remote_identity),
                authentication,
                ppk: super::authentication::ppk(self.desired, request.terms)?,
                nat_traversal: match request.terms.nat_traversal {
                    model::NatTraversal::Auto => NatTraversal::Auto,
                    model::NatTraversal::Force => NatTraversal::Force,
                },
                proposals: policies.iter().flat_map(|(_, policy)| ike_proposals(policy)).collect(),
                lifetime: Duration::from_secs(u64::from(first_policy.lifetime_secs)),
                dpd: dpd(first_policy),
                children: Vec::new(),
            };
            self.connections.insert(id, connection);
        }
        let child = ChildId(stable_id(&[&id, &request.owner, &child_mode, &request.selector]));
        let (local_selectors, remote_selectors) =
            traffic_selectors(&request.selector, child_mode, request.local, request.remote);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.children.push(ChildConfig {
                id: child,
                mode: ike_mode(child_mode),
                tunnel_fallback: self.desired.falls_back_to_tunnel_mode(request.terms),
                local_selectors,
                remote_selectors,
                proposals: esp_proposals(self.desired, request.terms),
                lifetime: child_lifetime(request.terms),
                start: request.start,
            });
        }
        self.children.insert(
            child,
            Child {
                connection: id,
                owner: request.owner,
                local,
                remote,
                mode: record_mode(child_mode),
                tunnel_fallback: self.desired.falls_back_to_tunnel_mode(request.terms),
                replay_window: request.terms.replay_window,
            },
        );
        Ok(())
    }

    pub(super) fn finish(self) -> (Vec<Connection>, BTreeMap<ChildId, Child>) {
        (self.connections.into_values().collect(), self.children)
    }
}

/// The mode as records write it.
pub(super) fn record_mode(mode: model::Mode) -> u8 {
    match mode {
        model::Mode::Transport => mode::TRANSPORT,
        model::Mode::Tunnel => mode::TUNNEL,
    }
}

fn ike_mode(mode: model::Mode) -> Mode {
    match mode {
        model::Mode::Transport => Mode::Transport,
        model::Mode::Tunnel => Mode::Tunnel,
    }
}

pub(super) fn identity(identity: &model::Identity) -> Identity {
    match identity {
        model::Identity::Address(address) => Identity::Address(*address),
        model::Identity::Fqdn(name) => Identity::Fqdn(name.clone()),
        model::Identity::Email(name) => Identity::Email(name.clone()),
        model::Identity::KeyId(text) => Identity::KeyId(text.clone().into_bytes()),
        model::Identity::DistinguishedName(name) => Identity::DistinguishedName(name.to_der()),
    }
}

/// One proposal for the combined-mode ciphers and one for the others, which alone have an integrity transform
/// (RFC 7296 section 3.3.3).
fn ike_proposals(policy: &IsakmpPolicy) -> Vec<IkeProposal> {
    let prf: Vec<Hash> = policy.hash.iter().copied().map(hash).collect();
    let groups: Vec<Group> = policy.groups.iter().copied().map(group).collect();
    let (combined, others): (Vec<_>, Vec<_>) =
        policy.encryption.iter().copied().partition(|cipher| cipher.is_combined());
    let combined_first = policy.encryption.first().is_some_and(|cipher| cipher.is_combined());
    let additional: Vec<KeyEncapsulation> =
        policy.additional_key_exchanges.iter().copied().map(key_encapsulation).collect();
    let additional = if additional.is_empty() { Vec::new() } else { vec![additional] };
    let proposal = |encryption: Vec<model::IkeEncryption>, integrity: Vec<Hash>| {
        (!encryption.is_empty()).then(|| IkeProposal {
            encryption: encryption.into_iter().map(ike_encryption).collect(),
            integrity,
            prf: prf.clone(),
            groups: groups.clone(),
            additional_key_exchanges: additional.clone(),
            additional_required: policy.require_post_quantum,
        })
    };
    let combined = proposal(combined, Vec::new());
    let others = proposal(others, prf.clone());
    let ordered = if combined_first { [combined, others] } else { [others, combined] };
    ordered.into_iter().flatten().collect()
}

fn version(policy: &IsakmpPolicy) -> Version {
    match policy.version {
        model::IkeVersion::Ikev2 => Version::V2,
        model::IkeVersion::Ikev1 => Version::V1(Ikev1 {
            accept_superset: policy.accept_superset,
            aggressive_mode: policy.aggressive_mode,
        }),
    }
}

fn key_encapsulation(method: model::KeyEncapsulation) -> KeyEncapsulation {
    match method {
        model::KeyEncapsulation::MlKem768 => KeyEncapsulation::MlKem768,
        model::KeyEncapsulation::MlKem1024 => KeyEncapsulation::MlKem1024,
    }
}

fn ike_encryption(encryption: model::IkeEncryption) -> IkeEncryption {
    match encryption {
        model::IkeEncryption::Aes256Gcm => IkeEncryption::Aes256Gcm16,
        model::IkeEncryption::Aes128Gcm => IkeEncryption::Aes128Gcm16,
        model::IkeEncryption::ChaCha20Poly1305 => IkeEncryption::ChaCha20Poly1305,
        model::IkeEncryption::Aes256Cbc => IkeEncryption::Aes256Cbc,
        model::IkeEncryption::Aes192Cbc => IkeEncryption::Aes192Cbc,
        model::IkeEncryption::Aes128Cbc => IkeEncryption::Aes128Cbc,
        model::IkeEncryption::TripleDesCbc => IkeEncryption::TripleDesCbc,
    }
}

fn hash(hash: model::Hash) -> Hash {
    match hash {
        model::Hash::Sha2_256 => Hash::Sha2_256,
        model::Hash::Sha2_384 => Hash::Sha2_384,
        model::Hash::Sha2_512 => Hash::Sha2_512,
        model::Hash::Sha1 => Hash::Sha1,
        model::Hash::Md5 => Hash::Md5,
    }
}

fn group(group: model::Group) -> Group {
    match group {
        model::Group::Curve25519 => Group::Curve25519,
        model::Group::Ecp521 => Group::EcpP521,
        model::Group::Ecp384 => Group::EcpP384,
        model::Group::Ecp256 => Group::EcpP256,
        model::Group::Modp8192 => Group::Modp8192,
        model::Group::Modp6144 => Group::Modp6144,
        model::Group::Modp4096 => Group::Modp4096,
        model::Group::Modp3072 => Group::Modp3072,
        model::Group::Modp2048 => Group::Modp2048,
        model::Group::Modp1536 => Group::Modp1536,
        model::Group::Modp1024 => Group::Modp1024,
    }
}

fn dpd(policy: &IsakmpPolicy) -> Option<Dpd> {
    let interval = Duration::from_secs(u64::from(policy.dpd_interval_secs));
    (!interval.is_zero()).then_some(Dpd { interval })
}

fn esp_proposals(desired: &Desired, terms: &SaTerms) -> Vec<EspProposal> {
    desired
        .transform_sets_of(terms)
        .map(|(_, set)| EspProposal {
            encryption: vec![esp_encryption(set.encryption)],
            integrity: set.integrity.map(esp_integrity).into_iter().collect(),
            groups: terms.pfs_group.map(group).into_iter().collect(),
            esn: if set.esn { vec![true, false] } else { vec![false] },
        })
        .collect()
}

fn esp_encryption(encryption: model::EspEncryption) -> EspEncryption {
    match encryption {
        model::EspEncryption::Aes256Gcm => EspEncryption::Aes256Gcm16,
        model::EspEncryption::Aes128Gcm => EspEncryption::Aes128Gcm16,
        model::EspEncryption::ChaCha20Poly1305 => EspEncryption::ChaCha20Poly1305,
        model::EspEncryption::Aes256Cbc => EspEncryption::Aes256Cbc,
        model::EspEncryption::Aes192Cbc => EspEncryption::Aes192Cbc,
        model::EspEncryption::Aes128Cbc => EspEncryption::Aes128Cbc,
        model::EspEncryption::TripleDesCbc => EspEncryption::TripleDesCbc,
    }
}

fn esp_integrity(integrity: model::EspIntegrity) -> EspIntegrity {
    match integrity {
        model::EspIntegrity::Sha2_256 => EspIntegrity::HmacSha2_256_128,
        model::EspIntegrity::Sha2_384 => EspIntegrity::HmacSha2_384_192,
        model::EspIntegrity::Sha2_512 => EspIntegrity::HmacSha2_512_256,
        model::EspIntegrity::Sha1 => EspIntegrity::HmacSha1_96,
        model::EspIntegrity::Md5 => EspIntegrity::HmacMd5_96,
    }
}

/// The soft limits leave a tenth of the hard ones for the rekey, and at least 30 seconds of the time.
fn child_lifetime(terms: &SaTerms) -> ChildLifetime {
    const MARGIN_LEAST_SECS: u64 = 30;
    let hard_secs = u64::from(terms.lifetime_secs);
    let margin_secs = (hard_secs / 10).max(MARGIN_LEAST_SECS).min(hard_secs / 2);
    let hard_bytes = terms.lifetime_kilobytes.map(|kilobytes| kilobytes.saturating_mul(1024));
    let soft = |hard: u64| hard - hard / 10;
    ChildLifetime {
        soft: Duration::from_secs(hard_secs - margin_secs),
        hard: Duration::from_secs(hard_secs),
        soft_packets: terms.lifetime_packets.map(soft),
        hard_packets: terms.lifetime_packets,
        soft_bytes: hard_bytes.map(soft),
        hard_bytes,
    }
}

/// Our side's and the peer's traffic selectors.
///
/// An address of either family is both families in tunnel mode; in transport mode, where the addresses of the
/// packet are those of the peers (RFC 4301 section 4.1), it is the host itself.
fn traffic_selectors(
    selector: &Selector,
    mode: model::Mode,
    local: Ipv4Addr,
    remote: Ipv4Addr,
) -> (Vec<TrafficSelector>, Vec<TrafficSelector>) {
    let side = |prefix: (IpAddr, IpAddr), ports: [u16; 2]| TrafficSelector {
        first: prefix.0,
        last: prefix.1,
        protocol: selector.protocol,
        ports: (ports[0], ports[1]),
    };
    let both = |ranges: [Vec<(IpAddr, IpAddr)>; 2]| {
        let [source, destination] = ranges;
        (
            source.into_iter().map(|range| side(range, selector.source_ports)).collect(),
            destination.into_iter().map(|range| side(range, selector.destination_ports)).collect(),
        )
    };
    let host = |address: Ipv4Addr| vec![(IpAddr::V4(address), IpAddr::V4(address))];
    match (selector.family, mode) {
        (0, model::Mode::Tunnel) => both([any_range(), any_range()]),
        (0, model::Mode::Transport) => both([host(local), host(remote)]),
        _ => both([
            range(selector.source.to_ip(selector.family), selector.source_prefix_len),
            range(selector.destination.to_ip(selector.family), selector.destination_prefix_len),
        ]),
    }
}

fn any_range() -> Vec<(IpAddr, IpAddr)> {
    let v4 = range(Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), 0);
    let v6 = range(Some(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)), 0);
    [v4, v6].concat()
}

fn range(base: Option<IpAddr>, prefix_len: u8) -> Vec<(IpAddr, IpAddr)> {
    base.and_then(|base| ipnet::IpNet::new(base, prefix_len).ok())
        .map(|net| (net.network(), net.broadcast()))
        .into_iter()
        .collect()
}
