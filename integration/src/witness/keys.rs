//! The keys of IKE SAs as rows of Wireshark's tables, which the engine tells with its feature `key-log`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

/// The name begins so of the one cipher of ours that tshark 4.0 does not know.
const UNKNOWN_TO_TSHARK: &str = "ChaCha20-Poly1305";

/// What somebody knew.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// Of version 2, by SPIs: of one SA several in their order, where IKE_INTERMEDIATE changed them.
    pub ike_sas: BTreeMap<(u64, u64), Vec<IkeSaKeys>>,
    /// Of version 1: the table as Wireshark reads it.
    pub phase_ones: String,
}

/// Keys of an IKE SA of version 2: the fields of their row.
#[derive(Clone, Debug)]
pub struct IkeSaKeys(pub [String; 8]);

impl Keys {
    /// Lines with a table's name and a row for it.
    pub fn parse(text: &str) -> Result<Self> {
        let mut keys = Self::default();
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("ikev1_decryption_table", row)) => keys.phase_ones += &format!("{row}\n"),
                Some(("ikev2_decryption_table", row)) => {
                    let fields: Vec<String> = row.split(',').map(str::to_owned).collect();
                    let fields: [String; 8] = fields.try_into().ok().with_context(|| format!("{row:?}"))?;
                    let spi = |text: &str| u64::from_str_radix(text, 16).context("an SPI");
                    let spis = (spi(&fields[0])?, spi(&fields[1])?);
                    keys.ike_sas.entry(spis).or_default().push(IkeSaKeys(fields));
                }
                _ => bail!("no row of keys: {line:?}"),
            }
        }
        Ok(keys)
    }

    /// Whether nothing was known.
    pub fn is_empty(&self) -> bool {
        self.ike_sas.is_empty() && self.phase_ones.is_empty()
    }
}

impl IkeSaKeys {
    /// SK_ei or SK_er in hexadecimal, with the salt of a combined cipher.
    pub(super) fn sk_e(&self, of_initiator: bool) -> &str {
        &self.0[if of_initiator { 2 } else { 3 }]
    }

    pub(super) fn is_known_to_tshark(&self) -> bool {
        !self.0[4].trim_start_matches('"').starts_with(UNKNOWN_TO_TSHARK)
    }

    /// The row as Wireshark reads it.
    pub(super) fn line(&self) -> String {
        self.0.join(",") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_told_apart_by_their_tables() {
        let told = "ikev2_decryption_table 00000000000000a1,00000000000000b2,01,02,\"3DES [RFC2451]\",03,04,\"X\"\n\
            ikev1_decryption_table 00000000000000c3,05\n\
            ikev2_decryption_table 00000000000000a1,00000000000000b2,06,07,\"ChaCha20-Poly1305 [RFC7634]\",,,\"N\"\n";
        let keys = Keys::parse(told).unwrap();
        assert_eq!(keys.phase_ones, "00000000000000c3,05\n");
        let [first, second] = &keys.ike_sas[&(0xa1, 0xb2)][..] else { panic!("{keys:?}") };
        assert!(first.is_known_to_tshark() && !second.is_known_to_tshark());
        assert_eq!((first.sk_e(true), second.sk_e(false)), ("01", "07"));
        assert_eq!(format!("ikev2_decryption_table {}", first.line()), told[..told.find('\n').unwrap() + 1]);
    }

    #[test]
    fn what_is_no_row_is_refused() {
        for line in ["", "ikev3_decryption_table 1,2", "ikev2_decryption_table 1,2", "a line"] {
            assert!(Keys::parse(&format!("{line}\n")).is_err(), "{line}");
        }
    }
}
