//! alpha and gamma change keys while pings run: who has what SAs, what was lost, and why.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};

use crate::checks::Pings;
use crate::gateway::Gateway;
use crate::lab::GAMMA;
use crate::pair::{Mapped, PATIENCE};
use crate::{sa, wait};

/// What was lost while keys changed.
#[derive(Clone, Copy, Debug)]
pub struct Losses {
    /// Pings from alpha's host to gamma's.
    pub pings: Pings,
    /// Echo requests that never came to gamma's host.
    pub outbound: u64,
    /// ESP that alpha got under an SPI that it had no SA for.
    pub unknown_spi: u64,
}

impl Losses {
    /// An error if anything was lost.
    pub fn none(self) -> Result<()> {
        ensure!(self.pings.all_answered() && self.unknown_spi == 0, "{self:?}");
        Ok(())
    }

    /// An error unless all that was lost came under an SPI that alpha could not have keys for yet: a responder may
    /// send on an SA as soon as it has sent the answer that makes it one (RFC 7296, section 2.8), so its packets can
    /// overtake that answer. Nothing that alpha sent was lost.
    pub fn only_what_overtook_the_answer(self) -> Result<()> {
        ensure!(self.pings.sent > 0 && self.outbound == 0, "{self:?}");
        ensure!(self.pings.lost() == self.unknown_spi, "lost for another reason: {self:?}");
        Ok(())
    }
}

impl Mapped {
    /// SPIs that alpha sends ESP to gamma with.
    pub fn outbound_spis(&self) -> Result<BTreeSet<u32>> {
        Ok(sa::spis(&sa::with_peer(&self.alpha, GAMMA)?, true))
    }

    /// The initiator's SPIs of alpha's IKE SAs that are up.
    pub fn ike_spis(&self) -> Result<BTreeSet<String>> {
        established(&self.alpha)
    }

    /// Orders alpha to rekey its one IKE SA.
    pub fn rekey_ike(&self) -> Result<()> {
        rekey_ike(&self.alpha)
    }

    /// Orders alpha to rekey its IPsec SAs.
    pub fn rekey_children(&self) -> Result<()> {
        self.alpha.api.post("/v1/crypto-maps/outside/rekey").map(drop)
    }

    /// An error unless alpha sends on new ESP SAs and no others, in place of these.
    pub fn esp_is_new(&self, old: &BTreeSet<u32>) -> Result<()> {
        let new = self.outbound_spis()?;
        ensure!(!new.is_empty() && new.is_disjoint(old), "{new:08x?}");
        Ok(())
    }

    /// An error unless there is one IKE SA beside, or in place of, these.
    pub fn ike_is_new(&self, old: &BTreeSet<String>) -> Result<()> {
        let new = self.ike_spis()?;
        ensure!(new.difference(old).count() == 1, "{new:?}");
        Ok(())
    }

    /// What is lost, of pings for that long, while `begin` has its effect, which `done` tells.
    pub fn losses(
        &self,
        seconds: u16,
        begin: impl FnOnce() -> Result<()>,
        done: impl Fn() -> Result<()>,
    ) -> Result<Losses> {
        let (unknown_before, echoes_before) = (self.alpha.drops("unknown_spi")?, self.echoes()?);
        let traffic = self.pinging(seconds)?;
        begin()?;
        wait::until("the rekey", PATIENCE, done)
            .with_context(|| self.gamma.gateway.log().unwrap_or_default())?;
        traffic.still_running()?;
        let pings = traffic.finish()?;
        Ok(Losses {
            pings,
            outbound: pings.sent.saturating_sub(self.echoes()? - echoes_before),
            unknown_spi: self.alpha.drops("unknown_spi")? - unknown_before,
        })
    }

    /// Echo requests that came to gamma's host.
    fn echoes(&self) -> Result<u64> {
        let all = self.lab.host(GAMMA)?.run("nstat -asz IcmpInEchos")?;
        let line = all.lines().find(|line| line.starts_with("IcmpInEchos"));
        let value = line.and_then(|line| line.split_whitespace().nth(1)).context("no such counter")?;
        value.parse().with_context(|| format!("not a count: {value}"))
    }
}

/// The initiator's SPIs, or cookies, of a gateway's IKE SAs that are up.
pub fn established(gateway: &Gateway) -> Result<BTreeSet<String>> {
    let sas = gateway.api.items("/v1/isakmp-sas")?;
    let up = sas.iter().filter(|sa| sa["state"] == "established");
    Ok(up.filter_map(|sa| sa["spi_initiator"].as_str().map(str::to_owned)).collect())
}

/// Orders a gateway to rekey its one IKE SA that is up.
pub fn rekey_ike(gateway: &Gateway) -> Result<()> {
    let mut sas = gateway.api.items("/v1/isakmp-sas")?;
    sas.retain(|sa| sa["state"] == "established");
    let [sa] = sas.as_slice() else { anyhow::bail!("not one IKE SA: {sas:?}") };
    let id = sa["id"].as_str().context("no id")?;
    gateway.api.post(&format!("/v1/isakmp-sas/{id}/rekey")).map(drop)
}
