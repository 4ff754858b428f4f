//! Lengths, trailer, nonce and additional authenticated data.

/// SPI and sequence number, in bytes.
pub const HEADER_BYTES: usize = 8;
/// IV of AES-GCM (RFC 4106 section 3.1), in bytes.
pub const IV_BYTES: usize = 8;
/// ICV of AES-GCM with full tag, in bytes.
pub const ICV_BYTES: usize = 16;
/// Pad length and next header, in bytes.
pub const TRAILER_BYTES: usize = 2;
/// Least bytes of an ESP packet: header, IV, one aligned word that ends in the trailer, ICV.
pub const LEAST_BYTES: usize = HEADER_BYTES + IV_BYTES + 4 + ICV_BYTES;

/// Nonce of AES-GCM: salt and IV (RFC 4106 section 4).
pub type Nonce = [u8; 12];

/// Padding in bytes for a payload, so that the ciphertext ends on a word (RFC 4303 section 2.4).
#[inline]
pub const fn pad_len(payload_bytes: usize) -> usize {
    payload_bytes.wrapping_add(TRAILER_BYTES).wrapping_neg() & 3
}

/// Bytes of an ESP packet around a payload.
pub const fn sealed_len(payload_bytes: usize) -> usize {
    HEADER_BYTES + IV_BYTES + payload_bytes + pad_len(payload_bytes) + TRAILER_BYTES + ICV_BYTES
}

/// The largest payload whose ESP packet is not longer than `room_bytes`; `None` when not even an empty one fits.
pub const fn payload_that_fits(room_bytes: usize) -> Option<usize> {
    match room_bytes.checked_sub(HEADER_BYTES + IV_BYTES + ICV_BYTES) {
        Some(ciphertext) => (ciphertext & !3).checked_sub(TRAILER_BYTES),
        None => None,
    }
}

/// The nonce of a packet.
#[inline]
pub const fn nonce(salt: [u8; 4], iv: u64) -> Nonce {
    let iv = iv.to_be_bytes();
    [salt[0], salt[1], salt[2], salt[3], iv[0], iv[1], iv[2], iv[3], iv[4], iv[5], iv[6], iv[7]]
}

/// The additional authenticated data of a packet (RFC 4106 section 5): SPI and sequence number, which has 64 bits with
/// ESN and 32 without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aad {
    bytes: [u8; 12],
    len: u8,
}

impl Aad {
    /// Of a packet with this 64-bit sequence number.
    #[inline]
    pub const fn new(spi: u32, sequence: u64, esn: bool) -> Self {
        let s = spi.to_be_bytes();
        if esn {
            let q = sequence.to_be_bytes();
            Self { bytes: [s[0], s[1], s[2], s[3], q[0], q[1], q[2], q[3], q[4], q[5], q[6], q[7]], len: 12 }
        } else {
            let q = (sequence as u32).to_be_bytes();
            Self { bytes: [s[0], s[1], s[2], s[3], q[0], q[1], q[2], q[3], 0, 0, 0, 0], len: 8 }
        }
    }

    /// Its bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        let (short, _) = self.bytes.split_at(8);
        if self.len == 8 { short } else { &self.bytes }
    }
}

/// Writes the trailer of a payload into the bytes behind it: padding 1, 2, 3 .., pad length, next header. `tail` begins
/// where the payload ends and has at least [`TRAILER_BYTES`] + 3 bytes; what stands behind the trailer is overwritten
/// with zeroes as far as the eighth byte, for the ICV comes there.
#[inline]
pub fn write_trailer(tail: &mut [u8], pad_len: usize, next_header: u8) {
    let word = match pad_len & 3 {
        0 => [0, next_header, 0, 0, 0, 0, 0, 0],
        1 => [1, 1, next_header, 0, 0, 0, 0, 0],
        2 => [1, 2, 2, next_header, 0, 0, 0, 0],
        _ => [1, 2, 3, 3, next_header, 0, 0, 0],
    };
    if let Some(first) = tail.first_chunk_mut::<8>() {
        *first = word;
    } else {
        let len = tail.len();
        tail.copy_from_slice(&word[..len]);
    }
}

/// What stands at the end of a decrypted packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// IP protocol of the payload.
    pub next_header: u8,
    /// Bytes of padding, pad length and next header together.
    pub len_bytes: usize,
}

/// Reads the trailer of a decrypted text (payload to next header, no ICV); `None` when the pad length exceeds the text
/// or the padding is not 1, 2, 3 .. (RFC 4303 section 2.4: the receiver SHOULD inspect it).
#[inline]
pub fn read_trailer(text: &[u8]) -> Option<Trailer> {
    let (rest, &[pad_len, next_header]) = text.split_last_chunk::<2>()?;
    if pad_len != 0 {
        let at = rest.len().checked_sub(usize::from(pad_len))?;
        let padding = rest.get(at..)?;
        if padding.iter().zip(1u8..).any(|(byte, expected)| *byte != expected) {
            return None;
        }
    }
    Some(Trailer { next_header, len_bytes: TRAILER_BYTES + usize::from(pad_len) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_trailer_reads_back(payload in 0usize..300, next_header: u8) {
            let pad = pad_len(payload);
            let mut text = vec![0xaa; payload + pad + TRAILER_BYTES];
            write_trailer(&mut text[payload..], pad, next_header);
            prop_assert_eq!(text.len() % 4, 0);
            prop_assert_eq!(read_trailer(&text), Some(Trailer { next_header, len_bytes: pad + 2 }));
            prop_assert!(text[..payload].iter().all(|byte| *byte == 0xaa));
        }

        #[test]
        fn the_largest_payload_fits_and_one_more_does_not(room in 0usize..9100) {
            match payload_that_fits(room) {
                Some(payload) => {
                    prop_assert!(sealed_len(payload) <= room);
                    prop_assert!(sealed_len(payload + 1) > room);
                }
                None => prop_assert!(sealed_len(0) > room),
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Some(trailer) = read_trailer(&text) {
                prop_assert!(trailer.len_bytes <= text.len());
            }
        }
    }

    #[test]
    fn lying_padding_is_refused() {
        assert_eq!(read_trailer(&[]), None);
        assert_eq!(read_trailer(&[4]), None);
        assert_eq!(read_trailer(&[1, 4]), None);
        assert_eq!(read_trailer(&[2, 1, 4]), None);
        assert_eq!(read_trailer(&[9, 1, 3, 2, 4]), None);
        assert_eq!(read_trailer(&[9, 1, 2, 2, 4]), Some(Trailer { next_header: 4, len_bytes: 4 }));
    }

    #[test]
    fn the_usual_gre_tunnel_over_1500_bytes_carries_1442() {
        let esp_room = 1500 - 20;
        assert_eq!(payload_that_fits(esp_room).map(|payload| payload - 4), Some(1442));
    }
}
