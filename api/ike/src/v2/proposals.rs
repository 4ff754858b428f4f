//! Proposals offered and chosen (RFC 7296 sections 2.7 and 3.3).

use crate::crypto::{AdditionalKeyExchanges, EspSuite, IkeCipher, IkeSuite};
use crate::wire::registry::transform;
use crate::wire::{Protocol, Transform, TransformKind, WireProposal};
use crate::{
    ChildKeyExchange, EspEncryption, EspIntegrity, EspProposal, Group, Hash, IkeEncryption, IkeProposal,
    KeyEncapsulation,
};

impl Hash {
    fn prf_id(self) -> u16 {
        match self {
            Self::Md5 => 1,
            Self::Sha1 => 2,
            Self::Sha2_256 => 5,
            Self::Sha2_384 => 6,
            Self::Sha2_512 => 7,
        }
    }

    fn integrity_id(self) -> u16 {
        match self {
            Self::Md5 => 1,
            Self::Sha1 => 2,
            Self::Sha2_256 => 12,
            Self::Sha2_384 => 13,
            Self::Sha2_512 => 14,
        }
    }
}

impl IkeEncryption {
    fn is_aead(self) -> bool {
        matches!(self, Self::Aes128Gcm16 | Self::Aes256Gcm16 | Self::ChaCha20Poly1305)
    }

    fn transform(self) -> Transform {
        match self {
            Self::Aes128Gcm16 => Transform::encryption(transform::ENCR_AES_GCM_16, 128),
            Self::Aes256Gcm16 => Transform::encryption(transform::ENCR_AES_GCM_16, 256),
            Self::ChaCha20Poly1305 => {
                Transform::plain(TransformKind::Encryption, transform::ENCR_CHACHA20_POLY1305)
            }
            Self::Aes128Cbc => Transform::encryption(transform::ENCR_AES_CBC, 128),
            Self::Aes192Cbc => Transform::encryption(transform::ENCR_AES_CBC, 192),
            Self::Aes256Cbc => Transform::encryption(transform::ENCR_AES_CBC, 256),
            Self::TripleDesCbc => Transform::plain(TransformKind::Encryption, transform::ENCR_3DES),
        }
    }
}

impl EspEncryption {
    fn transform(self) -> Transform {
        match self {
            Self::Aes128Gcm16 => Transform::encryption(transform::ENCR_AES_GCM_16, 128),
            Self::Aes256Gcm16 => Transform::encryption(transform::ENCR_AES_GCM_16, 256),
            Self::ChaCha20Poly1305 => {
                Transform::plain(TransformKind::Encryption, transform::ENCR_CHACHA20_POLY1305)
            }
            Self::Aes128Cbc => Transform::encryption(transform::ENCR_AES_CBC, 128),
            Self::Aes192Cbc => Transform::encryption(transform::ENCR_AES_CBC, 192),
            Self::Aes256Cbc => Transform::encryption(transform::ENCR_AES_CBC, 256),
            Self::TripleDesCbc => Transform::plain(TransformKind::Encryption, transform::ENCR_3DES),
        }
    }
}

impl EspIntegrity {
    fn transform(self) -> Transform {
        let id = match self {
            Self::HmacMd5_96 => 1,
            Self::HmacSha1_96 => 2,
            Self::HmacSha2_256_128 => 12,
            Self::HmacSha2_384_192 => 13,
            Self::HmacSha2_512_256 => 14,
        };
        Transform::plain(TransformKind::Integrity, id)
    }
}

fn group_transform(group: Group) -> Transform {
    Transform::plain(TransformKind::KeyExchange, group.number())
}

fn esn_transform(esn: bool) -> Transform {
    Transform::plain(TransformKind::Esn, if esn { transform::ESN } else { transform::ESN_NONE })
}

/// What is to be done about additional key exchanges (RFC 9370).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Additional {
    /// Both ends can do them.
    Possible,
    /// The peer cannot.
    Impossible,
    /// Both ends can do them after the rekey that agrees on them (IKE_FOLLOWUP_KE), but none is needed: SK_d, of which the
    /// new keys come, carries on the strength of those of before.
    Followup,
}

/// What we offer for an IKE SA. Ciphers with and without built-in integrity stand in separate proposals (section
/// 3.3), as do those with and without additional key exchanges, which a peer may not know. `spi` is empty in
/// IKE_SA_INIT and our new SPI in a rekey.
pub(crate) fn offer_ike(proposals: &[IkeProposal], spi: &[u8], additional: Additional) -> Vec<WireProposal> {
    let mut offered = Vec::new();
    for proposal in proposals {
        let ways = ways(proposal, additional);
        for (with, aead) in ways.flat_map(|with| [(with, true), (with, false)]) {
            let mut transforms: Vec<Transform> = proposal
                .encryption
                .iter()
                .filter(|encryption| encryption.is_aead() == aead)
                .map(|encryption| encryption.transform())
                .collect();
            if transforms.is_empty() {
                continue;
            }
            transforms
                .extend(proposal.prf.iter().map(|hash| Transform::plain(TransformKind::Prf, hash.prf_id())));
            if !aead {
                transforms.extend(
                    proposal
                        .integrity
                        .iter()
                        .map(|hash| Transform::plain(TransformKind::Integrity, hash.integrity_id())),
                );
            }
            transforms.extend(proposal.groups.iter().map(|group| group_transform(*group)));
            if with {
                transforms.extend(additional_transforms(&proposal.additional_key_exchanges));
            }
            offered.push(WireProposal {
                number: number_after(&offered),
                protocol: Protocol::Ike,
                spi: spi.to_vec(),
                transforms,
            });
        }
    }
    offered
}

/// What we offer for a child; `groups` is false in IKE_AUTH, where the IKE SA's own exchange serves (section 1.2). The
/// `additional` key exchanges stand beside a group alone, and each proposal is offered without them too: SK_d carries on the
/// strength of those that the IKE SA was made with.
pub(crate) fn offer_esp(
    proposals: &[EspProposal],
    spi: u32,
    groups: bool,
    additional: &[Vec<KeyEncapsulation>],
) -> Vec<WireProposal> {
    let mut offered = Vec::new();
    for proposal in proposals {
        let ways = ways_of_child(proposal, groups, additional);
        for (methods, aead) in ways.flat_map(|methods| [(methods, true), (methods, false)]) {
            let mut transforms: Vec<Transform> = proposal
                .encryption
                .iter()
                .filter(|encryption| encryption.is_aead() == aead)
                .map(|encryption| encryption.transform())
                .collect();
            if transforms.is_empty() {
                continue;
            }
            if !aead {
                transforms.extend(proposal.integrity.iter().map(|integrity| integrity.transform()));
            }
            if groups {
                transforms.extend(proposal.groups.iter().map(|group| group_transform(*group)));
                transforms.extend(additional_transforms(methods));
            }
            transforms.extend(proposal.esn.iter().map(|esn| esn_transform(*esn)));
            offered.push(WireProposal {
                number: number_after(&offered),
                protocol: Protocol::Esp,
                spi: spi.to_be_bytes().to_vec(),
                transforms,
            });
        }
    }
    offered
}

/// Whether a proposal is offered and accepted with additional key exchanges, without, or either, the better first.
fn ways(proposal: &IkeProposal, additional: Additional) -> impl Iterator<Item = bool> {
    let wanted = proposal.additional_key_exchanges.iter().any(|methods| !methods.is_empty());
    let with = wanted && additional != Additional::Impossible;
    let without = !wanted || !proposal.additional_required || additional == Additional::Followup;
    [with.then_some(true), without.then_some(false)].into_iter().flatten()
}

/// Likewise of a child: what is done additionally, the better first.
fn ways_of_child<'a>(
    proposal: &EspProposal,
    groups: bool,
    additional: &'a [Vec<KeyEncapsulation>],
) -> impl Iterator<Item = &'a [Vec<KeyEncapsulation>]> {
    let wanted =
        groups && !proposal.groups.is_empty() && additional.iter().any(|methods| !methods.is_empty());
    let without: &[Vec<KeyEncapsulation>] = &[];
    [wanted.then_some(additional), Some(without)].into_iter().flatten()
}

fn additional_transforms(wanted: &[Vec<KeyEncapsulation>]) -> impl Iterator<Item = Transform> {
    (1..=7)
        .zip(wanted)
        .flat_map(|(number, methods)| methods.iter().map(move |method| additional_transform(number, *method)))
}

fn additional_transform(number: u8, method: KeyEncapsulation) -> Transform {
    Transform::plain(TransformKind::Additional(number), method.number())
}

/// Chooses one method of each kind that we want, none twice (RFC 9370 section 2.2.1); of the others, NONE if the peer lets
/// us. `None` if the proposal asks for more, or for less.
fn choose_additional(
    ours: &[Vec<KeyEncapsulation>],
    theirs: &WireProposal,
) -> Option<(AdditionalKeyExchanges, Vec<Transform>)> {
    let chosen = distinct(ours, theirs, [None; 7], 1)?;
    let mut transforms = Vec::new();
    for (number, method) in (1..=7).zip(chosen) {
        let kind = TransformKind::Additional(number);
        let none = Transform::plain(kind, transform::KE_NONE);
        match method {
            Some(method) => transforms.push(additional_transform(number, method)),
            None if has(theirs, none) => transforms.push(none),
            None if theirs.of(kind).next().is_some() => return None,
            None => {}
        }
    }
    Some((chosen, transforms))
}

/// A method for each kind that we want from this number on, none of those chosen before. The first of a list may be what
/// a later kind alone can have, so all are tried: two methods leave seven kinds few ways.
fn distinct(
    ours: &[Vec<KeyEncapsulation>],
    theirs: &WireProposal,
    chosen: AdditionalKeyExchanges,
    number: u8,
) -> Option<AdditionalKeyExchanges> {
    let index = usize::from(number.saturating_sub(1));
    let (Some(methods), true) = (ours.get(index), index < chosen.len()) else { return Some(chosen) };
    let next = number.saturating_add(1);
    if methods.is_empty() {
        return distinct(ours, theirs, chosen, next);
    }
    let fits = |method: &&KeyEncapsulation| {
        has(theirs, additional_transform(number, **method)) && !chosen.contains(&Some(**method))
    };
    methods.iter().filter(fits).find_map(|method| {
        let mut chosen = chosen;
        *chosen.get_mut(index)? = Some(*method);
        distinct(ours, theirs, chosen, next)
    })
}

fn number_after(offered: &[WireProposal]) -> u8 {
    u8::try_from(offered.len().saturating_add(1)).unwrap_or(u8::MAX)
}

/// A choice, with the proposal to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chosen<S> {
    pub(crate) suite: S,
    /// The peer's SPI in the chosen proposal.
    pub(crate) spi: Vec<u8>,
    number: u8,
    transforms: Vec<Transform>,
}

impl<S> Chosen<S> {
    /// The answer's proposal, with our SPI.
    pub(crate) fn answer(&self, protocol: Protocol, spi: &[u8]) -> WireProposal {
        WireProposal { number: self.number, protocol, spi: spi.to_vec(), transforms: self.transforms.clone() }
    }
}

/// Whether `theirs` holds a transform that can be chosen; one with an attribute that we don't know cannot be.
fn has(theirs: &WireProposal, wanted: Transform) -> bool {
    theirs.transforms.contains(&wanted)
}

/// A proposal with a transform type that we don't know cannot be accepted (section 3.3.6). Additional key exchanges are
/// known.
fn knows_all_kinds(theirs: &WireProposal, kinds: &[TransformKind]) -> bool {
    let known = |kind| kinds.contains(&kind) || matches!(kind, TransformKind::Additional(1..=7));
    theirs.transforms.iter().all(|transform| known(transform.kind))
}

/// Chooses for an IKE SA, best of ours first. A group for which the peer already sent its share is taken rather than
/// another acceptable one: all that we list are acceptable, and it saves a round trip.
pub(crate) fn choose_ike(
    ours: &[IkeProposal],
    theirs: &[WireProposal],
    spi_len_bytes: usize,
    shared: Option<Group>,
    additional: Additional,
) -> Option<Chosen<IkeSuite>> {
    const KINDS: [TransformKind; 4] =
        [TransformKind::Encryption, TransformKind::Prf, TransformKind::Integrity, TransformKind::KeyExchange];
    for (mine, with) in ours.iter().flat_map(|mine| ways(mine, additional).map(move |with| (mine, with))) {
        for their in theirs {
            if their.protocol != Protocol::Ike
                || their.spi.len() != spi_len_bytes
                || !knows_all_kinds(their, &KINDS)
            {
                continue;
            }
            let methods = if with { mine.additional_key_exchanges.as_slice() } else { &[] };
            let Some((methods, answered)) = choose_additional(methods, their) else { continue };
            for encryption in &mine.encryption {
                if !has(their, encryption.transform()) {
                    continue;
                }
                let integrity = if encryption.is_aead() {
                    // None, or a list that allows NONE.
                    let absent = their.of(TransformKind::Integrity).next().is_none();
                    let none = Transform::plain(TransformKind::Integrity, transform::INTEG_NONE);
                    if !absent && !has(their, none) {
                        continue;
                    }
                    (!absent).then_some(none)
                } else {
                    let found = mine
                        .integrity
                        .iter()
                        .map(|hash| Transform::plain(TransformKind::Integrity, hash.integrity_id()))
                        .find(|wanted| has(their, *wanted));
                    if found.is_none() {
                        continue;
                    }
                    found
                };
                let prf = mine
                    .prf
                    .iter()
                    .find(|hash| has(their, Transform::plain(TransformKind::Prf, hash.prf_id())));
                let group = choose_group(&mine.groups, their, shared);
                let (Some(prf), Some(group)) = (prf, group) else { continue };
                let Some(cipher) = cipher_of(*encryption, integrity) else { continue };
                let mut transforms =
                    vec![encryption.transform(), Transform::plain(TransformKind::Prf, prf.prf_id())];
                transforms.extend(integrity);
                transforms.push(group_transform(group));
                transforms.extend(answered);
                return Some(Chosen {
                    suite: IkeSuite { cipher, prf: *prf, group, additional: methods },
                    spi: their.spi.clone(),
                    number: their.number,
                    transforms,
                });
            }
        }
    }
    None
}

fn choose_group(ours: &[Group], theirs: &WireProposal, shared: Option<Group>) -> Option<Group> {
    let acceptable = |group: &Group| ours.contains(group) && has(theirs, group_transform(*group));
    shared.filter(acceptable).or_else(|| ours.iter().copied().find(|group| acceptable(group)))
}

fn cipher_of(encryption: IkeEncryption, integrity: Option<Transform>) -> Option<IkeCipher> {
    let hash = integrity.and_then(|transform| {
        [Hash::Md5, Hash::Sha1, Hash::Sha2_256, Hash::Sha2_384, Hash::Sha2_512]
            .into_iter()
            .find(|hash| hash.integrity_id() == transform.id)
    });
    Some(match encryption {
        IkeEncryption::Aes128Gcm16 => IkeCipher::Aes128Gcm16,
        IkeEncryption::Aes256Gcm16 => IkeCipher::Aes256Gcm16,
        IkeEncryption::ChaCha20Poly1305 => IkeCipher::ChaCha20Poly1305,
        IkeEncryption::Aes128Cbc => IkeCipher::Aes128Cbc(hash?),
        IkeEncryption::Aes192Cbc => IkeCipher::Aes192Cbc(hash?),
        IkeEncryption::Aes256Cbc => IkeCipher::Aes256Cbc(hash?),
        IkeEncryption::TripleDesCbc => IkeCipher::TripleDesCbc(hash?),
    })
}

/// An ESP choice: what the keys are for, and the group of a fresh key exchange, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EspChoice {
    pub(crate) suite: EspSuite,
    pub(crate) group: Option<Group>,
    /// What follows it.
    pub(crate) additional: AdditionalKeyExchanges,
}

impl EspChoice {
    /// The key exchange of the child's own.
    pub(crate) fn key_exchange(&self) -> Option<ChildKeyExchange> {
        let additional = self.additional.iter().flatten().copied().collect();
        self.group.map(|group| ChildKeyExchange { group, additional })
    }
}

/// Chooses for a child. `groups` is false in IKE_AUTH, where no key exchange of its own is asked for or minded.
pub(crate) fn choose_esp(
    ours: &[EspProposal],
    theirs: &[WireProposal],
    groups: bool,
    shared: Option<Group>,
    additional: &[Vec<KeyEncapsulation>],
) -> Option<Chosen<EspChoice>> {
    const KINDS: [TransformKind; 4] =
        [TransformKind::Encryption, TransformKind::Integrity, TransformKind::KeyExchange, TransformKind::Esn];
    let no_group = Transform::plain(TransformKind::KeyExchange, transform::KE_NONE);
    for (mine, methods) in
        ours.iter().flat_map(|mine| ways_of_child(mine, groups, additional).map(move |ways| (mine, ways)))
    {
        for their in theirs {
            if their.protocol != Protocol::Esp || their.spi.len() != 4 || !knows_all_kinds(their, &KINDS) {
                continue;
            }
            let followed = if groups { choose_additional(methods, their) } else { Some(Default::default()) };
            let Some((additional, answered)) = followed else { continue };
            let no_integrity = Transform::plain(TransformKind::Integrity, transform::INTEG_NONE);
            let integrity_absent = their.of(TransformKind::Integrity).next().is_none();
            let without = integrity_absent || has(their, no_integrity);
            let common = mine.integrity.iter().find(|integrity| has(their, integrity.transform()));
            let Some(encryption) = mine.encryption.iter().find(|encryption| {
                let integrity_fits = if encryption.is_aead() { without } else { common.is_some() };
                integrity_fits && has(their, encryption.transform())
            }) else {
                continue;
            };
            let integrity = common.copied().filter(|_| !encryption.is_aead());
            // Some peers leave the type out when they mean 32-bit numbers.
            let esn_absent = their.of(TransformKind::Esn).next().is_none();
            let Some(esn) =
                mine.esn.iter().copied().find(|esn| has(their, esn_transform(*esn)) || (esn_absent && !*esn))
            else {
                continue;
            };
            let theirs_without =
                their.of(TransformKind::KeyExchange).next().is_none() || has(their, no_group);
            let group = if !groups {
                None
            } else if mine.groups.is_empty() {
                if !theirs_without {
                    continue;
                }
                None
            } else {
                match choose_group(&mine.groups, their, shared) {
                    Some(group) => Some(group),
                    None => continue,
                }
            };
            let mut transforms = vec![encryption.transform()];
            match integrity {
                Some(integrity) => transforms.push(integrity.transform()),
                None => transforms.extend((!integrity_absent).then_some(no_integrity)),
            }
            transforms.extend(group.map(group_transform));
            transforms.extend(answered);
            transforms.extend((!esn_absent).then_some(esn_transform(esn)));
            return Some(Chosen {
                suite: EspChoice {
                    suite: EspSuite { encryption: *encryption, integrity, esn },
                    group,
                    additional,
                },
                spi: their.spi.clone(),
                number: their.number,
                transforms,
            });
        }
    }
    None
}

/// In words, for causes: numbers for what we have no name for.
pub(crate) fn describe(proposals: &[WireProposal]) -> String {
    let mut texts = Vec::new();
    for proposal in proposals.iter().take(8) {
        let names: Vec<String> = proposal.transforms.iter().take(16).map(describe_transform).collect();
        texts.push(names.join("/"));
    }
    if proposals.len() > 8 {
        texts.push(format!("and {} more", proposals.len().saturating_sub(8)));
    }
    texts.join("; ")
}

fn describe_transform(found: &Transform) -> String {
    let bits = found.key_bits.map(|bits| format!("-{bits}")).unwrap_or_default();
    match (found.kind, found.id) {
        (TransformKind::Encryption, transform::ENCR_3DES) => "3des".to_owned(),
        (TransformKind::Encryption, transform::ENCR_AES_CBC) => format!("aes{bits}-cbc"),
        (TransformKind::Encryption, transform::ENCR_AES_GCM_16) => format!("aes{bits}-gcm"),
        (TransformKind::Encryption, transform::ENCR_CHACHA20_POLY1305) => format!("chacha20-poly1305{bits}"),
        (TransformKind::Encryption, id) => format!("encryption {id}{bits}"),
        (TransformKind::Prf, 1) => "prf-md5".to_owned(),
        (TransformKind::Prf, 2) => "prf-sha1".to_owned(),
        (TransformKind::Prf, 5) => "prf-sha2-256".to_owned(),
        (TransformKind::Prf, 6) => "prf-sha2-384".to_owned(),
        (TransformKind::Prf, 7) => "prf-sha2-512".to_owned(),
        (TransformKind::Prf, id) => format!("prf {id}"),
        (TransformKind::Integrity, 1) => "md5-96".to_owned(),
        (TransformKind::Integrity, 2) => "sha1-96".to_owned(),
        (TransformKind::Integrity, 12) => "sha2-256-128".to_owned(),
        (TransformKind::Integrity, 13) => "sha2-384-192".to_owned(),
        (TransformKind::Integrity, 14) => "sha2-512-256".to_owned(),
        (TransformKind::Integrity, id) => format!("integrity {id}"),
        (TransformKind::KeyExchange, id) => format!("group {id}"),
        (TransformKind::Esn, 0) => "no-esn".to_owned(),
        (TransformKind::Esn, 1) => "esn".to_owned(),
        (TransformKind::Esn, id) => format!("esn {id}"),
        (TransformKind::Additional(number), id) => match KeyEncapsulation::from_number(id) {
            Some(method) => format!("additional {number} {}", method.name()),
            None => format!("additional {number} group {id}"),
        },
        (TransformKind::Other(kind), id) => format!("transform {kind}:{id}"),
    }
}

#[cfg(test)]
#[path = "proposals_tests.rs"]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]
mod tests;
