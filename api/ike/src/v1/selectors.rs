//! The identities of quick mode, as selectors (RFC 2409 section 5.5). Version 1 cannot narrow: they fit or not.

use std::net::IpAddr;

use crate::v2::selectors::covers;
use crate::wire::WireError;
use crate::wire::isakmp::{Payload, PhaseTwoId, registry::payload as kind};
use crate::{ChildConfig, Mode, TrafficSelector};

/// The selectors of a child in version 1: the first of each side, of one family.
pub(super) fn of_child(child: &ChildConfig) -> Option<(TrafficSelector, TrafficSelector)> {
    let local = child.local_selectors.first()?;
    let same_family = |selector: &&TrafficSelector| selector.first.is_ipv4() == local.first.is_ipv4();
    let remote = child.remote_selectors.iter().find(same_family)?;
    Some((*local, *remote))
}

/// What an exchange named: the initiator's and the responder's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) initiator: TrafficSelector,
    pub(crate) responder: TrafficSelector,
}

impl Named {
    /// The two ID payloads; without them, the addresses of the peers are meant.
    pub(super) fn read(
        payloads: &[Payload],
        initiator: IpAddr,
        responder: IpAddr,
    ) -> Result<Self, WireError> {
        let bodies: Vec<&[u8]> = payloads
            .iter()
            .filter(|payload| payload.kind == kind::ID)
            .map(|payload| payload.body.as_slice())
            .collect();
        let host =
            |address| TrafficSelector { first: address, last: address, protocol: 0, ports: (0, u16::MAX) };
        match bodies.as_slice() {
            [] => Ok(Self { initiator: host(initiator), responder: host(responder) }),
            [one, other] => {
                Ok(Self { initiator: PhaseTwoId::decode(one)?, responder: PhaseTwoId::decode(other)? })
            }
            _ => Err(WireError::BadValue),
        }
    }
}

/// An end as one of the two knows it.
#[derive(Clone, Copy)]
pub(super) struct End {
    /// How it is configured.
    pub(super) configured: IpAddr,
    /// Its address in the packets that come here or go from here.
    pub(super) seen: IpAddr,
    /// As the peer says that it is (NAT-OA).
    pub(super) original: Option<IpAddr>,
    pub(super) behind_nat: bool,
}

impl Named {
    /// The selectors of transport mode as they are seen from here. Who stands behind a NAT names itself by its inner address,
    /// and the other one by what it sends to; what it named must be the original address that it gave beside (RFC 3947
    /// section 5.2). Here both are known by what the connection is configured for.
    pub(super) fn seen_from_here(self, initiator: End, responder: End) -> Self {
        Self {
            initiator: initiator.in_place_of(self.initiator),
            responder: responder.in_place_of(self.responder),
        }
    }
}

impl End {
    fn in_place_of(self, named: TrafficSelector) -> TrafficSelector {
        let is_host = named.first == named.last && named.first.is_ipv4() == self.configured.is_ipv4();
        let is_this =
            self.seen == named.first || self.original.is_none_or(|original| original == named.first);
        if self.behind_nat && is_host && is_this {
            TrafficSelector { first: self.configured, last: self.configured, ..named }
        } else {
            named
        }
    }
}

/// The selector of a peer that is configured at one address and seen at another, by which it is named then.
pub(super) fn named_by(
    selector: TrafficSelector,
    configured: IpAddr,
    seen: Option<IpAddr>,
) -> TrafficSelector {
    match seen {
        Some(seen) if (selector.first, selector.last) == (configured, configured) => {
            TrafficSelector { first: seen, last: seen, ..selector }
        }
        _ => selector,
    }
}

/// The child that is meant: the one with just these selectors, or, where the connection takes supersets, the one that
/// lies within them.
pub(crate) fn find<'a>(
    children: &'a [ChildConfig],
    named: &Named,
    mode: Mode,
    accept_superset: bool,
) -> Option<&'a ChildConfig> {
    let of_mode = || children.iter().filter(|child| child.mode == mode);
    let exact = of_mode().find(|child| of_child(child) == Some((named.responder, named.initiator)));
    exact.or_else(|| {
        of_mode().filter(|_| accept_superset).find(|child| {
            of_child(child).is_some_and(|(local, remote)| {
                covers(&named.responder, &local) && covers(&named.initiator, &remote)
            })
        })
    })
}
