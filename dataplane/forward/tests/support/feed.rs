//! One input of the fuzzer: a byte that chooses the shape of the tunnel, then frames, each a byte for the way in, two for its
//! length, and its bytes.

use packet::Twin;
use shm::Drop;

use super::{ALPHA, BETA, BLACK, Gateway, RED, Shape, Suite, site};

/// Feeds the frames to a gateway one by one.
///
/// # Panics
/// A frame vanished: it was neither sent nor punted, and no drop was counted.
pub fn feed(input: &[u8]) {
    let Some((shape, mut rest)) = input.split_first() else { return };
    let bit = |n: u8| shape >> n & 1 == 1;
    let shape = Shape {
        tunnel_mode: bit(0),
        udp: bit(1),
        esn: bit(2),
        suite: Suite::any((shape >> 6) * 2 + u8::from(bit(3))),
        key: bit(4).then_some(7),
        crypto_map: bit(5),
    };
    let mut gateway = site(esp::Choice::Portable, shape, 2, BETA, ALPHA);
    while let [way, high, low, tail @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (frame, behind) = tail.split_at(len);
        one(&mut gateway, *way, frame);
        rest = behind;
    }
}

fn one(gateway: &mut Gateway, way: u8, frame: &[u8]) {
    let dropped = |gateway: &Gateway| Drop::ALL.iter().map(|reason| gateway.drops(*reason)).sum::<u64>();
    let before = dropped(gateway);
    let frames = [frame.to_vec()];
    let seen = match way % 4 {
        0 => gateway.wire(BLACK, &frames),
        1 => gateway.wire(RED, &frames),
        2 => gateway.host(Twin::tap(BLACK), &frames),
        _ => gateway.host(Twin::tun(0), &frames),
    };
    let dummy = gateway.counter(shm::Counter::EspOpened) != 0;
    assert!(!seen.nothing() || dropped(gateway) > before || dummy, "a frame vanished");
}
