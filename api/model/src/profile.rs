//! Suites by name: what a peer's vendor wrote into its manuals, spelled out by one word.

use crate::group::Group;
use crate::insecure::Insecure;
use crate::isakmp_policy::{Hash, IkeEncryption, IkeVersion, IsakmpPolicy};
use crate::transform_set::{EspEncryption, EspIntegrity, TransformSet};
use crate::word::words;

words! {
    /// A suite that gives an ISAKMP policy and a transform set what they do not say themselves. To name it is to allow
    /// what of it is insecure.
    pub enum Profile as "a profile" {
        /// What Cisco routers were set up with for twenty years: IKEv1 with AES-128, SHA-1, group 2 and a pre-shared key;
        /// `esp-aes esp-md5-hmac` in transport mode. Four parts of it are insecure.
        CiscoClassic = "cisco-classic",
    }
    weak {}
}

impl Profile {
    pub(crate) const fn version(self) -> IkeVersion {
        match self {
            Self::CiscoClassic => IkeVersion::Ikev1,
        }
    }

    pub(crate) fn encryption(self) -> Vec<IkeEncryption> {
        match self {
            Self::CiscoClassic => vec![IkeEncryption::Aes128Cbc],
        }
    }

    pub(crate) fn hash(self) -> Vec<Hash> {
        match self {
            Self::CiscoClassic => vec![Hash::Sha1],
        }
    }

    pub(crate) fn groups(self) -> Vec<Group> {
        match self {
            Self::CiscoClassic => vec![Group::Modp1024],
        }
    }

    /// Routers with crypto maps propose `gre any any`.
    pub(crate) const fn accept_superset(self) -> bool {
        match self {
            Self::CiscoClassic => true,
        }
    }

    pub(crate) const fn esp_encryption(self) -> EspEncryption {
        match self {
            Self::CiscoClassic => EspEncryption::Aes128Cbc,
        }
    }

    pub(crate) const fn esp_integrity(self) -> EspIntegrity {
        match self {
            Self::CiscoClassic => EspIntegrity::Md5,
        }
    }

    /// Fields of a policy that say otherwise, and what they must say.
    pub(crate) fn departures_of_policy(self, policy: &IsakmpPolicy) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut same = |field, holds: bool, wanted: String| {
            if !holds {
                found.push((field, self.departure(&wanted)));
            }
        };
        same("version", policy.version == self.version(), self.version().to_string());
        same("encryption", policy.encryption == self.encryption(), listed(&self.encryption()));
        same("hash", policy.hash == self.hash(), listed(&self.hash()));
        same("groups", policy.groups == self.groups(), listed(&self.groups()));
        found
    }

    /// Likewise of a transform set.
    pub(crate) fn departures_of_set(self, set: &TransformSet) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        if set.encryption != self.esp_encryption() {
            found.push(("encryption", self.departure(self.esp_encryption().word())));
        }
        if set.integrity != Some(self.esp_integrity()) {
            found.push(("integrity", self.departure(self.esp_integrity().word())));
        }
        found
    }

    fn departure(self, wanted: &str) -> String {
        format!("profile {self} has {wanted}: leave this field out, or the profile")
    }

    /// Adds to what `allow_insecure` says what a policy of the profile uses.
    pub(crate) fn allow_policy(self, allowed: &mut Vec<Insecure>) {
        match self {
            Self::CiscoClassic => allow(allowed, &[Insecure::Ikev1, Insecure::Sha1, Insecure::Modp1024]),
        }
    }

    /// Likewise a transform set.
    pub(crate) fn allow_set(self, allowed: &mut Vec<Insecure>) {
        match self {
            Self::CiscoClassic => allow(allowed, &[Insecure::Md5]),
        }
    }
}

fn allow(allowed: &mut Vec<Insecure>, more: &[Insecure]) {
    for what in more {
        if !allowed.contains(what) {
            allowed.push(*what);
        }
    }
}

fn listed<T: std::fmt::Display>(words: &[T]) -> String {
    words.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}
