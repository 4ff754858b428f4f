//! Where things lie in the region, and a hash over all of it.

use std::mem::offset_of;
use std::sync::atomic::AtomicU64;

use crate::counters::{PortCounters, TunnelCounters, WorkerCounters};
use crate::event::EventRecord;
use crate::header::Header;
use crate::record::{Capacities, Table};
use crate::records::{
    NeighbourRecord, PolicyRecord, PortRecord, RouteRecord, RuleRecord, SaRecord, Selector, TrafficSelector,
    TunnelRecord,
};
use crate::sa_runtime::SaRuntime;
use crate::status::{PortStatus, Status};

/// Areas begin at multiples of this.
pub(crate) const PAGE_BYTES: usize = 4096;

/// Words of a record.
pub(crate) const fn record_words(table: Table) -> usize {
    let bytes = match table {
        Table::Ports => size_of::<PortRecord>(),
        Table::Tunnels => size_of::<TunnelRecord>(),
        Table::Sas => size_of::<SaRecord>(),
        Table::Policies => size_of::<PolicyRecord>(),
        Table::Rules => size_of::<RuleRecord>(),
        Table::Routes => size_of::<RouteRecord>(),
        Table::Neighbours => size_of::<NeighbourRecord>(),
    };
    bytes / 8
}

/// Words of the longest record.
pub(crate) const RECORD_WORDS_MOST: usize = size_of::<SaRecord>() / 8;
/// Words of [`Status`].
pub(crate) const STATUS_WORDS: usize = size_of::<Status>() / 8;
/// Words of a slot of [`PortStatus`], its version included.
pub(crate) const PORT_STATUS_SLOT_WORDS: usize = 1 + size_of::<PortStatus>() / 8;
/// Words of an acknowledgement: applied version, refusal.
pub(crate) const ACK_WORDS: usize = 2;

/// Cells of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Area {
    pub(crate) offset_bytes: usize,
    pub(crate) count: usize,
}

/// Where everything lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Slots of each table by its number, in words: a version and a record each.
    pub(crate) slots: [Area; Table::ALL.len()],
    /// Acknowledgements of each table by its number, in words.
    pub(crate) acks: [Area; Table::ALL.len()],
    pub(crate) changes: Area,
    pub(crate) events: Area,
    pub(crate) sa_runtimes: Area,
    pub(crate) workers: Area,
    /// By worker, then tunnel.
    pub(crate) tunnel_counters: Area,
    /// By worker, then port.
    pub(crate) port_counters: Area,
    pub(crate) status: Area,
    pub(crate) port_statuses: Area,
    pub(crate) length_bytes: usize,
}

impl Layout {
    pub(crate) fn new(capacities: &Capacities) -> Layout {
        let mut end = PAGE_BYTES;
        let mut area = |count: usize, cell_bytes: usize| {
            let area = Area { offset_bytes: end, count };
            end = (end + count * cell_bytes).next_multiple_of(PAGE_BYTES);
            area
        };
        const WORD: usize = size_of::<AtomicU64>();
        let mut slots = [Area::default(); Table::ALL.len()];
        let mut acks = slots;
        for (number, (slots, acks)) in slots.iter_mut().zip(&mut acks).enumerate() {
            if let Some(table) = Table::from_number(number as u32) {
                let count = capacities.of(table) as usize;
                *slots = area(count * (1 + record_words(table)), WORD);
                *acks = area(count * ACK_WORDS, WORD);
            }
        }
        let workers = capacities.workers as usize;
        let ports = capacities.ports as usize;
        Layout {
            slots,
            acks,
            changes: area(capacities.changes as usize, WORD),
            events: area(capacities.events as usize * EventRecord::WORDS, WORD),
            sa_runtimes: area(capacities.sas as usize, size_of::<SaRuntime>()),
            workers: area(workers, size_of::<WorkerCounters>()),
            tunnel_counters: area(workers * capacities.tunnels as usize, size_of::<TunnelCounters>()),
            port_counters: area(workers * ports, size_of::<PortCounters>()),
            status: area(STATUS_WORDS, WORD),
            port_statuses: area(ports * PORT_STATUS_SLOT_WORDS, WORD),
            length_bytes: end,
        }
    }
}

/// A hash (FNV-1a) over the sizes and the offsets of all fields that cross. It differs when a field moves, so that two
/// binaries that disagree refuse each other. Fields that change their meaning in place need a new
/// [`crate::ABI_VERSION`].
pub const fn layout_hash() -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut index = 0;
    while index < SHAPE.len() {
        hash = (hash ^ SHAPE[index] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        index += 1;
    }
    hash
}

macro_rules! shape {
    ($($record:ty { $($field:ident)* })+) => {
        &[$(size_of::<$record>(), $(offset_of!($record, $field),)*)+]
    };
}

const SHAPE: &[usize] = shape! {
    PortRecord { present side enabled crypto_map mtu_bytes name device }
    TunnelRecord { present enabled protection family has_key ttl df reserved key mtu_bytes outbound_sa tcp_mss_bytes
        local remote name }
    SaRecord { present direction mode algorithm esn udp_encapsulation owner_kind family spi owner replay_window
        key_len integrity reserved generation soft_packets hard_packets soft_bytes hard_bytes local remote peer local_port
        remote_port salt key integrity_key local_selectors remote_selectors }
    TrafficSelector { first last ports protocol family reserved }
    Selector { source destination source_prefix_len destination_prefix_len protocol family source_ports
        destination_ports reserved }
    PolicyRecord { present mode family reserved outbound_sa port peer }
    RuleRecord { present permit reserved port map_sequence rule_sequence policy reserved2 selector }
    RouteRecord { present kind family prefix_len has_gateway reserved target reserved2 prefix gateway }
    NeighbourRecord { present family mac port reserved address }
    EventRecord { kind slot a b c d }
    SaRuntime { generation next_sequence packets bytes last_packet_unix_ms soft_sent hard_sent first_sent replayed
        late auth_failed selector_mismatch malformed no_space window }
    TunnelCounters { rx_packets rx_bytes tx_packets tx_bytes drops }
    PortCounters { rx_packets rx_bytes tx_packets tx_bytes drops }
    WorkerCounters { }
    Status { pid workers started_unix_ms epoch huge_pages ready engine poll_mode cpu_features }
    PortStatus { state mac speed_mbps max_mtu_bytes detail }
    Header { magic abi retired layout_hash length_bytes boot_id region_id capacities writer_pid writer_start_ticks
        sa_generation epoch heartbeat_unix_ms status_version changes_head changes_tail rescans_asked rescans_begun
        events_head events_tail events_lost }
};
