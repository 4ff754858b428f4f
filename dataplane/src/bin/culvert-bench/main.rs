//! culvert-bench: runs the real worker between DPDK's generators and sinks, on one core.
//!
//! `encrypt`: net_pcap (infinite) -> worker -> net_null.
//! `loop`: net_pcap -> encrypting worker -> net_ring -> decrypting worker, with anti-replay -> net_null.
//! `both`: these two in turns of about a millisecond, so that what disturbs one disturbs the other.
//!
//! Tables are written into an anonymous region and applied by the same code as in the data plane. One line of JSON
//! comes out; a single dropped packet is an error.

mod capture;
mod gateway;
mod records;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use dataplane::options::EngineChoice;

#[derive(Debug, Parser)]
#[command(name = "culvert-bench", version, about = "Measures the forwarding worker on one core.")]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure encryption.
    Encrypt(Measurement),
    /// Measure encryption and decryption, one after the other on one core.
    Loop(Measurement),
    /// Measure both in turns, and from their difference decryption.
    Both(Measurement),
    /// Write the capture that the generator replays, for the same generator elsewhere.
    Capture {
        /// Size of a packet in bytes of IP.
        #[arg(long)]
        size: u16,
        /// Number of tunnels.
        #[arg(long, default_value_t = 1)]
        tunnels: u32,
        /// File to write.
        path: PathBuf,
    },
}

/// What to measure.
#[derive(Debug, Clone, Args)]
pub(crate) struct Measurement {
    /// Size of a passenger packet in bytes of IP.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(64..=1420))]
    size: u16,
    #[command(flatten)]
    tunnels: Tunnels,
    /// Cipher engine.
    #[arg(long, value_enum, default_value_t = EngineChoice::Auto)]
    engine: EngineChoice,
    /// Seconds to measure, after a warm-up.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// CPU to run on.
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// DPDK's heap in MiB.
    #[arg(long, default_value_t = 512)]
    memory_mb: u32,
}

/// The tunnels of a gateway.
#[derive(Debug, Clone, Args)]
pub(crate) struct Tunnels {
    /// Number of tunnels; packets go round robin in a shuffled order.
    #[arg(long = "tunnels", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=4096))]
    count: u32,
    /// What protects them.
    #[arg(long, value_enum, default_value_t = Protection::Profile)]
    protection: Protection,
    /// ESP mode.
    #[arg(long, value_enum, default_value_t = EspMode::Transport)]
    mode: EspMode,
    /// Extended sequence numbers.
    #[arg(long)]
    esn: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protection {
    /// An ipsec-profile on the tunnel.
    Profile,
    /// A crypto map on the port.
    CryptoMap,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EspMode {
    /// Transport mode.
    Transport,
    /// Tunnel mode.
    Tunnel,
}

fn main() -> ExitCode {
    let result = match Options::parse().command {
        Command::Encrypt(measurement) => run::encrypt(&measurement),
        Command::Loop(measurement) => run::encrypt_and_decrypt(&measurement),
        Command::Both(measurement) => run::both(&measurement),
        Command::Capture { size, tunnels, path } => {
            capture::write(&path, capture::generator_mac(0), size, tunnels)
                .map_err(anyhow::Error::from)
                .map(|()| String::new())
        }
    };
    match result {
        Ok(line) => {
            print!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("culvert-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
