//! The ISAKMP header (RFC 2408 section 3.1).

use super::super::{MAX_MESSAGE_BYTES, Reader, WireError, Writer};

const VERSION_1_0: u8 = 0x10;
const FLAG_ENCRYPTION: u8 = 0x01;
/// Where the version stands in a message of either version.
const VERSION_OFFSET: usize = 17;
const HEADER_LEN_BYTES: usize = 28;

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
        let mut reader = Reader::new(message);
        let cookie_i = reader.u64()?;
        let cookie_r = reader.u64()?;
        let first = reader.u8()?;
        let version = reader.u8()?;
        let exchange = Exchange::from(reader.u8()?);
        let flags = reader.u8()?;
        let message_id = reader.u32()?;
        let length = reader.u32()?;
        if version >> 4 != 1 {
            return Err(WireError::BadVersion);
        }
        if usize::try_from(length) != Ok(message.len()) {
            return Err(WireError::BadLength);
        }
        if cookie_i == 0 {
            return Err(WireError::BadValue);
        }
        let encrypted = flags & FLAG_ENCRYPTION != 0;
        Ok((Self { cookie_i, cookie_r, first, exchange, encrypted, message_id }, reader.rest()))
    }

    /// The message of this header and a body.
    pub(crate) fn encode(&self, body: &[u8]) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.u64(self.cookie_i);
        writer.u64(self.cookie_r);
        writer.u8(self.first);
        writer.u8(VERSION_1_0);
        writer.u8(self.exchange.number());
        writer.u8(if self.encrypted { FLAG_ENCRYPTION } else { 0 });
        writer.u32(self.message_id);
        writer.u32(u32::try_from(body.len().saturating_add(HEADER_LEN_BYTES)).unwrap_or(u32::MAX));
        writer.bytes(body);
        writer.into_bytes()
    }
}
