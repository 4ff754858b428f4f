//! First messages of peers that never answer, each from another address.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Context;
use ike::{Engine, Limits, Output};

use crate::peers::{self, Options};

/// Different first messages; each is sent with many SPIs.
const TEMPLATES: u32 = 64;
/// Sources, each with a socket.
const SOURCES: u32 = 2000;
/// Where the addresses of the flood begin, if nothing else is said: behind those of any peer that a responder knows.
const STRANGERS: u32 = 0x10_0000;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let remote: Ipv4Addr = options.value("remote", None)?;
    let per_second: u32 = options.value("per-second", Some(20_000))?;
    let seconds: f64 = options.value("seconds", Some(5.0))?;
    let first: u32 = options.value("first", Some(STRANGERS))?;
    let templates = (0..TEMPLATES)
        .map(|number| first_message(first + number, remote, options))
        .collect::<Result<Vec<_>, _>>()?;
    let sockets = (0..SOURCES)
        .map(|number| {
            let address = peers::address(first + number);
            UdpSocket::bind((address, 500)).with_context(|| format!("cannot bind {address}"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let begin = Instant::now();
    let (mut sent, mut refused) = (0u64, 0u64);
    while begin.elapsed().as_secs_f64() < seconds {
        let due = (begin.elapsed().as_secs_f64() * f64::from(per_second)) as u64;
        while sent < due {
            let socket = &sockets[(sent % u64::from(SOURCES)) as usize];
            let mut message = templates[(sent % u64::from(TEMPLATES)) as usize].clone();
            // Another SPI makes it another request.
            message[..8].copy_from_slice(&(0x5eed_0000_0000_0000 | (sent + 1)).to_be_bytes());
            refused += u64::from(socket.send_to(&message, (remote, 500)).is_err());
            sent += 1;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    println!(
        "{{\"sent\":{sent},\"refused\":{refused},\"per_second\":{:.0}}}",
        sent as f64 / begin.elapsed().as_secs_f64()
    );
    Ok(())
}

/// A good IKE_SA_INIT request.
fn first_message(number: u32, remote: Ipv4Addr, options: &Options) -> anyhow::Result<Vec<u8>> {
    let mut engine = Engine::new(Limits::default(), peers::seed()?);
    let connection = peers::connection(number, remote, &options.terms()?, true);
    engine.set_connection(Instant::now(), connection);
    std::iter::from_fn(|| engine.poll_output())
        .find_map(|output| match output {
            Output::Transmit { bytes, .. } => Some(bytes),
            Output::Sa(_) | Output::Event(_) | Output::Keep(_) => None,
        })
        .context("the engine sent nothing")
}
