//! A foreign gateway gets another address in the middle of a tunnel, and says so by MOBIKE (RFC 4555).

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use integration::checks::{Pinging, ping};
use integration::foreign::{Mode, Settings};
use integration::interop::{Role, Scenario};
use integration::lab::{ALPHA, GAMMA};
use integration::pair::{KEY, Mapped, PATIENCE};
use integration::wait;
use serde_json::json;

/// Another host of gamma's black network.
const MOVED_TO: u8 = 77;

/// What charon protects: GRE of its whole network.
const SELECTOR: &str = "local_ts = 203.0.113.0/24[gre]";

/// Outbound SPI of alpha, and where its packets go.
fn outbound(mapped: &Mapped) -> Result<(String, String)> {
    let sas = mapped.alpha.api.items("/v1/ipsec-sas")?;
    let mut outbound = sas.iter().filter(|sa| sa["direction"] == "outbound" && sa["in_use"] == true);
    let (Some(sa), None) = (outbound.next(), outbound.next()) else { bail!("{sas:?}") };
    let text = |field: &str| sa[field].as_str().map(str::to_owned).context("no text");
    Ok((text("spi")?, text("remote")?))
}

/// GRE's own address stays where it is, out of charon's sight; what carries ESP becomes another one.
fn gets_another_address(mapped: &Mapped, to: Ipv4Addr) -> Result<()> {
    let (from, router) = (GAMMA.black(), GAMMA.router());
    mapped
        .gamma
        .gateway
        .run(&format!(
            "set -e; sysctl -qw net.ipv4.conf.eth0.promote_secondaries=1
             ip addr add {to}/24 dev eth0; ip addr add {from}/32 dev lo; ip addr del {from}/24 dev eth0
             ip route replace {far}/24 via {router} src {to}",
            far = ALPHA.black_network(),
        ))
        .map(drop)
}

#[test]
fn and_is_followed_with_the_same_sas() -> Result<()> {
    let network = format!("{}/24", GAMMA.black_network());
    let settings = Settings {
        mode: Mode::Tunnel,
        charon: "interfaces_use = eth0",
        // A selector that is one address would be changed along with it.
        child: SELECTOR,
        ..Settings::new(GAMMA, ALPHA, KEY)
    };
    let mapped = Mapped::bare(settings)?;
    let what = "MOBIKE: the peer's address changes under a tunnel, and its SAs go on; GRE";
    Scenario { number: 28, what, peer: "strongSwan", role: Role::Responder }.judge(|| {
        // Who began an IKE SA says where its peer is to find it (RFC 4555 section 3.5).
        mapped.lab.may_begin(ALPHA, false)?;
        mapped.configure(Mode::Tunnel)?;
        let rule = json!({
            "sequence": 10, "action": "permit", "protocol": "gre", "source": ALPHA.black(), "destination": network,
        });
        mapped.alpha.api.put("/v1/access-lists/to-peer", &json!({"rules": [rule]}))?;
        wait::until("gamma's child", PATIENCE, || mapped.gamma.gateway.begin())?;
        mapped.passes(PATIENCE)?;
        let (spi, before) = outbound(&mapped)?;
        ensure!(before.contains(&GAMMA.black().to_string()), "{before}");
        let [a, b, c, _] = GAMMA.black().octets();
        let moved_to = Ipv4Addr::new(a, b, c, MOVED_TO);
        let traffic = Pinging::start(mapped.lab.host(ALPHA)?, &GAMMA.host()[0], 10)?;
        gets_another_address(&mapped, moved_to)?;
        wait::until("alpha to follow", Duration::from_secs(8), || {
            let (after, remote) = outbound(&mapped)?;
            ensure!(after == spi && remote.contains(&moved_to.to_string()), "{after} to {remote}, was {spi}");
            anyhow::Ok(())
        })
        .with_context(|| mapped.gamma.gateway.log().unwrap_or_default())?;
        traffic.still_running()?;
        let pings = traffic.finish()?;
        println!("{pings:?}");
        // 50 a second; between the change and charon's word of it nobody knows where gamma is.
        ensure!(pings.lost() <= 50, "{pings:?}");
        for (from, to) in [(ALPHA, GAMMA), (GAMMA, ALPHA)] {
            let pings = ping(mapped.lab.host(from)?, &to.host()[0], 20)?;
            ensure!(pings.all_answered(), "from {}: {pings:?}", from.name);
        }
        let log = mapped.gamma.gateway.log()?;
        ensure!(log.contains("N(UPD_SA_ADDR)"), "charon did not say that it moved:\n{log}");
        let sas = mapped.alpha.api.items("/v1/isakmp-sas")?;
        ensure!(sas.len() == 1, "{sas:?}");
        Ok(())
    })
}
