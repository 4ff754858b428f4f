//! The command line.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, ValueEnum};

/// The data plane of Culvert: forwards GRE over IPsec between DPDK ports.
///
/// It attaches to the shared-memory region that culvertd makes, opens the ports that stand there and forwards. It
/// goes on without culvertd, and after a crash of its own it resumes the security associations that it finds.
#[derive(Debug, Clone, Parser)]
#[command(name = "culvert-dataplane", version, about, long_about)]
pub struct Options {
    /// Directory with the region and the socket of culvertd; it has to be in memory (tmpfs).
    #[arg(long, value_name = "DIR", default_value = "/run/culvert")]
    pub run_dir: PathBuf,

    /// Cipher engine.
    #[arg(long, value_enum, default_value_t = EngineChoice::Auto)]
    pub engine: EngineChoice,

    /// What an idle worker does.
    #[arg(long, value_enum, default_value_t = PollMode::Adaptive)]
    pub poll: PollMode,

    /// Number of workers.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1))]
    pub workers: u32,

    /// DPDK's heap in MiB: packet buffers, routes, access-lists. Without huge pages it costs only what is used.
    #[arg(long, value_name = "N", default_value_t = 384, value_parser = clap::value_parser!(u32).range(256..))]
    pub memory_mb: u32,

    /// CPUs to pin the workers to, like 1 or 2-3; without it the scheduler places them.
    #[arg(long, value_name = "LIST")]
    pub lcores: Option<CpuList>,

    /// What to log: a level, or directives like dataplane=debug.
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub log: String,
}

/// Which cipher engine to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EngineChoice {
    /// ipsec-mb when the CPU has what it needs, portable otherwise.
    Auto,
    /// Intel's ipsec-mb library: AES-NI, VAES, AVX-512.
    IpsecMb,
    /// Plain Rust; runs everywhere, slower.
    Portable,
}

impl From<EngineChoice> for forward::Choice {
    fn from(choice: EngineChoice) -> Self {
        match choice {
            EngineChoice::Auto => Self::Auto,
            EngineChoice::IpsecMb => Self::IpsecMb,
            EngineChoice::Portable => Self::Portable,
        }
    }
}

/// What an idle worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PollMode {
    /// Sleeps for at most 50 microseconds at a time.
    Adaptive,
    /// Never sleeps.
    Busy,
}

impl PollMode {
    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Adaptive => "adaptive",
            Self::Busy => "busy",
        }
    }
}

/// CPU numbers in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuList(pub Vec<usize>);

impl FromStr for CpuList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            let number: usize = text.parse().map_err(|_| format!("{text:?} is not a CPU number"))?;
            if number < rustix::thread::CpuSet::MAX_CPU {
                Ok(number)
            } else {
                Err(format!("there is no CPU {number}"))
            }
        };
        let mut cpus = Vec::new();
        for part in text.split(',') {
            match part.split_once('-') {
                None => cpus.push(number(part)?),
                Some((first, last)) => {
                    let (first, last) = (number(first)?, number(last)?);
                    if first > last {
                        return Err(format!("the range {part} is empty"));
                    }
                    cpus.extend(first..=last);
                }
            }
        }
        Ok(Self(cpus))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn cpu_lists_are_numbers_and_ranges() {
        assert_eq!("1".parse(), Ok(CpuList(vec![1])));
        assert_eq!("0,2-4".parse(), Ok(CpuList(vec![0, 2, 3, 4])));
        for wrong in ["", "a", "3-1", "1,", "99999"] {
            assert!(wrong.parse::<CpuList>().is_err(), "{wrong}");
        }
    }
}
