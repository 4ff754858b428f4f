//! Who wrote: the boot and the process, told apart from a later one with the same number.

use std::io;

/// The kernel's id of this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootId(pub [u64; 2]);

impl BootId {
    /// Reads `/proc/sys/kernel/random/boot_id`.
    ///
    /// # Errors
    /// The file cannot be read or is not a UUID.
    pub fn current() -> io::Result<BootId> {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        let not_a_uuid = || io::Error::new(io::ErrorKind::InvalidData, "the boot id is not a UUID");
        let number = u128::from_str_radix(&digits, 16).map_err(|_| not_a_uuid())?;
        Ok(BootId([(number >> 64) as u64, number as u64]))
    }
}

/// A process: its number, and its start time in clock ticks since boot (field 22 of `/proc/<pid>/stat`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessId {
    /// Process number.
    pub pid: u32,
    /// Start time in clock ticks since boot.
    pub start_ticks: u64,
}

impl ProcessId {
    /// This process.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn current() -> io::Result<ProcessId> {
        Self::of(std::process::id())
    }

    /// The process that has this number now.
    ///
    /// # Errors
    /// There is none, or `/proc` cannot be read.
    pub fn of(pid: u32) -> io::Result<ProcessId> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The second field is the command in parentheses and may hold spaces: count from its end.
        let start_ticks = stat
            .rsplit_once(')')
            .and_then(|(_, fields)| fields.split_ascii_whitespace().nth(19))
            .and_then(|field| field.parse().ok())
            .ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, "unexpected form of /proc/<pid>/stat")
            })?;
        Ok(ProcessId { pid, start_ticks })
    }

    /// Whether this very process is alive.
    pub fn is_alive(self) -> bool {
        Self::of(self.pid).is_ok_and(|now| now == self)
    }
}
