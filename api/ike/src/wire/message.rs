//! Chains of payloads, and whole messages in clear.

use super::registry::payload as kind;
use super::{
    Encrypted, Fragment, Header, MAX_MESSAGE_BYTES, MAX_PAYLOADS, Payload, Reader, WireError, Writer,
};

const CRITICAL: u8 = 0x80;

/// A message: header and payloads as they stand, an Encrypted payload unopened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) header: Header,
    pub(crate) payloads: Vec<Payload>,
}

impl Message {
    pub(crate) fn decode(datagram: &[u8]) -> Result<Self, WireError> {
        if datagram.len() > MAX_MESSAGE_BYTES {
            return Err(WireError::TooLong);
        }
        let (header, mut body) = Header::decode(datagram)?;
        let payloads = decode_chain(header.first, &mut body)?;
        Ok(Self { header, payloads })
    }

    /// Encodes a message in clear; the header's first payload type is taken from the payloads.
    pub(crate) fn encode(mut header: Header, payloads: &[Payload]) -> Vec<u8> {
        let (first, body) = encode_payloads(payloads);
        header.first = first;
        let mut writer = Writer::default();
        header.encode(&mut writer, body.len());
        writer.bytes(&body);
        writer.into_bytes()
    }

    /// The Encrypted payload, or a fragment of one, which the chain's rules make the last.
    pub(crate) fn is_protected(&self) -> bool {
        matches!(self.payloads.last(), Some(Payload::Encrypted(_) | Payload::Fragment(_)))
    }
}

/// Reads the payloads inside an Encrypted payload; another one, or a fragment, among them is refused.
pub(crate) fn decode_payloads(first: u8, bytes: &[u8]) -> Result<Vec<Payload>, WireError> {
    let payloads = decode_chain(first, &mut Reader::new(bytes))?;
    if matches!(payloads.last(), Some(Payload::Encrypted(_) | Payload::Fragment(_))) {
        return Err(WireError::BadValue);
    }
    Ok(payloads)
}

fn decode_chain(first: u8, reader: &mut Reader<'_>) -> Result<Vec<Payload>, WireError> {
    let mut payloads = Vec::new();
    let mut current = first;
    while current != kind::NONE {
        if payloads.len() >= MAX_PAYLOADS {
            return Err(WireError::TooMany);
        }
        let next = reader.u8()?;
        let critical = reader.u8()? & CRITICAL != 0;
        let length = reader.u16()?;
        let mut body = reader.body(length, 4)?;
        if current == kind::ENCRYPTED {
            // Its "next payload" field names the first payload inside (RFC 7296 section 3.14).
            if !reader.is_empty() {
                return Err(WireError::EncryptedNotLast);
            }
            payloads.push(Payload::Encrypted(Encrypted { first: next, body: body.rest().to_vec() }));
            return Ok(payloads);
        }
        if current == kind::FRAGMENT {
            if !reader.is_empty() {
                return Err(WireError::EncryptedNotLast);
            }
            let (number, total) = (body.u16()?, body.u16()?);
            // RFC 7383 section 2.5.
            if number == 0 || number > total || (number > 1 && next != kind::NONE) {
                return Err(WireError::BadFragment);
            }
            payloads.push(Payload::Fragment(Fragment {
                first: next,
                number,
                total,
                body: body.rest().to_vec(),
            }));
            return Ok(payloads);
        }
        payloads.push(Payload::decode(current, critical, &mut body)?);
        if !body.is_empty() {
            return Err(WireError::Trailing);
        }
        current = next;
    }
    if reader.is_empty() { Ok(payloads) } else { Err(WireError::Trailing) }
}

/// Encodes a chain: type of the first payload, and the bytes.
pub(crate) fn encode_payloads(payloads: &[Payload]) -> (u8, Vec<u8>) {
    let mut writer = Writer::default();
    for (index, payload) in payloads.iter().enumerate() {
        let following = payloads.get(index.saturating_add(1)).map_or(kind::NONE, Payload::kind);
        let next = match payload {
            Payload::Encrypted(encrypted) => encrypted.first,
            Payload::Fragment(fragment) => fragment.first,
            _ => following,
        };
        writer.u8(next);
        writer.u8(0);
        writer.with_length(2, |writer| payload.encode(writer));
    }
    (payloads.first().map_or(kind::NONE, Payload::kind), writer.into_bytes())
}
