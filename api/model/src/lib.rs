//! What an operator may desire, as types that cannot be wrong.
//!
//! Every resource of the API is one type here. It is made from JSON by [`read::Parse`], which reports *all* wrong
//! fields at once, each with a JSON pointer and what would be allowed; once made, it needs no further validation.
//! [`Desired`] holds all resources by name, and [`check`] says what is wrong *between* resources: a tunnel that
//! would route through itself, an MTU that does not fit, an address that stands twice.
//!
//! Nothing here touches a clock, a file, a socket or the database.
#![forbid(unsafe_code)]

pub mod check;
pub mod mtu;
pub mod read;

mod access_list;
mod address;
mod certificate;
mod crypto_map;
mod desired;
mod distinguished_name;
mod group;
mod identity;
mod insecure;
mod interface;
mod ipsec_profile;
mod isakmp_policy;
mod kind;
mod name;
mod pem;
mod ppk;
mod pre_shared_key;
mod profile;
mod route;
mod secret;
mod site;
mod transform_set;
mod tunnel;
mod word;

pub use access_list::{AccessList, Action, PortRange, Protocol, Rule, RuleAddress};
pub use address::{InterfaceAddress, Prefix};
pub use certificate::{Certificate, CertificateUsage, Revocation, RsaPadding};
pub use crypto_map::{CryptoMap, CryptoMapEntry};
pub use desired::Desired;
pub use distinguished_name::{DistinguishedName, DistinguishedNameError};
pub use group::Group;
pub use identity::{Identity, IdentityError};
pub use insecure::Insecure;
pub use interface::{Device, Interface, Side};
pub use ipsec_profile::{IpsecProfile, NatTraversal, SaTerms};
pub use isakmp_policy::{Authentication, Hash, IkeEncryption, IkeVersion, IsakmpPolicy, KeyEncapsulation};
pub use kind::{Kind, Reference, Resource};
pub use name::{IfName, Name, NameError};
pub use pem::{CertificatePem, RevocationListPem, X509};
pub use ppk::Ppk;
pub use pre_shared_key::{Peer, PreSharedKey};
pub use profile::Profile;
pub use route::Route;
pub use secret::{Secret, SecretError};
pub use site::Site;
pub use transform_set::{EspEncryption, EspIntegrity, Mode, TransformSet};
pub use tunnel::{Df, TcpMss, Tunnel, TunnelProtection, TunnelSource};
