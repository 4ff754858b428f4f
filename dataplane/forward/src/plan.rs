//! The plan of a tunnel: all that stands in front of its passengers, built once, and where they leave.
//!
//! ```text
//!  template, right-aligned:
//!  | Ethernet | outer IPv4 | UDP? | SPI, sequence, IV | carrier IPv4 (tunnel mode) | GRE, key? |
//! ```
//!
//! A plan holds for one epoch of the tables: route, next hop, crypto map, policy and SA are looked up when it is made,
//! not for each packet.

use esp::framing::{Framing, HEADER_BYTES};
use packet::header::{ethernet, gre, ipv4, protocol};
use packet::{Classifier, FiveTuple, NO_MATCH, RouteLookup, checksum};
use shm::{Drop, EventKind};

use crate::adjacency::Adjacency;
use crate::crypto_map::CryptoMap;
use crate::sa::{Owner, Sa};
use crate::tables::Tables;
use crate::tunnel::{Protection, Tunnel};

/// Bytes of a template. The longest chain of headers (UDP, an IV of 16, tunnel mode, GRE key) has 94.
pub(crate) const TEMPLATE_BYTES: usize = 96;
/// ESP header with the longest IV.
const LONGEST_ESP_BYTES: usize = HEADER_BYTES + 16;

/// What becomes of a tunnel's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Sealed with the SA in this slot.
    Seal(u32),
    /// Sent in clear.
    Clear,
    /// Dropped.
    Drop(Drop),
    /// Dropped: the SA in this slot was agreed for less.
    Mismatch(u32),
    /// Dropped for want of an SA, which the control plane is asked for: by which event, about which slot.
    Acquire(EventKind, u32),
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) template: [u8; TEMPLATE_BYTES],
    /// Epoch of the tables that it was made in; 0 if it was never made.
    pub(crate) epoch: u64,
    pub(crate) action: Action,
    /// Slot of the port that packets leave by.
    pub(crate) port: u32,
    /// Sums of outer and carrier IPv4 header without what differs from packet to packet.
    pub(crate) outer_sum: u32,
    pub(crate) carrier_sum: u32,
    /// Largest passenger, in bytes.
    pub(crate) mtu_bytes: u16,
    /// Where each header begins in the template; the Ethernet header is where it starts.
    pub(crate) start: u8,
    pub(crate) udp_at: u8,
    pub(crate) esp_at: u8,
    /// Where the payload of ESP begins: behind the IV.
    pub(crate) payload_at: u8,
    /// How ESP is framed, from its SA.
    pub(crate) framing: Framing,
    pub(crate) carrier_at: u8,
    pub(crate) gre_at: u8,
}

impl Plan {
    /// Not made yet.
    pub(crate) fn unmade() -> Self {
        Self::refusing(0, Action::Drop(Drop::TunnelDown))
    }

    fn refusing(epoch: u64, action: Action) -> Self {
        Self {
            template: [0; TEMPLATE_BYTES],
            epoch,
            action,
            port: 0,
            outer_sum: 0,
            carrier_sum: 0,
            mtu_bytes: u16::MAX,
            start: TEMPLATE_BYTES as u8,
            udp_at: 0,
            esp_at: 0,
            payload_at: 0,
            framing: Framing::COMBINED,
            carrier_at: 0,
            gre_at: 0,
        }
    }

    /// Makes the plan of a tunnel.
    #[cold]
    pub(crate) fn make<R: RouteLookup, C: Classifier>(tables: &Tables<R, C>, tunnel: &Tunnel) -> Self {
        Self::try_make(tables, tunnel).unwrap_or_else(|action| Self::refusing(tables.epoch, action))
    }

    fn try_make<R: RouteLookup, C: Classifier>(
        tables: &Tables<R, C>,
        tunnel: &Tunnel,
    ) -> Result<Self, Action> {
        if !tunnel.enabled {
            return Err(Action::Drop(Drop::TunnelDown));
        }
        let sa = match tunnel.protection {
            Protection::Profile(slot) => {
                let sa = slot.and_then(|slot| tables.outbound_sa(slot, Owner::Tunnel(tunnel.slot)));
                Some(sa.ok_or(Action::Acquire(EventKind::AcquireTunnel, tunnel.slot))?)
            }
            Protection::None => classify(tables, tunnel)?,
            Protection::CryptoMap => Some(classify(tables, tunnel)?.ok_or(Action::Drop(Drop::Unprotected))?),
        };
        // Transport mode keeps the addresses of the carrier: they must be those that the SA was made for. A peer behind a
        // NAT is where its NAT shows it.
        if sa.is_some_and(|sa| !sa.tunnel_mode && (sa.local, sa.peer) != (tunnel.local, tunnel.remote)) {
            return Err(Action::Drop(Drop::NoSa));
        }
        if let Some(sa) = sa.filter(|sa| !sa.selectors.carry(&gre_tuple(tunnel), false)) {
            return Err(Action::Mismatch(sa.slot));
        }
        let (local, remote) = match sa {
            Some(sa) => (sa.local, sa.remote),
            None => (tunnel.local, tunnel.remote),
        };
        let exit = Exit::find(tables, remote).map_err(Action::Drop)?;
        let mut plan = Self::refusing(tables.epoch, sa.map_or(Action::Clear, |sa| Action::Seal(sa.slot)));
        plan.port = exit.port;
        plan.fill(tunnel, sa, &exit.ethernet, local, remote);
        let room = match sa {
            None => exit.mtu_bytes.checked_sub(ipv4::LEN_BYTES),
            Some(sa) => sa.payload_that_fits(exit.mtu_bytes),
        };
        let behind_payload =
            TEMPLATE_BYTES - usize::from(if plan.carrier_at != 0 { plan.carrier_at } else { plan.gre_at });
        let exact = room.and_then(|room| room.checked_sub(behind_payload)).unwrap_or(0);
        plan.mtu_bytes = u16::try_from(tunnel.mtu_bytes.min(exact)).unwrap_or(u16::MAX);
        Ok(plan)
    }

    /// Reads what a packet will need of it, for the sake of the cache.
    #[inline]
    pub(crate) fn touch(&self) -> u64 {
        self.epoch ^ u64::from(self.template[0]) ^ u64::from(self.template[TEMPLATE_BYTES - 1])
    }

    /// Writes the template from its end to its start.
    fn fill(&mut self, tunnel: &Tunnel, sa: Option<&Sa>, link: &[u8; 14], local: [u8; 4], remote: [u8; 4]) {
        let (header, len) = gre::header(0, tunnel.key);
        let mut at = TEMPLATE_BYTES;
        let mut push = |template: &mut [u8; TEMPLATE_BYTES], bytes: &[u8]| {
            at -= bytes.len();
            template[at..at + bytes.len()].copy_from_slice(bytes);
            at as u8
        };
        self.gre_at = push(&mut self.template, &header[..len]);
        let mut inner_protocol = protocol::GRE;
        if let Some(sa) = sa {
            if sa.tunnel_mode {
                let carrier = bare_header(tunnel.ttl, protocol::GRE, tunnel.local, tunnel.remote);
                self.carrier_sum = u32::from(checksum::fold(checksum::sum(&carrier)));
                self.carrier_at = push(&mut self.template, &carrier);
            }
            self.framing = sa.framing();
            let mut esp = [0; LONGEST_ESP_BYTES];
            esp[..4].copy_from_slice(&sa.spi.to_be_bytes());
            self.esp_at = push(&mut self.template, &esp[..sa.framing().payload_at()]);
            self.payload_at = self.esp_at + sa.framing().payload_at() as u8;
            if sa.udp {
                self.udp_at = push(&mut self.template, &sa.udp_header());
            }
            inner_protocol = sa.outer_protocol();
        }
        let outer = bare_header(tunnel.ttl, inner_protocol, local, remote);
        self.outer_sum = u32::from(checksum::fold(checksum::sum(&outer)));
        push(&mut self.template, &outer);
        self.start = push(&mut self.template, link);
    }
}

/// An IPv4 header without type of service, length, identification, fragment word and checksum.
fn bare_header(ttl: u8, protocol: u8, source: [u8; 4], destination: [u8; 4]) -> [u8; ipv4::LEN_BYTES] {
    let repr = ipv4::Repr {
        tos: 0,
        total_len_bytes: 0,
        identification: 0,
        fragment_word: 0,
        ttl,
        protocol,
        source,
        destination,
    };
    let mut bytes = repr.to_bytes();
    bytes[10..12].fill(0);
    bytes
}

fn gre_tuple(tunnel: &Tunnel) -> FiveTuple {
    FiveTuple {
        protocol: protocol::GRE,
        source: tunnel.local,
        destination: tunnel.remote,
        ..FiveTuple::default()
    }
}

/// What the crypto map of the port that GRE leaves by says of it.
fn classify<'a, R: RouteLookup, C: Classifier>(
    tables: &'a Tables<R, C>,
    tunnel: &Tunnel,
) -> Result<Option<&'a Sa>, Action> {
    let exit = Exit::find(tables, tunnel.remote).map_err(Action::Drop)?;
    if !exit.has_crypto_map {
        return Ok(None);
    }
    let map = tables.crypto_map(exit.port).ok_or(Action::Drop(Drop::Unprotected))?;
    match verdict(map, &gre_tuple(tunnel)) {
        None => Ok(None),
        Some(policy) => {
            let sa = tables.policy_sa(policy);
            sa.map(Some).ok_or(Action::Acquire(EventKind::AcquirePolicy, policy))
        }
    }
}

/// The policy that one packet leads to.
pub(crate) fn verdict<C: Classifier>(map: &CryptoMap<C>, key: &FiveTuple) -> Option<u32> {
    let mut verdicts = [NO_MATCH];
    map.compiled.classify(&[*key], &mut verdicts);
    verdicts[0].checked_sub(1)
}

/// Where a transport packet leaves.
#[derive(Clone, Copy)]
pub(crate) struct Exit {
    pub(crate) port: u32,
    pub(crate) ethernet: [u8; ethernet::LEN_BYTES],
    pub(crate) mtu_bytes: usize,
    pub(crate) has_crypto_map: bool,
}

impl Exit {
    /// By the route to an address.
    pub(crate) fn find<R: RouteLookup, C>(tables: &Tables<R, C>, to: [u8; 4]) -> Result<Self, Drop> {
        match tables.route_one_v4(to) {
            Adjacency::NextHop(index) => Self::by_next_hop(tables, index, ethernet::ethertype::IPV4),
            Adjacency::Tunnel(_) | Adjacency::Local => Err(Drop::Recursion),
            Adjacency::Glean(_) => Err(Drop::NoNeighbour),
            Adjacency::Miss => Err(Drop::NoRoute),
            Adjacency::Blackhole | Adjacency::Unreachable => Err(Drop::Blackhole),
        }
    }

    /// By a next hop.
    pub(crate) fn by_next_hop<R: RouteLookup, C>(
        tables: &Tables<R, C>,
        index: u32,
        ethertype: u16,
    ) -> Result<Self, Drop> {
        let next_hop = tables.next_hop(index).ok_or(Drop::NoNeighbour)?;
        let port = tables.port(next_hop.port).filter(|port| port.enabled).ok_or(Drop::PortDown)?;
        let mac = next_hop.mac.ok_or(Drop::NoNeighbour)?;
        Ok(Self {
            port: next_hop.port,
            ethernet: ethernet::header(mac, port.mac, ethertype),
            mtu_bytes: port.mtu_bytes,
            has_crypto_map: port.has_crypto_map,
        })
    }
}
