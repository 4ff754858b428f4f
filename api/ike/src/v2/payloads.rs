//! Picking payloads out of a message.

use crate::TrafficSelector;
use crate::crypto::Spis;
use crate::wire::registry::CERTIFICATE_X509_SIGNATURE;
use crate::wire::{Delete, Notify, Payload, WireIdentity, WireProposal};

/// The payloads of one message by kind. A kind that may occur once and occurs twice is an error.
#[derive(Default)]
pub(crate) struct Picked {
    pub(crate) sa: Option<Vec<WireProposal>>,
    pub(crate) key_exchange: Option<(u16, Vec<u8>)>,
    pub(crate) nonce: Option<Vec<u8>>,
    pub(crate) id_i: Option<WireIdentity>,
    pub(crate) id_r: Option<WireIdentity>,
    pub(crate) auth: Option<(u8, Vec<u8>)>,
    /// X.509 certificates, in their order.
    pub(crate) certificates: Vec<Vec<u8>>,
    pub(crate) ts_i: Option<Vec<TrafficSelector>>,
    pub(crate) ts_r: Option<Vec<TrafficSelector>>,
    pub(crate) notifies: Vec<Notify>,
    pub(crate) deletes: Vec<Delete>,
}

/// A payload occurred twice where once is allowed.
#[derive(Debug)]
pub(crate) struct Repeated;

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), Repeated> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Repeated),
    }
}

impl Picked {
    pub(crate) fn new(payloads: Vec<Payload>) -> Result<Self, Repeated> {
        let mut picked = Self::default();
        for payload in payloads {
            match payload {
                Payload::Sa(proposals) => once(&mut picked.sa, proposals)?,
                Payload::KeyExchange { group, data } => once(&mut picked.key_exchange, (group, data))?,
                Payload::Nonce(nonce) => once(&mut picked.nonce, nonce)?,
                Payload::IdI(identity) => once(&mut picked.id_i, identity)?,
                Payload::IdR(identity) => once(&mut picked.id_r, identity)?,
                Payload::Auth { method, data } => once(&mut picked.auth, (method, data))?,
                Payload::TsI(selectors) => once(&mut picked.ts_i, selectors)?,
                Payload::TsR(selectors) => once(&mut picked.ts_r, selectors)?,
                Payload::Notify(notify) => picked.notifies.push(notify),
                Payload::Delete(delete) => picked.deletes.push(delete),
                Payload::Certificate { encoding: CERTIFICATE_X509_SIGNATURE, data } => {
                    picked.certificates.push(data);
                }
                // Other encodings name places to fetch from, or keys that are not certified.
                Payload::Certificate { .. } | Payload::CertificateRequest { .. } => {}
                Payload::Vendor(_)
                | Payload::Encrypted(_)
                | Payload::Fragment(_)
                | Payload::Skipped { .. } => {}
            }
        }
        Ok(picked)
    }

    pub(crate) fn notify(&self, kind: u16) -> Option<&Notify> {
        self.notifies.iter().find(|notify| notify.kind == kind)
    }

    /// The first error notification.
    pub(crate) fn error(&self) -> Option<&Notify> {
        self.notifies.iter().find(|notify| notify.is_error())
    }
}

/// Our SPI of the two.
pub(crate) fn our_spi(spis: Spis, initiator: bool) -> u64 {
    if initiator { spis.initiator } else { spis.responder }
}
