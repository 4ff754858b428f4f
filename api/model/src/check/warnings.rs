//! What is allowed but probably not meant.

use std::net::IpAddr;

use crate::read::FieldError;
use crate::{
    Desired, Identity, IfName, Insecure, Kind, Name, Peer, PreSharedKey, Secret, Tunnel, TunnelProtection,
};

/// Warnings about one resource as it stands in `desired`.
#[must_use]
pub fn warnings(desired: &Desired, kind: Kind, name: &str) -> Vec<FieldError> {
    match kind {
        Kind::Tunnel => name
            .parse::<IfName>()
            .ok()
            .and_then(|name| desired.tunnels.get(&name))
            .map(|tunnel| of_tunnel(desired, tunnel))
            .unwrap_or_default(),
        Kind::PreSharedKey => name
            .parse::<Name>()
            .ok()
            .and_then(|name| desired.pre_shared_keys.get(&name))
            .map(of_key)
            .unwrap_or_default(),
        Kind::IsakmpPolicy => name
            .parse::<Name>()
            .ok()
            .and_then(|name| desired.isakmp_policies.get(&name))
            .map(|policy| of_insecure(&policy.insecurities()))
            .unwrap_or_default(),
        Kind::TransformSet => name
            .parse::<Name>()
            .ok()
            .and_then(|name| desired.transform_sets.get(&name))
            .map(|set| of_insecure(&set.insecurities()))
            .unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// What `allow_insecure` let through.
fn of_insecure(found: &[(String, Insecure)]) -> Vec<FieldError> {
    found.iter().map(|(at, what)| warning(at, &format!("{what} is insecure: {}", what.reason()))).collect()
}

fn of_key(key: &PreSharedKey) -> Vec<FieldError> {
    let mut found = Vec::new();
    if key.key.as_ref().is_some_and(Secret::is_short) {
        let detail = "is shorter than 20 bytes: such a key can be guessed by anyone who can make us talk to \
                      them (RFC 7296 section 2.15)";
        found.push(warning("/key", detail));
    }
    if matches!(&key.peer, Peer::Prefix(prefix) if prefix.prefix_len() == 0) {
        let detail =
            "every peer without a key of its own shares this one: who has it can pose as any of them";
        found.push(warning("/peer", detail));
    }
    found
}

fn of_tunnel(desired: &Desired, tunnel: &Tunnel) -> Vec<FieldError> {
    let mut found = Vec::new();
    match &tunnel.protection {
        TunnelProtection::None => found.push(warning("/protection", "the tunnel is not encrypted")),
        TunnelProtection::CryptoMap => {
            let map = desired
                .source_interface_of(tunnel)
                .and_then(|(_, interface, _)| interface.crypto_map.as_ref());
            if map.is_none() {
                found.push(warning(
                    "/protection",
                    "the interface has no crypto map: every packet of the tunnel will be dropped",
                ));
            }
        }
        TunnelProtection::IpsecProfile(_) => {
            if desired.isakmp_policies.is_empty() {
                found.push(warning("/protection", "there is no ISAKMP policy yet: the tunnel can't come up"));
            }
            if needs_key(desired, tunnel) && !has_key(desired, tunnel) {
                found.push(warning(
                    "/destination",
                    "there is no pre-shared key for this peer yet: the tunnel can't come up",
                ));
            }
        }
    }
    found
}

/// Whether the peer, or we, prove ourselves by a pre-shared key.
fn needs_key(desired: &Desired, tunnel: &Tunnel) -> bool {
    let TunnelProtection::IpsecProfile(name) = &tunnel.protection else { return false };
    let Some(profile) = desired.ipsec_profiles.get(name) else { return false };
    profile.terms.certificate.is_none() || profile.terms.trusted_certificates.is_empty()
}

fn has_key(desired: &Desired, tunnel: &Tunnel) -> bool {
    let Some(source) = desired.source_of(tunnel) else { return false };
    let by_address = |addr| Identity::Address(IpAddr::V4(addr));
    let remote = tunnel.remote_identity.clone().unwrap_or_else(|| by_address(tunnel.destination));
    let local = tunnel.local_identity.clone().unwrap_or_else(|| by_address(source));
    desired.pre_shared_key_for(IpAddr::V4(tunnel.destination), &remote, &local).is_some()
}

fn warning(pointer: &str, detail: &str) -> FieldError {
    FieldError { pointer: pointer.to_owned(), detail: detail.to_owned() }
}
