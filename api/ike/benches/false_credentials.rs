//! Whether the time of a refusal tells what was false: the key, the identity or both (RFC 7296 section 2.21.2 has one answer
//! for all of them).
//!
//! Time of the responder's calls for the IKE_AUTH request, in turns; the slowest tenth of each is noise and left out. Prints
//! for each kind the mean, and Welch's t against a wrong key: what dudect calls a leak begins at 4.5, if samples suffice.

use std::time::{Duration, Instant};

use ike::sim::setup;
use ike::{
    Authentication, Command, Connection, ConnectionId, Engine, Identity, Limits, Output, Path, PreSharedKey,
};
use zeroize::Zeroizing;

const KINDS: [&str; 3] = ["wrong-key", "unknown-identity", "both"];

fn initiator(kind: usize) -> Connection {
    let mut connection = setup::called(0, 1);
    if kind != 1 {
        let key = PreSharedKey(Zeroizing::new(b"another horse battery staple".to_vec()));
        connection.authentication = Authentication::pre_shared_key(key);
    }
    if kind != 0 {
        connection.local_identity = Identity::Address([192, 0, 2, 77].into());
    }
    connection
}

fn sent(engine: &mut Engine) -> Vec<(Path, Vec<u8>)> {
    let mut sent = Vec::new();
    while let Some(output) = engine.poll_output() {
        if let Output::Transmit { path, bytes } = output {
            sent.push((Path { local: path.remote, remote: path.local }, bytes));
        }
    }
    sent
}

/// What the responder took to refuse.
fn refusal(now: Instant, kind: usize, number: u32) -> Duration {
    let mut seed = [1; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    let (mut ours, mut theirs) =
        (Engine::new(Limits::default(), [2; 32]), Engine::new(Limits::default(), seed));
    ours.set_connection(now, setup::called(1, 1));
    theirs.set_connection(now, initiator(kind));
    theirs.handle_command(now, Command::Initiate(ConnectionId(1)));
    let mut took = Duration::ZERO;
    for _ in 0..2 {
        for (path, request) in sent(&mut theirs) {
            let begin = Instant::now();
            ours.handle_datagram(now, path, &request);
            let answers = sent(&mut ours);
            took = begin.elapsed();
            for (path, answer) in answers {
                theirs.handle_datagram(now, path, &answer);
            }
        }
    }
    assert_eq!(ours.counters().get("authentications_refused"), Some(&1));
    took
}

/// Mean and variance of the mean, in microseconds, without the slowest tenth.
fn summary(mut samples: Vec<Duration>) -> (f64, f64) {
    samples.sort();
    samples.truncate(samples.len() * 9 / 10);
    let count = samples.len() as f64;
    let micros = |sample: &Duration| sample.as_secs_f64() * 1e6;
    let mean = samples.iter().map(micros).sum::<f64>() / count;
    let variance = samples.iter().map(|sample| (micros(sample) - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, variance / count)
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick" || argument == "--test");
    let rounds = if quick { 50 } else { 20_000 };
    let now = Instant::now();
    let mut samples = KINDS.map(|_| Vec::new());
    for round in 0..rounds {
        for turn in 0..KINDS.len() {
            let kind = (turn + round as usize) % KINDS.len();
            samples[kind].push(refusal(now, kind, round));
        }
    }
    let summaries = samples.map(summary);
    let (reference, of_reference) = summaries[0];
    for (name, (mean, of_mean)) in KINDS.into_iter().zip(summaries) {
        let t = (mean - reference) / (of_mean + of_reference).sqrt();
        println!("false-credentials/{name} {mean:.2} us, t {t:+.1}");
    }
}
