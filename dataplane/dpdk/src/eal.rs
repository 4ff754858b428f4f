//! The environment abstraction layer: memory, devices and thread registration, once per process.

use std::ffi::CString;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;

static STARTED: AtomicBool = AtomicBool::new(false);

/// Where DPDK's memory comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// Huge pages, without a mount point and without files left behind.
    HugePages,
    /// Ordinary pages: no reservation needed, more TLB misses; physical devices need an IOMMU.
    OrdinaryPages,
}

/// How to start the [`Eal`].
#[derive(Debug, Clone)]
pub struct EalOptions {
    /// Kind of memory.
    pub memory: Memory,
    /// Size of the heap in mebibytes.
    pub memory_mb: u32,
    /// CPUs that the calling thread (and threads that it spawns) may run on; empty pins it to the first CPU.
    pub cpus: Vec<usize>,
    /// Scan the PCI bus. Without it no `pci:` device can be probed.
    pub pci: bool,
}

impl Default for EalOptions {
    fn default() -> Self {
        Self { memory: Memory::OrdinaryPages, memory_mb: 64, cpus: Vec::new(), pci: false }
    }
}

impl EalOptions {
    fn arguments(&self, program: &str) -> Vec<String> {
        let mut arguments = vec![program.to_owned()];
        if self.cpus.is_empty() {
            arguments.extend(["-l".to_owned(), "0".to_owned()]);
        } else {
            // One lcore whose thread may float over these CPUs: `0@(0,1)`.
            let cpus: Vec<String> = self.cpus.iter().map(usize::to_string).collect();
            arguments.extend(["--lcores".to_owned(), format!("0@({})", cpus.join(","))]);
        }
        match self.memory {
            // In-memory keeps nothing in a file system, so several processes on a host cannot collide.
            Memory::HugePages => arguments.push("--in-memory".to_owned()),
            Memory::OrdinaryPages => {
                arguments.extend(["--no-huge".to_owned(), "--no-shconf".to_owned()]);
            }
        }
        if !self.pci {
            arguments.push("--no-pci".to_owned());
        }
        arguments.push("--no-telemetry".to_owned());
        arguments.extend(["-m".to_owned(), self.memory_mb.to_string()]);
        arguments.extend(["--log-level".to_owned(), "lib.*:error".to_owned()]);
        arguments
    }
}

/// Proof that the environment abstraction layer runs.
///
/// There is one per process. It, and the pools made with it, live until the process ends: a packet buffer
/// may therefore outlive every handle, and nothing can be freed under it.
///
/// ```compile_fail,E0599
/// # let eal = dpdk::Eal::start("test", &dpdk::EalOptions::default()).unwrap();
/// let second = eal.clone(); // one per process
/// ```
#[derive(Debug)]
pub struct Eal {
    _private: (),
}

impl Eal {
    /// Starts DPDK. The calling thread becomes its main lcore.
    ///
    /// # Errors
    /// [`Error::AlreadyStarted`] on a second call in the same process, successful or not, and what
    /// `rte_eal_init` says otherwise.
    pub fn start(program: &str, options: &EalOptions) -> Result<Self, Error> {
        let arguments =
            options.arguments(program).into_iter().map(CString::new).collect::<Result<Vec<CString>, _>>()?;
        if STARTED.swap(true, Ordering::AcqRel) {
            return Err(Error::AlreadyStarted);
        }
        // rte_eal_init keeps pointers to its arguments (rte_devargs, the program's name): they are never freed.
        let mut pointers: Vec<*mut std::ffi::c_char> = arguments.into_iter().map(CString::into_raw).collect();
        let count = i32::try_from(pointers.len()).unwrap_or(i32::MAX);
        // SAFETY: `pointers` holds `count` NUL-terminated strings that stay allocated for the process's life.
        let code = unsafe { dpdk_sys::rte_eal_init(count, pointers.as_mut_ptr()) };
        // rte_eal_init permutes the array itself (getopt) and may keep it.
        std::mem::forget(pointers);
        if code < 0 { Err(Error::last("rte_eal_init")) } else { Ok(Self { _private: () }) }
    }

    /// Makes the calling thread known to DPDK, which gives it its own cache of free packet buffers.
    ///
    /// # Errors
    /// When DPDK has no lcore id left (128 in Debian's build).
    pub fn register_thread(&self) -> Result<RegisteredThread, Error> {
        register_thread()
    }

    /// A handle that lets another thread register itself.
    #[must_use]
    pub fn thread_registrar(&self) -> ThreadRegistrar {
        ThreadRegistrar { _private: () }
    }
}

/// Lets a thread that is yet to start call [`Eal::register_thread`] when it runs.
#[derive(Debug, Clone, Copy)]
pub struct ThreadRegistrar {
    _private: (),
}

impl ThreadRegistrar {
    /// See [`Eal::register_thread`].
    ///
    /// # Errors
    /// See [`Eal::register_thread`].
    pub fn register(self) -> Result<RegisteredThread, Error> {
        register_thread()
    }
}

fn register_thread() -> Result<RegisteredThread, Error> {
    // SAFETY: the EAL runs, since an `Eal` existed; the call only affects the calling thread.
    if unsafe { dpdk_sys::rte_thread_register() } < 0 {
        return Err(Error::last("rte_thread_register"));
    }
    Ok(RegisteredThread { _not_send: PhantomData })
}

/// The calling thread is known to DPDK until this is dropped. It cannot leave the thread:
///
/// ```compile_fail,E0277
/// # let eal = dpdk::Eal::start("test", &dpdk::EalOptions::default()).unwrap();
/// let registered = eal.register_thread().unwrap();
/// std::thread::spawn(move || drop(registered));
/// ```
#[derive(Debug)]
pub struct RegisteredThread {
    _not_send: PhantomData<*const ()>,
}

impl Drop for RegisteredThread {
    fn drop(&mut self) {
        // SAFETY: this value is not Send, so the calling thread is the one that registered.
        unsafe { dpdk_sys::rte_thread_unregister() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_pages_share_nothing_with_other_processes() {
        let arguments = EalOptions::default().arguments("culvert").join(" ");
        assert_eq!(
            arguments,
            "culvert -l 0 --no-huge --no-shconf --no-pci --no-telemetry -m 64 --log-level lib.*:error"
        );
    }

    #[test]
    fn a_floating_main_thread_is_one_lcore_over_many_cpus() {
        let options = EalOptions { memory: Memory::HugePages, memory_mb: 512, cpus: vec![0, 3], pci: true };
        let arguments = options.arguments("culvert").join(" ");
        assert_eq!(
            arguments,
            "culvert --lcores 0@(0,3) --in-memory --no-telemetry -m 512 --log-level lib.*:error"
        );
    }
}
