//! The body of an SA payload of either version, chosen from.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| ike::sim::replay::proposals(data));
