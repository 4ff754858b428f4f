//! The lifetime of a child where that of its responder is shorter than what was asked for: the transform must come back as
//! it was offered, so a notification says it (RFC 2407 section 4.6.3.1). Without it the initiator would wait for a rekey
//! that comes after the responder's SA is gone.

use std::time::Duration;

use super::proposals::{PhaseTwoChoice, lifetime_attributes};
use crate::ChildLifetime;
use crate::wire::isakmp::registry::{LIFE_KILOBYTES, LIFE_SECONDS, notify, payload, phase_two, protocol};
use crate::wire::isakmp::{Notify, Payload, decode_attributes, encode_attributes, lifetime};

/// What an offer without a lifetime means (RFC 2407 section 4.5).
const DEFAULT: Duration = Duration::from_secs(28_800);

/// What our answer to a quick mode says of the lifetime that was agreed; nothing where the peer asked for it.
pub(super) fn told(agreed: &ChildLifetime, choice: &PhaseTwoChoice, spi_in: u32) -> Option<Payload> {
    let shorter = agreed.hard < choice.lifetime.unwrap_or(DEFAULT);
    let fewer = agreed
        .hard_bytes
        .is_some_and(|bytes| choice.kilobytes.is_none_or(|kilobytes| bytes < kilobytes.saturating_mul(1024)));
    (shorter || fewer).then(|| {
        let data = encode_attributes(&lifetime_attributes(agreed));
        let notify = Notify { data, ..Notify::about_esp(notify::RESPONDER_LIFETIME, spi_in) };
        Payload::new(payload::NOTIFY, notify.encode())
    })
}

impl PhaseTwoChoice {
    /// The same with the lifetime that the responder tells of. What it does not mention stays; longer it does not get.
    pub(super) fn shortened(mut self, payloads: &[Payload]) -> Self {
        let notifies = payloads.iter().filter(|found| found.kind == payload::NOTIFY);
        let told = notifies
            .filter_map(|found| Notify::decode(&found.body).ok())
            .filter(|notify| notify.kind == notify::RESPONDER_LIFETIME && notify.protocol == protocol::ESP);
        for notify in told {
            let Ok(attributes) = decode_attributes(&notify.data) else { continue };
            let life = |unit| {
                let life = lifetime(&attributes, phase_two::LIFE_TYPE, phase_two::LIFE_DURATION, unit);
                life.filter(|life| *life > 0)
            };
            if let Some(secs) = life(LIFE_SECONDS).map(Duration::from_secs) {
                self.lifetime = Some(self.lifetime.map_or(secs, |wanted| wanted.min(secs)));
            }
            if let Some(kilobytes) = life(LIFE_KILOBYTES) {
                self.kilobytes = Some(self.kilobytes.map_or(kilobytes, |wanted| wanted.min(kilobytes)));
            }
        }
        self
    }
}
