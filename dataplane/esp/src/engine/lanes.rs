//! What one thread has of the engine that was chosen.

#[cfg(feature = "ipsec-mb")]
use super::ipsec_mb;
use super::portable::Portable;
use super::{CipherEngine, Engine, EngineError, OpenOp, SealOp, Selected};

/// Seals and opens batches on one thread. With ipsec-mb it is the lanes in which several packets are encrypted and
/// authenticated at once; all are empty when a call returns.
#[derive(Debug)]
pub struct Lanes(Kind);

#[derive(Debug)]
enum Kind {
    #[cfg(feature = "ipsec-mb")]
    IpsecMb(ipsec_mb::Lanes),
    Portable(Portable),
}

impl Lanes {
    pub(super) fn new(engine: &Engine) -> Result<Self, EngineError> {
        Ok(Self(match engine.0 {
            #[cfg(feature = "ipsec-mb")]
            Selected::IpsecMb(engine) => Kind::IpsecMb(ipsec_mb::Lanes::new(engine)?),
            Selected::Portable(engine) => Kind::Portable(engine),
        }))
    }
}

impl CipherEngine for Lanes {
    #[inline]
    fn seal<'a>(&mut self, ops: impl Iterator<Item = SealOp<'a>>) -> u64 {
        match &mut self.0 {
            #[cfg(feature = "ipsec-mb")]
            Kind::IpsecMb(lanes) => lanes.seal(ops),
            Kind::Portable(engine) => engine.seal(ops),
        }
    }

    #[inline]
    fn open<'a>(&mut self, ops: impl Iterator<Item = OpenOp<'a>>) -> u64 {
        match &mut self.0 {
            #[cfg(feature = "ipsec-mb")]
            Kind::IpsecMb(lanes) => lanes.open(ops),
            Kind::Portable(engine) => engine.open(ops),
        }
    }
}
