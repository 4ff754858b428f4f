//! The surface of what outlives an engine.

use zeroize::Zeroizing;

pub use crate::v2::resume::Resumable;

use crate::ChildId;

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
