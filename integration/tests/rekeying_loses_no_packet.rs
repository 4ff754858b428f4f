//! New keys while traffic runs, asked for by either side.

use anyhow::{Result, bail};
use integration::configuration::profile;
use integration::foreign::Mode;
use integration::gateway::Gateway;
use integration::lab::{ALPHA, BETA, GAMMA, Site};
use integration::pair::{Mapped, PATIENCE, Pair};
use integration::{checks, sa, wait};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

fn sending_on_others_than(gateway: &Gateway, peer: Site, old: &BTreeSet<u32>) -> Result<()> {
    wait::until("new SPIs", PATIENCE, || {
        let new = sa::spis(&sa::with_peer(gateway, peer)?, true);
        if !new.is_empty() && new.is_disjoint(old) { Ok(()) } else { bail!("{new:08x?}") }
    })
}

#[test]
fn on_request() -> Result<()> {
    let pair = Pair::up()?;
    let first = sa::with_peer(&pair.alpha, BETA)?;
    assert!(first.iter().all(|sa| sa.key_exchange == (None, vec![])), "those of the IKE SA serve: {first:?}");
    let old = sa::spis(&first, true);
    let traffic = pair.pinging(8)?;
    pair.alpha.api.post("/v1/tunnels/to-beta/rekey")?;
    sending_on_others_than(&pair.alpha, BETA, &old)?;
    traffic.still_running()?;
    let pings = traffic.finish()?;
    assert!(pings.all_answered(), "{pings:?}");
    let made = (Some(31), vec!["ml-kem-768".to_owned()]);
    for (gateway, peer) in [(&pair.alpha, BETA), (&pair.beta, ALPHA)] {
        let sas = sa::with_peer(gateway, peer)?;
        let new: Vec<_> = sas.iter().filter(|sa| sa.outbound && sa.in_use).collect();
        assert!(!new.is_empty() && new.iter().all(|sa| sa.key_exchange == made), "{sas:?}");
    }
    Ok(())
}

#[test]
fn by_packet_count() -> Result<()> {
    let pair = Pair::up()?;
    let mut body = profile();
    body["lifetime_packets"] = json!(1000);
    pair.alpha.api.put("/v1/ipsec-profiles/main", &body)?;
    // A lifetime is agreed on with an SA: the next one has the new one.
    let unlimited = sa::spis(&sa::with_peer(&pair.alpha, BETA)?, true);
    pair.alpha.api.post("/v1/tunnels/to-beta/rekey")?;
    sending_on_others_than(&pair.alpha, BETA, &unlimited)?;
    let limited = sa::spis(&sa::with_peer(&pair.alpha, BETA)?, true);
    let pings = checks::ping_every(pair.lab.host(ALPHA)?, &BETA.host()[0], 2500, Duration::from_millis(2))?;
    sending_on_others_than(&pair.alpha, BETA, &limited)?;
    assert!(pings.all_answered(), "{pings:?}");
    Ok(())
}

#[test]
fn begun_by_strongswan() -> Result<()> {
    let mapped = Mapped::up(Mode::Transport)?;
    let old = sa::spis(&sa::with_peer(&mapped.alpha, GAMMA)?, true);
    let traffic = mapped.pinging(8)?;
    mapped.gamma.gateway.run("swanctl --rekey --child gre")?;
    sending_on_others_than(&mapped.alpha, GAMMA, &old)?;
    traffic.still_running()?;
    let pings = traffic.finish()?;
    assert!(pings.all_answered(), "{pings:?}");
    assert_eq!(mapped.gamma.gateway.xfrm_error("XfrmInNoStates")?, 0);
    Ok(())
}
