//! The machine of a foreign gateway loses its power under a living tunnel and boots again, knowing of nothing.

use anyhow::{Result, ensure};
use integration::checks::ping;
use integration::foreign::Mode;
use integration::interop::{Role, Scenario};
use integration::lab::{ALPHA, GAMMA};
use integration::pair::{Mapped, PATIENCE};
use integration::{sa, wait};

#[test]
fn with_gre_over_what_is_agreed_anew() -> Result<()> {
    let mut mapped = Mapped::up(Mode::Transport)?;
    let sniffer = mapped.lab.sniff()?;
    let scenario = |role| Scenario {
        number: 12,
        what: "the peer's machine reboots under a living tunnel: INITIAL_CONTACT; GRE",
        peer: "strongSwan",
        role,
    };
    scenario(Role::Responder).judge(|| {
        let old = sa::spis(&sa::with_peer(&mapped.alpha, GAMMA)?, true);
        // What we would do ourselves, when its silence is found out, is not to be waited for.
        mapped.lab.may_begin(ALPHA, false)?;
        mapped.reboot_gamma()?;
        wait::until("gamma's negotiation", PATIENCE, || mapped.gamma.gateway.begin())?;
        mapped.passes(PATIENCE)?;
        let new = sa::spis(&sa::with_peer(&mapped.alpha, GAMMA)?, true);
        ensure!(!new.is_empty() && new.is_disjoint(&old), "{old:08x?} {new:08x?}");
        let sas = mapped.alpha.api.items("/v1/isakmp-sas")?;
        ensure!(sas.len() == 1, "the old IKE SA is still there: {sas:?}");
        for address in GAMMA.host() {
            let pings = ping(mapped.lab.host(ALPHA)?, &address, 20)?;
            ensure!(pings.all_answered(), "{address}: {pings:?}");
        }
        Ok(())
    })?;
    for capture in sniffer.finish()? {
        let leaks = capture.leaks(&mapped.lab.black_addresses());
        ensure!(leaks.is_empty() && capture.esp_frames() > 0, "{}: {leaks:?}", capture.interface);
        ensure!(capture.repeated_sequence_numbers().is_empty(), "{}", capture.interface);
    }
    Ok(())
}
