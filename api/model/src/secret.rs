//! Secrets on their way from the request to where they are sealed or used.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::read::{At, Parse};

/// Key material: zeroized when dropped, never printed, never serialized, compared in constant time.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

/// Why a text is refused as a pre-shared key. Never bears the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// `hex:` is followed by something else.
    #[error("\"hex:\" must be followed by an even number of hexadecimal digits")]
    Hex,
    /// Too short to be worth anything, or absurdly long.
    #[error("must have {min} to {max} bytes", min = Secret::MIN_BYTES, max = Secret::MAX_BYTES)]
    Length,
}

impl Secret {
    /// Shorter keys are refused.
    pub const MIN_BYTES: usize = 8;
    /// Longer keys are refused.
    pub const MAX_BYTES: usize = 256;
    /// Shorter keys bring a warning: RFC 7296 section 2.15 asks for as much unpredictability as the strongest key.
    pub const WEAK_BELOW_BYTES: usize = 20;

    /// Key material that was opened from where it was sealed.
    #[must_use]
    pub fn from_bytes(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// Key material as the operator writes it: text, or `hex:` and hexadecimal digits.
    ///
    /// # Errors
    /// [`SecretError`]; without any part of the text.
    pub fn from_text(text: &str) -> Result<Self, SecretError> {
        let bytes = match text.strip_prefix("hex:") {
            None => Zeroizing::new(text.as_bytes().to_vec()),
            Some(digits) => decode_hex(digits).ok_or(SecretError::Hex)?,
        };
        if (Self::MIN_BYTES..=Self::MAX_BYTES).contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(SecretError::Length)
        }
    }

    /// The bytes. The caller keeps them out of logs, answers and files.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is shorter than [`Self::WEAK_BELOW_BYTES`].
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.0.len() < Self::WEAK_BELOW_BYTES
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Parse for Secret {
    fn parse(at: At<'_>) -> Option<Self> {
        match Self::from_text(at.string()?) {
            Ok(secret) => Some(secret),
            Err(error) => at.refuse(error.to_string()),
        }
    }
}

fn decode_hex(digits: &str) -> Option<Zeroizing<Vec<u8>>> {
    let digits = digits.as_bytes();
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return None;
    }
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    // Allocated once: a growing Vec would leave copies behind that no one zeroizes.
    let mut bytes = Zeroizing::new(Vec::with_capacity(digits.len() / 2));
    for pair in digits.chunks_exact(2) {
        bytes.push(nibble(pair[0])? << 4 | nibble(pair[1])?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_hex_are_read() {
        assert_eq!(Secret::from_text("correct horse").unwrap().expose(), b"correct horse");
        assert_eq!(
            Secret::from_text("hex:0001feFF10111213").unwrap().expose(),
            [0, 1, 0xfe, 0xff, 0x10, 0x11, 0x12, 0x13]
        );
    }

    #[test]
    fn short_and_broken_keys_are_refused() {
        assert_eq!(Secret::from_text("seven77"), Err(SecretError::Length));
        assert_eq!(Secret::from_text(&"x".repeat(257)), Err(SecretError::Length));
        for bad in ["hex:", "hex:0", "hex:zz", "hex:00 11"] {
            assert_eq!(Secret::from_text(bad), Err(SecretError::Hex), "{bad}");
        }
        assert!(Secret::from_text("nineteen bytes long").unwrap().is_short());
        assert!(!Secret::from_text("twenty bytes in here").unwrap().is_short());
    }

    #[test]
    fn debug_tells_nothing() {
        assert_eq!(format!("{:?}", Secret::from_text("swordfish").unwrap()), "Secret");
    }
}
