//! No memory image of a process that maps the region: it holds keys.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Forbids core dumps, and reading by other processes of the same user (ptrace, `/proc/<pid>/mem`). Piped core handlers
/// ignore the limit, so the limit alone would not do.
///
/// # Errors
/// The kernel refuses, which it does under no configuration known.
pub fn forbid() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_writes_no_core_of_a_process_that_asked() {
        super::forbid().unwrap();
        let dumpable = rustix::process::dumpable_behavior().unwrap();
        assert!(matches!(dumpable, rustix::process::DumpableBehavior::NotDumpable));
        assert_eq!(rustix::process::getrlimit(rustix::process::Resource::Core).maximum, Some(0));
    }
}
