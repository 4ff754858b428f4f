//! The keys that charon derived, out of its log, beside ours.

use anyhow::{Context, Result, ensure};

use crate::charon::Charon;
use crate::ours::{Ours, State};

/// The ESP keys of our last pair are charon's, byte for byte.
pub(crate) fn same_esp_keys(charon: &Charon, ours: &Ours) -> Result<()> {
    charon_shows(charon, ours, |state, shown| {
        let pair = state.pairs.last().context("no pair")?;
        for keys in [&pair.keys_in, &pair.keys_out] {
            for key in [&keys.key, &keys.salt, &keys.integrity] {
                ensure!(shown.contains(&hex(key)), "charon has other ESP keys");
            }
        }
        Ok(())
    })
}

/// As many sets of keys as that were made for IKE SAs since our engine began, after each key exchange one, and each of
/// their keys is charon's.
pub(crate) fn same_ike_keys(charon: &Charon, ours: &Ours, sets: usize) -> Result<()> {
    charon_shows(charon, ours, |state, shown| {
        ensure!(state.keys.len() == sets, "{} sets of keys", state.keys.len());
        for (index, set) in state.keys.iter().enumerate() {
            let named = [("SK_d", vec![&set.sk_d]), ("SK_a", set.sk_a.iter().collect())];
            let named = named.into_iter().chain([("SK_e", set.sk_e.iter().collect())]);
            for (name, keys) in named.chain([("SK_p", set.sk_p.iter().collect::<Vec<_>>())]) {
                ensure!(
                    keys.iter().all(|key| shown.contains(&hex(key))),
                    "charon has another {name}, set {index}"
                );
            }
        }
        Ok(())
    })
}

/// Waits until charon's log shows what is asked for: a responder has its keys before its answer reaches the initiator.
fn charon_shows(
    charon: &Charon,
    ours: &Ours,
    mut agree: impl FnMut(&State, &str) -> Result<()>,
) -> Result<()> {
    ours.until("the same keys in charon's log", |state| agree(state, &dumped(&charon.log()?)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// All that the log shows in hexadecimal, sixteen bytes a line, without what is between.
fn dumped(log: &str) -> String {
    let dump = |line: &str| {
        let (_, rest) = line.split_once(": ")?;
        let bytes: Vec<&str> = rest.split_whitespace().take(16).take_while(|word| word.len() == 2).collect();
        Some(bytes.concat())
    };
    log.lines().filter_map(dump).collect()
}
