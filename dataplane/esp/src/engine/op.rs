//! Operations: what a batch is made of.

use super::SaKey;
use crate::framing::Nonce;

/// One encryption in place.
#[derive(Debug)]
pub struct SealOp<'a> {
    /// Key of the SA.
    pub key: &'a SaKey,
    /// Of the packet, never the same twice with one key. Written well before the call: a wide load of bytes just written
    /// by narrow stores stalls.
    pub nonce: &'a Nonce,
    /// SPI and sequence number as [`crate::framing::Aad`] has them, 8 or 12 bytes. Where the header is part of
    /// `text_and_icv` only the high half is taken from here.
    pub aad: &'a [u8],
    /// From [`crate::framing::Framing::operation_at`] on: plaintext and room for the ICV, in front of them header and room
    /// for the IV if HMAC covers those; IV, ciphertext and ICV afterwards.
    pub text_and_icv: &'a mut [u8],
}

/// One decryption in place. The text of a packet that is not authentic is left in an unspecified state.
#[derive(Debug)]
pub struct OpenOp<'a> {
    /// Key of the SA.
    pub key: &'a SaKey,
    /// Salt and IV in combined mode, else not looked at; written well before the call.
    pub nonce: &'a Nonce,
    /// SPI and sequence number as [`crate::framing::Aad`] has them, 8 or 12 bytes. Where the header is part of
    /// `text_and_icv` only the high half is taken from here.
    pub aad: &'a [u8],
    /// From [`crate::framing::Framing::operation_at`] on: ciphertext and ICV, in front of them header and IV if HMAC covers
    /// those; plaintext in place of the ciphertext afterwards.
    pub text_and_icv: &'a mut [u8],
}
