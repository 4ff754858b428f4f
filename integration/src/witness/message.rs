//! What can be seen of a message from outside (RFC 7296 section 3.1, RFC 2408 section 3.1), with no code of the engine.

use crate::pcap::Datagram;

/// Length of the header.
pub const HEADER: usize = 28;
const NAT_PORT: u16 = 4500;
/// Payload types.
const ENCRYPTED: u8 = 46;
const ENCRYPTED_FRAGMENT: u8 = 53;
const CISCO_FRAGMENT: u8 = 132;
/// The flag of ISAKMP's header that says that all after it is encrypted.
const ENCRYPTION: u8 = 1;
/// The flag of version 2 that tells answers.
const RESPONSE: u8 = 0x20;

/// How a message's payloads are borne.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For all to see.
    Clear,
    /// Encrypted.
    Sealed,
    /// A piece of a message, encrypted itself (RFC 7383).
    SealedPiece {
        /// No piece is behind it.
        last: bool,
    },
    /// A piece of a message of IKEv1, encrypted or not.
    Piece {
        /// No piece is behind it.
        last: bool,
    },
}

/// A message.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    /// Major version.
    pub version: u8,
    /// SPIs or cookies.
    pub spis: (u64, u64),
    /// Type of its exchange.
    pub exchange: u8,
    /// An answer, in version 2.
    pub response: bool,
    /// Type of the first payload.
    pub first: u8,
    /// How its payloads are borne.
    pub form: Form,
}

impl Message {
    /// The message in a datagram, without the marker that tells it from ESP; `None` for a keepalive or ESP.
    pub fn bytes(datagram: &Datagram) -> Option<&[u8]> {
        let marked = [datagram.source.port(), datagram.destination.port()].contains(&NAT_PORT);
        if marked { datagram.payload.strip_prefix(&[0; 4]) } else { Some(&datagram.payload) }
    }

    /// What a datagram bears; `None` for a keepalive or ESP.
    pub fn of(datagram: &Datagram) -> Option<Self> {
        let bytes = Self::bytes(datagram)?;
        let header = bytes.get(..HEADER)?;
        let spi = |at: usize| Some(u64::from_be_bytes(header.get(at..at + 8)?.try_into().ok()?));
        let (first, version) = (header[16], header[17] >> 4);
        // Both kinds of piece have their place behind the generic header of their payload.
        let place = bytes.get(HEADER + 4..HEADER + 8).unwrap_or(&[0; 4]);
        let form = match (version, first) {
            (1, CISCO_FRAGMENT) => Form::Piece { last: place[3] & 1 != 0 },
            (1, _) if header[19] & ENCRYPTION != 0 => Form::Sealed,
            (2, ENCRYPTED) => Form::Sealed,
            (2, ENCRYPTED_FRAGMENT) => Form::SealedPiece { last: place[..2] == place[2..] },
            _ => Form::Clear,
        };
        Some(Self {
            version,
            spis: (spi(0)?, spi(8)?),
            exchange: header[18],
            response: header[19] & RESPONSE != 0,
            first,
            form,
        })
    }
}
