//! Our engine as responder: what culvertd does, without tables and dataplane.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use ike::{Engine, Limits, Output, Path, SaOperation};

use crate::peers::{self, Options};
use crate::tally::{Asked, Tally};

/// Datagrams of one socket before the other has its turn.
const DATAGRAMS_PER_TURN: usize = 32;

/// Serves until it is killed. Prints "ready" when the connections are there, and with `--tally true` a report for
/// each line of input.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let local: Ipv4Addr = options.value("local", None)?;
    let terms = options.terms()?;
    // The usual limits ask for cookies when many are half open.
    let limits = if options.value("cookies", Some(false))? {
        Limits { initial_contact: false, ..Limits::default() }
    } else {
        peers::open_limits()
    };
    let sockets = [UdpSocket::bind((local, limits.ike_port))?, UdpSocket::bind((local, limits.nat_port))?];
    // The first waits, so that an idle responder costs nothing; the second is looked at after it.
    sockets[0].set_read_timeout(Some(Duration::from_millis(1)))?;
    sockets[1].set_nonblocking(true)?;
    let mut engine = Engine::new(limits, peers::seed()?);
    for number in 0..options.value("peers", None)? {
        let connection = peers::connection(number, local, &terms, false);
        engine.set_connection(Instant::now(), connection);
    }
    // Only where it is asked for: its memory is not the engine's.
    let mut tally = options.value("tally", Some(false))?.then(|| Tally::new(terms));
    let asked = Asked::listen();
    drain(&mut engine, &sockets, &mut tally);
    println!("ready");
    let mut buffer = vec![0; 65_536];
    loop {
        if asked.take()
            && let Some(tally) = &tally
        {
            println!("{}", tally.report(Instant::now(), &engine));
        }
        for socket in &sockets {
            for _ in 0..DATAGRAMS_PER_TURN {
                match socket.recv_from(&mut buffer) {
                    Ok((len, remote)) => {
                        let path = Path { local: socket.local_addr()?, remote };
                        engine.handle_datagram(Instant::now(), path, buffer.get(..len).unwrap_or_default());
                        drain(&mut engine, &sockets, &mut tally);
                    }
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                        break;
                    }
                    // An ICMP error of a peer that is gone.
                    Err(_) => {}
                }
            }
        }
        if engine.poll_timeout().is_some_and(|at| at <= Instant::now()) {
            engine.handle_timeout(Instant::now());
            drain(&mut engine, &sockets, &mut tally);
        }
    }
}

fn drain(engine: &mut Engine, sockets: &[UdpSocket; 2], tally: &mut Option<Tally>) {
    while let Some(output) = engine.poll_output() {
        if let Some(tally) = tally {
            tally.output(Instant::now(), &output);
        }
        match output {
            Output::Transmit { path, bytes } => {
                let socket = if path.local.port() == 500 { &sockets[0] } else { &sockets[1] };
                // A datagram that is lost is sent again.
                let _lost = socket.send_to(&bytes, path.remote);
            }
            Output::Sa(SaOperation::Install { operation, .. }) => {
                engine.handle_sa_result(Instant::now(), operation, Ok(()));
            }
            Output::Sa(_) | Output::Event(_) | Output::Keep(_) => {}
        }
    }
}
