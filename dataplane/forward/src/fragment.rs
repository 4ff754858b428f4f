//! IPv4 fragmentation (RFC 791 section 3.2).

use arrayvec::ArrayVec;
use packet::Frame;
use packet::header::ipv4::{self, Ipv4};
use shm::Drop;

/// Most fragments of one packet: 65535 bytes over the tunnels of an Ethernet.
const MAX_FRAGMENTS: usize = 48;

/// The fragments of a packet, in order.
pub(crate) type Fragments<F> = ArrayVec<F, MAX_FRAGMENTS>;

/// Cuts an IPv4 packet without options into fragments of at most `mtu_bytes`. `front` bytes in front of the IP header
/// (an Ethernet header, or none) are copied to each. The packet must not have "don't fragment" set and may itself be
/// a fragment.
#[cold]
pub(crate) fn fragment<F: Frame>(mut frame: F, front: usize, mtu_bytes: usize) -> Result<Fragments<F>, Drop> {
    let (header, chunk, total) = {
        let packet = frame.bytes().get(front..).unwrap_or_default();
        let view = Ipv4::parse(packet).ok_or(Drop::Truncated)?;
        if view.has_options() {
            return Err(Drop::IpOptions);
        }
        let header: [u8; ipv4::LEN_BYTES] = *packet.first_chunk().ok_or(Drop::Truncated)?;
        let chunk = mtu_bytes.saturating_sub(ipv4::LEN_BYTES) & !7;
        (header, chunk, packet.len())
    };
    if chunk == 0 {
        return Err(Drop::TooBig);
    }
    let word = u16::from_be_bytes([header[6], header[7]]);
    let (offset, last_has_more) = (word & ipv4::OFFSET_MASK, word & ipv4::MORE_FRAGMENTS);
    let payload_len = total - ipv4::LEN_BYTES;
    let mut rest = ArrayVec::<F, MAX_FRAGMENTS>::new();
    let mut at = chunk;
    while at < payload_len {
        let len = chunk.min(payload_len - at);
        let more = if at + len < payload_len { ipv4::MORE_FRAGMENTS } else { last_has_more };
        let mut piece = frame.sibling().ok_or(Drop::NoBuffer)?;
        let room = piece.append(front + ipv4::LEN_BYTES + len).ok_or(Drop::NoBuffer)?;
        let bytes = frame.bytes();
        let payload_at = front + ipv4::LEN_BYTES + at;
        let (link, packet) = room.split_at_mut(front);
        let (ip, payload) = packet.split_at_mut(ipv4::LEN_BYTES);
        link.copy_from_slice(bytes.get(..front).ok_or(Drop::Truncated)?);
        ip.copy_from_slice(&piece_header(&header, len, more | (offset + (at / 8) as u16)));
        payload.copy_from_slice(bytes.get(payload_at..payload_at + len).ok_or(Drop::Truncated)?);
        rest.try_push(piece).map_err(|_| Drop::TooBig)?;
        at += len;
    }
    let kept = chunk.min(payload_len);
    let more = if rest.is_empty() { last_has_more } else { ipv4::MORE_FRAGMENTS };
    if !frame.trim_back(payload_len - kept) {
        return Err(Drop::Truncated);
    }
    let first =
        frame.bytes_mut().get_mut(front..).and_then(|packet| packet.first_chunk_mut::<{ ipv4::LEN_BYTES }>());
    *first.ok_or(Drop::Truncated)? = piece_header(&header, kept, more | offset);
    let mut fragments = Fragments::new();
    fragments.push(frame);
    for piece in rest {
        fragments.try_push(piece).map_err(|_| Drop::TooBig)?;
    }
    Ok(fragments)
}

fn piece_header(
    original: &[u8; ipv4::LEN_BYTES],
    payload_len: usize,
    fragment_word: u16,
) -> [u8; ipv4::LEN_BYTES] {
    let view = Ipv4::parse(original);
    let repr = view.map(|view| ipv4::Repr {
        tos: view.tos(),
        total_len_bytes: (ipv4::LEN_BYTES + payload_len) as u16,
        identification: view.identification(),
        fragment_word,
        ttl: view.ttl(),
        protocol: view.protocol(),
        source: view.source(),
        destination: view.destination(),
    });
    repr.map_or(*original, ipv4::Repr::to_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use packet::TestFrame;
    use proptest::prelude::*;

    fn packet(payload: &[u8], fragment_word: u16) -> Vec<u8> {
        let repr = ipv4::Repr {
            tos: 0x28,
            total_len_bytes: (20 + payload.len()) as u16,
            identification: 0x1234,
            fragment_word,
            ttl: 9,
            protocol: 17,
            source: [10, 0, 0, 1],
            destination: [10, 0, 1, 1],
        };
        [&repr.to_bytes()[..], payload].concat()
    }

    proptest! {
        #[test]
        fn fragments_fit_and_reassemble(
            payload in proptest::collection::vec(any::<u8>(), 0..4000),
            mtu in 140usize..2000,
            front in prop_oneof![Just(0usize), Just(14)],
            offset in 0u16..100,
            more: bool,
        ) {
            let word = offset | if more { ipv4::MORE_FRAGMENTS } else { 0 };
            let bytes = [vec![7; front], packet(&payload, word)].concat();
            let pieces = fragment(TestFrame::with_room(&bytes, 0, 0), front, mtu).unwrap();
            let mut rebuilt: Vec<u8> = vec![];
            let count = pieces.len();
            for (at, piece) in pieces.iter().enumerate() {
                prop_assert_eq!(&piece.bytes()[..front], &vec![7; front][..]);
                let ip = &piece.bytes()[front..];
                prop_assert!(ip.len() <= mtu);
                let header = Ipv4::checked(ip).unwrap();
                prop_assert_eq!(header.total_len_bytes(), ip.len());
                prop_assert_eq!((header.identification(), header.ttl(), header.tos()), (0x1234, 9, 0x28));
                prop_assert_eq!(usize::from(header.fragment_word() & ipv4::OFFSET_MASK) * 8, rebuilt.len() + usize::from(offset) * 8);
                prop_assert_eq!(header.fragment_word() & ipv4::MORE_FRAGMENTS != 0, at + 1 < count || more);
                rebuilt.extend(&ip[20..]);
            }
            prop_assert_eq!(rebuilt, payload);
        }
    }

    #[test]
    fn what_can_not_be_cut_is_named() {
        let frame = TestFrame::new(&packet(&[0; 100], 0));
        assert!(matches!(fragment(frame, 0, 27), Err(Drop::TooBig)));
        assert!(matches!(fragment(TestFrame::new(&[0x45; 19]), 0, 1000), Err(Drop::Truncated)));
        let long = TestFrame::with_room(&packet(&[0; 60_000], 0), 0, 0);
        assert!(matches!(fragment(long, 0, 576), Err(Drop::TooBig)));
        let mut options = packet(&[0; 100], 0);
        options[0] = 0x46;
        assert!(matches!(fragment(TestFrame::new(&options), 0, 60), Err(Drop::IpOptions)));
    }
}
