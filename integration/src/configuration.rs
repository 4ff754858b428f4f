//! What the lab's gateways are told, as bodies of REST requests.

use anyhow::Result;
use serde_json::{Value, json};

use crate::api::Api;
use crate::foreign::Mode;
use crate::lab::{SITES, Site};

/// Interfaces, routes over the underlay and IKE policy of a gateway.
pub fn base(api: &Api, site: Site) -> Result<()> {
    let [red4, red6] = site.red_gateway();
    api.put(&format!("/v1/sites/{}", site.name), &json!({"networks": [site.red4(), site.red6()]}))?;
    api.put("/v1/interfaces/black0", &black(site))?;
    api.put(
        "/v1/interfaces/red0",
        &json!({"device": "af_packet:eth-red", "side": "red", "addresses": [red4, red6]}),
    )?;
    // No default route: what has no route through a tunnel must not leave by the black side.
    for far in SITES.into_iter().filter(|far| *far != site) {
        let destination = format!("{}/24", far.black_network());
        let route = json!({"destination": destination, "gateway": site.router(), "interface": "black0"});
        api.put(&format!("/v1/routes/underlay-{}", far.name), &route)?;
    }
    let policy =
        json!({"priority": 10, "encryption": ["aes-256-gcm"], "hash": ["sha2-256"], "groups": [31, 19]});
    api.put("/v1/isakmp-policies/main", &policy)?;
    Ok(())
}

/// The isakmp-policy of [`version_1`].
pub const VERSION_1: &str = "/v1/isakmp-policies/old";

/// IKEv1 with AES-256, SHA-256 and group 14.
pub fn version_1() -> Value {
    json!({
        "priority": 20, "version": "ikev1", "encryption": ["aes-256-cbc"], "hash": ["sha2-256"], "groups": [14],
        "allow_insecure": ["ikev1"],
    })
}

/// The black interface of a gateway.
pub fn black(site: Site) -> Value {
    let address = format!("{}/24", site.black());
    json!({"device": "af_packet:eth-black", "side": "black", "addresses": [address]})
}

/// A pre-shared key for a peer.
pub fn pre_shared_key(api: &Api, peer: Site, key: &str) -> Result<()> {
    let body = json!({"peer": peer.black(), "key": key});
    api.put(&format!("/v1/pre-shared-keys/{}", peer.name), &body).map(drop)
}

/// A tunnel to `peer` under an ipsec-profile (tunnel protection), AES-256-GCM in transport mode, and the IPv6 route
/// through it; IPv4 routes are OSPF's, or [`static_routes`].
pub fn protected_tunnel(api: &Api, own: Site, peer: Site, key: &str) -> Result<()> {
    pre_shared_key(api, peer, key)?;
    api.put("/v1/transform-sets/aes256", &json!({"encryption": "aes-256-gcm", "mode": "transport"}))?;
    api.put("/v1/ipsec-profiles/main", &profile())?;
    api.put(&format!("/v1/tunnels/to-{}", peer.name), &tunnel(own, peer, &json!({"ipsec_profile": "main"})))?;
    route6(api, peer)
}

/// The ipsec-profile of [`protected_tunnel`].
pub fn profile() -> Value {
    json!({"transform_sets": ["aes256"], "pfs_group": 31})
}

/// Body of a tunnel.
pub fn tunnel(own: Site, peer: Site, protection: &Value) -> Value {
    json!({
        "source": "black0",
        "destination": peer.black(),
        "addresses": [format!("{}/30", inside(own, peer))],
        "protection": protection,
    })
}

/// Address of `own` on the tunnel between two sites: `172.16.12.1` and `.2` between sites 1 and 2.
pub fn inside(own: Site, peer: Site) -> String {
    let (low, high) = (own.number.min(peer.number), own.number.max(peer.number));
    format!("172.16.{low}{high}.{}", if own.number == low { 1 } else { 2 })
}

/// A tunnel to a foreign peer that a crypto map on the black interface protects: `permit gre host OWN host PEER`.
/// Its MTU is a round one, as people write it when the two ends compute differently.
pub fn crypto_mapped_tunnel(
    api: &Api,
    own: Site,
    peer: Site,
    transform_set: &Value,
    key: &str,
) -> Result<()> {
    pre_shared_key(api, peer, key)?;
    api.put(TRANSFORM_SET_OF_MAP, transform_set)?;
    let rule = json!({
        "sequence": 10, "action": "permit", "protocol": "gre", "source": own.black(), "destination": peer.black(),
    });
    api.put("/v1/access-lists/to-peer", &json!({"rules": [rule]}))?;
    api.put(CRYPTO_MAP, &crypto_map(peer, &json!({})))?;
    let mut interface = black(own);
    interface["crypto_map"] = json!("outside");
    api.put("/v1/interfaces/black0", &interface)?;
    let mut body = tunnel(own, peer, &json!("crypto-map"));
    body["mtu_bytes"] = json!(1380);
    api.put(&format!("/v1/tunnels/to-{}", peer.name), &body)?;
    route6(api, peer)
}

/// The crypto map of [`crypto_mapped_tunnel`].
pub const CRYPTO_MAP: &str = "/v1/crypto-maps/outside";

/// What it is towards a peer, with these fields in its one entry too.
pub fn crypto_map(peer: Site, fields: &Value) -> Value {
    let mut entry = json!({
        "sequence": 10, "access_list": "to-peer", "transform_sets": ["to-peer"], "peer": peer.black(),
    });
    merge(&mut entry, fields);
    json!({"entries": [entry]})
}

/// Puts these fields into a body.
pub fn merge(body: &mut Value, fields: &Value) {
    for (name, value) in fields.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
}

/// The transform-set that the crypto map of [`crypto_mapped_tunnel`] names.
pub const TRANSFORM_SET_OF_MAP: &str = "/v1/transform-sets/to-peer";

/// A transform-set with AES-128-GCM, in the mode given.
pub fn aes_128_gcm(mode: Mode) -> Value {
    json!({"encryption": "aes-128-gcm", "mode": mode.word()})
}

/// The IPv4 route through the tunnel, where no OSPF runs.
pub fn static_routes(api: &Api, peer: Site) -> Result<()> {
    let body = json!({"destination": peer.red4(), "tunnel": format!("to-{}", peer.name)});
    api.put(&format!("/v1/routes/{}-v4", peer.name), &body).map(drop)
}

fn route6(api: &Api, peer: Site) -> Result<()> {
    let body = json!({"destination": peer.red6(), "tunnel": format!("to-{}", peer.name)});
    api.put(&format!("/v1/routes/{}-v6", peer.name), &body).map(drop)
}
