//! Post-quantum pre-shared keys (RFC 8784): a second secret that is mixed into SK_d, SK_pi and SK_pr, so that recorded
//! traffic stays closed even to who can break the key exchange.

use super::payloads::Picked;
use crate::wire::registry::notify;
use crate::wire::{Notify, Payload};
use crate::{Connection, Ppk};

/// PPK_ID_FIXED (RFC 8784 section 5.1): the name of a key that both ends were given.
const PPK_ID_FIXED: u8 = 2;

/// We can use a PPK, in IKE_SA_INIT.
pub(super) fn use_ppk() -> Payload {
    Payload::Notify(Notify::new(notify::USE_PPK, Vec::new()))
}

/// Which PPK the initiator used, in IKE_AUTH.
pub(super) fn identity(ppk: &Ppk) -> Payload {
    let mut data = vec![PPK_ID_FIXED];
    data.extend_from_slice(&ppk.id);
    Payload::Notify(Notify::new(notify::PPK_IDENTITY, data))
}

/// The responder used the PPK that the initiator named.
pub(super) fn confirmation() -> Payload {
    Payload::Notify(Notify::new(notify::PPK_IDENTITY, Vec::new()))
}

/// What a responder makes of the initiator's IKE_AUTH.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// The initiator used our PPK.
    Use,
    /// It did not, or used one that we lack, and both ends can do without.
    DoWithout,
}

/// Decides whether the connection's PPK counts (RFC 8784 section 3). `offered` says that both ends said USE_PPK. Where
/// the initiator used a key that we lack, its proof without one takes the place of its AUTH.
///
/// # Errors
/// A sentence for the operator: the connection demands what the peer did not do, or the reverse.
pub(super) fn choose(config: &Connection, offered: bool, picked: &mut Picked) -> Result<Choice, String> {
    let required = config.ppk.as_ref().is_some_and(|ppk| ppk.required);
    let named = picked.notify(notify::PPK_IDENTITY).filter(|_| offered).map(|named| named.data.clone());
    let Some(named) = named else {
        return if required {
            Err("the peer did not use the required PPK".to_owned())
        } else {
            Ok(Choice::DoWithout)
        };
    };
    if let (Some(ppk), Some((&PPK_ID_FIXED, id))) = (&config.ppk, named.split_first())
        && ppk.id == id
    {
        return Ok(Choice::Use);
    }
    if required {
        return Err("the peer used a PPK of another name than the required one".to_owned());
    }
    let without = picked.notify(notify::NO_PPK_AUTH).map(|proof| proof.data.clone());
    match (without, &mut picked.auth) {
        (Some(proof), Some((_, data))) => {
            *data = proof;
            Ok(Choice::DoWithout)
        }
        _ => Err("the peer requires a PPK of a name that we do not know".to_owned()),
    }
}
