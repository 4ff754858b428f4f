//! The IKE header (RFC 7296 section 3.1).

use super::{Reader, WireError, Writer};

/// Length of the header.
pub(crate) const HEADER_LEN_BYTES: usize = 28;
const FLAG_INITIATOR: u8 = 0x08;
const FLAG_RESPONSE: u8 = 0x20;

/// Exchange types (RFC 7296 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exchange {
    IkeSaInit,
    IkeAuth,
    CreateChildSa,
    Informational,
    /// RFC 9242.
    IkeIntermediate,
    /// RFC 9370 section 2.2.4.
    IkeFollowupKe,
    Other(u8),
}

impl Exchange {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::IkeSaInit => 34,
            Self::IkeAuth => 35,
            Self::CreateChildSa => 36,
            Self::Informational => 37,
            Self::IkeIntermediate => 43,
            Self::IkeFollowupKe => 44,
            Self::Other(number) => number,
        }
    }
}

impl From<u8> for Exchange {
    fn from(number: u8) -> Self {
        match number {
            34 => Self::IkeSaInit,
            35 => Self::IkeAuth,
            36 => Self::CreateChildSa,
            37 => Self::Informational,
            43 => Self::IkeIntermediate,
            44 => Self::IkeFollowupKe,
            other => Self::Other(other),
        }
    }
}

/// The fields of a header as they stand in both versions of IKE, where version 1 calls the SPIs cookies.
pub(crate) struct Fixed {
    pub(crate) spi_i: u64,
    pub(crate) spi_r: u64,
    pub(crate) first: u8,
    pub(crate) exchange: u8,
    pub(crate) flags: u8,
    pub(crate) message_id: u32,
}

impl Fixed {
    /// Reads the header of a whole datagram of this major version. Another one is an error of its own, whatever follows.
    pub(crate) fn decode(datagram: &[u8], major: u8) -> Result<(Self, Reader<'_>), WireError> {
        let mut reader = Reader::new(datagram);
        let spi_i = reader.u64()?;
        let spi_r = reader.u64()?;
        let first = reader.u8()?;
        let version = reader.u8()?;
        let exchange = reader.u8()?;
        let flags = reader.u8()?;
        let message_id = reader.u32()?;
        let length = reader.u32()?;
        if version >> 4 != major {
            return Err(WireError::BadVersion);
        }
        if usize::try_from(length) != Ok(datagram.len()) {
            return Err(WireError::BadLength);
        }
        if spi_i == 0 {
            return Err(WireError::BadValue);
        }
        Ok((Self { spi_i, spi_r, first, exchange, flags, message_id }, reader))
    }

    /// Writes the header of a message with `body_bytes` after it.
    pub(crate) fn encode(&self, major: u8, writer: &mut Writer, body_bytes: usize) {
        writer.u64(self.spi_i);
        writer.u64(self.spi_r);
        writer.u8(self.first);
        writer.u8(major << 4);
        writer.u8(self.exchange);
        writer.u8(self.flags);
        writer.u32(self.message_id);
        writer.u32(u32::try_from(body_bytes.saturating_add(HEADER_LEN_BYTES)).unwrap_or(u32::MAX));
    }
}

/// A header; the length field is checked on reading and computed on writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) spi_i: u64,
    pub(crate) spi_r: u64,
    /// Type of the first payload.
    pub(crate) first: u8,
    pub(crate) exchange: Exchange,
    /// The sender is the original initiator of the IKE SA.
    pub(crate) initiator: bool,
    pub(crate) response: bool,
    pub(crate) message_id: u32,
}

impl Header {
    /// Reads the header of a whole datagram.
    pub(crate) fn decode(datagram: &[u8]) -> Result<(Self, Reader<'_>), WireError> {
        let (fixed, reader) = Fixed::decode(datagram, 2)?;
        let header = Self {
            spi_i: fixed.spi_i,
            spi_r: fixed.spi_r,
            first: fixed.first,
            exchange: Exchange::from(fixed.exchange),
            initiator: fixed.flags & FLAG_INITIATOR != 0,
            response: fixed.flags & FLAG_RESPONSE != 0,
            message_id: fixed.message_id,
        };
        Ok((header, reader))
    }

    /// Writes the header of a message with `body_bytes` after it.
    pub(crate) fn encode(&self, writer: &mut Writer, body_bytes: usize) {
        let initiator = if self.initiator { FLAG_INITIATOR } else { 0 };
        let response = if self.response { FLAG_RESPONSE } else { 0 };
        let fixed = Fixed {
            spi_i: self.spi_i,
            spi_r: self.spi_r,
            first: self.first,
            exchange: self.exchange.number(),
            flags: initiator | response,
            message_id: self.message_id,
        };
        fixed.encode(2, writer, body_bytes);
    }
}
