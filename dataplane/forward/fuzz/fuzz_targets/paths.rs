//! Arbitrary frames through the paths in and out.
#![no_main]

#[path = "../../tests/support/mod.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|input: &[u8]| support::feed::feed(input));
