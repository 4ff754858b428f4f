//! Traffic selectors of a policy and of a payload, narrowed.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| ike::sim::replay::selectors(data));
