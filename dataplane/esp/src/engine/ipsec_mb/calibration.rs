//! Measures at start-up, on the CPU that will do the work, where the portable code is faster than the library.
//!
//! The features of a CPU do not tell: with SHA instructions and without AVX-512 the portable SHA-256 outruns eight lanes of
//! the library, but how AES beside it and the length of the packets shift that is different from one CPU to the next.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::super::{CipherEngine, Engine, Keys, Lanes, OpenOp, SaKey, SealOp, Selected, portable};
use super::IpsecMb;
use super::preference::{MEASURED_BYTES, Preference, Preferences};
use crate::algorithm::{Aead, Algorithm, Cbc, Integrity};
use crate::framing::{self, Aad, Nonce};

/// All measurements together take no longer: what was not measured then stays with the library.
const BUDGET: Duration = Duration::from_millis(100);
/// Packets of a burst, as many as a busy worker has.
const BURST: usize = 32;
/// Everything is measured so many times, and the shortest time counts: what interrupts a measurement only lengthens it, and is
/// gone when the next round comes to the same place.
const ROUNDS: usize = 4;
/// The preferences of this machine. Measured once in a process.
pub(super) fn preferences(library: IpsecMb) -> &'static Preferences {
    static MEASURED: OnceLock<Preferences> = OnceLock::new();
    MEASURED.get_or_init(|| measure(library).unwrap_or_else(|| library.preferences.clone()))
}

/// `None` if an engine can't do its work; that is for the self-test to say.
fn measure(library: IpsecMb) -> Option<Preferences> {
    let start = Instant::now();
    let engines = [Engine(Selected::IpsecMb(library)), Engine(Selected::Portable(portable::Portable))];
    let [of_library, of_portable] = &engines;
    let mut lanes = [of_library.lanes().ok()?, of_portable.lanes().ok()?];
    let mut groups = groups(&library, &engines)?;
    'rounds: for _ in 0..ROUNDS {
        for trial in groups.iter_mut().flat_map(|group| group.trials.iter_mut().flatten()) {
            if start.elapsed() > BUDGET {
                break 'rounds;
            }
            trial.run(&mut lanes)?;
        }
    }
    let mut preferences = library.preferences.clone();
    for group in groups {
        let mut preference = Preference::LIBRARY;
        for (class, trials) in group.trials.iter().enumerate() {
            let faster = |time: fn(&Times) -> Duration| {
                let [library, portable] = [0, 1].map(|engine| -> Duration {
                    trials.iter().filter_map(|trial| trial.shortest.get(engine)).map(time).sum()
                });
                u8::from(portable < library)
            };
            preference.seal |= faster(|times| times.seal) << class;
            preference.open |= faster(|times| times.open) << class;
        }
        group.algorithms.into_iter().for_each(|algorithm| preferences.set(algorithm, preference));
    }
    Some(preferences)
}

/// Algorithms that get one preference: the length of a key hardly shifts it, and one more measurement of the same makes a draw
/// go the same way more often.
struct Group {
    algorithms: Vec<Algorithm>,
    /// By class of sizes.
    trials: [Vec<Trial>; MEASURED_BYTES.len()],
}

/// What has a choice, what is most in use first.
fn groups(library: &IpsecMb, engines: &[Engine; 2]) -> Option<Vec<Group>> {
    const BY_USE: [Integrity; 5] = [
        Integrity::HmacSha2_256_128,
        Integrity::HmacSha1_96,
        Integrity::HmacSha2_512_256,
        Integrity::HmacSha2_384_192,
        Integrity::HmacMd5_96,
    ];
    const AES: [Cbc; 3] = [Cbc::Aes128, Cbc::Aes192, Cbc::Aes256];
    let mut groups = vec![vec![Algorithm::Combined(Aead::ChaCha20Poly1305)]];
    groups.extend(BY_USE.map(|integrity| AES.map(|cipher| Algorithm::Separate(cipher, integrity)).to_vec()));
    for integrity in BY_USE {
        if library.preferences.of_separate(Cbc::TripleDes, integrity) != Preference::PORTABLE {
            groups.push(vec![Algorithm::Separate(Cbc::TripleDes, integrity)]);
        }
    }
    let with_trials = |algorithms: Vec<Algorithm>| {
        let mut trials = [const { Vec::new() }; MEASURED_BYTES.len()];
        for (trials, bytes) in trials.iter_mut().zip(MEASURED_BYTES) {
            for algorithm in &algorithms {
                trials.push(Trial::new(engines, *algorithm, bytes)?);
            }
        }
        Some(Group { algorithms, trials })
    };
    groups.into_iter().map(with_trials).collect()
}

/// Longer than anything, and not too long to be added up.
const UNMEASURED: Duration = Duration::from_secs(3600);

/// The shortest times of a burst.
#[derive(Clone, Copy)]
struct Times {
    seal: Duration,
    open: Duration,
}

/// A burst of one algorithm and size, and its times with each engine.
struct Trial {
    algorithm: Algorithm,
    keys: [SaKey; 2],
    /// Of plaintext and trailer, in whole blocks.
    bytes: usize,
    shortest: [Times; 2],
}

impl Trial {
    fn new(engines: &[Engine; 2], algorithm: Algorithm, bytes: usize) -> Option<Self> {
        let secret = [0x5a; 64];
        let parts = Keys {
            cipher: secret.get(..algorithm.key_bytes())?,
            integrity: secret.get(..algorithm.integrity_key_bytes())?,
        };
        let mut keys = [SaKey::default(), SaKey::default()];
        for (engine, key) in engines.iter().zip(&mut keys) {
            engine.expand(algorithm, parts, key).ok()?;
        }
        Some(Self { algorithm, keys, bytes, shortest: [Times { seal: UNMEASURED, open: UNMEASURED }; 2] })
    }

    /// Seals and opens a burst with each engine in turn, twice: the first time fills caches.
    fn run(&mut self, lanes: &mut [Lanes; 2]) -> Option<()> {
        let framing = self.algorithm.framing();
        let len = framing.payload_at() - framing.operation_at() + self.bytes + framing.icv_bytes();
        let mut packets = vec![vec![0; len]; BURST];
        let nonces: Vec<Nonce> = (1..=BURST as u64).map(|number| framing::nonce([0; 4], number)).collect();
        let aad = Aad::new(0x1000, 1, true);
        let aad = aad.as_bytes();
        let all = u64::MAX >> (64 - BURST);
        for _ in 0..2 {
            for ((lanes, key), shortest) in lanes.iter_mut().zip(&self.keys).zip(&mut self.shortest) {
                let ops = packets.iter_mut().zip(&nonces);
                let ops = ops.map(|(packet, nonce)| SealOp { key, nonce, aad, text_and_icv: packet });
                let start = Instant::now();
                let sealed = lanes.seal(ops);
                shortest.seal = shortest.seal.min(start.elapsed());
                let ops = packets.iter_mut().zip(&nonces);
                let ops = ops.map(|(packet, nonce)| OpenOp { key, nonce, aad, text_and_icv: packet });
                let start = Instant::now();
                let opened = lanes.open(ops);
                shortest.open = shortest.open.min(start.elapsed());
                if (sealed, opened) != (all, all) {
                    return None;
                }
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_has_a_choice_is_measured_in_time() {
        let Ok(library) = IpsecMb::new() else { return };
        let start = Instant::now();
        let preferences = measure(library).unwrap();
        // The last measurement may begin just in time; a loaded machine stretches it.
        assert!(start.elapsed() < 20 * BUDGET, "{:?}", start.elapsed());
        // What is never measured stays what it was.
        let of_des =
            |preferences: &Preferences| preferences.of_separate(Cbc::TripleDes, Integrity::HmacMd5_96);
        if of_des(library.preferences) == Preference::PORTABLE {
            assert_eq!(of_des(&preferences), Preference::PORTABLE);
        }
    }
}
