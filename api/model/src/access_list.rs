//! An access-list: which packets a crypto map protects.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Type};

use crate::address::Prefix;
use crate::kind::{Kind, Reference, Resource};
use crate::name::Name;
use crate::read::{At, Parse, as_string, deserialize_by_parse, string_schema};
use crate::word::words;

/// Rules that are asked in the order of their sequence; the first that matches decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"rules": [{"sequence": 10, "action": "permit", "protocol": "gre", "source": "192.0.2.1", "destination": "192.0.2.2"}]}))]
pub struct AccessList {
    /// Rules, in ascending order of their sequence.
    #[schema(min_items = 1, max_items = 10_000)]
    pub rules: Vec<Rule>,
}

words! {
    /// What a rule does with what it matches.
    pub enum Action as "an action" {
        /// Protect it.
        Permit = "permit",
        /// Leave it to the next entry of the crypto map.
        Deny = "deny",
    }
    weak {}
}

/// One line of an access-list, written from our side: the source is local.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Rule {
    /// Place among the rules: 1 to 2147483647.
    #[schema(minimum = 1, maximum = 2_147_483_647)]
    pub sequence: u32,
    /// What it does.
    pub action: Action,
    /// IP protocol.
    pub protocol: Protocol,
    /// Source addresses.
    pub source: RuleAddress,
    /// Destination addresses.
    pub destination: RuleAddress,
    /// Source ports, with tcp and udp only; any when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_ports: Option<PortRange>,
    /// Destination ports, with tcp and udp only; any when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_ports: Option<PortRange>,
}

/// IP protocol: `ip` (any), `gre`, `tcp`, `udp`, `icmp`, `esp`, or a number. It is kept as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the protocols'")]
pub enum Protocol {
    Ip,
    Gre,
    Tcp,
    Udp,
    Icmp,
    Esp,
    /// By its IANA number: 1 to 255.
    Number(u8),
}

/// Addresses that a rule matches: `any`, one address, or a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleAddress {
    /// Every address.
    Any,
    /// One address.
    Host(IpAddr),
    /// A prefix.
    Prefix(Prefix),
}

/// Ports from `first` to `last`, both included: `80`, `1000-2000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl Protocol {
    /// Number on the wire; `None` for any.
    #[must_use]
    pub const fn number(self) -> Option<u8> {
        match self {
            Self::Ip => None,
            Self::Gre => Some(47),
            Self::Tcp => Some(6),
            Self::Udp => Some(17),
            Self::Icmp => Some(1),
            Self::Esp => Some(50),
            Self::Number(number) => Some(number),
        }
    }

    const WORDS: [(&str, Self); 6] = [
        ("ip", Self::Ip),
        ("gre", Self::Gre),
        ("tcp", Self::Tcp),
        ("udp", Self::Udp),
        ("icmp", Self::Icmp),
        ("esp", Self::Esp),
    ];
}

impl RuleAddress {
    /// The prefix that it means; `None` for any address of either family.
    #[must_use]
    pub fn prefix(self) -> Option<Prefix> {
        match self {
            Self::Any => None,
            Self::Host(addr) => Some(Prefix::host(addr)),
            Self::Prefix(prefix) => Some(prefix),
        }
    }
}

impl PortRange {
    /// First port.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// Last port, not less than the first.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.last
    }
}

impl Parse for Protocol {
    fn parse(at: At<'_>) -> Option<Self> {
        const ALLOWED: &str = "allowed: ip, gre, tcp, udp, icmp, esp, or a number from 1 to 255";
        if let Some(text) = at.value().as_str() {
            return Self::WORDS
                .into_iter()
                .find_map(|(word, protocol)| (word == text).then_some(protocol))
                .or_else(|| at.refuse(format!("{text:?} is not a protocol; {ALLOWED}")));
        }
        if !at.value().is_number() {
            return at.refuse(format!("must be a protocol; {ALLOWED}"));
        }
        at.integer(1..=255u8).map(Self::Number)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            named => Self::WORDS
                .into_iter()
                .find_map(|(word, protocol)| (protocol == *named).then_some(word))
                .map_or(Ok(()), |word| f.write_str(word)),
        }
    }
}

impl Serialize for Protocol {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_u8(*number),
            named => serializer.collect_str(named),
        }
    }
}

deserialize_by_parse!(Protocol);

impl utoipa::PartialSchema for Protocol {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        OneOfBuilder::new()
            .item(
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .enum_values(Some(Self::WORDS.map(|(word, _)| word))),
            )
            .item(ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(255)))
            .description(Some("IP protocol by name, `ip` for any, or by number"))
            .into()
    }
}

impl utoipa::ToSchema for Protocol {}

impl FromStr for RuleAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "any" {
            Ok(Self::Any)
        } else if text.contains('/') {
            text.parse().map(Self::Prefix)
        } else {
            text.parse()
                .map(Self::Host)
                .map_err(|_| format!("{text:?} is not \"any\", an address or a prefix, like 10.1.0.0/16"))
        }
    }
}

impl fmt::Display for RuleAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Host(addr) => addr.fmt(f),
            Self::Prefix(prefix) => prefix.fmt(f),
        }
    }
}

as_string!(RuleAddress);
string_schema!(RuleAddress, "`any`, an address or a prefix", "192.0.2.1", None);

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("{text:?} is not a port or a range of ports, like \"80\" or \"1000-2000\"");
        let port = |text: &str| text.parse::<u16>().map_err(|_| refused());
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (port(first)?, port(last)?);
        if first <= last { Ok(Self { first, last }) } else { Err(refused()) }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { self.first.fmt(f) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

as_string!(PortRange);
string_schema!(PortRange, "A port or a range of ports", "1000-2000", Some(r"^[0-9]{1,5}(-[0-9]{1,5})?$"));

impl Parse for Rule {
    fn parse(at: At<'_>) -> Option<Self> {
        let mut object = at.object()?;
        let sequence = object.required_with("sequence", |at| at.integer(1..=0x7fff_ffff_u32));
        let action = object.required("action");
        let protocol: Option<Protocol> = object.required("protocol");
        let source: Option<RuleAddress> = object.required("source");
        let destination: Option<RuleAddress> = object.required("destination");
        let source_ports = object.optional("source_ports");
        let destination_ports = object.optional("destination_ports");
        let has_ports = matches!(protocol.and_then(Protocol::number), Some(6 | 17));
        for (field, ports) in [("source_ports", source_ports), ("destination_ports", destination_ports)] {
            if ports.is_some() && protocol.is_some() && !has_ports {
                let _: Option<()> = object.place(field).refuse("ports go with tcp and udp only");
            }
        }
        if let (Some(from), Some(to)) =
            (source.and_then(RuleAddress::prefix), destination.and_then(RuleAddress::prefix))
            && from.is_ipv4() != to.is_ipv4()
        {
            let _: Option<()> =
                object.place("destination").refuse("source and destination are of different IP versions");
        }
        object.end();
        Some(Self {
            sequence: sequence?,
            action: action?,
            protocol: protocol?,
            source: source?,
            destination: destination?,
            source_ports,
            destination_ports,
        })
    }
}

deserialize_by_parse!(Rule);

impl Parse for AccessList {
    fn parse(at: At<'_>) -> Option<Self> {
        let mut object = at.object()?;
        let rules = object.required_with("rules", |at| at.sequenced(10_000, |rule: &Rule| rule.sequence));
        object.end();
        Some(Self { rules: rules? })
    }
}

impl Resource for AccessList {
    const KIND: Kind = Kind::AccessList;
    type Name = Name;

    fn references(&self) -> Vec<Reference> {
        Vec::new()
    }

    fn of(desired: &crate::Desired) -> &BTreeMap<Name, Self> {
        &desired.access_lists
    }

    fn of_mut(desired: &mut crate::Desired) -> &mut BTreeMap<Name, Self> {
        &mut desired.access_lists
    }
}

deserialize_by_parse!(AccessList);
