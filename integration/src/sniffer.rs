//! The witness on the underlay: captures every frame of the black cables and tells what was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::namespace::Namespace;
use crate::pcap::{self, Frame, Kind};
use crate::process::Process;
use crate::wait;

/// Enough of each frame for its headers.
const SNAP_LENGTH: &str = "160";

/// One `tcpdump` per interface.
#[derive(Debug)]
pub struct Sniffer {
    taps: Vec<Tap>,
}

#[derive(Debug)]
struct Tap {
    interface: String,
    file: PathBuf,
    process: Process,
}

/// What the capture of one interface holds.
#[derive(Debug)]
pub struct Capture {
    /// Interface name.
    pub interface: String,
    /// The frames in order.
    pub frames: Vec<Frame>,
}

impl Sniffer {
    /// Starts to capture on `interfaces` of a namespace, into files in `dir`; returns when capturing.
    pub fn start(namespace: &Namespace, interfaces: &[&str], dir: &Path) -> Result<Self> {
        let taps = interfaces
            .iter()
            .map(|interface| Tap::start(namespace, interface, dir))
            .collect::<Result<_>>()?;
        Ok(Self { taps })
    }

    /// What was captured so far.
    pub fn captures(&self) -> Result<Vec<Capture>> {
        // libpcap hands frames over after at most a second (tcpdump's buffer timeout).
        sleep(Duration::from_millis(1200));
        self.taps.iter().map(Tap::capture).collect()
    }

    /// Ends the capture; an error if the kernel had to drop frames, since a witness must not look away.
    pub fn finish(self) -> Result<Vec<Capture>> {
        let captures = self.captures()?;
        for tap in self.taps {
            tap.process.signal(Signal::INT)?;
            let log = tap.process.log().to_owned();
            let dropped = wait::until("the end of the capture", Duration::from_secs(5), || {
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                text.lines().find(|line| line.contains("dropped by kernel")).map(str::to_owned).ok_or(text)
            })?;
            if !dropped.trim_start().starts_with("0 ") {
                bail!("the capture of {} is not whole: {dropped}", tap.interface);
            }
        }
        Ok(captures)
    }
}

impl Tap {
    fn start(namespace: &Namespace, interface: &str, dir: &Path) -> Result<Self> {
        let (file, log) =
            (dir.join(format!("{interface}.pcap")), dir.join(format!("tcpdump-{interface}.log")));
        let mut command = namespace.tied_command("tcpdump");
        command
            .args(["-i", interface, "-n", "-U", "-Z", "root", "-B", "32768", "-s", SNAP_LENGTH, "-w"])
            .arg(&file);
        let process = Process::start("tcpdump", &mut command, &log)?;
        wait::until("tcpdump to listen", Duration::from_secs(10), || {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            if said.contains("listening on") { Ok(()) } else { Err(said) }
        })?;
        Ok(Self { interface: interface.to_owned(), file, process })
    }

    fn capture(&self) -> Result<Capture> {
        let frames = pcap::read(&self.file).context("the capture cannot be read")?;
        Ok(Capture { interface: self.interface.clone(), frames })
    }
}

impl Capture {
    /// Frames that must not be there: of another kind than allowed, or ESP and IKE between other addresses
    /// than the black ones (an inner address on the wire).
    pub fn leaks(&self, black: &[IpAddr]) -> BTreeMap<String, usize> {
        let mut leaks = BTreeMap::new();
        for frame in &self.frames {
            let what = match (&frame.kind, frame.addresses) {
                (Kind::Other(what), _) => what.clone(),
                (Kind::Ike(_) | Kind::Esp | Kind::EspInUdp, Some((from, to)))
                    if !black.contains(&from) || !black.contains(&to) =>
                {
                    format!("{:?} {from} > {to}", frame.kind)
                }
                _ => continue,
            };
            *leaks.entry(what).or_insert(0) += 1;
        }
        leaks
    }

    /// (SPI, sequence number) pairs that were on this wire more than once: with a counter-mode cipher,
    /// each would be a nonce used twice.
    pub fn repeated_sequence_numbers(&self) -> BTreeSet<(u32, u32)> {
        let mut seen = BTreeSet::new();
        self.frames.iter().filter_map(|frame| frame.esp).filter(|pair| !seen.insert(*pair)).collect()
    }

    /// SPIs of the ESP packets from `source` since `start`.
    pub fn spis_from(&self, source: IpAddr, start: SystemTime) -> BTreeSet<u32> {
        let sent = self.frames.iter().filter(|frame| frame.at >= start);
        let sent = sent.filter(|frame| frame.addresses.is_some_and(|(from, _)| from == source));
        sent.filter_map(|frame| frame.esp).map(|(spi, _)| spi).collect()
    }

    /// IKE messages of one exchange type since `start`.
    pub fn exchanges(&self, exchange: u8, start: SystemTime) -> usize {
        self.frames.iter().filter(|frame| frame.at >= start && frame.kind == Kind::Ike(exchange)).count()
    }

    /// How many frames are ESP, in either form.
    pub fn esp_frames(&self) -> usize {
        self.frames.iter().filter(|frame| matches!(frame.kind, Kind::Esp | Kind::EspInUdp)).count()
    }
}
