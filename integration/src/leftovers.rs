//! Names that tell whose they are, and the removal of what a killed run left behind.
//!
//! Every namespace and directory of a run is named `cv<pid>x<start>-...` after the process in charge; its start time
//! (in kernel ticks) tells a process from a later one with the same id.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::command::run;
use crate::process::signal_pid;

/// Where the directories of runs are.
pub const RUN_ROOTS: [&str; 2] = [RUN_ROOT, BOOT_ROOT];

/// Run directories live here: the regions of shared memory need a tmpfs.
const RUN_ROOT: &str = "/dev/shm/culvert-lab";
/// What a guest boots from lives here: it has a `/dev` of its own, and sees the machine's `/run` until it mounts one.
const BOOT_ROOT: &str = "/run/culvert-lab";

/// The prefix of all names of this process.
pub fn prefix() -> &'static str {
    static PREFIX: OnceLock<String> = OnceLock::new();
    PREFIX.get_or_init(|| {
        let pid = std::process::id();
        format!("cv{pid}x{}", start_time(pid).unwrap_or(0))
    })
}

/// Makes a directory of this run for the files of one thing.
pub fn run_dir(name: &str) -> Result<PathBuf> {
    make(Path::new(RUN_ROOT).join(prefix()).join(name))
}

/// As [`run_dir`], for what a guest boots from.
pub fn boot_dir(name: &str) -> Result<PathBuf> {
    make(Path::new(BOOT_ROOT).join(prefix()).join(name))
}

fn make(dir: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {dir:?}"))?;
    Ok(dir)
}

/// Set when something failed: the directories of this run, with all logs, then stay until the next run's sweep.
pub static KEEP_FILES: AtomicBool = AtomicBool::new(false);

/// Removes the directories of this run when dropped, unless a test is failing or [`KEEP_FILES`] is set.
#[derive(Debug)]
pub struct Files;

impl Drop for Files {
    fn drop(&mut self) {
        if std::thread::panicking() || KEEP_FILES.load(Ordering::Acquire) {
            return;
        }
        for root in RUN_ROOTS {
            // What cannot be removed now is removed by the next run.
            let _later = fs::remove_dir_all(Path::new(root).join(prefix()));
        }
    }
}

/// Removes the namespaces, the processes in them and the run directories of runs whose process is gone.
/// Returns how many namespaces and directories went.
pub fn sweep() -> Result<usize> {
    let mut removed = 0;
    for name in names_in(Path::new("/run/netns")) {
        if is_leftover(&name) {
            let outcome = remove_namespace(&name);
            // Another run may sweep at the same time, and be first.
            if Path::new("/run/netns").join(&name).exists() {
                outcome?;
            }
            removed += 1;
        }
    }
    for root in RUN_ROOTS.map(Path::new) {
        for name in names_in(root) {
            if is_leftover(&name) {
                fs::remove_dir_all(root.join(&name))
                    .with_context(|| format!("cannot remove {root:?}/{name}"))?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}

/// Kills what runs in a namespace of ours, then deletes it.
pub fn remove_namespace(name: &str) -> Result<()> {
    for _ in 0..20 {
        let inside = run("ip", &["netns", "pids", name])?;
        let pids: Vec<u32> = inside.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
        if pids.is_empty() {
            break;
        }
        for pid in pids {
            // It may have ended meanwhile.
            let _gone = signal_pid(pid, Signal::KILL);
        }
        sleep(Duration::from_millis(20));
    }
    run("ip", &["netns", "delete", name]).map(drop)
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Whether the name is one of ours and its owner no longer runs.
fn is_leftover(name: &str) -> bool {
    let Some((pid, start)) = owner(name) else { return false };
    start_time(pid) != Some(start)
}

fn owner(name: &str) -> Option<(u32, u64)> {
    let head = name.split('-').next()?;
    let (pid, start) = head.strip_prefix("cv")?.split_once('x')?;
    Some((pid.parse().ok()?, start.parse().ok()?))
}

/// Start time of a process in ticks since boot: field 22 of its `stat`.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name stands in parentheses and may hold anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_owner_keeps_its_things() {
        assert!(!is_leftover(&format!("{}-alpha", prefix())));
        assert!(!is_leftover(prefix()));
    }

    #[test]
    fn a_process_with_a_reused_id_is_another_owner() {
        assert!(is_leftover(&format!("cv{}x1-alpha", std::process::id())));
    }

    #[test]
    fn other_peoples_names_are_left_alone() {
        for name in ["alpha", "cv", "cvx-alpha", "cv12-alpha", "docker0", "cvax1-b"] {
            assert!(!is_leftover(name), "{name}");
        }
    }
}
