//! The fuzzer's corpus, replayed.

#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers")]

mod support;

use std::path::Path;

#[test]
fn every_input_of_the_corpus_passes() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/paths");
    let mut inputs: Vec<_> = std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(inputs.len() >= 10, "the corpus is there");
    for input in inputs {
        support::feed::feed(&std::fs::read(input).unwrap());
    }
}
