//! `/dev/net/tun` and the two ioctls on sockets that have no safe wrapper: the only `unsafe` of this crate.
//!
//! A twin is a *persistent*, *single-queue* device: it outlives every process, and its carrier stays on while
//! any process holds its descriptor. A second `TUNSETIFF` on a held device answers `EBUSY`, which is how a
//! restarted control plane learns that the dataplane still holds it.

use std::ffi::{c_int, c_short, c_ulong};
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use shm::socket_messages::TwinKind;

/// Why a twin could not be had.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The name is empty, longer than 15 bytes, or holds a NUL.
    #[error("{0:?} is not the name of a network device")]
    Name(String),
    /// Another process holds the device.
    #[error("the device {0} is held by another process")]
    Busy(String),
    /// A device of this name exists and is of another kind.
    #[error("a device named {0} exists and is no {1:?} device")]
    Foreign(String, TwinKind),
    /// The kernel refused.
    #[error("{call} on {name} failed")]
    System {
        /// The call.
        call: &'static str,
        /// The device.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Creates the twin, or attaches to it when it exists and nobody holds it, and makes it persistent.
///
/// The descriptor is non-blocking: it is shared with the dataplane, which polls it.
///
/// # Errors
/// [`DeviceError::Busy`] when another process holds it; otherwise what the kernel refused.
pub fn open(kind: TwinKind, name: &str) -> Result<OwnedFd, DeviceError> {
    let system = |call| move |source| DeviceError::System { call, name: name.to_owned(), source };
    let mut request = InterfaceRequest::named(name)?;
    request.value.flags = match kind {
        TwinKind::Tap => libc::IFF_TAP | libc::IFF_NO_PI,
        TwinKind::Tun => libc::IFF_TUN | libc::IFF_NO_PI,
    } as c_short;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")
        .map_err(system("open of /dev/net/tun"))?;
    attach(&file, &mut request).map_err(|source| match source.raw_os_error() {
        Some(libc::EBUSY) => DeviceError::Busy(name.to_owned()),
        Some(libc::EINVAL) => DeviceError::Foreign(name.to_owned(), kind),
        _ => DeviceError::System { call: "TUNSETIFF", name: name.to_owned(), source },
    })?;
    with_int(file.as_fd(), libc::TUNSETPERSIST as c_ulong, 1).map_err(system("TUNSETPERSIST"))?;
    Ok(file.into())
}

/// Name and kind of the device behind a descriptor that another process handed over.
///
/// # Errors
/// What the kernel refused: `EBADFD` when the descriptor is no attached twin.
pub fn identify(fd: BorrowedFd<'_>) -> io::Result<(TwinKind, String)> {
    let mut request = InterfaceRequest::default();
    // SAFETY: TUNGETIFF writes one `struct ifreq`, which `request` is laid out as and large enough for.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNGETIFF as _, &raw mut request) };
    check(result)?;
    // SAFETY: TUNGETIFF fills the `flags` member of the union; every bit pattern is a valid short.
    let flags = c_int::from(unsafe { request.value.flags });
    let kind = if flags & libc::IFF_TAP != 0 { TwinKind::Tap } else { TwinKind::Tun };
    let end = request.name.iter().position(|byte| *byte == 0).unwrap_or(request.name.len());
    Ok((kind, String::from_utf8_lossy(&request.name[..end]).into_owned()))
}

/// Switches the carrier of a twin: off tells routing daemons that nothing passes.
///
/// # Errors
/// What the kernel refused: `EPERM` when the descriptor is detached.
pub fn set_carrier(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    let value = c_int::from(on);
    // SAFETY: TUNSETCARRIER reads one int through the pointer, and `value` lives until the call returns.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETCARRIER as _, &raw const value) })
}

/// Takes the persistence off a twin: it vanishes when its last holder closes it.
///
/// # Errors
/// What the kernel refused.
pub fn forget(fd: BorrowedFd<'_>) -> io::Result<()> {
    with_int(fd, libc::TUNSETPERSIST as c_ulong, 0)
}

/// Switches off what merges received packets (GRO and LRO) on a wire, so that the dataplane sees the packets as
/// they came. `socket` is any socket of the wire's network namespace.
///
/// # Errors
/// What the kernel refused; a device that cannot merge is no error.
pub fn stop_merging(socket: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    // From linux/ethtool.h, which the libc crate does not carry.
    const SET_GRO: u32 = 0x2c;
    const FLAGS: u32 = 0x25;
    const SET_FLAGS: u32 = 0x26;
    const FLAG_LRO: u32 = 1 << 15;
    ethtool(socket, name, EthtoolValue { command: SET_GRO, data: 0 })?;
    match ethtool(socket, name, EthtoolValue { command: FLAGS, data: 0 })? {
        Some(flags) if flags & FLAG_LRO != 0 => {
            ethtool(socket, name, EthtoolValue { command: SET_FLAGS, data: flags & !FLAG_LRO }).map(|_| ())
        }
        _ => Ok(()),
    }
}

/// The value after the call; `None` when the device does not know the command.
fn ethtool(socket: BorrowedFd<'_>, name: &str, mut value: EthtoolValue) -> io::Result<Option<u32>> {
    let mut request = InterfaceRequest::named(name).map_err(io::Error::other)?;
    request.value.data = &raw mut value;
    // SAFETY: SIOCETHTOOL reads one `struct ifreq` whose data points at `value`, which lives until the call returns;
    // the commands used here read and write no more than a `struct ethtool_value`.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    match check(result) {
        Ok(()) => Ok(Some(value.data)),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
        Err(error) => Err(error),
    }
}

fn attach(file: &File, request: &mut InterfaceRequest) -> io::Result<()> {
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, which `request` is laid out as.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut *request) })
}

fn with_int(fd: BorrowedFd<'_>, command: c_ulong, value: c_ulong) -> io::Result<()> {
    // SAFETY: the command takes its argument by value and touches no memory of ours.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), command as _, value) })
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `_IOW('T', 226, int)`.
const TUNSETCARRIER: c_ulong = 0x4004_54e2;

/// `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// `struct ifreq`: a name and a union of which these calls use two members.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    value: InterfaceValue,
}

#[repr(C)]
union InterfaceValue {
    flags: c_short,
    data: *mut EthtoolValue,
    /// As large as the kernel's largest member, which it copies in full.
    whole: [u64; 3],
}

const _: () = assert!(size_of::<InterfaceRequest>() == size_of::<libc::ifreq>());

impl Default for InterfaceRequest {
    fn default() -> Self {
        Self { name: [0; libc::IFNAMSIZ], value: InterfaceValue { whole: [0; 3] } }
    }
}

impl InterfaceRequest {
    fn named(name: &str) -> Result<Self, DeviceError> {
        if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains('\0') {
            return Err(DeviceError::Name(name.to_owned()));
        }
        let mut request = Self::default();
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_would_cut_are_refused() {
        for name in ["", "sixteen-bytes-ok", "nul\0inside"] {
            assert!(matches!(open(TwinKind::Tun, name), Err(DeviceError::Name(_))), "{name:?}");
        }
    }

    #[test]
    fn a_descriptor_that_is_no_twin_is_told_apart() {
        let file = File::open("/dev/null").expect("/dev/null opens");
        assert!(identify(file.as_fd()).is_err());
        assert!(set_carrier(file.as_fd(), true).is_err());
    }
}
