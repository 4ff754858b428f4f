//! IKEv2 messages as bytes, as far as the relay must understand them (RFC 7296 section 3): with no code of the engine.

use std::ops::Range;

pub(crate) const HEADER: usize = 28;
const PAYLOAD_HEADER: usize = 4;
/// Exchange types.
pub(crate) const IKE_SA_INIT: u8 = 34;
pub(crate) const IKE_AUTH: u8 = 35;
pub(crate) const CREATE_CHILD_SA: u8 = 36;
pub(crate) const INFORMATIONAL: u8 = 37;
/// Payload types.
pub(crate) const SA: u8 = 33;
pub(crate) const KEY_EXCHANGE: u8 = 34;
pub(crate) const NONCE: u8 = 40;
pub(crate) const NOTIFY: u8 = 41;
pub(crate) const TS_I: u8 = 44;
pub(crate) const TS_R: u8 = 45;

/// A payload as it stands in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(crate) kind: u8,
    /// The critical bit, and seven that are reserved.
    pub(crate) flags: u8,
    pub(crate) body: Vec<u8>,
}

impl Payload {
    /// One that is not critical.
    pub(crate) fn new(kind: u8, body: Vec<u8>) -> Self {
        Self { kind, flags: 0, body }
    }

    /// A notification.
    pub(crate) fn notify(protocol: u8, spi: &[u8], kind: u16, data: &[u8]) -> Self {
        let mut body = vec![protocol, u8::try_from(spi.len()).unwrap_or(0)];
        body.extend(kind.to_be_bytes());
        body.extend(spi);
        body.extend(data);
        Self::new(NOTIFY, body)
    }

    /// Type of a notification.
    pub(crate) fn notified(&self) -> Option<u16> {
        let kind = self.body.get(2..4).filter(|_| self.kind == NOTIFY)?;
        Some(u16::from_be_bytes(kind.try_into().ok()?))
    }

    /// Puts a transform before the others of the first proposal (RFC 7296 section 3.3.1).
    pub(crate) fn add_transform(&mut self, kind: u8, id: u16) {
        const PROPOSAL_HEADER: usize = 8;
        let at = PROPOSAL_HEADER + self.body.get(6).map_or(0, |spi| usize::from(*spi));
        let [high, low] = id.to_be_bytes();
        drop(self.body.splice(at..at, [3, 0, 0, 8, kind, 0, high, low]));
        let length = u16::from_be_bytes([self.body[2], self.body[3]]) + 8;
        self.body[2..4].copy_from_slice(&length.to_be_bytes());
        self.body[7] += 1;
    }
}

/// Payloads one after the other, of which the first is of this type.
pub(crate) fn chain(first: u8, mut rest: &[u8]) -> Option<Vec<Payload>> {
    let mut kind = first;
    let mut payloads = Vec::new();
    while kind != 0 {
        let [next, flags, high, low, ..] = *rest else { return None };
        let length = usize::from(u16::from_be_bytes([high, low]));
        payloads.push(Payload { kind, flags, body: rest.get(PAYLOAD_HEADER..length)?.to_vec() });
        rest = rest.get(length..)?;
        kind = next;
    }
    Some(payloads)
}

/// The type of the first of these payloads, and their bytes.
pub(crate) fn encode(payloads: &[Payload]) -> (u8, Vec<u8>) {
    let mut bytes = Vec::new();
    for (index, payload) in payloads.iter().enumerate() {
        bytes.extend([payloads.get(index + 1).map_or(0, |next| next.kind), payload.flags]);
        let length = u16::try_from(payload.body.len() + PAYLOAD_HEADER).unwrap_or(0);
        bytes.extend(length.to_be_bytes());
        bytes.extend(&payload.body);
    }
    (payloads.first().map_or(0, |first| first.kind), bytes)
}

/// Changes the payloads of an unprotected message.
pub(crate) fn edit(message: &mut Vec<u8>, edit: impl FnOnce(&mut Vec<Payload>)) {
    let first = message.get(16).copied().unwrap_or(0);
    let Some(mut payloads) = chain(first, message.get(HEADER..).unwrap_or_default()) else { return };
    edit(&mut payloads);
    let (first, bytes) = encode(&payloads);
    message.truncate(HEADER);
    set(message, 16, first);
    message.extend(bytes);
    *message = with_length(std::mem::take(message));
}

/// The payloads of a message of version 1, with or without the non-ESP marker; `None` of an encrypted one.
pub(crate) fn payloads_v1(datagram: &[u8]) -> Option<Vec<Payload>> {
    const ENCRYPTED: u8 = 1;
    let message = datagram.strip_prefix(&[0; 4]).unwrap_or(datagram);
    message.get(19).filter(|flags| *flags & ENCRYPTED == 0)?;
    chain(*message.get(16)?, message.get(HEADER..)?)
}

/// The first payload of a type.
pub(crate) fn find(payloads: &mut [Payload], kind: u8) -> Option<&mut Payload> {
    payloads.iter_mut().find(|payload| payload.kind == kind)
}

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

/// Number and total of a piece of a message (RFC 7383 section 2.5); `None` of what is none.
pub(crate) fn place(datagram: &[u8]) -> Option<(u16, u16)> {
    const ENCRYPTED_FRAGMENT: u8 = 53;
    let message = datagram.strip_prefix(&[0; 4]).unwrap_or(datagram);
    let at = HEADER + PAYLOAD_HEADER;
    let [a, b, c, d] = *message.get(at..at + 4).filter(|_| message[16] == ENCRYPTED_FRAGMENT)? else {
        return None;
    };
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// Whether it is a request of this exchange.
pub(crate) fn is_request(datagram: &[u8], kind: u8) -> bool {
    const RESPONSE: u8 = 0x20;
    let flags = datagram.strip_prefix(&[0; 4]).unwrap_or(datagram).get(19);
    exchange(datagram) == Some(kind) && flags.is_some_and(|flags| flags & RESPONSE == 0)
}

/// Makes it a message of another exchange.
pub(crate) fn set_exchange(datagram: &mut [u8], kind: u8) {
    let marker = if datagram.starts_with(&[0; 4]) { 4 } else { 0 };
    set(datagram, marker + 18, kind);
}

fn with_length(mut message: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(0).to_be_bytes();
    for (index, byte) in length.into_iter().enumerate() {
        set(&mut message, 24 + index, byte);
    }
    message
}
