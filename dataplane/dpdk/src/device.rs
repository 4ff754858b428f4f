//! Device strings: what an operator writes for a port, as DPDK's device arguments.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// A device that DPDK can probe.
///
/// ```
/// let device: dpdk::Device = "af_packet:eth0".parse().unwrap();
/// assert_eq!(device.netdev(), Some("eth0"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// `af_packet:IF`: any Linux interface, by packet sockets.
    AfPacket(String),
    /// `af_xdp:IF`: a Linux interface, by XDP sockets.
    AfXdp(String),
    /// `pci:ADDR`: a device bound to a userspace driver.
    Pci(String),
    /// `vdev:ARGS`: a virtual device of DPDK with its arguments, as `--vdev` takes them.
    Virtual(String),
}

/// Bytes of an af_packet frame that are not packet: the kernel's header and padding, generously.
const TPACKET_OVERHEAD_BYTES: u32 = 106;

/// What af_packet copies into a buffer is at most its frame less this (`struct tpacket2_hdr`).
const TPACKET2_HEADER_BYTES: u32 = 32;

/// Ethernet header with one VLAN tag.
const ETHERNET_BYTES: u32 = 18;

/// Geometry of the rings that af_packet shares with the kernel.
///
/// The block has to be a whole number of frames and of pages: 9728 / 12288, say, is accepted by the driver and
/// breaks after the first frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PacketRing {
    frame_bytes: u32,
    block_bytes: u32,
    frames: u32,
}

impl PacketRing {
    fn for_mtu(mtu_bytes: u32) -> Self {
        match mtu_bytes + ETHERNET_BYTES + TPACKET_OVERHEAD_BYTES {
            0..=2048 => Self { frame_bytes: 2048, block_bytes: 4096, frames: 1024 },
            2049..=4096 => Self { frame_bytes: 4096, block_bytes: 4096, frames: 512 },
            _ => Self { frame_bytes: 12288, block_bytes: 12288, frames: 256 },
        }
    }
}

impl Device {
    /// Largest MTU in bytes that a port of this program carries.
    pub const MTU_MAX_BYTES: u32 = 12288 - TPACKET_OVERHEAD_BYTES - ETHERNET_BYTES;

    /// The Linux interface behind the device, when there is one.
    #[must_use]
    pub fn netdev(&self) -> Option<&str> {
        match self {
            Self::AfPacket(interface) | Self::AfXdp(interface) => Some(interface),
            Self::Pci(_) | Self::Virtual(_) => None,
        }
    }

    /// Data bytes that each buffer of the port's pool needs for packets of this MTU.
    #[must_use]
    pub fn buffer_bytes(&self, mtu_bytes: u32) -> u16 {
        let bytes = match self {
            Self::AfPacket(_) => PacketRing::for_mtu(mtu_bytes).frame_bytes - TPACKET2_HEADER_BYTES,
            Self::AfXdp(_) | Self::Pci(_) | Self::Virtual(_) => (mtu_bytes + ETHERNET_BYTES).max(2048),
        };
        u16::try_from(bytes).unwrap_or(u16::MAX - crate::HEADROOM)
    }

    /// Name of the device within DPDK. `index` tells several devices of a driver apart.
    #[must_use]
    pub fn name(&self, index: u32) -> String {
        match self {
            Self::AfPacket(_) => format!("net_af_packet{index}"),
            Self::AfXdp(_) => format!("net_af_xdp{index}"),
            Self::Pci(address) => address.clone(),
            Self::Virtual(arguments) => {
                arguments.split_once(',').map_or(arguments.as_str(), |(name, _)| name).to_owned()
            }
        }
    }

    /// The device arguments for `rte_dev_probe`.
    #[must_use]
    pub fn arguments(&self, index: u32, mtu_bytes: u32) -> String {
        let name = self.name(index);
        match self {
            Self::AfPacket(interface) => {
                let PacketRing { frame_bytes, block_bytes, frames } = PacketRing::for_mtu(mtu_bytes);
                format!(
                    "{name},iface={interface},blocksz={block_bytes},framesz={frame_bytes},framecnt={frames}"
                )
            }
            Self::AfXdp(interface) => format!("{name},iface={interface}"),
            Self::Pci(_) => name,
            Self::Virtual(arguments) => arguments.clone(),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |reason| Error::Device { device: text.to_owned(), reason };
        let (kind, rest) = text
            .split_once(':')
            .ok_or_else(|| refuse("expected af_packet:IF, af_xdp:IF, pci:ADDRESS or vdev:ARGUMENTS"))?;
        if rest.is_empty() {
            return Err(refuse("nothing after the colon"));
        }
        let interface = || {
            // A comma would end the argument and let the rest of the name set others.
            let usable = rest.len() < 16 && !rest.contains([',', '/', ' ', '\0', '=']);
            if usable { Ok(rest.to_owned()) } else { Err(refuse("not an interface name")) }
        };
        match kind {
            "af_packet" => Ok(Self::AfPacket(interface()?)),
            "af_xdp" => Ok(Self::AfXdp(interface()?)),
            "pci" => {
                if rest.chars().all(|c| c.is_ascii_hexdigit() || matches!(c, ':' | '.')) {
                    Ok(Self::Pci(rest.to_owned()))
                } else {
                    Err(refuse("not a PCI address"))
                }
            }
            "vdev" => {
                // Only network drivers: the string must not load or attach anything else.
                if rest.starts_with("net_") && !rest.contains('\0') {
                    Ok(Self::Virtual(rest.to_owned()))
                } else {
                    Err(refuse("a virtual device starts with net_"))
                }
            }
            _ => Err(refuse("expected af_packet:IF, af_xdp:IF, pci:ADDRESS or vdev:ARGUMENTS")),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AfPacket(interface) => write!(f, "af_packet:{interface}"),
            Self::AfXdp(interface) => write!(f, "af_xdp:{interface}"),
            Self::Pci(address) => write!(f, "pci:{address}"),
            Self::Virtual(arguments) => write!(f, "vdev:{arguments}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(text: &str) -> Device {
        text.parse().unwrap()
    }

    #[test]
    fn device_strings_survive_a_round_trip() {
        for text in ["af_packet:ethblack", "af_xdp:eth0", "pci:0000:00:1f.6", "vdev:net_null0,size=64"] {
            assert_eq!(device(text).to_string(), text);
        }
    }

    #[test]
    fn what_could_smuggle_arguments_is_refused() {
        for text in [
            "eth0",
            "af_packet:",
            "af_packet:eth0,qpairs=9",
            "af_packet:an-interface-name-too-long",
            "pci:0000:00:1f.6,x",
            "vdev:crypto_null",
            "tap:x",
        ] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }

    #[test]
    fn blocks_are_whole_frames_and_whole_pages_for_every_mtu() {
        for mtu_bytes in 576..=Device::MTU_MAX_BYTES {
            let ring = PacketRing::for_mtu(mtu_bytes);
            assert_eq!(ring.block_bytes % ring.frame_bytes, 0, "{mtu_bytes}");
            assert_eq!(ring.block_bytes % 4096, 0, "{mtu_bytes}");
            assert!(ring.frame_bytes >= mtu_bytes + ETHERNET_BYTES + TPACKET_OVERHEAD_BYTES, "{mtu_bytes}");
            assert_eq!(ring.frames % (ring.block_bytes / ring.frame_bytes), 0, "{mtu_bytes}");
        }
    }

    #[test]
    fn arguments_are_those_that_the_drivers_take() {
        assert_eq!(
            device("af_packet:eth0").arguments(3, 1500),
            "net_af_packet3,iface=eth0,blocksz=4096,framesz=2048,framecnt=1024"
        );
        assert_eq!(device("vdev:net_null0,size=64").name(1), "net_null0");
        assert_eq!(device("vdev:net_null0,size=64").arguments(1, 1500), "net_null0,size=64");
        assert_eq!(device("pci:0000:00:1f.6").arguments(1, 1500), "0000:00:1f.6");
    }
}
