//! The surface of the engine: what its host configures, what it hands in, and what it gets out.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::{Authentication, Cause, Keeping, Ppk};

/// A connection, chosen by the host; stable over reconfiguration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A child of a connection (one protected flow), chosen by the host; unique in the whole engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildId(pub u64);

/// An IKE SA inside the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IkeSaId(pub u64);

/// An operation that the host must answer with [`crate::Engine::handle_sa_result`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub u64);

/// Where a datagram came from or goes to. Port 4500 means that the non-ESP marker (RFC 3948 section 2.2) goes
/// before the message on the wire; the host adds and strips nothing: the engine does both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    /// Our address and port.
    pub local: SocketAddr,
    /// The peer's address and port.
    pub remote: SocketAddr,
}

/// An identity (RFC 7296 section 3.5).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// `ID_IPV4_ADDR` or `ID_IPV6_ADDR`.
    Address(IpAddr),
    /// `ID_FQDN`.
    Fqdn(String),
    /// `ID_RFC822_ADDR`.
    Email(String),
    /// `ID_KEY_ID`.
    KeyId(Vec<u8>),
    /// `ID_DER_ASN1_DN`: DER of a `Name`, compared by RFC 5280 section 7.1.
    DistinguishedName(Vec<u8>),
}

/// IKE encryption (RFC 7296 transform type 1; RFC 2409 appendix A). IKEv1 has the CBC ciphers alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the registry's")]
pub enum IkeEncryption {
    Aes128Gcm16,
    Aes256Gcm16,
    /// RFC 7634.
    ChaCha20Poly1305,
    Aes128Cbc,
    Aes192Cbc,
    Aes256Cbc,
    /// Legacy: its block of 64 bits is too short.
    TripleDesCbc,
}

/// IKE integrity and PRF hash (transform types 2 and 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the registry's")]
pub enum Hash {
    /// Legacy: broken as a hash.
    Md5,
    /// Legacy: weak as a hash.
    Sha1,
    Sha2_256,
    Sha2_384,
    Sha2_512,
}

/// Key-exchange method (transform type 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// 2; legacy: within reach of a state.
    Modp1024,
    /// 5; legacy.
    Modp1536,
    /// 14
    Modp2048,
    /// 15
    Modp3072,
    /// 16
    Modp4096,
    /// 17
    Modp6144,
    /// 18
    Modp8192,
    /// 19
    EcpP256,
    /// 20
    EcpP384,
    /// 21
    EcpP521,
    /// 31
    Curve25519,
}

/// A method of an additional key exchange (RFC 9370).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyEncapsulation {
    /// 36: ML-KEM-768 (FIPS 203).
    MlKem768,
    /// 37: ML-KEM-1024 (FIPS 203).
    MlKem1024,
}

/// One IKE proposal: any of each list, in order of preference. `integrity` is used with CBC only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are transform types")]
pub struct IkeProposal {
    pub encryption: Vec<IkeEncryption>,
    pub integrity: Vec<Hash>,
    pub prf: Vec<Hash>,
    pub groups: Vec<Group>,
    /// Additional key exchanges after that of `groups`, at most seven, any of each list; all of them are done or none.
    /// Children with groups of their own have the same after them, in what is made and rekeyed by CREATE_CHILD_SA.
    pub additional_key_exchanges: Vec<Vec<KeyEncapsulation>>,
    /// A peer that does without the additional key exchanges is refused.
    pub additional_required: bool,
}

/// ESP encryption. IKEv1 has no number for ChaCha20-Poly1305.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the registry's")]
pub enum EspEncryption {
    Aes128Gcm16,
    Aes256Gcm16,
    /// RFC 7634.
    ChaCha20Poly1305,
    Aes128Cbc,
    Aes192Cbc,
    Aes256Cbc,
    /// Legacy: its block of 64 bits is too short.
    TripleDesCbc,
}

/// ESP integrity, which goes with the CBC ciphers (RFC 2403, 2404, 4868).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the registry's")]
pub enum EspIntegrity {
    /// Legacy.
    HmacMd5_96,
    /// Legacy.
    HmacSha1_96,
    HmacSha2_256_128,
    HmacSha2_384_192,
    HmacSha2_512_256,
}

/// One ESP proposal, in order of preference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EspProposal {
    /// Ciphers, best first.
    pub encryption: Vec<EspEncryption>,
    /// Integrity for the CBC ciphers, best first; the others have their own.
    pub integrity: Vec<EspIntegrity>,
    /// Perfect forward secrecy groups; empty for none.
    pub groups: Vec<Group>,
    /// Extended sequence numbers acceptable, best first: `[true, false]`, `[true]` or `[false]`.
    pub esn: Vec<bool>,
}

/// ESP mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// `USE_TRANSPORT_MODE`; an answer in tunnel mode is refused unless [`ChildConfig::tunnel_fallback`] allows it.
    Transport,
    /// Tunnel mode.
    Tunnel,
}

/// Most traffic selectors that are agreed on each side of an SA.
pub const SELECTORS_MOST: usize = 8;

/// A traffic selector (RFC 7296 section 3.13): an address range, a protocol (0 any) and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrafficSelector {
    /// First address, inclusive.
    pub first: IpAddr,
    /// Last address, inclusive; same family.
    pub last: IpAddr,
    /// IP protocol: 47 for GRE, 0 for any.
    pub protocol: u8,
    /// Ports, inclusive; `(0, 65535)` for any.
    pub ports: (u16, u16),
}

/// Limits of one child SA. The engine adds jitter to the soft time limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildLifetime {
    /// Rekey after this long (before jitter).
    pub soft: Duration,
    /// Gone after this long.
    pub hard: Duration,
    /// Rekey after this many packets; `None` for no limit. The host counts and reports.
    pub soft_packets: Option<u64>,
    /// Gone after this many packets.
    pub hard_packets: Option<u64>,
    /// Rekey after this many bytes.
    pub soft_bytes: Option<u64>,
    /// Gone after this many bytes.
    pub hard_bytes: Option<u64>,
}

/// A child that a connection may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildConfig {
    /// Stable id.
    pub id: ChildId,
    /// Mode asked for and accepted.
    pub mode: Mode,
    /// With [`Mode::Transport`]: tunnel mode is taken where an IKEv2 peer has no other (RFC 7296 section 1.3.1: a responder may
    /// decline transport mode, and it is the initiator's to accept that). IKEv1 takes the mode alone.
    pub tunnel_fallback: bool,
    /// Our side's selectors.
    pub local_selectors: Vec<TrafficSelector>,
    /// The peer's side's selectors.
    pub remote_selectors: Vec<TrafficSelector>,
    /// Proposals, best first.
    pub proposals: Vec<EspProposal>,
    /// Lifetime.
    pub lifetime: ChildLifetime,
    /// Bring it up without being asked, and again when it goes down.
    pub start: bool,
}

impl ChildConfig {
    /// Whether an IKEv2 peer may have it in this mode.
    pub(crate) fn takes(&self, mode: Mode) -> bool {
        mode == self.mode || (mode == Mode::Tunnel && self.tunnel_fallback)
    }
}

/// Dead peer detection (RFC 7296 section 2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dpd {
    /// Ask after this long without an authenticated IKE message or ESP packet from the peer.
    pub interval: Duration,
}

/// What only IKEv1 knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ikev1 {
    /// Accept a quick mode whose identities hold more than the child's selectors, and install the child's: version 1
    /// cannot narrow, and routers with crypto maps send `0.0.0.0/0` with protocol 47. Otherwise they must be equal.
    pub accept_superset: bool,
    /// Begin by aggressive mode, and answer a peer that does: identities go in clear, and with a pre-shared key a hash
    /// under it goes to whoever asks. Otherwise it is refused. An answer that would be longer than what it answers is not
    /// given, which leaves out most that bear a certificate.
    pub aggressive_mode: bool,
}

/// Version of IKE that a connection speaks; it never tries the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// RFC 2409: main mode and quick mode. Historic (RFC 9395), for peers that know no better.
    V1(Ikev1),
    /// RFC 7296.
    V2,
}

/// When ESP goes in UDP (RFC 3948).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NatTraversal {
    /// Where a NAT is found between the two ends.
    #[default]
    Auto,
    /// Always: the peer is told of a NAT before us, there or not. For paths that drop ESP. A peer without NAT traversal is
    /// refused.
    Force,
}

/// A peer and what is agreed with it.
#[derive(Clone)]
pub struct Connection {
    /// Stable id.
    pub id: ConnectionId,
    /// Version of IKE.
    pub version: Version,
    /// Our address.
    pub local: IpAddr,
    /// The peer's address.
    pub remote: IpAddr,
    /// Our identity.
    pub local_identity: Identity,
    /// The identity that the peer must prove.
    pub remote_identity: Identity,
    /// How the two prove them.
    pub authentication: Authentication,
    /// Mixed into the keys beside what `authentication` proves.
    pub ppk: Option<Ppk>,
    /// When ESP goes in UDP.
    pub nat_traversal: NatTraversal,
    /// Proposals, best first.
    pub proposals: Vec<IkeProposal>,
    /// The IKE SA is rekeyed after this long (less jitter).
    pub lifetime: Duration,
    /// Dead peer detection; `None` switches it off.
    pub dpd: Option<Dpd>,
    /// Its children.
    pub children: Vec<ChildConfig>,
}

/// What the host may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Bring up a connection with the children whose `start` is set; no-op when up.
    Initiate(ConnectionId),
    /// Bring up one child (an acquire from the dataplane).
    InitiateChild(ChildId),
    /// Rekey the child SA now.
    RekeyChild(ChildId),
    /// Rekey the IKE SA of a connection now.
    RekeyIke(ConnectionId),
    /// Delete the IKE SA and its children, telling the peer.
    Terminate(ConnectionId),
    /// Delete everything, telling the peers; for an orderly end.
    Shutdown,
}

/// What the host reports of the dataplane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataplaneEvent {
    /// A soft limit was reached by the SA whose *our-side* inbound SPI of the pair is this.
    SoftLimit {
        /// Inbound SPI of the pair.
        spi_in: u32,
    },
    /// A hard limit was reached: the pair is dead.
    HardLimit {
        /// Inbound SPI of the pair.
        spi_in: u32,
    },
    /// The first authentic packet arrived on this inbound SPI: the peer sends on the new SA.
    FirstPacket {
        /// Inbound SPI of the pair.
        spi_in: u32,
    },
    /// Authentic traffic was seen lately on this inbound SPI (feeds DPD).
    Traffic {
        /// Inbound SPI of the pair.
        spi_in: u32,
    },
    /// An authentic packet in UDP, newer than all before it, came from another address or port than the pair sends to.
    PeerMoved {
        /// Inbound SPI of the pair.
        spi_in: u32,
        /// Where it came from.
        remote: SocketAddr,
    },
}

/// Keying material of one direction.
#[derive(Clone)]
pub struct EspKeys {
    /// Cipher key.
    pub key: Zeroizing<Vec<u8>>,
    /// Salt of a combined cipher; empty for other ciphers.
    pub salt: Zeroizing<Vec<u8>>,
    /// Integrity key; empty where the cipher has its own.
    pub integrity: Zeroizing<Vec<u8>>,
}

/// A key exchange of a child's own (perfect forward secrecy).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildKeyExchange {
    /// Its group.
    pub group: Group,
    /// What followed it (RFC 9370).
    pub additional: Vec<KeyEncapsulation>,
}

/// A negotiated pair of ESP SAs.
#[derive(Clone)]
pub struct ChildPair {
    /// Which child it serves.
    pub child: ChildId,
    /// Which connection.
    pub connection: ConnectionId,
    /// Our inbound SPI: the pair's name.
    pub spi_in: u32,
    /// The peer's inbound SPI: what we send with.
    pub spi_out: u32,
    /// Addresses (and ports when encapsulated).
    pub path: Path,
    /// ESP in UDP (RFC 3948).
    pub udp_encapsulation: bool,
    /// Agreed mode.
    pub mode: Mode,
    /// Agreed cipher.
    pub encryption: EspEncryption,
    /// Agreed integrity, with a cipher that has none of its own.
    pub integrity: Option<EspIntegrity>,
    /// Agreed extended sequence numbers.
    pub esn: bool,
    /// The key exchange that its keys come of, beside those of the IKE SA; `None` where those serve.
    pub key_exchange: Option<ChildKeyExchange>,
    /// Agreed selectors of our side.
    pub local_selectors: Vec<TrafficSelector>,
    /// Agreed selectors of the peer's side.
    pub remote_selectors: Vec<TrafficSelector>,
    /// Key for what we receive.
    pub keys_in: EspKeys,
    /// Key for what we send.
    pub keys_out: EspKeys,
    /// Limits, for the dataplane to count.
    pub lifetime: ChildLifetime,
}

/// What the host must do to the dataplane, in order.
pub enum SaOperation {
    /// Install both directions; sending on it begins now only if `send` is set, otherwise at
    /// [`SaOperation::SwitchOutbound`]. Answer with [`crate::Engine::handle_sa_result`] once the dataplane has the
    /// inbound SA: the engine holds back the message that commits the child until then.
    Install {
        /// To be answered.
        operation: OperationId,
        /// Whether outbound traffic moves to this pair at once.
        send: bool,
        /// The pair, with its keys.
        pair: Box<ChildPair>,
    },
    /// Move outbound traffic of the child to the pair with this inbound SPI.
    SwitchOutbound {
        /// The child.
        child: ChildId,
        /// Inbound SPI of the pair to send on.
        spi_in: u32,
    },
    /// Both halves of the pair go on between these addresses and ports; keys, sequence numbers and the replay window stay.
    Move {
        /// Inbound SPI of the pair.
        spi_in: u32,
        /// From where to where.
        path: Path,
        /// Whether ESP goes in UDP from now on (RFC 3948).
        udp_encapsulation: bool,
    },
    /// The pair stays as it is, and is the engine's no longer: nothing more is heard of it, and the next pair that the
    /// child sends on takes its place.
    Release {
        /// Inbound SPI of the pair.
        spi_in: u32,
    },
    /// Remove the pair: outbound at once, inbound after `linger`.
    Remove {
        /// Inbound SPI of the pair.
        spi_in: u32,
        /// How long the inbound half still accepts.
        linger: Duration,
    },
}

/// What happened, for the host's state, log and event stream. Never bears a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An IKE SA is up.
    IkeUp {
        /// Connection.
        connection: ConnectionId,
        /// The SA.
        ike_sa: IkeSaId,
        /// What of it is insecure.
        insecure: Vec<Insecurity>,
    },
    /// The peer has confirmed that it still has an IKE SA of before this engine.
    IkeResumed {
        /// Connection.
        connection: ConnectionId,
        /// The SA.
        ike_sa: IkeSaId,
    },
    /// An IKE SA was replaced by a rekey.
    IkeRekeyed {
        /// Connection.
        connection: ConnectionId,
        /// The new SA.
        ike_sa: IkeSaId,
    },
    /// An IKE SA went down, or an attempt failed; the engine retries by itself when a child has `start`.
    IkeDown {
        /// Connection.
        connection: ConnectionId,
        /// Why.
        cause: Cause,
        /// When the engine tries again by itself.
        retry_in: Option<Duration>,
    },
    /// A child is up.
    ChildUp {
        /// Child.
        child: ChildId,
        /// Inbound SPI of the pair.
        spi_in: u32,
    },
    /// A child was rekeyed: `spi_in` replaces `replaced`.
    ChildRekeyed {
        /// Child.
        child: ChildId,
        /// The new pair.
        spi_in: u32,
        /// The old pair.
        replaced: u32,
    },
    /// A child went down, or could not come up.
    ChildDown {
        /// Child.
        child: ChildId,
        /// Why.
        cause: Cause,
    },
}

/// What comes out of the engine.
pub enum Output {
    /// Send this datagram.
    Transmit {
        /// From and to.
        path: Path,
        /// UDP payload, marker included where the path needs it.
        bytes: Vec<u8>,
    },
    /// Do this to the dataplane.
    Sa(SaOperation),
    /// This happened.
    Event(Event),
    /// Store these, all of them or none, before anything that comes out later is sent, or store nothing ever: an engine
    /// that follows this one must find its SAs as the peers know them.
    Keep(Vec<Keeping>),
}

/// What came in by a datagram; the host acts on none of it but may count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Classified {
    /// An IKE message, handled.
    Ike,
    /// A NAT keepalive.
    Keepalive,
    /// ESP in UDP, not for us to handle.
    Esp,
    /// Dropped, counted under this name.
    Dropped(&'static str),
}

/// Something insecure that an IKE SA came up with (RFC 8247, RFC 9395), or by (RFC 2409 section 5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "their own names")]
pub enum Insecurity {
    Ikev1,
    TripleDes,
    Md5,
    Sha1,
    Modp1024,
    Modp1536,
    AggressiveMode,
}

/// State of an IKE SA, without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "plain view")]
pub struct IkeSaView {
    pub id: IkeSaId,
    pub connection: Option<ConnectionId>,
    /// 1 or 2.
    pub version: u8,
    pub path: Path,
    pub spi_i: u64,
    pub spi_r: u64,
    pub initiator: bool,
    /// "init", "auth", "established", "rekeying", "deleting".
    pub state: &'static str,
    /// Chosen suite in words: "aes-256-gcm / prf sha2-256 / group 31".
    pub suite: String,
    /// What of it is insecure.
    pub insecure: Vec<Insecurity>,
    pub children: Vec<u32>,
    pub established_secs: Option<u64>,
    pub rekey_in_secs: Option<u64>,
}
