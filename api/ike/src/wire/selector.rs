//! Traffic selector payloads (RFC 7296 section 3.13).

use std::net::IpAddr;

use super::{MAX_SELECTORS, Reader, WireError, Writer};
use crate::TrafficSelector;

const TS_IPV4_ADDR_RANGE: u8 = 7;
const TS_IPV6_ADDR_RANGE: u8 = 8;

/// Reads the body of a TSi or TSr payload. Selectors of an unknown type are left out: what is not understood can't
/// be agreed to.
pub(crate) fn decode_all(body: &mut Reader<'_>) -> Result<Vec<TrafficSelector>, WireError> {
    let count = usize::from(body.u8()?);
    body.take(3)?;
    if count > MAX_SELECTORS {
        return Err(WireError::TooMany);
    }
    let mut selectors = Vec::with_capacity(count);
    for _ in 0..count {
        let kind = body.u8()?;
        let protocol = body.u8()?;
        let length = body.u16()?;
        let mut content = body.body(length, 4)?;
        let range = match kind {
            TS_IPV4_ADDR_RANGE => decode_range::<4>(&mut content)?,
            TS_IPV6_ADDR_RANGE => decode_range::<16>(&mut content)?,
            _ => continue,
        };
        if !content.is_empty() {
            return Err(WireError::BadLength);
        }
        let (ports, first, last) = range;
        // A reversed port range, OPAQUE (65535-0) among them, matches nothing that we could agree to.
        if first > last {
            return Err(WireError::BadValue);
        }
        if ports.0 <= ports.1 {
            selectors.push(TrafficSelector { first, last, protocol, ports });
        }
    }
    if !body.is_empty() {
        return Err(WireError::Trailing);
    }
    Ok(selectors)
}

type Range = ((u16, u16), IpAddr, IpAddr);

fn decode_range<const N: usize>(content: &mut Reader<'_>) -> Result<Range, WireError>
where
    IpAddr: From<[u8; N]>,
{
    let ports = (content.u16()?, content.u16()?);
    Ok((ports, IpAddr::from(content.array::<N>()?), IpAddr::from(content.array::<N>()?)))
}

/// Writes the body of a TSi or TSr payload.
pub(crate) fn encode_all(selectors: &[TrafficSelector], writer: &mut Writer) {
    writer.u8(u8::try_from(selectors.len()).unwrap_or(u8::MAX));
    writer.bytes(&[0; 3]);
    for selector in selectors {
        writer.u8(if selector.first.is_ipv4() { TS_IPV4_ADDR_RANGE } else { TS_IPV6_ADDR_RANGE });
        writer.u8(selector.protocol);
        writer.with_length(2, |writer| {
            writer.u16(selector.ports.0);
            writer.u16(selector.ports.1);
            for address in [selector.first, selector.last] {
                match address {
                    IpAddr::V4(address) => writer.bytes(&address.octets()),
                    IpAddr::V6(address) => writer.bytes(&address.octets()),
                }
            }
        });
    }
}
