//! What an engine must compute before it may be used: two known answers of the GCM specification (test cases 4 and 16 of
//! McGrew and Viega, "The Galois/Counter Mode of Operation"), there and back, and a forged ICV refused.

use super::{Algorithm, Engine, OpenOp, SaKey, SealOp};

struct KnownAnswer {
    algorithm: Algorithm,
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

const KNOWN_ANSWERS: [KnownAnswer; 2] = [
    KnownAnswer {
        algorithm: Algorithm::Aes128Gcm16,
        key: KEY.split_at(16).0,
        ciphertext: *b"\x42\x83\x1e\xc2\x21\x77\x74\x24\x4b\x72\x21\xb7\x84\xd0\xd4\x9c\
            \xe3\xaa\x21\x2f\x2c\x02\xa4\xe0\x35\xc1\x7e\x23\x29\xac\xa1\x2e\
            \x21\xd5\x14\xb2\x54\x66\x93\x1c\x7d\x8f\x6a\x5a\xac\x84\xaa\x05\
            \x1b\xa3\x0b\x39\x6a\x0a\xac\x97\x3d\x58\xe0\x91",
        icv: *b"\x5b\xc9\x4f\xbc\x32\x21\xa5\xdb\x94\xfa\xe9\x5a\xe7\x12\x1a\x47",
    },
    KnownAnswer {
        algorithm: Algorithm::Aes256Gcm16,
        key: &KEY,
        ciphertext: *b"\x52\x2d\xc1\xf0\x99\x56\x7d\x07\xf4\x7f\x37\xa3\x2a\x84\x42\x7d\
            \x64\x3a\x8c\xdc\xbf\xe5\xc0\xc9\x75\x98\xa2\xbd\x25\x55\xd1\xaa\
            \x8c\xb0\x8e\x48\x59\x0d\xbb\x3d\xa7\xb0\x8b\x10\x56\x82\x88\x38\
            \xc5\xf6\x1e\x63\x93\xba\x7a\x0a\xbc\xc9\xf6\x62",
        icv: *b"\x76\xfc\x6e\xce\x0f\x4e\x17\x68\xcd\xdf\x88\x53\xbb\x2d\x55\x1b",
    },
];

/// Whether the engine computes the known answers and refuses a forgery.
pub(super) fn passes(engine: &Engine) -> bool {
    KNOWN_ANSWERS.iter().all(|answer| computes(engine, answer))
}

fn computes(engine: &Engine, answer: &KnownAnswer) -> bool {
    let mut key = SaKey::default();
    if engine.expand(answer.algorithm, answer.key, &mut key).is_err() {
        return false;
    }
    let mut packet = [0; 76];
    packet[..60].copy_from_slice(&PLAINTEXT);
    let op = SealOp { key: &key, nonce: &NONCE, aad: &AAD, text_and_icv: &mut packet };
    if engine.seal(std::iter::once(op)) != 1
        || packet[..60] != answer.ciphertext
        || packet[60..] != answer.icv
    {
        return false;
    }
    let mut forged = packet;
    forged[75] ^= 1;
    let ops = [
        OpenOp { key: &key, nonce: &NONCE, aad: &AAD, text_and_icv: &mut packet },
        OpenOp { key: &key, nonce: &NONCE, aad: &AAD, text_and_icv: &mut forged },
    ];
    engine.open(ops.into_iter()) == 0b01 && packet[..60] == PLAINTEXT
}
