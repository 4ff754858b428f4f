//! What the data plane process costs when no packet flows.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use shm::{BootId, Capacities, Region};

use crate::Tunnels;
use crate::records::{Records, Role};

/// The process has settled after this time.
const SETTLE: Duration = Duration::from_secs(1);

/// CPU time is measured over this time.
const WINDOW: Duration = Duration::from_secs(4);

/// Kernel ticks per second of `/proc/<pid>/stat`: USER_HZ, 100 on every architecture that Linux runs on here.
const TICKS_PER_SECOND: f64 = 100.0;

/// Ends the process with the measurement.
struct Dataplane(Child);

impl Drop for Dataplane {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Measures; gives the line of JSON.
pub(crate) fn measure(tunnels: &Tunnels) -> anyhow::Result<String> {
    let directory = tempfile::Builder::new().prefix("culvert-bench").tempdir_in("/dev/shm")?;
    let path = directory.path().join("region");
    let (region, _) = Region::create_or_attach(&path, Capacities::default(), BootId::current()?)?;
    Records::new(region.writer()?, Role::Encrypt).configure(tunnels, [2, 0, 0, 0, 0, 1])?;
    let binary = std::env::current_exe()?.with_file_name("culvert-dataplane");
    let child = Command::new(&binary)
        .args(["--log", "warn", "--run-dir"])
        .arg(directory.path())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("{}: build it first", binary.display()))?;
    let process = Dataplane(child);
    let pid = process.0.id();
    let started = Instant::now();
    while !region.status().is_some_and(|status| status.pid == pid && status.ready == 1) {
        if started.elapsed() > Duration::from_secs(30) {
            bail!("the data plane did not become ready");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let ready_ms = started.elapsed().as_millis();
    std::thread::sleep(SETTLE);
    let before = cpu_seconds(pid)?;
    std::thread::sleep(WINDOW);
    let cpu = (cpu_seconds(pid)? - before) / WINDOW.as_secs_f64();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(format!(
        "{{\"what\":\"footprint\",\"tunnels\":{},\"ready_ms\":{ready_ms},\"rss_mb\":{:.1},\"anonymous_mb\":{:.1},\
         \"shared_mb\":{:.1},\"region_mb\":{:.1},\"idle_cpu_percent\":{:.2}}}\n",
        tunnels.count,
        field_mb(&status, "VmRSS:")?,
        field_mb(&status, "RssAnon:")?,
        field_mb(&status, "RssShmem:")?,
        allocated_mb(&path)?,
        cpu * 100.0,
    ))
}

/// User and system time of a process so far.
fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Fields 14 and 15; the second may hold spaces, so count from the end of it.
    let fields = stat.rsplit_once(')').context("form of /proc/<pid>/stat")?.1;
    let times = fields.split_ascii_whitespace().skip(11).take(2);
    let ticks = times.map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

fn field_mb(status: &str, name: &str) -> anyhow::Result<f64> {
    let line =
        status.lines().find_map(|line| line.strip_prefix(name)).context("form of /proc/<pid>/status")?;
    let kb: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kb / 1024.0)
}

/// What of the region's sparse file is there.
fn allocated_mb(path: &Path) -> anyhow::Result<f64> {
    use std::os::unix::fs::MetadataExt;
    Ok(fs::metadata(path)?.blocks() as f64 * 512.0 / 1024.0 / 1024.0)
}
