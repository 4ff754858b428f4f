//! What the host sees of an IKE SA.

use std::time::Instant;

use crate::IkeSaView;
use crate::v2::established::{Established, Life};
use crate::v2::sa::{IkeSa, Stage};

pub(crate) fn ike_sa(sa: &IkeSa, now: Instant) -> IkeSaView {
    let established = sa.established();
    let state = match &sa.stage {
        Stage::InitSent(_) => "init",
        Stage::IntermediateSent(_) | Stage::AuthSent(_) | Stage::AuthAwaited(_) => "auth",
        Stage::Established(found) => match &found.life {
            Life::Active if found.is_rekeying() => "rekeying",
            Life::Active => "established",
            Life::Replaced => "rekeying",
            Life::Deleting(_) => "deleting",
        },
        Stage::Closed(_) => "deleting",
    };
    IkeSaView {
        id: sa.ends.id,
        connection: Some(sa.ends.connection),
        version: 2,
        path: sa.ends.path,
        spi_i: sa.ends.spis.initiator,
        spi_r: sa.ends.spis.responder,
        initiator: sa.ends.initiator,
        state,
        suite: established.map(|found| found.suite()).unwrap_or_default(),
        insecure: established.map(Established::insecurities).unwrap_or_default(),
        children: established.map(|found| found.children.keys().copied().collect()).unwrap_or_default(),
        established_secs: established
            .map(|found| now.saturating_duration_since(found.established_at).as_secs()),
        rekey_in_secs: established.map(|found| found.rekey_at.saturating_duration_since(now).as_secs()),
    }
}
