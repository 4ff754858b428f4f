//! What an IKE_SA_INIT request must show before anything of it is kept (RFC 7296 section 2.6).

use super::registry::{notify, payload as kind};
use super::{Exchange, Header, MAX_MESSAGE_BYTES, MAX_PAYLOADS, Reader};

/// An IKE_SA_INIT request as it stands in its datagram: nothing is copied, and of its payloads only these are looked into.
pub(crate) struct FirstMessage<'a> {
    pub(crate) header: Header,
    pub(crate) len_bytes: usize,
    pub(crate) nonce: &'a [u8],
    pub(crate) cookie: Option<&'a [u8]>,
}

impl<'a> FirstMessage<'a> {
    /// `None` of what is no such request, or cannot be a good one: [`super::Message::decode`] says what is wrong with it.
    pub(crate) fn read(datagram: &'a [u8]) -> Option<Self> {
        if datagram.len() > MAX_MESSAGE_BYTES {
            return None;
        }
        let (header, mut chain) = Header::decode(datagram).ok()?;
        let begins = header.exchange == Exchange::IkeSaInit && header.initiator && !header.response;
        if !begins || header.spi_r != 0 || header.message_id != 0 {
            return None;
        }
        let (mut nonce, mut cookie) = (None, None);
        let mut current = header.first;
        for _ in 0..MAX_PAYLOADS {
            if current == kind::NONE {
                break;
            }
            let next = chain.u8().ok()?;
            chain.u8().ok()?;
            let length = chain.u16().ok()?;
            let mut body = chain.body(length, 4).ok()?;
            match current {
                kind::NONCE if nonce.is_some() => return None,
                kind::NONCE => nonce = Some(body.rest()).filter(|nonce| (16..=256).contains(&nonce.len())),
                kind::NOTIFY if cookie.is_none() => cookie = cookie_of(&mut body),
                _ => {}
            }
            // What is encrypted is the last, and its next payload lies inside.
            current = if matches!(current, kind::ENCRYPTED | kind::FRAGMENT) { kind::NONE } else { next };
        }
        (current == kind::NONE && chain.is_empty()).then_some(Self {
            header,
            len_bytes: datagram.len(),
            nonce: nonce?,
            cookie,
        })
    }
}

/// The data of a COOKIE notification; of another one nothing.
fn cookie_of<'a>(body: &mut Reader<'a>) -> Option<&'a [u8]> {
    body.u8().ok()?;
    let spi_bytes = body.u8().ok()?;
    let kind = body.u16().ok()?;
    body.take(spi_bytes.into()).ok()?;
    (kind == notify::COOKIE).then(|| body.rest())
}
