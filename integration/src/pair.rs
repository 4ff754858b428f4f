//! The two labs of most tests: a pair of Culverts, and a Culvert with a foreign peer. Static routes, no OSPF.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use crate::checks::{Pinging, reachable};
use crate::configuration::{aes_128_gcm, crypto_mapped_tunnel, protected_tunnel, static_routes};
use crate::foreign::{Mode, Settings};
use crate::gateway::{Gateway, Options};
use crate::lab::{ALPHA, BETA, Foreign, GAMMA, Lab, Site};

/// Pre-shared key of the tests.
pub const KEY: &str = "lab-secret";
/// How long anything may take to come up on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// alpha and beta under an ipsec-profile.
#[derive(Debug)]
pub struct Pair {
    /// A Culvert gateway.
    pub alpha: Gateway,
    /// A Culvert gateway.
    pub beta: Gateway,
    /// Cables and hosts.
    pub lab: Lab,
}

impl Pair {
    /// Both gateways with their interfaces, and no tunnel.
    pub fn bare() -> Result<Self> {
        let mut lab = Lab::new()?;
        let alpha = lab.culvert(ALPHA, &Options::default())?;
        let beta = lab.culvert(BETA, &Options::default())?;
        Ok(Self { alpha, beta, lab })
    }

    /// Both gateways with a protected tunnel that passes pings.
    pub fn up() -> Result<Self> {
        let pair = Self::bare()?;
        pair.configure()?;
        pair.passes(PATIENCE)?;
        Ok(pair)
    }

    /// Tells both gateways of the tunnel.
    pub fn configure(&self) -> Result<()> {
        for (gateway, own, peer) in [(&self.alpha, ALPHA, BETA), (&self.beta, BETA, ALPHA)] {
            protected_tunnel(&gateway.api, own, peer, KEY)?;
            static_routes(&gateway.api, peer)?;
        }
        Ok(())
    }

    /// Waits until beta's host answers alpha's.
    pub fn passes(&self, limit: Duration) -> Result<()> {
        reachable(self.lab.host(ALPHA)?, &BETA.host()[0], limit)
    }

    /// Pings from alpha's host to beta's in the background.
    pub fn pinging(&self, seconds: u16) -> Result<Pinging> {
        pinging(&self.lab, BETA, seconds)
    }
}

/// alpha with a crypto map, and gamma.
#[derive(Debug)]
pub struct Mapped {
    /// A Culvert gateway.
    pub alpha: Gateway,
    /// The foreign gateway.
    pub gamma: Foreign,
    /// Cables and hosts.
    pub lab: Lab,
}

impl Mapped {
    /// gamma is up, alpha has its interfaces, and neither has a tunnel; `settings` are gamma's.
    pub fn bare(settings: Settings) -> Result<Self> {
        let mut lab = Lab::new()?;
        let gamma = lab.booting_foreign(settings)?;
        let alpha = lab.culvert(ALPHA, &Options::default())?;
        let mapped = Self { alpha, gamma, lab };
        mapped.start_gamma()?;
        Ok(mapped)
    }

    fn start_gamma(&self) -> Result<()> {
        let gateway = &self.gamma.gateway;
        gateway.configure()?;
        gateway.run(&format!("ip route replace {} dev {}", ALPHA.red4(), gateway.tunnel_name())).map(drop)
    }

    /// Cuts gamma's power, and has it boot again with what it was told.
    pub fn reboot_gamma(&mut self) -> Result<()> {
        self.gamma.reboot()?;
        self.start_gamma()
    }

    /// A tunnel in this mode that passes pings.
    pub fn up(mode: Mode) -> Result<Self> {
        let mapped = Self::bare(Settings { mode, ..Settings::new(GAMMA, ALPHA, KEY) })?;
        mapped.configure(mode)?;
        mapped.passes(PATIENCE)?;
        Ok(mapped)
    }

    /// Tells alpha of the crypto map and the tunnel, with AES-128-GCM.
    pub fn configure(&self, mode: Mode) -> Result<()> {
        self.configure_with(&aes_128_gcm(mode))
    }

    /// Tells alpha of the crypto map and the tunnel, with this transform-set.
    pub fn configure_with(&self, transform_set: &Value) -> Result<()> {
        crypto_mapped_tunnel(&self.alpha.api, ALPHA, GAMMA, transform_set, KEY)?;
        static_routes(&self.alpha.api, GAMMA)
    }

    /// Waits until gamma's host answers alpha's.
    pub fn passes(&self, limit: Duration) -> Result<()> {
        reachable(self.lab.host(ALPHA)?, &GAMMA.host()[0], limit)
    }

    /// Pings from alpha's host to gamma's in the background.
    pub fn pinging(&self, seconds: u16) -> Result<Pinging> {
        pinging(&self.lab, GAMMA, seconds)
    }
}

fn pinging(lab: &Lab, to: Site, seconds: u16) -> Result<Pinging> {
    Pinging::start(lab.host(ALPHA)?, &to.host()[0], seconds)
}

/// The tunnel to gamma as an ipsec-profile protects it, with these changes to the isakmp-policy.
pub fn profile_towards_gamma(alpha: &Gateway, policy: &Value) -> Result<()> {
    alpha.api.put("/v1/isakmp-policies/main", policy)?;
    protected_tunnel(&alpha.api, ALPHA, GAMMA, KEY)?;
    alpha.api.put("/v1/transform-sets/aes256", &json!({"encryption": "aes-128-gcm", "mode": "transport"}))?;
    static_routes(&alpha.api, GAMMA)
}
