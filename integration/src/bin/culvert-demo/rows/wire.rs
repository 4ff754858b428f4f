//! The sniffer's word, over the whole run.

use std::collections::BTreeMap;

use anyhow::Result;
use integration::pcap::{Kind, count};
use integration::sniffer::Capture;
use std::net::IpAddr;

use crate::scene::Scene;
use crate::screen::{Screen, Seen, Table};

const CHECK: &str = "the underlay's sniffer, through all of the above";
const EXPECTED: &str = "only IKE, ESP, ARP and ND; no inner address; no sequence number twice";

/// Row, with everything still running.
pub(crate) fn so_far(scene: &Scene, screen: &Screen, table: &mut Table) -> Result<()> {
    screen
        .check(table, CHECK, EXPECTED, || Ok(judge(&scene.sniffer.captures()?, &scene.lab.black_addresses())))
}

/// Row, after everything was taken down under the sniffer's eyes.
pub(crate) fn last(scene: Scene, screen: &Screen, table: &mut Table) -> Result<()> {
    screen.check(table, CHECK, EXPECTED, || {
        let Scene { frr_alpha, frr_beta, alpha, beta, gamma, sniffer, lab } = scene;
        drop((frr_alpha, frr_beta));
        drop((alpha, beta));
        let captures = sniffer.finish()?;
        drop(gamma);
        Ok(judge(&captures, &lab.black_addresses()))
    })
}

fn judge(captures: &[Capture], black: &[IpAddr]) -> Seen {
    let (mut leaks, mut kinds, mut repeated) = (BTreeMap::new(), BTreeMap::new(), 0);
    for capture in captures {
        leaks.extend(capture.leaks(black));
        repeated += capture.repeated_sequence_numbers().len();
        for (kind, frames) in count(&capture.frames) {
            *kinds.entry(word(&kind)).or_insert(0) += frames;
        }
    }
    let counted: Vec<String> = kinds.iter().map(|(kind, frames)| format!("{frames} {kind}")).collect();
    let mut text = format!("{}; {repeated} sequence numbers twice", counted.join(", "));
    for (leak, frames) in &leaks {
        text += &format!("; LEAK {leak}: {frames}");
    }
    let protected = kinds.contains_key("ESP") && kinds.contains_key("IKE");
    Seen::new(leaks.is_empty() && repeated == 0 && protected, text)
}

fn word(kind: &Kind) -> &'static str {
    match kind {
        Kind::Ike(_) => "IKE",
        Kind::IkeRefused => "ICMP about IKE",
        Kind::Esp => "ESP",
        Kind::EspInUdp => "ESP in UDP",
        Kind::Arp => "ARP",
        Kind::NeighbourDiscovery => "ND",
        Kind::Other(_) => "other",
    }
}
