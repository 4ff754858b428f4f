//! The keys of IKE SAs as they are made, so that a test can compare them with a peer's and hand them to a decoder. Built only
//! with the feature `key-log`, which no shipped program enables.

use std::cell::RefCell;

use crate::crypto::{IkeSuite, OpeningKey, Spis};
use crate::wire::{Message, Payload};
use crate::{Hash, IkeEncryption};

/// What was made on a thread, in order.
#[derive(Clone, Default)]
pub struct Made {
    /// Keys of IKE SAs of version 2: of one SA several times, where IKE_INTERMEDIATE changed them.
    pub ike_sas: Vec<KeyRecord>,
    /// What became of some of those keys by a post-quantum pre-shared key.
    pub mixed: Vec<MixedRecord>,
    /// Keys of ISAKMP SAs.
    pub phase_ones: Vec<PhaseOneRecord>,
}

/// Keys of an IKE SA (RFC 7296 section 2.14); of each pair, the initiator's first.
#[derive(Clone)]
pub struct KeyRecord {
    /// The initiator's SPI.
    pub spi_i: u64,
    /// The responder's SPI.
    pub spi_r: u64,
    pub(crate) suite: IkeSuite,
    /// SK_d.
    pub sk_d: Vec<u8>,
    /// SK_ai and SK_ar; empty with a combined cipher.
    pub sk_a: [Vec<u8>; 2],
    /// SK_ei and SK_er, with the salt of a combined cipher.
    pub sk_e: [Vec<u8>; 2],
    /// SK_pi and SK_pr.
    pub sk_p: [Vec<u8>; 2],
}

impl Made {
    /// What a decoder needs of this: for each SA a line with the name of one of Wireshark's tables of keys, a blank, and a row
    /// for that table.
    pub fn wireshark_rows(&self) -> String {
        let ikev2 = self.ike_sas.iter().map(|record| format!("ikev2_decryption_table {}\n", record.row()));
        let ikev1 = self
            .phase_ones
            .iter()
            .map(|record| format!("ikev1_decryption_table {:016x},{}\n", record.cookie_i, hex(&record.key)));
        ikev2.chain(ikev1).collect()
    }
}

impl KeyRecord {
    fn row(&self) -> String {
        let Self { spi_i, spi_r, sk_a: [ai, ar], sk_e: [ei, er], .. } = self;
        let [ai, ar, ei, er] = [ai, ar, ei, er].map(|key| hex(key));
        let (cipher, integrity) = (cipher(self.encryption()), integrity(self.integrity()));
        format!("{spi_i:016x},{spi_r:016x},{ei},{er},\"{cipher}\",{ai},{ar},\"{integrity}\"")
    }

    /// The cipher.
    pub fn encryption(&self) -> IkeEncryption {
        self.suite.cipher.encryption()
    }

    /// Opens a message of one end: the type of the first payload inside, and the chain. `None` if it is none, in pieces, or
    /// of other keys.
    pub fn open(&self, message: &[u8], of_initiator: bool) -> Option<(u8, Vec<u8>)> {
        let decoded = Message::decode(message).ok()?;
        let Some(Payload::Encrypted(encrypted)) = decoded.payloads.last() else { return None };
        let [cipher, integrity] = [&self.sk_e, &self.sk_a].map(|pair| {
            let [initiators, responders] = pair;
            if of_initiator { initiators.clone() } else { responders.clone() }
        });
        let opening = OpeningKey::new(self.suite.cipher, cipher.into(), integrity.into());
        Some((encrypted.first, opening.open(message, &encrypted.body).ok()?.to_vec()))
    }

    /// The integrity hash; `None` with a combined cipher.
    pub fn integrity(&self) -> Option<Hash> {
        self.suite.cipher.integrity()
    }
}

/// Keys that a post-quantum pre-shared key was mixed into (RFC 8784 section 3).
#[derive(Clone)]
pub struct MixedRecord {
    /// SK_d.
    pub sk_d: Vec<u8>,
    /// SK_pi and SK_pr.
    pub sk_p: [Vec<u8>; 2],
}

/// Keys of an ISAKMP SA (RFC 2409 section 5 and appendix B).
#[derive(Clone)]
pub struct PhaseOneRecord {
    /// The initiator's cookie.
    pub cookie_i: u64,
    /// The responder's cookie.
    pub cookie_r: u64,
    /// SKEYID.
    pub skeyid: Vec<u8>,
    /// SKEYID_d.
    pub skeyid_d: Vec<u8>,
    /// SKEYID_a.
    pub skeyid_a: Vec<u8>,
    /// SKEYID_e.
    pub skeyid_e: Vec<u8>,
    /// The cipher's key, stretched or cut of SKEYID_e.
    pub key: Vec<u8>,
}

impl PhaseOneRecord {
    pub(crate) fn new(cookies: Spis, skeyid: &[u8], [d, a, e]: [&[u8]; 3], key: &[u8]) -> Self {
        Self {
            cookie_i: cookies.initiator,
            cookie_r: cookies.responder,
            skeyid: skeyid.to_vec(),
            skeyid_d: d.to_vec(),
            skeyid_a: a.to_vec(),
            skeyid_e: e.to_vec(),
            key: key.to_vec(),
        }
    }
}

/// Names of Wireshark 4.0; it does not know the last.
fn cipher(encryption: IkeEncryption) -> &'static str {
    match encryption {
        IkeEncryption::Aes128Gcm16 => "AES-GCM-128 with 16 octet ICV [RFC5282]",
        IkeEncryption::Aes256Gcm16 => "AES-GCM-256 with 16 octet ICV [RFC5282]",
        IkeEncryption::Aes128Cbc => "AES-CBC-128 [RFC3602]",
        IkeEncryption::Aes192Cbc => "AES-CBC-192 [RFC3602]",
        IkeEncryption::Aes256Cbc => "AES-CBC-256 [RFC3602]",
        IkeEncryption::TripleDesCbc => "3DES [RFC2451]",
        IkeEncryption::ChaCha20Poly1305 => "ChaCha20-Poly1305 [RFC7634]",
    }
}

fn integrity(hash: Option<Hash>) -> &'static str {
    match hash {
        None => "NONE [RFC4306]",
        Some(Hash::Md5) => "HMAC_MD5_96 [RFC2403]",
        Some(Hash::Sha1) => "HMAC_SHA1_96 [RFC2404]",
        Some(Hash::Sha2_256) => "HMAC_SHA2_256_128 [RFC4868]",
        Some(Hash::Sha2_384) => "HMAC_SHA2_384_192 [RFC4868]",
        Some(Hash::Sha2_512) => "HMAC_SHA2_512_256 [RFC4868]",
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

thread_local! {
    static MADE: RefCell<Made> = RefCell::default();
}

pub(crate) fn record(record: KeyRecord) {
    MADE.with_borrow_mut(|made| made.ike_sas.push(record));
}

pub(crate) fn mixed(record: MixedRecord) {
    MADE.with_borrow_mut(|made| made.mixed.push(record));
}

pub(crate) fn phase_one(record: PhaseOneRecord) {
    MADE.with_borrow_mut(|made| made.phase_ones.push(record));
}

/// What was recorded on this thread since the last call.
pub fn take() -> Made {
    MADE.take()
}
