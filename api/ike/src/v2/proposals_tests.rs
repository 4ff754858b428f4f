use super::*;

fn chacha() -> (Vec<IkeProposal>, Vec<EspProposal>) {
    let ike = IkeProposal {
        encryption: vec![IkeEncryption::ChaCha20Poly1305],
        prf: vec![Hash::Sha2_256],
        groups: vec![Group::Curve25519],
        ..IkeProposal::default()
    };
    let esp = EspProposal {
        encryption: vec![EspEncryption::ChaCha20Poly1305],
        integrity: vec![],
        groups: vec![],
        esn: vec![true],
    };
    (vec![ike], vec![esp])
}

/// RFC 7634 section 4: the key has one length, and no attribute says so. A peer that writes one means another transform.
#[test]
fn chacha20_poly1305_has_no_key_length() {
    let (ike, esp) = chacha();
    let offered_ike = offer_ike(&ike, &[], Additional::Impossible);
    let offered_esp = offer_esp(&esp, 7, false, &[]);
    for (offered, name) in [(&offered_ike, "ike"), (&offered_esp, "esp")] {
        let [proposal] = offered.as_slice() else { panic!("{name}: {offered:?}") };
        let ciphers: Vec<_> = proposal.of(TransformKind::Encryption).collect();
        assert_eq!(ciphers.len(), 1);
        assert_eq!((ciphers[0].id, ciphers[0].key_bits), (28, None), "{name}");
        assert!(proposal.of(TransformKind::Integrity).next().is_none(), "{name}");
    }
    let ike_of = |theirs: &[WireProposal]| {
        choose_ike(&ike, theirs, 0, None, Additional::Impossible).map(|chosen| chosen.suite.cipher)
    };
    let esp_of = |theirs: &[WireProposal]| choose_esp(&esp, theirs, false, None, &[]).is_some();
    assert_eq!(ike_of(&offered_ike), Some(IkeCipher::ChaCha20Poly1305));
    assert!(esp_of(&offered_esp));
    let with_length = |mut offered: Vec<WireProposal>| {
        for transform in &mut offered[0].transforms {
            if transform.kind == TransformKind::Encryption {
                transform.key_bits = Some(256);
            }
        }
        offered
    };
    assert_eq!(ike_of(&with_length(offered_ike)), None);
    let refused = with_length(offered_esp);
    assert!(!esp_of(&refused));
    assert_eq!(describe(&refused), "chacha20-poly1305-256/esn");
}

fn both_kinds() -> (Vec<IkeProposal>, Vec<EspProposal>) {
    let ike = IkeProposal {
        encryption: vec![IkeEncryption::Aes256Gcm16, IkeEncryption::Aes128Cbc],
        integrity: vec![Hash::Sha2_256],
        prf: vec![Hash::Sha2_256],
        groups: vec![Group::Curve25519],
        ..IkeProposal::default()
    };
    let esp = EspProposal {
        encryption: vec![EspEncryption::Aes256Gcm16, EspEncryption::Aes128Cbc],
        integrity: vec![EspIntegrity::HmacSha2_256_128],
        groups: vec![Group::Curve25519],
        esn: vec![true, false],
    };
    (vec![ike], vec![esp])
}

/// RFC 7296 section 3.3: combined ciphers stand apart from the others and without integrity; proposals count from one; and
/// each type that its protocol demands is there (section 3.3.3).
#[test]
fn offers_are_as_the_rfc_orders_them() {
    let (ike, esp) = both_kinds();
    let offered = [offer_ike(&ike, &[], Additional::Impossible), offer_esp(&esp, 7, true, &[])];
    let demanded: [&[TransformKind]; 2] = [
        &[TransformKind::Encryption, TransformKind::Prf, TransformKind::KeyExchange],
        &[TransformKind::Encryption, TransformKind::KeyExchange, TransformKind::Esn],
    ];
    for (offered, demanded) in offered.iter().zip(demanded) {
        assert_eq!(offered.iter().map(|proposal| proposal.number).collect::<Vec<_>>(), [1, 2]);
        assert!(offered.iter().all(|proposal| proposal.protocol == offered[0].protocol));
        for proposal in offered {
            let combined = proposal.of(TransformKind::Encryption).all(|found| found.id == 20);
            assert_eq!(combined, proposal.of(TransformKind::Integrity).next().is_none());
            assert!(demanded.iter().all(|kind| proposal.of(*kind).next().is_some()));
        }
    }
}

/// RFC 7296 section 3.3.6: what is not understood, or lacks what it must have, is not chosen; what stands beside it is, under
/// the number that it was offered with and with its attributes.
#[test]
fn what_is_not_understood_is_not_chosen() {
    let (ours, esp) = both_kinds();
    let good = offer_ike(&ours, &[], Additional::Impossible);
    let choose = |theirs: &[WireProposal]| choose_ike(&ours, theirs, 0, None, Additional::Impossible);
    let chosen = |theirs: &[WireProposal]| choose(theirs).map(|chosen| chosen.suite.cipher);
    assert_eq!(chosen(&good), Some(IkeCipher::Aes256Gcm16));
    type Edit = fn(&mut WireProposal);
    let edits: [(&str, Edit); 7] = [
        ("an unknown type", |proposal| {
            proposal.transforms.push(Transform::plain(TransformKind::Other(99), 1));
        }),
        ("an unknown attribute", |proposal| proposal.transforms[0].unknown_attribute = true),
        ("no key length", |proposal| proposal.transforms[0].key_bits = None),
        ("no cipher", |proposal| proposal.transforms.retain(|found| found.kind != TransformKind::Encryption)),
        ("no PRF", |proposal| proposal.transforms.retain(|found| found.kind != TransformKind::Prf)),
        ("no group", |proposal| proposal.transforms.retain(|found| found.kind != TransformKind::KeyExchange)),
        ("an SPI", |proposal| proposal.spi = vec![1; 8]),
    ];
    for (what, edit) in edits {
        let mut theirs = good.clone();
        edit(&mut theirs[0]);
        let answer = choose(&theirs).map(|chosen| (chosen.suite.cipher, chosen.answer(Protocol::Ike, &[])));
        let (cipher, answer) = answer.unwrap();
        assert_eq!((cipher, answer.number), (IkeCipher::Aes128Cbc(Hash::Sha2_256), 2), "{what}");
        assert!(answer.transforms.iter().all(|chosen| theirs[1].transforms.contains(chosen)));
        theirs.pop();
        assert_eq!(chosen(&theirs), None, "{what}");
    }
    // A combined cipher with an integrity that is to be used beside it.
    let mut both = good.clone();
    both[0].transforms.extend(good[1].of(TransformKind::Integrity).copied().collect::<Vec<_>>());
    assert_eq!(chosen(&both[..1]), None);
    // One transform that is not understood does not take the others of its type along.
    let mut more = good.clone();
    more[0].transforms.insert(0, Transform::encryption(99, 128));
    assert_eq!(chosen(&more), Some(IkeCipher::Aes256Gcm16));
    // ESP without the group that forward secrecy demands.
    let mut theirs = offer_esp(&esp, 7, true, &[]);
    assert!(choose_esp(&esp, &theirs, true, None, &[]).is_some());
    for proposal in &mut theirs {
        proposal.transforms.retain(|found| found.kind != TransformKind::KeyExchange);
    }
    assert!(choose_esp(&esp, &theirs, true, None, &[]).is_none());
}
