//! Payloads, decoded.

use super::registry::payload as kind;
use super::{Delete, Notify, Reader, WireError, WireIdentity, WireProposal, Writer, selector};
use crate::TrafficSelector;

/// The Encrypted payload as it stands on the wire; its protection is checked elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Encrypted {
    /// Type of the first payload inside.
    pub(crate) first: u8,
    /// IV, ciphertext and integrity check value.
    pub(crate) body: Vec<u8>,
}

/// The Encrypted Fragment payload as it stands on the wire (RFC 7383 section 2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fragment {
    /// Type of the first payload of the whole message, in the first fragment; 0 in the others.
    pub(crate) first: u8,
    /// From 1 to `total`, which the decoder has checked.
    pub(crate) number: u16,
    pub(crate) total: u16,
    /// IV, ciphertext and integrity check value.
    pub(crate) body: Vec<u8>,
}

/// One payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    Sa(Vec<WireProposal>),
    KeyExchange {
        group: u16,
        data: Vec<u8>,
    },
    IdI(WireIdentity),
    IdR(WireIdentity),
    Certificate {
        encoding: u8,
        data: Vec<u8>,
    },
    CertificateRequest {
        encoding: u8,
        data: Vec<u8>,
    },
    Auth {
        method: u8,
        data: Vec<u8>,
    },
    Nonce(Vec<u8>),
    Notify(Notify),
    Delete(Delete),
    Vendor(Vec<u8>),
    TsI(Vec<TrafficSelector>),
    TsR(Vec<TrafficSelector>),
    Encrypted(Encrypted),
    Fragment(Fragment),
    /// Understood but not used, or unknown and not critical: skipped (RFC 7296 section 2.5).
    Skipped {
        kind: u8,
        data: Vec<u8>,
    },
}

impl Payload {
    pub(crate) fn kind(&self) -> u8 {
        match self {
            Self::Sa(_) => kind::SA,
            Self::KeyExchange { .. } => kind::KE,
            Self::IdI(_) => kind::ID_I,
            Self::IdR(_) => kind::ID_R,
            Self::Certificate { .. } => kind::CERT,
            Self::CertificateRequest { .. } => kind::CERTREQ,
            Self::Auth { .. } => kind::AUTH,
            Self::Nonce(_) => kind::NONCE,
            Self::Notify(_) => kind::NOTIFY,
            Self::Delete(_) => kind::DELETE,
            Self::Vendor(_) => kind::VENDOR,
            Self::TsI(_) => kind::TS_I,
            Self::TsR(_) => kind::TS_R,
            Self::Encrypted(_) => kind::ENCRYPTED,
            Self::Fragment(_) => kind::FRAGMENT,
            Self::Skipped { kind, .. } => *kind,
        }
    }

    /// Reads the body of a payload of type `payload_kind`. Encrypted payloads are the chain's business.
    pub(crate) fn decode(payload_kind: u8, critical: bool, body: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(match payload_kind {
            kind::SA => Self::Sa(WireProposal::decode_all(body)?),
            kind::KE => {
                let group = body.u16()?;
                body.u16()?;
                Self::KeyExchange { group, data: body.rest().to_vec() }
            }
            kind::ID_I => Self::IdI(WireIdentity::decode(body)?),
            kind::ID_R => Self::IdR(WireIdentity::decode(body)?),
            kind::CERT => Self::Certificate { encoding: body.u8()?, data: body.rest().to_vec() },
            kind::CERTREQ => Self::CertificateRequest { encoding: body.u8()?, data: body.rest().to_vec() },
            kind::AUTH => {
                let method = body.u8()?;
                body.take(3)?;
                Self::Auth { method, data: body.rest().to_vec() }
            }
            kind::NONCE => {
                let nonce = body.rest();
                // RFC 7296 section 3.9.
                if !(16..=256).contains(&nonce.len()) {
                    return Err(WireError::BadLength);
                }
                Self::Nonce(nonce.to_vec())
            }
            kind::NOTIFY => Self::Notify(Notify::decode(body)?),
            kind::DELETE => Self::Delete(Delete::decode(body)?),
            kind::VENDOR => Self::Vendor(body.rest().to_vec()),
            kind::TS_I => Self::TsI(selector::decode_all(body)?),
            kind::TS_R => Self::TsR(selector::decode_all(body)?),
            unknown if critical && !kind::UNDERSTOOD.contains(&unknown) => {
                return Err(WireError::UnknownCritical(unknown));
            }
            unused => Self::Skipped { kind: unused, data: body.rest().to_vec() },
        })
    }

    /// Writes the body, without the generic header.
    pub(crate) fn encode(&self, writer: &mut Writer) {
        match self {
            Self::Sa(proposals) => WireProposal::encode_all(proposals, writer),
            Self::KeyExchange { group, data } => {
                writer.u16(*group);
                writer.u16(0);
                writer.bytes(data);
            }
            Self::IdI(identity) | Self::IdR(identity) => identity.encode(writer),
            Self::Certificate { encoding, data } | Self::CertificateRequest { encoding, data } => {
                writer.u8(*encoding);
                writer.bytes(data);
            }
            Self::Auth { method, data } => {
                writer.u8(*method);
                writer.bytes(&[0; 3]);
                writer.bytes(data);
            }
            Self::Nonce(data) | Self::Vendor(data) | Self::Skipped { data, .. } => writer.bytes(data),
            Self::Notify(notify) => notify.encode(writer),
            Self::Delete(delete) => delete.encode(writer),
            Self::TsI(selectors) | Self::TsR(selectors) => selector::encode_all(selectors, writer),
            Self::Encrypted(encrypted) => writer.bytes(&encrypted.body),
            Self::Fragment(fragment) => {
                writer.u16(fragment.number);
                writer.u16(fragment.total);
                writer.bytes(&fragment.body);
            }
        }
    }
}
