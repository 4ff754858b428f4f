//! The parts. Whole packets are in `tests/separate.rs` and `tests/bursts.rs`.

use super::super::vectors::{self, Parts};
use super::cbc::Cipher;
use super::hmac::Authenticator;
use crate::algorithm::{Cbc, Integrity};

struct Portable;

impl Parts for Portable {
    fn encrypt(&mut self, cipher: Cbc, key: &[u8], iv: &[u8], text: &mut [u8]) {
        assert!(Cipher::new(cipher, key).unwrap().encrypt(iv, text));
    }

    fn decrypt(&mut self, cipher: Cbc, key: &[u8], iv: &[u8], text: &mut [u8]) {
        assert!(Cipher::new(cipher, key).unwrap().decrypt(iv, text));
    }

    fn hmac(&mut self, integrity: Integrity, key: &[u8], message: &[u8]) -> Vec<u8> {
        let mut icv = vec![0; usize::from(integrity.icv_bytes())];
        let (front, back) = message.split_at(message.len() / 3);
        let authenticator = Authenticator::new_of_any_key(integrity, key).unwrap();
        authenticator.write([front, back], &mut icv);
        assert!(authenticator.verifies([message, &[]], &icv));
        icv
    }
}

#[test]
fn the_parts_agree_with_vectors() {
    vectors::judge(&mut Portable);
}

#[test]
fn hmac_verifies_whole_icvs_of_whole_messages_only() {
    for integrity in Integrity::ALL {
        let authenticator = Authenticator::new(integrity, &vec![7; integrity.key_bytes()]).unwrap();
        let mut icv = vec![0; usize::from(integrity.icv_bytes())];
        authenticator.write([b"Hi ", b"There"], &mut icv);
        assert!(authenticator.verifies([b"Hi There", &[]], &icv));
        assert!(!authenticator.verifies([b"Hi ", &[]], &icv));
        assert!(!authenticator.verifies([b"Hi ", b"There"], &[]), "an empty ICV authenticates nothing");
        assert!(Authenticator::new(integrity, &vec![7; integrity.key_bytes() - 1]).is_none());
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
