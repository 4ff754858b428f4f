//! What the host sees of ISAKMP SAs.

use std::time::Instant;

use super::peer::Peer;
use super::phase_one::{Life, PhaseOne, Stage};
use crate::IkeSaView;
use crate::crypto::suite_name;

pub(crate) fn isakmp_sas(peer: &Peer, now: Instant) -> impl Iterator<Item = IkeSaView> + '_ {
    let active = peer.active().map(|found| found.id);
    peer.phase_ones.values().map(move |found| {
        let serves = active == Some(found.id);
        let children = if serves { peer.children.keys().copied().collect() } else { Vec::new() };
        IkeSaView { children, ..view(peer, found, now) }
    })
}

fn view(peer: &Peer, found: &PhaseOne, now: Instant) -> IkeSaView {
    let state = match &found.stage {
        Stage::SaSent { .. } | Stage::SaAnswered { .. } | Stage::AggressiveSent { .. } => "init",
        Stage::KeySent { .. }
        | Stage::KeyAnswered(_)
        | Stage::IdSent(_)
        | Stage::AggressiveAnswered { .. }
        | Stage::Refused => "auth",
        Stage::Up(up) => match up.life {
            Life::Active => "established",
            Life::Retiring(_) => "rekeying",
            Life::Ending(_) => "deleting",
        },
        Stage::Closed => "deleting",
    };
    let up = found.up();
    IkeSaView {
        id: found.id,
        connection: Some(peer.id),
        version: 1,
        path: found.path,
        spi_i: found.cookies.initiator,
        spi_r: found.cookies.responder,
        initiator: found.initiator,
        state,
        suite: up
            .map(|up| suite_name(up.suite.encryption, up.suite.hash, up.suite.group))
            .unwrap_or_default(),
        insecure: up.map(|up| up.insecurities()).unwrap_or_default(),
        children: Vec::new(),
        established_secs: up.map(|up| now.saturating_duration_since(up.up_at).as_secs()),
        rekey_in_secs: up.map(|up| up.replace_at.saturating_duration_since(now).as_secs()),
    }
}
