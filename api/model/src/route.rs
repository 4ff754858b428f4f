//! A static route, which the control plane installs in Linux.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use crate::address::Prefix;
use crate::kind::{Kind, Reference, Resource};
use crate::name::{IfName, Name};
use crate::read::{At, Parse, deserialize_by_parse};

/// A static route: to a gateway, over an interface, or over a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"destination": "10.2.0.0/16", "tunnel": "gre1"}))]
pub struct Route {
    /// Where it leads.
    pub destination: Prefix,
    /// Next hop; the destination itself is on the link when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "192.0.2.254")]
    pub gateway: Option<IpAddr>,
    /// The interface that it leaves by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<IfName>,
    /// The tunnel that it leaves by; not together with an interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<IfName>,
    /// Among routes with the same destination the lowest metric wins; Linux's own default when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
}

impl Parse for Route {
    fn parse(at: At<'_>) -> Option<Self> {
        let mut object = at.object()?;
        let destination: Option<Prefix> = object.required("destination");
        let gateway: Option<IpAddr> = object.optional_with("gateway", |at| {
            let text = at.string()?;
            match text.parse::<IpAddr>() {
                Ok(addr) if !addr.is_unspecified() && !addr.is_multicast() && !addr.is_loopback() => {
                    Some(addr)
                }
                Ok(addr) => at.refuse(format!("{addr} can't be a gateway")),
                Err(_) => at.refuse(format!("{text:?} is not an address")),
            }
        });
        let interface: Option<IfName> = object.optional("interface");
        let tunnel: Option<IfName> = object.optional("tunnel");
        let metric = object.optional_with("metric", |at| at.integer(0..=u32::MAX));
        let at = object.at().clone();
        object.end();
        if interface.is_some() && tunnel.is_some() {
            return at.inside("tunnel").refuse("a route leaves by an interface or by a tunnel, not by both");
        }
        let destination = destination?;
        if gateway.is_none() && interface.is_none() && tunnel.is_none() {
            return at.refuse("a gateway, an interface or a tunnel is required");
        }
        if gateway.is_some_and(|gateway| gateway.is_ipv4() != destination.is_ipv4()) {
            return at.inside("gateway").refuse("must be of the same IP version as the destination");
        }
        Some(Self { destination, gateway, interface, tunnel, metric })
    }
}

impl Resource for Route {
    const KIND: Kind = Kind::Route;
    type Name = Name;

    fn references(&self) -> Vec<Reference> {
        let interface = self.interface.iter().map(|name| Reference::new("/interface", Kind::Interface, name));
        let tunnel = self.tunnel.iter().map(|name| Reference::new("/tunnel", Kind::Tunnel, name));
        interface.chain(tunnel).collect()
    }

    fn of(desired: &crate::Desired) -> &BTreeMap<Name, Self> {
        &desired.routes
    }

    fn of_mut(desired: &mut crate::Desired) -> &mut BTreeMap<Name, Self> {
        &mut desired.routes
    }
}

deserialize_by_parse!(Route);
