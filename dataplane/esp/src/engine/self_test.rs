//! What an engine must compute before it may be used, there and back, and forged ICVs refused: two known answers of the
//! GCM specification (test cases 4 and 16 of McGrew and Viega, "The Galois/Counter Mode of Operation"), the same text
//! sealed with ChaCha20-Poly1305 by OpenSSL, and a packet of each CBC cipher and each HMAC, made by OpenSSL and Python's
//! `hmac`.

use super::{CipherEngine, Engine, EngineError, Keys, Lanes, OpenOp, SaKey, SealOp};
use crate::algorithm::{Aead, Algorithm, Cbc, Integrity};

struct KnownAnswer {
    aead: Aead,
    key: &'static [u8],
    ciphertext: [u8; 60],
    icv: [u8; 16],
}

const KEY: [u8; 32] = *b"\xfe\xff\xe9\x92\x86\x65\x73\x1c\x6d\x6a\x8f\x94\x67\x30\x83\x08\
                         \xfe\xff\xe9\x92\x86\x65\x73\x1c\x6d\x6a\x8f\x94\x67\x30\x83\x08";
const NONCE: [u8; 12] = *b"\xca\xfe\xba\xbe\xfa\xce\xdb\xad\xde\xca\xf8\x88";
const AAD: [u8; 20] = *b"\xfe\xed\xfa\xce\xde\xad\xbe\xef\xfe\xed\xfa\xce\xde\xad\xbe\xef\xab\xad\xda\xd2";
const PLAINTEXT: [u8; 60] = *b"\xd9\x31\x32\x25\xf8\x84\x06\xe5\xa5\x59\x09\xc5\xaf\xf5\x26\x9a\
    \x86\xa7\xa9\x53\x15\x34\xf7\xda\x2e\x4c\x30\x3d\x8a\x31\x8a\x72\
    \x1c\x3c\x0c\x95\x95\x68\x09\x53\x2f\xcf\x0e\x24\x49\xa6\xb5\x25\
    \xb1\x6a\xed\xf5\xaa\x0d\xe6\x57\xba\x63\x7b\x39";

const KNOWN_ANSWERS: [KnownAnswer; 3] = [
    KnownAnswer {
        aead: Aead::Aes128Gcm,
        key: KEY.split_at(16).0,
        ciphertext: *b"\x42\x83\x1e\xc2\x21\x77\x74\x24\x4b\x72\x21\xb7\x84\xd0\xd4\x9c\
            \xe3\xaa\x21\x2f\x2c\x02\xa4\xe0\x35\xc1\x7e\x23\x29\xac\xa1\x2e\
            \x21\xd5\x14\xb2\x54\x66\x93\x1c\x7d\x8f\x6a\x5a\xac\x84\xaa\x05\
            \x1b\xa3\x0b\x39\x6a\x0a\xac\x97\x3d\x58\xe0\x91",
        icv: *b"\x5b\xc9\x4f\xbc\x32\x21\xa5\xdb\x94\xfa\xe9\x5a\xe7\x12\x1a\x47",
    },
    KnownAnswer {
        aead: Aead::Aes256Gcm,
        key: &KEY,
        ciphertext: *b"\x52\x2d\xc1\xf0\x99\x56\x7d\x07\xf4\x7f\x37\xa3\x2a\x84\x42\x7d\
            \x64\x3a\x8c\xdc\xbf\xe5\xc0\xc9\x75\x98\xa2\xbd\x25\x55\xd1\xaa\
            \x8c\xb0\x8e\x48\x59\x0d\xbb\x3d\xa7\xb0\x8b\x10\x56\x82\x88\x38\
            \xc5\xf6\x1e\x63\x93\xba\x7a\x0a\xbc\xc9\xf6\x62",
        icv: *b"\x76\xfc\x6e\xce\x0f\x4e\x17\x68\xcd\xdf\x88\x53\xbb\x2d\x55\x1b",
    },
    KnownAnswer {
        aead: Aead::ChaCha20Poly1305,
        key: &KEY,
        ciphertext: *b"\x68\x34\xe7\x87\xfe\x25\xa5\x98\x32\x8b\x7a\xc4\x0c\x46\x9e\xa4\
            \x06\x59\xe7\x12\x82\x6b\xa4\x04\xc4\x53\xa1\x55\x9c\x1e\xed\xae\
            \x84\x68\x00\x4d\xa4\xb2\x61\x6a\x91\x98\xe9\xa6\xf9\x1b\x7b\xea\
            \x87\xce\x25\xff\x0d\x9b\x4b\xaf\xa2\xde\x6d\xf7",
        icv: *b"\xbd\xb1\x02\xe7\x88\x96\xba\xd3\x81\x0a\xcd\x50\x1d\x8c\xcf\x1e",
    },
];

struct Separate {
    cipher: Cbc,
    integrity: Integrity,
    /// IV, ciphertext, ICV.
    body: &'static [u8],
}

/// The cipher's key begins here, that of HMAC ends here.
const KEYS: [u8; 64] = {
    let mut bytes = [0; 64];
    let mut at = 0;
    while at < bytes.len() {
        bytes[at] = at as u8;
        at += 1;
    }
    bytes
};
const SEPARATE_NONCE: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
const SEPARATE_AAD: [u8; 12] = [0, 0, 0x10, 2, 0, 0, 0, 1, 0, 0, 0, 2];
const SEPARATE_HEADER: [u8; 8] = [0, 0, 0x10, 2, 0, 0, 0, 2];
const PASSENGER: [u8; 32] = *b"A passenger in GRE, and its pad.";

const SEPARATE: [Separate; 5] = [
    Separate {
        cipher: Cbc::Aes128,
        integrity: Integrity::HmacSha1_96,
        body: b"\x6a\xd8\x3a\xfc\xd2\x28\x71\x14\xdb\x05\xf1\xc8\x9f\xeb\x51\x2f\xfa\xc3\xe6\xc5\
            \x08\xdf\x06\x0e\x59\x8b\x5c\x23\x2e\x2c\xbc\x53\x7d\xe2\xac\xff\x0d\xca\x84\x8c\
            \xa2\x09\xe4\xb1\x41\xf4\x6d\xc6\x6a\x9a\xbd\x5c\xfe\x4b\xb9\x6a\xac\xa7\x45\xf8",
    },
    Separate {
        cipher: Cbc::Aes192,
        integrity: Integrity::HmacSha2_384_192,
        body: b"\xf3\xff\xe1\x20\xcc\xc9\x69\xa3\xfe\xba\xab\xcd\xed\xf8\x8f\xa5\xcb\x85\x6e\x3a\
            \x47\x5b\xc6\x92\x85\x2c\x32\xc9\x60\xe3\x6f\x39\xf4\x20\xee\x20\x29\x6b\xa6\x07\
            \x1d\x65\x1a\x47\xd6\x83\xf7\xa0\x09\x57\xd9\x8a\xb3\xc8\xa1\x68\xe7\xc0\xc4\x18\
            \x89\x2b\x29\xc4\x45\x35\x15\xe6\xbf\x73\xe0\xad",
    },
    Separate {
        cipher: Cbc::Aes256,
        integrity: Integrity::HmacSha2_256_128,
        body: b"\x27\x16\xf5\x7f\x3a\x7c\x3a\xae\x25\xd8\x11\x57\xf9\x23\x99\x2d\xec\x83\x7b\xce\
            \xd1\xad\x79\xbf\x5e\x02\xa9\x41\xaa\x16\xf1\x6d\xf4\x27\xc1\x75\x73\x72\xf8\x01\
            \x39\xb1\xdf\x33\x91\x0a\xa4\x24\x3f\xc4\xff\x1b\x30\x9e\xfd\x89\x91\x2f\x6e\xd9\
            \xdc\x18\x4c\x1e",
    },
    Separate {
        cipher: Cbc::Aes256,
        integrity: Integrity::HmacSha2_512_256,
        body: b"\x27\x16\xf5\x7f\x3a\x7c\x3a\xae\x25\xd8\x11\x57\xf9\x23\x99\x2d\xec\x83\x7b\xce\
            \xd1\xad\x79\xbf\x5e\x02\xa9\x41\xaa\x16\xf1\x6d\xf4\x27\xc1\x75\x73\x72\xf8\x01\
            \x39\xb1\xdf\x33\x91\x0a\xa4\x24\x09\xb6\x10\x08\xfb\x27\x05\xef\x33\x14\x2a\x33\
            \xfa\x24\xeb\x91\x06\x1e\xd4\xdc\xef\xe4\x47\x5b\xc8\xda\x1f\x29\x03\x0d\x9a\x2d",
    },
    Separate {
        cipher: Cbc::TripleDes,
        integrity: Integrity::HmacMd5_96,
        body: b"\xf3\xff\xe1\x20\xcc\xc9\x69\xa3\x83\x07\xd6\xee\x40\x7a\xf0\x21\x6a\x25\xb4\x89\
            \x3e\x16\x4d\x85\x57\xcf\x3a\xda\x3c\xd5\xc3\xaa\x34\x82\x4c\x9d\x08\xa8\xb5\x51\
            \xed\xb4\xe8\x0e\x83\xef\x86\xd5\x8f\xa5\xa4\x11",
    },
];

/// Whether the engine computes the known answers and refuses forgeries.
pub(super) fn passes(engine: &Engine) -> Result<bool, EngineError> {
    let mut lanes = engine.lanes()?;
    Ok(KNOWN_ANSWERS.iter().all(|answer| computes(engine, &mut lanes, answer))
        && SEPARATE.iter().all(|answer| computes_separately(engine, &mut lanes, answer)))
}

fn computes(engine: &Engine, lanes: &mut Lanes, answer: &KnownAnswer) -> bool {
    let sealed = [&answer.ciphertext[..], &answer.icv].concat();
    let keys = Keys { cipher: answer.key, integrity: &[] };
    let trial = Trial { algorithm: Algorithm::Combined(answer.aead), keys, nonce: &NONCE, aad: &AAD };
    trial.succeeds(engine, lanes, &[], &sealed, 0, &PLAINTEXT)
}

fn computes_separately(engine: &Engine, lanes: &mut Lanes, answer: &Separate) -> bool {
    let algorithm = Algorithm::Separate(answer.cipher, answer.integrity);
    let keys = Keys {
        cipher: &KEYS[..algorithm.key_bytes()],
        integrity: &KEYS[KEYS.len() - algorithm.integrity_key_bytes()..],
    };
    let trial = Trial { algorithm, keys, nonce: &SEPARATE_NONCE, aad: &SEPARATE_AAD };
    let plaintext_at = algorithm.framing().payload_at();
    trial.succeeds(engine, lanes, &SEPARATE_HEADER, answer.body, plaintext_at, &PASSENGER)
}

struct Trial<'a> {
    algorithm: Algorithm,
    keys: Keys<'a>,
    nonce: &'a [u8; 12],
    aad: &'a [u8],
}

impl Trial<'_> {
    /// The plaintext becomes what is sealed and the reverse; with its last bit flipped that opens no more.
    fn succeeds(
        &self,
        engine: &Engine,
        lanes: &mut Lanes,
        header: &[u8],
        body: &[u8],
        plaintext_at: usize,
        plaintext: &[u8],
    ) -> bool {
        let mut key = SaKey::default();
        if engine.expand(self.algorithm, self.keys, &mut key).is_err() {
            return false;
        }
        let (key, nonce, aad) = (&key, self.nonce, self.aad);
        let sealed = [header, body].concat();
        let text = plaintext_at..plaintext_at + plaintext.len();
        let mut packet = vec![0; sealed.len()];
        packet[..header.len()].copy_from_slice(header);
        packet[text.clone()].copy_from_slice(plaintext);
        let op = SealOp { key, nonce, aad, text_and_icv: &mut packet };
        if lanes.seal(std::iter::once(op)) != 1 || packet != sealed {
            return false;
        }
        let mut forged = packet.clone();
        if let Some(last) = forged.last_mut() {
            *last ^= 1;
        }
        let ops = [
            OpenOp { key, nonce, aad, text_and_icv: &mut packet },
            OpenOp { key, nonce, aad, text_and_icv: &mut forged },
        ];
        lanes.open(ops.into_iter()) == 0b01 && packet[text] == *plaintext
    }
}
