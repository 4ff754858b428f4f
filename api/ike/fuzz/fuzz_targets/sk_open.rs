//! Any payloads under the keys of an IKE SA.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| ike::sim::replay::opened(data));
