//! What is asked of the lab: pings, throughput.

use std::path::Path;
use std::process::Stdio;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use crate::command::output;
pub use crate::echo::Pings;
use crate::echo::{self, Knocking, Requests};
use crate::namespace::Namespace;
use crate::process::Process;
use crate::wait;

/// `count` echo requests, 20 ms apart.
pub fn ping(from: &Namespace, to: &str, count: u16) -> Result<Pings> {
    echo::run(from, to, Requests { count, ..Requests::default() })
}

/// As [`ping`], that far apart.
pub fn ping_every(from: &Namespace, to: &str, count: u16, interval: Duration) -> Result<Pings> {
    echo::run(from, to, Requests { count, interval, ..Requests::default() })
}

/// A few pings with that many bytes of payload, and DF set.
pub fn ping_sized(from: &Namespace, to: &str, payload_bytes: u32) -> Result<Pings> {
    let (interval, payload_bytes) = (Duration::from_millis(100), payload_bytes as usize);
    echo::run(from, to, Requests { count: 4, interval, payload_bytes, whole: true })
}

/// Waits until one ping is answered.
pub fn reachable(from: &Namespace, to: &str, limit: Duration) -> Result<()> {
    let mut knocking = Knocking::start(from, to)?;
    wait::until(&format!("an answer from {to}"), limit, || {
        ensure!(knocking.answered()?, "nobody answers");
        Ok(())
    })
}

/// A ping in the background while something happens to the lab: 50 requests a second for a fixed time.
#[derive(Debug)]
pub struct Pinging {
    thread: JoinHandle<Result<Pings>>,
    seconds: u16,
}

impl Pinging {
    /// Starts it.
    pub fn start(from: &Namespace, to: &str, seconds: u16) -> Result<Self> {
        let requests = Requests { count: seconds * 50, ..Requests::default() };
        Ok(Self { thread: echo::start(from, to, requests)?, seconds })
    }

    /// An error if it has ended: what was to happen during the ping came too late.
    pub fn still_running(&self) -> Result<()> {
        ensure!(
            !self.thread.is_finished(),
            "the ping of {} s ended before what it was to witness",
            self.seconds
        );
        Ok(())
    }

    /// Waits for its end and tells what it counted.
    pub fn finish(self) -> Result<Pings> {
        self.thread.join().map_err(|_| anyhow!("the thread that pings panicked"))?
    }
}

/// TCP throughput by iperf3 over `seconds`, in Mbit/s at the receiver.
pub fn throughput(from: &Namespace, to: (&Namespace, &str), seconds: u32, dir: &Path) -> Result<f64> {
    let (server_namespace, address) = to;
    let mut server = server_namespace.tied_command("iperf3");
    server.args(["-s", "-1", "-B", address]).stdin(Stdio::null());
    let server = Process::start("iperf3", &mut server, &dir.join("iperf3-server.log"))?;
    wait::until("the iperf3 server", Duration::from_secs(5), || {
        let sockets = server_namespace.run("ss -Htln").map_err(|error| format!("{error:#}"))?;
        if sockets.contains(":5201") { Ok(()) } else { Err(server.tail()) }
    })?;
    let mut client = from.command("iperf3");
    client.args(["-J", "-c", address, "-t", &seconds.to_string()]);
    let report = output(&mut client)?;
    let report: serde_json::Value =
        serde_json::from_slice(&report.stdout).context("iperf3 printed no JSON")?;
    if let Some(error) = report["error"].as_str() {
        anyhow::bail!("iperf3: {error}");
    }
    let rate = report["end"]["sum_received"]["bits_per_second"].as_f64().context("iperf3 printed no rate")?;
    Ok(rate / 1e6)
}
