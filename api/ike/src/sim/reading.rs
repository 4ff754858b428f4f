//! What the codec reads in a message, so that other readers can be compared with it.

use crate::TrafficSelector;
use crate::wire::{Message, Payload, WireError, decode_payloads, isakmp};

/// A message of either version, unopened where it is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Major version.
    pub version: u8,
    /// SPIs or cookies, the initiator's first.
    pub spis: (u64, u64),
    /// Exchange type.
    pub exchange: u8,
    /// Message id.
    pub message_id: u32,
    /// What stands in it.
    pub content: Content,
}

/// A chain of payloads. Of version 1 types and proposals alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Types of the payloads in order.
    pub payloads: Vec<u8>,
    /// What its SA payloads propose.
    pub proposals: Vec<ReadProposal>,
    /// Groups and shares.
    pub key_exchanges: Vec<(u16, Vec<u8>)>,
    /// Types and octets of identities.
    pub identities: Vec<(u8, Vec<u8>)>,
    /// Types, SPIs and data of notifications.
    pub notifications: Vec<(u16, Vec<u8>, Vec<u8>)>,
    /// Traffic selectors of both sides.
    pub selectors: Vec<TrafficSelector>,
}

/// A proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadProposal {
    /// Number.
    pub number: u8,
    /// Protocol id.
    pub protocol: u8,
    /// SPI.
    pub spi: Vec<u8>,
    /// Transforms in order.
    pub transforms: Vec<ReadTransform>,
}

/// A transform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadTransform {
    /// Transform type of version 2, transform number of version 1.
    pub kind: u8,
    /// Transform id.
    pub id: u16,
    /// Types of its attributes and their values, if they are numbers; in version 2 the key length alone.
    pub attributes: Vec<(u16, Option<u64>)>,
}

/// Reads a message without the marker of port 4500.
///
/// # Errors
/// The name under which the engine counts its drop.
pub fn read(message: &[u8]) -> Result<Reading, &'static str> {
    let reading = if isakmp::is_isakmp(message) { version_1(message) } else { version_2(message) };
    reading.map_err(WireError::name)
}

/// Reads the payloads inside an Encrypted payload of version 2, of which the first has this type.
///
/// # Errors
/// As of [`read`].
pub fn read_inside(first: u8, chain: &[u8]) -> Result<Content, &'static str> {
    decode_payloads(first, chain).map(|payloads| content(&payloads)).map_err(WireError::name)
}

fn version_2(bytes: &[u8]) -> Result<Reading, WireError> {
    let Message { header, payloads } = Message::decode(bytes)?;
    Ok(Reading {
        version: 2,
        spis: (header.spi_i, header.spi_r),
        exchange: header.exchange.number(),
        message_id: header.message_id,
        content: content(&payloads),
    })
}

fn content(payloads: &[Payload]) -> Content {
    let mut content = Content::default();
    for payload in payloads {
        content.payloads.push(payload.kind());
        match payload {
            Payload::Sa(proposals) => content.proposals.extend(proposals.iter().map(proposal)),
            Payload::KeyExchange { group, data } => content.key_exchanges.push((*group, data.clone())),
            Payload::IdI(identity) | Payload::IdR(identity) => {
                content.identities.push((identity.kind, identity.data.clone()));
            }
            Payload::Notify(notify) => {
                content.notifications.push((notify.kind, notify.spi.clone(), notify.data.clone()));
            }
            Payload::TsI(selectors) | Payload::TsR(selectors) => content.selectors.extend(selectors),
            _ => {}
        }
    }
    content
}

fn proposal(proposal: &crate::wire::WireProposal) -> ReadProposal {
    const KEY_LENGTH: u16 = 14;
    let bits = |bits: Option<u16>| bits.map(|bits| (KEY_LENGTH, Some(bits.into()))).into_iter().collect();
    ReadProposal {
        number: proposal.number,
        protocol: proposal.protocol.number(),
        spi: proposal.spi.clone(),
        transforms: (proposal.transforms.iter())
            .map(|found| ReadTransform {
                kind: found.kind.number(),
                id: found.id,
                attributes: bits(found.key_bits),
            })
            .collect(),
    }
}

fn version_1(bytes: &[u8]) -> Result<Reading, WireError> {
    let (header, body) = isakmp::Header::decode(bytes)?;
    let payloads = if header.encrypted { Vec::new() } else { isakmp::decode_chain(header.first, body)?.0 };
    let mut proposals = Vec::new();
    for payload in payloads.iter().filter(|payload| payload.kind == isakmp::registry::payload::SA) {
        proposals.extend(isakmp::decode_sa(&payload.body)?);
    }
    let proposals = proposals.into_iter().map(|proposal| ReadProposal {
        number: proposal.number,
        protocol: proposal.protocol,
        spi: proposal.spi,
        transforms: (proposal.transforms.iter())
            .map(|transform| ReadTransform {
                kind: transform.number,
                id: transform.id.into(),
                attributes: (transform.attributes.iter())
                    .map(|attribute| (attribute.kind, attribute.value()))
                    .collect(),
            })
            .collect(),
    });
    Ok(Reading {
        version: 1,
        spis: (header.cookie_i, header.cookie_r),
        exchange: header.exchange.number(),
        message_id: header.message_id,
        content: Content {
            proposals: proposals.collect(),
            payloads: payloads.iter().map(|payload| payload.kind).collect(),
            ..Content::default()
        },
    })
}
