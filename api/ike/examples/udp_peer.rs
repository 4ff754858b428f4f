//! A small driver around the engine, to meet foreign IKE daemons: one connection with one child, from flags.
//!
//! ```text
//! udp_peer --local 10.9.0.1 --remote 10.9.0.2 --local-id a.example --remote-id b.example --psk secret \
//!     --suite gcm256-x25519 --mode tunnel --local-ts 10.1.0.1 --remote-ts 10.2.0.1 --protocol 0 \
//!     [--kem 768|1024] [--require-kem] [--ppk SECRET --ppk-id NAME] [--require-ppk] [--fragment 576] \
//!     [--pfs] [--listen] [--dpd 5] [--retransmit 4] [--ports 500,4500] [--at 3=rekey-child] [--at 5=rekey-ike] [--at 8=terminate] --run 10
//! ```
//! Against strongSwan's charon with kernel-libipsec (no ESP in the kernel needed): tunnel mode only; `encap = yes`
//! there; an address within its `local_ts` on an interface of its own, and a route to its `remote_ts`, or it refuses the
//! child with TS_UNACCEPTABLE; `noesn` in its ESP proposals, or it accepts ESN and then fails to install.
//!
//! It installs nothing: SAs are printed (SPIs, algorithms, a fingerprint of the keys), datagrams are named by length.
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ike::*;
use zeroize::Zeroizing;

struct Arguments {
    values: BTreeMap<String, String>,
    at: Vec<(Duration, String)>,
}

impl Arguments {
    fn parse() -> anyhow::Result<Self> {
        let mut parsed = Self { values: BTreeMap::new(), at: Vec::new() };
        let mut arguments = std::env::args().skip(1);
        while let Some(flag) = arguments.next() {
            let name = flag.strip_prefix("--").context("flags begin with --")?.to_owned();
            if matches!(name.as_str(), "listen" | "pfs" | "require-kem" | "require-ppk") {
                parsed.values.insert(name, String::new());
                continue;
            }
            let value = arguments.next().with_context(|| format!("--{name} wants a value"))?;
            if name == "at" {
                let (secs, what) = value.split_once('=').context("--at SECS=COMMAND")?;
                parsed.at.push((Duration::from_secs_f64(secs.parse()?), what.to_owned()));
            } else {
                parsed.values.insert(name, value);
            }
        }
        parsed.at.sort();
        Ok(parsed)
    }

    fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    fn text(&self, name: &str) -> anyhow::Result<&str> {
        self.values.get(name).map(String::as_str).with_context(|| format!("--{name} is missing"))
    }

    fn or<'a>(&'a self, name: &str, otherwise: &'a str) -> &'a str {
        self.values.get(name).map_or(otherwise, String::as_str)
    }
}

fn suite(name: &str) -> anyhow::Result<(IkeProposal, Group)> {
    let (encryption, group) = match name {
        "gcm256-x25519" => (IkeEncryption::Aes256Gcm16, Group::Curve25519),
        "cbc256-modp2048" => (IkeEncryption::Aes256Cbc, Group::Modp2048),
        "chacha-modp8192" => (IkeEncryption::ChaCha20Poly1305, Group::Modp8192),
        "gcm128-p256" => (IkeEncryption::Aes128Gcm16, Group::EcpP256),
        "cbc128-p384" => (IkeEncryption::Aes128Cbc, Group::EcpP384),
        other => bail!("unknown suite {other}"),
    };
    let proposal = IkeProposal {
        encryption: vec![encryption],
        integrity: vec![Hash::Sha2_256],
        prf: vec![Hash::Sha2_256],
        groups: vec![group],
        ..IkeProposal::default()
    };
    Ok((proposal, group))
}

fn identity(text: &str) -> Identity {
    text.parse().map_or_else(|_| Identity::Fqdn(text.to_owned()), Identity::Address)
}

fn connection(arguments: &Arguments) -> anyhow::Result<Connection> {
    let (mut proposal, group) = suite(arguments.or("suite", "gcm256-x25519"))?;
    if arguments.has("kem") {
        let methods: Vec<KeyEncapsulation> = match arguments.or("kem", "") {
            "768" => vec![KeyEncapsulation::MlKem768],
            "1024" => vec![KeyEncapsulation::MlKem1024],
            other => bail!("unknown ML-KEM {other}"),
        };
        proposal.additional_key_exchanges = vec![methods];
        proposal.additional_required = arguments.has("require-kem");
    }
    let ppk = arguments.values.get("ppk").map(|secret| Ppk {
        id: arguments.or("ppk-id", "ppk").as_bytes().to_vec(),
        key: PreSharedKey(Zeroizing::new(secret.as_bytes().to_vec())),
        required: arguments.has("require-ppk"),
    });
    let protocol = arguments.or("protocol", "47").parse()?;
    let selector = |name: &str| -> anyhow::Result<TrafficSelector> {
        let address: IpAddr = arguments.text(name)?.parse()?;
        Ok(TrafficSelector { first: address, last: address, protocol, ports: (0, u16::MAX) })
    };
    let esp = EspProposal {
        encryption: vec![EspEncryption::Aes256Gcm16, EspEncryption::Aes128Gcm16],
        integrity: vec![],
        groups: if arguments.has("pfs") { vec![group] } else { vec![] },
        esn: vec![true, false],
    };
    let soft = Duration::from_secs(arguments.or("child-lifetime", "3600").parse()?);
    let child = ChildConfig {
        id: ChildId(1),
        mode: if arguments.or("mode", "tunnel") == "transport" { Mode::Transport } else { Mode::Tunnel },
        tunnel_fallback: false,
        local_selectors: vec![selector("local-ts")?],
        remote_selectors: vec![selector("remote-ts")?],
        proposals: vec![esp],
        lifetime: ChildLifetime {
            soft,
            hard: soft * 2,
            soft_packets: None,
            hard_packets: None,
            soft_bytes: None,
            hard_bytes: None,
        },
        start: !arguments.has("listen"),
    };
    Ok(Connection {
        id: ConnectionId(1),
        version: Version::V2,
        local: arguments.text("local")?.parse()?,
        remote: arguments.text("remote")?.parse()?,
        local_identity: identity(arguments.text("local-id")?),
        remote_identity: identity(arguments.text("remote-id")?),
        authentication: Authentication::pre_shared_key(PreSharedKey(Zeroizing::new(
            arguments.text("psk")?.as_bytes().to_vec(),
        ))),
        ppk,
        nat_traversal: NatTraversal::Auto,
        proposals: vec![proposal],
        lifetime: Duration::from_secs(86_400),
        dpd: Some(Dpd { interval: Duration::from_secs(arguments.or("dpd", "30").parse()?) }),
        children: vec![child],
    })
}

fn describe(operation: &SaOperation) -> String {
    match operation {
        SaOperation::Install { send, pair, .. } => format!(
            "install in {:08x} out {:08x} {:?} {:?} esn {} encapsulated {} send {send} {:?} <-> {:?}",
            pair.spi_in,
            pair.spi_out,
            pair.mode,
            pair.encryption,
            pair.esn,
            pair.udp_encapsulation,
            pair.local_selectors.iter().map(|ts| (ts.first, ts.last, ts.protocol)).collect::<Vec<_>>(),
            pair.remote_selectors.iter().map(|ts| (ts.first, ts.last, ts.protocol)).collect::<Vec<_>>(),
        ),
        SaOperation::SwitchOutbound { spi_in, .. } => format!("switch outbound to pair {spi_in:08x}"),
        SaOperation::Move { spi_in, path, .. } => {
            format!("move pair {spi_in:08x} from {} to {}", path.local, path.remote)
        }
        SaOperation::Release { spi_in } => format!("release pair {spi_in:08x}"),
        SaOperation::Remove { spi_in, linger } => format!("remove pair {spi_in:08x} linger {linger:?}"),
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse()?;
    let connection = connection(&arguments)?;
    let (ike_port, nat_port) = arguments.or("ports", "500,4500").split_once(',').context("--ports A,B")?;
    let limits = Limits {
        ike_port: ike_port.parse()?,
        nat_port: nat_port.parse()?,
        fragment_ipv4_bytes: arguments.or("fragment", "576").parse()?,
        retransmit_base: Duration::from_secs_f64(arguments.or("retransmit", "4").parse()?),
        ..Limits::default()
    };
    let mut seed = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    let sockets = [limits.ike_port, limits.nat_port].map(|port| UdpSocket::bind((connection.local, port)));
    let [ike_socket, nat_socket] = sockets;
    let sockets = [ike_socket?, nat_socket?];
    for socket in &sockets {
        socket.set_nonblocking(true)?;
    }
    let begin = Instant::now();
    let end = begin + Duration::from_secs_f64(arguments.or("run", "10").parse()?);
    let mut engine = Engine::new(limits, seed);
    engine.set_connection(begin, connection);
    let mut commands = arguments.at.iter().peekable();
    let mut silent = false;
    let mut buffer = vec![0; 65_536];
    loop {
        drain(&mut engine, &sockets, begin, silent)?;
        let now = Instant::now();
        if now >= end {
            break;
        }
        if let Some((_, what)) = commands.next_if(|(at, _)| begin + *at <= now) {
            println!("{:8.3} command {what}", now.duration_since(begin).as_secs_f64());
            let command = match what.as_str() {
                "initiate" => Command::InitiateChild(ChildId(1)),
                "rekey-child" => Command::RekeyChild(ChildId(1)),
                "rekey-ike" => Command::RekeyIke(ConnectionId(1)),
                "terminate" => Command::Terminate(ConnectionId(1)),
                "silence" => {
                    silent = true;
                    continue;
                }
                other => bail!("unknown command {other}"),
            };
            engine.handle_command(now, command);
            continue;
        }
        if engine.poll_timeout().is_some_and(|at| at <= now) {
            engine.handle_timeout(now);
            continue;
        }
        let mut idle = true;
        for socket in &sockets {
            match socket.recv_from(&mut buffer) {
                Ok((len, remote)) => {
                    idle = false;
                    let path = Path { local: socket.local_addr()?, remote };
                    let classified = engine.handle_datagram(now, path, &buffer[..len]);
                    println!(
                        "{:8.3} in  {remote} {len} bytes {classified:?}",
                        now.duration_since(begin).as_secs_f64()
                    );
                    drain(&mut engine, &sockets, begin, silent)?;
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if idle {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    for sa in engine.isakmp_sas(Instant::now()) {
        println!(
            "ike sa {:016x} {:016x} {} {} children {:x?}",
            sa.spi_i, sa.spi_r, sa.state, sa.suite, sa.children
        );
    }
    println!("counters {:?}", engine.counters());
    Ok(())
}

fn drain(engine: &mut Engine, sockets: &[UdpSocket; 2], begin: Instant, silent: bool) -> anyhow::Result<()> {
    while let Some(output) = engine.poll_output() {
        let now = Instant::now();
        let at = now.duration_since(begin).as_secs_f64();
        match output {
            Output::Transmit { path, bytes } => {
                println!(
                    "{at:8.3} out {} {} bytes{}",
                    path.remote,
                    bytes.len(),
                    if silent { " (kept)" } else { "" }
                );
                let from = |socket: &&UdpSocket| {
                    socket.local_addr().map(|address: SocketAddr| address.port()).ok()
                        == Some(path.local.port())
                };
                if let Some(socket) = sockets.iter().find(from).filter(|_| !silent) {
                    socket.send_to(&bytes, path.remote)?;
                }
            }
            Output::Event(event) => println!("{at:8.3} event {event:?}"),
            Output::Keep(_) => {}
            Output::Sa(operation) => {
                println!("{at:8.3} sa {}", describe(&operation));
                if let SaOperation::Install { operation, .. } = operation {
                    engine.handle_sa_result(now, operation, Ok(()));
                }
            }
        }
    }
    Ok(())
}
