//! A crypto map: which packets that leave an interface are protected, how, and towards whom.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::Serialize;

use crate::address::parse_unicast_v4;
use crate::identity::Identity;
use crate::ipsec_profile::SaTerms;
use crate::kind::{Kind, Reference, Resource};
use crate::name::Name;
use crate::read::{At, Parse, deserialize_by_parse};

/// Entries that are asked in the order of their sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"entries": [{"sequence": 10, "access_list": "to-gamma", "transform_sets": ["aes128-tunnel"], "peer": "198.51.100.3"}]}))]
pub struct CryptoMap {
    /// Entries, in ascending order of their sequence.
    #[schema(min_items = 1, max_items = 1000)]
    pub entries: Vec<CryptoMapEntry>,
}

/// One entry of a crypto map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct CryptoMapEntry {
    /// Place among the entries: 1 to 65535.
    #[schema(minimum = 1, maximum = 65535)]
    pub sequence: u32,
    /// What it protects.
    pub access_list: Name,
    /// Address of the peer.
    #[schema(value_type = String, format = Ipv4, example = "198.51.100.3")]
    pub peer: Ipv4Addr,
    /// Identity that we bear towards the peer; our address when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_identity: Option<Identity>,
    /// Identity that the peer must prove; its address when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_identity: Option<Identity>,
    /// The terms of its SAs.
    #[serde(flatten)]
    pub terms: SaTerms,
}

impl Parse for CryptoMapEntry {
    fn parse(at: At<'_>) -> Option<Self> {
        let mut object = at.object()?;
        let sequence = object.required_with("sequence", |at| at.integer(1..=65_535u32));
        let access_list = object.required("access_list");
        let peer = object.required_with("peer", parse_unicast_v4);
        let local_identity = object.optional("local_identity");
        let remote_identity = object.optional("remote_identity");
        let terms = SaTerms::take(&mut object);
        object.end();
        let (sequence, access_list, peer, terms) = (sequence?, access_list?, peer?, terms?);
        Some(Self { sequence, access_list, peer, local_identity, remote_identity, terms })
    }
}

deserialize_by_parse!(CryptoMapEntry);

impl Parse for CryptoMap {
    fn parse(at: At<'_>) -> Option<Self> {
        let mut object = at.object()?;
        let entries =
            object.required_with("entries", |at| at.sequenced(1000, |entry: &CryptoMapEntry| entry.sequence));
        object.end();
        Some(Self { entries: entries? })
    }
}

impl Resource for CryptoMap {
    const KIND: Kind = Kind::CryptoMap;
    type Name = Name;

    fn references(&self) -> Vec<Reference> {
        let mut references = Vec::new();
        for (index, entry) in self.entries.iter().enumerate() {
            let base = format!("/entries/{index}");
            references.push(Reference::new(
                format!("{base}/access_list"),
                Kind::AccessList,
                &entry.access_list,
            ));
            references.extend(entry.terms.references(&base));
        }
        references
    }

    fn of(desired: &crate::Desired) -> &BTreeMap<Name, Self> {
        &desired.crypto_maps
    }

    fn of_mut(desired: &mut crate::Desired) -> &mut BTreeMap<Name, Self> {
        &mut desired.crypto_maps
    }
}

deserialize_by_parse!(CryptoMap);
