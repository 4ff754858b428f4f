//! What an engine chooses of what its peer names: proposals, traffic selectors, identities. Never more than both named.

use std::net::IpAddr;

use crate::crypto::IkeCipher;
use crate::sim::setup;
use crate::v1::{proposals as v1_proposals, selectors as v1_selectors};
use crate::v2::proposals::{Additional, choose_esp, choose_ike};
use crate::v2::selectors::{all_covered, covers, narrow};
use crate::wire::isakmp::{PhaseTwoId, decode_sa, phase_one_identity};
use crate::wire::{Protocol, Reader, TransformKind, WireIdentity, WireProposal, selector};
use crate::{
    ChildConfig, Connection, EspEncryption, EspIntegrity, EspProposal, Group, Hash, Identity, IkeEncryption,
    IkeProposal, Ikev1, KeyEncapsulation, Mode, SELECTORS_MOST, TrafficSelector, Version,
};

/// The body of an SA payload, of either version: what is chosen stands in one proposal of the peer's and in one of ours,
/// once of each kind; and of the answer alone the same is chosen again.
pub fn proposals(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    let shared = [None, Some(Group::Modp2048), Some(Group::EcpP256), Some(Group::Curve25519)];
    let shared = shared[usize::from(choice % 4)];
    if let Ok(theirs) = WireProposal::decode_all(&mut Reader::new(body)) {
        for_ike(&theirs, shared, choice & 4 != 0);
        for_esp(&theirs, shared, choice & 4 != 0);
    }
    if let Ok(theirs) = decode_sa(body) {
        of_version_1(&theirs);
    }
}

fn ours_ike() -> Vec<IkeProposal> {
    vec![
        IkeProposal {
            encryption: vec![
                IkeEncryption::Aes256Gcm16,
                IkeEncryption::ChaCha20Poly1305,
                IkeEncryption::Aes128Cbc,
            ],
            integrity: vec![Hash::Sha2_256],
            prf: vec![Hash::Sha2_256, Hash::Sha2_384],
            groups: vec![Group::Curve25519, Group::EcpP256],
            additional_key_exchanges: vec![
                vec![KeyEncapsulation::MlKem768, KeyEncapsulation::MlKem1024],
                vec![KeyEncapsulation::MlKem1024],
            ],
            ..IkeProposal::default()
        },
        IkeProposal {
            encryption: vec![IkeEncryption::TripleDesCbc],
            integrity: vec![Hash::Sha1],
            prf: vec![Hash::Sha1],
            groups: vec![Group::Modp2048],
            ..IkeProposal::default()
        },
    ]
}

fn ours_esp() -> Vec<EspProposal> {
    vec![
        EspProposal {
            encryption: vec![
                EspEncryption::Aes256Gcm16,
                EspEncryption::ChaCha20Poly1305,
                EspEncryption::Aes128Cbc,
            ],
            integrity: vec![EspIntegrity::HmacSha2_256_128],
            groups: vec![Group::Curve25519, Group::EcpP256],
            esn: vec![true, false],
        },
        EspProposal {
            encryption: vec![EspEncryption::TripleDesCbc],
            integrity: vec![EspIntegrity::HmacSha1_96],
            groups: vec![],
            esn: vec![false],
        },
    ]
}

fn for_ike(theirs: &[WireProposal], shared: Option<Group>, rekey: bool) {
    let (spi_len, spi) = if rekey { (8, vec![9; 8]) } else { (0, vec![]) };
    let ours = ours_ike();
    for additional in [Additional::Possible, Additional::Impossible, Additional::Followup] {
        let Some(chosen) = choose_ike(&ours, theirs, spi_len, shared, additional) else { continue };
        let answer = chosen.answer(Protocol::Ike, &spi);
        assert_answers(theirs, &answer, &chosen.spi);
        let legacy = matches!(chosen.suite.cipher, IkeCipher::TripleDesCbc(_));
        let mine = if legacy { &ours[1] } else { &ours[0] };
        assert!(mine.encryption.contains(&chosen.suite.cipher.encryption()));
        assert!(mine.prf.contains(&chosen.suite.prf) && mine.groups.contains(&chosen.suite.group));
        assert!(chosen.suite.cipher.integrity().is_none_or(|hash| mine.integrity.contains(&hash)));
        let methods: Vec<_> = chosen.suite.additional.iter().flatten().collect();
        assert!(additional != Additional::Impossible || methods.is_empty());
        for (place, method) in chosen.suite.additional.iter().enumerate() {
            let Some(method) = method else { continue };
            assert!(mine.additional_key_exchanges[place].contains(method));
            assert_eq!(methods.iter().filter(|other| **other == method).count(), 1, "{method:?} twice");
        }
        let again = choose_ike(&ours, &[answer], spi_len, None, additional);
        assert_eq!(again.map(|again| again.suite), Some(chosen.suite));
    }
}

fn for_esp(theirs: &[WireProposal], shared: Option<Group>, groups: bool) {
    let ours = ours_esp();
    let methods =
        [vec![KeyEncapsulation::MlKem768, KeyEncapsulation::MlKem1024], vec![KeyEncapsulation::MlKem768]];
    let Some(chosen) = choose_esp(&ours, theirs, groups, shared, &methods) else { return };
    let answer = chosen.answer(Protocol::Esp, &[1, 2, 3, 4]);
    assert_answers(theirs, &answer, &chosen.spi);
    let legacy = chosen.suite.suite.encryption == EspEncryption::TripleDesCbc;
    let mine = if legacy { &ours[1] } else { &ours[0] };
    assert!(mine.encryption.contains(&chosen.suite.suite.encryption));
    assert!(mine.esn.contains(&chosen.suite.suite.esn));
    assert!(chosen.suite.suite.integrity.is_none_or(|integrity| mine.integrity.contains(&integrity)));
    assert_eq!(chosen.suite.group.is_some(), groups && !mine.groups.is_empty());
    let again = choose_esp(&ours, &[answer], groups, None, &methods);
    assert_eq!(again.map(|again| again.suite), Some(chosen.suite));
}

/// The answer takes from one proposal of the peer's a transform of each kind, and none twice (RFC 7296 section 3.3.6).
fn assert_answers(theirs: &[WireProposal], answer: &WireProposal, spi: &[u8]) {
    let of = |their: &&WireProposal| {
        their.number == answer.number
            && their.protocol == answer.protocol
            && their.spi == spi
            && answer.transforms.iter().all(|transform| their.transforms.contains(transform))
    };
    let their = theirs.iter().find(of);
    assert!(their.is_some(), "{answer:?} of {theirs:?}");
    let kinds = |proposal: &WireProposal| {
        let mut kinds: Vec<TransformKind> = proposal.transforms.iter().map(|found| found.kind).collect();
        kinds.sort();
        kinds
    };
    let answered = kinds(answer);
    assert!(answered.windows(2).all(|pair| pair[0] != pair[1]), "a kind twice in {answer:?}");
    assert!(answer.transforms.iter().all(|transform| !transform.unknown_attribute));
}

fn of_version_1(theirs: &[crate::wire::isakmp::Proposal]) {
    let connection = Connection {
        version: Version::V1(Ikev1::default()),
        proposals: ours_ike(),
        ..setup::connection(1, 1)
    };
    if let Some(chosen) = v1_proposals::choose_phase_one(&connection, theirs) {
        assert!(theirs.iter().any(|their| their.transforms.contains(&chosen.answer.transforms[0])));
        assert!(chosen.lifetime <= connection.lifetime);
        let again = v1_proposals::choose_phase_one(&connection, &[chosen.answer]);
        assert_eq!(again.map(|again| again.suite), Some(chosen.suite));
    }
    let child = ChildConfig { proposals: ours_esp(), ..setup::child(1, 1) };
    for mode in [Mode::Transport, Mode::Tunnel] {
        let child = ChildConfig { mode, ..child.clone() };
        let Some(chosen) = v1_proposals::choose_phase_two(&child, theirs, None) else { continue };
        assert!(theirs.iter().any(|their| their.transforms.contains(&chosen.answer.transforms[0])));
        assert_ne!(chosen.spi, 0);
        let again = v1_proposals::choose_phase_two(&child, &[chosen.answer], None);
        assert_eq!(again.map(|again| (again.suite, again.spi)), Some((chosen.suite, chosen.spi)));
    }
}

/// Two lists of selectors: the policy's in our own short form, and the body of a payload of either version.
pub fn selectors(data: &[u8]) {
    let Some((count, mut rest)) = data.split_first() else { return };
    let mut policy = Vec::new();
    for _ in 0..count % 5 {
        let Some((range, tail)) = rest.split_first_chunk::<5>() else { return };
        rest = tail;
        policy.extend(short_selector(*range));
    }
    if let Ok(asked) = selector::decode_all(&mut Reader::new(rest)) {
        let agreed = narrow(&policy, &asked);
        assert!(all_covered(&policy, &agreed) && all_covered(&asked, &agreed), "wider: {agreed:?}");
        for (index, one) in agreed.iter().enumerate() {
            let redundant = agreed.iter().enumerate().any(|(other, of)| other != index && covers(of, one));
            assert!(!redundant, "{one:?} is said twice");
        }
        assert_eq!(narrow(&policy, &agreed), agreed, "not stable");
        // Nothing that both name is left out.
        let corners = |found: &TrafficSelector| [(found.first, found.ports.0), (found.last, found.ports.1)];
        // From so many on, some may be left out.
        let complete = agreed.len() < SELECTORS_MOST;
        for (address, port) in policy.iter().chain(&asked).flat_map(corners).filter(|_| complete) {
            for protocol in [1, 6, 17, 47] {
                let point = point(address, protocol, port);
                let both = within(&policy, &point) && within(&asked, &point);
                assert_eq!(within(&agreed, &point), both, "{point:?} of {policy:?} and {asked:?}");
            }
        }
    }
    if let Ok(asked) = PhaseTwoId::decode(rest) {
        in_version_1(&policy, asked);
    }
}

fn point(address: IpAddr, protocol: u8, port: u16) -> TrafficSelector {
    TrafficSelector { first: address, last: address, protocol, ports: (port, port) }
}

fn within(selectors: &[TrafficSelector], point: &TrafficSelector) -> bool {
    selectors.iter().any(|outer| covers(outer, point))
}

/// Protocol, ports and the ends of a range in few octets: small enough to meet.
fn short_selector([family, protocol, ports, first, last]: [u8; 5]) -> Option<TrafficSelector> {
    let protocol = [0, 6, 17, 47][usize::from(protocol % 4)];
    let ports = if ports == 0 { (0, u16::MAX) } else { (u16::from(ports >> 4), u16::from(ports & 15)) };
    let address = |octet: u8| match family % 2 {
        0 => IpAddr::from([10, 0, 0, octet]),
        _ => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(octet)]),
    };
    (first <= last && ports.0 <= ports.1).then(|| TrafficSelector {
        first: address(first),
        last: address(last),
        protocol,
        ports,
    })
}

/// Version 1 cannot narrow: a child is found whose selectors are those named, or lie within them where a policy says so.
fn in_version_1(policy: &[TrafficSelector], asked: TrafficSelector) {
    let remote = setup::gre(setup::address(0));
    let named = v1_selectors::Named { initiator: remote, responder: asked };
    let children: Vec<ChildConfig> = (policy.iter().zip(1..))
        .map(|(local, id)| ChildConfig {
            local_selectors: vec![*local],
            remote_selectors: vec![remote],
            ..setup::child(1, id)
        })
        .collect();
    for superset in [false, true] {
        let found = v1_selectors::find(&children, &named, Mode::Transport, superset);
        let Some(found) = found else { continue };
        let local = &found.local_selectors[0];
        assert!(covers(&asked, local) && (superset || asked == *local), "{local:?} for {asked:?}");
    }
}

/// The body of an ID payload, and the identity that is expected: only what is the same is taken for the same.
pub fn identity(data: &[u8]) {
    let Some((len, rest)) = data.split_first() else { return };
    let (expected, body) = rest.split_at(usize::from(*len).min(rest.len()));
    let Ok(presented) = WireIdentity::decode(&mut Reader::new(body)) else { return };
    assert_eq!(phase_one_identity(body), Ok(presented.clone()));
    let described = presented.describe();
    assert!(!described.contains(|found: char| found.is_control()), "{described:?}");
    let text = String::from_utf8_lossy(expected).into_owned();
    let identities = [
        Identity::Fqdn(text.clone()),
        Identity::Email(text),
        Identity::KeyId(expected.to_vec()),
        Identity::DistinguishedName(expected.to_vec()),
        Identity::Address(setup::address(0)),
    ];
    let matching = identities.iter().filter(|identity| presented.is(identity)).count();
    assert!(matching <= 1, "{presented:?} is {matching} identities");
    for identity in &identities {
        let said = WireIdentity::from(identity);
        let same = presented.is(identity);
        match identity {
            // What is no name is none, not even the same.
            Identity::DistinguishedName(_) => {
                let turned = said.is(&Identity::DistinguishedName(presented.data.clone()));
                assert_eq!(same, turned && presented.kind == said.kind, "{presented:?} and {said:?}");
            }
            _ => {
                let kind = presented.kind == said.kind;
                assert!(
                    !same || kind && presented.data.eq_ignore_ascii_case(&said.data),
                    "{presented:?} {said:?}"
                );
                assert!(same || presented != said, "{presented:?} is not itself");
            }
        }
    }
}
