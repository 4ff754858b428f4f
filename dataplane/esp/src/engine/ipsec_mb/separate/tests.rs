//! The parts. Whole packets are in `tests/separate.rs` and `tests/bursts.rs`.

use super::super::super::iv::IvCipher;
use super::super::super::vectors::{self, Parts};
use super::super::super::{Expanded, Keys, SaKey};
use super::super::IpsecMb;
use super::super::preference::Preference;
use super::*;
use crate::algorithm::Algorithm;

struct Jobs {
    functions: Functions,
    manager: Manager,
}

impl Jobs {
    /// `None` on a CPU that the library can't run on.
    fn new() -> Option<Self> {
        let functions = IpsecMb::new().ok()?.separate;
        Some(Self { functions, manager: Manager::new().unwrap() })
    }

    /// Keys of any length that a block of the hash has room for.
    fn key(&self, cipher: Cbc, cipher_key: &[u8], integrity: Integrity, hash_key: &[u8]) -> Key {
        let mut key = Key {
            schedules: [0; 512],
            inner: [0; 64],
            outer: [0; 64],
            iv_cipher: IvCipher::new(cipher_key).unwrap(),
            framing: Algorithm::Separate(cipher, integrity).framing(),
            cipher,
            integrity,
            preference: Preference::LIBRARY,
            portable: None,
        };
        self.functions.schedule(cipher, cipher_key, &mut key.schedules);
        self.functions.pad(integrity, hash_key, 0x36, &mut key.inner);
        self.functions.pad(integrity, hash_key, 0x5c, &mut key.outer);
        key
    }

    /// Runs a text with an IV of its own through the lanes, as a packet.
    fn crypt(&mut self, cipher: Cbc, key: &[u8], iv: &[u8], text: &mut [u8], encrypt: bool) {
        let key = self.key(cipher, key, Integrity::HmacSha1_96, &[7; 20]);
        let mut bytes = [&[0; HEADER_BYTES][..], iv, text, &[0; 12]].concat();
        let sealed_bytes = bytes.len() - 12;
        if !encrypt {
            // The ICV of what is to be opened.
            let mut queue = [key.opening(0, &[0; 8], &mut bytes).unwrap()];
            assert_eq!(hash(&mut self.manager, &mut queue), 1);
            let computed = queue[0].computed;
            bytes[sealed_bytes..].copy_from_slice(&computed[..12]);
        }
        let done = if encrypt {
            let packet = Packet::new(&key, &mut bytes, sealed_bytes, 0, 0).unwrap();
            seal(&mut self.manager, &mut [Sealing { packet }])
        } else {
            let mut queue = [key.opening(0, &[0; 8], &mut bytes).unwrap()];
            open(&mut self.manager, &mut queue)
        };
        assert_eq!(done, 1);
        text.copy_from_slice(&bytes[HEADER_BYTES + iv.len()..sealed_bytes]);
    }
}

impl Parts for Jobs {
    fn encrypt(&mut self, cipher: Cbc, key: &[u8], iv: &[u8], text: &mut [u8]) {
        self.crypt(cipher, key, iv, text, true);
    }

    fn decrypt(&mut self, cipher: Cbc, key: &[u8], iv: &[u8], text: &mut [u8]) {
        self.crypt(cipher, key, iv, text, false);
    }

    fn hmac(&mut self, integrity: Integrity, key: &[u8], message: &[u8]) -> Vec<u8> {
        let key = self.key(Cbc::Aes128, &[7; 16], integrity, key);
        let mut bytes = message.to_vec();
        let sealed_bytes = bytes.len();
        let packet = Packet::new(&key, &mut bytes, sealed_bytes, 0, 5).unwrap();
        let mut queue = [Opening { packet, received: [0; ICV_BYTES], computed: [0; ICV_BYTES] }];
        assert_eq!(hash(&mut self.manager, &mut queue), 1 << 5);
        let (icv, rest) = queue[0].computed.split_at(usize::from(integrity.icv_bytes()));
        assert!(rest.iter().all(|byte| *byte == 0), "no more is written than the ICV");
        icv.to_vec()
    }
}

#[test]
fn the_parts_agree_with_vectors() {
    if let Some(mut jobs) = Jobs::new() {
        vectors::judge(&mut jobs);
    }
}

/// What is not authentic is not even decrypted.
#[test]
fn a_forged_text_stays_as_it_came() {
    let Some(mut jobs) = Jobs::new() else { return };
    for cipher in Cbc::ALL {
        let key = jobs.key(cipher, &vec![7; cipher.key_bytes()], Integrity::HmacSha2_256_128, &[7; 32]);
        let mut bytes = vec![0x5a; key.framing.sealed_len(100)];
        assert_eq!(open(&mut jobs.manager, &mut [key.opening(3, &[0; 8], &mut bytes).unwrap()]), 0);
        assert!(bytes.iter().all(|byte| *byte == 0x5a));
    }
}

/// A dropped key leaves nothing where it was.
#[test]
fn keys_are_wiped() {
    let Some(jobs) = Jobs::new() else { return };
    let mut key =
        std::mem::ManuallyDrop::new(jobs.key(Cbc::Aes256, &[7; 32], Integrity::HmacSha1_96, &[9; 20]));
    assert!(key.schedules.iter().any(|byte| *byte != 0) && key.inner != [0; 64] && key.outer != [0; 64]);
    // SAFETY: dropped once; its arrays of bytes are valid afterwards too.
    unsafe { std::mem::ManuallyDrop::drop(&mut key) };
    assert!(key.schedules == [0; 512] && key.inner == [0; 64] && key.outer == [0; 64]);
}

/// Where the library takes microseconds for a byte it is not asked.
#[test]
fn triple_des_is_left_to_portable_code_where_the_library_has_no_lanes_for_it() {
    let Ok(engine) = IpsecMb::new() else { return };
    for cipher in Cbc::ALL {
        let (cipher_key, hash_key) = (vec![7; cipher.key_bytes()], [7; 20]);
        let keys = Keys { cipher: &cipher_key, integrity: &hash_key };
        let mut key = SaKey::default();
        engine.expand(Algorithm::Separate(cipher, Integrity::HmacSha1_96), keys, &mut key);
        let lanes = cipher != Cbc::TripleDes || engine.instructions().starts_with("avx512");
        assert_eq!(matches!(key.0, Expanded::IpsecMbSeparate(_)), lanes, "{cipher:?}");
        assert_eq!(matches!(key.0, Expanded::PortableSeparate(_)), !lanes, "{cipher:?}");
    }
}
