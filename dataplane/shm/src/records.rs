//! The records that cross from the control plane to the data plane.
//!
//! Every record is `repr(C)`, has no pointer and no padding, and a size that is a multiple of eight bytes,
//! so that a slot can copy it word by word. Integers are in native byte order: both planes run on one machine.
//! A record that is all zero is a *vacant* slot. Addresses are sixteen bytes; an IPv4 address stands in the
//! first four of them and the rest are zero.

mod traffic_selector;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub use self::traffic_selector::{SELECTORS_MOST, TrafficSelector};

/// "No slot": the reference is empty.
pub const NONE: u32 = u32::MAX;

/// Address family of an [`Address`]: 4 or 6 (the IP version), 0 in a vacant field.
pub type Family = u8;

/// An IPv4 or IPv6 address or prefix base.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Address {
    /// Network byte order; IPv4 in the first four bytes.
    pub bytes: [u8; 16],
}

/// A DPDK port and its TAP twin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PortRecord {
    /// 1 when in use, 0 when vacant.
    pub present: u8,
    /// 0 red (protected, LAN), 1 black (Internet).
    pub side: u8,
    /// 1 when administratively up.
    pub enabled: u8,
    /// 1 when a crypto map is applied: what leaves here is classified.
    pub crypto_map: u8,
    /// MTU of the wire's IP layer, in bytes.
    pub mtu_bytes: u32,
    /// Interface name, NUL padded; also the name of the TAP twin.
    pub name: [u8; 16],
    /// Device as the operator wrote it, NUL padded: `af_packet:eth0`, `af_xdp:eth0`, `pci:0000:00:1f.6` or
    /// `vdev:net_null0,size=64`.
    pub device: [u8; 96],
}

/// What protects a tunnel.
pub mod protection {
    /// GRE in clear, by the operator's explicit word.
    pub const NONE: u8 = 0;
    /// An ipsec-profile: the SA hangs on the tunnel record.
    pub const PROFILE: u8 = 1;
    /// A crypto map must match on the way out; unmatched packets are dropped.
    pub const CRYPTO_MAP: u8 = 2;
}

/// A GRE tunnel (RFC 2784, RFC 2890) and its TUN twin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TunnelRecord {
    /// 1 when in use, 0 when vacant.
    pub present: u8,
    /// 1 when traffic may pass; 0 when administratively down or taken down for a cause (recursive routing).
    pub enabled: u8,
    /// One of [`protection`].
    pub protection: u8,
    /// Address family of `local` and `remote`.
    pub family: Family,
    /// 1 when `key` is present in the GRE header.
    pub has_key: u8,
    /// Time to live (hop limit) of the transport header.
    pub ttl: u8,
    /// DF of the transport header: 0 clear, 1 set, 2 copy from the passenger.
    pub df: u8,
    /// Reserved, zero.
    pub reserved: u8,
    /// GRE key, valid with `has_key`.
    pub key: u32,
    /// Largest passenger packet in bytes that fits one transport packet after GRE and ESP.
    pub mtu_bytes: u32,
    /// Slot of the SA that protects outbound packets ([`protection::PROFILE`]); [`NONE`] drops them.
    pub outbound_sa: u32,
    /// TCP MSS is clamped to this for IPv4 (and this less 20 for IPv6); 0 leaves it alone.
    pub tcp_mss_bytes: u32,
    /// Transport source address.
    pub local: Address,
    /// Transport destination address.
    pub remote: Address,
    /// Tunnel name, NUL padded; also the name of the TUN twin.
    pub name: [u8; 16],
}

/// Direction of an SA.
pub mod direction {
    /// Inbound: decrypts what arrives with this SPI.
    pub const INBOUND: u8 = 0;
    /// Outbound: encrypts.
    pub const OUTBOUND: u8 = 1;
}

/// ESP mode (RFC 4303).
pub mod mode {
    /// Transport mode: the IP header of the packet stays.
    pub const TRANSPORT: u8 = 0;
    /// Tunnel mode: a new IP header goes around the packet.
    pub const TUNNEL: u8 = 1;
}

/// ESP algorithms: those of combined mode, and ciphers that need one of [`integrity`] besides.
pub mod algorithm {
    /// AES-128-GCM with a 16-octet ICV (RFC 4106).
    pub const AES_128_GCM_16: u8 = 1;
    /// AES-256-GCM with a 16-octet ICV (RFC 4106).
    pub const AES_256_GCM_16: u8 = 2;
    /// AES-128-CBC (RFC 3602).
    pub const AES_128_CBC: u8 = 3;
    /// AES-192-CBC (RFC 3602).
    pub const AES_192_CBC: u8 = 4;
    /// AES-256-CBC (RFC 3602).
    pub const AES_256_CBC: u8 = 5;
    /// Triple DES in CBC mode (RFC 2451).
    pub const TRIPLE_DES_CBC: u8 = 6;
    /// ChaCha20-Poly1305 (RFC 7634).
    pub const CHACHA20_POLY1305: u8 = 7;

    /// Length of the cipher's key without salt, in octets; `None` for an unknown number.
    pub const fn key_len(algorithm: u8) -> Option<u16> {
        match algorithm {
            AES_128_GCM_16 | AES_128_CBC => Some(16),
            AES_192_CBC | TRIPLE_DES_CBC => Some(24),
            AES_256_GCM_16 | AES_256_CBC | CHACHA20_POLY1305 => Some(32),
            _ => None,
        }
    }

    /// Whether it is one of combined mode, without an integrity algorithm.
    pub const fn is_combined(algorithm: u8) -> bool {
        matches!(algorithm, AES_128_GCM_16 | AES_256_GCM_16 | CHACHA20_POLY1305)
    }
}

/// ESP integrity algorithms.
pub mod integrity {
    /// That of combined mode is the cipher's own.
    pub const NONE: u8 = 0;
    /// HMAC-MD5-96 (RFC 2403).
    pub const HMAC_MD5_96: u8 = 1;
    /// HMAC-SHA-1-96 (RFC 2404).
    pub const HMAC_SHA1_96: u8 = 2;
    /// HMAC-SHA-256-128 (RFC 4868).
    pub const HMAC_SHA2_256_128: u8 = 3;
    /// HMAC-SHA-384-192 (RFC 4868).
    pub const HMAC_SHA2_384_192: u8 = 4;
    /// HMAC-SHA-512-256 (RFC 4868).
    pub const HMAC_SHA2_512_256: u8 = 5;

    /// Length of the key, in octets; `None` for an unknown number.
    pub const fn key_len(integrity: u8) -> Option<usize> {
        match integrity {
            NONE => Some(0),
            HMAC_MD5_96 => Some(16),
            HMAC_SHA1_96 => Some(20),
            HMAC_SHA2_256_128 => Some(32),
            HMAC_SHA2_384_192 => Some(48),
            HMAC_SHA2_512_256 => Some(64),
            _ => None,
        }
    }
}

/// Whom an SA serves.
pub mod owner {
    /// The slot of a tunnel with an ipsec-profile.
    pub const TUNNEL: u8 = 1;
    /// The slot of a crypto-map policy.
    pub const POLICY: u8 = 2;
}

/// What an access-list rule matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Selector {
    /// Source prefix base.
    pub source: Address,
    /// Destination prefix base.
    pub destination: Address,
    /// Source prefix length in bits.
    pub source_prefix_len: u8,
    /// Destination prefix length in bits.
    pub destination_prefix_len: u8,
    /// IP protocol, 0 for any.
    pub protocol: u8,
    /// Address family of both prefixes; 0 matches either family (prefix lengths are then 0).
    pub family: Family,
    /// Lowest and highest source port, inclusive; 0 to 65535 for any.
    pub source_ports: [u16; 2],
    /// Lowest and highest destination port, inclusive; 0 to 65535 for any.
    pub destination_ports: [u16; 2],
    /// Reserved, zero.
    pub reserved: [u8; 4],
}

/// One ESP security association, one direction.
///
/// It bears keys: it has no `Debug`, and a slot is overwritten with zeroes when the SA goes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SaRecord {
    /// 1 when in use, 0 when vacant.
    pub present: u8,
    /// One of [`direction`].
    pub direction: u8,
    /// One of [`mode`].
    pub mode: u8,
    /// One of [`algorithm`].
    pub algorithm: u8,
    /// 1 with extended sequence numbers (RFC 4304).
    pub esn: u8,
    /// 1 with UDP encapsulation (RFC 3948).
    pub udp_encapsulation: u8,
    /// One of [`owner`].
    pub owner_kind: u8,
    /// Address family of `local` and `remote`.
    pub family: Family,
    /// SPI in host byte order.
    pub spi: u32,
    /// Slot of the owner, in the table that `owner_kind` names.
    pub owner: u32,
    /// Anti-replay window in packets: 64 to 4096, a power of two; 0 switches it off. Inbound only.
    pub replay_window: u32,
    /// Octets of `key` in use, without the salt.
    pub key_len: u16,
    /// One of [`integrity`].
    pub integrity: u8,
    /// Reserved, zero.
    pub reserved: u8,
    /// Unique for each installed SA in the life of the region; tells a resumed SA from a new one in the same slot.
    pub generation: u64,
    /// A soft-limit event is raised after this many packets; 0 for none.
    pub soft_packets: u64,
    /// The SA stops after this many packets; 0 for none.
    pub hard_packets: u64,
    /// A soft-limit event is raised after this many bytes (of the ESP payload); 0 for none.
    pub soft_bytes: u64,
    /// The SA stops after this many bytes; 0 for none.
    pub hard_bytes: u64,
    /// Our address.
    pub local: Address,
    /// The peer's address, as packets bear it.
    pub remote: Address,
    /// The peer's address as it is configured. Behind a NAT the peer may be seen elsewhere, at `remote`; what transport
    /// mode carries is still to and from this one (RFC 7296 section 2.23.1).
    pub peer: Address,
    /// Our UDP port when encapsulated.
    pub local_port: u16,
    /// The peer's UDP port when encapsulated.
    pub remote_port: u16,
    /// Salt of combined mode (RFC 4106 section 4, RFC 7634 section 2), zero otherwise.
    pub salt: [u8; 4],
    /// Cipher key, zero behind `key_len`.
    pub key: [u8; 32],
    /// Key of the integrity algorithm, zero behind its length.
    pub integrity_key: [u8; 64],
    /// What the SA may carry, as it was agreed: each packet whose address on our side, protocol and port there lie in one
    /// of these, and those of the peer's side in one of `remote_selectors` (RFC 7296 section 2.9). Those that are there
    /// come first, and there is one at least.
    pub local_selectors: [TrafficSelector; SELECTORS_MOST],
    /// Likewise on the peer's side.
    pub remote_selectors: [TrafficSelector; SELECTORS_MOST],
}

/// A protected flow of a crypto map: one `permit` rule of its access-list, with the SA that serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PolicyRecord {
    /// 1 when in use, 0 when vacant.
    pub present: u8,
    /// One of [`mode`]: what the peer was asked for.
    pub mode: u8,
    /// Address family of `peer`.
    pub family: Family,
    /// Reserved, zero.
    pub reserved: [u8; 5],
    /// Slot of the SA that protects outbound packets; [`NONE`] drops them.
    pub outbound_sa: u32,
    /// Slot of the port that the crypto map is applied to.
    pub port: u32,
    /// Address of the peer.
    pub peer: Address,
}

/// One line of an access-list, as a crypto map applied to a port uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RuleRecord {
    /// 1 when in use, 0 when vacant.
    pub present: u8,
    /// 1 `permit` (protect), 0 `deny` (leave it to the next crypto-map entry).
    pub permit: u8,
    /// Reserved, zero.
    pub reserved: [u8; 2],
    /// Slot of the port that the crypto map is applied to.
    pub port: u32,
    /// Sequence of the crypto-map entry: lower ones are asked first.
    pub map_sequence: u32,
    /// Sequence of the rule in its access-list: lower ones are asked first.
    pub rule_sequence: u32,
    /// Slot of the policy that a `permit` leads to; [`NONE`] for `deny`.
    pub policy: u32,
    /// Reserved, zero.
    pub reserved2: u32,
    /// What matches.
    pub selector: Selector,
}

/// What a route leads to.
pub mod route {
    /// A port: to `gateway`, or to the destination itself when there is none.
    pub const PORT: u8 = 1;
    /// A tunnel.
    pub const TUNNEL: u8 = 2;
    /// This machine: punt to the twin that the packet came by.
    pub const LOCAL: u8 = 3;
    /// Drop and count.
    pub const BLACKHOLE: u8 = 4;
    /// Drop, count, and answer with ICMP unreachable.
    pub const UNREACHABLE: u8 = 5;
}

/// A route, mirrored from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RouteRecord {
    /// 1 when in use, 0 when vacant.
    pub present: u8,
    /// One of [`route`].
    pub kind: u8,
    /// Address family of `prefix` and `gateway`.
    pub family: Family,
    /// Prefix length in bits.
    pub prefix_len: u8,
    /// 1 when `gateway` is set.
    pub has_gateway: u8,
    /// Reserved, zero.
    pub reserved: [u8; 3],
    /// Slot of the port or the tunnel.
    pub target: u32,
    /// Reserved, zero.
    pub reserved2: u32,
    /// Prefix base.
    pub prefix: Address,
    /// Next hop.
    pub gateway: Address,
}

/// A resolved neighbour, mirrored from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NeighbourRecord {
    /// 1 when in use, 0 when vacant.
    pub present: u8,
    /// Address family of `address`.
    pub family: Family,
    /// Link-layer address.
    pub mac: [u8; 6],
    /// Slot of the port.
    pub port: u32,
    /// Reserved, zero.
    pub reserved: u32,
    /// The neighbour's address.
    pub address: Address,
}

const _: () = {
    assert!(size_of::<PortRecord>() == 120);
    assert!(size_of::<TunnelRecord>() == 72);
    assert!(size_of::<Selector>() == 48);
    assert!(size_of::<TrafficSelector>() == 40);
    assert!(size_of::<SaRecord>() == 856);
    assert!(size_of::<PolicyRecord>() == 32);
    assert!(size_of::<RuleRecord>() == 72);
    assert!(size_of::<RouteRecord>() == 48);
    assert!(size_of::<NeighbourRecord>() == 32);
};
