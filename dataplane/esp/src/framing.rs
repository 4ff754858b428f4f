//! Lengths, trailer, nonce and additional authenticated data.

/// SPI and sequence number, in bytes.
pub const HEADER_BYTES: usize = 8;
/// ICV of combined mode with full tag, in bytes.
pub const COMBINED_ICV_BYTES: usize = 16;
/// Pad length and next header, in bytes.
pub const TRAILER_BYTES: usize = 2;
/// Least bytes of an ESP packet of any algorithm. In combined mode: header, IV, one aligned word that ends in the
/// trailer, ICV; Triple DES with an ICV of 12 has the same.
pub const LEAST_BYTES: usize = Framing::COMBINED.sealed_len(0);

/// What an engine needs besides the packet: salt and IV of combined mode (RFC 4106 section 4, RFC 7634 section 2);
/// otherwise zeroes and the sequence number, which the IV is made from.
pub type Nonce = [u8; 12];

/// How the packets of an algorithm are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    operation_at: u8,
    payload_at: u8,
    alignment_bytes: u8,
    icv_bytes: u8,
}

impl Framing {
    /// Combined mode: IV of 8 octets (RFC 4106 section 3.1, RFC 7634 section 2), no block to fill but the word of ESP, ICV
    /// of 16 octets.
    pub const COMBINED: Self =
        Self { operation_at: 16, payload_at: 16, alignment_bytes: 4, icv_bytes: COMBINED_ICV_BYTES as u8 };

    /// A cipher in CBC mode, its IV as long as its block, and an ICV.
    pub(crate) const fn separate(block_bytes: u8, icv_bytes: u8) -> Self {
        Self {
            operation_at: 0,
            payload_at: HEADER_BYTES as u8 + block_bytes,
            alignment_bytes: block_bytes,
            icv_bytes,
        }
    }

    /// Where the bytes begin that an engine takes, from the SPI: at the payload in combined mode, whose IV goes into the
    /// nonce; at the SPI where all is authenticated as it stands (RFC 4303 section 2.8).
    #[inline]
    pub const fn operation_at(self) -> usize {
        self.operation_at as usize
    }

    /// Where the payload begins, from the SPI: behind the IV.
    #[inline]
    pub const fn payload_at(self) -> usize {
        self.payload_at as usize
    }

    /// Length of the ICV, in bytes.
    #[inline]
    pub const fn icv_bytes(self) -> usize {
        self.icv_bytes as usize
    }

    /// Padding in bytes for a payload, so that the ciphertext ends with a block and a word (RFC 4303 section 2.4).
    #[inline]
    pub const fn pad_len(self, payload_bytes: usize) -> usize {
        payload_bytes.wrapping_add(TRAILER_BYTES).wrapping_neg() & self.mask()
    }

    /// Bytes of an ESP packet around a payload.
    pub const fn sealed_len(self, payload_bytes: usize) -> usize {
        let text = payload_bytes + self.pad_len(payload_bytes) + TRAILER_BYTES;
        self.payload_at() + text + self.icv_bytes()
    }

    /// The largest payload whose ESP packet is not longer than `room_bytes`; `None` when not even an empty one fits.
    pub const fn payload_that_fits(self, room_bytes: usize) -> Option<usize> {
        match room_bytes.checked_sub(self.payload_at() + self.icv_bytes()) {
            Some(ciphertext) => (ciphertext & !self.mask()).checked_sub(TRAILER_BYTES),
            None => None,
        }
    }

    /// Whether an ESP packet can have this length: all its parts, and a ciphertext of whole words and blocks.
    #[inline]
    pub const fn fits(self, esp_bytes: usize) -> bool {
        let around = self.payload_at() + self.icv_bytes();
        esp_bytes > around && (esp_bytes - around) & self.mask() == 0
    }

    // Block lengths are powers of two.
    #[inline]
    const fn mask(self) -> usize {
        self.alignment_bytes as usize - 1
    }
}

/// The nonce of a packet.
#[inline]
pub const fn nonce(salt: [u8; 4], iv: u64) -> Nonce {
    let iv = iv.to_be_bytes();
    [salt[0], salt[1], salt[2], salt[3], iv[0], iv[1], iv[2], iv[3], iv[4], iv[5], iv[6], iv[7]]
}

/// The additional authenticated data of a packet (RFC 4106 section 5, RFC 7634 section 2.1): SPI and sequence number,
/// which has 64 bits with ESN and 32 without.
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

/// What HMAC covers behind the ciphertext, from the additional authenticated data: the high half of an extended sequence
/// number, which is not sent (RFC 4303 section 2.2.1), or nothing. `None` if it is neither.
#[inline]
pub(crate) fn high_half(aad: &[u8]) -> Option<&[u8]> {
    match aad.len() {
        8 => Some(&[]),
        12 => aad.get(4..8),
        _ => None,
    }
}

/// Writes the trailer of a payload into the bytes behind it: padding 1, 2, 3 .., pad length, next header. `tail` begins
/// where the payload ends and has room for the trailer; what stands behind the trailer may be overwritten with zeroes as
/// far as the eighth byte, for the ICV comes there.
#[inline]
pub fn write_trailer(tail: &mut [u8], pad_len: usize, next_header: u8) {
    let word = match pad_len {
        0 => [0, next_header, 0, 0, 0, 0, 0, 0],
        1 => [1, 1, next_header, 0, 0, 0, 0, 0],
        2 => [1, 2, 2, next_header, 0, 0, 0, 0],
        3 => [1, 2, 3, 3, next_header, 0, 0, 0],
        _ => return write_long_trailer(tail, pad_len, next_header),
    };
    if let Some(first) = tail.first_chunk_mut::<8>() {
        *first = word;
    } else {
        let len = tail.len();
        tail.copy_from_slice(&word[..len]);
    }
}

/// Blocks are padded with more than a word.
#[cold]
fn write_long_trailer(tail: &mut [u8], pad_len: usize, next_header: u8) {
    let padding = (1..=pad_len).map(|number| number as u8);
    for (byte, value) in tail.iter_mut().zip(padding.chain([pad_len as u8, next_header])) {
        *byte = value;
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
    use crate::{Algorithm, Cbc, Integrity};
    use proptest::prelude::*;

    fn framings() -> impl Strategy<Value = Framing> {
        let separate =
            (proptest::sample::select(&Cbc::ALL[..]), proptest::sample::select(&Integrity::ALL[..]))
                .prop_map(|(cipher, integrity)| Algorithm::Separate(cipher, integrity).framing());
        prop_oneof![Just(Framing::COMBINED), separate]
    }

    proptest! {
        #[test]
        fn a_trailer_reads_back(framing in framings(), payload in 0usize..300, next_header: u8) {
            let pad = framing.pad_len(payload);
            let mut packet = vec![0xaa; framing.sealed_len(payload) - framing.payload_at()];
            write_trailer(&mut packet[payload..], pad, next_header);
            let text = &packet[..packet.len() - framing.icv_bytes()];
            prop_assert_eq!(text.len() % usize::from(framing.alignment_bytes), 0);
            prop_assert!(pad < usize::from(framing.alignment_bytes));
            prop_assert_eq!(read_trailer(text), Some(Trailer { next_header, len_bytes: pad + 2 }));
            prop_assert!(text[..payload].iter().all(|byte| *byte == 0xaa));
        }

        #[test]
        fn the_largest_payload_fits_and_one_more_does_not(framing in framings(), room in 0usize..9100) {
            match framing.payload_that_fits(room) {
                Some(payload) => {
                    prop_assert!(framing.sealed_len(payload) <= room);
                    prop_assert!(framing.sealed_len(payload + 1) > room);
                }
                None => prop_assert!(framing.sealed_len(0) > room),
            }
        }

        #[test]
        fn just_the_lengths_that_are_sealed_fit(framing in framings(), len in 0usize..400) {
            let made = (0..400).any(|payload| framing.sealed_len(payload) == len);
            prop_assert_eq!(framing.fits(len), made);
            prop_assert!(!made || len >= LEAST_BYTES);
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

    /// GRE and passenger in transport mode over 1500 bytes: what is left of 1480 after header, IV and ICV, in whole blocks,
    /// less trailer and GRE.
    #[test]
    fn the_usual_gre_tunnels_over_1500_bytes() {
        let passenger =
            |algorithm: Algorithm| algorithm.framing().payload_that_fits(1480).map(|payload| payload - 4);
        assert_eq!(passenger(Algorithm::Combined(crate::Aead::Aes256Gcm)), Some(1442));
        let separate = |cipher, integrity| passenger(Algorithm::Separate(cipher, integrity));
        assert_eq!(separate(Cbc::Aes128, Integrity::HmacSha1_96), Some(1434));
        assert_eq!(separate(Cbc::Aes256, Integrity::HmacSha2_256_128), Some(1434));
        assert_eq!(separate(Cbc::Aes256, Integrity::HmacSha2_512_256), Some(1418));
        assert_eq!(separate(Cbc::TripleDes, Integrity::HmacMd5_96), Some(1442));
    }
}
