//! culvert-dataplane: the data plane process.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, bail};
use clap::Parser;
use dataplane::host::Host;
use dataplane::memory;
use dataplane::options::Options;
use dpdk::{Eal, EalOptions, Memory};
use forward::Engine;
use rustix::thread::CpuSet;
use signal_hook::consts::{SIGINT, SIGTERM};

fn main() -> ExitCode {
    let options = Options::parse();
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line with the whole chain.
            eprintln!("culvert-dataplane: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> anyhow::Result<()> {
    start_log(&options.log)?;
    shm::core_dump::forbid().context("core dumps cannot be forbidden")?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    if !options.run_dir.is_dir() {
        bail!("the run directory {} does not exist", options.run_dir.display());
    }
    let engine = Engine::select(options.engine.into()).context("no cipher engine")?;
    let memory = memory::choose(options.memory_mb);
    let eal = Eal::start(
        "culvert-dataplane",
        &EalOptions { memory, memory_mb: options.memory_mb, cpus: allowed_cpus()?, pci: has_pci_drivers() },
    )
    .context("DPDK cannot start")?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        engine = engine.name(),
        instructions = engine.instructions(),
        portable = engine.portable_parts(),
        memory = match memory {
            Memory::HugePages => "huge pages",
            Memory::OrdinaryPages => "ordinary pages (no huge pages free)",
        },
        poll = options.poll.name(),
        "started"
    );
    Host::new(options, eal, memory, engine)?.run(&stop)
}

fn start_log(filter: &str) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter).context("--log")?;
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
    Ok(())
}

/// CPUs that this process may run on: DPDK would pin its main thread to one of them otherwise.
fn allowed_cpus() -> anyhow::Result<Vec<usize>> {
    let set = rustix::thread::sched_getaffinity(None).context("the CPUs of this process cannot be read")?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Whether a PCI device is bound to a userspace driver: only then DPDK has to look at the bus.
fn has_pci_drivers() -> bool {
    ["vfio-pci", "uio_pci_generic", "igb_uio"].iter().any(|driver| {
        std::fs::read_dir(format!("/sys/bus/pci/drivers/{driver}")).is_ok_and(|entries| {
            entries.flatten().any(|entry| entry.file_name().to_string_lossy().contains(':'))
        })
    })
}
