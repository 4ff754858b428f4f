//! A link that loses, doubles and reorders.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Nat;
use crate::Path;
use crate::crypto::Random;

/// How bad a link is.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Datagrams lost, in percent.
    pub loss_percent: u32,
    /// Datagrams delivered twice, in percent.
    pub duplication_percent: u32,
    /// Shortest way.
    pub delay: Duration,
    /// What a datagram may take longer; more than the time between datagrams means reordering.
    pub jitter: Duration,
}

impl Weather {
    /// Nothing is lost, and everything takes 10 ms.
    pub const FAIR: Self = Self {
        loss_percent: 0,
        duplication_percent: 0,
        delay: Duration::from_millis(10),
        jitter: Duration::ZERO,
    };
    /// 30 % lost, 30 % doubled, and a jitter longer than the first wait for a retransmission.
    pub const FOUL: Self = Self {
        loss_percent: 30,
        duplication_percent: 30,
        delay: Duration::from_millis(10),
        jitter: Duration::from_secs(6),
    };
}

/// See [`Weather`].
pub struct Link {
    random: Random,
    weather: Weather,
    under_way: BTreeMap<(Instant, u64), (usize, Path, Vec<u8>)>,
    next: u64,
    /// All that was ever sent: from which end, how, and what.
    pub log: Vec<(usize, Path, Vec<u8>)>,
    /// Nothing passes while this is set.
    pub cut: bool,
    /// NATs on the way.
    pub nats: Vec<Nat>,
    /// Where each end is, if it is at one address only: what is sent elsewhere is lost.
    pub homes: [Option<IpAddr>; 2],
}

impl Link {
    pub(super) fn new(seed: u64, weather: Weather) -> Self {
        let mut link_seed = [0xa5; 32];
        link_seed[..8].copy_from_slice(&seed.to_be_bytes());
        Self {
            random: Random::new(link_seed),
            weather,
            under_way: BTreeMap::new(),
            next: 0,
            log: Vec::new(),
            cut: false,
            nats: Vec::new(),
            homes: [None; 2],
        }
    }

    /// Changes the weather for what is sent from now on.
    pub fn turn(&mut self, weather: Weather) {
        self.weather = weather;
    }

    fn happens(&mut self, percent: u32) -> bool {
        self.random.u32() % 100 < percent
    }

    pub(super) fn send(&mut self, now: Instant, from: usize, path: Path, bytes: Vec<u8>) {
        self.log.push((from, path, bytes.clone()));
        if self.cut || self.happens(self.weather.loss_percent) {
            return;
        }
        let copies = if self.happens(self.weather.duplication_percent) { 2 } else { 1 };
        for _ in 0..copies {
            let jitter = self.weather.jitter - self.random.shortened(self.weather.jitter, 100);
            let Some(path) = self.nats.iter_mut().try_fold(path, |path, nat| nat.pass(from, path)) else {
                return;
            };
            let there = Path { local: path.remote, remote: path.local };
            self.next += 1;
            self.under_way
                .insert((now + self.weather.delay + jitter, self.next), (1 - from, there, bytes.clone()));
        }
    }

    pub(super) fn next_arrival(&self) -> Option<Instant> {
        self.under_way.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn arrive(&mut self, now: Instant) -> Option<(usize, Path, Vec<u8>)> {
        let due = self.under_way.first_entry().filter(|entry| entry.key().0 <= now)?.remove();
        let (side, path, _) = &due;
        self.homes[*side].is_none_or(|home| home == path.local.ip()).then_some(due)
    }
}
