//! Sequence numbers: the high half that the wire does not carry (RFC 4303 section 2.2.1 and appendix A).

/// Finds the 64-bit sequence number of a received packet from the low half on the wire, the highest one authenticated so
/// far, and the size of the window in packets (RFC 4303 appendix A2.2).
///
/// `None` for a number that would lie before the first one.
#[inline]
pub fn infer(low: u32, highest: u64, window: u32) -> Option<u64> {
    let (top_high, top_low) = ((highest >> 32), highest as u32);
    let reach = window.max(1) - 1;
    let bottom = top_low.wrapping_sub(reach);
    let high = if top_low >= reach {
        // The window lies in one subspace: what is left of it belongs to the next.
        if low >= bottom {
            top_high
        } else {
            top_high.checked_add(1).filter(|high| *high <= u64::from(u32::MAX))?
        }
    } else if low >= bottom {
        // The window spans two subspaces and the number lies in the older one.
        top_high.checked_sub(1)?
    } else {
        top_high
    };
    Some((high << 32) | u64::from(low))
}

/// What an outbound SA may do with its next sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence {
    /// Use it.
    Usable(u64),
    /// The space is used up: the SA must not send (RFC 4303 section 3.3.3).
    Exhausted,
}

impl Sequence {
    /// Judges the next number of an SA with or without extended sequence numbers.
    #[inline]
    pub const fn next(number: u64, esn: bool) -> Self {
        let last = if esn { u64::MAX - 1 } else { u32::MAX as u64 };
        if number == 0 || number > last { Self::Exhausted } else { Self::Usable(number) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const W: u32 = 64;
    const ROLL: u64 = 1 << 32;

    #[test]
    fn rolls_over_to_the_next_subspace() {
        assert_eq!(infer(0, ROLL - 1, W), Some(ROLL));
        assert_eq!(infer(5, ROLL - 1, W), Some(ROLL + 5));
        assert_eq!(infer(u32::MAX, ROLL - 1, W), Some(ROLL - 1));
        assert_eq!(infer(u32::MAX - 63, ROLL - 1, W), Some(ROLL - 64));
        assert_eq!(infer(u32::MAX - 64, ROLL - 1, W), Some(2 * ROLL - 65));
    }

    #[test]
    fn a_late_packet_of_the_old_subspace_is_found_after_the_roll() {
        assert_eq!(infer(u32::MAX, ROLL + 3, W), Some(ROLL - 1));
        assert_eq!(infer(u32::MAX - 59, ROLL + 3, W), Some(ROLL - 60));
        assert_eq!(infer(4, ROLL + 3, W), Some(ROLL + 4));
    }

    #[test]
    fn before_the_first_subspace_there_is_nothing() {
        assert_eq!(infer(u32::MAX, 3, W), None);
        assert_eq!(infer(1, 0, W), Some(1));
    }

    #[test]
    fn no_number_after_the_last() {
        assert_eq!(infer(7, u64::MAX, W), None);
        assert_eq!(Sequence::next(0, true), Sequence::Exhausted);
        assert_eq!(Sequence::next(ROLL - 1, false), Sequence::Usable(ROLL - 1));
        assert_eq!(Sequence::next(ROLL, false), Sequence::Exhausted);
        assert_eq!(Sequence::next(ROLL, true), Sequence::Usable(ROLL));
        assert_eq!(Sequence::next(u64::MAX, true), Sequence::Exhausted);
    }

    proptest! {
        #[test]
        fn every_number_in_or_right_of_the_window_is_found(highest in 4096u64..u64::MAX - (1 << 33), window in 1u32..4096, ahead in 1u64..1 << 31, behind in 0u64..4096) {
            let behind = highest - behind % u64::from(window);
            prop_assert_eq!(infer(behind as u32, highest, window), Some(behind));
            prop_assert_eq!(infer((highest + ahead) as u32, highest, window), Some(highest + ahead));
        }
    }
}
