//! The lab: network namespaces, two Culvert gateways, a foreign peer and a sniffer on one machine.
//!
//! Everything here drives the product from outside, as its users do: processes, the REST API and the wire. Nothing
//! imports a crate of the product. Each piece cleans up when dropped, and what a killed run left behind is
//! removed by the next one ([`leftovers::sweep`]).
#![forbid(unsafe_code)]

pub mod api;
pub mod artifacts;
pub mod checks;
pub mod command;
pub mod configuration;
pub mod echo;
pub mod foreign;
pub mod frr;
pub mod gateway;
pub mod interop;
pub mod lab;
pub mod leftovers;
pub mod lost_message;
pub mod namespace;
pub mod nat;
pub mod natted;
pub mod pair;
pub mod pcap;
pub mod peer;
pub mod process;
pub mod rekeying;
pub mod sa;
pub mod sniffer;
pub mod supervisor;
pub mod veth;
pub mod wait;
pub mod witness;
