//! charon's keys, which its log shows at level 4, beside ours: byte for byte, under charon's own names for them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use ike::ChildPair;
use ike::key_log::{KeyRecord, MixedRecord, PhaseOneRecord};

use super::Testimony;

/// The keys that belong together, by name.
type Set = BTreeMap<&'static str, String>;

/// Of each family of keys, the names; the first begins a set.
const FAMILIES: [&[&str]; 3] = [
    &[
        "Sk_d secret",
        "Sk_ai secret",
        "Sk_ar secret",
        "Sk_ei secret",
        "Sk_er secret",
        "Sk_pi secret",
        "Sk_pr secret",
    ],
    &["SKEYID", "SKEYID_d", "SKEYID_a", "SKEYID_e", "encryption key Ka"],
    &[
        "encryption initiator key",
        "encryption responder key",
        "integrity initiator key",
        "integrity responder key",
    ],
];
/// What charon says before it shows what became of keys by a PPK.
const MIXING: &str = "derive keys using PPK";

/// How many sets both have.
#[derive(Default)]
pub(super) struct Compared {
    ike_sas: usize,
    mixed: usize,
    phase_ones: usize,
    children: usize,
}

impl fmt::Display for Compared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ike_sas, mixed, phase_ones, children } = self;
        write!(
            formatter,
            "charon has our keys of {ike_sas} IKE SAs, {mixed} by a PPK, {phase_ones} ISAKMP SAs, {children} children"
        )
    }
}

/// Looks for our keys among charon's; an SA that came up must be there.
pub(super) fn compare(logs: &[PathBuf], engines: &[Testimony]) -> Result<Compared> {
    let log: String = logs
        .iter()
        .filter(|path| path.exists())
        .map(|path| Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned()))
        .collect::<Result<_>>()
        .context("cannot read charon's log")?;
    let theirs = sets(&log);
    let mut compared = Compared::default();
    let mut ours_mixed = Vec::new();
    for Testimony { keys, established, pairs, .. } in engines {
        for record in &keys.ike_sas {
            let spis = (record.spi_i, record.spi_r);
            let found = theirs.contains(&ike_sa(record));
            // Where somebody on the way changed what the keys are made of, they differ, and the SA never comes up.
            ensure!(found || !established.contains(&spis), "charon has other keys of {spis:016x?}");
            compared.ike_sas += usize::from(found);
        }
        let proven = |record: &PhaseOneRecord| theirs.contains(&phase_one(record));
        compared.phase_ones += keys.phase_ones.iter().filter(|record| proven(record)).count();
        for spis in established {
            let of_v2 = keys.ike_sas.iter().any(|record| (record.spi_i, record.spi_r) == *spis);
            let mut of_v1 = keys
                .phase_ones
                .iter()
                .filter(|record| (record.cookie_i, record.cookie_r) == *spis)
                .peekable();
            ensure!(of_v2 || of_v1.peek().is_some(), "{spis:016x?} came up without keys");
            // In aggressive mode the answer may be made again with a shorter nonce, and other keys; the last is sent. Where
            // the ends have different shared keys, SKEYID differs, and nothing comes up.
            ensure!(of_v2 || of_v1.any(proven), "charon has other keys of {spis:016x?}");
        }
        for pair in pairs {
            let [one, other] = child(pair);
            let found = theirs.contains(&one) || theirs.contains(&other);
            // A child that comes with a proof which charon refuses is none to it: its log never names the SPI.
            let named = log.contains(&format!("{:08x}", pair.spi_in));
            ensure!(found || !named, "charon has other keys of the child {:08x}", pair.spi_in);
            compared.children += usize::from(found);
        }
        ours_mixed.extend(keys.mixed.iter().map(mixed));
    }
    for set in theirs.iter().filter(|set| set.keys().all(|name| !name.starts_with("Sk_e"))) {
        if set.contains_key("Sk_d secret") {
            ensure!(ours_mixed.contains(set), "charon mixed the PPK into other keys");
            compared.mixed += 1;
        }
    }
    let said = log.matches(MIXING).count();
    ensure!(compared.mixed == said, "charon mixed {said} times, and shows {}", compared.mixed);
    Ok(compared)
}

fn ike_sa(record: &KeyRecord) -> Set {
    let [ai, ar] = &record.sk_a;
    let [ei, er] = &record.sk_e;
    let [pi, pr] = &record.sk_p;
    set(FAMILIES[0], &[&record.sk_d, ai, ar, ei, er, pi, pr])
}

fn mixed(record: &MixedRecord) -> Set {
    let [pi, pr] = &record.sk_p;
    set(FAMILIES[0], &[&record.sk_d, &[], &[], &[], &[], pi, pr])
}

fn phase_one(record: &PhaseOneRecord) -> Set {
    let PhaseOneRecord { skeyid, skeyid_d, skeyid_a, skeyid_e, key, .. } = record;
    set(FAMILIES[1], &[skeyid, skeyid_d, skeyid_a, skeyid_e, key])
}

/// As it is if we began the exchange that made it, and if the peer did.
fn child(pair: &ChildPair) -> [Set; 2] {
    let cipher = |keys: &ike::EspKeys| [keys.key.as_slice(), keys.salt.as_slice()].concat();
    let (inward, outward) = (&pair.keys_in, &pair.keys_out);
    [(outward, inward), (inward, outward)].map(|(initiators, responders)| {
        let ciphers = [cipher(initiators), cipher(responders)];
        set(
            FAMILIES[2],
            &[&ciphers[0], &ciphers[1], initiators.integrity.as_slice(), responders.integrity.as_slice()],
        )
    })
}

/// Keys that are not there are not shown.
fn set(names: &[&'static str], keys: &[&[u8]]) -> Set {
    let hex = |key: &[u8]| key.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
    names.iter().zip(keys).filter(|(_, key)| !key.is_empty()).map(|(name, key)| (*name, hex(key))).collect()
}

/// All sets of keys that a log shows. charon's threads write side by side, each line with its thread's number.
fn sets(log: &str) -> Vec<Set> {
    let mut done = Vec::new();
    let mut open: BTreeMap<(&str, usize), Set> = BTreeMap::new();
    let mut lines = log.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((thread, text)) = spoken(line) else { continue };
        let Some((name, length)) = heading(text) else { continue };
        let mut key = String::new();
        while key.len() < 2 * length
            && let Some(row) = lines.peek().and_then(|line| row(line, length - key.len() / 2))
        {
            key += &row;
            lines.next();
        }
        for (family, names) in FAMILIES.iter().enumerate() {
            let Some(name) = names.iter().find(|known| **known == name) else { continue };
            let set = open.entry((thread, family)).or_default();
            if names.first() == Some(name) {
                done.push(std::mem::take(set));
            }
            set.insert(name, key.clone());
        }
    }
    done.extend(open.into_values());
    done
}

/// The number of the thread and what it says.
fn spoken(line: &str) -> Option<(&str, &str)> {
    let (head, text) = line.split_once("] ")?;
    let (head, _group) = head.rsplit_once('[')?;
    Some((head.rsplit(' ').next()?, text))
}

/// `NAME => LENGTH bytes @ ADDRESS`.
fn heading(text: &str) -> Option<(&str, usize)> {
    let (name, rest) = text.split_once(" => ")?;
    Some((name, rest.split_once(" bytes")?.0.parse().ok()?))
}

/// `OFFSET: 00 11 22 ... TEXT`, of which so many bytes are left at most.
fn row(line: &str, left: usize) -> Option<String> {
    let (offset, bytes) = spoken(line)?.1.trim_start().split_once(": ")?;
    offset.parse::<usize>().ok()?;
    Some(bytes.split(' ').take(left.min(16)).collect())
}
