//! The mirror against a real kernel: what it announces, and what it removes without a word. Needs root.
#![allow(clippy::expect_used, clippy::panic, reason = "a test says what it expects")]

mod support;

use shm::records::route as kind;
use support::dataplane::Dataplane;
use support::{Control, Role, config, desired, gateway, in_own_network, lay_wires, run_dir, sh, until};

fn with_gateway(test: &str, body: impl FnOnce(&Dataplane)) {
    let body = || {
        let _ = std::fs::remove_dir_all(run_dir(test));
        lay_wires();
        let control = Control::start(config(test), desired(1, &gateway()));
        let dataplane = Dataplane::start(&run_dir(test));
        until("generation 1", || control.handle.applied_generation() == 1);
        until("the static route", || dataplane.route("10.2.0.0/16").is_some());
        body(&dataplane);
    };
    in_own_network(test, body, |role| panic!("no role {role}"));
}

#[test]
fn routes_follow_the_kernels_announcements() {
    with_gateway("routes_follow_the_kernels_announcements", |dataplane| {
        let tunnel = dataplane.tunnel("gre1").expect("the tunnel's slot");
        let is = |prefix: &'static str, expected: u8| {
            until(prefix, || dataplane.route(prefix).is_some_and(|route| route.kind == expected));
        };
        let gone = |prefix: &'static str| until(prefix, || dataplane.route(prefix).is_none());

        is("192.0.2.1/32", kind::LOCAL);
        is("2001:db8:1::1/128", kind::LOCAL);
        is("10.1.0.0/24", kind::PORT);
        is("2001:db8:1::/64", kind::PORT);
        is("0.0.0.0/0", kind::PORT);
        let default = dataplane.route("0.0.0.0/0").expect("the default route");
        assert_eq!(default.gateway.to_ip(default.family), Some("192.0.2.254".parse().expect("an address")));

        sh("ip route add 10.3.0.0/16 via 10.1.0.9");
        is("10.3.0.0/16", kind::PORT);
        sh("ip route replace 10.3.0.0/16 via 2.2.2.2 dev gre1 onlink proto ospf");
        until("the replacement", || {
            dataplane.route("10.3.0.0/16").is_some_and(|route| route.target == tunnel)
        });
        sh("ip route replace blackhole 10.3.0.0/16");
        is("10.3.0.0/16", kind::BLACKHOLE);
        sh("ip route del 10.3.0.0/16");
        gone("10.3.0.0/16");

        sh("ip route add 10.4.0.0/16 nexthop via 10.255.0.2 dev gre1 nexthop via 10.1.0.9 dev red");
        is("10.4.0.0/16", kind::TUNNEL);
        sh("ip route add 10.5.0.0/16 via 10.1.0.9 metric 20 && ip route add 10.5.0.0/16 dev gre1 metric 10");
        is("10.5.0.0/16", kind::TUNNEL);
        sh("ip route del 10.5.0.0/16 metric 10");
        is("10.5.0.0/16", kind::PORT);

        sh("ip -6 route add 2001:db8:9::/48 via 2001:db8:1::9");
        is("2001:db8:9::/48", kind::PORT);
        sh(
            "ip -6 route append 2001:db8:9::/48 dev gre1 && ip -6 route del 2001:db8:9::/48 via 2001:db8:1::9",
        );
        is("2001:db8:9::/48", kind::TUNNEL);
        sh(
            "ip link add elsewhere type veth peer name there && ip link set elsewhere up && ip route add 10.6.0.0/16 dev elsewhere",
        );
        is("10.6.0.0/16", kind::UNREACHABLE);
    });
}

#[test]
fn routes_that_the_kernel_removes_silently_go_too() {
    with_gateway("routes_that_the_kernel_removes_silently_go_too", |dataplane| {
        let there = |prefix: &'static str| until(prefix, || dataplane.route(prefix).is_some());
        let gone = |prefix: &'static str| until(prefix, || dataplane.route(prefix).is_none());
        let add = || {
            sh("ip route add 10.3.0.0/16 via 10.1.0.9 dev red");
            there("10.3.0.0/16");
        };

        add();
        sh("ip link set red down");
        gone("10.3.0.0/16");
        sh("ip link set red up");

        add();
        sh("ip addr flush dev red");
        gone("10.3.0.0/16");
        sh("ip addr add 10.1.0.1/24 dev red");

        sh("ip nexthop add id 7 via 10.1.0.9 dev red && ip route add 10.4.0.0/16 nhid 7");
        there("10.4.0.0/16");
        sh("ip nexthop del id 7");
        gone("10.4.0.0/16");

        sh("ip nexthop add id 8 via 10.1.0.9 dev red && ip route add 10.4.0.0/16 nhid 8");
        there("10.4.0.0/16");
        sh("ip nexthop replace id 8 dev gre1");
        until("the replaced next hop", || {
            dataplane.route("10.4.0.0/16").is_some_and(|route| route.kind == kind::TUNNEL)
        });

        add();
        sh("ip link del red");
        gone("10.3.0.0/16");
    });
}

#[test]
fn neighbours_follow_the_kernel_and_gateways_are_asked_for() {
    with_gateway("neighbours_follow_the_kernel_and_gateways_are_asked_for", |dataplane| {
        sh("ip neigh add 10.1.0.9 lladdr 02:00:00:00:00:09 dev red");
        until("the neighbour", || {
            dataplane.neighbour("10.1.0.9").is_some_and(|known| known.mac == [2, 0, 0, 0, 0, 9])
        });
        sh("ip neigh change 10.1.0.9 lladdr 02:00:00:00:00:0a dev red nud stale");
        until("its new address", || {
            dataplane.neighbour("10.1.0.9").is_some_and(|known| known.mac == [2, 0, 0, 0, 0, 10])
        });
        sh("ip neigh add 2001:db8:1::9 lladdr 02:00:00:00:00:09 dev red");
        until("the IPv6 neighbour", || dataplane.neighbour("2001:db8:1::9").is_some());
        sh("ip neigh del 10.1.0.9 dev red");
        until("it is gone", || dataplane.neighbour("10.1.0.9").is_none());

        // The default gateway leads to the tunnel's far end: it is kept without any packet. Nobody answers here, so
        // it is being asked for over and over.
        until("the gateway is managed", || sh("ip -d neigh show 192.0.2.254 dev black").contains("managed"));
        sh("ip route del default");
        until("it no longer is", || !sh("ip -d neigh show 192.0.2.254 dev black").contains("managed"));
    });
}

#[test]
fn after_an_overrun_of_the_socket_the_tables_are_right() {
    let test = "after_an_overrun_of_the_socket_the_tables_are_right";
    let body = || {
        let _ = std::fs::remove_dir_all(run_dir(test));
        lay_wires();
        let control = Role::start(test, "control");
        let dataplane = Dataplane::start(&run_dir(test));
        until("the static route", || dataplane.route("10.2.0.0/16").is_some());

        // Stopped, it reads nothing: what the kernel announces fills the socket and then is lost.
        sh(&format!("kill -STOP {}", control.pid()));
        let flaps = (0..100u32).flat_map(|n| {
            [format!("route add 10.50.{n}.0/24 dev gre1\n"), format!("route del 10.50.{n}.0/24\n")]
        });
        let batch: String = flaps
            .cycle()
            .take(250_000)
            .chain((0..100u32).map(|n| format!("route add 10.60.{n}.0/24 dev gre1\n")))
            .collect();
        let path = run_dir(test).join("batch");
        std::fs::write(&path, batch).expect("a batch file");
        sh(&format!("ip -batch {}", path.display()));
        // Columns: sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode.
        let lost = sh("awk '{sum += $9} END {print sum}' /proc/net/netlink");
        assert_ne!(lost.trim(), "0", "the socket was meant to overrun");
        sh(&format!("kill -CONT {}", control.pid()));

        until("all that stayed", || (0..100).all(|n| dataplane.route(&format!("10.60.{n}.0/24")).is_some()));
        until("and nothing else", || (0..100).all(|n| dataplane.route(&format!("10.50.{n}.0/24")).is_none()));
    };
    in_own_network(test, body, |role| {
        assert_eq!(role, "control");
        support::control_for_ever(config(test), desired(1, &gateway()), std::time::Duration::ZERO)
    });
}
