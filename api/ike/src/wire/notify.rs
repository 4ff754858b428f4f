//! Notify and Delete payloads (RFC 7296 sections 3.10 and 3.11).

use super::registry::notify;
use super::{Protocol, Reader, WireError, Writer};

/// A notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notify {
    pub(crate) protocol: Protocol,
    pub(crate) spi: Vec<u8>,
    pub(crate) kind: u16,
    pub(crate) data: Vec<u8>,
}

impl Notify {
    /// A notification about the IKE SA or the exchange as a whole.
    pub(crate) fn new(kind: u16, data: Vec<u8>) -> Self {
        Self { protocol: Protocol::None, spi: Vec::new(), kind, data }
    }

    /// A notification about an ESP SA.
    pub(crate) fn about_esp(kind: u16, spi: u32) -> Self {
        Self { protocol: Protocol::Esp, spi: spi.to_be_bytes().to_vec(), kind, data: Vec::new() }
    }

    pub(crate) fn is_error(&self) -> bool {
        self.kind < notify::FIRST_STATUS
    }

    pub(crate) fn decode(body: &mut Reader<'_>) -> Result<Self, WireError> {
        let protocol = Protocol::from(body.u8()?);
        let spi_bytes = usize::from(body.u8()?);
        let kind = body.u16()?;
        let spi = body.take(spi_bytes)?.to_vec();
        Ok(Self { protocol, spi, kind, data: body.rest().to_vec() })
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.u8(self.protocol.number());
        writer.u8(u8::try_from(self.spi.len()).unwrap_or(u8::MAX));
        writer.u16(self.kind);
        writer.bytes(&self.spi);
        writer.bytes(&self.data);
    }
}

/// What a Delete payload names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Delete {
    /// The IKE SA that bears the message.
    IkeSa,
    /// ESP SAs by the sender's inbound SPIs.
    Esp(Vec<u32>),
    /// Another protocol: nothing that we have.
    Other(u8),
}

impl Delete {
    pub(crate) fn decode(body: &mut Reader<'_>) -> Result<Self, WireError> {
        let protocol = Protocol::from(body.u8()?);
        let spi_bytes = body.u8()?;
        let count = body.u16()?;
        match (protocol, spi_bytes) {
            (Protocol::Ike, 0) if count == 0 && body.is_empty() => Ok(Self::IkeSa),
            (Protocol::Esp, 4) => {
                let spis = (0..count).map(|_| body.u32()).collect::<Result<Vec<_>, _>>()?;
                if body.is_empty() { Ok(Self::Esp(spis)) } else { Err(WireError::Trailing) }
            }
            (Protocol::Ike | Protocol::Esp, _) => Err(WireError::BadValue),
            (other, _) => {
                body.rest();
                Ok(Self::Other(other.number()))
            }
        }
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        match self {
            Self::IkeSa => {
                writer.u8(Protocol::Ike.number());
                writer.u8(0);
                writer.u16(0);
            }
            Self::Esp(spis) => {
                writer.u8(Protocol::Esp.number());
                writer.u8(4);
                writer.u16(u16::try_from(spis.len()).unwrap_or(u16::MAX));
                for spi in spis {
                    writer.u32(*spi);
                }
            }
            Self::Other(protocol) => {
                writer.u8(*protocol);
                writer.u8(0);
                writer.u16(0);
            }
        }
    }
}
