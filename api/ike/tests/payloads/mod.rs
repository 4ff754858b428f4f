//! The payloads of messages in clear, of either version, taken apart and put together by hand.

const FIRST_PAYLOAD: usize = 16;
const HEADER_BYTES: usize = 28;

/// Type of each payload, and all of it with its header.
pub(crate) fn payloads(message: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let (mut kind, mut at, mut found) = (message[FIRST_PAYLOAD], HEADER_BYTES, Vec::new());
    while kind != 0 {
        let length = usize::from(u16::from_be_bytes([message[at + 2], message[at + 3]]));
        found.push((kind, message[at..at + length].to_vec()));
        (kind, at) = (message[at], at + length);
    }
    found
}

/// The same message with these payloads.
pub(crate) fn assembled(message: &[u8], payloads: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = message[..HEADER_BYTES].to_vec();
    bytes[FIRST_PAYLOAD] = payloads[0].0;
    let following = payloads.iter().skip(1).map(|(kind, _)| *kind).chain([0]);
    for ((_, payload), next) in payloads.iter().zip(following) {
        bytes.push(next);
        bytes.extend(&payload[1..]);
    }
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    bytes[24..28].copy_from_slice(&length);
    bytes
}
