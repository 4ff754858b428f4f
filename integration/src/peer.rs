//! A foreign peer: a Linux kernel of its own as an ordinary process (user-mode-linux).
//!
//! The machine's kernel may have neither ESP nor GRE; this one has. Its root is the machine's, read-only, below a
//! tmpfs; its cards are ends of [`crate::veth`] cables; orders go over a serial line. It ends with its guard.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::namespace::Namespace;
use crate::process::{Process, signal_pid};
use crate::wait;

const KERNEL: &str = "/usr/bin/linux.uml";
const MODULES: &str = "/usr/lib/uml/modules";
/// Where `deploy/packages` unpacks what can't be installed beside the rest.
const LAYERS: &str = "/var/cache/culvert/peers";
const BOOT: &str = include_str!("../peer/boot.sh");
const AGENT: &str = include_str!("../peer/agent.sh");
const BOOT_LIMIT: Duration = Duration::from_secs(60);

/// Where `deploy/packages install peers` has unpacked what goes by this name there.
pub fn unpacked(package: &str) -> Result<PathBuf> {
    let dir = Path::new(LAYERS).join(package);
    if !dir.join(".whole").exists() {
        bail!("no {}: run deploy/packages install peers", dir.display());
    }
    Ok(dir)
}

/// A running guest.
#[derive(Debug)]
pub struct Peer {
    share: PathBuf,
    line: Mutex<Line>,
    process: Process,
}

#[derive(Debug)]
struct Line {
    stream: UnixStream,
    answers: BufReader<UnixStream>,
    orders: u32,
}

impl Peer {
    /// Starts a guest whose `eth0`, `eth1`, ... are the interfaces named, of `namespace`. `dir` must be empty.
    ///
    /// A `package` is one that `deploy/packages install peers` has unpacked, to lie over the machine's root.
    /// Returns while it boots, which takes some seconds; the first [`Self::run`] waits for it.
    pub fn boot(
        namespace: &Namespace,
        interfaces: &[&str],
        dir: &Path,
        package: Option<&str>,
    ) -> Result<Self> {
        if !Path::new(KERNEL).exists() {
            bail!("no {KERNEL}: the package user-mode-linux is missing");
        }
        let share = dir.join("share");
        fs::create_dir_all(&share).with_context(|| format!("cannot make {share:?}"))?;
        let layer = package.map(unpacked).transpose()?.unwrap_or_default();
        let boot = BOOT
            .replace("@SHARE@", &share.to_string_lossy())
            .replace("@MODULES@", MODULES)
            .replace("@LAYER@", &layer.to_string_lossy());
        let boot_file = share.join("boot.sh");
        fs::write(&boot_file, boot)?;
        fs::set_permissions(&boot_file, fs::Permissions::from_mode(0o755))?;
        fs::write(share.join("agent.sh"), AGENT)?;

        let (ours, theirs) = UnixStream::pair().context("cannot make the guest's serial line")?;
        // A process namespace of its own: UML has helpers, which go with its first process.
        let mut command = namespace.tied_command("unshare");
        command.args(["--pid", "--fork", "--kill-child=SIGKILL", "--", KERNEL]);
        command.args([
            "mem=192M",
            "rootfstype=hostfs",
            "rootflags=/",
            "root=/dev/root",
            "ro",
            "quiet",
            "noreboot",
        ]);
        command.args(["panic=-1", "con=null", "con0=null,fd:1", "ssl=null", "ssl0=fd:0"]);
        command.arg(format!("init={}", boot_file.display())).arg(format!("uml_dir={}", dir.display()));
        for (index, interface) in interfaces.iter().enumerate() {
            let mac = namespace.run(&format!("cat /sys/class/net/{interface}/address"))?;
            command.arg(format!("vec{index}:transport=raw,ifname={interface},mac={}", mac.trim()));
        }
        command.stdin(Stdio::from(OwnedFd::from(theirs)));
        let process = Process::start("linux.uml", &mut command, &dir.join("console.log"))?;
        drop(command);

        let answers = BufReader::new(ours.try_clone()?);
        let line = Line { stream: ours, answers, orders: 0 };
        Ok(Self { share, line: Mutex::new(line), process })
    }

    /// Ends it without a word.
    pub fn cut_power(&mut self) -> Result<()> {
        signal_pid(self.process.pid(), Signal::KILL)?;
        wait::until("the guest's end", Duration::from_secs(10), || match self.process.ended() {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err("it runs".to_owned()),
            Err(error) => Err(format!("{error:#}")),
        })
    }

    /// The directory that the guest sees as `/peer`.
    pub fn share(&self) -> &Path {
        &self.share
    }

    /// Runs a bash script in the guest; returns its output, or an error with it when the status is not 0.
    pub fn run(&self, script: &str) -> Result<String> {
        self.run_within(script, Duration::from_secs(60))
    }

    /// As [`Self::run`], with a limit.
    pub fn run_within(&self, script: &str, limit: Duration) -> Result<String> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if line.orders == 0 {
            let booted = line.read(BOOT_LIMIT);
            booted.with_context(|| format!("the guest did not boot; console:\n{}", self.process.tail()))?;
        }
        line.orders += 1;
        let order = format!("order{}", line.orders);
        fs::write(self.share.join(format!("{order}.sh")), script)?;
        writeln!(line.stream, "{order}").context("the guest is gone")?;
        let answer = loop {
            let answer =
                line.read(limit).with_context(|| format!("the guest did not answer to: {script}"))?;
            // An earlier order that ran out of time may still answer.
            if answer.split(' ').next() == Some(order.as_str()) {
                break answer;
            }
        };
        drop(line);
        let output_file = self.share.join(format!("{order}.out"));
        let output = String::from_utf8_lossy(&fs::read(&output_file)?).into_owned();
        for file in [output_file, self.share.join(format!("{order}.sh"))] {
            fs::remove_file(file)?;
        }
        match answer.trim().rsplit(' ').next() {
            Some("0") => Ok(output),
            _ => bail!("in the guest, {script:?} ended with {answer}: {}", output.trim()),
        }
    }
}

impl Line {
    fn read(&mut self, limit: Duration) -> Result<String> {
        self.stream.set_read_timeout(Some(limit))?;
        let mut answer = String::new();
        match self.answers.read_line(&mut answer) {
            Ok(0) => bail!("the guest ended"),
            Ok(_) => Ok(answer.trim().to_owned()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                bail!("nothing within {} s", limit.as_secs())
            }
            Err(error) => Err(error).context("the guest's serial line broke"),
        }
    }
}
