//! FRR's OSPF on the twins of a gateway, as an operator would run it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::{finish, run};
use crate::namespace::Namespace;
use crate::process::Process;
use crate::wait;

const DAEMONS: &str = "/usr/lib/frr";

/// Configuration: point-to-point OSPF on the tunnels, the red networks announced, timers for an impatient audience.
pub fn ospf(router_id: &str, tunnels: &[&str], red: &[&str]) -> String {
    let mut text = String::new();
    for tunnel in tunnels {
        text += &format!(
            "interface {tunnel}\n ip ospf network point-to-point\n ip ospf hello-interval 1\n ip ospf dead-interval 6\n \
             ip ospf retransmit-interval 3\n ip ospf area 0\n"
        );
    }
    for interface in red {
        text += &format!("interface {interface}\n ip ospf area 0\n ip ospf passive\n");
    }
    text + &format!(
        "router ospf\n ospf router-id {router_id}\n timers throttle lsa all 0\n timers lsa min-arrival 0\n \
         timers throttle spf 10 50 500\n"
    )
}

/// zebra and ospfd in a namespace; they end with the guard.
#[derive(Debug)]
pub struct Frr {
    dir: PathBuf,
    ospfd: Option<Process>,
    zebra: Option<Process>,
}

impl Frr {
    /// Starts both daemons with `configuration`; all their files are in `dir`.
    pub fn start(namespace: &Namespace, dir: &Path, configuration: &str) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let user = |name: &str| format!("{}/{name}", dir.display());
        fs::write(user("frr.conf"), configuration)?;
        fs::write(user("vtysh.conf"), "")?;
        run("chown", &["-R", "frr:frr", &dir.to_string_lossy()])?;
        let mut frr = Self { dir: dir.to_owned(), ospfd: None, zebra: None };
        frr.zebra = Some(frr.daemon(namespace, "zebra")?);
        frr.ospfd = Some(frr.daemon(namespace, "ospfd")?);
        finish(frr.vtysh_command().args(["-f", &user("frr.conf")])).context("FRR's configuration")?;
        Ok(frr)
    }

    /// Where its sockets are, for `vtysh --vty_socket`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn daemon(&self, namespace: &Namespace, name: &str) -> Result<Process> {
        let path = |suffix: &str| format!("{}/{suffix}", self.dir.display());
        let mut command = namespace.tied_command(format!("{DAEMONS}/{name}"));
        command.args(["-A", "127.0.0.1", "-P", "0", "-f", "/dev/null", "-z", &path("zserv.api")]);
        command.args(["--vty_socket", &path(""), "-i", &path(&format!("{name}.pid"))]);
        command.args(["--log", &format!("file:{}", path(&format!("{name}.log")))]);
        let process = Process::start(name, &mut command, Path::new(&path(&format!("{name}.out"))))?;
        let socket = path(&format!("{name}.vty"));
        wait::until(&format!("{name} to start"), Duration::from_secs(15), || {
            if Path::new(&socket).exists() { Ok(()) } else { Err(process.tail()) }
        })?;
        Ok(process)
    }

    fn vtysh_command(&self) -> Command {
        let mut command = Command::new("vtysh");
        command.arg("--vty_socket").arg(&self.dir).arg("--config_dir").arg(&self.dir);
        command
    }

    /// Runs a command of FRR's shell.
    pub fn vtysh(&self, line: &str) -> Result<String> {
        finish(self.vtysh_command().args(["-c", line]))
    }

    /// State of the OSPF neighbour on an interface, such as `Full`; an error if there is none.
    pub fn neighbour_state(&self, interface: &str) -> Result<String> {
        let table = self.vtysh("show ip ospf neighbor")?;
        let line = table.lines().find(|line| line.contains(&format!(" {interface}:")));
        let state = line.and_then(|line| line.split_whitespace().nth(2)).context("no neighbour yet")?;
        Ok(state.split('/').next().unwrap_or(state).to_owned())
    }

    /// Whether OSPF has installed a route to `prefix` through `interface`.
    pub fn has_route(&self, prefix: &str, interface: &str) -> Result<bool> {
        let table = self.vtysh("show ip route ospf")?;
        let line =
            table.lines().find(|line| line.starts_with("O>*") && line.contains(&format!(" {prefix} ")));
        Ok(line.is_some_and(|line| line.contains(&format!(" {interface},"))))
    }
}
