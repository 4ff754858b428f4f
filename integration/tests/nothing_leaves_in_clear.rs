//! Fail closed: with no SA, a wrong key, or in the middle of a teardown, the wire shows nothing of a passenger.

use anyhow::{Result, ensure};
use integration::checks::ping;
use integration::configuration::{pre_shared_key, protected_tunnel, static_routes};
use integration::foreign::{Mode, Settings};
use integration::gateway::{Gateway, Options};
use integration::lab::{ALPHA, BETA, GAMMA, Lab, Site};
use integration::pair::{KEY, Mapped, PATIENCE, Pair};
use integration::sniffer::Sniffer;
use integration::wait;

fn only_protected(sniffer: Sniffer, lab: &Lab) -> Result<()> {
    for capture in sniffer.finish()? {
        let mut leaks = capture.leaks(&lab.black_addresses());
        // The kernel of a peer that has no IKE socket says so: port unreachable, about our IKE_SA_INIT.
        for (from, to) in [(BETA, ALPHA), (ALPHA, BETA)] {
            leaks.remove(&format!("IP protocol 1 {} > {}", from.black(), to.black()));
        }
        ensure!(leaks.is_empty(), "{}: {leaks:?}", capture.interface);
    }
    Ok(())
}

/// Waits until ten pings to a host of `far` are ten drops for want of an SA. What is written to the API is in the tables
/// a moment later, and until then the pings end elsewhere.
fn ten_pings_are_ten_drops(lab: &Lab, alpha: &Gateway, far: Site) -> Result<()> {
    wait::until("ten pings to be dropped for want of an SA", PATIENCE, || {
        let before = alpha.drops("no_sa")?;
        ensure!(ping(lab.host(ALPHA)?, &far.host()[0], 10)?.received == 0, "an answer came");
        ensure!(alpha.drops("no_sa")? == before + 10, "{before} before, {} now", alpha.drops("no_sa")?);
        Ok(())
    })
}

#[test]
fn a_tunnel_whose_peer_is_silent_drops_and_counts() -> Result<()> {
    let mut lab = Lab::new()?;
    let alpha = lab.culvert(ALPHA, &Options::default())?;
    let _beta = lab.site(BETA)?;
    let sniffer = lab.sniff()?;
    protected_tunnel(&alpha.api, ALPHA, BETA, KEY)?;
    static_routes(&alpha.api, BETA)?;
    ten_pings_are_ten_drops(&lab, &alpha, BETA)?;
    // The underlay has nobody at beta's address; its router says so, of the IKE messages that it was sent.
    let routers_word = format!("IP protocol 1 {} > {}", ALPHA.router(), ALPHA.black());
    for capture in sniffer.finish()? {
        let leaks = capture.leaks(&[ALPHA.black().into(), BETA.black().into()]);
        ensure!(leaks.keys().all(|leak| *leak == routers_word), "{}: {leaks:?}", capture.interface);
        ensure!(capture.esp_frames() == 0, "ESP without an SA on {}", capture.interface);
    }
    Ok(())
}

#[test]
fn a_crypto_map_tunnel_without_its_sa_drops_and_counts() -> Result<()> {
    let mapped = Mapped::bare(Settings { secret: "another".into(), ..Settings::new(GAMMA, ALPHA, KEY) })?;
    let sniffer = mapped.lab.sniff()?;
    mapped.configure(Mode::Transport)?;
    ten_pings_are_ten_drops(&mapped.lab, &mapped.alpha, GAMMA)?;
    only_protected(sniffer, &mapped.lab)
}

#[test]
fn a_tunnel_that_no_crypto_map_entry_matches_drops_and_counts() -> Result<()> {
    let mapped = Mapped::up(Mode::Transport)?;
    let sniffer = mapped.lab.sniff()?;
    let rule = serde_json::json!({"sequence": 10, "action": "permit", "protocol": "udp", "source": "any", "destination": GAMMA.black()});
    mapped.alpha.api.put("/v1/access-lists/to-peer", &serde_json::json!({"rules": [rule]}))?;
    let before = mapped.alpha.drops("unprotected")?;
    wait::until("the first unprotected packet", PATIENCE, || {
        ping(mapped.lab.host(ALPHA)?, &GAMMA.host()[0], 5)?;
        ensure!(mapped.alpha.drops("unprotected")? > before, "none yet");
        Ok::<(), anyhow::Error>(())
    })?;
    only_protected(sniffer, &mapped.lab)
}

#[test]
fn a_tunnel_taken_down_under_traffic_leaves_no_hole() -> Result<()> {
    let pair = Pair::up()?;
    let sniffer = pair.lab.sniff()?;
    let traffic = pair.pinging(4)?;
    for route in ["beta-v4", "beta-v6"] {
        pair.alpha.api.delete(&format!("/v1/routes/{route}"))?;
    }
    pair.alpha.api.delete("/v1/tunnels/to-beta")?;
    let pings = traffic.finish()?;
    assert!(pings.lost() > 0, "{pings:?}");
    only_protected(sniffer, &pair.lab)
}

#[test]
fn a_wrong_key_is_told_as_the_cause_and_lets_nothing_out() -> Result<()> {
    let pair = Pair::bare()?;
    let sniffer = pair.lab.sniff()?;
    pair.configure()?;
    pre_shared_key(&pair.beta.api, ALPHA, "another key")?;
    pair.alpha.api.post("/v1/tunnels/to-beta/rekey").ok();
    let cause = pair.alpha.tunnel_cause("to-beta", "auth", PATIENCE)?;
    assert!(cause.to_lowercase().contains("auth"), "{cause}");
    assert_eq!(ping(pair.lab.host(ALPHA)?, &BETA.host()[0], 10)?.received, 0);
    only_protected(sniffer, &pair.lab)
}
