//! One IKE message that the underlay loses.

use anyhow::{Context, Result, ensure};

use crate::lab::{Lab, Site};

/// A message of IKEv2, by what its header says in clear (RFC 7296, section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Exchange type: see [`crate::pcap::exchange`].
    pub exchange: u8,
    /// Whether it is a response.
    pub response: bool,
}

impl Lab {
    /// The underlay loses the next message of this kind that comes from a site, once; an earlier order is void.
    pub fn lose(&self, message: Message, from: Site) -> Result<()> {
        self.underlay.run(
            "nft add chain inet silent lost { type filter hook prerouting priority 0; policy accept; }",
        )?;
        self.underlay.run("nft flush chain inet silent lost")?;
        // Exchange type and flags: octets 18 and 19 of the message, after UDP's 8.
        let flag = if message.response { "0x20" } else { "0x0" };
        let header = format!("@th,208,8 {} @th,216,8 & 0x20 == {flag}", message.exchange);
        let once = "limit rate 1/day burst 1 packets";
        self.underlay
            .run(&format!(
                "nft add rule inet silent lost ip saddr {} udp dport 500 {header} {once} counter drop",
                from.black()
            ))
            .map(drop)
    }

    /// The underlay loses all messages of this exchange type that come from a site, until [`Self::lose_no_more`].
    pub fn lose_all(&self, exchange: u8, from: Site) -> Result<()> {
        self.underlay.run(
            "nft add chain inet silent lost { type filter hook prerouting priority 0; policy accept; }",
        )?;
        let header = format!("@th,208,8 {exchange}");
        let from = from.black();
        self.underlay
            .run(&format!("nft add rule inet silent lost ip saddr {from} udp dport 500 {header} drop"))
            .map(drop)
    }

    /// The underlay loses nothing any more.
    pub fn lose_no_more(&self) -> Result<()> {
        self.underlay.run("nft flush chain inet silent lost").map(drop)
    }

    /// An error unless what [`Self::lose`] ordered has happened.
    pub fn has_lost(&self) -> Result<()> {
        let chain = self.underlay.run("nft list chain inet silent lost")?;
        let mut words = chain.split_whitespace().skip_while(|word| *word != "counter").skip(1);
        let packets = words.nth(1).context("no counter")?;
        ensure!(packets == "1", "{packets} messages were lost: {chain}");
        Ok(())
    }
}
