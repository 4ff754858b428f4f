//! Exact MTU arithmetic: how large a passenger packet may be so that GRE and ESP around it still fit the link.
//!
//! ```text
//! transport  | IP | [UDP] | SPI seq IV | GRE [key] | passenger | pad | pad len, next header | ICV |
//! tunnel     | IP | [UDP] | SPI seq IV | IP | GRE [key] | passenger | pad | pad len, next header | ICV |
//!                                        `------ encrypted, a multiple of the alignment ------'
//! ```
//!
//! The part between IV and ICV is padded to a multiple of four octets (RFC 4303 section 2.4), or of the cipher's block
//! where that is longer (a combined cipher itself needs no padding), so what is left of the link is rounded *down* to that before
//! the two octets of the trailer are taken.

use crate::transform_set::Mode;

/// The IP version of the transport (outer) header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportFamily {
    /// A 20-octet header without options.
    Ipv4,
    /// A 40-octet header without extension headers.
    Ipv6,
}

impl TransportFamily {
    /// Length of the IP header in bytes.
    #[must_use]
    pub const fn header_bytes(self) -> u32 {
        match self {
            Self::Ipv4 => 20,
            Self::Ipv6 => 40,
        }
    }
}

/// What an ESP algorithm adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// Length of the IV.
    pub iv_bytes: u32,
    /// What the length of the encrypted part is a multiple of, at least 4.
    pub alignment_bytes: u32,
    /// Length of the ICV.
    pub icv_bytes: u32,
}

impl Framing {
    /// AES-GCM with a 16-octet ICV (RFC 4106 sections 3.1 and 6), and ChaCha20-Poly1305 (RFC 7634 section 2).
    pub const COMBINED: Self = Self { iv_bytes: 8, alignment_bytes: 4, icv_bytes: 16 };

    /// A cipher in CBC mode with an IV as long as its block (RFC 3602 section 3, RFC 2451 section 3), and an ICV.
    #[must_use]
    pub const fn cbc(block_bytes: u32, icv_bytes: u32) -> Self {
        Self { iv_bytes: block_bytes, alignment_bytes: block_bytes, icv_bytes }
    }
}

/// ESP around the GRE packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Esp {
    /// Transport mode keeps the GRE packet's IP header outside, tunnel mode adds a second one.
    pub mode: Mode,
    /// ESP in UDP (RFC 3948), as behind a NAT.
    pub udp_encapsulation: bool,
    /// Of the algorithm.
    pub framing: Framing,
}

/// Everything that goes around a passenger packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encapsulation {
    /// IP version of the outer header; the same inside and outside of tunnel mode.
    pub family: TransportFamily,
    /// Whether the GRE header has a key (RFC 2890): four octets more.
    pub gre_key: bool,
    /// `None` is GRE in clear.
    pub esp: Option<Esp>,
}

impl Encapsulation {
    /// The largest passenger packet, in bytes, whose encapsulation fits a link of `link_mtu_bytes`.
    ///
    /// Zero when not even an empty passenger packet fits.
    #[must_use]
    pub const fn passenger_mtu_bytes(self, link_mtu_bytes: u32) -> u32 {
        let room = link_mtu_bytes.saturating_sub(self.family.header_bytes());
        match self.esp {
            None => room.saturating_sub(self.gre_bytes()),
            Some(esp) => {
                let room = room.saturating_sub(esp.outside_bytes());
                let encrypted = room - room % esp.framing.alignment_bytes;
                encrypted.saturating_sub(self.inside_bytes(esp))
            }
        }
    }

    /// Length in bytes of the packet on the wire, its IP header included, that carries a passenger packet of
    /// `passenger_bytes`.
    #[must_use]
    pub const fn packet_bytes(self, passenger_bytes: u32) -> u32 {
        let header = self.family.header_bytes();
        match self.esp {
            None => header + self.gre_bytes() + passenger_bytes,
            Some(esp) => {
                let encrypted =
                    (self.inside_bytes(esp) + passenger_bytes).next_multiple_of(esp.framing.alignment_bytes);
                header + esp.outside_bytes() + encrypted
            }
        }
    }

    const fn gre_bytes(self) -> u32 {
        if self.gre_key { GRE_HEADER_BYTES + GRE_KEY_BYTES } else { GRE_HEADER_BYTES }
    }

    /// What is encrypted besides the passenger packet and its padding.
    const fn inside_bytes(self, esp: Esp) -> u32 {
        let inner_header = match esp.mode {
            Mode::Transport => 0,
            Mode::Tunnel => self.family.header_bytes(),
        };
        inner_header + self.gre_bytes() + ESP_TRAILER_BYTES
    }
}

impl Esp {
    /// What stands between the outer IP header and the encrypted part, and after it.
    const fn outside_bytes(self) -> u32 {
        let udp = if self.udp_encapsulation { UDP_HEADER_BYTES } else { 0 };
        udp + ESP_HEADER_BYTES + self.framing.iv_bytes + self.framing.icv_bytes
    }
}

/// GRE without optional fields (RFC 2784 section 2).
const GRE_HEADER_BYTES: u32 = 4;
/// The key field (RFC 2890 section 2).
const GRE_KEY_BYTES: u32 = 4;
const UDP_HEADER_BYTES: u32 = 8;
/// SPI and sequence number (RFC 4303 section 2); the upper half of an extended one is not sent.
const ESP_HEADER_BYTES: u32 = 8;
/// Pad length and next header (RFC 4303 section 2).
const ESP_TRAILER_BYTES: u32 = 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn esp(mode: Mode, udp_encapsulation: bool) -> Encapsulation {
        Encapsulation {
            family: TransportFamily::Ipv4,
            gre_key: false,
            esp: Some(Esp { mode, udp_encapsulation, framing: Framing::COMBINED }),
        }
    }

    #[test]
    fn well_known_sizes_on_an_ethernet_link() {
        assert_eq!(esp(Mode::Transport, false).passenger_mtu_bytes(1500), 1442);
        assert_eq!(esp(Mode::Tunnel, false).passenger_mtu_bytes(1500), 1422);
        assert_eq!(esp(Mode::Transport, true).passenger_mtu_bytes(1500), 1434);
        assert_eq!(esp(Mode::Tunnel, true).passenger_mtu_bytes(1500), 1414);
    }

    #[test]
    fn blocks_and_long_icvs_cost_what_they_take() {
        let over = |mode, framing| Encapsulation {
            esp: Some(Esp { mode, udp_encapsulation: false, framing }),
            ..esp(mode, false)
        };
        for (framing, transport, tunnel) in [
            // AES-CBC with ICVs of 12, 16, 24 and 32 octets; Triple DES with 12.
            (Framing::cbc(16, 12), 1434, 1414),
            (Framing::cbc(16, 16), 1434, 1414),
            (Framing::cbc(16, 24), 1418, 1398),
            (Framing::cbc(16, 32), 1418, 1398),
            (Framing::cbc(8, 12), 1442, 1422),
        ] {
            assert_eq!(over(Mode::Transport, framing).passenger_mtu_bytes(1500), transport);
            assert_eq!(over(Mode::Tunnel, framing).passenger_mtu_bytes(1500), tunnel);
        }
    }

    #[test]
    fn a_gre_key_costs_four_bytes() {
        for mode in [Mode::Transport, Mode::Tunnel] {
            let without = esp(mode, false);
            let with = Encapsulation { gre_key: true, ..without };
            assert_eq!(without.passenger_mtu_bytes(1500) - with.passenger_mtu_bytes(1500), 4);
        }
    }

    #[test]
    fn gre_in_clear_costs_twenty_four_bytes_over_ipv4() {
        let clear = Encapsulation { family: TransportFamily::Ipv4, gre_key: false, esp: None };
        assert_eq!(clear.passenger_mtu_bytes(1500), 1476);
        assert_eq!(clear.packet_bytes(1476), 1500);
    }

    #[test]
    fn an_ipv6_underlay_costs_twenty_bytes_per_header() {
        let over = |mode| Encapsulation { family: TransportFamily::Ipv6, ..esp(mode, false) };
        assert_eq!(over(Mode::Transport).passenger_mtu_bytes(1500), 1422);
        assert_eq!(over(Mode::Tunnel).passenger_mtu_bytes(1500), 1382);
    }

    #[test]
    fn a_link_too_small_for_the_headers_carries_nothing() {
        assert_eq!(esp(Mode::Tunnel, true).passenger_mtu_bytes(60), 0);
        assert_eq!(esp(Mode::Tunnel, true).passenger_mtu_bytes(0), 0);
    }

    fn encapsulation() -> impl Strategy<Value = Encapsulation> {
        let framing = prop_oneof![
            Just(Framing::COMBINED),
            (prop_oneof![Just(8), Just(16)], prop_oneof![Just(12), Just(16), Just(24), Just(32)])
                .prop_map(|(block_bytes, icv_bytes)| Framing::cbc(block_bytes, icv_bytes)),
        ];
        (any::<bool>(), any::<bool>(), proptest::option::of((any::<bool>(), any::<bool>(), framing)))
            .prop_map(|(v6, gre_key, esp)| Encapsulation {
                family: if v6 { TransportFamily::Ipv6 } else { TransportFamily::Ipv4 },
                gre_key,
                esp: esp.map(|(tunnel, udp_encapsulation, framing)| Esp {
                    mode: if tunnel { Mode::Tunnel } else { Mode::Transport },
                    udp_encapsulation,
                    framing,
                }),
            })
    }

    proptest! {
        #[test]
        fn the_mtu_is_the_largest_that_fits(encapsulation in encapsulation(), link in 200u32..20_000) {
            let mtu = encapsulation.passenger_mtu_bytes(link);
            prop_assert!(encapsulation.packet_bytes(mtu) <= link);
            prop_assert!(encapsulation.packet_bytes(mtu + 1) > link);
        }
    }
}
