//! The IPsec SAs that a gateway shows, and whether the two ends agree.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::gateway::Gateway;
use crate::lab::Site;

/// One direction of a pair, as `/v1/ipsec-sas` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sa {
    /// SPI.
    pub spi: u32,
    /// Whether it encrypts.
    pub outbound: bool,
    /// Whom it serves.
    pub owner: String,
    /// `transport` or `tunnel`.
    pub mode: String,
    /// As a transform-set names it.
    pub encryption: String,
    /// Group of the key exchange of its own, and what followed that.
    pub key_exchange: (Option<u64>, Vec<String>),
    /// Whether traffic is sent on it; true for every inbound SA.
    pub in_use: bool,
    /// Whether an earlier run of the control plane made it, and nothing has replaced it yet.
    pub adopted: bool,
    /// Sequence numbers refused because they were seen before; 0 outbound.
    pub replayed: u64,
}

impl Sa {
    fn parse(item: &Value) -> Result<Self> {
        let text = |field: &str| {
            item[field].as_str().map(str::to_owned).with_context(|| format!("no {field}: {item}"))
        };
        let flag = |field: &str| item[field].as_bool().with_context(|| format!("no {field}: {item}"));
        let spi = text("spi")?;
        Ok(Self {
            spi: u32::from_str_radix(spi.trim_start_matches("0x"), 16)
                .with_context(|| format!("SPI {spi}"))?,
            outbound: text("direction")? == "outbound",
            owner: text("owner")?,
            mode: text("mode")?,
            encryption: text("encryption")?,
            key_exchange: (
                item["pfs_group"].as_u64(),
                (item["additional_key_exchanges"].as_array().into_iter().flatten())
                    .filter_map(|method| method.as_str().map(str::to_owned))
                    .collect(),
            ),
            in_use: flag("in_use")?,
            adopted: flag("adopted")?,
            replayed: item["replay"]["replayed"].as_u64().unwrap_or(0),
        })
    }
}

/// The SAs of a gateway with the gateway of another site.
pub fn with_peer(gateway: &Gateway, peer: Site) -> Result<Vec<Sa>> {
    let remote = peer.black().to_string();
    gateway
        .api
        .items("/v1/ipsec-sas")?
        .iter()
        .filter(|item| item["remote"] == remote.as_str())
        .map(Sa::parse)
        .collect()
}

/// SPIs of the SAs in use in one direction.
pub fn spis(sas: &[Sa], outbound: bool) -> BTreeSet<u32> {
    sas.iter().filter(|sa| sa.outbound == outbound && sa.in_use).map(|sa| sa.spi).collect()
}

/// An error unless both gateways have SAs with each other, none of them from before a restart, and what one sends on,
/// the other receives on.
pub fn agree(one: (&Gateway, Site), other: (&Gateway, Site)) -> Result<()> {
    let (a, b) = (with_peer(one.0, other.1)?, with_peer(other.0, one.1)?);
    for (sender, receiver, from) in [(&a, &b, one.1), (&b, &a, other.1)] {
        let (sent, received) = (spis(sender, true), spis(receiver, false));
        if sent.is_empty() || !sent.is_subset(&received) {
            bail!("{} sends on {sent:08x?}, its peer receives on {received:08x?}", from.name);
        }
        if let Some(old) = sender.iter().find(|sa| sa.adopted) {
            bail!("{} still has {:08x} from before its restart", from.name, old.spi);
        }
    }
    Ok(())
}
