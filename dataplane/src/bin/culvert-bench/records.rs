//! The records of a gateway with many tunnels, as control would write them.

use shm::records::{
    Address, NONE, NeighbourRecord, PolicyRecord, PortRecord, RouteRecord, RuleRecord, SaRecord, Selector,
    TrafficSelector, TunnelRecord, algorithm, direction, mode, owner, protection, route,
};
use shm::{Writer, name_bytes};
use zerocopy::FromZeros;

use crate::capture::passenger_prefix;
use crate::{EspMode, Protection, Tunnels};

/// Slot of the red port.
pub(crate) const RED: u32 = 0;
/// Slot of the black port.
pub(crate) const BLACK: u32 = 1;

/// The encrypting gateway's end of all tunnels.
const LOCAL: [u8; 4] = [192, 0, 2, 1];
/// The router on the black side.
const UNDERLAY_ROUTER: [u8; 4] = [192, 0, 2, 254];
/// The router on the red side of the decrypting gateway.
const RED_ROUTER: [u8; 4] = [10, 255, 255, 254];

/// Which end of the tunnels a gateway is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Passengers in, ESP out.
    Encrypt,
    /// ESP in, passengers out.
    Decrypt,
}

/// Writes the tables of a gateway.
pub(crate) struct Records {
    writer: Writer,
    role: Role,
}

impl Records {
    pub(crate) fn new(writer: Writer, role: Role) -> Self {
        Self { writer, role }
    }

    /// Writes the records of all tunnels and their surroundings. `next_hop_mac` is the router's.
    pub(crate) fn configure(&mut self, tunnels: &Tunnels, next_hop_mac: [u8; 6]) -> anyhow::Result<()> {
        let crypto_map = tunnels.protection == Protection::CryptoMap;
        for (slot, name, device) in
            [(RED, "red", "vdev:net_ring_red"), (BLACK, "black", "vdev:net_ring_black")]
        {
            let mut port = PortRecord::new_zeroed();
            port.present = 1;
            port.side = u8::from(slot == BLACK);
            port.enabled = 1;
            port.crypto_map = u8::from(slot == BLACK && crypto_map);
            port.mtu_bytes = 1500;
            port.name = name_bytes(name);
            port.device = name_bytes(device);
            self.writer.put(slot, &port)?;
        }
        for index in 0..tunnels.count {
            self.configure_tunnel(tunnels, index)?;
        }
        let first = tunnels.count;
        match self.role {
            Role::Encrypt => {
                self.put_route(first, [198, 18, 0, 0], 15, route::PORT, BLACK, Some(UNDERLAY_ROUTER))?;
                self.put_route(first + 1, LOCAL, 32, route::LOCAL, 0, None)?;
                self.put_neighbour(BLACK, UNDERLAY_ROUTER, next_hop_mac)?;
            }
            Role::Decrypt => {
                self.put_route(first, [10, 0, 0, 0], 8, route::PORT, RED, Some(RED_ROUTER))?;
                self.put_neighbour(RED, RED_ROUTER, next_hop_mac)?;
            }
        }
        Ok(())
    }

    fn configure_tunnel(&mut self, tunnels: &Tunnels, index: u32) -> anyhow::Result<()> {
        let far = remote(index);
        let (local, remote) = match self.role {
            Role::Encrypt => (LOCAL, far),
            Role::Decrypt => (far, LOCAL),
        };
        let crypto_map = tunnels.protection == Protection::CryptoMap;
        let outbound = if self.role == Role::Encrypt { index } else { NONE };
        let mut tunnel = TunnelRecord::new_zeroed();
        tunnel.present = 1;
        tunnel.enabled = 1;
        tunnel.protection = if crypto_map { protection::CRYPTO_MAP } else { protection::PROFILE };
        tunnel.family = 4;
        tunnel.ttl = 64;
        tunnel.df = 1;
        tunnel.mtu_bytes = 1420;
        tunnel.outbound_sa = if crypto_map { NONE } else { outbound };
        tunnel.local = address(local);
        tunnel.remote = address(remote);
        tunnel.name = name_bytes(&format!("tunnel{index}"));
        self.writer.put(index, &tunnel)?;

        let selector = Selector {
            source: address(local),
            destination: address(remote),
            source_prefix_len: 32,
            destination_prefix_len: 32,
            protocol: 47,
            family: 4,
            source_ports: [0, u16::MAX],
            destination_ports: [0, u16::MAX],
            reserved: [0; 4],
        };
        self.writer.put(index, &sa(tunnels, self.role, index, local, remote))?;
        if crypto_map {
            let mut policy = PolicyRecord::new_zeroed();
            policy.present = 1;
            policy.mode = esp_mode(tunnels);
            policy.family = 4;
            policy.outbound_sa = outbound;
            policy.port = BLACK;
            policy.peer = address(remote);
            self.writer.put(index, &policy)?;
            let mut rule = RuleRecord::new_zeroed();
            rule.present = 1;
            rule.permit = 1;
            rule.port = BLACK;
            rule.map_sequence = 10 + index;
            rule.rule_sequence = 10;
            rule.policy = index;
            rule.selector = selector;
            self.writer.put(index, &rule)?;
        }
        match self.role {
            Role::Encrypt => self.put_route(index, passenger_prefix(index), 24, route::TUNNEL, index, None),
            Role::Decrypt => self.put_route(index, far, 32, route::LOCAL, 0, None),
        }
    }

    fn put_route(
        &mut self,
        slot: u32,
        prefix: [u8; 4],
        prefix_len: u8,
        kind: u8,
        target: u32,
        gateway: Option<[u8; 4]>,
    ) -> anyhow::Result<()> {
        let mut record = RouteRecord::new_zeroed();
        record.present = 1;
        record.kind = kind;
        record.family = 4;
        record.prefix_len = prefix_len;
        record.has_gateway = u8::from(gateway.is_some());
        record.target = target;
        record.prefix = address(prefix);
        record.gateway = address(gateway.unwrap_or_default());
        self.writer.put(slot, &record)?;
        Ok(())
    }

    fn put_neighbour(&mut self, port: u32, ip: [u8; 4], mac: [u8; 6]) -> anyhow::Result<()> {
        let mut record = NeighbourRecord::new_zeroed();
        record.present = 1;
        record.family = 4;
        record.mac = mac;
        record.port = port;
        record.address = address(ip);
        self.writer.put(0, &record)?;
        Ok(())
    }
}

/// The decrypting gateway's end of a tunnel.
fn remote(index: u32) -> [u8; 4] {
    [198, 18, (index >> 8) as u8, index as u8]
}

fn address(ip: [u8; 4]) -> Address {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&ip);
    Address { bytes }
}

fn esp_mode(tunnels: &Tunnels) -> u8 {
    match tunnels.mode {
        EspMode::Transport => mode::TRANSPORT,
        EspMode::Tunnel => mode::TUNNEL,
    }
}

fn sa(tunnels: &Tunnels, role: Role, index: u32, local: [u8; 4], remote: [u8; 4]) -> SaRecord {
    let mut sa = SaRecord::new_zeroed();
    sa.present = 1;
    sa.direction = if role == Role::Encrypt { direction::OUTBOUND } else { direction::INBOUND };
    sa.mode = esp_mode(tunnels);
    sa.algorithm = algorithm::AES_128_GCM_16;
    sa.esn = u8::from(tunnels.esn);
    sa.owner_kind = if tunnels.protection == Protection::CryptoMap { owner::POLICY } else { owner::TUNNEL };
    sa.family = 4;
    // SPIs are random in life: spread them over the number space.
    sa.spi = (index + 1).wrapping_mul(2_654_435_761).max(256);
    sa.owner = index;
    sa.replay_window = 1024;
    sa.key_len = 16;
    sa.generation = u64::from(index) + 1;
    sa.local = address(local);
    sa.remote = address(remote);
    sa.peer = sa.remote;
    sa.salt = index.to_be_bytes();
    for (position, byte) in sa.key.iter_mut().take(16).enumerate() {
        *byte = (index as u8).wrapping_mul(31).wrapping_add(position as u8);
    }
    let gre = |ip| TrafficSelector { protocol: 47, ..TrafficSelector::host(4, address(ip)) };
    (sa.local_selectors, sa.remote_selectors) = (gre(local).alone(), gre(remote).alone());
    sa
}
