//! The identities of quick mode, as selectors (RFC 2409 section 5.5). Version 1 cannot narrow: they fit or not.

use std::net::IpAddr;

use crate::v2::selectors::covers;
use crate::wire::WireError;
use crate::wire::isakmp::{Payload, PhaseTwoId, registry::payload as kind};
use crate::{ChildConfig, Mode, Path, TrafficSelector};

/// The selectors of a child in version 1: the first of each side, of one family.
pub(super) fn of_child(child: &ChildConfig) -> Option<(TrafficSelector, TrafficSelector)> {
    let local = child.local_selectors.first()?;
    let same_family = |selector: &&TrafficSelector| selector.first.is_ipv4() == local.first.is_ipv4();
    let remote = child.remote_selectors.iter().find(same_family)?;
    Some((*local, *remote))
}

/// What an exchange named: the initiator's and the responder's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) initiator: TrafficSelector,
    pub(super) responder: TrafficSelector,
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

/// The child that is meant: the one with just these selectors, or, where the connection takes supersets, the one that
/// lies within them. Behind a NAT an end of transport mode knows its own address, not the one that the other sees:
/// there protocol and ports decide (RFC 3947 section 5.2).
pub(super) fn find<'a>(
    children: &'a [ChildConfig],
    named: &Named,
    mode: Mode,
    path: Path,
    behind_nat: bool,
    accept_superset: bool,
) -> Option<&'a ChildConfig> {
    let of_mode = || children.iter().filter(|child| child.mode == mode);
    let exact = of_mode().find(|child| {
        of_child(child) == Some((named.responder, named.initiator))
            || behind_nat && mode == Mode::Transport && is_same_but_for_address(child, named, path)
    });
    exact.or_else(|| {
        of_mode().filter(|_| accept_superset).find(|child| {
            of_child(child).is_some_and(|(local, remote)| {
                covers(&named.responder, &local) && covers(&named.initiator, &remote)
            })
        })
    })
}

fn is_same_but_for_address(child: &ChildConfig, named: &Named, path: Path) -> bool {
    let host = |selector: &TrafficSelector| selector.first == selector.last;
    of_child(child).is_some_and(|(local, remote)| {
        let alike = |one: &TrafficSelector, other: &TrafficSelector| {
            host(one) && host(other) && one.protocol == other.protocol && one.ports == other.ports
        };
        alike(&local, &named.responder) && alike(&remote, &named.initiator) && local.first == path.local.ip()
    })
}
