//! The kernel's network state: mirrored into the dataplane, and set as the operator desires.
//!
//! Linux decides, the dataplane forwards: routes and neighbours are read here, never made up. What this module
//! *sets* in the kernel (addresses, static routes, twins' links) bears a protocol number of its own, so that only
//! that is ever taken back.

mod kernel;
mod link;
mod mapping;
mod message;
mod mirror;
mod neighbour;
mod route;
mod route_set;
mod socket;
mod static_state;

use std::net::IpAddr;

pub use kernel::{Kernel, LinkChange, StaticRoute};
pub use link::{Link, LinkAddress};
pub use mapping::{Attachment, Attachments};
pub(crate) use mirror::Touched;
pub use mirror::{Changes, Mirror, NextHop};
pub use neighbour::{Certainty, Neighbour};
pub use route::{Fate, Hop, Route, RouteTable};
pub(crate) use socket::Announcements;
pub use static_state::differences;
pub(crate) use static_state::ours;

/// Marks what this gateway put into the kernel: routes (`RTA_PROTOCOL`) and addresses (`IFA_PROTO`). `ip route`
/// shows it as `proto 147`.
pub const OUR_PROTOCOL: u8 = 147;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The kernel's number (`AF_*`).
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::V4 => libc::AF_INET as u8,
            Self::V6 => libc::AF_INET6 as u8,
        }
    }
}
