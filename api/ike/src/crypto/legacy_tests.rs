//! Known answers for the legacy algorithms: RFC 2202 for HMAC; OpenSSL's `enc` for CBC; Python's `pow` for the groups,
//! and OpenSSL's Diffie-Hellman over its own primes for groups 17 and 18.

use super::prf::digest;
use super::*;
use crate::{Group, Hash};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// RFC 2202 sections 2 and 3, cases 2 and 6.
#[test]
fn hmac_agrees_with_rfc_2202() {
    let long = [0xaa; 80];
    let first: &[u8] = b"Test Using Larger Than Block-Size Key - Hash Key First";
    let cases: [(Hash, &[u8], &[u8], &str); 4] = [
        (Hash::Md5, b"Jefe", b"what do ya want for nothing?", "750c783e6ab0b503eaa86e310a5db738"),
        (Hash::Md5, &long, first, "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd"),
        (Hash::Sha1, b"Jefe", b"what do ya want for nothing?", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
        (Hash::Sha1, &long, first, "aa4ae5e15272d00e95705637ce8a3b55ed402112"),
    ];
    for (hash, key, message, expected) in cases {
        assert_eq!(*prf(hash, key, &[message]), hex(expected));
        let (front, back) = message.split_at(7);
        assert_eq!(*prf(hash, key, &[front, back]), hex(expected));
    }
}

#[test]
fn digests_agree_with_their_rfcs() {
    // RFC 1321 appendix A.5, RFC 3174 section 7.3, RFC 6234 section 8.5.
    assert_eq!(*digest(Hash::Md5, &[b"a", b"bc"]), hex("900150983cd24fb0d6963f7d28e17f72"));
    assert_eq!(*digest(Hash::Sha1, &[b"a", b"bc"]), hex("a9993e364706816aba3e25717850c26c9cd0d89d"));
    let sha2_256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(*digest(Hash::Sha2_256, &[b"a", b"bc"]), hex(sha2_256));
}

#[test]
fn cbc_agrees_with_openssl() {
    let cases = [
        (
            CbcCipher::TripleDes,
            "0123456789abcdef23456789abcdef01456789abcdef0123",
            "fedcba9876543210",
            "The quick brown fox jumped over the lazy",
            "5911530a7bf8de87d6f56b09ddcd5acf8956cc210e18ddcc0e30bc060e4dd5bb6bdd280b1b9f992f",
        ),
        (
            CbcCipher::Aes192,
            "000102030405060708090a0b0c0d0e0f1011121314151617",
            "000102030405060708090a0b0c0d0e0f",
            "0123456789abcdef0123456789abcdef",
            "7aa918b7f4c67dc09d94d6e6f283dce5e9eeb1c06c4e471031ca2dbbd230b5a5",
        ),
    ];
    for (cipher, key, iv, plain, sealed) in cases {
        let (key, iv) = (hex(key), hex(iv));
        assert_eq!((key.len(), iv.len()), (cipher.key_len_bytes(), cipher.block_len_bytes()));
        let mut buffer = plain.as_bytes().to_vec();
        cipher.encrypt(&key, &iv, &mut buffer).unwrap();
        assert_eq!(buffer, hex(sealed));
        cipher.decrypt(&key, &iv, &mut buffer).unwrap();
        assert_eq!(buffer, plain.as_bytes());
        buffer.pop();
        assert!(cipher.decrypt(&key, &iv, &mut buffer).is_err(), "a block that is not whole");
    }
}

#[test]
fn modp_groups_agree_with_python() {
    // Group; exponents of both sides; SHA-256 of the first side's public value and of the secret.
    let cases = [
        (
            Group::Modp1024,
            "b982a7f345348aa179ea66672b0af4a4ece095f92d8f7854a59ea42d9e794e42",
            "15be954fc997112f5b612f9847c901355ff66e138dbdbb8a73298fac9adc8348",
            "10fbe0d418a2c1dc3bd5e0a3a70123f0c91e04c4d1bf9179ed8af4763c99ebc5",
            "d01eca9b85da3f944bcd50b0c7128be2114c2883ca80003cce9a339fbe1ded92",
        ),
        (
            Group::Modp1536,
            "16700b7823ff88c3533176579f791c29bdd7996252f228d233569b5dc1718208",
            "dccaa91b54c886208689afbab010936c88e5c01af9fdeea07c74f66281de4e94",
            "15161b9f36469f237fa7b1f196a98ad6bd66eb299a37d85e6b115bf233e58aca",
            "ac37c89e7d6a4ae49f74cf14fa9f3c6db2b833306a443950efe120f6635d75c9",
        ),
        (
            Group::Modp3072,
            concat!(
                "302b99bc592b6c47e9b157bf262afc73b5176e5a0eb3f6c7611026565c563734",
                "764040450f2e86261ff848eb2a98a93a"
            ),
            concat!(
                "7f9ce0165dd1a804ae66bf4258990065f7772fc2ce03a81eaf54ef0c0ecb3a6e",
                "d2cb72ee1b78c04892c00f31ac4da740"
            ),
            "7888bcd24abd8e51d3e3c03a7a00a07fa82cc961a7221bc268216cd8e197a237",
            "0a700aed3d4a59e5de84932470d6deb9ab6d999fbae68d27f3e22a50ac21bd29",
        ),
        (
            Group::Modp4096,
            concat!(
                "da9fb000dd2fb5c25a2d2d46ffb129a6f19e10fc2db295a7352a87011f8a4537",
                "088ecd3c1211c3c4e6da85c92425e45903c89bf1e1d896e978286d222c85c592"
            ),
            concat!(
                "4026352afc0170e10dc77adbb591c99e5a8d77b73edee8715979921d66f15f0b",
                "fb3ff3ba4e5fd8eda295a90704f81f23815ef7e1aa1aed454ff9e0ba90039e63"
            ),
            "407c848656ce0e0a0330439fa9047734e276c748969c9c07ab70af59310b0496",
            "52eebec365bf7adc6f7759e1abe5346cc1f4e39e9c120478b3aefa76c7c85236",
        ),
        (
            Group::Modp6144,
            concat!(
                "c013036c7f7735777d37ac1d058c20700438dba9dc6797df6636af1d9929eb35",
                "c39daeb151b0a0e004893e62d56c2c7191f289b782e30340db9193830eac3b40"
            ),
            concat!(
                "9f5fd4d6a5e3f28d5d8f7d3bff2fc9321139d91328bdda5c80db4982e2f532a1",
                "d7a93a14c24385002f5e03a53c3af18a4c269c0e9dae1c66a0ede2b3a65dcc3b"
            ),
            "caa9aca40db4e70c036507a15e5265e58b2125d15ea139ff5cad61ac83bb4a01",
            "3caed51e33fd2c7b55c3ba5301b08d85e80b5aca55e45c381e91606551ca85b7",
        ),
        (
            Group::Modp8192,
            concat!(
                "ae456e7094eb6bb74c1df8ad437e79d1cf64c61d12dc47034f3d34cc53c7544e",
                "b152f7367d4fe7dd0291046f92ec0a964f27b5019d767e83ec133031dc179e97"
            ),
            concat!(
                "835f1290c5024463838438df2e53f8736f7cfac3aa8b47abdedf00f4b90c4514",
                "81d5172244502eb83748228fe50a8d250b139524cb18020aa934bd0a237aec4c"
            ),
            "02e47c1828895528920fd267b41e73a708db1b046a969950b8d4992229d9c8cd",
            "78d528bd2aa45d48686e528fb90872e870e5fe707e7e00fa27fdf7f96e6a113b",
        ),
    ];
    for (group, a, b, public, shared) in cases {
        let a = modp::exponent_for_test(group, &hex(a));
        let b = modp::exponent_for_test(group, &hex(b));
        let (public_a, public_b) = (a.public().unwrap(), b.public().unwrap());
        assert_eq!(public_a.len(), group.public_len_bytes());
        assert_eq!(*digest(Hash::Sha2_256, &[&public_a]), hex(public), "{group:?}");
        let secret = a.agree(&public_b).unwrap();
        assert_eq!(*digest(Hash::Sha2_256, &[&secret]), hex(shared), "{group:?}");
        assert_eq!(secret, b.agree(&public_a).unwrap());
        let mut one = vec![0; group.public_len_bytes()];
        *one.last_mut().unwrap() = 1;
        assert!(a.agree(&one).is_err());
        assert!(a.agree(&vec![0xff; group.public_len_bytes()]).is_err());
    }
}

#[test]
fn every_group_agrees_with_itself() {
    let mut random = Random::new([9; 32]);
    for number in 0..64 {
        let Some(group) = Group::from_number(number) else { continue };
        assert_eq!(group.number(), number);
        let one = KeyPair::new(group, &mut random).unwrap();
        let other = KeyPair::new(group, &mut random).unwrap();
        assert_eq!(one.public().len(), group.public_len_bytes());
        assert_eq!(one.agree(other.public()).unwrap(), other.agree(one.public()).unwrap());
    }
}
