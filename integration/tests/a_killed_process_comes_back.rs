//! `kill -9` of either process while traffic runs.

use anyhow::{Result, bail};
use integration::foreign::Mode;
use integration::lab::{ALPHA, BETA, GAMMA};
use integration::pair::{Mapped, PATIENCE, Pair};
use integration::pcap::exchange;
use integration::{sa, wait};
use std::time::SystemTime;

#[test]
fn without_culvertd_no_packet_is_lost_and_afterwards_the_tables_agree() -> Result<()> {
    let pair = Pair::up()?;
    let traffic = pair.pinging(10)?;
    pair.alpha.control.kill()?;
    wait::until("another culvertd", PATIENCE, || {
        if pair.alpha.control.starts() > 1 { Ok(()) } else { Err("not yet") }
    })?;
    pair.alpha.answers(PATIENCE)?;
    traffic.still_running()?;
    pair.alpha.healthy(PATIENCE)?;
    wait::until("both ends to agree", PATIENCE, || sa::agree((&pair.alpha, ALPHA), (&pair.beta, BETA)))?;
    pair.alpha.tunnel_up("to-beta", PATIENCE)?;
    let pings = traffic.finish()?;
    assert!(pings.all_answered(), "{pings:?}");
    Ok(())
}

#[test]
fn a_dataplane_resumes_its_sas_and_uses_no_sequence_number_twice() -> Result<()> {
    let mapped = Mapped::up(Mode::Transport)?;
    let sniffer = mapped.lab.sniff()?;
    let spis = wait::until("the SAs to be shown", PATIENCE, || {
        let spis = sa::spis(&sa::with_peer(&mapped.alpha, GAMMA)?, true);
        if spis.is_empty() { bail!("none") } else { Ok(spis) }
    })?;
    let traffic = mapped.pinging(5)?;
    let at = SystemTime::now();
    mapped.alpha.dataplane.kill()?;
    wait::until("another dataplane", PATIENCE, || {
        if mapped.alpha.dataplane.starts() > 1 { Ok(()) } else { bail!("not yet") }
    })?;
    mapped.passes(PATIENCE)?;
    assert!(traffic.finish()?.received > 0);
    assert_eq!(sa::spis(&sa::with_peer(&mapped.alpha, GAMMA)?, true), spis);
    assert_eq!(mapped.gamma.gateway.xfrm_error("XfrmInStateSeqError")?, 0);
    for capture in sniffer.finish()? {
        assert_eq!(capture.repeated_sequence_numbers(), [].into());
        assert_eq!(
            capture.exchanges(exchange::IKE_SA_INIT, at) + capture.exchanges(exchange::CREATE_CHILD_SA, at),
            0
        );
        assert!(capture.leaks(&mapped.lab.black_addresses()).is_empty());
    }
    Ok(())
}
