//! `kill -9` of the demo itself: its processes go with it, and the next run removes the rest.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use integration::command::run;
use integration::leftovers::sweep;
use integration::process::Process;
use integration::wait;

#[test]
fn after_kill_nine_the_next_run_finds_a_clean_machine() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut demo = Process::start(
        "demo",
        &mut Command::new(env!("CARGO_BIN_EXE_culvert-demo")),
        &dir.path().join("log"),
    )?;
    let prefix = format!("cv{}x", demo.pid());
    let guest = wait::until("its foreign peer to boot", Duration::from_secs(30), || match demo.ended()? {
        Some(status) => bail!("the demo ended: {status}: {}", demo.tail()),
        None => run("pgrep", &["-f", &format!("linux.uml.*{prefix}")]),
    })?;
    drop(demo);
    wait::until("the end of its processes", Duration::from_secs(10), || {
        let left: Vec<&str> = guest.lines().filter(|pid| Path::new("/proc").join(pid).exists()).collect();
        if left.is_empty() { Ok(()) } else { bail!("{left:?}") }
    })?;
    ensure!(run("ip", &["netns", "list"])?.contains(&prefix), "it had no namespaces");
    sweep()?;
    ensure!(!run("ip", &["netns", "list"])?.contains(&prefix), "namespaces are left");
    for root in ["/dev/shm/culvert-lab", "/run/culvert-lab"] {
        let names = run("ls", &[root])?;
        ensure!(!names.contains(&prefix), "files are left in {root}: {names}");
    }
    Ok(())
}
