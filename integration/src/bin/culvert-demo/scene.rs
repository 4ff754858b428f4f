//! The lab of the demo: made, started and configured.

use std::time::Duration;

use anyhow::{Context, Result};
use integration::configuration::{aes_128_gcm, crypto_mapped_tunnel, protected_tunnel};
use integration::foreign::{Mode, Settings};
use integration::frr::{self, Frr};
use integration::gateway::{Gateway, Options};
use integration::lab::{ALPHA, BETA, Foreign, GAMMA, Lab, Site};
use integration::sniffer::Sniffer;

use crate::screen::Screen;

/// How long anything may take to come up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

const API_PORT_ALPHA: u16 = 8443;
const API_PORT_BETA: u16 = 8444;
const KEY_BETA: &str = "demo alpha-beta: not for production";
const KEY_GAMMA: &str = "demo alpha-gamma: not for production";

/// All that runs. Fields go in this order: the witness sees the gateways go, the namespaces go last.
pub(crate) struct Scene {
    /// FRR on alpha.
    pub(crate) frr_alpha: Frr,
    /// FRR on beta.
    pub(crate) frr_beta: Frr,
    /// A Culvert gateway.
    pub(crate) alpha: Gateway,
    /// A Culvert gateway.
    pub(crate) beta: Gateway,
    /// The foreign gateway.
    pub(crate) gamma: Foreign,
    /// The witness.
    pub(crate) sniffer: Sniffer,
    /// Cables and hosts.
    pub(crate) lab: Lab,
}

impl Scene {
    /// Sets everything up, by HTTP where it concerns a Culvert gateway.
    pub(crate) fn set(screen: &Screen) -> Result<Self> {
        let (mut lab, gamma) =
            screen.step("namespaces, cables, underlay router; gamma's kernel boots", || {
                let mut lab = Lab::unwitnessed()?;
                let gamma = lab.booting_foreign(Settings::new(GAMMA, ALPHA, KEY_GAMMA))?;
                Ok((lab, gamma))
            })?;
        let (alpha_place, beta_place) = (lab.site(ALPHA)?, lab.site(BETA)?);
        let sniffer = screen.step("the sniffer listens on the underlay", || lab.sniff())?;
        let start = |place, site: Site, api_port| {
            screen.step(&format!("{}: culvertd and culvert-dataplane start", site.name), || {
                let options = Options { api_port, ..Options::default() };
                Gateway::start(place, site.name, &options).with_context(|| site.name)
            })
        };
        let alpha = start(alpha_place, ALPHA, API_PORT_ALPHA)?;
        let beta = start(beta_place, BETA, API_PORT_BETA)?;
        screen.step("gamma: strongSwan, GRE and FRR come up", || {
            gamma.gateway.configure()?;
            gamma.gateway.speak_ospf()
        })?;
        screen.step("alpha and beta are configured over HTTP", || {
            lab.configure_culvert(&alpha, ALPHA)?;
            lab.configure_culvert(&beta, BETA)?;
            protected_tunnel(&alpha.api, ALPHA, BETA, KEY_BETA)?;
            protected_tunnel(&beta.api, BETA, ALPHA, KEY_BETA)?;
            crypto_mapped_tunnel(&alpha.api, ALPHA, GAMMA, &aes_128_gcm(Mode::Transport), KEY_GAMMA)?;
            // zebra 8.4 may miss an address that comes with a new device while it starts.
            alpha.has_addresses(&["red0", "to-beta", "to-gamma"])?;
            beta.has_addresses(&["red0", "to-alpha"])
        })?;
        let (frr_alpha, frr_beta) = screen.step("FRR starts on the twins of alpha and beta", || {
            let start = |gateway: &Gateway, site: Site, tunnels: &[&str]| {
                let text = frr::ospf(&site.black().to_string(), tunnels, &["red0"]);
                Frr::start(&gateway.namespace, &gateway.dir().join("frr"), &text)
            };
            Ok((start(&alpha, ALPHA, &["to-beta", "to-gamma"])?, start(&beta, BETA, &["to-alpha"])?))
        })?;
        Ok(Self { frr_alpha, frr_beta, alpha, beta, gamma, sniffer, lab })
    }

    /// Configures the tunnel to beta again, after it was deleted.
    pub(crate) fn tunnel_to_beta_again(&self) -> Result<()> {
        protected_tunnel(&self.alpha.api, ALPHA, BETA, KEY_BETA)
    }
}
