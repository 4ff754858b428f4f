//! Where the portable code serves in the library's place: by algorithm, direction and size of the packet.

use std::fmt;

use crate::algorithm::{Algorithm, Cbc, Integrity};

/// Sizes of plaintext, in bytes, each standing for a class of packets.
pub(super) const MEASURED_BYTES: [usize; 3] = [64, 256, 1408];
/// What an engine takes of the packets of each class is shorter than this, in bytes.
const BELOW_BYTES: [usize; 3] = [192, 704, usize::MAX];

/// Bits of [`Preference`], one for each class of sizes.
const ALL: u8 = 0b111;

/// Whether the portable code serves an algorithm, by direction and class of sizes: bit `i` is for class `i`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Preference {
    pub(super) seal: u8,
    pub(super) open: u8,
}

impl Preference {
    /// The library, always.
    pub(super) const LIBRARY: Self = Self { seal: 0, open: 0 };
    /// The portable code, always.
    pub(super) const PORTABLE: Self = Self { seal: ALL, open: ALL };

    #[inline]
    pub(super) const fn portable_seals(self, bytes: usize) -> bool {
        self.seal >> class(bytes) & 1 == 1
    }

    #[inline]
    pub(super) const fn portable_opens(self, bytes: usize) -> bool {
        self.open >> class(bytes) & 1 == 1
    }
}

#[inline]
const fn class(bytes: usize) -> u8 {
    (bytes >= BELOW_BYTES[0]) as u8 + (bytes >= BELOW_BYTES[1]) as u8
}

/// The preferences of all algorithms that have a choice. AES-GCM has none: where the library runs at all, it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Preferences {
    pub(super) chacha: Preference,
    separate: [[Preference; Integrity::ALL.len()]; Cbc::ALL.len()],
}

impl Preferences {
    /// The library for what it has.
    pub(super) const LIBRARY: Self = Self {
        chacha: Preference::LIBRARY,
        separate: [[Preference::LIBRARY; Integrity::ALL.len()]; Cbc::ALL.len()],
    };
    /// The same without AVX-512: the library has no lanes for Triple DES then, but code that spends microseconds on each
    /// byte, some thirty times the portable code's.
    pub(super) const LIBRARY_WITHOUT_DES: Self = {
        let mut preferences = Self::LIBRARY;
        preferences.separate[Cbc::TripleDes as usize] = [Preference::PORTABLE; Integrity::ALL.len()];
        preferences
    };

    pub(super) const fn of_separate(&self, cipher: Cbc, integrity: Integrity) -> Preference {
        self.separate[cipher as usize][integrity as usize]
    }

    pub(super) const fn set(&mut self, algorithm: Algorithm, preference: Preference) {
        match algorithm {
            Algorithm::Combined(_) => self.chacha = preference,
            Algorithm::Separate(cipher, integrity) => {
                self.separate[cipher as usize][integrity as usize] = preference;
            }
        }
    }
}

/// What the portable code serves, as short as a line in a log should be: ciphers that agree are named together.
impl fmt::Display for Preferences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<(String, Preference)> = vec![("chacha20-poly1305".to_owned(), self.chacha)];
        for integrity in Integrity::ALL {
            for cipher in Cbc::ALL {
                let preference = self.of_separate(cipher, integrity);
                let (cipher, integrity) = (short_cipher(cipher), short_integrity(integrity));
                match parts.last_mut() {
                    Some((names, same)) if *same == preference && names.ends_with(integrity) => {
                        let end = names.len() - integrity.len() - 1;
                        names.insert_str(end, &format!("+{cipher}"));
                    }
                    _ => parts.push((format!("{cipher}-{integrity}"), preference)),
                }
            }
        }
        let mut separator = "";
        for (names, preference) in parts {
            for (way, classes) in [("seals", preference.seal), ("opens", preference.open)] {
                if classes != 0 {
                    write!(f, "{separator}{names} {way}")?;
                    separator = ", ";
                    write_classes(f, classes)?;
                }
            }
        }
        if separator.is_empty() { f.write_str("nothing") } else { Ok(()) }
    }
}

fn write_classes(f: &mut fmt::Formatter<'_>, classes: u8) -> fmt::Result {
    if classes == ALL {
        return Ok(());
    }
    let names = ["short", "middle", "long"];
    for (class, name) in names.iter().enumerate().filter(|(class, _)| classes >> class & 1 == 1) {
        let first = classes & ((1 << class) - 1) == 0;
        write!(f, "{}{name}", if first { " " } else { "+" })?;
    }
    Ok(())
}

const fn short_cipher(cipher: Cbc) -> &'static str {
    match cipher {
        Cbc::Aes128 => "aes-128",
        Cbc::Aes192 => "aes-192",
        Cbc::Aes256 => "aes-256",
        Cbc::TripleDes => "3des",
    }
}

const fn short_integrity(integrity: Integrity) -> &'static str {
    match integrity {
        Integrity::HmacMd5_96 => "md5",
        Integrity::HmacSha1_96 => "sha1",
        Integrity::HmacSha2_256_128 => "sha2-256",
        Integrity::HmacSha2_384_192 => "sha2-384",
        Integrity::HmacSha2_512_256 => "sha2-512",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_measured_size_stands_for_its_class() {
        for (at, bytes) in MEASURED_BYTES.into_iter().enumerate() {
            // The engine takes the framing of the largest suite besides: header, IV and ICV.
            for taken in [bytes + 16, bytes + 8 + 16 + 32] {
                assert_eq!(usize::from(class(taken)), at, "{bytes}");
            }
        }
        let preference = Preference { seal: 0b010, open: 0b101 };
        assert_eq!([100, 300, 1500].map(|bytes| preference.portable_seals(bytes)), [false, true, false]);
        assert_eq!([100, 300, 1500].map(|bytes| preference.portable_opens(bytes)), [true, false, true]);
    }

    #[test]
    fn a_line_says_what_is_portable() {
        assert_eq!(Preferences::LIBRARY.to_string(), "nothing");
        let mut preferences = Preferences::LIBRARY_WITHOUT_DES;
        for cipher in [Cbc::Aes128, Cbc::Aes192, Cbc::Aes256] {
            let of_open = Preference { seal: 0, open: 0b011 };
            preferences.set(Algorithm::Separate(cipher, Integrity::HmacSha2_256_128), of_open);
        }
        let line = preferences.to_string();
        assert!(
            line.contains("aes-128+aes-192+aes-256-sha2-256 opens short+middle, 3des-sha2-256 seals"),
            "{line}"
        );
    }
}
