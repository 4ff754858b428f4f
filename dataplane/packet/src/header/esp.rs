//! ESP (RFC 4303): the two words in front.

/// Length of SPI and sequence number, in bytes.
pub const LEN_BYTES: usize = 8;

/// An ESP header.
#[derive(Clone, Copy, Debug)]
pub struct Esp<'a>(&'a [u8; LEN_BYTES]);

impl<'a> Esp<'a> {
    /// The header at the start of `payload`, if it is long enough.
    #[inline]
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        payload.first_chunk().map(Self)
    }

    /// SPI.
    #[inline]
    pub fn spi(self) -> u32 {
        u32::from_be_bytes([self.0[0], self.0[1], self.0[2], self.0[3]])
    }

    /// The low 32 bits of the sequence number.
    #[inline]
    pub fn sequence_low(self) -> u32 {
        u32::from_be_bytes([self.0[4], self.0[5], self.0[6], self.0[7]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_words() {
        let view = Esp::parse(&[0, 0, 1, 2, 0xff, 0, 0, 3, 9]).unwrap();
        assert_eq!((view.spi(), view.sequence_low()), (0x102, 0xff00_0003));
        assert!(Esp::parse(&[0; 7]).is_none());
    }
}
