//! The keys of an IKE SA as they are kept for an engine that follows this one.
//!
//! SK_pi and SK_pr are not among them: they serve IKE_AUTH alone (RFC 7296 section 2.15), which is over. Nor is SKEYID, of
//! which HASH_I and HASH_R are made (RFC 2409 section 5).

use zeroize::Zeroizing;

use super::seal::DirectionKey;
use super::{
    AdditionalKeyExchanges, CbcCipher, IkeCipher, IkeKeys, IkeSuite, OpeningKey, PhaseOneKeys, SealingKey,
    Secret,
};
use crate::wire::{Reader, WireError, Writer};
use crate::{Group, Hash, IkeEncryption, KeyEncapsulation};

/// In the order in which they came: the place of each is what is written.
const CIPHERS: [IkeEncryption; 7] = [
    IkeEncryption::Aes128Gcm16,
    IkeEncryption::Aes256Gcm16,
    IkeEncryption::Aes128Cbc,
    IkeEncryption::Aes192Cbc,
    IkeEncryption::Aes256Cbc,
    IkeEncryption::TripleDesCbc,
    IkeEncryption::ChaCha20Poly1305,
];
const HASHES: [Hash; 5] = [Hash::Md5, Hash::Sha1, Hash::Sha2_256, Hash::Sha2_384, Hash::Sha2_512];
/// Where a suite has none of a kind.
const NONE: u8 = 0xff;

impl IkeKeys {
    /// Writes suite and keys, and the run of IVs that they are in.
    pub(crate) fn keep(&self, writer: &mut Writer) {
        let suite = &self.suite;
        writer.u8(code(&CIPHERS, &suite.cipher.encryption()));
        writer.u8(suite.cipher.integrity().map_or(NONE, |hash| code(&HASHES, &hash)));
        writer.u8(code(&HASHES, &suite.prf));
        writer.u16(suite.group.number());
        for method in &suite.additional {
            writer.u16(method.map_or(0, KeyEncapsulation::number));
        }
        writer.u32(self.sealing.run());
        let (ours, theirs) = (self.sealing.key(), self.opening.key());
        for secret in [&self.derive, &ours.encryption, &ours.integrity, &theirs.encryption, &theirs.integrity]
        {
            writer.counted(secret);
        }
    }

    /// Reads what [`IkeKeys::keep`] wrote. What is sealed from now on is in the next run of IVs.
    pub(crate) fn resume(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let encryption = *CIPHERS.get(usize::from(reader.u8()?)).ok_or(WireError::BadValue)?;
        let integrity = hash(reader.u8()?);
        let prf = hash(reader.u8()?).ok_or(WireError::BadValue)?;
        let group = Group::from_number(reader.u16()?).ok_or(WireError::BadValue)?;
        let mut additional = AdditionalKeyExchanges::default();
        for method in &mut additional {
            *method = match reader.u16()? {
                0 => None,
                number => Some(KeyEncapsulation::from_number(number).ok_or(WireError::BadValue)?),
            };
        }
        let cipher = cipher(encryption, integrity).ok_or(WireError::BadValue)?;
        let run = reader.u32()?.checked_add(1).ok_or(WireError::BadValue)?;
        let mut secret = |len: usize| -> Result<Secret, WireError> {
            let bytes = reader.counted()?;
            if bytes.len() == len { Ok(Zeroizing::new(bytes.to_vec())) } else { Err(WireError::BadLength) }
        };
        let derive = secret(prf.len_bytes())?;
        let mut direction = || {
            let encryption = secret(cipher.encryption_key_len_bytes())?;
            let integrity = secret(cipher.integrity_key_len_bytes())?;
            Ok(DirectionKey { cipher, encryption, integrity })
        };
        let (ours, theirs) = (direction()?, direction()?);
        Ok(Self {
            suite: IkeSuite { cipher, prf, group, additional },
            derive,
            auth_initiator: Secret::default(),
            auth_responder: Secret::default(),
            sealing: SealingKey::in_run(ours, run),
            opening: OpeningKey::of(theirs),
        })
    }
}

impl PhaseOneKeys {
    /// Writes hash, cipher and keys.
    pub(crate) fn keep(&self, encryption: IkeEncryption, writer: &mut Writer) {
        writer.u8(code(&CIPHERS, &encryption));
        writer.u8(code(&HASHES, &self.hash));
        for secret in self.lasting() {
            writer.counted(secret);
        }
    }

    /// Reads what [`PhaseOneKeys::keep`] wrote, and the name of the cipher.
    pub(crate) fn resume(reader: &mut Reader<'_>) -> Result<(IkeEncryption, Self), WireError> {
        let encryption = *CIPHERS.get(usize::from(reader.u8()?)).ok_or(WireError::BadValue)?;
        let cipher = CbcCipher::new(encryption).ok_or(WireError::BadValue)?;
        let hash = hash(reader.u8()?).ok_or(WireError::BadValue)?;
        let mut secret = |len: usize| -> Result<Secret, WireError> {
            let bytes = reader.counted()?;
            if bytes.len() == len { Ok(Zeroizing::new(bytes.to_vec())) } else { Err(WireError::BadLength) }
        };
        let lasting = [secret(hash.len_bytes())?, secret(hash.len_bytes())?, secret(cipher.key_len_bytes())?];
        Ok((encryption, Self::after_phase_one(hash, cipher, lasting)))
    }
}

fn cipher(encryption: IkeEncryption, integrity: Option<Hash>) -> Option<IkeCipher> {
    Some(match (encryption, integrity) {
        (IkeEncryption::Aes128Gcm16, None) => IkeCipher::Aes128Gcm16,
        (IkeEncryption::Aes256Gcm16, None) => IkeCipher::Aes256Gcm16,
        (IkeEncryption::ChaCha20Poly1305, None) => IkeCipher::ChaCha20Poly1305,
        (IkeEncryption::Aes128Cbc, Some(hash)) => IkeCipher::Aes128Cbc(hash),
        (IkeEncryption::Aes192Cbc, Some(hash)) => IkeCipher::Aes192Cbc(hash),
        (IkeEncryption::Aes256Cbc, Some(hash)) => IkeCipher::Aes256Cbc(hash),
        (IkeEncryption::TripleDesCbc, Some(hash)) => IkeCipher::TripleDesCbc(hash),
        _ => return None,
    })
}

/// The place of a value in its list. A value that were missing there would be written as one that no reader takes.
fn code<T: PartialEq>(all: &[T], value: &T) -> u8 {
    all.iter().position(|known| known == value).and_then(|place| u8::try_from(place).ok()).unwrap_or(NONE)
}

fn hash(code: u8) -> Option<Hash> {
    HASHES.get(usize::from(code)).copied()
}
