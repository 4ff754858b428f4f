//! What is asked of the lab: pings, throughput.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::output;
use crate::namespace::Namespace;
use crate::process::Process;
use crate::wait;

/// What `ping` counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pings {
    /// Echo requests sent.
    pub sent: u64,
    /// Echo replies received, without duplicates.
    pub received: u64,
}

impl Pings {
    /// Every request was answered, and there was at least one.
    pub fn all_answered(self) -> bool {
        self.sent > 0 && self.sent == self.received
    }

    /// Requests without a reply.
    pub fn lost(self) -> u64 {
        self.sent.saturating_sub(self.received)
    }

    fn parse(text: &str) -> Result<Self> {
        let line = text.lines().find(|line| line.contains(" packets transmitted, "));
        let line = line.with_context(|| format!("ping printed no summary: {text}"))?;
        let mut numbers =
            line.split(", ").map(|part| part.split_whitespace().next().unwrap_or_default().parse());
        match (numbers.next(), numbers.next()) {
            (Some(Ok(sent)), Some(Ok(received))) => Ok(Self { sent, received }),
            _ => anyhow::bail!("ping's summary is not understood: {line}"),
        }
    }
}

/// `count` echo requests, 20 ms apart, with a second of patience for the last.
pub fn ping(from: &Namespace, to: &str, count: u32) -> Result<Pings> {
    ping_every(from, to, count, "0.02")
}

/// As [`ping`], that many seconds apart.
pub fn ping_every(from: &Namespace, to: &str, count: u32, interval_secs: &str) -> Result<Pings> {
    let mut command = from.command("ping");
    command.args(["-n", "-q", "-W", "1", "-i", interval_secs, "-c", &count.to_string(), to]);
    Pings::parse(&String::from_utf8_lossy(&output(&mut command)?.stdout))
}

/// A few pings with that many bytes of payload, and DF set.
pub fn ping_sized(from: &Namespace, to: &str, payload_bytes: u32) -> Result<Pings> {
    let mut command = from.command("ping");
    command.args(["-n", "-q", "-W", "1", "-i", "0.1", "-c", "4", "-M", "do"]);
    command.args(["-s", &payload_bytes.to_string(), to]);
    Pings::parse(&String::from_utf8_lossy(&output(&mut command)?.stdout))
}

/// Waits until one ping is answered.
pub fn reachable(from: &Namespace, to: &str, limit: Duration) -> Result<()> {
    wait::until(&format!("an answer from {to}"), limit, || match ping(from, to, 1) {
        Ok(pings) if pings.all_answered() => Ok(()),
        Ok(pings) => Err(anyhow::anyhow!("{pings:?}")),
        Err(error) => Err(error),
    })
}

/// A ping in the background while something happens to the lab: 50 requests a second for a fixed time.
#[derive(Debug)]
pub struct Pinging {
    process: Process,
    seconds: u32,
}

impl Pinging {
    /// Starts it; its output goes to a file in `dir`.
    pub fn start(from: &Namespace, to: &str, seconds: u32, dir: &Path) -> Result<Self> {
        let mut command = from.tied_command("ping");
        command.args(["-n", "-q", "-i", "0.02", "-W", "2", "-c", &(seconds * 50).to_string(), to]);
        command.stdin(Stdio::null());
        let log = dir.join(format!("ping-{}-{}.log", from.name(), sanitised(to)));
        // A log of an earlier ping to the same place would be read as this one's.
        if log.exists() {
            std::fs::remove_file(&log)?;
        }
        Ok(Self { process: Process::start("ping", &mut command, &log)?, seconds })
    }

    /// An error if it has ended: what was to happen during the ping came too late.
    pub fn still_running(&mut self) -> Result<()> {
        match self.process.ended()? {
            None => Ok(()),
            Some(_) => anyhow::bail!("the ping of {} s ended before what it was to witness", self.seconds),
        }
    }

    /// Waits for its end and tells what it counted.
    pub fn finish(mut self) -> Result<Pings> {
        wait::until("the end of ping", Duration::from_secs(u64::from(self.seconds) * 2 + 5), || match self
            .process
            .ended()
        {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err("still running".to_owned()),
            Err(error) => Err(format!("{error:#}")),
        })?;
        Pings::parse(&std::fs::read_to_string(self.process.log())?)
    }
}

fn sanitised(address: &str) -> String {
    address.replace(':', "_")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_gives_sent_and_received() {
        let text = "--- 10.0.2.10 ping statistics ---\n5 packets transmitted, 4 received, 20% packet loss, time 81ms\n";
        assert_eq!(Pings::parse(text).unwrap(), Pings { sent: 5, received: 4 });
        assert!(!Pings::parse(text).unwrap().all_answered());
    }

    #[test]
    fn duplicates_do_not_count_as_answers() {
        let text = "5 packets transmitted, 4 received, +1 duplicates, 20% packet loss, time 81ms\n";
        assert_eq!(Pings::parse(text).unwrap().received, 4);
    }
}
