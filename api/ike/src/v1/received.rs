//! A message as it came.

use crate::wire::WireError;
use crate::wire::isakmp::{Header, Payload, decode_chain};
use crate::{Classified, Path};

/// A message, its header read, and the path on which it came.
#[derive(Clone, Copy)]
pub(super) struct Received<'a> {
    pub(super) path: Path,
    pub(super) header: Header,
    /// All of it.
    pub(super) message: &'a [u8],
    /// What follows the header.
    pub(super) body: &'a [u8],
}

impl<'a> Received<'a> {
    pub(super) fn decode(path: Path, message: &'a [u8]) -> Result<Self, WireError> {
        let (header, body) = Header::decode(message)?;
        Ok(Self { path, header, message, body })
    }

    /// The payloads of a message in clear: they must fill it.
    pub(super) fn payloads(&self) -> Result<Vec<Payload>, Classified> {
        match decode_chain(self.header.first, self.body) {
            Ok((payloads, [])) => Ok(payloads),
            _ => Err(Classified::Dropped("bad_chain")),
        }
    }
}
