//! An IPsec profile: how the tunnels that name it are protected.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::group::Group;
use crate::isakmp_policy::Authentication;
use crate::kind::{Kind, Reference, Resource};
use crate::name::Name;
use crate::read::{At, Object, Parse, deserialize_by_parse};
use crate::word::words;

/// Protection of the tunnels that name it (tunnel protection).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"transform_sets": ["aes256-transport"], "pfs_group": 31, "lifetime_secs": 3600, "replay_window": 1024}))]
pub struct IpsecProfile {
    /// The terms of its SAs.
    #[serde(flatten)]
    pub terms: SaTerms,
}

words! {
    /// When ESP goes in UDP, port 4500 (RFC 3948).
    pub enum NatTraversal as "a NAT traversal" {
        /// Where IKE finds a NAT between the two ends.
        Auto = "auto",
        /// Always, for paths that drop ESP itself: IKE lets the peer believe in a NAT before us.
        Force = "force",
    }
    weak {}
}

/// The terms of a pair of IPsec SAs, common to IPsec profiles and the entries of crypto maps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct SaTerms {
    /// Transform sets, best first, all of one mode; or some of transport mode, then some of tunnel mode, which is taken where
    /// an IKEv2 peer declines transport mode, with any cipher of the list. The MTU of a tunnel leaves room for either.
    #[schema(min_items = 1, max_items = 8)]
    pub transform_sets: Vec<Name>,
    /// Our certificate, with its key; we prove ourselves by a pre-shared key when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Name>,
    /// The authorities that vouch for the peer, and certificates of peers themselves; the peer proves itself by a
    /// pre-shared key when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, max_items = 16)]
    pub trusted_certificates: Vec<Name>,
    /// A post-quantum pre-shared key that is mixed into the keys, beside the proofs of identity (RFC 8784, IKEv2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ppk: Option<Name>,
    /// Refuse a peer that does without the `ppk`; otherwise one that has none is accepted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false, default = false)]
    pub ppk_required: bool,
    /// ESP in UDP where there is a NAT (`auto`) or always (`force`).
    #[serde(skip_serializing_if = "NatTraversal::is_auto")]
    #[schema(required = false, default = "auto")]
    pub nat_traversal: NatTraversal,
    /// ISAKMP policies; when empty all by priority that are of its method of authentication.
    #[schema(required = false, max_items = 8)]
    pub isakmp_policies: Vec<Name>,
    /// Perfect forward secrecy by a fresh Diffie-Hellman exchange at each rekey, with the policy's
    /// `additional_key_exchanges` after it where the peer does them; none when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pfs_group: Option<Group>,
    /// An SA is gone after this long, and rekeyed before: 120 to 604800 seconds.
    #[schema(required = false, minimum = 120, maximum = 604_800, default = 3600)]
    pub lifetime_secs: u32,
    /// An SA is gone after this many packets, and rekeyed before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1000, maximum = 1_152_921_504_606_846_976u64)]
    pub lifetime_packets: Option<u64>,
    /// An SA is gone after this many kilobytes (of 1024 bytes), and rekeyed before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 2560, maximum = 1_125_899_906_842_624u64)]
    pub lifetime_kilobytes: Option<u64>,
    /// Anti-replay window in packets: a power of two from 64 to 4096.
    #[schema(required = false, default = 1024)]
    pub replay_window: u32,
}

impl NatTraversal {
    fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

impl SaTerms {
    /// Takes the fields out of an object that may have others.
    pub(crate) fn take(object: &mut Object<'_>) -> Option<Self> {
        let transform_sets = object.required_with("transform_sets", |at| at.some_distinct(8));
        let certificate = object.optional("certificate");
        let trusted_certificates =
            object.optional_with("trusted_certificates", |at| at.distinct(16)).unwrap_or_default();
        let ppk = object.optional("ppk");
        let ppk_required = object.optional("ppk_required").unwrap_or(false);
        if ppk_required && ppk.is_none() {
            let _: Option<()> = object.place("ppk_required").refuse("needs a `ppk`");
        }
        let nat_traversal = object.optional("nat_traversal").unwrap_or(NatTraversal::Auto);
        let isakmp_policies =
            object.optional_with("isakmp_policies", |at| at.distinct(8)).unwrap_or_default();
        let pfs_group: Option<Group> = object.optional("pfs_group");
        if let Some((group, what)) = pfs_group.and_then(|group| Some((group, group.insecurity()?))) {
            let detail = format!("group {group} is insecure: {}", what.reason());
            let _: Option<()> = object.place("pfs_group").refuse(detail);
        }
        let lifetime_secs =
            object.optional_with("lifetime_secs", |at| at.integer(120..=604_800u32)).unwrap_or(3600);
        let lifetime_packets = object.optional_with("lifetime_packets", |at| at.integer(1000..=1u64 << 60));
        let lifetime_kilobytes =
            object.optional_with("lifetime_kilobytes", |at| at.integer(2560..=1u64 << 50));
        let replay_window = object.optional_with("replay_window", parse_window).unwrap_or(1024);
        Some(Self {
            transform_sets: transform_sets?,
            certificate,
            trusted_certificates,
            ppk,
            ppk_required,
            nat_traversal,
            isakmp_policies,
            pfs_group,
            lifetime_secs,
            lifetime_packets,
            lifetime_kilobytes,
            replay_window,
        })
    }

    /// By which method the two ends prove who they are: signatures if either does.
    #[must_use]
    pub fn authentication(&self) -> Authentication {
        if self.certificate.is_none() && self.trusted_certificates.is_empty() {
            Authentication::PreShare
        } else {
            Authentication::Signature
        }
    }

    /// What the terms name, with pointers that begin with `base`.
    pub(crate) fn references(&self, base: &str) -> Vec<Reference> {
        let sets = self.transform_sets.iter().enumerate().map(|(index, name)| {
            Reference::new(format!("{base}/transform_sets/{index}"), Kind::TransformSet, name)
        });
        let policies = self.isakmp_policies.iter().enumerate().map(|(index, name)| {
            Reference::new(format!("{base}/isakmp_policies/{index}"), Kind::IsakmpPolicy, name)
        });
        let ours = self
            .certificate
            .iter()
            .map(|name| Reference::new(format!("{base}/certificate"), Kind::Certificate, name));
        let ppk = self.ppk.iter().map(|name| Reference::new(format!("{base}/ppk"), Kind::Ppk, name));
        let trusted = self.trusted_certificates.iter().enumerate().map(|(index, name)| {
            Reference::new(format!("{base}/trusted_certificates/{index}"), Kind::Certificate, name)
        });
        sets.chain(policies).chain(ours).chain(trusted).chain(ppk).collect()
    }
}

impl Parse for IpsecProfile {
    fn parse(at: At<'_>) -> Option<Self> {
        let mut object = at.object()?;
        let terms = SaTerms::take(&mut object);
        object.end();
        Some(Self { terms: terms? })
    }
}

impl Resource for IpsecProfile {
    const KIND: Kind = Kind::IpsecProfile;
    type Name = Name;

    fn references(&self) -> Vec<Reference> {
        self.terms.references("")
    }

    fn of(desired: &crate::Desired) -> &BTreeMap<Name, Self> {
        &desired.ipsec_profiles
    }

    fn of_mut(desired: &mut crate::Desired) -> &mut BTreeMap<Name, Self> {
        &mut desired.ipsec_profiles
    }
}

deserialize_by_parse!(IpsecProfile);

fn parse_window(at: At<'_>) -> Option<u32> {
    const SIZES: [u32; 7] = [64, 128, 256, 512, 1024, 2048, 4096];
    at.value()
        .as_f64()
        .and_then(|number| SIZES.into_iter().find(|size| f64::from(*size) == number))
        .or_else(|| at.refuse("must be a number of packets; allowed: 64, 128, 256, 512, 1024, 2048, 4096"))
}
