//! A tunnel: GRE (RFC 2784, RFC 2890) between two addresses, and its twin in Linux.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use serde_json::json;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Ref, Type};

use crate::address::{InterfaceAddress, is_unicast_v4, parse_unicast_v4};
use crate::identity::Identity;
use crate::kind::{Kind, Reference, Resource};
use crate::name::{IfName, Name};
use crate::read::{At, Parse, as_string, deserialize_by_parse, string_schema};
use crate::word::words;

/// A GRE tunnel and its TUN twin in Linux, which bears the addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"source": "black0", "destination": "198.51.100.2", "addresses": ["10.255.0.1/30"], "protection": {"ipsec_profile": "branch"}}))]
pub struct Tunnel {
    /// Where it begins: an interface, whose first IPv4 address is taken, or an address of an interface.
    pub source: TunnelSource,
    /// Where it ends.
    #[schema(value_type = String, format = Ipv4, example = "198.51.100.2")]
    pub destination: Ipv4Addr,
    /// GRE key; no key field when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<u32>,
    /// Addresses of the twin.
    #[schema(required = false, max_items = 64)]
    pub addresses: Vec<InterfaceAddress>,
    /// Largest passenger packet in bytes; the exact largest that fits when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 576, maximum = 9216)]
    pub mtu_bytes: Option<u32>,
    /// What protects it.
    pub protection: TunnelProtection,
    /// The site that it leads to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<Name>,
    /// Time to live of the transport header: 1 to 255.
    #[schema(required = false, minimum = 1, maximum = 255, default = 64)]
    pub ttl: u8,
    /// DF bit of the transport header.
    #[schema(required = false)]
    pub df: Df,
    /// Clamping of the TCP maximum segment size of passengers.
    #[schema(required = false)]
    pub tcp_mss: TcpMss,
    /// Identity that we bear towards the peer; our address when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_identity: Option<Identity>,
    /// Identity that the peer must prove; its address when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_identity: Option<Identity>,
    /// Whether it may carry traffic.
    #[schema(required = false, default = true)]
    pub enabled: bool,
}

/// Where a tunnel begins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TunnelSource {
    /// The first IPv4 address of an interface.
    Interface(IfName),
    /// An address that some interface bears.
    Address(Ipv4Addr),
}

/// What protects a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TunnelProtection {
    /// `{"ipsec_profile": name}`: SAs of its own.
    IpsecProfile(Name),
    /// `"crypto-map"`: the crypto map of the interface that it leaves by must match, or its packets are dropped.
    CryptoMap,
    /// `"none"`: GRE in clear, by the operator's explicit word.
    None,
}

words! {
    /// DF bit of the transport header.
    pub enum Df as "a DF policy" {
        /// Always set.
        Set = "set",
        /// As in the passenger's header.
        Copy = "copy",
        /// Never set.
        Clear = "clear",
    }
    weak {}
}

/// Clamping of the TCP maximum segment size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpMss {
    /// `"auto"`: what the tunnel's MTU carries unfragmented.
    Auto,
    /// `"off"`: left alone.
    Off,
    /// A number of bytes for IPv4; twenty less for IPv6.
    Bytes(u16),
}

impl FromStr for TunnelSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let looks_like_address = text.contains(':') || text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if looks_like_address {
            return match text.parse::<Ipv4Addr>() {
                Ok(addr) if is_unicast_v4(addr) => Ok(Self::Address(addr)),
                Ok(addr) => Err(format!("{addr} is not a unicast address")),
                Err(_) => Err(format!("{text:?} is not an IPv4 address")),
            };
        }
        text.parse()
            .map(Self::Interface)
            .map_err(|_| format!("{text:?} is neither the name of an interface nor an IPv4 address"))
    }
}

impl fmt::Display for TunnelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface(name) => name.fmt(f),
            Self::Address(addr) => addr.fmt(f),
        }
    }
}

as_string!(TunnelSource);
string_schema!(
    TunnelSource,
    "Name of an interface, or an IPv4 address that an interface bears",
    "black0",
    None
);

impl Parse for TunnelProtection {
    fn parse(at: At<'_>) -> Option<Self> {
        const ALLOWED: &str = "must be {\"ipsec_profile\": name}, \"crypto-map\" or \"none\"";
        match at.value().as_str() {
            Some("crypto-map") => return Some(Self::CryptoMap),
            Some("none") => return Some(Self::None),
            _ if at.value().is_object() => {}
            _ => return at.refuse(ALLOWED),
        }
        let mut object = at.object()?;
        let profile = object.required("ipsec_profile");
        object.end();
        profile.map(Self::IpsecProfile)
    }
}

impl Serialize for TunnelProtection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::IpsecProfile(name) => serializer.collect_map([("ipsec_profile", name)]),
            Self::CryptoMap => serializer.serialize_str("crypto-map"),
            Self::None => serializer.serialize_str("none"),
        }
    }
}

deserialize_by_parse!(TunnelProtection);

impl utoipa::PartialSchema for TunnelProtection {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        OneOfBuilder::new()
            .item(
                ObjectBuilder::new()
                    .property("ipsec_profile", Ref::from_schema_name("Name"))
                    .required("ipsec_profile")
                    .additional_properties(Some(utoipa::openapi::schema::AdditionalProperties::FreeForm(
                        false,
                    ))),
            )
            .item(ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["crypto-map", "none"])))
            .examples([json!({"ipsec_profile": "branch"})])
            .into()
    }
}

impl utoipa::ToSchema for TunnelProtection {}

impl Parse for TcpMss {
    fn parse(at: At<'_>) -> Option<Self> {
        match at.value().as_str() {
            Some("auto") => Some(Self::Auto),
            Some("off") => Some(Self::Off),
            Some(_) => at.refuse("must be \"auto\", \"off\" or an integer from 500 to 9000"),
            None => at.integer(500..=9000u16).map(Self::Bytes),
        }
    }
}

impl Serialize for TcpMss {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Off => serializer.serialize_str("off"),
            Self::Bytes(bytes) => serializer.serialize_u16(*bytes),
        }
    }
}

deserialize_by_parse!(TcpMss);

impl utoipa::PartialSchema for TcpMss {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        OneOfBuilder::new()
            .item(ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["auto", "off"])))
            .item(ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(500)).maximum(Some(9000)))
            .default(Some(json!("auto")))
            .into()
    }
}

impl utoipa::ToSchema for TcpMss {}

impl Parse for Tunnel {
    fn parse(at: At<'_>) -> Option<Self> {
        let mut object = at.object()?;
        let source = object.required("source");
        let destination = object.required_with("destination", parse_unicast_v4);
        let key = object.optional_with("key", |at| at.integer(0..=u32::MAX));
        let addresses = object.optional_with("addresses", |at| at.distinct(64)).unwrap_or_default();
        let mtu_bytes = object.optional_with("mtu_bytes", |at| at.integer(576..=9216u32));
        let protection = object.required("protection");
        let site = object.optional("site");
        let ttl = object.optional_with("ttl", |at| at.integer(1..=255u8)).unwrap_or(64);
        let df = object.optional("df").unwrap_or(Df::Set);
        let tcp_mss = object.optional("tcp_mss").unwrap_or(TcpMss::Auto);
        let local_identity = object.optional("local_identity");
        let remote_identity = object.optional("remote_identity");
        let enabled = object.optional("enabled").unwrap_or(true);
        object.end();
        Some(Self {
            source: source?,
            destination: destination?,
            key,
            addresses,
            mtu_bytes,
            protection: protection?,
            site,
            ttl,
            df,
            tcp_mss,
            local_identity,
            remote_identity,
            enabled,
        })
    }
}

impl Resource for Tunnel {
    const KIND: Kind = Kind::Tunnel;
    type Name = IfName;

    fn references(&self) -> Vec<Reference> {
        let mut references = Vec::new();
        if let TunnelSource::Interface(name) = &self.source {
            references.push(Reference::new("/source", Kind::Interface, name));
        }
        if let TunnelProtection::IpsecProfile(name) = &self.protection {
            references.push(Reference::new("/protection/ipsec_profile", Kind::IpsecProfile, name));
        }
        if let Some(name) = &self.site {
            references.push(Reference::new("/site", Kind::Site, name));
        }
        references
    }

    fn of(desired: &crate::Desired) -> &BTreeMap<IfName, Self> {
        &desired.tunnels
    }

    fn of_mut(desired: &mut crate::Desired) -> &mut BTreeMap<IfName, Self> {
        &mut desired.tunnels
    }
}

deserialize_by_parse!(Tunnel);
