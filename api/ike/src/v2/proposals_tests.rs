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
