//! Traffic between the hosts: pings, TCP, and routes that OSPF learned over the tunnels.

use anyhow::{Context, Result, bail};
use integration::checks::{self, ping, reachable};
use integration::lab::{ALPHA, BETA, GAMMA};
use integration::wait;

use crate::scene::{PATIENCE, Scene};
use crate::screen::{Screen, Seen, Table};

const PINGS: u16 = 50;

/// Rows: OSPF's multicast gets through both kinds of tunnel.
pub(crate) fn adjacencies(scene: &Scene, screen: &Screen, table: &mut Table) -> Result<()> {
    screen.check(
        table,
        "OSPF over both tunnels (multicast passenger)",
        "Full at alpha (2), beta and gamma",
        || {
            for (frr, interface) in
                [(&scene.frr_alpha, "to-beta"), (&scene.frr_alpha, "to-gamma"), (&scene.frr_beta, "to-alpha")]
            {
                wait::until(&format!("OSPF Full on {interface}"), PATIENCE, || {
                    match frr.neighbour_state(interface)? {
                        full if full == "Full" => Ok(()),
                        state => bail!("{state}"),
                    }
                })?;
            }
            let gamma = wait::until("OSPF Full at gamma", PATIENCE, || {
                let neighbours = scene.gamma.gateway.run("vtysh -c 'show ip ospf neighbor'")?;
                if neighbours.contains("Full/") { Ok("Full") } else { bail!("{neighbours}") }
            })?;
            Ok(Seen::new(true, format!("to-beta Full, to-gamma Full, beta Full, gamma {gamma}")))
        },
    )
}

/// Rows: hosts reach each other, in both families.
pub(crate) fn pings(scene: &Scene, screen: &Screen, table: &mut Table) -> Result<()> {
    for (check, site) in [
        ("ping v4 and v6, host-alpha to host-beta", BETA),
        ("ping v4 and v6, host-alpha to host-gamma", GAMMA),
    ] {
        screen.check(table, check, format!("{PINGS} of {PINGS} each"), || {
            let host = scene.lab.host(ALPHA)?;
            let [v4, v6] = site.host();
            reachable(host, &v4, PATIENCE)?;
            reachable(host, &v6, PATIENCE)?;
            let (v4, v6) = (ping(host, &v4, PINGS)?, ping(host, &v6, PINGS)?);
            let text = format!("v4 {} of {}, v6 {} of {}", v4.received, v4.sent, v6.received, v6.sent);
            Ok(Seen::new(v4.all_answered() && v6.all_answered(), text))
        })?;
    }
    Ok(())
}

/// Row: TCP, with segments as large as the tunnel takes.
pub(crate) fn throughput(scene: &Scene, screen: &Screen, table: &mut Table) -> Result<()> {
    const LEAST_MBPS: f64 = 20.0;
    let expected = format!("at least {LEAST_MBPS} Mbit/s on veth, all on 2 cores");
    screen.check(table, "iperf3 TCP, host-alpha to host-beta, 4 s", expected, || {
        let to = (scene.lab.host(BETA)?, BETA.host()[0].clone());
        let rate = checks::throughput(scene.lab.host(ALPHA)?, (to.0, &to.1), 4, &scene.lab.dir)?;
        Ok(Seen::new(rate >= LEAST_MBPS, format!("{rate:.0} Mbit/s")))
    })
}

/// Row: the route to beta's network is OSPF's, and its traffic passes the dataplane, not the kernel.
pub(crate) fn learned_route(scene: &Scene, screen: &Screen, table: &mut Table) -> Result<()> {
    let expected = format!("{PINGS} pings: dataplane +{PINGS} or more, kernel's twin fewer than 20");
    screen.check(table, "a route learned by OSPF, through the fast path", expected, || {
        wait::until("OSPF's route", PATIENCE, || {
            if scene.frr_alpha.has_route(&BETA.red4(), "to-beta")? { Ok(()) } else { bail!("no route") }
        })?;
        let (fast, kernel) = (dataplane_sent(scene)?, twin_sent(scene)?);
        let pings = ping(scene.lab.host(ALPHA)?, &BETA.host()[0], PINGS)?;
        let (fast, kernel) = (dataplane_sent(scene)? - fast, twin_sent(scene)? - kernel);
        let text = format!("O>* {} dev to-beta; dataplane +{fast}, kernel's twin +{kernel}", BETA.red4());
        Ok(Seen::new(pings.all_answered() && fast >= u64::from(PINGS) && kernel < 20, text))
    })
}

/// Packets that the dataplane sent into the tunnel to beta.
fn dataplane_sent(scene: &Scene) -> Result<u64> {
    let state = scene.alpha.api.get("/v1/tunnels/to-beta/state")?;
    state["counters"]["tx_packets"].as_u64().with_context(|| format!("no counters: {state}"))
}

/// Packets that the kernel itself sent by the tunnel's twin: OSPF's own.
fn twin_sent(scene: &Scene) -> Result<u64> {
    let text = scene.alpha.namespace.run("cat /sys/class/net/to-beta/statistics/tx_packets")?;
    text.trim().parse().context("the twin's counter")
}
