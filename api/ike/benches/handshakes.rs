//! IKEv2 handshakes (IKE_SA_INIT and IKE_AUTH with a first child) per second of the responder's own time.
//!
//! Wall time of the responder's calls only, one at a time, so on a quiet machine it is CPU time.

use std::time::{Duration, Instant};

use ike::sim::setup;
use ike::{
    Command, ConnectionId, Engine, Group, Hash, IkeEncryption, IkeProposal, Limits, Output, Path, SaOperation,
};

fn drain(engine: &mut Engine, now: Instant) -> Vec<(Path, Vec<u8>)> {
    let mut sent = Vec::new();
    while let Some(output) = engine.poll_output() {
        match output {
            Output::Transmit { path, bytes } => {
                sent.push((Path { local: path.remote, remote: path.local }, bytes));
            }
            Output::Sa(SaOperation::Install { operation, .. }) => {
                engine.handle_sa_result(now, operation, Ok(()));
            }
            Output::Sa(_) | Output::Event(_) | Output::Keep(_) => {}
        }
    }
    sent
}

fn bench(name: &str, encryption: IkeEncryption, group: Group, rounds: u32) {
    let now = Instant::now();
    let connection = |side| {
        let mut connection = setup::connection(side, 1);
        connection.children[0].start = side == 0;
        connection.proposals = vec![IkeProposal {
            encryption: vec![encryption],
            integrity: vec![Hash::Sha2_256],
            prf: vec![Hash::Sha2_256],
            groups: vec![group],
            ..IkeProposal::default()
        }];
        connection
    };
    let mut responder = Engine::new(Limits::default(), [2; 32]);
    responder.set_connection(now, connection(1));
    let mut spent = Duration::ZERO;
    for round in 0..rounds {
        let mut seed = [1; 32];
        seed[..4].copy_from_slice(&round.to_be_bytes());
        let mut initiator = Engine::new(Limits::default(), seed);
        initiator.set_connection(now, connection(0));
        initiator.handle_command(now, Command::Initiate(ConnectionId(1)));
        let mut requests = drain(&mut initiator, now);
        while let Some((path, request)) = requests.pop() {
            let begin = Instant::now();
            responder.handle_datagram(now, path, &request);
            let responses = drain(&mut responder, now);
            spent += begin.elapsed();
            for (path, response) in responses {
                initiator.handle_datagram(now, path, &response);
                requests.extend(drain(&mut initiator, now));
            }
        }
        assert_eq!(initiator.isakmp_sas(now)[0].state, "established");
        responder.remove_connection(now, ConnectionId(1));
        responder.set_connection(now, connection(1));
        responder.handle_timeout(now + Duration::from_secs(100));
        drain(&mut responder, now);
    }
    let rate = f64::from(rounds) / spent.as_secs_f64();
    println!("handshakes/responder/{name} {rate:.0} per CPU-second");
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick" || argument == "--test");
    let rounds = if quick { 20 } else { 500 };
    bench("aes-256-gcm/x25519", IkeEncryption::Aes256Gcm16, Group::Curve25519, rounds);
    bench("aes-128-gcm/p-256", IkeEncryption::Aes128Gcm16, Group::EcpP256, rounds);
    bench("aes-256-cbc/modp-2048", IkeEncryption::Aes256Cbc, Group::Modp2048, rounds);
    bench("chacha20-poly1305/x25519", IkeEncryption::ChaCha20Poly1305, Group::Curve25519, rounds);
    bench("chacha20-poly1305/modp-8192", IkeEncryption::ChaCha20Poly1305, Group::Modp8192, rounds / 10);
}
