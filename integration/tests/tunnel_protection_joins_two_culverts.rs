//! An ipsec-profile on the tunnel: keys by IKEv2, both families, TCP, and an exact MTU.

use anyhow::{Context, Result};
use integration::checks::{ping, ping_sized, throughput};
use integration::lab::{ALPHA, BETA};
use integration::pair::Pair;
use integration::sa;
use serde_json::Value;

#[test]
fn hosts_reach_each_other_in_both_families_and_the_wire_shows_only_esp() -> Result<()> {
    let pair = Pair::bare()?;
    let sniffer = pair.lab.sniff()?;
    pair.configure()?;
    pair.passes(integration::pair::PATIENCE)?;
    for address in BETA.host() {
        let pings = ping(pair.lab.host(ALPHA)?, &address, 20)?;
        assert!(pings.all_answered(), "{address}: {pings:?}");
    }
    let sas = sa::with_peer(&pair.alpha, BETA)?;
    assert!(sas.iter().all(|sa| sa.encryption == "aes-256-gcm" && sa.mode == "transport"), "{sas:?}");
    sa::agree((&pair.alpha, ALPHA), (&pair.beta, BETA))?;
    // Without a word about it: ML-KEM after the Diffie-Hellman exchange.
    let ike_sas = pair.alpha.api.items("/v1/isakmp-sas")?;
    let post_quantum = |sa: &Value| sa["suite"].as_str().is_some_and(|suite| suite.contains("ml-kem-768"));
    assert!(!ike_sas.is_empty() && ike_sas.iter().all(post_quantum), "{ike_sas:?}");
    for capture in sniffer.finish()? {
        let leaks = capture.leaks(&pair.lab.black_addresses());
        assert!(leaks.is_empty() && capture.esp_frames() > 0, "{}: {leaks:?}", capture.interface);
    }
    Ok(())
}

#[test]
fn the_tunnel_takes_packets_up_to_its_mtu_and_tells_the_sender_of_larger_ones() -> Result<()> {
    const HEADERS_BYTES: u32 = 20 + 8;
    let pair = Pair::up()?;
    let state = pair.alpha.api.get("/v1/tunnels/to-beta/state")?;
    let mtu = u32::try_from(state["mtu_bytes"].as_u64().context("no MTU")?)?;
    let host = pair.lab.host(ALPHA)?;
    // Exact: the ESP packet of a passenger of this size has at most the wire's 1500 bytes, and one more would not fit.
    assert!((1400..1476).contains(&mtu), "{mtu}");
    assert!(ping_sized(host, &BETA.host()[0], mtu - HEADERS_BYTES)?.all_answered());
    assert_eq!(ping_sized(host, &BETA.host()[0], mtu + 1 - HEADERS_BYTES)?.received, 0);
    let learned = host.run(&format!("ip route get {}", BETA.host()[0]))?;
    assert!(learned.contains(&format!("mtu {mtu}")), "the host was not told: {learned}");
    Ok(())
}

#[test]
fn tcp_flows_through_the_tunnel() -> Result<()> {
    let pair = Pair::up()?;
    let address = &BETA.host()[0];
    let rate = throughput(pair.lab.host(ALPHA)?, (pair.lab.host(BETA)?, address), 2, &pair.lab.dir)?;
    assert!(rate > 1.0, "{rate} Mbit/s");
    Ok(())
}
