//! Packets as the forwarding stages see them: the [`Frame`] that bears one, views of its headers, and the two lookups
//! ([`RouteLookup`], [`Classifier`]) that a data plane brings.
//!
//! The stages are generic over these traits. Over DPDK a frame is an mbuf, routes are an `rte_fib` and a classifier is an
//! `rte_acl`; tests use [`TestFrame`], [`LinearRoutes`] and [`LinearClassifier`].

#![forbid(unsafe_code)]

pub mod checksum;
mod classify;
mod frame;
pub mod header;
mod route;
mod test_frame;

pub use classify::{Classifier, FiveTuple, LinearClassifier, NO_MATCH, PortMatch, Rule, RuleMatch};
pub use frame::{Frame, Meta, Twin, TwinKind};
pub use route::{LinearRoutes, MAX_ADJACENCY, MISS, Prefix, PrefixError, RouteError, RouteLookup};
pub use test_frame::TestFrame;
