//! One datagram of any content to ends of version 1, at each moment of main mode.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| ike::sim::replay::datagram_v1(data));
