//! The surface of what outlives an engine.

pub(crate) mod pair;
pub(crate) mod sa;
pub(crate) mod terms;

use zeroize::Zeroizing;

use crate::v1::resume::KeptPhaseOne;
use crate::v2::resume::KeptIkeSa;
use crate::wire::{Reader, WireError};
use crate::{ChildId, Connection, ConnectionId};

/// Version of the form. Another one is not read: the SA is negotiated anew.
pub(crate) const FORM: u8 = 5;

/// Times that a peer is asked again whether it still has the SA. Its pairs stay in use, whatever it says: to negotiate
/// anew costs no packet, but each moment of a peer that has lost everything does.
pub(crate) const ASKED_AGAIN: u32 = 2;

/// What ends an SA that the peer does not vouch for.
pub(crate) const NOT_ANSWERED: &str = "the peer did not answer on it";

/// A change of what is kept of an IKE SA. It bears keys: it is stored sealed, or not at all.
pub struct Keeping {
    /// Names the IKE SA: our SPI, which is never given twice.
    pub name: u64,
    /// What is kept from now on, to be read by [`Resumable::read`]; `None` for nothing.
    pub state: Option<Zeroizing<Vec<u8>>>,
}

/// A pair of an IKE SA that may be resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumablePair {
    /// The child that it serves.
    pub child: ChildId,
    /// Our inbound SPI.
    pub spi_in: u32,
    /// The peer's inbound SPI.
    pub spi_out: u32,
    /// The child sends on it; see [`Resumable::sends_on`].
    pub sends: bool,
}

/// Why an IKE SA of an engine before this one cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotResumed {
    /// Another version of this program kept it.
    #[error("what was kept of it is in another form")]
    Form,
    /// The configuration has changed.
    #[error("it was made under another configuration")]
    Connection,
    /// Too much time has passed.
    #[error("its lifetime is over")]
    Expired,
    /// The peer's certificates are not trusted any more.
    #[error("the peer's certificate is not accepted any more: {0}")]
    Certificate(String),
}

/// An IKE SA that may be resumed, once.
pub struct Resumable(pub(crate) Kept);

/// Of which version of IKE it is.
pub(crate) enum Kept {
    PhaseOne(Box<KeptPhaseOne>),
    IkeSa(Box<KeptIkeSa>),
}

impl Kept {
    /// What stands behind [`FORM`].
    pub(crate) const VERSION_1: u8 = 1;
    pub(crate) const VERSION_2: u8 = 2;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        match (reader.u8()?, reader.u8()?) {
            (FORM, Self::VERSION_1) => Ok(Self::PhaseOne(Box::new(KeptPhaseOne::decode(reader)?))),
            (FORM, Self::VERSION_2) => Ok(Self::IkeSa(Box::new(KeptIkeSa::decode(reader)?))),
            _ => Err(WireError::BadVersion),
        }
    }
}

impl Resumable {
    /// Reads what came out as [`crate::Output::Keep`].
    ///
    /// # Errors
    /// It is of another program's form, or no state at all.
    pub fn read(state: &[u8]) -> Result<Self, NotResumed> {
        let mut reader = Reader::new(state);
        let kept = Kept::decode(&mut reader).map_err(|_| NotResumed::Form)?;
        if reader.is_empty() { Ok(Self(kept)) } else { Err(NotResumed::Form) }
    }

    fn sa(&self) -> &sa::KeptSa {
        match &self.0 {
            Kept::PhaseOne(kept) => &kept.sa,
            Kept::IkeSa(kept) => &kept.sa,
        }
    }

    /// The connection that it belonged to.
    pub fn connection(&self) -> ConnectionId {
        self.sa().connection
    }

    /// What it was kept under.
    pub fn name(&self) -> u64 {
        self.sa().name()
    }

    pub(crate) fn age(&self) -> std::time::Duration {
        self.sa().age
    }

    /// Its pairs, all of which the dataplane must have.
    pub fn pairs(&self) -> impl Iterator<Item = &ResumablePair> {
        self.sa().pairs.iter().map(|kept| &kept.pair)
    }

    /// Notes that the child of the pair with this inbound SPI sends on it.
    pub fn sends_on(&mut self, spi_in: u32) {
        let pairs = match &mut self.0 {
            Kept::PhaseOne(kept) => &mut kept.sa.pairs,
            Kept::IkeSa(kept) => &mut kept.sa.pairs,
        };
        for kept in pairs.iter_mut().filter(|kept| kept.pair.spi_in == spi_in) {
            kept.pair.sends = true;
        }
    }

    /// Whether it may go on under the connection as it is now.
    ///
    /// # Errors
    /// Its time is over, or what was agreed with the peer is not what is wanted.
    pub fn fits(&self, connection: &Connection, unix_secs: u64) -> Result<(), NotResumed> {
        match &self.0 {
            Kept::PhaseOne(kept) => kept.sa.fits(kept.key_of_terms(), connection, unix_secs),
            Kept::IkeSa(kept) => kept.sa.fits(kept.key_of_terms(), connection, unix_secs),
        }
    }
}
