//! What the control plane shows of itself: plain data, without keys, ready to be serialised.
//!
//! Counters of packets and bytes come straight from the shared memory when a view is asked for; states, causes
//! and negotiated parameters come from the last picture that the gateway task published.

mod metrics;
mod sa;

use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

pub use metrics::{
    DropMetric, IkeMetric, MetricsSnapshot, PortMetrics, TunnelMetrics, WorkerMetric, WorkerMetrics,
};
pub use sa::{Direction, IpsecSa, IsakmpSa, ReplayCounters};

/// Whether something protected carries traffic.
///
/// ```text
///              enabled               first pair acknowledged by the dataplane
///  disabled ------------> connecting ----------------------------------------> up
///      ^                    ^     | no answer, refused, ..          rekey: stays |
///      |                    |     v                                              |
///      +---- any state      +--- down <-----------------------------------------+
///                         retry         last pair gone, recursive routing, no dataplane
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// The dataplane holds what it needs to pass traffic.
    Up,
    /// Being negotiated or installed for the first time, or again after it was down.
    Connecting,
    /// Not able to pass traffic; the cause says why.
    Down,
    /// Switched off by the operator.
    Disabled,
}

impl Condition {
    /// The word that the API and the metrics use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Connecting => "connecting",
            Self::Down => "down",
            Self::Disabled => "disabled",
        }
    }
}

/// Packets and bytes of a tunnel or a port, summed over the workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Traffic {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets dropped, for any reason.
    pub drops: u64,
}

/// The state of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct TunnelState {
    /// Name of the tunnel.
    pub name: String,
    /// Whether it carries traffic.
    pub state: Condition,
    /// Why it is not up, as a sentence; absent when up.
    pub cause: Option<String>,
    /// Since when the state holds.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// Largest passenger packet, in bytes, that fits one transport packet.
    pub mtu_bytes: u32,
    /// What passed.
    pub counters: Traffic,
    /// SPI of the newest inbound SA, in hexadecimal (`0x` and eight digits).
    pub spi_in: Option<String>,
    /// SPI of the outbound SA in use.
    pub spi_out: Option<String>,
}

/// The state of one protected flow of a crypto map: one `permit` rule of an entry's access-list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FlowState {
    /// Interface that the crypto map is applied to.
    pub interface: String,
    /// Sequence of the crypto-map entry.
    pub entry_sequence: u32,
    /// Sequence of the rule in its access-list.
    pub rule_sequence: u32,
    /// Address of the peer.
    pub peer: String,
    /// Whether it carries traffic.
    pub state: Condition,
    /// Why it is not up, as a sentence; absent when up.
    pub cause: Option<String>,
    /// Since when the state holds.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// SPI of the newest inbound SA.
    pub spi_in: Option<String>,
    /// SPI of the outbound SA in use.
    pub spi_out: Option<String>,
}

/// The state of a crypto map: of all its flows on all interfaces that it is applied to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct CryptoMapState {
    /// Name of the crypto map.
    pub name: String,
    /// Its flows, by interface, entry and rule; empty when the map is applied to no interface.
    pub flows: Vec<FlowState>,
}

/// The state of a port as the dataplane reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PortStatus {
    /// Interface name.
    pub name: String,
    /// Device as the operator wrote it.
    pub device: String,
    /// `running`, or what keeps it from running.
    pub state: String,
    /// What passed.
    pub counters: Traffic,
}

/// The state of the dataplane process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct DataplaneStatus {
    /// True while its heartbeat moves.
    pub alive: bool,
    /// True while it is connected to the control plane's socket.
    pub connected: bool,
    /// Process id; 0 when it never ran in this region.
    pub pid: u32,
    /// When it started; absent when it never did.
    #[serde(with = "time::serde::rfc3339::option")]
    pub started_at: Option<OffsetDateTime>,
    /// How many times a dataplane has attached to this region.
    pub epoch: u64,
    /// Cipher engine in use.
    pub engine: String,
    /// CPU features that the engine found, as words.
    pub cpu_features: String,
    /// True when it runs on huge pages.
    pub huge_pages: bool,
    /// Number of workers.
    pub workers: u32,
    /// `adaptive` or `busy`.
    pub poll: String,
    /// Age of the last heartbeat in milliseconds; absent when there was none.
    pub heartbeat_age_ms: Option<u64>,
    /// Events that the dataplane could not hand over because the ring was full.
    pub events_lost: u64,
    /// Its ports.
    pub ports: Vec<PortStatus>,
}

/// One part of the gateway's health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct HealthPart {
    /// `configuration`, `dataplane`, `netlink`, `ike` or `certificates`.
    pub name: &'static str,
    /// True when nothing is wrong.
    pub ok: bool,
    /// A sentence for the operator.
    pub detail: String,
}

/// The gateway's health: healthy when all of its parts are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Health {
    /// True when every part is well.
    pub ok: bool,
    /// The parts.
    pub parts: Vec<HealthPart>,
}
