//! The measurements.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use dataplane::memory;
use dpdk::{Eal, EalOptions, Pool, Port, RxQueue, Started, TxQueue};
use forward::Engine;

use crate::Measurement;
use crate::capture::{self, generator_mac};
use crate::gateway::{BenchPort, Gateway};
use crate::records::{BLACK, RED, Role};

/// Caches, branch predictors and the clock of the CPU settle in this time.
const WARM_UP: Duration = Duration::from_millis(300);

/// Packet buffers: two captures of 4,096 packets are held in them, and what is under way.
const BUFFERS: u32 = 16383;

/// Polls of each gateway in a slice: about a millisecond.
const SLICE_POLLS: u32 = 256;

/// DPDK, a cipher engine and the opened vdevs.
struct Setup {
    eal: Eal,
    engine: Engine,
    pool: Pool,
    /// They run until the process ends.
    ports: Vec<Port<Started>>,
    /// Holds the captures.
    directory: tempfile::TempDir,
    generators: u8,
    sinks: u8,
}

/// Gateways that work one after the other, and the port by which the last one sends.
struct Chain {
    gateways: Vec<Gateway>,
    out: u32,
    slices: Vec<Slice>,
}

/// What a chain did in a slice of time.
#[derive(Debug, Clone, Copy)]
struct Slice {
    packets: u64,
    time: Duration,
}

impl Setup {
    fn new(measurement: &Measurement) -> anyhow::Result<Self> {
        ensure!(measurement.tunnels.count > 0, "at least one tunnel is needed");
        let engine = Engine::select(measurement.engine.into()).context("no cipher engine")?;
        let options = EalOptions {
            memory: memory::choose(measurement.memory_mb),
            memory_mb: measurement.memory_mb,
            cpus: vec![measurement.core],
            pci: false,
        };
        let eal = Eal::start("culvert-bench", &options).context("DPDK cannot start")?;
        let pool = Pool::new(&eal, "bench", BUFFERS, 2048)?;
        let directory = tempfile::tempdir()?;
        Ok(Self { eal, engine, pool, ports: Vec::new(), directory, generators: 0, sinks: 0 })
    }

    fn open(&mut self, device: &str) -> anyhow::Result<(RxQueue, TxQueue, [u8; 6])> {
        let port = Port::probe(&self.eal, &device.parse()?, 0, 1500).with_context(|| device.to_owned())?;
        let (port, rx, tx) =
            port.start(&self.pool).map_err(|(_, error)| error).with_context(|| device.to_owned())?;
        let mac = port.mac()?;
        self.ports.push(port);
        Ok((rx, tx, mac))
    }

    fn generator(&mut self, measurement: &Measurement) -> anyhow::Result<BenchPort> {
        let index = self.generators;
        self.generators += 1;
        let path = self.directory.path().join(format!("{index}.pcap"));
        capture::write(&path, generator_mac(index), measurement.size, measurement.tunnels.count)?;
        let device = format!("vdev:net_pcap{index},rx_pcap={},infinite_rx=1", path.display());
        let (rx, _, mac) = self.open(&device)?;
        ensure!(mac == generator_mac(index), "net_pcap has another address than its capture: {mac:x?}");
        Ok(BenchPort { slot: RED, mac, rx: Some(rx), tx: None })
    }

    fn sink(&mut self, slot: u32) -> anyhow::Result<BenchPort> {
        self.sinks += 1;
        let (_, tx, mac) = self.open(&format!("vdev:net_null{},no-rx=1", self.sinks))?;
        Ok(BenchPort { slot, mac, rx: None, tx: Some(tx) })
    }

    /// Generator, encrypting gateway, sink.
    fn encrypt_chain(&mut self, measurement: &Measurement) -> anyhow::Result<Chain> {
        let ports = vec![self.generator(measurement)?, self.sink(BLACK)?];
        let mut gateway = Gateway::new(&self.eal, self.engine, Role::Encrypt, "encrypt")?;
        gateway.configure(&measurement.tunnels, [2, 0, 0, 0, 0, 1])?;
        gateway.apply(&self.eal, ports)?;
        Ok(Chain { gateways: vec![gateway], out: BLACK, slices: Vec::new() })
    }

    /// Generator, encrypting gateway, ring, decrypting gateway, sink.
    fn loop_chain(&mut self, measurement: &Measurement) -> anyhow::Result<Chain> {
        let generator = self.generator(measurement)?;
        let sink = self.sink(RED)?;
        // A net_ring port receives what it sends: one gateway has its transmit queue, the other its receive queue.
        let (ring_rx, ring_tx, ring_mac) = self.open("vdev:net_ring0")?;
        let near_black = BenchPort { slot: BLACK, mac: [2, 0, 0, 0, 0, 2], rx: None, tx: Some(ring_tx) };
        let far_black = BenchPort { slot: BLACK, mac: ring_mac, rx: Some(ring_rx), tx: None };
        let mut near = Gateway::new(&self.eal, self.engine, Role::Encrypt, "near")?;
        near.configure(&measurement.tunnels, ring_mac)?;
        near.apply(&self.eal, vec![generator, near_black])?;
        let mut far = Gateway::new(&self.eal, self.engine, Role::Decrypt, "far")?;
        far.configure(&measurement.tunnels, [2, 0, 0, 0, 0, 3])?;
        far.apply(&self.eal, vec![sink, far_black])?;
        Ok(Chain { gateways: vec![near, far], out: RED, slices: Vec::new() })
    }
}

impl Chain {
    /// Polls all gateways in turn for a slice and notes what came out.
    fn work(&mut self) {
        let sent = |gateways: &[Gateway]| gateways.last().map_or(0, |gateway| gateway.sent(self.out));
        let before = sent(&self.gateways);
        let started = Instant::now();
        for _ in 0..SLICE_POLLS {
            for gateway in &mut self.gateways {
                gateway.worker.poll();
            }
        }
        let time = started.elapsed();
        self.slices.push(Slice { packets: sent(&self.gateways) - before, time });
    }

    /// Packets per microsecond in the median slice: a neighbour that takes the CPU away hits single ones.
    fn mpps(&self) -> anyhow::Result<f64> {
        for (index, gateway) in self.gateways.iter().enumerate() {
            let drops = gateway.drops();
            if !drops.is_empty() {
                bail!("gateway {index} dropped packets: {drops:?}");
            }
        }
        let mut rates: Vec<f64> =
            self.slices.iter().map(|slice| slice.packets as f64 / slice.time.as_secs_f64() / 1e6).collect();
        rates.sort_by(f64::total_cmp);
        let median = rates.get(rates.len() / 2).copied().unwrap_or_default();
        ensure!(median > 0.0, "no packet came through");
        Ok(median)
    }
}

/// Lets the chains work in turns, after a warm-up.
fn measure(measurement: &Measurement, chains: &mut [&mut Chain]) {
    for time in [WARM_UP, Duration::from_secs_f64(measurement.seconds)] {
        chains.iter_mut().for_each(|chain| chain.slices.clear());
        let started = Instant::now();
        while started.elapsed() < time {
            chains.iter_mut().for_each(|chain| chain.work());
        }
    }
}

/// Measures encryption; gives the line of JSON.
pub(crate) fn encrypt(measurement: &Measurement) -> anyhow::Result<String> {
    let mut setup = Setup::new(measurement)?;
    let mut chain = setup.encrypt_chain(measurement)?;
    measure(measurement, &mut [&mut chain]);
    Ok(line(measurement, &setup.engine, &[("encrypt_mpps", chain.mpps()?)]))
}

/// Measures encryption followed by decryption; gives the line of JSON.
pub(crate) fn encrypt_and_decrypt(measurement: &Measurement) -> anyhow::Result<String> {
    let mut setup = Setup::new(measurement)?;
    let mut chain = setup.loop_chain(measurement)?;
    measure(measurement, &mut [&mut chain]);
    Ok(line(measurement, &setup.engine, &[("loop_mpps", chain.mpps()?)]))
}

/// Measures both in turns; gives the line of JSON.
pub(crate) fn both(measurement: &Measurement) -> anyhow::Result<String> {
    let mut setup = Setup::new(measurement)?;
    let mut encrypt = setup.encrypt_chain(measurement)?;
    let mut looped = setup.loop_chain(measurement)?;
    measure(measurement, &mut [&mut encrypt, &mut looped]);
    let (encrypt, looped) = (encrypt.mpps()?, looped.mpps()?);
    let decrypt = 1.0 / (1.0 / looped - 1.0 / encrypt);
    let rates = [("encrypt_mpps", encrypt), ("loop_mpps", looped), ("decrypt_mpps", decrypt)];
    Ok(line(measurement, &setup.engine, &rates))
}

fn line(measurement: &Measurement, engine: &Engine, rates: &[(&str, f64)]) -> String {
    let rates: String = rates.iter().map(|(name, mpps)| format!(",\"{name}\":{mpps:.4}")).collect();
    format!(
        "{{\"size\":{},\"tunnels\":{},\"protection\":\"{:?}\",\"mode\":\"{:?}\",\"engine\":\"{}\",\
         \"instructions\":\"{}\"{rates}}}\n",
        measurement.size,
        measurement.tunnels.count,
        measurement.tunnels.protection,
        measurement.tunnels.mode,
        engine.name(),
        engine.instructions(),
    )
}
