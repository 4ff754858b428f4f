//! Security association payloads: proposals, transforms, attributes (RFC 2408 sections 3.3 to 3.6).

use super::super::{MAX_PROPOSALS, MAX_TRANSFORMS, Reader, WireError, Writer};
use super::registry::payload as kind;

/// The IPsec DOI, and the only situation that it has in use (RFC 2407 sections 4.2 and 6.1).
const DOI_IPSEC: u32 = 1;
const SIT_IDENTITY_ONLY: u32 = 1;
const SHORT_FORM: u16 = 0x8000;

/// A data attribute: two octets in the short form (TV), any number in the long one (TLV). An answer repeats it in the
/// form in which it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attribute {
    pub(crate) kind: u16,
    value: Vec<u8>,
    short: bool,
}

impl Attribute {
    /// The short form where the value fits, four octets otherwise.
    pub(crate) fn number(kind: u16, value: u32) -> Self {
        match u16::try_from(value) {
            Ok(short) => Self { kind, value: short.to_be_bytes().to_vec(), short: true },
            Err(_) => Self { kind, value: value.to_be_bytes().to_vec(), short: false },
        }
    }

    /// Its value, if it is a number of at most 64 bits.
    pub(crate) fn value(&self) -> Option<u64> {
        let mut octets = [0; 8];
        let from = octets.len().checked_sub(self.value.len())?;
        octets.get_mut(from..)?.copy_from_slice(&self.value);
        Some(u64::from_be_bytes(octets))
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let field = reader.u16()?;
        let kind = field & !SHORT_FORM;
        if field & SHORT_FORM != 0 {
            return Ok(Self { kind, value: reader.array::<2>()?.to_vec(), short: true });
        }
        let len = usize::from(reader.u16()?);
        Ok(Self { kind, value: reader.take(len)?.to_vec(), short: false })
    }

    fn encode(&self, writer: &mut Writer) {
        if self.short {
            writer.u16(self.kind | SHORT_FORM);
        } else {
            writer.u16(self.kind);
            writer.u16(u16::try_from(self.value.len()).unwrap_or(u16::MAX));
        }
        writer.bytes(&self.value);
    }
}

/// A transform, as a whole chosen or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transform {
    pub(crate) number: u8,
    pub(crate) id: u8,
    pub(crate) attributes: Vec<Attribute>,
}

impl Transform {
    /// The value of an attribute that stands in it once.
    pub(crate) fn value(&self, kind: u16) -> Option<u64> {
        let mut found = self.attributes.iter().filter(|attribute| attribute.kind == kind);
        let first = found.next()?.value();
        first.filter(|_| found.next().is_none())
    }

    pub(crate) fn has(&self, kind: u16) -> bool {
        self.attributes.iter().any(|attribute| attribute.kind == kind)
    }

    /// A lifetime: the duration that follows a life type (RFC 2407 section 4.5).
    pub(crate) fn lifetime(&self, life_type: u16, duration: u16, unit: u64) -> Option<u64> {
        lifetime(&self.attributes, life_type, duration, unit)
    }
}

/// The duration that follows a life type of this unit.
pub(crate) fn lifetime(attributes: &[Attribute], life_type: u16, duration: u16, unit: u64) -> Option<u64> {
    let mut current = None;
    for attribute in attributes {
        if attribute.kind == life_type {
            current = attribute.value();
        } else if attribute.kind == duration && current == Some(unit) {
            return attribute.value();
        }
    }
    None
}

/// Reads a list of attributes.
pub(crate) fn decode_attributes(body: &[u8]) -> Result<Vec<Attribute>, WireError> {
    read_attributes(&mut Reader::new(body))
}

fn read_attributes(reader: &mut Reader<'_>) -> Result<Vec<Attribute>, WireError> {
    let mut attributes = Vec::new();
    while !reader.is_empty() {
        attributes.push(Attribute::decode(reader)?);
    }
    Ok(attributes)
}

/// A list of attributes.
pub(crate) fn encode_attributes(attributes: &[Attribute]) -> Vec<u8> {
    let mut writer = Writer::default();
    attributes.iter().for_each(|attribute| attribute.encode(&mut writer));
    writer.into_bytes()
}

/// A proposal: one protocol; its transforms are alternatives. Proposals of one number belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub(crate) number: u8,
    pub(crate) protocol: u8,
    pub(crate) spi: Vec<u8>,
    pub(crate) transforms: Vec<Transform>,
}

/// Reads the body of an SA payload.
pub(crate) fn decode_sa(body: &[u8]) -> Result<Vec<Proposal>, WireError> {
    let mut reader = Reader::new(body);
    if reader.u32()? != DOI_IPSEC || reader.u32()? != SIT_IDENTITY_ONLY {
        return Err(WireError::BadValue);
    }
    let mut proposals = Vec::new();
    let mut transforms_left = MAX_TRANSFORMS;
    let mut next = kind::PROPOSAL;
    while next != kind::NONE {
        if next != kind::PROPOSAL {
            return Err(WireError::BadValue);
        }
        if proposals.len() >= MAX_PROPOSALS {
            return Err(WireError::TooMany);
        }
        next = reader.u8()?;
        reader.u8()?;
        let length = reader.u16()?;
        let mut proposal = reader.body(length, 4)?;
        proposals.push(decode_proposal(&mut proposal, &mut transforms_left)?);
    }
    if reader.is_empty() { Ok(proposals) } else { Err(WireError::Trailing) }
}

fn decode_proposal(reader: &mut Reader<'_>, left: &mut usize) -> Result<Proposal, WireError> {
    let number = reader.u8()?;
    let protocol = reader.u8()?;
    let spi_len = usize::from(reader.u8()?);
    let count = usize::from(reader.u8()?);
    let spi = reader.take(spi_len)?.to_vec();
    *left = left.checked_sub(count).ok_or(WireError::TooMany)?;
    let mut transforms = Vec::new();
    for _ in 0..count {
        let _next = reader.u8()?;
        reader.u8()?;
        let length = reader.u16()?;
        let mut transform = reader.body(length, 4)?;
        let number = transform.u8()?;
        let id = transform.u8()?;
        transform.u16()?;
        let attributes = read_attributes(&mut transform)?;
        transforms.push(Transform { number, id, attributes });
    }
    if reader.is_empty() {
        Ok(Proposal { number, protocol, spi, transforms })
    } else {
        Err(WireError::Trailing)
    }
}

/// The body of an SA payload.
pub(crate) fn encode_sa(proposals: &[Proposal]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.u32(DOI_IPSEC);
    writer.u32(SIT_IDENTITY_ONLY);
    for (index, proposal) in proposals.iter().enumerate() {
        let last = index.saturating_add(1) == proposals.len();
        writer.u8(if last { kind::NONE } else { kind::PROPOSAL });
        writer.u8(0);
        writer.with_length(2, |writer| encode_proposal(writer, proposal));
    }
    writer.into_bytes()
}

fn encode_proposal(writer: &mut Writer, proposal: &Proposal) {
    writer.u8(proposal.number);
    writer.u8(proposal.protocol);
    writer.u8(u8::try_from(proposal.spi.len()).unwrap_or(u8::MAX));
    writer.u8(u8::try_from(proposal.transforms.len()).unwrap_or(u8::MAX));
    writer.bytes(&proposal.spi);
    for (index, transform) in proposal.transforms.iter().enumerate() {
        let last = index.saturating_add(1) == proposal.transforms.len();
        writer.u8(if last { kind::NONE } else { kind::TRANSFORM });
        writer.u8(0);
        writer.with_length(2, |writer| {
            writer.u8(transform.number);
            writer.u8(transform.id);
            writer.u16(0);
            transform.attributes.iter().for_each(|attribute| attribute.encode(writer));
        });
    }
}
