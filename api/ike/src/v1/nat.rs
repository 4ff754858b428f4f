//! NAT detection and original addresses (RFC 3947 sections 3.2 and 5.2).

use std::net::{IpAddr, SocketAddr};

use super::vendor::Dialect;
use crate::crypto::{Spis, nat_digest};
use crate::v2::nat::{NOWHERE, Nat};
use crate::wire::isakmp::{Payload, registry::payload as kind};
use crate::{Hash, Path};

impl Dialect {
    fn nat_d(self) -> u8 {
        match self {
            Self::Rfc => kind::NAT_D,
            Self::Draft(_) => kind::NAT_D_DRAFT,
        }
    }

    fn nat_oa(self) -> u8 {
        match self {
            Self::Rfc => kind::NAT_OA,
            Self::Draft(_) => kind::NAT_OA_DRAFT,
        }
    }

    /// Encapsulation modes start here for ESP in UDP: 3 and 4, or 61443 and 61444.
    pub(super) fn encapsulation_base(self) -> u32 {
        match self {
            Self::Rfc => 2,
            Self::Draft(_) => 61_442,
        }
    }
}

fn digest(hash: Hash, cookies: Spis, address: SocketAddr) -> Vec<u8> {
    let (cookie_i, cookie_r) = (cookies.initiator.to_be_bytes(), cookies.responder.to_be_bytes());
    let port = address.port().to_be_bytes();
    match address.ip() {
        IpAddr::V4(ip) => nat_digest(hash, &[&cookie_i, &cookie_r, &ip.octets(), &port]),
        IpAddr::V6(ip) => nat_digest(hash, &[&cookie_i, &cookie_r, &ip.octets(), &port]),
    }
}

/// NAT-D payloads of a message on `path`: its destination, then its source; `forced` gives one that the peer does not find.
pub(super) fn detection(
    dialect: Dialect,
    hash: Hash,
    cookies: Spis,
    path: Path,
    forced: bool,
) -> Vec<Payload> {
    let source = if forced { NOWHERE } else { path.local };
    [path.remote, source]
        .map(|address| Payload::new(dialect.nat_d(), digest(hash, cookies, address)))
        .to_vec()
}

/// What the NAT-D payloads of a message received on `path` tell, to one who may act as if there was a NAT before it.
pub(super) fn detect(
    dialect: Dialect,
    hash: Hash,
    cookies: Spis,
    path: Path,
    payloads: &[Payload],
    forced: bool,
) -> Nat {
    let found: Vec<&[u8]> = payloads
        .iter()
        .filter(|payload| payload.kind == dialect.nat_d())
        .map(|payload| payload.body.as_slice())
        .collect();
    let Some((destination, sources)) = found.split_first() else { return Nat::default() };
    let local = *destination != digest(hash, cookies, path.local).as_slice();
    let expected = digest(hash, cookies, path.remote);
    let remote = !sources.is_empty() && !sources.contains(&expected.as_slice());
    Nat { local, remote, forced }
}

/// The addresses of initiator and responder as the other end knows them, where it says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Originals {
    pub(super) initiator: Option<IpAddr>,
    pub(super) responder: Option<IpAddr>,
}

impl Originals {
    /// The NAT-OA payloads of a message: first that of the initiator.
    pub(super) fn read(dialect: Dialect, payloads: &[Payload]) -> Self {
        let mut found = payloads.iter().filter(|payload| payload.kind == dialect.nat_oa());
        let mut next = || found.next().and_then(|payload| address(&payload.body));
        Self { initiator: next(), responder: next() }
    }
}

fn address(body: &[u8]) -> Option<IpAddr> {
    match body.split_first_chunk::<4>()? {
        ([ID_IPV4_ADDR, ..], address) => <[u8; 4]>::try_from(address).ok().map(IpAddr::from),
        ([ID_IPV6_ADDR, ..], address) => <[u8; 16]>::try_from(address).ok().map(IpAddr::from),
        _ => None,
    }
}

const ID_IPV4_ADDR: u8 = 1;
const ID_IPV6_ADDR: u8 = 5;

/// NAT-OA payloads: the addresses of the initiator and the responder as the sender knows them.
pub(super) fn original_addresses(dialect: Dialect, initiator: IpAddr, responder: IpAddr) -> Vec<Payload> {
    let body = |address: IpAddr| match address {
        IpAddr::V4(ip) => [[ID_IPV4_ADDR, 0, 0, 0].as_slice(), &ip.octets()].concat(),
        IpAddr::V6(ip) => [[ID_IPV6_ADDR, 0, 0, 0].as_slice(), &ip.octets()].concat(),
    };
    [initiator, responder].map(|address| Payload::new(dialect.nat_oa(), body(address))).to_vec()
}
