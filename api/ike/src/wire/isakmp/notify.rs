//! Notification and Delete payloads (RFC 2408 sections 3.14 and 3.15).

use super::super::{Reader, WireError, Writer};
use super::registry::{notify, protocol};

const DOI_IPSEC: u32 = 1;
/// SPIs that one Delete payload may name here.
const MAX_SPIS: u16 = 256;

/// A notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notify {
    pub(crate) protocol: u8,
    pub(crate) spi: Vec<u8>,
    pub(crate) kind: u16,
    pub(crate) data: Vec<u8>,
}

impl Notify {
    /// About an ISAKMP SA, whose SPI is its cookies.
    pub(crate) fn about_isakmp(kind: u16, cookies: (u64, u64), data: Vec<u8>) -> Self {
        let spi = [cookies.0.to_be_bytes(), cookies.1.to_be_bytes()].concat();
        Self { protocol: protocol::ISAKMP, spi, kind, data }
    }

    /// About an ESP SA.
    pub(crate) fn about_esp(kind: u16, spi: u32) -> Self {
        Self { protocol: protocol::ESP, spi: spi.to_be_bytes().to_vec(), kind, data: Vec::new() }
    }

    pub(crate) fn is_error(&self) -> bool {
        self.kind < notify::FIRST_STATUS
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        reader.u32()?;
        let protocol = reader.u8()?;
        let spi_len = usize::from(reader.u8()?);
        let kind = reader.u16()?;
        let spi = reader.take(spi_len)?.to_vec();
        Ok(Self { protocol, spi, kind, data: reader.rest().to_vec() })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.u32(DOI_IPSEC);
        writer.u8(self.protocol);
        writer.u8(u8::try_from(self.spi.len()).unwrap_or(u8::MAX));
        writer.u16(self.kind);
        writer.bytes(&self.spi);
        writer.bytes(&self.data);
        writer.into_bytes()
    }
}

/// What a Delete payload names: always SAs on which its sender receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Delete {
    /// ISAKMP SAs by their cookies.
    Isakmp(Vec<(u64, u64)>),
    /// ESP SAs.
    Esp(Vec<u32>),
    /// Of a protocol that we don't run.
    Other,
}

impl Delete {
    pub(crate) fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        reader.u32()?;
        let protocol = reader.u8()?;
        let spi_len = reader.u8()?;
        let count = reader.u16()?;
        if count > MAX_SPIS {
            return Err(WireError::TooMany);
        }
        let found = match (protocol, spi_len) {
            (protocol::ISAKMP, 16) => {
                let pair = |reader: &mut Reader<'_>| Ok((reader.u64()?, reader.u64()?));
                Self::Isakmp((0..count).map(|_| pair(&mut reader)).collect::<Result<_, WireError>>()?)
            }
            (protocol::ESP, 4) => {
                Self::Esp((0..count).map(|_| reader.u32()).collect::<Result<_, WireError>>()?)
            }
            (protocol::ISAKMP | protocol::ESP, _) => return Err(WireError::BadLength),
            _ => return Ok(Self::Other),
        };
        if reader.is_empty() { Ok(found) } else { Err(WireError::Trailing) }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.u32(DOI_IPSEC);
        let count = |len: usize| u16::try_from(len).unwrap_or(u16::MAX);
        match self {
            Self::Isakmp(cookies) => {
                writer.u8(protocol::ISAKMP);
                writer.u8(16);
                writer.u16(count(cookies.len()));
                for (cookie_i, cookie_r) in cookies {
                    writer.u64(*cookie_i);
                    writer.u64(*cookie_r);
                }
            }
            Self::Esp(spis) => {
                writer.u8(protocol::ESP);
                writer.u8(4);
                writer.u16(count(spis.len()));
                spis.iter().for_each(|spi| writer.u32(*spi));
            }
            Self::Other => {}
        }
        writer.into_bytes()
    }
}
