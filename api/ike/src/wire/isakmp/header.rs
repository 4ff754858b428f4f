//! The ISAKMP header (RFC 2408 section 3.1).

use super::super::header::Fixed;
use super::super::{MAX_MESSAGE_BYTES, WireError, Writer};

const FLAG_ENCRYPTION: u8 = 0x01;
/// Where the version stands in a message of either version.
const VERSION_OFFSET: usize = 17;

/// Exchange types (RFC 2408 section 3.1, RFC 2409 section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exchange {
    /// "Identity protection".
    MainMode,
    AggressiveMode,
    Informational,
    QuickMode,
    Other(u8),
}

impl Exchange {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::MainMode => 2,
            Self::AggressiveMode => 4,
            Self::Informational => 5,
            Self::QuickMode => 32,
            Self::Other(number) => number,
        }
    }
}

impl From<u8> for Exchange {
    fn from(number: u8) -> Self {
        match number {
            2 => Self::MainMode,
            4 => Self::AggressiveMode,
            5 => Self::Informational,
            32 => Self::QuickMode,
            other => Self::Other(other),
        }
    }
}

/// A header. Of the flags only "encryption" counts: the commit bit is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) cookie_i: u64,
    pub(crate) cookie_r: u64,
    /// Type of the first payload.
    pub(crate) first: u8,
    pub(crate) exchange: Exchange,
    pub(crate) encrypted: bool,
    pub(crate) message_id: u32,
}

/// Whether a message is one of version 1.
pub(crate) fn is_isakmp(message: &[u8]) -> bool {
    message.get(VERSION_OFFSET).is_some_and(|version| version >> 4 == 1)
}

impl Header {
    /// The header of a whole message, and what follows it.
    pub(crate) fn decode(message: &[u8]) -> Result<(Self, &[u8]), WireError> {
        if message.len() > MAX_MESSAGE_BYTES {
            return Err(WireError::TooLong);
        }
        let (fixed, mut reader) = Fixed::decode(message, 1)?;
        let header = Self {
            cookie_i: fixed.spi_i,
            cookie_r: fixed.spi_r,
            first: fixed.first,
            exchange: Exchange::from(fixed.exchange),
            encrypted: fixed.flags & FLAG_ENCRYPTION != 0,
            message_id: fixed.message_id,
        };
        Ok((header, reader.rest()))
    }

    /// The message of this header and a body.
    pub(crate) fn encode(&self, body: &[u8]) -> Vec<u8> {
        let mut writer = Writer::default();
        let fixed = Fixed {
            spi_i: self.cookie_i,
            spi_r: self.cookie_r,
            first: self.first,
            exchange: self.exchange.number(),
            flags: if self.encrypted { FLAG_ENCRYPTION } else { 0 },
            message_id: self.message_id,
        };
        fixed.encode(1, &mut writer, body.len());
        writer.bytes(body);
        writer.into_bytes()
    }
}
