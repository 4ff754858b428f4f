use serde_json::{Value, json};

use super::*;
use crate::Resource;
use crate::read::parse;

/// Two interfaces, a profile of transport mode, and what a test adds.
fn gateway() -> Desired {
    let mut desired = Desired::default();
    put::<crate::TransformSet>(
        &mut desired,
        "transport",
        json!({"encryption": "aes-256-gcm", "mode": "transport"}),
    );
    put::<crate::TransformSet>(
        &mut desired,
        "tunnel",
        json!({"encryption": "aes-256-gcm", "mode": "tunnel"}),
    );
    put::<crate::IpsecProfile>(&mut desired, "branch", json!({"transform_sets": ["transport"]}));
    put::<crate::Interface>(
        &mut desired,
        "black0",
        json!({"device": "af_packet:eth1", "side": "black", "addresses": ["192.0.2.1/24"]}),
    );
    put::<crate::Interface>(
        &mut desired,
        "red0",
        json!({"device": "af_packet:eth2", "side": "red", "addresses": ["10.1.0.1/16", "2001:db8:1::1/64"]}),
    );
    desired
}

fn put<R: Resource>(desired: &mut Desired, name: &str, body: Value) {
    let name = name.parse().unwrap();
    R::of_mut(desired).insert(name, parse::<R>(&body).unwrap());
}

fn tunnel(desired: &mut Desired, name: &str, changes: Value) {
    let mut body = json!({"source": "black0", "destination": "198.51.100.2", "addresses": ["10.255.0.1/30"],
        "protection": {"ipsec_profile": "branch"}});
    for (field, value) in changes.as_object().unwrap() {
        body[field] = value.clone();
    }
    put::<crate::Tunnel>(desired, name, body);
}

fn route(desired: &mut Desired, name: &str, body: Value) {
    put::<crate::Route>(desired, name, body);
}

/// `kind/name pointer` of everything that is wrong.
fn wrong(desired: &Desired) -> Vec<String> {
    let mut all: Vec<String> = Kind::ALL
        .into_iter()
        .flat_map(|kind| violations(desired, kind))
        .map(|it| format!("{}/{} {}", it.kind, it.name, it.error.pointer))
        .collect();
    all.sort();
    all.dedup();
    all
}

#[test]
fn a_plain_gateway_is_right() {
    let mut desired = gateway();
    tunnel(&mut desired, "gre1", json!({}));
    route(&mut desired, "default", json!({"destination": "0.0.0.0/0", "gateway": "192.0.2.254"}));
    route(&mut desired, "branch", json!({"destination": "10.2.0.0/16", "tunnel": "gre1"}));
    assert_eq!(wrong(&desired), [""; 0]);
}

#[test]
fn a_tunnel_over_its_own_prefix_is_recursive() {
    let mut desired = gateway();
    tunnel(&mut desired, "gre1", json!({"addresses": ["198.51.100.1/24"]}));
    assert_eq!(wrong(&desired), ["tunnels/gre1 /destination"]);
    route(
        &mut desired,
        "peer",
        json!({"destination": "198.51.100.2/32", "gateway": "192.0.2.254", "interface": "black0"}),
    );
    assert_eq!(wrong(&desired), [""; 0], "a more specific route leads elsewhere");
}

#[test]
fn a_tunnel_under_a_route_over_itself_is_recursive() {
    let mut desired = gateway();
    tunnel(&mut desired, "gre1", json!({}));
    route(&mut desired, "default", json!({"destination": "0.0.0.0/0", "tunnel": "gre1"}));
    assert_eq!(wrong(&desired), ["tunnels/gre1 /destination"]);
    route(&mut desired, "peers", json!({"destination": "198.51.100.0/24", "gateway": "192.0.2.254"}));
    assert_eq!(wrong(&desired), [""; 0]);
}

#[test]
fn a_gateway_behind_the_tunnel_is_recursive() {
    let mut desired = gateway();
    tunnel(&mut desired, "gre1", json!({}));
    route(&mut desired, "default", json!({"destination": "0.0.0.0/0", "gateway": "10.255.0.2"}));
    assert_eq!(wrong(&desired), ["tunnels/gre1 /destination"]);
}

#[test]
fn of_equal_prefixes_the_lower_metric_decides() {
    let mut desired = gateway();
    tunnel(&mut desired, "gre1", json!({}));
    route(&mut desired, "a", json!({"destination": "0.0.0.0/0", "tunnel": "gre1", "metric": 20}));
    route(&mut desired, "b", json!({"destination": "0.0.0.0/0", "gateway": "192.0.2.254", "metric": 10}));
    assert_eq!(wrong(&desired), [""; 0]);
    route(&mut desired, "b", json!({"destination": "0.0.0.0/0", "gateway": "192.0.2.254", "metric": 30}));
    assert_eq!(wrong(&desired), ["tunnels/gre1 /destination"]);
}

#[test]
fn tunnels_in_a_ring_are_recursive_and_nested_ones_are_not() {
    let mut desired = gateway();
    tunnel(&mut desired, "inner", json!({"destination": "10.255.9.2", "addresses": []}));
    tunnel(&mut desired, "outer", json!({"addresses": ["10.255.9.1/30"]}));
    assert_eq!(wrong(&desired), [""; 0]);
    route(&mut desired, "ring", json!({"destination": "198.51.100.0/24", "tunnel": "inner"}));
    assert_eq!(wrong(&desired), ["tunnels/inner /destination", "tunnels/outer /destination"]);
}

#[test]
fn an_mtu_above_the_exact_one_is_refused() {
    let mut desired = gateway();
    tunnel(&mut desired, "gre1", json!({"mtu_bytes": 1442}));
    assert_eq!(wrong(&desired), [""; 0]);
    tunnel(&mut desired, "gre1", json!({"mtu_bytes": 1443}));
    assert_eq!(wrong(&desired), ["tunnels/gre1 /mtu_bytes"]);
    tunnel(&mut desired, "gre1", json!({"mtu_bytes": 1442, "key": 7}));
    assert_eq!(wrong(&desired), ["tunnels/gre1 /mtu_bytes"]);
}

#[test]
fn esp_in_udp_costs_eight_bytes_where_it_is_forced_or_natted() {
    let mut desired = gateway();
    tunnel(&mut desired, "gre1", json!({}));
    let mtu = |desired: &Desired, natted| {
        desired.passenger_mtu_bytes(&desired.tunnels[&"gre1".parse().unwrap()], 1500, natted)
    };
    assert_eq!([false, true].map(|natted| mtu(&desired, natted)), [1442, 1434]);
    let profiles: Vec<_> = desired.ipsec_profiles.values_mut().collect();
    assert!(!profiles.is_empty());
    profiles.into_iter().for_each(|profile| profile.terms.nat_traversal = crate::NatTraversal::Force);
    assert_eq!([false, true].map(|natted| mtu(&desired, natted)), [1434, 1434]);
    tunnel(&mut desired, "gre1", json!({"mtu_bytes": 1435}));
    assert_eq!(wrong(&desired), ["tunnels/gre1 /mtu_bytes"]);
}

#[test]
fn a_smaller_link_makes_an_mtu_wrong_that_was_right() {
    let mut desired = gateway();
    tunnel(&mut desired, "gre1", json!({"mtu_bytes": 1442}));
    desired.interfaces.get_mut(&"black0".parse().unwrap()).unwrap().mtu_bytes = 1492;
    let found = violations(&desired, Kind::Interface);
    assert_eq!(
        found[0].to_string().split(" after").next().unwrap(),
        "tunnels/gre1 /mtu_bytes: must be at most 1434: more does not fit the 1492 bytes of interfaces/black0"
    );
}

#[test]
fn a_crypto_map_tunnel_takes_the_mode_of_the_entry_towards_its_peer() {
    let mut desired = gateway();
    put::<crate::AccessList>(
        &mut desired,
        "gre",
        json!({"rules": [{"sequence": 10, "action": "permit", "protocol": "gre",
            "source": "192.0.2.1", "destination": "198.51.100.2"}]}),
    );
    let map = |sets: &str| json!({"entries": [{"sequence": 10, "access_list": "gre", "transform_sets": [sets], "peer": "198.51.100.2"}]});
    tunnel(&mut desired, "gre1", json!({"protection": "crypto-map"}));
    desired.interfaces.get_mut(&"black0".parse().unwrap()).unwrap().crypto_map = Some("map".parse().unwrap());
    put::<crate::CryptoMap>(&mut desired, "map", map("transport"));
    let mtu = |desired: &Desired| desired.exact_mtu_bytes(&desired.tunnels[&"gre1".parse().unwrap()]);
    assert_eq!(mtu(&desired), Some(1442));
    put::<crate::CryptoMap>(&mut desired, "map", map("tunnel"));
    assert_eq!(mtu(&desired), Some(1422));
}

#[test]
fn a_source_must_bear_an_ipv4_address() {
    let mut desired = gateway();
    tunnel(&mut desired, "gre1", json!({"source": "192.0.2.9"}));
    assert_eq!(wrong(&desired), ["tunnels/gre1 /source"]);
    tunnel(&mut desired, "gre1", json!({"source": "192.0.2.1"}));
    assert_eq!(wrong(&desired), [""; 0]);
    desired.interfaces.get_mut(&"black0".parse().unwrap()).unwrap().addresses.clear();
    assert_eq!(wrong(&desired), ["tunnels/gre1 /source"]);
}

#[test]
fn a_tunnel_to_ourselves_is_refused() {
    let mut desired = gateway();
    tunnel(&mut desired, "gre1", json!({"destination": "10.1.0.1"}));
    assert_eq!(wrong(&desired), ["tunnels/gre1 /destination"]);
}

#[test]
fn tunnels_that_can_not_be_told_apart_are_refused() {
    let mut desired = gateway();
    tunnel(&mut desired, "gre1", json!({}));
    tunnel(&mut desired, "gre2", json!({"source": "192.0.2.1", "addresses": []}));
    assert_eq!(wrong(&desired), ["tunnels/gre1 /key", "tunnels/gre2 /key"]);
    tunnel(&mut desired, "gre2", json!({"key": 2, "addresses": []}));
    assert_eq!(wrong(&desired), [""; 0]);
}

#[test]
fn addresses_devices_and_names_stand_once() {
    let mut desired = gateway();
    tunnel(&mut desired, "red0", json!({"addresses": ["10.1.0.1/30"]}));
    put::<crate::Interface>(&mut desired, "red1", json!({"device": "af_packet:eth2", "side": "red"}));
    assert_eq!(
        wrong(&desired),
        [
            "interfaces/red0 ",
            "interfaces/red0 /addresses",
            "interfaces/red1 /device",
            "tunnels/red0 ",
            "tunnels/red0 /addresses/0"
        ]
    );
}

#[test]
fn a_twin_can_not_take_the_name_of_its_device() {
    let mut desired = gateway();
    put::<crate::Interface>(&mut desired, "eth2", json!({"device": "af_packet:eth3", "side": "red"}));
    assert_eq!(wrong(&desired), ["interfaces/eth2 /device"]);
}

#[test]
fn a_list_goes_from_transport_to_tunnel_mode_and_in_version_1_has_one_mode() {
    let mut desired = gateway();
    let profile =
        |sets: [&str; 2], policies: &[&str]| json!({"transform_sets": sets, "isakmp_policies": policies});
    put::<crate::IpsecProfile>(&mut desired, "falls-back", profile(["transport", "tunnel"], &[]));
    let terms = &desired.ipsec_profiles[&"falls-back".parse::<crate::Name>().unwrap()].terms;
    assert!(desired.falls_back_to_tunnel_mode(terms));
    assert!(wrong(&desired).is_empty());
    put::<crate::IpsecProfile>(&mut desired, "reversed", profile(["tunnel", "transport"], &[]));
    assert_eq!(wrong(&desired), ["ipsec-profiles/reversed /transform_sets/1"]);
    let policy = json!({"priority": 1, "version": "ikev1", "encryption": ["aes-256-cbc"], "hash": ["sha2-256"],
        "groups": [14], "allow_insecure": ["ikev1"]});
    put::<crate::IsakmpPolicy>(&mut desired, "one", policy);
    put::<crate::IpsecProfile>(&mut desired, "reversed", profile(["transport", "tunnel"], &["one"]));
    assert_eq!(wrong(&desired), ["ipsec-profiles/reversed /transform_sets/1"]);
}

/// Version 1 has no number for ChaCha20-Poly1305: a set of it would never be offered.
#[test]
fn a_set_that_version_1_does_not_know_goes_with_version_2_alone() {
    let mut desired = gateway();
    let set = json!({"encryption": "chacha20-poly1305", "mode": "transport"});
    put::<crate::TransformSet>(&mut desired, "chacha", set);
    let policy = |version: &str| {
        json!({"priority": 1, "version": version, "encryption": ["aes-256-cbc"], "hash": ["sha2-256"],
            "groups": [14], "allow_insecure": ["ikev1"]})
    };
    put::<crate::IsakmpPolicy>(&mut desired, "one", policy("ikev1"));
    put::<crate::IsakmpPolicy>(&mut desired, "two", policy("ikev2"));
    let profile =
        |policy: &str| json!({"transform_sets": ["transport", "chacha"], "isakmp_policies": [policy]});
    put::<crate::IpsecProfile>(&mut desired, "old", profile("one"));
    put::<crate::IpsecProfile>(&mut desired, "new", profile("two"));
    assert_eq!(wrong(&desired), ["ipsec-profiles/old /transform_sets/1"]);
    let found = violations(&desired, Kind::TransformSet);
    assert_eq!(
        found[0].error.detail,
        "chacha is of chacha20-poly1305, which goes with ikev2 only (RFC 7634), and the isakmp_policies are of ikev1"
    );
}

#[test]
fn a_peer_has_one_key_per_local_identity() {
    let mut desired = gateway();
    put::<crate::PreSharedKey>(&mut desired, "a", json!({"peer": "192.0.2.2"}));
    put::<crate::PreSharedKey>(
        &mut desired,
        "b",
        json!({"peer": "192.0.2.2", "local_identity": "us.example"}),
    );
    assert_eq!(wrong(&desired), [""; 0]);
    put::<crate::PreSharedKey>(&mut desired, "c", json!({"peer": "192.0.2.2"}));
    assert_eq!(wrong(&desired), ["pre-shared-keys/a /peer", "pre-shared-keys/c /peer"]);
}

#[test]
fn the_best_match_among_keys_is_taken() {
    let mut desired = gateway();
    put::<crate::PreSharedKey>(&mut desired, "any", json!({"peer": "0.0.0.0/0"}));
    put::<crate::PreSharedKey>(&mut desired, "net", json!({"peer": "198.51.100.0/24"}));
    let key_for = |desired: &Desired, address: &str, remote: &str| {
        desired
            .pre_shared_key_for(
                address.parse().unwrap(),
                &remote.parse().unwrap(),
                &"192.0.2.1".parse().unwrap(),
            )
            .map(|(name, _)| name.to_string())
    };
    assert_eq!(key_for(&desired, "203.0.113.1", "203.0.113.1").as_deref(), Some("any"));
    assert_eq!(key_for(&desired, "198.51.100.2", "198.51.100.2").as_deref(), Some("net"));
    put::<crate::PreSharedKey>(&mut desired, "host", json!({"peer": "198.51.100.2"}));
    put::<crate::PreSharedKey>(&mut desired, "name", json!({"peer": "gw.example.net"}));
    assert_eq!(key_for(&desired, "198.51.100.2", "198.51.100.2").as_deref(), Some("host"));
    assert_eq!(key_for(&desired, "198.51.100.2", "gw.example.net").as_deref(), Some("name"));
    put::<crate::PreSharedKey>(
        &mut desired,
        "ours",
        json!({"peer": "gw.example.net", "local_identity": "192.0.2.1"}),
    );
    assert_eq!(key_for(&desired, "198.51.100.2", "gw.example.net").as_deref(), Some("ours"));
}

#[test]
fn what_keeps_a_tunnel_down_is_warned_of() {
    let mut desired = gateway();
    tunnel(&mut desired, "gre1", json!({}));
    let pointers = |desired: &Desired| -> Vec<String> {
        warnings(desired, Kind::Tunnel, "gre1").into_iter().map(|it| it.pointer).collect()
    };
    assert_eq!(pointers(&desired), ["/protection", "/destination"]);
    put::<crate::PreSharedKey>(&mut desired, "a", json!({"peer": "198.51.100.2"}));
    put::<crate::IsakmpPolicy>(
        &mut desired,
        "p",
        json!({"priority": 10, "encryption": ["aes-256-gcm"], "hash": ["sha2-256"], "groups": [31]}),
    );
    assert_eq!(pointers(&desired), [""; 0]);
    tunnel(&mut desired, "gre1", json!({"protection": "none"}));
    assert_eq!(pointers(&desired), ["/protection"]);
}

#[test]
fn bodies_come_back_as_they_were_written() {
    fn round<R: Resource>(body: Value) {
        assert_eq!(serde_json::to_value(parse::<R>(&body).unwrap()).unwrap(), body);
    }
    round::<crate::AccessList>(json!({"rules": [
        {"sequence": 10, "action": "permit", "protocol": 47, "source": "any", "destination": "10.0.0.0/8"},
        {"sequence": 20, "action": "deny", "protocol": "tcp", "source": "192.0.2.1", "destination": "any",
            "source_ports": "80", "destination_ports": "1000-2000"}]}));
    round::<crate::Tunnel>(
        json!({"source": "black0", "destination": "198.51.100.2", "key": 0, "addresses": [],
        "mtu_bytes": 1400, "protection": {"ipsec_profile": "a"}, "site": "b", "ttl": 255, "df": "copy",
        "tcp_mss": 1200, "local_identity": "a.example", "remote_identity": "b@example", "enabled": false}),
    );
    round::<crate::CryptoMap>(json!({"entries": [{"sequence": 1, "access_list": "a", "peer": "192.0.2.2",
        "transform_sets": ["t"], "isakmp_policies": [], "pfs_group": 19, "lifetime_secs": 120,
        "lifetime_packets": 1000, "lifetime_kilobytes": 2560, "replay_window": 64}]}));
}

/// The longest prefix wins; the key for everyone comes last, and is a long one.
#[test]
fn a_pre_shared_key_is_found_by_the_address_of_the_peer() {
    let mut desired = Desired::default();
    let keys = [
        ("everyone", "0.0.0.0/0"),
        ("region", "198.51.0.0/16"),
        ("site", "198.51.100.0/24"),
        ("peer", "198.51.100.9"),
    ];
    for (name, peer) in keys {
        let key = json!({"peer": peer, "key": format!("the key of the {name}, long enough")});
        desired.pre_shared_keys.insert(name.parse().unwrap(), parse(&key).unwrap());
    }
    let local = crate::Identity::Address([192, 0, 2, 1].into());
    for (address, name) in [
        ("198.51.100.9", "peer"),
        ("198.51.100.8", "site"),
        ("198.51.7.1", "region"),
        ("10.0.0.1", "everyone"),
    ] {
        let address: std::net::IpAddr = address.parse().unwrap();
        let identity = crate::Identity::Address(address);
        let (found, _) = desired.pre_shared_key_for(address, &identity, &local).unwrap();
        assert_eq!(found.to_string(), name);
    }
    assert_eq!(violations(&desired, Kind::PreSharedKey), []);
    let warned = warnings(&desired, Kind::PreSharedKey, "everyone");
    assert_eq!(warned.iter().map(|warning| warning.pointer.as_str()).collect::<Vec<_>>(), ["/peer"]);
    let short = parse(&json!({"peer": "::/0", "key": "nineteen bytes long"})).unwrap();
    desired.pre_shared_keys.insert("short".parse().unwrap(), short);
    let [violation] = violations(&desired, Kind::PreSharedKey).try_into().unwrap();
    assert_eq!((violation.name.as_str(), violation.error.pointer.as_str()), ("short", "/key"));
}
