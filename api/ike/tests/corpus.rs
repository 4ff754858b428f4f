//! Replays the fuzzers' corpus: `wire_*` is a datagram, `steps_*` a sequence of steps.

use std::path::Path;

#[test]
fn the_corpus_passes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut replayed = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let data = std::fs::read(&file).unwrap();
        println!("{name}");
        if name.starts_with("wire_") {
            ike::sim::replay::datagram(&data);
        } else {
            ike::sim::replay::steps(&data);
        }
        replayed += 1;
    }
    assert!(replayed >= 10, "{replayed} files");
}
