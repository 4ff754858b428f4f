//! What is offered and chosen (RFC 2409 appendix A, RFC 2407 section 4.5).

use std::time::Duration;

use super::proof::Method;
use super::vendor::Dialect;
use crate::crypto::{CbcCipher, EspSuite, insecurities};
use crate::wire::isakmp::registry::{LIFE_KILOBYTES, LIFE_SECONDS, phase_one, phase_two, protocol};
use crate::wire::isakmp::{Attribute, Proposal, Transform};
use crate::{
    ChildConfig, ChildLifetime, Connection, EspEncryption, EspIntegrity, Group, Hash, IkeEncryption,
    Insecurity, Mode,
};

/// Transforms that we list at most.
const MAX_OFFERED: usize = 64;

/// The algorithms of an ISAKMP SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PhaseOneSuite {
    pub(super) encryption: IkeEncryption,
    pub(super) cipher: CbcCipher,
    pub(super) hash: Hash,
    pub(super) group: Group,
    pub(super) method: Method,
}

impl PhaseOneSuite {
    /// What of it is insecure: the version itself before all.
    pub(super) fn insecurities(&self) -> Vec<Insecurity> {
        let mut all = vec![Insecurity::Ikev1];
        all.extend(insecurities(self.encryption, [self.hash], self.group));
        all
    }
}

/// A choice in phase 1.
pub(crate) struct PhaseOneChoice {
    pub(crate) suite: PhaseOneSuite,
    /// The shorter of both ends' wishes.
    pub(crate) lifetime: Duration,
    /// The proposal to answer: the one transform, as it came.
    pub(crate) answer: Proposal,
}

fn hash_number(hash: Hash) -> u32 {
    match hash {
        Hash::Md5 => 1,
        Hash::Sha1 => 2,
        Hash::Sha2_256 => 4,
        Hash::Sha2_384 => 5,
        Hash::Sha2_512 => 6,
    }
}

fn suites(connection: &Connection) -> impl Iterator<Item = PhaseOneSuite> {
    let method = Method::of(&connection.authentication);
    connection.proposals.iter().flat_map(move |proposal| {
        proposal.encryption.iter().flat_map(move |encryption| {
            proposal.prf.iter().flat_map(move |hash| {
                proposal.groups.iter().filter_map(move |group| {
                    let cipher = CbcCipher::new(*encryption)?;
                    let (encryption, hash, group) = (*encryption, *hash, *group);
                    Some(PhaseOneSuite { encryption, cipher, hash, group, method: method? })
                })
            })
        })
    })
}

fn encryption_attributes(cipher: CbcCipher) -> (u64, Option<u64>) {
    match cipher {
        CbcCipher::TripleDes => (phase_one::TRIPLE_DES_CBC, None),
        CbcCipher::Aes128 => (phase_one::AES_CBC, Some(128)),
        CbcCipher::Aes192 => (phase_one::AES_CBC, Some(192)),
        CbcCipher::Aes256 => (phase_one::AES_CBC, Some(256)),
    }
}

fn secs(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

fn short(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Our offer for an ISAKMP SA: one proposal with a transform for each combination.
pub(super) fn offer_phase_one(connection: &Connection) -> Vec<Proposal> {
    offer_phase_one_in(connection, None)
}

/// Likewise, of one group alone where one is given.
pub(super) fn offer_phase_one_in(connection: &Connection, group: Option<Group>) -> Vec<Proposal> {
    let transforms = suites(connection)
        .filter(|suite| group.is_none_or(|group| suite.group == group))
        .take(MAX_OFFERED)
        .zip(1u8..)
        .map(|(suite, number)| {
            let (encryption, bits) = encryption_attributes(suite.cipher);
            let mut attributes = vec![Attribute::number(phase_one::ENCRYPTION, short(encryption))];
            attributes.extend(bits.map(|bits| Attribute::number(phase_one::KEY_LENGTH, short(bits))));
            attributes.extend([
                Attribute::number(phase_one::HASH, hash_number(suite.hash)),
                Attribute::number(phase_one::GROUP, u32::from(suite.group.number())),
                Attribute::number(phase_one::AUTHENTICATION, short(suite.method.number())),
                Attribute::number(phase_one::LIFE_TYPE, short(LIFE_SECONDS)),
                Attribute::number(phase_one::LIFE_DURATION, secs(connection.lifetime)),
            ]);
            Transform { number, id: phase_one::TRANSFORM_KEY_IKE, attributes }
        })
        .collect();
    vec![Proposal { number: 1, protocol: protocol::ISAKMP, spi: Vec::new(), transforms }]
}

/// Chooses for an ISAKMP SA, best of ours first.
pub(crate) fn choose_phase_one(connection: &Connection, theirs: &[Proposal]) -> Option<PhaseOneChoice> {
    suites(connection).find_map(|suite| {
        theirs.iter().filter(|proposal| proposal.protocol == protocol::ISAKMP).find_map(|proposal| {
            let transform = proposal.transforms.iter().find(|transform| is_suite(transform, suite))?;
            let wanted = transform.lifetime(phase_one::LIFE_TYPE, phase_one::LIFE_DURATION, LIFE_SECONDS);
            let wanted = wanted.filter(|secs| *secs > 0).map_or(connection.lifetime, Duration::from_secs);
            let answer = Proposal { transforms: vec![transform.clone()], ..proposal.clone() };
            Some(PhaseOneChoice { suite, lifetime: wanted.min(connection.lifetime), answer })
        })
    })
}

fn is_suite(transform: &Transform, suite: PhaseOneSuite) -> bool {
    let (encryption, bits) = encryption_attributes(suite.cipher);
    let known = |kind| {
        matches!(
            kind,
            phase_one::ENCRYPTION
                | phase_one::HASH
                | phase_one::AUTHENTICATION
                | phase_one::GROUP
                | phase_one::LIFE_TYPE
                | phase_one::LIFE_DURATION
                | phase_one::KEY_LENGTH
        )
    };
    transform.id == phase_one::TRANSFORM_KEY_IKE
        && transform.attributes.iter().all(|attribute| known(attribute.kind))
        && transform.value(phase_one::ENCRYPTION) == Some(encryption)
        && transform.value(phase_one::KEY_LENGTH) == bits
        && transform.value(phase_one::HASH) == Some(u64::from(hash_number(suite.hash)))
        && transform.value(phase_one::GROUP) == Some(u64::from(suite.group.number()))
        && transform.value(phase_one::AUTHENTICATION) == Some(suite.method.number())
}

/// A choice in phase 2.
pub(crate) struct PhaseTwoChoice {
    pub(crate) suite: EspSuite,
    pub(super) group: Option<Group>,
    pub(crate) spi: u32,
    /// What the peer wants, where it is less than ours.
    pub(super) lifetime: Option<Duration>,
    pub(super) kilobytes: Option<u64>,
    /// The proposal to answer, with the peer's SPI still in it.
    pub(crate) answer: Proposal,
}

#[derive(Clone, Copy)]
struct PhaseTwoSuite {
    esp: EspSuite,
    /// Transform id and key length.
    transform: (u8, Option<u64>),
    group: Option<Group>,
}

fn child_suites(child: &ChildConfig) -> Vec<PhaseTwoSuite> {
    let mut suites = Vec::new();
    for proposal in &child.proposals {
        for encryption in &proposal.encryption {
            let Some(transform) = esp_transform(*encryption) else { continue };
            let integrities: Vec<Option<EspIntegrity>> = if encryption.is_aead() {
                vec![None]
            } else {
                proposal.integrity.iter().copied().map(Some).collect()
            };
            let groups: Vec<Option<Group>> = if proposal.groups.is_empty() {
                vec![None]
            } else {
                proposal.groups.iter().copied().map(Some).collect()
            };
            let esns: &[bool] = if proposal.esn.is_empty() { &[false] } else { &proposal.esn };
            for integrity in integrities {
                for (group, esn) in groups.iter().flat_map(|group| esns.iter().map(move |esn| (*group, *esn)))
                {
                    let esp = EspSuite { encryption: *encryption, integrity, esn };
                    suites.push(PhaseTwoSuite { esp, transform, group });
                }
            }
        }
    }
    suites.truncate(MAX_OFFERED);
    suites
}

/// `None` for a cipher that has no number in version 1.
fn esp_transform(encryption: EspEncryption) -> Option<(u8, Option<u64>)> {
    Some(match encryption {
        EspEncryption::TripleDesCbc => (phase_two::ESP_3DES, None),
        EspEncryption::Aes128Cbc => (phase_two::ESP_AES_CBC, Some(128)),
        EspEncryption::Aes192Cbc => (phase_two::ESP_AES_CBC, Some(192)),
        EspEncryption::Aes256Cbc => (phase_two::ESP_AES_CBC, Some(256)),
        EspEncryption::Aes128Gcm16 => (phase_two::ESP_AES_GCM_16, Some(128)),
        EspEncryption::Aes256Gcm16 => (phase_two::ESP_AES_GCM_16, Some(256)),
        EspEncryption::ChaCha20Poly1305 => return None,
    })
}

fn integrity_number(integrity: EspIntegrity) -> u64 {
    match integrity {
        EspIntegrity::HmacMd5_96 => 1,
        EspIntegrity::HmacSha1_96 => 2,
        EspIntegrity::HmacSha2_256_128 => 5,
        EspIntegrity::HmacSha2_384_192 => 6,
        EspIntegrity::HmacSha2_512_256 => 7,
    }
}

/// The number of a mode; ESP in UDP has its own (RFC 3947 section 5.1). `nat` is the dialect where there is a NAT.
fn encapsulation(mode: Mode, nat: Option<Dialect>) -> u32 {
    let number = match mode {
        Mode::Tunnel => 1,
        Mode::Transport => 2,
    };
    nat.map_or(number, |dialect| dialect.encapsulation_base().saturating_add(number))
}

/// The group of a child's first proposal: a quick mode has one key exchange for all that it offers.
pub(super) fn group_of(child: &ChildConfig) -> Option<Group> {
    child.proposals.iter().find_map(|proposal| proposal.groups.first().copied())
}

/// The limits of a child: seconds, and kilobytes where it has such (RFC 2407 section 4.5).
pub(super) fn lifetime_attributes(lifetime: &ChildLifetime) -> Vec<Attribute> {
    let limit = |unit, limit| {
        [
            Attribute::number(phase_two::LIFE_TYPE, short(unit)),
            Attribute::number(phase_two::LIFE_DURATION, limit),
        ]
    };
    let kilobytes = lifetime.hard_bytes.map(|bytes| limit(LIFE_KILOBYTES, short((bytes / 1024).max(1))));
    limit(LIFE_SECONDS, secs(lifetime.hard)).into_iter().chain(kilobytes.into_iter().flatten()).collect()
}

/// Our offer for a child: one proposal; transforms for its combinations with the group of our key exchange. Extended
/// sequence numbers are accepted only: the attribute is younger than many who speak version 1, and some refuse the whole
/// offer for it.
pub(super) fn offer_phase_two(child: &ChildConfig, spi: u32, nat: Option<Dialect>) -> Vec<Proposal> {
    let group = group_of(child);
    let transforms = child_suites(child)
        .into_iter()
        .filter(|suite| suite.group == group && !suite.esp.esn)
        .zip(1u8..)
        .map(|(suite, number)| {
            let (id, bits) = suite.transform;
            let mut attributes = lifetime_attributes(&child.lifetime);
            attributes.push(Attribute::number(phase_two::ENCAPSULATION, encapsulation(child.mode, nat)));
            attributes.extend(suite.esp.integrity.map(|integrity| {
                Attribute::number(phase_two::AUTHENTICATION, short(integrity_number(integrity)))
            }));
            attributes.extend(bits.map(|bits| Attribute::number(phase_two::KEY_LENGTH, short(bits))));
            attributes
                .extend(group.map(|group| Attribute::number(phase_two::GROUP, u32::from(group.number()))));
            Transform { number, id, attributes }
        })
        .collect();
    vec![Proposal { number: 1, protocol: protocol::ESP, spi: spi.to_be_bytes().to_vec(), transforms }]
}

/// Chooses for a child, best of ours first. `shared` is the group of which the peer's key exchange can be.
pub(crate) fn choose_phase_two(
    child: &ChildConfig,
    theirs: &[Proposal],
    nat: Option<Dialect>,
) -> Option<PhaseTwoChoice> {
    let alone = |proposal: &&Proposal| {
        theirs.iter().filter(|other| other.number == proposal.number).count() == 1
            && proposal.protocol == protocol::ESP
    };
    child_suites(child).into_iter().find_map(|suite| {
        theirs.iter().filter(alone).find_map(|proposal| {
            let spi = <[u8; 4]>::try_from(proposal.spi.as_slice()).map(u32::from_be_bytes).ok()?;
            let fits = |transform: &&Transform| is_child_suite(transform, suite, child.mode, nat);
            let transform = proposal.transforms.iter().find(fits).filter(|_| spi != 0)?;
            let life = |unit| {
                transform
                    .lifetime(phase_two::LIFE_TYPE, phase_two::LIFE_DURATION, unit)
                    .filter(|life| *life > 0)
            };
            Some(PhaseTwoChoice {
                suite: suite.esp,
                group: suite.group,
                spi,
                lifetime: life(LIFE_SECONDS).map(Duration::from_secs),
                kilobytes: life(LIFE_KILOBYTES),
                answer: Proposal { transforms: vec![transform.clone()], ..proposal.clone() },
            })
        })
    })
}

fn is_child_suite(transform: &Transform, suite: PhaseTwoSuite, mode: Mode, nat: Option<Dialect>) -> bool {
    let (id, bits) = suite.transform;
    let known = |kind| {
        (phase_two::LIFE_TYPE..=phase_two::KEY_LENGTH).contains(&kind)
            || kind == phase_two::EXTENDED_SEQUENCE_NUMBER
    };
    let esn = suite.esp.esn.then_some(phase_two::ESN_64_BIT);
    // Behind a NAT some peers still give the plain number, and mean the same.
    let modes = [Some(encapsulation(mode, nat)), nat.map(|_| encapsulation(mode, None))];
    let asked = transform.value(phase_two::ENCAPSULATION);
    transform.id == id
        && transform.attributes.iter().all(|attribute| known(attribute.kind))
        && modes.iter().flatten().any(|number| asked == Some(u64::from(*number)))
        && transform.value(phase_two::AUTHENTICATION) == suite.esp.integrity.map(integrity_number)
        && transform.value(phase_two::KEY_LENGTH) == bits
        && transform.value(phase_two::EXTENDED_SEQUENCE_NUMBER) == esn
        && transform.value(phase_two::GROUP) == suite.group.map(|group| u64::from(group.number()))
        && (suite.group.is_some() || !transform.has(phase_two::GROUP))
}

/// The mode that the transforms of an offer ask for; tunnel mode unless all say otherwise.
pub(super) fn mode_of(theirs: &[Proposal]) -> Mode {
    let transport =
        |transform: &Transform| matches!(transform.value(phase_two::ENCAPSULATION), Some(2 | 4 | 61_444));
    let mut transforms = theirs.iter().flat_map(|proposal| &proposal.transforms).peekable();
    if transforms.peek().is_some() && transforms.all(transport) { Mode::Transport } else { Mode::Tunnel }
}

/// In words, for causes.
pub(super) fn describe(proposals: &[Proposal]) -> String {
    let mut texts: Vec<String> = Vec::new();
    for proposal in proposals.iter().take(8) {
        for transform in proposal.transforms.iter().take(8) {
            texts.push(match proposal.protocol {
                protocol::ISAKMP => describe_phase_one(transform),
                protocol::ESP => describe_phase_two(transform),
                other => format!("protocol {other}"),
            });
        }
    }
    texts.join("; ")
}

fn describe_phase_one(transform: &Transform) -> String {
    let bits = transform.value(phase_one::KEY_LENGTH).map(|bits| format!("-{bits}")).unwrap_or_default();
    let encryption = match transform.value(phase_one::ENCRYPTION) {
        Some(1) => "des".to_owned(),
        Some(phase_one::TRIPLE_DES_CBC) => "3des".to_owned(),
        Some(phase_one::AES_CBC) => format!("aes{bits}-cbc"),
        other => format!("encryption {}", other.unwrap_or_default()),
    };
    let hash = match transform.value(phase_one::HASH) {
        Some(1) => "md5".to_owned(),
        Some(2) => "sha1".to_owned(),
        Some(4) => "sha2-256".to_owned(),
        Some(5) => "sha2-384".to_owned(),
        Some(6) => "sha2-512".to_owned(),
        other => format!("hash {}", other.unwrap_or_default()),
    };
    let group = transform.value(phase_one::GROUP).unwrap_or_default();
    let authentication = match transform.value(phase_one::AUTHENTICATION) {
        Some(phase_one::PRE_SHARED_KEY) => "pre-share".to_owned(),
        Some(phase_one::RSA_SIGNATURE) => "rsa-sig".to_owned(),
        Some(phase_one::ECDSA_P256) => "ecdsa-256".to_owned(),
        Some(phase_one::ECDSA_P384) => "ecdsa-384".to_owned(),
        Some(11) => "ecdsa-521".to_owned(),
        other => format!("authentication {}", other.unwrap_or_default()),
    };
    format!("{encryption}/{hash}/group {group}/{authentication}")
}

fn describe_phase_two(transform: &Transform) -> String {
    let bits = transform.value(phase_two::KEY_LENGTH).map(|bits| format!("-{bits}")).unwrap_or_default();
    let encryption = match transform.id {
        2 => "des".to_owned(),
        phase_two::ESP_3DES => "3des".to_owned(),
        phase_two::ESP_AES_CBC => format!("aes{bits}-cbc"),
        phase_two::ESP_AES_GCM_16 => format!("aes{bits}-gcm"),
        other => format!("transform {other}"),
    };
    let integrity = match transform.value(phase_two::AUTHENTICATION) {
        None => String::new(),
        Some(1) => "/md5-96".to_owned(),
        Some(2) => "/sha1-96".to_owned(),
        Some(5) => "/sha2-256-128".to_owned(),
        Some(6) => "/sha2-384-192".to_owned(),
        Some(7) => "/sha2-512-256".to_owned(),
        Some(other) => format!("/authentication {other}"),
    };
    let group = transform.value(phase_two::GROUP).map(|group| format!("/group {group}")).unwrap_or_default();
    let mode = match transform.value(phase_two::ENCAPSULATION) {
        Some(1 | 3 | 61_443) => "/tunnel".to_owned(),
        Some(2 | 4 | 61_444) => "/transport".to_owned(),
        other => format!("/mode {}", other.unwrap_or_default()),
    };
    let esn = if transform.has(phase_two::EXTENDED_SEQUENCE_NUMBER) { "/esn" } else { "" };
    format!("{encryption}{integrity}{group}{mode}{esn}")
}
