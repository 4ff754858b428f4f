//! Counters and the reasons of drops, named here once for both planes and for `/metrics`.
//!
//! A counter has one writer, the worker that owns the block; so it adds by a load and a store, not by a locked
//! instruction. Readers sum over workers.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! named {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident = $text:literal: $description:literal,)+ }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(usize)]
        pub enum $name {
            $(#[doc = $description] $variant,)+
        }

        impl $name {
            /// Every variant, in the order of their numbers.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// Name in snake case: the label of `/metrics`.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }

            /// What it counts, as a sentence.
            pub const fn description(self) -> &'static str {
                match self { $($name::$variant => $description,)+ }
            }
        }
    };
}

named! {
    /// Why a packet was dropped.
    Drop {
        Truncated = "truncated": "A header or a length claims more bytes than the packet has.",
        BadChecksum = "bad_checksum": "The IPv4 header checksum is wrong.",
        BadHeader = "bad_header": "A header is malformed: a wrong version, header length or reserved value.",
        IpOptions = "ip_options": "The transport packet has IPv4 options or IPv6 extension headers that are not handled.",
        TtlExpired = "ttl_expired": "The time to live (hop limit) ran out.",
        NoRoute = "no_route": "No route to the destination.",
        Blackhole = "blackhole": "The route is a blackhole, or prohibits or refuses the destination.",
        NoNeighbour = "no_neighbour": "The next hop's link-layer address is not known yet and the packet could not be handed to the host.",
        NoSa = "no_sa": "The packet must be protected and there is no outbound SA yet.",
        SelectorMismatch = "selector_mismatch": "The packet must be protected, and the peer agreed to an SA for less: its addresses, protocol or ports lie outside what the SA may carry.",
        Unprotected = "unprotected": "A tunnel that a crypto map must protect was matched by none of its entries.",
        UnprotectedInbound = "unprotected_inbound": "A packet came in clear by a port whose crypto map protects such packets.",
        GreInClear = "gre_in_clear": "GRE in clear for a tunnel that must be protected.",
        GreUnknownTunnel = "gre_unknown_tunnel": "GRE whose addresses and key belong to no tunnel.",
        GreBadHeader = "gre_bad_header": "GRE with reserved bits, a version other than 0, a checksum or routing.",
        UnknownSpi = "unknown_spi": "ESP with an SPI that no inbound SA has.",
        EspAuthFailed = "esp_auth_failed": "ESP whose integrity check failed.",
        EspReplayed = "esp_replayed": "ESP with a sequence number already seen.",
        EspLate = "esp_late": "ESP with a sequence number left of the replay window.",
        EspMalformed = "esp_malformed": "ESP whose length, padding or next header makes no sense.",
        EspSelectorMismatch = "esp_selector_mismatch": "ESP whose inner packet is not what its SA may carry.",
        Fragment = "fragment": "A fragment of a transport packet, which is not reassembled here.",
        TooBig = "too_big": "The packet does not fit the MTU and must not be fragmented.",
        Martian = "martian": "A source or destination address that can not be on a wire here.",
        SaExhausted = "sa_exhausted": "The SA reached its hard limit of packets or bytes.",
        SequenceOverflow = "sequence_overflow": "The SA ran out of sequence numbers.",
        TwinFull = "twin_full": "The twin's queue was full.",
        PortDown = "port_down": "The port is down or disabled.",
        TunnelDown = "tunnel_down": "The tunnel is disabled.",
        TxFull = "tx_full": "The device took no more packets.",
        HostRingFull = "host_ring_full": "The ring to the host thread was full.",
        UnsupportedProtocol = "unsupported_protocol": "A protocol that is neither forwarded nor handed to the host.",
        Recursion = "recursion": "The packet would enter the tunnel that it just left.",
        NoBuffer = "no_buffer": "No buffer was free.",
        NoHeadroom = "no_headroom": "The buffer has no room for the headers or the trailer.",
        NotForUs = "not_for_us": "A frame whose link-layer destination is not this port.",
        CryptoFailed = "crypto_failed": "The cipher engine refused the operation.",
    }
}

named! {
    /// What a worker counts besides drops.
    Counter {
        RxPackets = "rx_packets": "Packets received from devices.",
        TxPackets = "tx_packets": "Packets handed to devices.",
        Forwarded = "forwarded": "Packets routed from one port or tunnel to another.",
        Punted = "punted": "Packets handed to the host by a twin.",
        FromTwin = "from_twin": "Packets taken from twins.",
        GreEncapsulated = "gre_encapsulated": "Packets put into GRE.",
        GreDecapsulated = "gre_decapsulated": "Packets taken out of GRE.",
        EspSealed = "esp_sealed": "Packets encrypted.",
        EspOpened = "esp_opened": "Packets decrypted and found authentic.",
        Fragmented = "fragmented": "Packets fragmented before encapsulation.",
        IcmpSent = "icmp_sent": "ICMP errors sent.",
        MssClamped = "mss_clamped": "TCP segments whose MSS option was lowered.",
        Polls = "polls": "Turns of the worker's loop.",
        IdlePolls = "idle_polls": "Turns that found nothing to do.",
        Sleeps = "sleeps": "Sleeps of an idle worker.",
        Applied = "applied": "Table updates taken over.",
    }
}

/// Counters of one worker.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct WorkerCounters {
    drops: [AtomicU64; 64],
    counters: [AtomicU64; 32],
}

impl WorkerCounters {
    /// All zero; for tests and benches that need no region.
    pub const fn new() -> Self {
        Self { drops: [const { AtomicU64::new(0) }; 64], counters: [const { AtomicU64::new(0) }; 32] }
    }

    /// Counts `packets` dropped. Owner only.
    pub fn count_drops(&self, reason: Drop, packets: u64) {
        if let Some(cell) = self.drops.get(reason as usize) {
            add(cell, packets);
        }
    }

    /// Counts. Owner only.
    pub fn count(&self, counter: Counter, amount: u64) {
        if let Some(cell) = self.counters.get(counter as usize) {
            add(cell, amount);
        }
    }

    /// Packets dropped for a reason.
    pub fn drops(&self, reason: Drop) -> u64 {
        self.drops.get(reason as usize).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// A count.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters.get(counter as usize).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }
}

impl Default for WorkerCounters {
    fn default() -> Self {
        Self::new()
    }
}

macro_rules! traffic_counters {
    ($(#[$outer:meta])* $name:ident) => {
        $(#[$outer])*
        #[derive(Debug)]
        #[repr(C, align(64))]
        pub struct $name {
            /// Packets received.
            pub rx_packets: AtomicU64,
            /// Their bytes.
            pub rx_bytes: AtomicU64,
            /// Packets sent.
            pub tx_packets: AtomicU64,
            /// Their bytes.
            pub tx_bytes: AtomicU64,
            /// Packets dropped, whatever the reason.
            pub drops: AtomicU64,
            reserved: [AtomicU64; 3],
        }

        impl $name {
            /// All zero; for tests and benches that need no region.
            pub const fn new() -> Self {
                Self {
                    rx_packets: AtomicU64::new(0),
                    rx_bytes: AtomicU64::new(0),
                    tx_packets: AtomicU64::new(0),
                    tx_bytes: AtomicU64::new(0),
                    drops: AtomicU64::new(0),
                    reserved: [const { AtomicU64::new(0) }; 3],
                }
            }

            /// Counts received packets. Owner only.
            pub fn count_rx(&self, packets: u64, bytes: u64) {
                add(&self.rx_packets, packets);
                add(&self.rx_bytes, bytes);
            }

            /// Counts sent packets. Owner only.
            pub fn count_tx(&self, packets: u64, bytes: u64) {
                add(&self.tx_packets, packets);
                add(&self.tx_bytes, bytes);
            }

            /// Counts dropped packets. Owner only.
            pub fn count_drops(&self, packets: u64) {
                add(&self.drops, packets);
            }

            /// Sets all to zero, when the slot gets a new object. Owner only.
            pub fn reset(&self) {
                for cell in [&self.rx_packets, &self.rx_bytes, &self.tx_packets, &self.tx_bytes, &self.drops] {
                    cell.store(0, Ordering::Relaxed);
                }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }
    };
}

traffic_counters! {
    /// Counters of one tunnel at one worker: passenger packets and bytes.
    TunnelCounters
}
traffic_counters! {
    /// Counters of one port at one worker: packets and bytes of the wire without the link layer's check sequence.
    PortCounters
}

fn add(cell: &AtomicU64, amount: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

const _: () = {
    assert!(Drop::ALL.len() <= 64);
    assert!(Counter::ALL.len() <= 32);
    assert!(size_of::<WorkerCounters>() == 768);
    assert!(size_of::<TunnelCounters>() == 64);
    assert!(size_of::<PortCounters>() == 64);
};
