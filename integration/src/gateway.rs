//! A Culvert gateway in a namespace of its own.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::api::Api;
use crate::artifacts::binary;
use crate::command::finish;
use crate::leftovers::run_dir;
use crate::namespace::Namespace;
use crate::process::{Process, tail};
use crate::supervisor::Supervised;
use crate::wait;

/// The systemd socket activation protocol, without systemd: the socket arrives as standard input and is moved to
/// descriptor 3; the process id must be the daemon's own, which `exec` keeps.
const ACTIVATE: &str = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"";

/// Certificate that `culvertd` makes for itself, in its state directory.
const CERTIFICATE: &str = "tls-cert.pem";

/// How a gateway is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Port of the API on the machine's loopback, if it is free; otherwise, and for 0, any.
    pub api_port: u16,
    /// More arguments for `culvert-dataplane`.
    pub dataplane: Vec<String>,
    /// Where `culvertd` tells the keys of its IKE SAs; only one that is built with the feature `key-log` does.
    pub ike_keys: Option<PathBuf>,
}

/// Both processes of a gateway, supervised, with the API reachable from outside of its namespace.
#[derive(Debug)]
pub struct Gateway {
    /// `culvertd`.
    pub control: Supervised,
    /// `culvert-dataplane`.
    pub dataplane: Supervised,
    /// Client of its API.
    pub api: Api,
    /// Where it lives.
    pub namespace: Namespace,
    dir: PathBuf,
}

impl Gateway {
    /// Starts a gateway with nothing configured in a namespace made by the caller; returns when the API answers.
    pub fn start(namespace: Namespace, label: &str, options: &Options) -> Result<Self> {
        let dir = run_dir(label)?;
        let (run, state) = (dir.join("run"), dir.join("state"));
        fs::create_dir_all(&run)?;
        fs::create_dir_all(&state)?;
        let listen = |port| TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let listener =
            listen(options.api_port).or_else(|_| listen(0)).context("cannot listen on 127.0.0.1")?;
        let base = format!("https://{}", listener.local_addr()?);
        let token = create_token(&state)?;
        let control = start_control(&namespace, &dir, listener, options)?;
        let dataplane = start_dataplane(&namespace, &dir, options)?;
        let certificate = state.join(CERTIFICATE);
        let pem = wait::until("the API's certificate", Duration::from_secs(30), || fs::read(&certificate))
            .with_context(|| format!("culvertd says:\n{}", tail(&dir.join("culvertd.log"))))?;
        let api = Api::new(&base, &token, &pem)?;
        let gateway = Self { control, dataplane, api, namespace, dir };
        gateway.answers(Duration::from_secs(30))?;
        Ok(gateway)
    }

    /// Waits until the API answers.
    pub fn answers(&self, limit: Duration) -> Result<()> {
        wait::until("an answer of the API", limit, || self.api.get("/v1/health"))
            .map(drop)
            .with_context(|| format!("culvertd says:\n{}", tail(&self.dir.join("culvertd.log"))))
    }

    /// Waits until both planes say that they are well and agree.
    pub fn healthy(&self, limit: Duration) -> Result<()> {
        wait::until("health", limit, || {
            let health = self.api.get("/v1/health")?;
            if health["ok"] == true { Ok(()) } else { bail!("{health}") }
        })
        .with_context(|| {
            format!("culvert-dataplane says:\n{}", tail(&self.dir.join("culvert-dataplane.log")))
        })
    }

    /// Waits until these twins have IPv4 addresses.
    pub fn has_addresses(&self, twins: &[&str]) -> Result<()> {
        for twin in twins {
            wait::until(&format!("an address of {twin}"), Duration::from_secs(20), || {
                let shown = self.namespace.ip(&format!("-4 -o addr show dev {twin}"))?;
                if shown.contains("inet ") { Ok(()) } else { bail!("{shown}") }
            })?;
        }
        Ok(())
    }

    /// Waits until a tunnel is up.
    pub fn tunnel_up(&self, name: &str, limit: Duration) -> Result<()> {
        wait::until(&format!("tunnel {name} up"), limit, || {
            let state = self.api.get(&format!("/v1/tunnels/{name}/state"))?;
            if state["state"] == "up" { Ok(()) } else { bail!("{state}") }
        })
        .with_context(|| format!("culvertd says:\n{}", tail(&self.dir.join("culvertd.log"))))
    }

    /// Waits until a tunnel is not up, and returns the cause that the API tells.
    pub fn tunnel_cause(&self, name: &str, needle: &str, limit: Duration) -> Result<String> {
        wait::until(&format!("tunnel {name} to tell {needle:?}"), limit, || {
            let state = self.api.get(&format!("/v1/tunnels/{name}/state"))?;
            match state["cause"].as_str() {
                Some(cause) if state["state"] != "up" && cause.contains(needle) => Ok(cause.to_owned()),
                _ => bail!("{state}"),
            }
        })
    }

    /// Sum of a metric over the samples that carry all of `labels` (as `name="value"`).
    pub fn metric(&self, name: &str, labels: &[&str]) -> Result<f64> {
        let page = self.api.text("/metrics")?;
        let samples = page.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| {
                rest.starts_with(['{', ' ']) && labels.iter().all(|label| rest.contains(label))
            })
        });
        let mut sum = None;
        for sample in samples {
            let value = sample.rsplit(' ').next().unwrap_or_default();
            let value: f64 = value.parse().with_context(|| format!("not a sample: {sample}"))?;
            sum = Some(sum.unwrap_or(0.0) + value);
        }
        sum.with_context(|| format!("no sample of {name} with {labels:?}"))
    }

    /// Packets dropped for a reason.
    pub fn drops(&self, reason: &str) -> Result<u64> {
        let label = format!("reason=\"{reason}\"");
        // A count of packets: whole, and far from where a float loses one.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter")]
        Ok(self.metric("culvert_drops_total", &[&label])? as u64)
    }

    /// Waits until more than `before` packets were dropped for a reason.
    pub fn drops_more(&self, reason: &str, before: u64) -> Result<u64> {
        wait::until(&format!("drops for {reason} beyond {before}"), Duration::from_secs(10), || {
            let now = self.drops(reason)?;
            if now > before { Ok(now) } else { bail!("{now}") }
        })
    }

    /// File with the certificate of its API.
    pub fn certificate(&self) -> PathBuf {
        self.dir.join("state").join(CERTIFICATE)
    }

    /// Directory for logs and captures of this gateway.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

fn create_token(state: &Path) -> Result<String> {
    let mut command = std::process::Command::new(binary("culvertd")?);
    command.args(["token", "create", "--name", "lab", "--role", "admin", "--state-dir"]).arg(state);
    let token = finish(&mut command).context("cannot make an API token")?;
    Ok(token.trim().to_owned())
}

fn start_control(
    namespace: &Namespace,
    dir: &Path,
    listener: TcpListener,
    options: &Options,
) -> Result<Supervised> {
    let program = binary("culvertd")?;
    let mut command_line = vec![program.into_os_string()];
    command_line.extend(["--run-dir".into(), dir.join("run").into_os_string()]);
    command_line.extend(["--state-dir".into(), dir.join("state").into_os_string()]);
    if let Some(file) = &options.ike_keys {
        command_line.extend(["--ike-key-log".into(), file.clone().into_os_string()]);
    }
    let name = namespace.name().to_owned();
    let log = dir.join("culvertd.log");
    Supervised::start("culvertd", move || {
        // The listener stays open here: a caller who comes during a restart waits instead of being refused.
        let socket = OwnedFd::from(listener.try_clone().context("cannot share the API's socket")?);
        let mut command = crate::process::tied("ip");
        command.args(["netns", "exec", &name, "sh", "-c", ACTIVATE, "sh"]).args(&command_line);
        command.stdin(Stdio::from(socket));
        Process::start("culvertd", &mut command, &log)
    })
}

fn start_dataplane(namespace: &Namespace, dir: &Path, options: &Options) -> Result<Supervised> {
    let program = binary("culvert-dataplane")?;
    let name = namespace.name().to_owned();
    let (run, log) = (dir.join("run"), dir.join("culvert-dataplane.log"));
    let more = options.dataplane.clone();
    Supervised::start("culvert-dataplane", move || {
        let mut command = crate::process::tied("ip");
        command.args(["netns", "exec", &name]).arg(&program).arg("--run-dir").arg(&run).args(&more);
        command.stdin(Stdio::null());
        Process::start("culvert-dataplane", &mut command, &log)
    })
}
