//! Views of headers. A view borrows bytes whose length was checked once, when it was made; reading a field from it
//! needs no further check and can't fail.

pub mod esp;
pub mod ethernet;
pub mod gre;
pub mod icmp;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod tcp;
pub mod udp;

use thiserror::Error;

/// Why bytes are not the header that was looked for.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Malformed {
    /// A header or a length claims more bytes than there are.
    #[error("a length exceeds the packet")]
    Truncated,
    /// Wrong version, impossible header length, or a reserved value that must be zero.
    #[error("a header field has an impossible value")]
    Field,
    /// Wrong checksum.
    #[error("wrong checksum")]
    Checksum,
}

/// IP protocol numbers and IPv6 next headers.
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IPv4 in IP; in ESP: tunnel mode with an IPv4 packet.
    pub const IPV4: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 in IP; in ESP: tunnel mode with an IPv6 packet.
    pub const IPV6: u8 = 41;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// GRE.
    pub const GRE: u8 = 47;
    /// ESP.
    pub const ESP: u8 = 50;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// No next header; in ESP: a dummy packet (RFC 4303 section 2.6).
    pub const NO_NEXT_HEADER: u8 = 59;
}
