//! A network namespace that goes when its guard goes.

use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{finish, run};
use crate::leftovers::{prefix, remove_namespace};
use crate::process::tied;

/// A named network namespace of this run; deleted, with the processes in it, when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes `<prefix>-<label>` with its loopback up.
    pub fn create(label: &str) -> Result<Self> {
        let name = format!("{}-{label}", prefix());
        run("ip", &["netns", "add", &name])
            .with_context(|| format!("cannot make the network namespace {name}"))?;
        let namespace = Self { name };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Full name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A short-lived command inside.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// A command inside that dies with the thread that starts it.
    pub fn tied_command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = tied("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs a command line (words split at blanks) inside and returns its output.
    pub fn run(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let program = words.next().context("an empty command")?;
        finish(self.command(program).args(words))
    }

    /// `ip -n <namespace> ...`, words split at blanks.
    pub fn ip(&self, line: &str) -> Result<String> {
        finish(Command::new("ip").args(["-n", &self.name]).args(line.split_whitespace()))
    }

    /// Sets a kernel parameter inside.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.run(&format!("sysctl -qw {key}={value}")).map(drop)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = remove_namespace(&self.name) {
            eprintln!("the network namespace {} stays behind: {error:#}", self.name);
        }
    }
}
