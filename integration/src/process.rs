//! A child process that never outlives its guard, nor the program that started it.

use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::command::shown;
use crate::wait;

/// A running child with its output in a log file; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts `command`, its standard output and error appended to `log`.
    ///
    /// It gets a process group of its own, so that Ctrl-C reaches only the program in charge, which then
    /// takes things down in order. See [`tied`] for what happens when that program is killed.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let out = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot open {log:?}"))?;
        let error = out.try_clone().context("cannot share a log file")?;
        command.stdout(Stdio::from(out)).stderr(Stdio::from(error)).process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {name}: {}", shown(command)))?;
        Ok(Self { name: name.to_owned(), log: log.to_owned(), child })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of its output, for an error message.
    pub fn tail(&self) -> String {
        tail(&self.log)
    }

    /// Its status if it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot wait for {}", self.name))
    }

    /// Sends a signal to this process alone, by its id.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        signal_pid(self.pid(), signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Asks it to end (SIGTERM) and waits; kills it when it has not gone after `patience`.
    pub fn stop(mut self, patience: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let name = self.name.clone();
        let gone = wait::until(&format!("the end of {name}"), patience, || match self.ended() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("still running".to_owned()),
            Err(error) => Err(format!("{error:#}")),
        });
        // Dropping the guard kills and reaps what is left.
        gone.or_else(|_| Ok(ExitStatus::from_raw(9)))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if the child was reaped already, which is what is wanted.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Sends a signal to one process.
pub fn signal_pid(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no such process id")?;
    Ok(kill_process(pid, signal)?)
}

/// A command that the kernel kills when the thread that starts it goes, even by SIGKILL: nothing is left running.
///
/// (`setpriv` sets the parent-death signal, then becomes the program: the process id stays.)
pub fn tied(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// The last lines of a log.
pub fn tail(log: &Path) -> String {
    let text =
        std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n")
}
