//! Replays the fuzzers' corpora: the beginning of a file's name says what it is an input of.

use std::collections::BTreeMap;
use std::path::Path;

use ike::sim::replay;

/// How the names of its inputs begin, and what runs one.
type Entry = (&'static str, fn(&[u8]));

const ENTRIES: [Entry; 8] = [
    ("wire", replay::datagram),
    ("steps", replay::steps),
    ("wirev1", replay::datagram_v1),
    ("frag", replay::fragments),
    ("open", replay::opened),
    ("select", replay::proposals),
    ("narrow", replay::selectors),
    ("identity", replay::identity),
];

#[test]
fn the_corpus_passes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut replayed: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let kind = name.split('_').next().unwrap();
        let (kind, run) = ENTRIES.iter().find(|(known, _)| *known == kind).expect("nothing runs this file");
        println!("{name}");
        run(&std::fs::read(&file).unwrap());
        *replayed.entry(*kind).or_default() += 1;
    }
    for (kind, _) in ENTRIES {
        assert!(replayed.get(kind).is_some_and(|count| *count >= 10), "{kind}: {replayed:?}");
    }
}
