//! Bounds on what the engine keeps and how patient it is.

use std::time::Duration;

use crate::Path;

/// Limits of an [`crate::Engine`]. The defaults suit a gateway of a few thousand tunnels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// UDP port on which IKE begins.
    pub ike_port: u16,
    /// UDP port of NAT traversal, where the non-ESP marker stands before each message (RFC 3948 section 2.2).
    pub nat_port: u16,
    /// Half-open responder SAs above which IKE_SA_INIT is answered by a COOKIE only (RFC 7296 section 2.6).
    pub cookie_threshold: usize,
    /// The same for one source address.
    pub cookie_threshold_per_source: usize,
    /// Half-open responder SAs of one source address above which IKE_SA_INIT is dropped.
    pub half_open_per_source: usize,
    /// Half-open responder SAs above which IKE_SA_INIT is dropped.
    pub half_open: usize,
    /// How long a responder waits for IKE_AUTH.
    pub half_open_timeout: Duration,
    /// Wait before the first retransmission; each further one waits 1.8 times as long.
    pub retransmit_base: Duration,
    /// Retransmissions before the peer is given up.
    pub retransmit_tries: u32,
    /// First wait before a failed start is tried again; doubles up to `retry_max`.
    pub retry_base: Duration,
    /// Longest wait before a failed start is tried again.
    pub retry_max: Duration,
    /// How long the inbound half of a replaced pair still accepts.
    pub linger: Duration,
    /// How long a phase 1 of IKEv1 in whose place another one serves is kept, to read what is late.
    pub phase_one_linger: Duration,
    /// Established IKE SAs that a connection may have; with more the oldest is ended. Replaced ones that have not ended, from
    /// which on the peer may not rekey. Phase 1 SAs of IKEv1, finished or not: with more one whose initiator has shown nothing
    /// makes way, or a first message is dropped.
    pub ike_sas_per_connection: usize,
    /// Children that one IKE SA may bear.
    pub children_per_ike_sa: usize,
    /// The first IKE_AUTH to a peer says INITIAL_CONTACT (RFC 7296 section 2.4). False in an engine that follows another
    /// one whose child SAs still carry traffic: the peer would drop its halves of them at once.
    pub initial_contact: bool,
    /// Longest IP packet with a part of an IKE message over IPv4, where both ends can put messages together from fragments
    /// (RFC 7383 section 2.5.1).
    pub fragment_ipv4_bytes: usize,
    /// The same over IPv6.
    pub fragment_ipv6_bytes: usize,
    /// Idle time after which a NAT keepalive is sent when we are behind a NAT (RFC 3948 section 4).
    pub keepalive: Duration,
}

impl Limits {
    /// Longest IKE message that goes in one piece on this path.
    pub(crate) fn message_bytes(&self, path: Path) -> usize {
        const IPV4_HEADER_BYTES: usize = 20;
        const IPV6_HEADER_BYTES: usize = 40;
        const UDP_HEADER_BYTES: usize = 8;
        const NON_ESP_MARKER_BYTES: usize = 4;
        let (packet, header) = if path.remote.is_ipv4() {
            (self.fragment_ipv4_bytes, IPV4_HEADER_BYTES)
        } else {
            (self.fragment_ipv6_bytes, IPV6_HEADER_BYTES)
        };
        let marker = if path.local.port() == self.nat_port { NON_ESP_MARKER_BYTES } else { 0 };
        packet.saturating_sub(header).saturating_sub(UDP_HEADER_BYTES).saturating_sub(marker)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ike_port: 500,
            nat_port: 4500,
            cookie_threshold: 30,
            cookie_threshold_per_source: 3,
            half_open_per_source: 16,
            half_open: 1000,
            half_open_timeout: Duration::from_secs(30),
            retransmit_base: Duration::from_secs(1),
            retransmit_tries: 7,
            retry_base: Duration::from_secs(1),
            retry_max: Duration::from_secs(60),
            linger: Duration::from_secs(5),
            phase_one_linger: Duration::from_secs(30),
            ike_sas_per_connection: 16,
            children_per_ike_sa: 1024,
            initial_contact: true,
            fragment_ipv4_bytes: 576,
            fragment_ipv6_bytes: 1280,
            keepalive: Duration::from_secs(20),
        }
    }
}
