//! One datagram of any content to a responder that knows its sender.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| ike::sim::replay::datagram(data));
