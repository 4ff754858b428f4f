//! Twins, wires and static state in a real kernel. Needs root.
#![allow(clippy::expect_used, clippy::panic, reason = "a test says what it expects")]

mod support;

use std::process::Command;
use std::time::Duration;

use control::view::Condition;
use serde_json::json;
use support::dataplane::Dataplane;
use support::{
    Control, Role, config, desired, eventually, gateway, in_own_network, lay_wires, run_dir, sh, until,
};

fn fresh(test: &str) {
    let _ = std::fs::remove_dir_all(run_dir(test));
    lay_wires();
}

fn has_link(name: &str) -> bool {
    Command::new("ip").args(["link", "show", name]).output().expect("ip runs").status.success()
}

fn mac(name: &str) -> String {
    std::fs::read_to_string(format!("/sys/class/net/{name}/address")).unwrap_or_default()
}

#[test]
fn twins_and_wires_are_made_as_desired_and_given_back() {
    let test = "twins_and_wires_are_made_as_desired_and_given_back";
    let body = || {
        fresh(test);
        let control = Control::start(config(test), desired(1, &gateway()));
        let dataplane = Dataplane::start(&run_dir(test));
        until("three twins at the dataplane", || dataplane.twins() == ["black", "gre1", "red"]);
        until("generation 1", || control.handle.applied_generation() == 1);

        let links = sh("ip -d link show");
        assert!(links.contains("alias culvert port") && links.contains("alias culvert tunnel"), "{links}");
        let same_mac =
            sh("ip -br link show red | awk '{print $3}'; ip -br link show wirered | awk '{print $3}'");
        let macs: Vec<&str> = same_mac.lines().collect();
        assert_eq!(macs[0], macs[1], "the TAP has the MAC address of its wire ({})", mac("red"));
        let black = sh("ip -br addr show black");
        assert!(black.contains("192.0.2.1/24"), "{black}");
        assert!(sh("ip -br addr show gre1").contains("10.255.0.1/30"));
        assert!(sh("ip link show gre1").contains("mtu 1476"), "the exact MTU of GRE in clear over 1500");

        let wire = sh("ip link show wireblack");
        assert!(wire.contains("NOARP") && wire.contains("UP"), "{wire}");
        assert_eq!(sh("sysctl -n net.ipv6.conf.wireblack.disable_ipv6").trim(), "1");
        let rules = sh("nft list table netdev culvert");
        assert!(
            rules.contains("\"wireblack\"") && rules.contains("\"wirered\"") && rules.contains("drop"),
            "{rules}"
        );
        assert_eq!(sh("sysctl -n net.ipv4.ip_forward").trim(), "1");
        assert_eq!(sh("sysctl -n net.ipv4.conf.red.rp_filter").trim(), "2");

        let routes = sh("ip route show proto 147");
        assert!(routes.contains("default via 192.0.2.254 dev black"), "{routes}");
        assert!(routes.contains("10.2.0.0/16 dev gre1"), "{routes}");

        // What others put on a twin stays; what is ours and no longer desired goes.
        sh("ip addr add 10.1.0.77/24 dev red && ip route add 10.9.0.0/16 dev gre1 proto 188");
        let mut smaller = gateway();
        smaller["interfaces"]["red"]["addresses"] = json!(["10.1.0.2/24"]);
        smaller["routes"] = json!({});
        control.change(desired(2, &smaller));
        until("generation 2", || control.handle.applied_generation() == 2);
        let red = sh("ip -br addr show red");
        assert!(
            red.contains("10.1.0.2/24") && red.contains("10.1.0.77/24") && !red.contains("10.1.0.1/24"),
            "{red}"
        );
        assert_eq!(sh("ip route show proto 147"), "");
        assert!(sh("ip route show").contains("10.9.0.0/16 dev gre1"));

        // A wire that is replaced, and a twin that somebody deletes.
        sh("ip link del wirered && ip link add wirered type veth peer name farwirered");
        until("the new wire is quiet", || sh("ip link show wirered").contains("NOARP"));
        sh("ip link del gre1");
        until("the twin is made again", || {
            has_link("gre1") && sh("ip -br addr show gre1").contains("10.255.0.1/30")
        });

        let mut none = gateway();
        none["tunnels"] = json!({});
        none["routes"] = json!({});
        none["interfaces"].as_object_mut().expect("interfaces").remove("red");
        control.change(desired(3, &none));
        until("the twins are deleted", || !has_link("red") && !has_link("gre1"));
        until("the dataplane let go of them", || dataplane.twins() == ["black"]);
        let rules = sh("nft list table netdev culvert");
        assert!(!rules.contains("\"wirered\"") && rules.contains("\"wireblack\""), "{rules}");
        assert_eq!(sh("sysctl -n net.ipv6.conf.wirered.disable_ipv6").trim(), "0");
        assert!(!sh("ip link show wirered").contains("NOARP"));
    };
    in_own_network(test, body, |role| panic!("no role {role}"));
}

#[test]
fn a_killed_control_plane_gets_its_twins_back() {
    let test = "a_killed_control_plane_gets_its_twins_back";
    let body = || {
        fresh(test);
        let mut first = Role::start(test, "control");
        let dataplane = Dataplane::start(&run_dir(test));
        until("three twins at the dataplane", || dataplane.twins().len() == 3);
        until("the route by the tunnel", || dataplane.route("10.2.0.0/16").is_some());
        let slot = dataplane.tunnel("gre1").expect("the tunnel's slot");

        first.kill();
        for twin in ["red", "black", "gre1"] {
            assert!(!sh(&format!("ip link show {twin}")).contains("NO-CARRIER"), "{twin} keeps its carrier");
        }
        assert!(sh("ip -br addr show gre1").contains("10.255.0.1/30"));
        assert!(dataplane.route("10.2.0.0/16").is_some(), "the region keeps what stood there");

        // Its store takes longer to answer than the dataplane to connect.
        let second = Role::start(test, "slow-control");
        until("the second control plane listens", || {
            dataplane.region.writer_process().is_some_and(|process| process.pid == second.pid())
        });
        sh("ip route add 10.3.0.0/16 dev gre1");
        until("it mirrors", || dataplane.route("10.3.0.0/16").is_some_and(|route| route.target == slot));
        assert_eq!(dataplane.tunnel("gre1"), Some(slot), "the tunnel keeps its slot");
        assert_eq!(dataplane.received(), 3, "no twin had to be made anew");

        // It really holds them again: with the dataplane's copies closed the carrier stays.
        drop(dataplane);
        assert!(!sh("ip link show gre1").contains("NO-CARRIER"));
        until("carrier goes when the dataplane stays away", || {
            sh("ip link show gre1").contains("NO-CARRIER")
        });
        let dataplane = Dataplane::start(&run_dir(test));
        until("and comes back with it", || !sh("ip link show gre1").contains("NO-CARRIER"));
        until("a new dataplane gets all twins", || dataplane.twins().len() == 3);
    };
    in_own_network(test, body, |role| {
        let delay = match role {
            "control" => Duration::ZERO,
            "slow-control" => Duration::from_millis(700),
            other => panic!("no role {other}"),
        };
        support::control_for_ever(config(test), desired(1, &gateway()), delay)
    });
}

#[test]
fn a_device_of_another_owner_is_left_alone_and_named() {
    let test = "a_device_of_another_owner_is_left_alone_and_named";
    let body = || {
        fresh(test);
        sh("ip link add gre1 type veth peer name other");
        let control = Control::start(config(test), desired(1, &gateway()));
        let cause = eventually("a complaint", || {
            let health = control.handle.health();
            let netlink = health.parts.into_iter().find(|part| part.name == "netlink")?;
            netlink.detail.contains("gre1").then_some(netlink)
        });
        assert!(!cause.ok && cause.detail.contains("exists and is no Tun device"), "{}", cause.detail);
        assert!(sh("ip -d link show gre1").contains("veth"));
    };
    in_own_network(test, body, |role| panic!("no role {role}"));
}

#[test]
fn a_tunnel_in_clear_is_up_with_its_route_and_down_with_a_cause_without() {
    let test = "a_tunnel_in_clear_is_up_with_its_route_and_down_with_a_cause_without";
    let body = || {
        fresh(test);
        let control = Control::start(config(test), desired(1, &gateway()));
        let state = || control.handle.tunnel_state("gre1");
        until("down for want of a dataplane", || {
            state().is_some_and(|state| state.cause.as_deref() == Some("the dataplane is not running"))
        });
        let dataplane = Dataplane::start(&run_dir(test));
        until("up", || state().is_some_and(|state| state.state == Condition::Up && state.cause.is_none()));
        let mut routeless = gateway();
        routeless["routes"] = json!({"far": {"destination": "10.2.0.0/16", "tunnel": "gre1"}});
        control.change(desired(2, &routeless));
        until("down without a route", || {
            state().is_some_and(|state| state.cause.as_deref() == Some("there is no route to 198.51.100.2"))
        });
        // The far end through the tunnel itself.
        sh("ip route add 198.51.100.0/24 dev gre1");
        until("closed for recursion", || {
            state().is_some_and(|state| state.cause.is_some_and(|cause| cause.contains("recursive routing")))
        });
        let slot = dataplane.tunnel("gre1").expect("the tunnel's slot");
        until("the record says so", || {
            let record = dataplane.region.read::<shm::records::TunnelRecord>(slot).expect("a slot").record;
            record.is_some_and(|tunnel| tunnel.enabled == 0)
        });
    };
    in_own_network(test, body, |role| panic!("no role {role}"));
}
