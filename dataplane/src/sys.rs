//! The two ioctls that no well-kept crate wraps: the carrier of a twin, and the flags of an interface.

#![expect(unsafe_code, reason = "ioctls have no safe wrapper; nothing else in this crate is unsafe")]

use std::ffi::{c_int, c_short};
use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{Setter, Updater, ioctl, opcode};

/// `TUNSETCARRIER`, linux/if_tun.h.
const TUNSETCARRIER: u32 = opcode::write::<c_int>(b'T', 226);

/// `SIOCGIFFLAGS`, linux/sockios.h.
const SIOCGIFFLAGS: u32 = 0x8913;

/// `IFF_RUNNING`, linux/if.h: the interface is up and has carrier.
const IFF_RUNNING: c_short = 0x40;

/// `struct ifreq` with the member that `SIOCGIFFLAGS` fills.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: c_short,
    rest: [u8; 22],
}

const _: () = assert!(size_of::<InterfaceRequest>() == 40, "struct ifreq has 40 bytes");

/// Switches the carrier of a TUN or TAP interface.
///
/// # Errors
/// The descriptor is no attached TUN or TAP.
pub fn set_carrier(twin: impl AsFd, on: bool) -> io::Result<()> {
    // SAFETY: TUNSETCARRIER reads one int, which is what the Setter passes a pointer to.
    unsafe {
        let request = Setter::<TUNSETCARRIER, c_int>::new(c_int::from(on));
        ioctl(twin, request)?;
    }
    Ok(())
}

/// Whether an interface of this network namespace is up and has carrier. `socket` is any socket.
///
/// # Errors
/// There is no such interface.
pub fn interface_is_running(socket: impl AsFd, name: &str) -> io::Result<bool> {
    let mut request = InterfaceRequest { name: shm::name_bytes(name), flags: 0, rest: [0; 22] };
    // The last byte stays NUL.
    request.name[15] = 0;
    // SAFETY: SIOCGIFFLAGS reads the name of a struct ifreq and writes its flags, within its 40 bytes.
    unsafe {
        ioctl(socket, Updater::<SIOCGIFFLAGS, InterfaceRequest>::new(&mut request))?;
    }
    Ok(request.flags & IFF_RUNNING != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketType, socket};

    #[test]
    fn loopback_is_looked_up_and_an_absent_interface_is_an_error() {
        let any = socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
        interface_is_running(&any, "lo").unwrap();
        let error = interface_is_running(&any, "no-such-if").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::NODEV.raw_os_error()));
    }

    #[test]
    fn a_descriptor_that_is_no_twin_is_refused() {
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(set_carrier(&null, true).is_err());
    }
}
