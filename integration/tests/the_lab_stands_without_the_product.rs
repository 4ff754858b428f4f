//! Two foreign gateways meet in the lab: whatever fails elsewhere is not the lab's fault.

use std::time::Duration;

use anyhow::Result;
use integration::checks::{ping, reachable};
use integration::foreign::Settings;
use integration::lab::{BETA, GAMMA, Lab};

#[test]
fn two_foreign_gateways_exchange_routes_and_pings_over_gre_in_esp() -> Result<()> {
    let mut lab = Lab::new()?;
    let beta = lab.booting_foreign(Settings::new(BETA, GAMMA, "lab-secret"))?;
    let gamma = lab.booting_foreign(Settings::new(GAMMA, BETA, "lab-secret"))?;
    for foreign in [&beta, &gamma] {
        foreign.gateway.configure()?;
        foreign.gateway.speak_ospf()?;
    }
    let sniffer = lab.sniff()?;

    gamma.gateway.run("swanctl --initiate --child gre")?;
    let [host4, host6] = BETA.host();
    reachable(lab.host(GAMMA)?, &host6, Duration::from_secs(20))?;
    reachable(lab.host(GAMMA)?, &host4, Duration::from_secs(30))?;
    assert!(ping(lab.host(GAMMA)?, &host4, 10)?.all_answered());
    assert!(beta.gateway.run("ip xfrm state")?.contains("mode transport"));

    for capture in sniffer.finish()? {
        assert!(
            capture.leaks(&lab.black_addresses()).is_empty(),
            "{:?}",
            capture.leaks(&lab.black_addresses())
        );
        assert!(capture.esp_frames() > 20 && capture.repeated_sequence_numbers().is_empty());
    }
    Ok(())
}

#[test]
fn a_half_open_initiator_makes_a_foreign_gateway_ask_for_cookies() -> Result<()> {
    let mut lab = Lab::new()?;
    let beta = lab.booting_foreign(Settings::new(BETA, GAMMA, "lab-secret"))?;
    let wary = Settings { charon: "cookie_threshold = 1\n", ..Settings::new(GAMMA, BETA, "lab-secret") };
    let gamma = lab.booting_foreign(wary)?;
    beta.gateway.configure()?;
    gamma.gateway.configure()?;
    gamma.gateway.verifies_cookies()?;
    lab.hostile("half-open", GAMMA, BETA)?;
    beta.gateway.run("swanctl --initiate --child gre")?;
    let log = gamma.gateway.log()?;
    assert!(log.contains("N(COOKIE)"), "{log}");
    Ok(())
}
