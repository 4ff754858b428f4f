//! The SA payload (RFC 7296 section 3.3). What is not understood is kept as numbers, so that it can be refused by
//! name and never be mistaken for something else.

use super::{MAX_PROPOSALS, MAX_TRANSFORMS, Reader, WireError, Writer};

/// Protocol ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    None,
    Ike,
    Ah,
    Esp,
    Other(u8),
}

impl Protocol {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Ike => 1,
            Self::Ah => 2,
            Self::Esp => 3,
            Self::Other(number) => number,
        }
    }
}

impl From<u8> for Protocol {
    fn from(number: u8) -> Self {
        match number {
            0 => Self::None,
            1 => Self::Ike,
            2 => Self::Ah,
            3 => Self::Esp,
            other => Self::Other(other),
        }
    }
}

/// Transform types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TransformKind {
    Encryption,
    Prf,
    Integrity,
    KeyExchange,
    Esn,
    /// Additional Key Exchange 1 to 7 (RFC 9370 section 2.1).
    Additional(u8),
    Other(u8),
}

impl TransformKind {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Encryption => 1,
            Self::Prf => 2,
            Self::Integrity => 3,
            Self::KeyExchange => 4,
            Self::Esn => 5,
            Self::Additional(number) => number.saturating_add(5),
            Self::Other(number) => number,
        }
    }
}

impl From<u8> for TransformKind {
    fn from(number: u8) -> Self {
        match number {
            1 => Self::Encryption,
            2 => Self::Prf,
            3 => Self::Integrity,
            4 => Self::KeyExchange,
            5 => Self::Esn,
            6..=12 => Self::Additional(number.saturating_sub(5)),
            other => Self::Other(other),
        }
    }
}

/// One transform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transform {
    pub(crate) kind: TransformKind,
    pub(crate) id: u16,
    pub(crate) key_bits: Option<u16>,
    /// An attribute other than Key Length stands in it: it must not be chosen (section 3.3.6).
    pub(crate) unknown_attribute: bool,
}

/// One proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WireProposal {
    pub(crate) number: u8,
    pub(crate) protocol: Protocol,
    pub(crate) spi: Vec<u8>,
    pub(crate) transforms: Vec<Transform>,
}

const MORE_PROPOSALS: u8 = 2;
const MORE_TRANSFORMS: u8 = 3;
/// Attribute type 14, Key Length, in TV form.
const ATTRIBUTE_KEY_LENGTH: u16 = 0x8000 | 14;

impl WireProposal {
    /// Reads the body of an SA payload.
    pub(crate) fn decode_all(body: &mut Reader<'_>) -> Result<Vec<Self>, WireError> {
        let mut proposals = Vec::new();
        let mut transforms_left = MAX_TRANSFORMS;
        loop {
            let more = body.u8()?;
            body.u8()?;
            let length = body.u16()?;
            let mut content = body.body(length, 4)?;
            if proposals.len() >= MAX_PROPOSALS {
                return Err(WireError::TooMany);
            }
            proposals.push(Self::decode(&mut content, &mut transforms_left)?);
            match more {
                MORE_PROPOSALS => {}
                0 if body.is_empty() => return Ok(proposals),
                0 => return Err(WireError::Trailing),
                _ => return Err(WireError::BadValue),
            }
        }
    }

    fn decode(content: &mut Reader<'_>, transforms_left: &mut usize) -> Result<Self, WireError> {
        let number = content.u8()?;
        let protocol = Protocol::from(content.u8()?);
        let spi_bytes = usize::from(content.u8()?);
        let count = content.u8()?;
        let spi = content.take(spi_bytes)?.to_vec();
        *transforms_left = transforms_left.checked_sub(usize::from(count)).ok_or(WireError::TooMany)?;
        let mut transforms = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            content.u8()?;
            content.u8()?;
            let length = content.u16()?;
            transforms.push(Transform::decode(&mut content.body(length, 4)?)?);
        }
        if !content.is_empty() {
            return Err(WireError::Trailing);
        }
        Ok(Self { number, protocol, spi, transforms })
    }

    /// Writes the body of an SA payload.
    pub(crate) fn encode_all(proposals: &[Self], writer: &mut Writer) {
        let mut left = proposals.len();
        for proposal in proposals {
            left = left.saturating_sub(1);
            writer.u8(if left == 0 { 0 } else { MORE_PROPOSALS });
            writer.u8(0);
            writer.with_length(2, |writer| proposal.encode(writer));
        }
    }

    fn encode(&self, writer: &mut Writer) {
        writer.u8(self.number);
        writer.u8(self.protocol.number());
        writer.u8(u8::try_from(self.spi.len()).unwrap_or(u8::MAX));
        writer.u8(u8::try_from(self.transforms.len()).unwrap_or(u8::MAX));
        writer.bytes(&self.spi);
        let mut left = self.transforms.len();
        for transform in &self.transforms {
            left = left.saturating_sub(1);
            writer.u8(if left == 0 { 0 } else { MORE_TRANSFORMS });
            writer.u8(0);
            writer.with_length(2, |writer| transform.encode(writer));
        }
    }

    /// The transforms of one kind.
    pub(crate) fn of(&self, kind: TransformKind) -> impl Iterator<Item = &Transform> {
        self.transforms.iter().filter(move |transform| transform.kind == kind)
    }
}

impl Transform {
    /// A transform without a key length.
    pub(crate) fn plain(kind: TransformKind, id: u16) -> Self {
        Self { kind, id, key_bits: None, unknown_attribute: false }
    }

    /// An encryption transform with a key length.
    pub(crate) fn encryption(id: u16, key_bits: u16) -> Self {
        Self { kind: TransformKind::Encryption, id, key_bits: Some(key_bits), unknown_attribute: false }
    }

    fn decode(content: &mut Reader<'_>) -> Result<Self, WireError> {
        let kind = TransformKind::from(content.u8()?);
        content.u8()?;
        let id = content.u16()?;
        let mut transform = Self::plain(kind, id);
        while !content.is_empty() {
            let attribute = content.u16()?;
            let value_or_length = content.u16()?;
            if attribute == ATTRIBUTE_KEY_LENGTH && transform.key_bits.is_none() {
                transform.key_bits = Some(value_or_length);
            } else {
                transform.unknown_attribute = true;
                if attribute & 0x8000 == 0 {
                    content.take(usize::from(value_or_length))?;
                }
            }
        }
        Ok(transform)
    }

    fn encode(&self, writer: &mut Writer) {
        writer.u8(self.kind.number());
        writer.u8(0);
        writer.u16(self.id);
        if let Some(key_bits) = self.key_bits {
            writer.u16(ATTRIBUTE_KEY_LENGTH);
            writer.u16(key_bits);
        }
    }
}
