//! What DPDK can refuse.

use std::ffi::{CStr, NulError};

/// An error of DPDK, with what was attempted and the reason that DPDK gave.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// `rte_eal_init` is possible once in the life of a process.
    #[error("the environment abstraction layer was already started in this process")]
    AlreadyStarted,
    /// A DPDK call failed.
    #[error("{call}: {reason}")]
    Call {
        /// The DPDK function.
        call: &'static str,
        /// Positive errno.
        errno: i32,
        /// Text of the errno.
        reason: String,
    },
    /// A string with a NUL cannot be handed to C.
    #[error("a name or argument contains a NUL byte")]
    Nul,
    /// The device string is not one of the forms that [`crate::Device`] reads.
    #[error("device {device:?}: {reason}")]
    Device {
        /// The string as given.
        device: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A queue was handed back to a port that it does not belong to.
    #[error("the queue belongs to port {queue_port}, not to port {port}")]
    ForeignQueue {
        /// Port that was to be stopped.
        port: u16,
        /// Port of the queue.
        queue_port: u16,
    },
}

impl Error {
    /// The error of a call that returned a negative errno.
    pub(crate) fn from_return(call: &'static str, code: i32) -> Self {
        // Some DPDK calls return -1 and leave the reason in rte_errno.
        if code == -1 {
            let stored = Self::last(call);
            if !matches!(stored, Self::Call { errno: 0, .. }) {
                return stored;
            }
        }
        Self::from_errno(call, code.saturating_neg())
    }

    /// The error of a call that left its reason in `rte_errno`.
    pub(crate) fn last(call: &'static str) -> Self {
        // SAFETY: culvert_errno only reads a per-thread variable.
        Self::from_errno(call, unsafe { dpdk_sys::culvert_errno() })
    }

    fn from_errno(call: &'static str, errno: i32) -> Self {
        // SAFETY: rte_strerror returns a NUL-terminated string that stays valid until the thread's next call of it.
        let reason = unsafe { CStr::from_ptr(dpdk_sys::rte_strerror(errno)) };
        Self::Call { call, errno, reason: reason.to_string_lossy().into_owned() }
    }
}

impl From<NulError> for Error {
    fn from(_: NulError) -> Self {
        Self::Nul
    }
}

/// Turns the return code of a DPDK call into a result.
pub(crate) fn check(call: &'static str, code: i32) -> Result<(), Error> {
    if code < 0 { Err(Error::from_return(call, code)) } else { Ok(()) }
}
