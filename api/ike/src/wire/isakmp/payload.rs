//! Chains of payloads (RFC 2408 section 3.2).

use super::super::{MAX_PAYLOADS, Reader, WireError, Writer};
use super::registry::payload as kind;

/// A payload: its type and its body, without the generic header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(crate) kind: u8,
    pub(crate) body: Vec<u8>,
}

impl Payload {
    pub(crate) fn new(kind: u8, body: Vec<u8>) -> Self {
        Self { kind, body }
    }
}

/// Reads a chain. Gives the payloads and the bytes after the chain, which are padding in an encrypted message.
pub(crate) fn decode_chain(first: u8, bytes: &[u8]) -> Result<(Vec<Payload>, &[u8]), WireError> {
    let mut reader = Reader::new(bytes);
    let mut payloads = Vec::new();
    let mut current = first;
    while current != kind::NONE {
        if payloads.len() >= MAX_PAYLOADS {
            return Err(WireError::TooMany);
        }
        let next = reader.u8()?;
        // Not looked at: some implementations leave it as it was in memory.
        let _reserved = reader.u8()?;
        let length = reader.u16()?;
        let body = reader.body(length, 4)?.rest().to_vec();
        payloads.push(Payload { kind: current, body });
        current = next;
    }
    Ok((payloads, reader.rest()))
}

/// Encodes a chain: type of the first payload, and the bytes.
pub(crate) fn encode_chain(payloads: &[Payload]) -> (u8, Vec<u8>) {
    let mut writer = Writer::default();
    for (index, payload) in payloads.iter().enumerate() {
        let next = payloads.get(index.saturating_add(1)).map_or(kind::NONE, |next| next.kind);
        writer.u8(next);
        writer.u8(0);
        writer.with_length(2, |writer| writer.bytes(&payload.body));
    }
    (payloads.first().map_or(kind::NONE, |first| first.kind), writer.into_bytes())
}
