//! The engines that seal and open: one chosen at start-up, called with whole bursts.

#[cfg(feature = "ipsec-mb")]
mod ipsec_mb;
mod portable;
mod self_test;
mod separate;

use thiserror::Error;

use crate::algorithm::{Algorithm, Gcm};
use crate::framing::{GCM_ICV_BYTES, Nonce};

/// An integrity check value of AES-GCM.
pub type Icv = [u8; GCM_ICV_BYTES];

/// Most operations of one batch.
pub const MAX_BATCH: usize = 64;

/// The keys of an SA, as they were agreed.
#[derive(Clone, Copy)]
pub struct Keys<'a> {
    /// Of the cipher, without salt.
    pub cipher: &'a [u8],
    /// Of the integrity algorithm; empty in combined mode.
    pub integrity: &'a [u8],
}

/// Which engine an operator asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// ipsec-mb if it is built in and the CPU can run it, else the portable one.
    #[default]
    Auto,
    /// ipsec-mb or nothing.
    IpsecMb,
    /// The portable one.
    Portable,
}

/// Which engine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The distribution's libipsec-mb.
    IpsecMb,
    /// RustCrypto's aes-gcm.
    Portable,
}

/// Why an engine can't be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EngineError {
    /// The program was built without it.
    #[error("this program was built without the ipsec-mb engine")]
    NotBuilt,
    /// The CPU lacks instructions that it needs.
    #[error("the CPU lacks {0}, which the ipsec-mb engine needs")]
    CpuLacks(&'static str),
    /// The library did not give a manager or a function.
    #[error("libipsec-mb failed to start (error {0})")]
    Library(i32),
    /// It did not compute the known answers.
    #[error("the {0} engine failed its self-test")]
    SelfTest(&'static str),
    /// A key of the wrong length.
    #[error("{which} key of {found} bytes where the algorithm has {expected}")]
    KeyLength {
        /// Of which part of the algorithm, with its article.
        which: &'static str,
        /// Bytes needed.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
}

/// One encryption in place.
#[derive(Debug)]
pub struct SealOp<'a> {
    /// Key of the SA.
    pub key: &'a SaKey,
    /// Of the packet, never the same twice with one key. Written well before the call: a wide load of bytes just written
    /// by narrow stores stalls.
    pub nonce: &'a Nonce,
    /// SPI and sequence number as [`crate::framing::Aad`] has them, 8 or 12 bytes.
    pub aad: &'a [u8],
    /// From [`crate::framing::Framing::operation_at`] on: room for the IV if that is authenticated, plaintext, room for the
    /// ICV; IV, ciphertext and ICV afterwards.
    pub text_and_icv: &'a mut [u8],
}

/// One decryption in place. The text of a packet that is not authentic is left in an unspecified state.
#[derive(Debug)]
pub struct OpenOp<'a> {
    /// Key of the SA.
    pub key: &'a SaKey,
    /// Salt and IV with AES-GCM, else not looked at; written well before the call.
    pub nonce: &'a Nonce,
    /// SPI and sequence number as [`crate::framing::Aad`] has them, 8 or 12 bytes.
    pub aad: &'a [u8],
    /// From [`crate::framing::Framing::operation_at`] on: the IV if that is authenticated, ciphertext, ICV; plaintext in
    /// place of the ciphertext afterwards.
    pub text_and_icv: &'a mut [u8],
}

/// What an engine does with one packet of AES-GCM; [`Engine`] calls it for a batch.
pub trait CipherEngine {
    /// An expanded key: cipher rounds and hash powers. It wipes itself when dropped.
    type Key;

    /// Expands a key of the algorithm's length in place, so that no copy is left behind.
    fn expand(&self, gcm: Gcm, key: &[u8], into: &mut SaKey);

    /// The engine's part of a key; `None` if another engine expanded it.
    fn key<'a>(&self, key: &'a SaKey) -> Option<&'a Self::Key>;

    /// Encrypts `text` in place and writes its ICV; `false` if it could not.
    fn seal(&self, key: &Self::Key, nonce: &Nonce, aad: &[u8], text: &mut [u8], icv: &mut Icv) -> bool;

    /// Decrypts `text` in place; `false` if it is not authentic.
    fn open(&self, key: &Self::Key, nonce: &Nonce, aad: &[u8], text: &mut [u8], icv: &Icv) -> bool;
}

/// The expanded key of an SA, made by [`Engine::expand`] in its final place.
#[derive(Default)]
pub struct SaKey(Expanded);

#[derive(Default)]
#[cfg_attr(
    feature = "ipsec-mb",
    expect(clippy::large_enum_variant, reason = "the key lies in the block of its SA, not behind a pointer")
)]
enum Expanded {
    #[default]
    Empty,
    #[cfg(feature = "ipsec-mb")]
    IpsecMb(ipsec_mb::Key),
    Portable(portable::Key),
    /// Of whichever engine. Boxed: it is large, and not the one for speed.
    Separate(Box<separate::Key>),
}

impl SaKey {
    /// Reads a byte of the key schedule, so that it is in the cache when a packet needs it; tells nothing of the key.
    #[inline]
    pub fn touch(&self) -> u64 {
        match &self.0 {
            #[cfg(feature = "ipsec-mb")]
            Expanded::IpsecMb(key) => key.touch(),
            Expanded::Empty | Expanded::Portable(_) | Expanded::Separate(_) => 0,
        }
    }
}

impl std::fmt::Debug for SaKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SaKey(..)")
    }
}

/// The engine that was chosen. Cheap to copy and shared by all threads.
#[derive(Clone, Copy, Debug)]
pub struct Engine(Selected);

#[derive(Clone, Copy, Debug)]
enum Selected {
    #[cfg(feature = "ipsec-mb")]
    IpsecMb(ipsec_mb::IpsecMb),
    Portable(portable::Portable),
}

macro_rules! with_engine {
    ($self:expr, $engine:ident => $body:expr) => {
        match &$self.0 {
            #[cfg(feature = "ipsec-mb")]
            Selected::IpsecMb($engine) => $body,
            Selected::Portable($engine) => $body,
        }
    };
}

impl Engine {
    /// Chooses an engine and lets it prove itself with known answers.
    ///
    /// # Errors
    /// Why the engine that was asked for can't be used; with [`Choice::Auto`] only if the portable one fails its
    /// self-test.
    pub fn select(choice: Choice) -> Result<Self, EngineError> {
        match choice {
            Choice::Portable => Self(Selected::Portable(portable::Portable)).proven(),
            Choice::IpsecMb => Self::ipsec_mb()?.proven(),
            Choice::Auto => Self::ipsec_mb()
                .and_then(Self::proven)
                .or_else(|_| Self(Selected::Portable(portable::Portable)).proven()),
        }
    }

    #[cfg(feature = "ipsec-mb")]
    fn ipsec_mb() -> Result<Self, EngineError> {
        ipsec_mb::IpsecMb::new().map(Selected::IpsecMb).map(Self)
    }

    #[cfg(not(feature = "ipsec-mb"))]
    fn ipsec_mb() -> Result<Self, EngineError> {
        Err(EngineError::NotBuilt)
    }

    fn proven(self) -> Result<Self, EngineError> {
        if self_test::passes(&self) { Ok(self) } else { Err(EngineError::SelfTest(self.name())) }
    }

    /// Which engine this is.
    pub const fn kind(&self) -> Kind {
        match self.0 {
            #[cfg(feature = "ipsec-mb")]
            Selected::IpsecMb(_) => Kind::IpsecMb,
            Selected::Portable(_) => Kind::Portable,
        }
    }

    /// Name, as the operator writes it.
    pub const fn name(&self) -> &'static str {
        match self.kind() {
            Kind::IpsecMb => "ipsec-mb",
            Kind::Portable => "portable",
        }
    }

    /// The instruction sets that it uses, for status.
    pub const fn instructions(&self) -> &'static str {
        match &self.0 {
            #[cfg(feature = "ipsec-mb")]
            Selected::IpsecMb(engine) => engine.instructions(),
            Selected::Portable(_) => "detected by aes-gcm",
        }
    }

    /// Expands the keys of an SA in place.
    ///
    /// # Errors
    /// The length of a key is not the algorithm's.
    pub fn expand(&self, algorithm: Algorithm, keys: Keys<'_>, into: &mut SaKey) -> Result<(), EngineError> {
        for (which, key, expected) in [
            ("a cipher", keys.cipher, algorithm.key_bytes()),
            ("an integrity", keys.integrity, algorithm.integrity_key_bytes()),
        ] {
            if key.len() != expected {
                return Err(EngineError::KeyLength { which, expected, found: key.len() });
            }
        }
        match algorithm {
            Algorithm::Combined(gcm) => with_engine!(self, engine => engine.expand(gcm, keys.cipher, into)),
            Algorithm::Separate(cipher, integrity) => {
                let expanded = separate::Key::new(cipher, integrity, keys).map(Box::new);
                *into = SaKey(expanded.map_or(Expanded::Empty, Expanded::Separate));
            }
        }
        Ok(())
    }

    /// Encrypts a batch of at most [`MAX_BATCH`] packets. Bit `i` of the result is set when operation `i` was done; a
    /// packet without its bit must not leave.
    #[inline]
    pub fn seal<'a>(&self, ops: impl Iterator<Item = SealOp<'a>>) -> u64 {
        with_engine!(self, engine => run(ops, |op| {
            let Some(key) = engine.key(op.key) else { return seal_separately(op) };
            let Some((text, icv)) = op.text_and_icv.split_last_chunk_mut() else { return false };
            engine.seal(key, op.nonce, op.aad, text, icv)
        }))
    }

    /// Decrypts a batch of at most [`MAX_BATCH`] packets. Bit `i` of the result is set when packet `i` is authentic.
    #[inline]
    pub fn open<'a>(&self, ops: impl Iterator<Item = OpenOp<'a>>) -> u64 {
        with_engine!(self, engine => run(ops, |op| {
            let Some(key) = engine.key(op.key) else { return open_separately(op) };
            let Some((text, icv)) = op.text_and_icv.split_last_chunk_mut() else { return false };
            engine.open(key, op.nonce, op.aad, text, icv)
        }))
    }
}

/// Out of the way of AES-GCM.
#[cold]
#[inline(never)]
fn seal_separately(op: SealOp<'_>) -> bool {
    match &op.key.0 {
        Expanded::Separate(key) => key.seal(op.nonce, op.aad, op.text_and_icv),
        _ => false,
    }
}

#[cold]
#[inline(never)]
fn open_separately(op: OpenOp<'_>) -> bool {
    match &op.key.0 {
        Expanded::Separate(key) => key.open(op.aad, op.text_and_icv),
        _ => false,
    }
}

#[inline]
fn run<O>(ops: impl Iterator<Item = O>, mut one: impl FnMut(O) -> bool) -> u64 {
    let mut done = 0;
    for (at, op) in ops.take(MAX_BATCH).enumerate() {
        done |= u64::from(one(op)) << at;
    }
    done
}
