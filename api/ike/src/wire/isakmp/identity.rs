//! Identification payloads: who a peer is (phase 1), and what a child carries (phase 2) (RFC 2407 section 4.6.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::{Reader, WireError, WireIdentity, Writer};
use crate::TrafficSelector;

const ID_IPV4_ADDR: u8 = 1;
const ID_IPV4_ADDR_SUBNET: u8 = 4;
const ID_IPV6_ADDR: u8 = 5;
const ID_IPV6_ADDR_SUBNET: u8 = 6;
const ID_IPV4_ADDR_RANGE: u8 = 7;
const ID_IPV6_ADDR_RANGE: u8 = 8;
const UDP: u8 = 17;

/// The body of a phase 1 ID payload; the types are numbered as in version 2. `port` is 500, or 0 behind a NAT
/// (RFC 3947 section 4).
pub(crate) fn phase_one_identity_body(identity: &WireIdentity, port: u16) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.u8(identity.kind);
    writer.u8(UDP);
    writer.u16(port);
    writer.bytes(&identity.data);
    writer.into_bytes()
}

/// The identity in the body of a phase 1 ID payload.
pub(crate) fn phase_one_identity(body: &[u8]) -> Result<WireIdentity, WireError> {
    WireIdentity::decode(&mut Reader::new(body))
}

/// The body of a phase 2 ID payload, as a traffic selector.
pub(crate) struct PhaseTwoId;

impl PhaseTwoId {
    /// `None` if the selector is not one that IKEv1 can say: a range of ports.
    pub(crate) fn encode(selector: &TrafficSelector) -> Option<Vec<u8>> {
        let port = match selector.ports {
            (0, u16::MAX) => 0,
            (first, last) if first == last => first,
            _ => return None,
        };
        let mut writer = Writer::default();
        let mut write = |kind: u8, parts: &[&[u8]]| {
            writer.u8(kind);
            writer.u8(selector.protocol);
            writer.u16(port);
            parts.iter().for_each(|part| writer.bytes(part));
        };
        match (selector.first, selector.last) {
            (IpAddr::V4(first), IpAddr::V4(last)) if first == last => write(ID_IPV4_ADDR, &[&first.octets()]),
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                let differing = first.to_bits() ^ last.to_bits();
                match is_subnet(u128::from(first.to_bits()), u128::from(differing)) {
                    true => write(ID_IPV4_ADDR_SUBNET, &[&first.octets(), &(!differing).to_be_bytes()]),
                    false => write(ID_IPV4_ADDR_RANGE, &[&first.octets(), &last.octets()]),
                }
            }
            (IpAddr::V6(first), IpAddr::V6(last)) if first == last => write(ID_IPV6_ADDR, &[&first.octets()]),
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                let differing = first.to_bits() ^ last.to_bits();
                match is_subnet(first.to_bits(), differing) {
                    true => write(ID_IPV6_ADDR_SUBNET, &[&first.octets(), &(!differing).to_be_bytes()]),
                    false => write(ID_IPV6_ADDR_RANGE, &[&first.octets(), &last.octets()]),
                }
            }
            _ => return None,
        }
        Some(writer.into_bytes())
    }

    /// Names, and masks with holes, are no selectors.
    pub(crate) fn decode(body: &[u8]) -> Result<TrafficSelector, WireError> {
        let mut reader = Reader::new(body);
        let kind = reader.u8()?;
        let protocol = reader.u8()?;
        let port = reader.u16()?;
        let ports = if port == 0 { (0, u16::MAX) } else { (port, port) };
        let mut v4 = || reader.array::<4>().map(u32::from_be_bytes);
        let (first, last): (IpAddr, IpAddr) = match kind {
            ID_IPV4_ADDR => {
                let address = Ipv4Addr::from_bits(v4()?);
                (address.into(), address.into())
            }
            ID_IPV4_ADDR_SUBNET => {
                let (address, mask) = (v4()?, v4()?);
                if mask.leading_ones().saturating_add(mask.trailing_zeros()) != u32::BITS {
                    return Err(WireError::BadValue);
                }
                let first = address & mask;
                (Ipv4Addr::from_bits(first).into(), Ipv4Addr::from_bits(first | !mask).into())
            }
            ID_IPV4_ADDR_RANGE => (Ipv4Addr::from_bits(v4()?).into(), Ipv4Addr::from_bits(v4()?).into()),
            ID_IPV6_ADDR | ID_IPV6_ADDR_SUBNET | ID_IPV6_ADDR_RANGE => {
                let mut v6 = || reader.array::<16>().map(u128::from_be_bytes);
                let one = v6()?;
                let (first, last) = match kind {
                    ID_IPV6_ADDR => (one, one),
                    ID_IPV6_ADDR_RANGE => (one, v6()?),
                    _ => {
                        let mask = v6()?;
                        if mask.leading_ones().saturating_add(mask.trailing_zeros()) != u128::BITS {
                            return Err(WireError::BadValue);
                        }
                        (one & mask, (one & mask) | !mask)
                    }
                };
                (Ipv6Addr::from_bits(first).into(), Ipv6Addr::from_bits(last).into())
            }
            _ => return Err(WireError::BadValue),
        };
        if first > last || !reader.is_empty() {
            return Err(WireError::BadLength);
        }
        Ok(TrafficSelector { first, last, protocol, ports })
    }
}

/// The bits that differ are the low ones, and none of them is set in the first address.
fn is_subnet(first: u128, differing: u128) -> bool {
    differing & differing.wrapping_add(1) == 0 && first & differing == 0
}
