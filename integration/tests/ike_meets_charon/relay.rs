//! What is between the two ends: it can lose, repeat, change and hold datagrams, chosen by their number.
//!
//! Messages are counted from 0 in each direction as the engine or charon makes them; a retransmission has its
//! message's number, and only the first copy is acted on. So a script does the same in each run.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

pub(crate) use integration::witness::Direction;

/// What to do with the first copy of a message.
pub(crate) enum Action {
    /// It is lost.
    Drop,
    /// It comes as this makes it.
    Change(Change),
    /// It waits, and what comes after it.
    Hold,
}

/// What somebody on the way makes of a datagram.
pub(crate) type Change = Box<dyn FnOnce(&mut Vec<u8>) + Send>;

/// A chance for everything that passes, from a seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// Where the chances come from.
    pub(crate) seed: u64,
    /// Of a hundred datagrams, lost.
    pub(crate) loss: u64,
    /// Of a hundred datagrams, repeated.
    pub(crate) repeated: u64,
    /// Of a hundred datagrams, late, so that later ones overtake them.
    pub(crate) late: u64,
}

const LATE_BY: Duration = Duration::from_millis(150);

/// One direction. `T` is where a datagram goes or comes from.
pub(crate) struct Lane<T> {
    known: Vec<Vec<u8>>,
    script: BTreeMap<usize, Action>,
    weather: Option<Weather>,
    held: Option<Vec<(T, Vec<u8>)>>,
    ready: VecDeque<(Instant, T, Vec<u8>)>,
}

impl<T: Clone> Lane<T> {
    pub(crate) fn new() -> Self {
        Self { known: Vec::new(), script: BTreeMap::new(), weather: None, held: None, ready: VecDeque::new() }
    }

    /// Acts on the message with this number when it comes.
    pub(crate) fn script(&mut self, number: usize, action: Action) {
        self.script.insert(number, action);
    }

    /// How many different messages have come.
    pub(crate) fn count(&self) -> usize {
        self.known.len()
    }

    /// The messages that have come, in order.
    pub(crate) fn known(&self) -> &[Vec<u8>] {
        &self.known
    }

    pub(crate) fn set_weather(&mut self, weather: Option<Weather>) {
        self.weather = weather;
    }

    /// From now on everything waits.
    pub(crate) fn hold(&mut self) {
        self.held.get_or_insert_default();
    }

    /// What waits goes on, in order.
    pub(crate) fn release(&mut self, now: Instant) {
        for (way, bytes) in self.held.take().into_iter().flatten() {
            self.ready.push_back((now, way, bytes));
        }
    }

    /// Somebody on the way makes this of the datagrams that wait.
    pub(crate) fn change_held(&mut self, mut change: impl FnMut(&mut Vec<u8>)) {
        self.held.iter_mut().flatten().for_each(|(_, bytes)| change(bytes));
    }

    /// What waits goes on as these datagrams, and nothing waits any more.
    pub(crate) fn release_as(&mut self, now: Instant, datagrams: Vec<Vec<u8>>) {
        let Some((way, _)) = self.held.take().into_iter().flatten().next() else { return };
        self.ready.extend(datagrams.into_iter().map(|bytes| (now, way.clone(), bytes)));
    }

    /// A datagram of somebody's on the way, past all that waits.
    pub(crate) fn inject(&mut self, now: Instant, way: T, bytes: Vec<u8>) {
        self.ready.push_back((now, way, bytes));
    }

    /// What waits, in order.
    pub(crate) fn held(&self) -> impl Iterator<Item = &[u8]> {
        self.held.iter().flatten().map(|(_, bytes)| bytes.as_slice())
    }

    /// One that waits goes on, while the others wait on.
    pub(crate) fn release_one(&mut self, now: Instant, index: usize) {
        if let Some(held) = self.held.as_mut().filter(|held| index < held.len()) {
            let (way, bytes) = held.remove(index);
            self.ready.push_back((now, way, bytes));
        }
    }

    /// What waits is lost.
    pub(crate) fn forget(&mut self) {
        self.held = None;
    }

    /// Whether all that was not held has arrived.
    pub(crate) fn idle(&self) -> bool {
        self.ready.is_empty()
    }

    /// How many wait.
    pub(crate) fn holding(&self) -> usize {
        self.held.as_ref().map_or(0, Vec::len)
    }

    /// A datagram comes.
    pub(crate) fn push(&mut self, now: Instant, way: T, mut bytes: Vec<u8>) {
        let mut copies = 1;
        if !self.known.contains(&bytes) {
            let number = self.known.len();
            self.known.push(bytes.clone());
            match self.script.remove(&number) {
                Some(Action::Drop) => return,
                Some(Action::Change(change)) => change(&mut bytes),
                Some(Action::Hold) => self.hold(),
                None => {}
            }
        }
        let mut at = now;
        if let Some(weather) = &mut self.weather {
            if weather.chance(weather.loss) {
                return;
            }
            copies += u32::from(weather.chance(weather.repeated));
            if weather.chance(weather.late) {
                at += LATE_BY;
            }
        }
        for _ in 0..copies {
            match &mut self.held {
                Some(held) => held.push((way.clone(), bytes.clone())),
                None => self.ready.push_back((at, way.clone(), bytes.clone())),
            }
        }
    }

    /// The next datagram that arrives.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(T, Vec<u8>)> {
        let index = self.ready.iter().position(|(at, ..)| *at <= now)?;
        self.ready.remove(index).map(|(_, way, bytes)| (way, bytes))
    }
}

impl Weather {
    /// True in that many of a hundred cases (splitmix64).
    fn chance(&mut self, percent: u64) -> bool {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % 100 < percent
    }
}
