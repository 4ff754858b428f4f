//! The algorithms of ESP, and what each needs: keys, IV, alignment, ICV.

use crate::framing::Framing;

/// An ESP algorithm: one that encrypts and authenticates at once, or one for each (RFC 4303 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Combined mode, with a salt of 4 octets and an ICV of 16.
    Combined(Aead),
    /// Separate: a cipher in CBC mode, then HMAC over what it made.
    Separate(Cbc, Integrity),
}

/// A cipher of combined mode. All are laid out alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aead {
    /// AES-128-GCM (RFC 4106).
    Aes128Gcm,
    /// AES-256-GCM (RFC 4106).
    Aes256Gcm,
    /// ChaCha20-Poly1305 (RFC 7634).
    ChaCha20Poly1305,
}

/// A cipher in CBC mode, its IV in front of each ciphertext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cbc {
    /// AES-128 (RFC 3602).
    Aes128,
    /// AES-192 (RFC 3602).
    Aes192,
    /// AES-256 (RFC 3602).
    Aes256,
    /// Triple DES with three keys (RFC 2451). Insecure: its block has 64 bits (RFC 8221 section 5).
    TripleDes,
}

/// HMAC, truncated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// HMAC-MD5-96 (RFC 2403). Insecure (RFC 8221 section 6).
    HmacMd5_96,
    /// HMAC-SHA-1-96 (RFC 2404). Insecure.
    HmacSha1_96,
    /// HMAC-SHA-256-128 (RFC 4868).
    HmacSha2_256_128,
    /// HMAC-SHA-384-192 (RFC 4868).
    HmacSha2_384_192,
    /// HMAC-SHA-512-256 (RFC 4868).
    HmacSha2_512_256,
}

impl Algorithm {
    /// Length of the cipher's key without salt, in bytes.
    pub const fn key_bytes(self) -> usize {
        match self {
            Self::Combined(aead) => aead.key_bytes(),
            Self::Separate(cipher, _) => cipher.key_bytes(),
        }
    }

    /// Length of the integrity key, in bytes; zero in combined mode.
    pub const fn integrity_key_bytes(self) -> usize {
        match self {
            Self::Combined(_) => 0,
            Self::Separate(_, integrity) => integrity.key_bytes(),
        }
    }

    /// How its packets are laid out.
    pub const fn framing(self) -> Framing {
        match self {
            Self::Combined(_) => Framing::COMBINED,
            Self::Separate(cipher, integrity) => {
                Framing::separate(cipher.block_bytes(), integrity.icv_bytes())
            }
        }
    }
}

impl Aead {
    /// Every cipher.
    pub const ALL: [Self; 3] = [Self::Aes128Gcm, Self::Aes256Gcm, Self::ChaCha20Poly1305];

    /// Length of the key without salt, in bytes (RFC 4106 section 8.1, RFC 7634 section 2).
    pub const fn key_bytes(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes256Gcm | Self::ChaCha20Poly1305 => 32,
        }
    }
}

impl Cbc {
    /// Every cipher.
    pub const ALL: [Self; 4] = [Self::Aes128, Self::Aes192, Self::Aes256, Self::TripleDes];

    /// Length of the key, in bytes (RFC 3602 section 2.1, RFC 2451 section 2.2).
    pub const fn key_bytes(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::Aes192 | Self::TripleDes => 24,
            Self::Aes256 => 32,
        }
    }

    /// Length of a block, and of the IV, in bytes (RFC 3602 section 2, RFC 2451 section 2.3).
    pub const fn block_bytes(self) -> u8 {
        match self {
            Self::Aes128 | Self::Aes192 | Self::Aes256 => 16,
            Self::TripleDes => 8,
        }
    }
}

impl Integrity {
    /// Every algorithm.
    pub const ALL: [Self; 5] = [
        Self::HmacMd5_96,
        Self::HmacSha1_96,
        Self::HmacSha2_256_128,
        Self::HmacSha2_384_192,
        Self::HmacSha2_512_256,
    ];

    /// Length of the key, in bytes: that of the hash (RFC 2403 section 2, RFC 2404 section 2, RFC 4868 section 2.1.1).
    pub const fn key_bytes(self) -> usize {
        match self {
            Self::HmacMd5_96 => 16,
            Self::HmacSha1_96 => 20,
            Self::HmacSha2_256_128 => 32,
            Self::HmacSha2_384_192 => 48,
            Self::HmacSha2_512_256 => 64,
        }
    }

    /// Length of the ICV, in bytes.
    pub const fn icv_bytes(self) -> u8 {
        match self {
            Self::HmacMd5_96 | Self::HmacSha1_96 => 12,
            Self::HmacSha2_256_128 => 16,
            Self::HmacSha2_384_192 => 24,
            Self::HmacSha2_512_256 => 32,
        }
    }
}
