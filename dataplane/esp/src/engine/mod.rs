//! The engines that seal and open: one chosen at start-up, called with whole bursts.

#[cfg(feature = "ipsec-mb")]
mod ipsec_mb;
mod iv;
mod lanes;
mod op;
mod portable;
mod self_test;
mod separate;
#[cfg(test)]
mod vectors;

use thiserror::Error;

pub use self::lanes::Lanes;
pub use self::op::{OpenOp, SealOp};
use crate::algorithm::Algorithm;
use crate::framing::COMBINED_ICV_BYTES;

/// An integrity check value of combined mode.
pub type Icv = [u8; COMBINED_ICV_BYTES];

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
    /// ipsec-mb if it is built in and the CPU can run it, but for what the portable one does faster on this CPU; else the
    /// portable one.
    #[default]
    Auto,
    /// ipsec-mb or nothing, whatever is faster. Triple DES alone is left to the portable one where the library has no lanes
    /// for it.
    IpsecMb,
    /// The portable one.
    Portable,
}

/// Which engine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The distribution's libipsec-mb.
    IpsecMb,
    /// That of RustCrypto.
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

/// What a thread has of an engine: it does whole batches, of packets of any SAs and algorithms.
pub trait CipherEngine {
    /// Encrypts a batch of at most [`MAX_BATCH`] packets. Bit `i` of the result is set when operation `i` was done; a
    /// packet without its bit must not leave.
    fn seal<'a>(&mut self, ops: impl Iterator<Item = SealOp<'a>>) -> u64;

    /// Decrypts a batch of at most [`MAX_BATCH`] packets. Bit `i` of the result is set when packet `i` is authentic.
    fn open<'a>(&mut self, ops: impl Iterator<Item = OpenOp<'a>>) -> u64;
}

/// The expanded key of an SA, made by [`Engine::expand`] in its final place. It wipes itself when dropped.
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
    IpsecMb(ipsec_mb::gcm::Key),
    #[cfg(feature = "ipsec-mb")]
    IpsecMbSeparate(ipsec_mb::separate::Key),
    #[cfg(feature = "ipsec-mb")]
    IpsecMbChaCha(ipsec_mb::chacha::Key),
    Portable(portable::Key),
    /// As the one before of the portable engine, or of ipsec-mb where that has nothing faster.
    PortableSeparate(Box<separate::Key>),
}

impl SaKey {
    /// Reads a byte of the key schedule, so that it is in the cache when a packet needs it; tells nothing of the key.
    #[inline]
    pub fn touch(&self) -> u64 {
        match &self.0 {
            #[cfg(feature = "ipsec-mb")]
            Expanded::IpsecMb(key) => key.touch(),
            #[cfg(feature = "ipsec-mb")]
            Expanded::IpsecMbSeparate(key) => key.touch(),
            #[cfg(feature = "ipsec-mb")]
            Expanded::IpsecMbChaCha(key) => key.touch(),
            Expanded::Empty | Expanded::Portable(_) | Expanded::PortableSeparate(_) => 0,
        }
    }
}

impl std::fmt::Debug for SaKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SaKey(..)")
    }
}

/// The engine that was chosen. Cheap to copy and shared by all threads: it expands keys. A thread that seals and opens
/// has [`Lanes`] of its own.
#[derive(Clone, Copy, Debug)]
pub struct Engine(Selected);

#[derive(Clone, Copy, Debug)]
enum Selected {
    #[cfg(feature = "ipsec-mb")]
    IpsecMb(ipsec_mb::IpsecMb),
    Portable(portable::Portable),
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
            Choice::Auto => {
                let portable = Self(Selected::Portable(portable::Portable)).proven()?;
                Ok(Self::ipsec_mb().and_then(Self::proven).map_or(portable, Self::calibrated))
            }
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

    /// Measures once in a process, for some tens of milliseconds.
    fn calibrated(self) -> Self {
        match self.0 {
            #[cfg(feature = "ipsec-mb")]
            Selected::IpsecMb(engine) => Self(Selected::IpsecMb(engine.calibrated())),
            Selected::Portable(_) => self,
        }
    }

    fn proven(self) -> Result<Self, EngineError> {
        if self_test::passes(&self)? { Ok(self) } else { Err(EngineError::SelfTest(self.name())) }
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

    /// What the portable code does in this engine's place, for logs: suites and directions, and the sizes of packets if not
    /// all (`short` below 192 bytes, `middle` below 704, `long`).
    pub fn portable_parts(&self) -> String {
        match &self.0 {
            #[cfg(feature = "ipsec-mb")]
            Selected::IpsecMb(engine) => engine.portable_parts(),
            Selected::Portable(_) => "everything".to_owned(),
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
        match &self.0 {
            #[cfg(feature = "ipsec-mb")]
            Selected::IpsecMb(engine) => engine.expand(algorithm, keys, into),
            Selected::Portable(engine) => engine.expand(algorithm, keys, into),
        }
        Ok(())
    }

    /// What one thread needs to seal and open.
    ///
    /// # Errors
    /// The library did not start.
    pub fn lanes(&self) -> Result<Lanes, EngineError> {
        Lanes::new(self)
    }
}
