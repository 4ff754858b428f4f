//! The picture that the gateway's task publishes, and the views made of it and of the shared memory.

mod health;
mod metrics;
mod selectors;
mod suite;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use shm::{Region, name_text};
use time::OffsetDateTime;

pub(crate) use self::selectors::selectors_text;
pub(crate) use self::suite::{encryption_word, esp_insecurities, insecurity_word, integrity_word};
use crate::state::Standing;
use crate::view::{
    CryptoMapState, DataplaneStatus, FlowState, IpsecSa, IsakmpSa, PortStatus, Traffic, TunnelState,
};

/// What the gateway's task knows.
#[derive(Default)]
pub(crate) struct Picture {
    /// The shared memory; `None` before the start.
    pub(crate) region: Option<Region>,
    /// Generation of the desired state that runs.
    pub(crate) generation: u64,
    /// A heartbeat older than this means that the dataplane is away.
    pub(crate) away_after: Duration,
    /// The dataplane is connected to the socket.
    pub(crate) connected: bool,
    /// Tunnels by name.
    pub(crate) tunnels: BTreeMap<String, TunnelPicture>,
    /// Flows of crypto maps, with the name of the map.
    pub(crate) flows: Vec<(String, FlowState)>,
    /// Ports: name, device, slot.
    pub(crate) ports: Vec<(String, String, Option<u32>)>,
    /// IPsec SAs.
    pub(crate) sas: Vec<SaPicture>,
    /// IKE SAs, as of `taken`.
    pub(crate) isakmp: Vec<IsakmpSa>,
    /// Counters of the IKE engine.
    pub(crate) ike: BTreeMap<&'static str, u64>,
    /// Routes, neighbours, and overruns of the mirror.
    pub(crate) mirrored: (u64, u64, u64),
    /// What is wrong, by part.
    pub(crate) complaints: Complaints,
    /// When it was made; `None` before the start.
    pub(crate) taken: Option<Instant>,
}

/// A tunnel.
pub(crate) struct TunnelPicture {
    pub(crate) slot: Option<u32>,
    pub(crate) standing: Standing,
    pub(crate) mtu_bytes: u32,
    pub(crate) spi_in: Option<u32>,
    pub(crate) spi_out: Option<u32>,
}

/// An IPsec SA: all of its view but the counters.
pub(crate) struct SaPicture {
    pub(crate) slot: u32,
    pub(crate) generation: u64,
    pub(crate) since: Instant,
    pub(crate) view: IpsecSa,
}

/// What is wrong, as sentences by part.
#[derive(Clone, Debug, Default)]
pub(crate) struct Complaints {
    pub(crate) configuration: Vec<String>,
    pub(crate) netlink: Vec<String>,
    pub(crate) ike: Vec<String>,
}

impl Picture {
    pub(crate) fn tunnel_state(&self, name: &str) -> Option<TunnelState> {
        let (name, tunnel) = self.tunnels.get_key_value(name)?;
        Some(TunnelState {
            name: name.clone(),
            state: tunnel.standing.condition,
            cause: tunnel.standing.cause.clone(),
            since: tunnel.standing.since,
            mtu_bytes: tunnel.mtu_bytes,
            counters: tunnel.slot.map_or_else(Traffic::default, |slot| self.tunnel_traffic(slot)),
            spi_in: tunnel.spi_in.map(spi_text),
            spi_out: tunnel.spi_out.map(spi_text),
        })
    }

    pub(crate) fn tunnel_states(&self) -> Vec<TunnelState> {
        self.tunnels.keys().filter_map(|name| self.tunnel_state(name)).collect()
    }

    pub(crate) fn crypto_map_state(&self, name: &str) -> CryptoMapState {
        let flows = self.flows.iter().filter(|(map, _)| map == name).map(|(_, flow)| flow.clone()).collect();
        CryptoMapState { name: name.to_owned(), flows }
    }

    pub(crate) fn isakmp_sas(&self) -> Vec<IsakmpSa> {
        let later_secs = self.taken.map_or(0, |taken| taken.elapsed().as_secs());
        let mut sas = self.isakmp.clone();
        for sa in &mut sas {
            sa.established_secs = sa.established_secs.map(|secs| secs + later_secs);
            sa.rekey_in_secs = sa.rekey_in_secs.map(|secs| secs.saturating_sub(later_secs));
        }
        sas
    }

    pub(crate) fn ipsec_sas(&self) -> Vec<IpsecSa> {
        self.sas.iter().map(|sa| self.ipsec_sa(sa)).collect()
    }

    fn ipsec_sa(&self, sa: &SaPicture) -> IpsecSa {
        let mut view = sa.view.clone();
        view.age_secs = sa.since.elapsed().as_secs();
        let runtime = self.region.as_ref().and_then(|region| region.sa_runtime(sa.slot));
        // The worker has not taken the SA over yet while the generation is another one's.
        let Some(runtime) = runtime.filter(|runtime| runtime.generation.load(Relaxed) == sa.generation)
        else {
            return view;
        };
        view.sequence = runtime.next_sequence.load(Relaxed);
        view.packets = runtime.packets.load(Relaxed);
        view.bytes = runtime.bytes.load(Relaxed);
        view.auth_failed = runtime.auth_failed.load(Relaxed);
        view.selector_mismatch = runtime.selector_mismatch.load(Relaxed);
        view.malformed = runtime.malformed.load(Relaxed);
        if let Some(replay) = &mut view.replay {
            replay.replayed = runtime.replayed.load(Relaxed);
            replay.late = runtime.late.load(Relaxed);
        }
        view
    }

    pub(crate) fn dataplane(&self) -> DataplaneStatus {
        let region = self.region.as_ref();
        let status = region.and_then(Region::status);
        let age = region.and_then(heartbeat_age);
        let text = |bytes: &[u8]| name_text(bytes).to_owned();
        DataplaneStatus {
            alive: age.is_some_and(|age| age < self.away_after),
            connected: self.connected,
            pid: status.map_or(0, |status| status.pid),
            started_at: status.and_then(|status| unix_ms(status.started_unix_ms)),
            epoch: region.map_or(0, Region::epoch),
            engine: status.map_or_else(String::new, |status| text(&status.engine)),
            cpu_features: status.map_or_else(String::new, |status| text(&status.cpu_features)),
            huge_pages: status.is_some_and(|status| status.huge_pages != 0),
            workers: status.map_or(0, |status| status.workers),
            poll: status.map_or_else(String::new, |status| text(&status.poll_mode)),
            heartbeat_age_ms: age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            events_lost: region.map_or(0, Region::events_lost),
            ports: self.ports.iter().map(|(name, device, slot)| self.port(name, device, *slot)).collect(),
        }
    }

    fn port(&self, name: &str, device: &str, slot: Option<u32>) -> PortStatus {
        let status = slot.and_then(|slot| self.region.as_ref()?.port_status(slot));
        PortStatus {
            name: name.to_owned(),
            device: device.to_owned(),
            state: status.map_or_else(|| "not opened yet".to_owned(), |status| port_text(&status)),
            counters: slot.map_or_else(Traffic::default, |slot| self.port_traffic(slot)),
        }
    }

    fn tunnel_traffic(&self, slot: u32) -> Traffic {
        let mut sum = Traffic::default();
        for counters in
            self.workers().filter_map(|(region, worker)| region.tunnel_counters(worker)?.get(slot as usize))
        {
            sum.rx_packets += counters.rx_packets.load(Relaxed);
            sum.rx_bytes += counters.rx_bytes.load(Relaxed);
            sum.tx_packets += counters.tx_packets.load(Relaxed);
            sum.tx_bytes += counters.tx_bytes.load(Relaxed);
            sum.drops += counters.drops.load(Relaxed);
        }
        sum
    }

    fn port_traffic(&self, slot: u32) -> Traffic {
        let mut sum = Traffic::default();
        for counters in
            self.workers().filter_map(|(region, worker)| region.port_counters(worker)?.get(slot as usize))
        {
            sum.rx_packets += counters.rx_packets.load(Relaxed);
            sum.rx_bytes += counters.rx_bytes.load(Relaxed);
            sum.tx_packets += counters.tx_packets.load(Relaxed);
            sum.tx_bytes += counters.tx_bytes.load(Relaxed);
            sum.drops += counters.drops.load(Relaxed);
        }
        sum
    }

    /// The region with the number of each worker that may have counters.
    fn workers(&self) -> impl Iterator<Item = (&Region, u32)> {
        self.region
            .iter()
            .flat_map(|region| (0..region.capacities().workers).map(move |worker| (region, worker)))
    }
}

/// An IKE SA as operators name it.
pub(crate) fn isakmp_id_text(id: ike::IkeSaId) -> String {
    format!("{:x}", id.0)
}

/// An SPI as operators write it.
pub(crate) fn spi_text(spi: u32) -> String {
    format!("{spi:#010x}")
}

/// How old the dataplane's last sign of life is; `None` when there was none.
pub(crate) fn heartbeat_age(region: &Region) -> Option<Duration> {
    let beat_ms = region.heartbeat_unix_ms();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    // A clock that was set back makes it look fresh for a while, not dead.
    (beat_ms != 0).then(|| now.saturating_sub(Duration::from_millis(beat_ms)))
}

fn unix_ms(ms: u64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok().filter(|_| ms != 0)
}

/// The state of a port in words.
pub(crate) fn port_text(status: &shm::PortStatus) -> String {
    match status.state() {
        shm::PortState::Up => "running".to_owned(),
        shm::PortState::Absent => "not opened yet".to_owned(),
        shm::PortState::LinkDown => "the link is down".to_owned(),
        shm::PortState::Disabled => "disabled".to_owned(),
        shm::PortState::Failed => match name_text(&status.detail) {
            "" => "the device could not be opened".to_owned(),
            detail => format!("the device could not be opened: {detail}"),
        },
    }
}
