//! What is compiled of small laboratories.

use ike::{IkeEncryption, Mode};
use model::{Desired, Resource};
use serde_json::{Value, json};
use shm::records::{NONE, mode, protection};
use shm::{Capacities, Record, name_text};

use super::*;

/// A resource out of JSON, as the API takes it.
pub(crate) fn set<R: Resource + serde::de::DeserializeOwned>(desired: &mut Desired, name: &str, body: Value)
where
    R::Name: std::str::FromStr,
{
    let Ok(name) = name.parse() else { panic!("{name} is no name") };
    R::of_mut(desired).insert(name, serde_json::from_value(body).expect("a resource"));
}

/// A gateway with a red and a black port, an IPsec profile and a crypto map that is not applied yet.
pub(crate) fn gateway() -> Desired {
    let mut desired = Desired { generation: 7, ..Desired::default() };
    set::<model::Interface>(
        &mut desired,
        "black0",
        json!({"device": "af_packet:ethblack", "side": "black", "addresses": ["2001:db8::1/64", "192.0.2.1/24"]}),
    );
    set::<model::Interface>(
        &mut desired,
        "red0",
        json!({"device": "af_packet:ethred", "side": "red", "addresses": ["10.1.0.1/24"]}),
    );
    set::<model::IsakmpPolicy>(
        &mut desired,
        "second",
        json!({"priority": 20, "encryption": ["aes-256-cbc", "aes-128-gcm"], "hash": ["sha2-384"], "groups": [14]}),
    );
    set::<model::IsakmpPolicy>(
        &mut desired,
        "first",
        json!({"priority": 10, "encryption": ["aes-256-gcm"], "hash": ["sha2-256"], "groups": [31, 19],
               "lifetime_secs": 7200, "dpd_interval_secs": 10}),
    );
    set::<model::TransformSet>(
        &mut desired,
        "transport",
        json!({"encryption": "aes-256-gcm", "mode": "transport"}),
    );
    set::<model::TransformSet>(
        &mut desired,
        "tunnel",
        json!({"encryption": "aes-128-gcm", "mode": "tunnel", "esn": false}),
    );
    set::<model::IpsecProfile>(
        &mut desired,
        "branch",
        json!({"transform_sets": ["transport"], "pfs_group": 31, "lifetime_packets": 10_000}),
    );
    set::<model::AccessList>(
        &mut desired,
        "to-gamma",
        json!({"rules": [
            {"sequence": 5, "action": "deny", "protocol": "icmp", "source": "any", "destination": "any"},
            {"sequence": 10, "action": "permit", "protocol": "gre", "source": "192.0.2.1", "destination": "198.51.100.3"},
            {"sequence": 20, "action": "permit", "protocol": "ip", "source": "10.1.0.0/16", "destination": "10.3.0.0/16"},
        ]}),
    );
    set::<model::CryptoMap>(
        &mut desired,
        "outside",
        json!({"entries": [{"sequence": 10, "access_list": "to-gamma", "transform_sets": ["tunnel"], "peer": "198.51.100.3"}]}),
    );
    key(&mut desired, "beta", "198.51.100.2");
    key(&mut desired, "gamma", "198.51.100.3");
    desired
}

pub(crate) fn key(desired: &mut Desired, name: &str, peer: &str) {
    set::<model::PreSharedKey>(
        desired,
        name,
        json!({"peer": peer, "key": format!("a secret shared with {name}")}),
    );
}

pub(crate) fn tunnel(desired: &mut Desired, name: &str, destination: &str, protection: Value) {
    set::<model::Tunnel>(
        desired,
        name,
        json!({"source": "black0", "destination": destination, "addresses": ["10.255.0.1/30"], "protection": protection}),
    );
}

pub(crate) fn apply_crypto_map(desired: &mut Desired) {
    set::<model::Interface>(
        desired,
        "black0",
        json!({"device": "af_packet:ethblack", "side": "black", "addresses": ["2001:db8::1/64", "192.0.2.1/24"],
               "crypto_map": "outside"}),
    );
}

fn branch() -> Value {
    json!({"ipsec_profile": "branch"})
}

#[test]
fn a_tunnel_with_a_profile_gets_an_exact_mtu_and_a_child_of_its_own() {
    let mut desired = gateway();
    tunnel(&mut desired, "gre1", "198.51.100.2", branch());
    let compiled = compile(&desired);
    assert_eq!(compiled.problems, []);
    let record = compiled.tunnels["gre1"];
    assert_eq!(record.validate(&Capacities::small()), Ok(()));
    assert_eq!((record.mtu_bytes, record.tcp_mss_bytes), (1442, 1402));
    assert_eq!((record.protection, record.outbound_sa), (protection::PROFILE, NONE));
    assert_eq!(record.local.to_ip(4), Some([192, 0, 2, 1].into()));

    let [connection] = compiled.connections.as_slice() else { panic!("one connection") };
    assert_eq!(connection.lifetime.as_secs(), 7200);
    assert_eq!(connection.dpd.map(|dpd| dpd.interval.as_secs()), Some(10));
    // Policies by priority; of the second the CBC cipher, which comes first, apart from the combined one.
    let ciphers: Vec<_> = connection.proposals.iter().map(|proposal| proposal.encryption.clone()).collect();
    assert_eq!(
        ciphers,
        [[IkeEncryption::Aes256Gcm16], [IkeEncryption::Aes256Cbc], [IkeEncryption::Aes128Gcm16]]
    );
    let integrity: Vec<_> = connection.proposals.iter().map(|proposal| proposal.integrity.len()).collect();
    assert_eq!(integrity, [0, 1, 0]);
    let [child] = connection.children.as_slice() else { panic!("one child") };
    assert_eq!((child.mode, child.start), (Mode::Transport, true));
    let [selector] = child.local_selectors.as_slice() else { panic!("one selector") };
    assert_eq!((selector.first, selector.last, selector.protocol), (connection.local, connection.local, 47));
    assert_eq!(child.proposals[0].esn, [true, false]);
    assert_eq!((child.lifetime.soft_packets, child.lifetime.hard_packets), (Some(9_000), Some(10_000)));
    assert_eq!((child.lifetime.soft.as_secs(), child.lifetime.hard.as_secs()), (3240, 3600));
}

#[test]
fn tunnels_to_one_peer_share_a_connection_and_identities_part_them() {
    let mut desired = gateway();
    tunnel(&mut desired, "gre1", "198.51.100.2", branch());
    set::<model::Tunnel>(
        &mut desired,
        "gre2",
        json!({"source": "192.0.2.1", "destination": "198.51.100.2", "key": 9, "protection": branch()}),
    );
    let compiled = compile(&desired);
    assert_eq!(compiled.connections.len(), 1);
    assert_eq!(compiled.connections[0].children.len(), 2);
    assert_eq!(compiled.tunnels["gre2"].mtu_bytes, 1438);
    set::<model::Tunnel>(
        &mut desired,
        "gre2",
        json!({"source": "192.0.2.1", "destination": "198.51.100.2", "key": 9, "protection": branch(),
               "local_identity": "alpha.example.net"}),
    );
    assert_eq!(compile(&desired).connections.len(), 2);
}

#[test]
fn ids_stay_when_something_else_changes() {
    let mut desired = gateway();
    tunnel(&mut desired, "gre1", "198.51.100.2", branch());
    let before = compile(&desired);
    tunnel(&mut desired, "gre0", "198.51.100.3", branch());
    desired.generation += 1;
    let after = compile(&desired);
    let owner = Owner::Tunnel("gre1".to_owned());
    assert_eq!(before.child_of(&owner), after.child_of(&owner));
    assert_eq!(after.children.len(), 2);
}

#[test]
fn a_missing_key_is_named_and_the_tunnel_stays_closed() {
    let mut desired = gateway();
    tunnel(&mut desired, "gre1", "198.51.100.9", branch());
    let compiled = compile(&desired);
    assert!(compiled.connections.is_empty());
    assert_eq!(compiled.tunnels["gre1"].protection, protection::PROFILE);
    let object = Object::Tunnel("gre1".to_owned());
    let problems: Vec<_> = compiled.problems_of(&object).collect();
    assert_eq!(
        problems,
        [
            "no pre-shared key matches the peer 198.51.100.9 with the identity 198.51.100.9, us being 192.0.2.1"
        ]
    );
}

#[test]
fn the_exact_peer_wins_over_prefixes_and_the_longer_prefix_over_the_shorter() {
    let mut desired = gateway();
    tunnel(&mut desired, "gre1", "198.51.100.2", branch());
    let chosen = |desired: &Desired| {
        let connection = &compile(desired).connections[0];
        connection.authentication.shared_key().expect("a key on both sides").0.to_vec()
    };
    key(&mut desired, "all", "0.0.0.0/0");
    assert_eq!(chosen(&desired), b"a secret shared with beta");
    desired.pre_shared_keys.retain(|name, _| name.as_str() != "beta");
    key(&mut desired, "net", "198.51.100.0/24");
    assert_eq!(chosen(&desired), b"a secret shared with net");
    desired.pre_shared_keys.retain(|name, _| name.as_str() != "net");
    assert_eq!(chosen(&desired), b"a secret shared with all");
}

#[test]
fn a_configured_mtu_that_does_not_fit_is_cut_and_named() {
    let mut desired = gateway();
    set::<model::Tunnel>(
        &mut desired,
        "gre1",
        json!({"source": "black0", "destination": "198.51.100.2", "mtu_bytes": 1443, "protection": branch()}),
    );
    let compiled = compile(&desired);
    assert_eq!(compiled.tunnels["gre1"].mtu_bytes, 1442);
    assert_eq!(compiled.problems[0].cause, "its MTU of 1443 bytes is more than fits; 1442 is used");
}

#[test]
fn a_tunnel_without_a_source_address_is_not_built() {
    let mut desired = gateway();
    set::<model::Tunnel>(
        &mut desired,
        "gre1",
        json!({"source": "192.0.2.77", "destination": "198.51.100.2", "protection": "none"}),
    );
    set::<model::Route>(&mut desired, "r", json!({"destination": "10.9.0.0/16", "tunnel": "gre1"}));
    let compiled = compile(&desired);
    assert!(compiled.tunnels.is_empty() && !compiled.kernel.twins.contains_key("gre1"));
    assert!(compiled.kernel.routes.is_empty());
    assert_eq!(compiled.problems[0].cause, "no interface has its source address 192.0.2.77");
    let route = Object::Route("r".to_owned());
    assert_eq!(
        compiled.problems_of(&route).collect::<Vec<_>>(),
        ["it leaves by gre1, which could not be built"]
    );
}

#[test]
fn a_crypto_map_gives_rules_in_order_and_a_policy_and_a_child_for_each_permit() {
    let mut desired = gateway();
    apply_crypto_map(&mut desired);
    tunnel(&mut desired, "gre1", "198.51.100.3", json!("crypto-map"));
    let compiled = compile(&desired);
    assert_eq!(compiled.problems, []);
    assert_eq!(compiled.ports["black0"].crypto_map, 1);
    assert_eq!(compiled.rules.len(), 3);
    assert_eq!(compiled.policies.len(), 2);
    assert!(compiled.policies.iter().all(|policy| policy.mode == mode::TUNNEL));
    assert_eq!(compiled.tunnels["gre1"].mtu_bytes, 1422);
    let [connection] = compiled.connections.as_slice() else { panic!("one connection") };
    // What is there for a tunnel starts by itself, the rest on demand.
    let starts: Vec<_> =
        connection.children.iter().map(|child| (child.local_selectors[0].protocol, child.start)).collect();
    assert_eq!(starts, [(47, true), (0, false)]);
    assert_eq!(connection.children[1].remote_selectors[0].last, IpAddr::from([10, 3, 255, 255]));
    assert_eq!(connection.children[0].proposals[0].esn, [false]);
}

#[test]
fn any_to_any_is_both_families_in_tunnel_mode_and_the_hosts_in_transport_mode() {
    for (set_name, expected) in [("tunnel", 2), ("transport", 1)] {
        let mut desired = gateway();
        apply_crypto_map(&mut desired);
        set::<model::AccessList>(
            &mut desired,
            "to-gamma",
            json!({"rules": [{"sequence": 1, "action": "permit", "protocol": "ip", "source": "any", "destination": "any"}]}),
        );
        set::<model::CryptoMap>(
            &mut desired,
            "outside",
            json!({"entries": [{"sequence": 10, "access_list": "to-gamma", "transform_sets": [set_name],
                                "peer": "198.51.100.3"}]}),
        );
        let compiled = compile(&desired);
        assert_eq!(compiled.connections[0].children[0].local_selectors.len(), expected);
        assert!(compiled.policies.iter().all(|policy| policy.selector.selector().family == 0));
    }
}

#[test]
fn what_linux_must_hold_follows_interfaces_tunnels_and_routes() {
    let mut desired = gateway();
    tunnel(&mut desired, "gre1", "198.51.100.2", branch());
    set::<model::Route>(
        &mut desired,
        "lan",
        json!({"destination": "10.2.0.0/16", "tunnel": "gre1", "metric": 5}),
    );
    let kernel = compile(&desired).kernel;
    assert_eq!(kernel.twins.keys().collect::<Vec<_>>(), ["black0", "gre1", "red0"]);
    assert_eq!(kernel.twins["gre1"].mtu_bytes, 1442);
    assert_eq!(kernel.routes["lan"].device.as_deref(), Some("gre1"));
    assert_eq!(kernel.routes["lan"].metric, Some(5));
}

#[test]
fn every_port_record_is_sound() {
    for (name, record) in compile(&gateway()).ports {
        assert_eq!(record.validate(&Capacities::small()), Ok(()));
        assert_eq!(name_text(&record.name), name);
    }
}

#[test]
fn a_policy_may_add_ml_kem_and_require_it() {
    for required in [false, true] {
        let mut desired = gateway();
        for (name, policy) in desired.isakmp_policies.clone() {
            let mut changed = serde_json::to_value(policy).unwrap();
            changed["additional_key_exchanges"] = json!(["ml-kem-1024", "ml-kem-768"]);
            changed["require_post_quantum"] = json!(required);
            set::<model::IsakmpPolicy>(&mut desired, &name.to_string(), changed);
        }
        tunnel(&mut desired, "gre1", "198.51.100.2", branch());
        let compiled = compile(&desired);
        let [connection] = compiled.connections.as_slice() else { panic!("one connection") };
        for proposal in &connection.proposals {
            let methods = [ike::KeyEncapsulation::MlKem1024, ike::KeyEncapsulation::MlKem768];
            assert_eq!(proposal.additional_key_exchanges, [methods]);
            assert_eq!(proposal.additional_required, required);
        }
    }
}

#[test]
fn forced_nat_traversal_reaches_the_connection_and_the_sizes() {
    for (word, expected, mtu_bytes) in
        [("auto", ike::NatTraversal::Auto, 1442), ("force", ike::NatTraversal::Force, 1434)]
    {
        let mut desired = gateway();
        let profile = json!({"transform_sets": ["transport"], "nat_traversal": word});
        set::<model::IpsecProfile>(&mut desired, "branch", profile);
        tunnel(&mut desired, "gre1", "198.51.100.2", branch());
        let compiled = compile(&desired);
        assert_eq!(compiled.connections[0].nat_traversal, expected);
        let sizes = [false, true].map(|natted| compiled.tunnel("gre1", natted).unwrap().mtu_bytes);
        assert_eq!(sizes, [mtu_bytes, 1434]);
    }
}

#[test]
fn a_rule_that_another_one_covers_wholly_has_no_sa_and_says_why() {
    let mut desired = gateway();
    let peer = "198.51.100.3";
    let rule = json!({"sequence": 10, "action": "permit", "protocol": "gre", "source": "192.0.2.1", "destination": peer});
    set::<model::AccessList>(&mut desired, "twice", json!({"rules": [rule]}));
    let entry = |sequence: u32, identity: &str| {
        json!({"sequence": sequence, "access_list": "twice", "transform_sets": ["transport"], "peer": peer,
               "remote_identity": identity})
    };
    let entries = [entry(10, "one.example"), entry(20, "two.example")];
    set::<model::CryptoMap>(&mut desired, "twice", json!({"entries": entries}));
    desired.interfaces.get_mut(&"black0".parse().unwrap()).unwrap().crypto_map =
        Some("twice".parse().unwrap());
    let compiled = compile(&desired);
    let served: Vec<u32> = compiled
        .children
        .values()
        .filter_map(|child| match &child.owner {
            Owner::Policy(key) => Some(key.map_sequence),
            Owner::Tunnel(_) => None,
        })
        .collect();
    assert_eq!(served, [10]);
    let entry = Object::CryptoMapEntry {
        interface: "black0".to_owned(),
        crypto_map: "twice".to_owned(),
        sequence: 20,
    };
    let causes: Vec<&str> = compiled.problems_of(&entry).collect();
    assert!(matches!(causes[..], [cause] if cause.contains("behind one NAT")), "{causes:?}");
}

#[test]
fn version_1_is_spoken_only_by_a_policy_that_terms_name() {
    let mut desired = gateway();
    let classic = json!({
        "priority": 1, "version": "ikev1", "encryption": ["aes-256-cbc"], "hash": ["sha2-256"], "groups": [14],
        "allow_insecure": ["ikev1"], "accept_superset": true,
    });
    set::<model::IsakmpPolicy>(&mut desired, "old", classic);
    tunnel(&mut desired, "gre1", "198.51.100.2", branch());
    let version = |desired: &Desired| {
        let compiled = compile(desired);
        let [connection] = compiled.connections.as_slice() else { panic!("one connection") };
        connection.version
    };
    assert_eq!(
        version(&desired),
        ike::Version::V2,
        "a policy of version 1 is no fallback, whatever its priority"
    );
    let (name, profile) =
        desired.ipsec_profiles.iter().next().map(|(name, profile)| (name.to_string(), profile)).unwrap();
    let mut named = serde_json::to_value(profile).unwrap();
    named["isakmp_policies"] = json!(["old"]);
    set::<model::IpsecProfile>(&mut desired, &name, named);
    assert_eq!(
        version(&desired),
        ike::Version::V1(ike::Ikev1 { accept_superset: true, aggressive_mode: false })
    );
}

#[test]
fn a_ppk_comes_with_its_name_and_whether_it_is_required() {
    let mut desired = gateway();
    let digits = "5a".repeat(32);
    set::<model::Ppk>(&mut desired, "grove", json!({"ppk_id": "our grove", "key": format!("hex:{digits}")}));
    tunnel(&mut desired, "gre1", "198.51.100.2", branch());
    let connection = |desired: &Desired| {
        let mut compiled = compile(desired);
        let (Some(connection), 0) = (compiled.connections.pop(), compiled.connections.len()) else {
            panic!("one connection")
        };
        connection
    };
    let without = connection(&desired);
    assert!(without.ppk.is_none());
    for required in [false, true] {
        let profile = json!({"transform_sets": ["transport"], "ppk": "grove", "ppk_required": required});
        set::<model::IpsecProfile>(&mut desired, "branch", profile);
        let with = connection(&desired);
        assert_ne!(with.id, without.id, "terms of its own");
        let ppk = with.ppk.expect("a PPK");
        assert_eq!((ppk.id.as_slice(), ppk.required), (b"our grove".as_slice(), required));
        assert_eq!(*ppk.key.0, [0x5a; 32]);
    }
}

#[test]
fn entries_of_a_crypto_map_have_identities_of_their_own() {
    let mut desired = gateway();
    let mut black = serde_json::to_value(&desired.interfaces[&"black0".parse().unwrap()]).unwrap();
    black["crypto_map"] = json!("outside");
    set::<model::Interface>(&mut desired, "black0", black);
    let mut map = serde_json::to_value(&desired.crypto_maps[&"outside".parse().unwrap()]).unwrap();
    map["entries"][0]["local_identity"] = json!("alpha.example");
    map["entries"][0]["remote_identity"] = json!("gamma@example.net");
    set::<model::CryptoMap>(&mut desired, "outside", map);
    let compiled = compile(&desired);
    let [connection] = compiled.connections.as_slice() else { panic!("one connection") };
    assert_eq!(connection.local_identity, ike::Identity::Fqdn("alpha.example".to_owned()));
    assert_eq!(connection.remote_identity, ike::Identity::Email("gamma@example.net".to_owned()));
}
