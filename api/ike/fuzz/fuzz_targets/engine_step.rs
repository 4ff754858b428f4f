//! A sequence of steps, encoded in the input, on two engines that are connected.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| ike::sim::replay::steps(data));
