//! Powers of a group's generator by a comb: one table for each group makes a public value at a third of the cost.
//!
//! With `T` teeth the exponent is read as `T` rows of equal length, one below the other. Each column of bits picks a
//! product of powers from the table; between columns the result is squared once (Lim and Lee, CRYPTO '94). Every entry
//! of the table is read for each column, so that neither time nor memory access tells the exponent.

use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
use crypto_bigint::{CtAssign, CtEq, U512, Uint};
use zeroize::Zeroize;

const TEETH: u32 = 5;
const ENTRIES: usize = 1 << TEETH;

/// Products of powers of 2, the generator of every MODP group, in Montgomery form.
pub(crate) struct Comb<const LIMBS: usize> {
    entries: Box<[Uint<LIMBS>; ENTRIES]>,
    /// Bits in a row.
    columns: u32,
}

impl<const LIMBS: usize> Comb<LIMBS> {
    /// A comb for exponents of at most `exponent_bits`.
    pub(crate) fn new(params: &FixedMontyParams<LIMBS>, exponent_bits: u32) -> Self {
        let columns = exponent_bits.div_ceil(TEETH);
        let mut tooth = FixedMontyForm::new(&Uint::from_u8(2), params);
        let mut entries = Box::new([FixedMontyForm::one(params).to_montgomery(); ENTRIES]);
        // Bit by bit of the index: what stands below, times the tooth of that bit.
        for bit in 0..TEETH {
            let (low, high) = entries.split_at_mut(1 << bit);
            for (product, without) in high.iter_mut().zip(low.iter()) {
                *product = (FixedMontyForm::from_montgomery(*without, params) * tooth).to_montgomery();
            }
            for _ in 0..columns {
                tooth = tooth.square();
            }
        }
        Self { entries, columns }
    }

    /// 2 to the power of `exponent`, in time that depends on the group alone.
    pub(crate) fn power(&self, params: &FixedMontyParams<LIMBS>, exponent: &U512) -> FixedMontyForm<LIMBS> {
        let mut result = FixedMontyForm::one(params);
        let mut picked = Uint::ZERO;
        for column in (0..self.columns).rev() {
            result = result.square();
            let mut wanted = 0u32;
            for tooth in 0..TEETH {
                // Rows reach beyond the exponent's bits: those are zero.
                let index = tooth.saturating_mul(self.columns).saturating_add(column);
                let bit = if index < U512::BITS { u32::from(exponent.bit(index).to_u8()) } else { 0 };
                wanted |= bit << tooth;
            }
            for (index, entry) in (0u32..).zip(self.entries.iter()) {
                picked.ct_assign(entry, index.ct_eq(&wanted));
            }
            wanted.zeroize();
            result *= FixedMontyForm::from_montgomery(picked, params);
        }
        picked.zeroize();
        result
    }
}
