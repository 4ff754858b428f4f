//! Bytes that are read alone, and as the first message of a peer of version 1.

use std::time::Duration;

use super::{Simulation, Weather, assert_sane, path};
use crate::sim::setup;
use crate::wire::isakmp;
use crate::wire::{Message, Payload, decode_payloads, encode_payloads};
use crate::{Classified, Ikev1, Limits, Version};

/// One datagram to a responder of version 1 that knows its sender, in the middle of main mode too: no panic, no state
/// for what is dropped, and an answer that is longer than it only where a policy allows aggressive mode by name.
pub fn datagram_v1(data: &[u8]) {
    payloads_v1(data);
    for aggressive_mode in [false, true] {
        let mut sim = simulation(aggressive_mode);
        let classified = sim.inject(1, path(1, 500), data);
        let answered: usize = sim.link.log.iter().map(|(_, _, bytes)| bytes.len()).sum();
        assert!(aggressive_mode || answered <= data.len(), "{answered} bytes answer {}", data.len());
        if matches!(classified, Classified::Dropped(_) | Classified::Keepalive | Classified::Esp) {
            assert_eq!(sim.ike_sas()[1], 0, "state is kept for {classified:?}");
        }
        assert_sane(&sim);
    }
    if isakmp::Header::decode(data).is_err() {
        return;
    }
    let mut sim = simulation(false);
    sim.command(0, crate::Command::Initiate(crate::ConnectionId(1)));
    // Each message of the true negotiation is followed by the datagram under that SA's cookies.
    while sim.step(sim.now + Duration::from_millis(500)) {
        let Some(cookies) = sim.link.log.last().and_then(|(_, _, bytes)| bytes.first_chunk::<16>().copied())
        else {
            break;
        };
        let mut aimed = data.to_vec();
        if let Some(place) = aimed.first_chunk_mut() {
            *place = cookies;
        }
        for side in 0..2 {
            sim.inject(side, path(side, 500), &aimed);
            assert_sane(&sim);
        }
        if sim.link.log.len() > 40 {
            break;
        }
    }
}

fn simulation(aggressive_mode: bool) -> Simulation {
    let (ike, esp) = setup::classic();
    Simulation::between(1, Limits::default(), Weather::FAIR, |side| {
        let mut connection = setup::connection_v1(side, 1, ike.clone(), &esp);
        connection.version = Version::V1(Ikev1 { aggressive_mode, ..Ikev1::default() });
        connection.children.iter_mut().for_each(|child| child.start = false);
        connection
    })
}

/// What version 1 reads of a message, piece by piece; what it writes again reads the same.
fn payloads_v1(data: &[u8]) {
    let Ok((header, body)) = isakmp::Header::decode(data) else { return };
    let Ok((payloads, _)) = isakmp::decode_chain(header.first, body) else { return };
    let (first, bytes) = isakmp::encode_chain(&payloads);
    let again = isakmp::decode_chain(first, &bytes);
    assert_eq!(again.as_ref().map(|(found, _)| found), Ok(&payloads));
    for payload in &payloads {
        if let Ok(proposals) = isakmp::decode_sa(&payload.body) {
            let again = isakmp::decode_sa(&isakmp::encode_sa(&proposals));
            assert_eq!(again.as_ref(), Ok(&proposals));
        }
        if let Ok(selector) = isakmp::PhaseTwoId::decode(&payload.body)
            && let Some(bytes) = isakmp::PhaseTwoId::encode(&selector)
        {
            assert_eq!(isakmp::PhaseTwoId::decode(&bytes), Ok(selector));
        }
        let _identity = isakmp::phase_one_identity(&payload.body);
        let _notify = isakmp::Notify::decode(&payload.body);
        let _delete = isakmp::Delete::decode(&payload.body);
    }
}

/// What version 2 reads of a message, and of a chain of payloads; what it writes again reads the same.
pub(super) fn payloads_v2(first: u8, chain: &[u8]) {
    let _message = Message::decode(chain);
    let Ok(payloads) = decode_payloads(first, chain) else { return };
    // What must not be chosen or is of no known type is not written again: the second reading is the measure.
    let once = reread(&payloads);
    assert_eq!(reread(&once), once);
}

fn reread(payloads: &[Payload]) -> Vec<Payload> {
    let (first, bytes) = encode_payloads(payloads);
    let found = decode_payloads(first, &bytes);
    assert!(found.is_ok(), "{found:?} of {payloads:?}");
    found.unwrap_or_default()
}
