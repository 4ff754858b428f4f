//! Views of security associations: ISAKMP (phase 1) and IPsec (phase 2). Neither ever bears a key.

use serde::Serialize;
use utoipa::ToSchema;

/// An IKE SA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct IsakmpSa {
    /// Stable while the SA lives.
    pub id: String,
    /// Our address and port.
    pub local: String,
    /// The peer's address and port.
    pub remote: String,
    /// The initiator's SPI, in hexadecimal.
    pub spi_initiator: String,
    /// The responder's SPI, in hexadecimal.
    pub spi_responder: String,
    /// True when this side began it.
    pub initiator: bool,
    /// `init`, `auth`, `established`, `rekeying` or `deleting`.
    pub state: String,
    /// Chosen algorithms in words.
    pub suite: String,
    /// What is insecure of them, of the version, or of the way it was made, as `allow_insecure` names it; empty where nothing is.
    pub insecure: Vec<&'static str>,
    /// Names of the tunnels and crypto-map flows that the connection serves.
    pub serves: Vec<String>,
    /// Inbound SPIs of its IPsec SAs.
    pub children: Vec<String>,
    /// Age in seconds; absent while being negotiated.
    pub established_secs: Option<u64>,
    /// Seconds until it is rekeyed.
    pub rekey_in_secs: Option<u64>,
}

/// Direction of an IPsec SA, seen from this gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Decrypts.
    Inbound,
    /// Encrypts.
    Outbound,
}

/// What the checks of an inbound SA refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ReplayCounters {
    /// Window in packets; 0 when switched off.
    pub window: u32,
    /// Sequence numbers seen before.
    pub replayed: u64,
    /// Sequence numbers left of the window.
    pub late: u64,
}

/// An IPsec SA: one direction of a pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct IpsecSa {
    /// SPI, in hexadecimal.
    pub spi: String,
    /// Direction.
    pub direction: Direction,
    /// Whom it serves: `tunnel/NAME`, or `crypto-map/NAME/ENTRY/RULE@INTERFACE`.
    pub owner: String,
    /// `transport` or `tunnel`.
    pub mode: &'static str,
    /// As transform sets name it, such as `aes-256-gcm`.
    pub encryption: &'static str,
    /// As transform sets name it, such as `sha2-256`; absent where the cipher authenticates by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub integrity: Option<&'static str>,
    /// Group of the key exchange that its keys come of beside those of the IKE SA, by its IANA number; absent where there was
    /// none, as in the first SAs of an IKE SA, and where a former control plane had installed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pfs_group: Option<u16>,
    /// What followed that key exchange, as ISAKMP policies name it, such as `ml-kem-768`; absent where nothing did.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub additional_key_exchanges: Vec<&'static str>,
    /// What of these is insecure, as `allow_insecure` names it; empty where nothing is.
    pub insecure: Vec<&'static str>,
    /// Extended sequence numbers.
    pub esn: bool,
    /// ESP in UDP (RFC 3948).
    pub udp_encapsulation: bool,
    /// Our address.
    pub local: String,
    /// The peer's address.
    pub remote: String,
    /// What it may carry as it was agreed, from our side: `LOCAL -> REMOTE protocol N`. A side may have several prefixes or
    /// ranges, separated by commas, each with ports and a protocol of its own.
    pub selector: String,
    /// True for the outbound SA that traffic is sent on, and for every inbound SA.
    pub in_use: bool,
    /// True when it was found at the start of this control plane and has not been replaced yet.
    pub adopted: bool,
    /// Age in seconds since this control plane installed or adopted it.
    pub age_secs: u64,
    /// Outbound: the next sequence number. Inbound: the highest one seen.
    pub sequence: u64,
    /// Packets passed.
    pub packets: u64,
    /// Bytes passed.
    pub bytes: u64,
    /// Anti-replay; inbound only.
    pub replay: Option<ReplayCounters>,
    /// Packets whose ICV was wrong.
    pub auth_failed: u64,
    /// Packets that the selector or the owner did not allow. Outbound: what policy sends by this SA, and the peer did not agree
    /// to.
    pub selector_mismatch: u64,
    /// Packets that were authentic but malformed.
    pub malformed: u64,
}
