//! What arrives on the black port and should not: each kind has its counter, and the gateway goes on.

use anyhow::{Result, bail, ensure};
use integration::lab::{ALPHA, BETA};
use integration::pair::{PATIENCE, Pair};
use integration::wait;
use serde_json::json;

/// Sends a case five times and expects its counter to move by as many.
fn counted(pair: &Pair, case: &str, reason: &str) -> Result<()> {
    let before = pair.alpha.drops(reason)?;
    pair.lab.hostile(case, ALPHA, BETA)?;
    let after = pair.alpha.drops_more(reason, before + 4);
    after.map_err(|error| error.context(format!("{case} should be counted as {reason}")))?;
    Ok(())
}

fn alive(pair: &Pair) -> Result<()> {
    pair.passes(PATIENCE)?;
    ensure!(pair.alpha.dataplane.starts() == 1, "the dataplane of alpha was started again");
    ensure!(pair.alpha.control.starts() == 1, "the control plane of alpha was started again");
    Ok(())
}

#[test]
fn broken_ip_and_esp() -> Result<()> {
    let pair = Pair::up()?;
    counted(&pair, "truncated-ip", "truncated")?;
    counted(&pair, "short-header", "truncated")?;
    counted(&pair, "bad-checksum", "bad_checksum")?;
    counted(&pair, "unknown-spi", "unknown_spi")?;
    counted(&pair, "short-esp", "esp_malformed")?;
    // DPDK's af_packet lets the kernel reassemble (PACKET_FANOUT_FLAG_DEFRAG): five copies of each fragment of one
    // packet arrive as one whole packet.
    let before = pair.alpha.drops("unknown_spi")?;
    pair.lab.hostile("fragments", ALPHA, BETA)?;
    pair.alpha.drops_more("unknown_spi", before)?;
    alive(&pair)
}

#[test]
fn gre_in_clear_for_a_protected_tunnel() -> Result<()> {
    let pair = Pair::up()?;
    counted(&pair, "clear-gre", "gre_in_clear")?;
    counted(&pair, "unknown-gre", "gre_unknown_tunnel")?;
    alive(&pair)
}

#[test]
fn gre_headers_and_lengths_that_lie() -> Result<()> {
    let pair = Pair::up()?;
    // GRE by the operator's explicit word in clear: what is inside can be written by anyone.
    let mut body = integration::configuration::tunnel(ALPHA, BETA, &json!("none"));
    body["key"] = json!(null);
    pair.alpha.api.put("/v1/tunnels/to-beta", &body)?;
    pair.beta
        .api
        .put("/v1/tunnels/to-alpha", &integration::configuration::tunnel(BETA, ALPHA, &json!("none")))?;
    pair.passes(PATIENCE)?;
    for case in ["reserved-gre-bits", "gre-version-1", "gre-routing"] {
        counted(&pair, case, "gre_bad_header")?;
    }
    counted(&pair, "short-gre", "gre_bad_header")?;
    counted(&pair, "lying-inner-length", "truncated")?;
    alive(&pair)
}

#[test]
fn replays_and_forgeries_of_a_real_peer() -> Result<()> {
    let pair = Pair::up()?;
    let traffic = pair.pinging(30)?;
    counted(&pair, "replay", "esp_replayed")?;
    counted(&pair, "wrong-icv", "esp_auth_failed")?;
    drop(traffic);
    alive(&pair)
}

#[test]
fn ike_garbage_makes_no_state() -> Result<()> {
    let pair = Pair::up()?;
    let ike_sas = || pair.alpha.api.items("/v1/isakmp-sas").map(|sas| sas.len());
    // What is shown follows what is there by a moment.
    wait::until("the IKE SA to be shown", PATIENCE, || match ike_sas()? {
        1 => Ok(()),
        other => bail!("{other}"),
    })?;
    pair.lab.hostile("ike-garbage", ALPHA, BETA)?;
    assert_eq!(ike_sas()?, 1);
    alive(&pair)
}
