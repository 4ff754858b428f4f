//! IKEv2 messages as bytes, as far as the relay must understand them (RFC 7296 section 3): with no code of the engine.

use std::ops::Range;

const HEADER: usize = 28;
/// Exchange types.
pub(crate) const IKE_SA_INIT: u8 = 34;
pub(crate) const CREATE_CHILD_SA: u8 = 36;
/// Payload types.
pub(crate) const KEY_EXCHANGE: u8 = 34;
pub(crate) const NONCE: u8 = 40;
const NOTIFY: u8 = 41;

/// A message that bears this notification alone, with the SPIs, exchange, flags and message id of `message`.
pub(crate) fn with_notify(message: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
    let mut forged = message.get(..HEADER).unwrap_or_default().to_vec();
    set(&mut forged, 16, NOTIFY);
    let length = u16::try_from(8 + data.len()).unwrap_or(8);
    forged.extend([0, 0]);
    forged.extend(length.to_be_bytes());
    // No protocol, no SPI.
    forged.extend([0, 0]);
    forged.extend(kind.to_be_bytes());
    forged.extend(data);
    with_length(forged)
}

/// Where the body of the first payload of a type stands in an unprotected message.
pub(crate) fn body(message: &[u8], wanted: u8) -> Option<Range<usize>> {
    let mut kind = *message.get(16)?;
    let mut at = HEADER;
    while kind != 0 {
        let length = usize::from(u16::from_be_bytes([*message.get(at + 2)?, *message.get(at + 3)?]));
        if kind == wanted {
            return Some(at + 4..at + length);
        }
        kind = *message.get(at)?;
        at += length;
    }
    None
}

/// Shortens a payload's body to this many bytes.
pub(crate) fn shorten(message: &mut Vec<u8>, kind: u8, length: usize) {
    let Some(body) = body(message, kind) else { return };
    message.drain(body.start + length..body.end);
    let bytes = u16::try_from(length + 4).unwrap_or(4).to_be_bytes();
    set(message, body.start - 2, bytes[0]);
    set(message, body.start - 1, bytes[1]);
    *message = with_length(std::mem::take(message));
}

/// Overwrites a payload's body from an offset to its end.
pub(crate) fn fill(message: &mut [u8], kind: u8, offset: usize, value: u8) {
    if let Some(body) = body(message, kind)
        && let Some(bytes) = message.get_mut(body.start + offset..body.end)
    {
        bytes.fill(value);
    }
}

/// Puts a payload of a type that nobody knows before the others.
pub(crate) fn with_unknown_payload(message: &mut Vec<u8>, critical: bool) {
    const UNKNOWN: u8 = 200;
    let first = message.get(16).copied().unwrap_or(0);
    set(message, 16, UNKNOWN);
    let payload = [first, if critical { 0x80 } else { 0 }, 0, 8, 1, 2, 3, 4];
    message.splice(HEADER..HEADER, payload);
    *message = with_length(std::mem::take(message));
}

/// Sets one byte.
pub(crate) fn set(message: &mut [u8], at: usize, value: u8) {
    if let Some(byte) = message.get_mut(at) {
        *byte = value;
    }
}

/// Exchange type, of a message with or without the non-ESP marker (RFC 3948 section 2.2).
pub(crate) fn exchange(datagram: &[u8]) -> Option<u8> {
    datagram.strip_prefix(&[0; 4]).unwrap_or(datagram).get(18).copied()
}

fn with_length(mut message: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(0).to_be_bytes();
    for (index, byte) in length.into_iter().enumerate() {
        set(&mut message, 24 + index, byte);
    }
    message
}
