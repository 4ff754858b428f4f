//! Vendor IDs: what a peer can besides the RFCs that all obey.

use crate::wire::isakmp::{Payload, registry::payload as kind};
use crate::wire::{Reader, WireError, Writer};

/// MD5 of "RFC 3947".
const NAT_T_RFC: [u8; 16] = *b"\x4a\x13\x1c\x81\x07\x03\x58\x45\x5c\x57\x28\xf2\x0e\x95\x45\x2f";
/// MD5 of "draft-ietf-ipsec-nat-t-ike-03".
const NAT_T_DRAFT_03: [u8; 16] = *b"\x7d\x94\x19\xa6\x53\x10\xca\x6f\x2c\x17\x9d\x92\x15\x52\x9d\x56";
/// MD5 of "draft-ietf-ipsec-nat-t-ike-02\n": with the line's end, as most sent it.
const NAT_T_DRAFT_02N: [u8; 16] = *b"\x90\xcb\x80\x91\x3e\xbb\x69\x6e\x08\x63\x81\xb5\xec\x42\x7b\x1f";
/// MD5 of "draft-ietf-ipsec-nat-t-ike-02".
const NAT_T_DRAFT_02: [u8; 16] = *b"\xcd\x60\x46\x43\x35\xdf\x21\xf8\x7c\xfd\xb2\xfc\x68\xb6\xa4\x48";
/// RFC 3706 section 5.1, without the two octets of its version.
const DPD: [u8; 14] = *b"\xaf\xca\xd7\x13\x68\xa1\xf1\xc9\x6b\x86\x96\xfc\x77\x57";
/// MD5 of "FRAGMENTATION": main mode may come in pieces, says what follows it.
const FRAGMENTATION: [u8; 16] = *b"\x40\x48\xb7\xd5\x6e\xbc\xe8\x85\x25\xe7\xde\x7f\x00\xd6\xc2\xd3";

/// Which NAT traversal is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// RFC 3947.
    Rfc,
    /// Drafts 02 and 03: other payload numbers, the same meaning.
    Draft([u8; 16]),
}

/// What a peer announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Announced {
    pub(super) nat: Option<Dialect>,
    pub(super) dpd: bool,
    pub(super) fragmentation: bool,
}

impl Announced {
    pub(super) fn read(payloads: &[Payload]) -> Self {
        let ids: Vec<&[u8]> = payloads
            .iter()
            .filter(|payload| payload.kind == kind::VENDOR)
            .map(|payload| payload.body.as_slice())
            .collect();
        let has = |id: [u8; 16]| ids.iter().any(|found| *found == id);
        let draft = |id| has(id).then_some(Dialect::Draft(id));
        Self {
            nat: has(NAT_T_RFC)
                .then_some(Dialect::Rfc)
                .or_else(|| draft(NAT_T_DRAFT_03))
                .or_else(|| draft(NAT_T_DRAFT_02N))
                .or_else(|| draft(NAT_T_DRAFT_02)),
            dpd: ids.iter().any(|found| found.starts_with(&DPD)),
            fragmentation: ids.iter().any(|found| found.starts_with(&FRAGMENTATION)),
        }
    }

    /// As it is kept: what of it there is, then the draft.
    pub(super) fn keep(self, writer: &mut Writer) {
        let (dialect, draft): (u8, &[u8]) = match &self.nat {
            None => (0, &[]),
            Some(Dialect::Rfc) => (1, &[]),
            Some(Dialect::Draft(id)) => (2, id),
        };
        writer.u8(dialect);
        writer.counted(draft);
        writer.u8(u8::from(self.dpd));
        writer.u8(u8::from(self.fragmentation));
    }

    /// Reads what [`Announced::keep`] wrote.
    pub(super) fn resume(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let (dialect, draft) = (reader.u8()?, reader.counted()?);
        let nat = match (dialect, <[u8; 16]>::try_from(draft)) {
            (0, Err(_)) => None,
            (1, Err(_)) => Some(Dialect::Rfc),
            (2, Ok(id)) => Some(Dialect::Draft(id)),
            _ => return Err(WireError::BadValue),
        };
        Ok(Self { nat, dpd: reader.u8()? == 1, fragmentation: reader.u8()? == 1 })
    }

    /// Vendor IDs that say the same; of an answer, never more than were asked.
    pub(super) fn payloads(self) -> Vec<Payload> {
        let mut ids: Vec<Vec<u8>> = Vec::new();
        match self.nat {
            Some(Dialect::Rfc) => ids.push(NAT_T_RFC.to_vec()),
            Some(Dialect::Draft(id)) => ids.push(id.to_vec()),
            None => {}
        }
        if self.dpd {
            ids.push([DPD.as_slice(), &[1, 0]].concat());
        }
        if self.fragmentation {
            ids.push(FRAGMENTATION.to_vec());
        }
        ids.into_iter().map(|id| Payload::new(kind::VENDOR, id)).collect()
    }

    /// The same, and less and less of it, for an answer that may not be longer than its question.
    pub(super) fn trimmed(self) -> [Self; 4] {
        let whole = Self { fragmentation: false, ..self };
        let unwatched = Self { dpd: false, ..whole };
        [self, whole, unwatched, Self::default()]
    }

    /// All that we can, for the first message.
    pub(super) fn ours() -> Vec<Payload> {
        let mut payloads = Self { nat: Some(Dialect::Rfc), dpd: true, fragmentation: true }.payloads();
        let drafts = [NAT_T_DRAFT_03, NAT_T_DRAFT_02N];
        payloads.extend(drafts.map(|id| Payload::new(kind::VENDOR, id.to_vec())));
        payloads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_announced_is_understood() {
        let expected = Announced { nat: Some(Dialect::Rfc), dpd: true, fragmentation: true };
        assert_eq!(Announced::read(&Announced::ours()), expected);
        for nat in [
            None,
            Some(Dialect::Rfc),
            Some(Dialect::Draft(NAT_T_DRAFT_02)),
            Some(Dialect::Draft(NAT_T_DRAFT_03)),
        ] {
            let announced = Announced { nat, dpd: false, fragmentation: true };
            assert_eq!(Announced::read(&announced.payloads()), announced);
            let mut writer = Writer::default();
            announced.keep(&mut writer);
            let kept = writer.into_bytes();
            assert_eq!(Announced::resume(&mut Reader::new(&kept)), Ok(announced));
        }
    }

    /// Cisco appends flags to the one, and later versions of DPD would change the other's end.
    #[test]
    fn ids_with_more_at_the_end_are_known() {
        let long = [FRAGMENTATION.as_slice(), &[0x80, 0, 0, 0]].concat();
        let dpd = [DPD.as_slice(), &[1, 1]].concat();
        let payloads = [long, dpd].map(|id| Payload::new(kind::VENDOR, id));
        assert_eq!(Announced::read(&payloads), Announced { nat: None, dpd: true, fragmentation: true });
    }

    #[test]
    fn ids_are_the_hashes_that_their_authors_say() {
        use crate::Hash;
        use crate::crypto::nat_digest as hash;
        let names: [(&[u8], [u8; 16]); 5] = [
            (b"RFC 3947", NAT_T_RFC),
            (b"draft-ietf-ipsec-nat-t-ike-03", NAT_T_DRAFT_03),
            (b"draft-ietf-ipsec-nat-t-ike-02\n", NAT_T_DRAFT_02N),
            (b"draft-ietf-ipsec-nat-t-ike-02", NAT_T_DRAFT_02),
            (b"FRAGMENTATION", FRAGMENTATION),
        ];
        for (name, id) in names {
            assert_eq!(hash(Hash::Md5, &[name]), id);
        }
    }
}
