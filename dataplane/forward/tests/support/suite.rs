//! The algorithms of an SA, as records name them.

use shm::records::{SaRecord, algorithm, integrity};

/// A cipher and, unless it is of combined mode, the integrity algorithm with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Suite {
    pub algorithm: u8,
    pub integrity: u8,
}

impl Suite {
    pub const AES_128_GCM: Self = Self { algorithm: algorithm::AES_128_GCM_16, integrity: integrity::NONE };
    pub const AES_256_GCM: Self = Self { algorithm: algorithm::AES_256_GCM_16, integrity: integrity::NONE };
    pub const CHACHA20_POLY1305: Self =
        Self { algorithm: algorithm::CHACHA20_POLY1305, integrity: integrity::NONE };
    /// What peers without AES-GCM have.
    pub const AES_256_CBC_SHA2_256: Self =
        Self { algorithm: algorithm::AES_256_CBC, integrity: integrity::HMAC_SHA2_256_128 };
    /// The longest IV with the longest ICV.
    pub const LONGEST: Self =
        Self { algorithm: algorithm::AES_256_CBC, integrity: integrity::HMAC_SHA2_512_256 };
    pub const TRIPLE_DES_MD5: Self =
        Self { algorithm: algorithm::TRIPLE_DES_CBC, integrity: integrity::HMAC_MD5_96 };

    /// Every suite, those of combined mode first.
    pub fn all() -> Vec<Self> {
        let ciphers = [
            algorithm::AES_256_CBC,
            algorithm::TRIPLE_DES_CBC,
            algorithm::AES_128_CBC,
            algorithm::AES_192_CBC,
        ];
        let separate = ciphers.into_iter().flat_map(|algorithm| {
            (integrity::HMAC_MD5_96..=integrity::HMAC_SHA2_512_256)
                .map(move |integrity| Self { algorithm, integrity })
        });
        [Self::AES_128_GCM, Self::AES_256_GCM, Self::CHACHA20_POLY1305].into_iter().chain(separate).collect()
    }

    /// Of a number that a test chose at random.
    pub fn any(number: u8) -> Self {
        let all = Self::all();
        all[usize::from(number) % all.len()]
    }

    pub fn is_combined(self) -> bool {
        algorithm::is_combined(self.algorithm)
    }

    /// As the engines name it.
    pub fn algorithm(self) -> esp::Algorithm {
        use esp::{Aead, Cbc};
        let combined = esp::Algorithm::Combined;
        let separate = |cipher| {
            let number = usize::from(self.integrity - integrity::HMAC_MD5_96);
            esp::Algorithm::Separate(cipher, esp::Integrity::ALL[number])
        };
        match self.algorithm {
            algorithm::AES_128_GCM_16 => combined(Aead::Aes128Gcm),
            algorithm::AES_256_GCM_16 => combined(Aead::Aes256Gcm),
            algorithm::CHACHA20_POLY1305 => combined(Aead::ChaCha20Poly1305),
            algorithm::AES_128_CBC => separate(Cbc::Aes128),
            algorithm::AES_192_CBC => separate(Cbc::Aes192),
            algorithm::AES_256_CBC => separate(Cbc::Aes256),
            _ => separate(Cbc::TripleDes),
        }
    }

    /// Length of the cipher's key.
    pub fn key_len(self) -> usize {
        usize::from(algorithm::key_len(self.algorithm).unwrap())
    }

    /// Length of the integrity key.
    pub fn integrity_key_len(self) -> usize {
        integrity::key_len(self.integrity).unwrap()
    }

    /// Puts it into a record whose fields for keys are full, and cuts those to its lengths.
    pub fn put(self, record: &mut SaRecord) {
        (record.algorithm, record.integrity) = (self.algorithm, self.integrity);
        record.key_len = self.key_len() as u16;
        record.key[self.key_len()..].fill(0);
        record.integrity_key[self.integrity_key_len()..].fill(0);
        if !self.is_combined() {
            record.salt = [0; 4];
        }
    }
}

impl std::fmt::Debug for Suite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.cipher_name(), self.integrity_name())
    }
}

/// As scapy calls them.
impl Suite {
    pub fn cipher_name(self) -> &'static str {
        match self.algorithm {
            algorithm::AES_128_GCM_16 | algorithm::AES_256_GCM_16 => "AES-GCM",
            algorithm::CHACHA20_POLY1305 => "CHACHA20-POLY1305",
            algorithm::TRIPLE_DES_CBC => "3DES",
            _ => "AES-CBC",
        }
    }

    pub fn integrity_name(self) -> &'static str {
        match self.integrity {
            integrity::HMAC_MD5_96 => "HMAC-MD5-96",
            integrity::HMAC_SHA1_96 => "HMAC-SHA1-96",
            integrity::HMAC_SHA2_256_128 => "SHA2-256-128",
            integrity::HMAC_SHA2_384_192 => "SHA2-384-192",
            integrity::HMAC_SHA2_512_256 => "SHA2-512-256",
            _ => "NULL",
        }
    }
}
