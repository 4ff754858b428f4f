//! The two measurements.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use dataplane::memory;
use dataplane::pools::Pools;
use dpdk::{Eal, EalOptions, Pool, Port, RxQueue, Started, TxQueue};
use forward::Engine;

use crate::Measurement;
use crate::capture::{self, GENERATOR_MAC};
use crate::gateway::{BenchPort, Gateway};
use crate::records::{BLACK, RED, Role};

/// Caches, branch predictors and the clock of the CPU settle in this time.
const WARM_UP: Duration = Duration::from_millis(300);

/// Turns between two looks at the clock.
const TURNS: usize = 1024;

/// DPDK, a cipher engine and the opened vdevs.
struct Setup {
    eal: Eal,
    engine: Engine,
    pool: Pool,
    /// They run until the process ends.
    ports: Vec<Port<Started>>,
    /// Holds the capture.
    _directory: tempfile::TempDir,
    capture: String,
}

impl Setup {
    fn new(measurement: &Measurement) -> anyhow::Result<Self> {
        ensure!(measurement.tunnels.count > 0, "at least one tunnel is needed");
        let engine = Engine::select(measurement.engine.into()).context("no cipher engine")?;
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("generator.pcap");
        capture::write(&path, measurement.size, measurement.tunnels.count)?;
        let options = EalOptions {
            memory: memory::choose(measurement.memory_mb),
            memory_mb: measurement.memory_mb,
            cpus: vec![measurement.core],
            pci: false,
        };
        let eal = Eal::start("culvert-bench", &options).context("DPDK cannot start")?;
        let pool = Pools::new(&eal)?.fitting(&eal, 0)?;
        let capture = path.display().to_string();
        Ok(Self { eal, engine, pool, ports: Vec::new(), _directory: directory, capture })
    }

    fn open(&mut self, device: &str) -> anyhow::Result<(RxQueue, TxQueue, [u8; 6])> {
        let port = Port::probe(&self.eal, &device.parse()?, 0, 1500).with_context(|| device.to_owned())?;
        let (port, rx, tx) =
            port.start(&self.pool).map_err(|(_, error)| error).with_context(|| device.to_owned())?;
        let mac = port.mac()?;
        self.ports.push(port);
        Ok((rx, tx, mac))
    }

    fn generator(&mut self) -> anyhow::Result<BenchPort> {
        let device = format!("vdev:net_pcap0,rx_pcap={},infinite_rx=1", self.capture);
        let (rx, _, mac) = self.open(&device)?;
        ensure!(mac == GENERATOR_MAC, "net_pcap has another address than its captures: {mac:x?}");
        Ok(BenchPort { slot: RED, mac, rx: Some(rx), tx: None })
    }

    fn sink(&mut self, slot: u32) -> anyhow::Result<BenchPort> {
        let (_, tx, mac) = self.open("vdev:net_null1,no-rx=1")?;
        Ok(BenchPort { slot, mac, rx: None, tx: Some(tx) })
    }
}

/// Measures encryption; gives the line of JSON.
pub(crate) fn encrypt(measurement: &Measurement) -> anyhow::Result<String> {
    let mut setup = Setup::new(measurement)?;
    let ports = vec![setup.generator()?, setup.sink(BLACK)?];
    let mut gateway = Gateway::new(&setup.eal, setup.engine, Role::Encrypt)?;
    gateway.configure(&measurement.tunnels, [2, 0, 0, 0, 0, 1])?;
    gateway.apply(&setup.eal, ports)?;
    let mut gateways = [gateway];
    let (packets, seconds) = measure(measurement, &mut gateways, BLACK)?;
    Ok(line("encrypt", measurement, &setup.engine, packets, seconds))
}

/// Measures encryption followed by decryption; gives the line of JSON.
pub(crate) fn encrypt_and_decrypt(measurement: &Measurement) -> anyhow::Result<String> {
    let mut setup = Setup::new(measurement)?;
    let generator = setup.generator()?;
    let sink = setup.sink(RED)?;
    // A net_ring port receives what it sends: one gateway has its transmit queue, the other its receive queue.
    let (ring_rx, ring_tx, ring_mac) = setup.open("vdev:net_ring0")?;
    let near_black = BenchPort { slot: BLACK, mac: [2, 0, 0, 0, 0, 2], rx: None, tx: Some(ring_tx) };
    let far_black = BenchPort { slot: BLACK, mac: ring_mac, rx: Some(ring_rx), tx: None };
    let mut near = Gateway::new(&setup.eal, setup.engine, Role::Encrypt)?;
    near.configure(&measurement.tunnels, ring_mac)?;
    near.apply(&setup.eal, vec![generator, near_black])?;
    let mut far = Gateway::new(&setup.eal, setup.engine, Role::Decrypt)?;
    far.configure(&measurement.tunnels, [2, 0, 0, 0, 0, 3])?;
    far.apply(&setup.eal, vec![sink, far_black])?;
    let mut gateways = [near, far];
    let (packets, seconds) = measure(measurement, &mut gateways, RED)?;
    Ok(line("loop", measurement, &setup.engine, packets, seconds))
}

/// Polls all gateways in turn and counts what the last one sends by `port`.
fn measure(measurement: &Measurement, gateways: &mut [Gateway], port: u32) -> anyhow::Result<(u64, f64)> {
    poll_for(gateways, WARM_UP);
    let sent = |gateways: &[Gateway]| gateways.last().map_or(0, |gateway| gateway.sent(port));
    let before = sent(gateways);
    let elapsed = poll_for(gateways, Duration::from_secs_f64(measurement.seconds));
    let packets = sent(gateways) - before;
    for (index, gateway) in gateways.iter().enumerate() {
        let drops = gateway.drops();
        if !drops.is_empty() {
            bail!("gateway {index} dropped packets: {drops:?}");
        }
    }
    ensure!(packets > 0, "no packet came through");
    Ok((packets, elapsed.as_secs_f64()))
}

fn poll_for(gateways: &mut [Gateway], time: Duration) -> Duration {
    let started = Instant::now();
    loop {
        for _ in 0..TURNS {
            for gateway in gateways.iter_mut() {
                gateway.worker.poll();
            }
        }
        let elapsed = started.elapsed();
        if elapsed >= time {
            return elapsed;
        }
    }
}

fn line(what: &str, measurement: &Measurement, engine: &Engine, packets: u64, seconds: f64) -> String {
    format!(
        "{{\"what\":\"{what}\",\"size\":{},\"tunnels\":{},\"protection\":\"{:?}\",\"mode\":\"{:?}\",\
         \"engine\":\"{}\",\"instructions\":\"{}\",\"packets\":{packets},\"seconds\":{seconds:.4},\"mpps\":{:.4}}}\n",
        measurement.size,
        measurement.tunnels.count,
        measurement.tunnels.protection,
        measurement.tunnels.mode,
        engine.name(),
        engine.instructions(),
        packets as f64 / seconds / 1e6,
    )
}
