//! alpha and gamma with a NAT before one of them: what alpha is told there, and what it then shows.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::checks::Pinging;
use crate::configuration::{
    self, CRYPTO_MAP, aes_128_gcm, crypto_map, merge, pre_shared_key, protected_tunnel, static_routes,
};
use crate::foreign::Settings;
use crate::gateway::{Gateway, Options};
use crate::lab::{ALPHA, Foreign, GAMMA, Lab, Site};
use crate::nat::{Nat, PUBLIC_NETWORK};
use crate::pair::{KEY, PATIENCE};
use crate::wait;

/// What an Ethernet link leaves a passenger under ESP with AES-GCM in UDP, in transport mode.
pub const MTU_BYTES: u32 = 1434;

/// alpha, gamma, and a NAT before one of them.
#[derive(Debug)]
pub struct Natted {
    /// A Culvert gateway.
    pub alpha: Gateway,
    /// The foreign gateway.
    pub gamma: Foreign,
    /// What stands before one of them.
    pub nat: Nat,
    /// Cables and hosts.
    pub lab: Lab,
}

impl Natted {
    /// Nobody has a tunnel on alpha's side yet. gamma's word for the mode holds for both.
    pub fn before(hidden: Site, settings: Settings) -> Result<Self> {
        let mut lab = Lab::new()?;
        let gamma = lab.booting_foreign(Settings { mtu_bytes: MTU_BYTES, ..settings })?;
        let alpha = lab.culvert(ALPHA, &Options::default())?;
        let nat = Nat::before(&lab, hidden)?;
        gamma.gateway.configure()?;
        let route = format!("ip route replace {} dev {}", ALPHA.red4(), gamma.gateway.tunnel_name());
        gamma.gateway.run(&route)?;
        gamma.gateway.run(&format!("ip route replace {PUBLIC_NETWORK} via {}", GAMMA.router()))?;
        let public = json!({"destination": PUBLIC_NETWORK, "gateway": ALPHA.router(), "interface": "black0"});
        alpha.api.put("/v1/routes/underlay-nat", &public)?;
        alpha.api.put("/v1/transform-sets/to-peer", &aes_128_gcm(gamma.gateway.settings().mode))?;
        Ok(Self { alpha, gamma, nat, lab })
    }

    /// A tunnel on alpha with an ipsec-profile, with these fields changed.
    pub fn profile(&self, peer: Site, fields: &Value) -> Result<()> {
        let api = &self.alpha.api;
        protected_tunnel(api, ALPHA, peer, KEY)?;
        api.put("/v1/ipsec-profiles/main", &json!({"transform_sets": ["to-peer"]}))?;
        self.tunnel(peer, &json!({"ipsec_profile": "main"}), fields)
    }

    /// The same with a crypto map, whose entry has these fields changed.
    pub fn crypto_map(&self, peer: Site, fields: &Value) -> Result<()> {
        let api = &self.alpha.api;
        pre_shared_key(api, peer, KEY)?;
        let (source, destination) = (ALPHA.black(), peer.black());
        let rule = json!({
            "sequence": 10, "action": "permit", "protocol": "gre", "source": source, "destination": destination,
        });
        api.put("/v1/access-lists/to-peer", &json!({"rules": [rule]}))?;
        api.put(CRYPTO_MAP, &crypto_map(peer, fields))?;
        let mut interface = configuration::black(ALPHA);
        interface["crypto_map"] = json!("outside");
        api.put("/v1/interfaces/black0", &interface)?;
        self.tunnel(peer, &json!("crypto-map"), &json!({}))
    }

    fn tunnel(&self, peer: Site, protection: &Value, fields: &Value) -> Result<()> {
        let mut body = configuration::tunnel(ALPHA, peer, protection);
        merge(&mut body, fields);
        self.alpha.api.put("/v1/tunnels/to-gamma", &body)?;
        static_routes(&self.alpha.api, peer)
    }

    /// 50 pings a second in the background.
    pub fn pinging(&self, from: Site, to: Site, seconds: u16) -> Result<Pinging> {
        Pinging::start(self.lab.host(from)?, &to.host()[0], seconds)
    }

    /// The SPI that alpha sends with, and where to.
    pub fn outbound(&self) -> Result<(String, String)> {
        let sas = self.alpha.api.items("/v1/ipsec-sas")?;
        let mut outbound = sas.iter().filter(|sa| sa["direction"] == "outbound" && sa["in_use"] == true);
        let (Some(sa), None) = (outbound.next(), outbound.next()) else { bail!("{sas:?}") };
        let text = |field: &str| sa[field].as_str().map(str::to_owned).context("no text");
        Ok((text("spi")?, text("remote")?))
    }

    /// New keys come when they are asked for, and no packet is lost meanwhile.
    pub fn rekeys(&self, ask: impl Fn() -> Result<()>) -> Result<()> {
        let (old, _) = self.outbound()?;
        let traffic = self.pinging(ALPHA, GAMMA, 4)?;
        ask()?;
        wait::until("new SPIs", PATIENCE, || {
            let (new, _) = self.outbound()?;
            if new == old { bail!("still {old}") } else { Ok(()) }
        })?;
        traffic.still_running()?;
        let pings = traffic.finish()?;
        ensure!(pings.all_answered(), "{pings:?}");
        Ok(())
    }

    /// ESP SAs of gamma's kernel, by SPI, and where behind UDP the far end of each is (RFC 3948).
    pub fn seen_by_gamma(&self) -> Result<BTreeMap<u32, SocketAddrV4>> {
        far_ends(&self.gamma.gateway.run("ip xfrm state")?, GAMMA.black())
    }
}

fn far_ends(states: &str, own: Ipv4Addr) -> Result<BTreeMap<u32, SocketAddrV4>> {
    let mut found = BTreeMap::new();
    let (mut addresses, mut spi) = (None, None);
    for line in states.lines() {
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["src", from, "dst", to, ..] if !line.starts_with(char::is_whitespace) => {
                (addresses, spi) = (Some((from.parse::<Ipv4Addr>()?, to.parse::<Ipv4Addr>()?)), None);
            }
            ["proto", "esp", "spi", number, ..] => {
                spi = Some(u32::from_str_radix(number.trim_start_matches("0x"), 16)?);
            }
            ["encap", "type", "espinudp", "sport", from_port, "dport", to_port, ..] => {
                let ((from, to), spi) = addresses.zip(spi).with_context(|| states.to_owned())?;
                let (address, port) = if from == own { (to, to_port) } else { (from, from_port) };
                found.insert(spi, SocketAddrV4::new(address, port.parse()?));
            }
            _ => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As iproute2 6.1 prints them.
    const STATES: &str = "\
src 203.0.113.1 dst 198.18.0.1
\tproto esp spi 0xc1000001 reqid 1 mode tunnel
\treplay-window 0 flag af-unspec
\taead rfc4106(gcm(aes)) 0x00 128
\tencap type espinudp sport 4500 dport 21000 addr 0.0.0.0
\tanti-replay context: seq 0x0, oseq 0x5, bitmap 0x00000000
src 198.18.0.1 dst 203.0.113.1
\tproto esp spi 0xc2000002 reqid 1 mode transport
\treplay-window 32 flag af-unspec
\tencap type espinudp sport 21001 dport 4500 addr 0.0.0.0
\tsel src 198.18.0.1/32 dst 203.0.113.1/32 proto gre
src 198.18.0.1 dst 203.0.113.1
\tproto esp spi 0xc3000003 reqid 2 mode transport
";

    #[test]
    fn far_ends_are_read_in_both_directions() {
        let at = |port| SocketAddrV4::new(Ipv4Addr::new(198, 18, 0, 1), port);
        let expected = BTreeMap::from([(0xc100_0001, at(21000)), (0xc200_0002, at(21001))]);
        assert_eq!(far_ends(STATES, Ipv4Addr::new(203, 0, 113, 1)).unwrap(), expected);
        assert!(far_ends("\tencap type espinudp sport 1 dport 2", Ipv4Addr::LOCALHOST).is_err());
    }
}
