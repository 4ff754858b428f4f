//! A network namespace for each test, a control plane with desired state that the test sets, and a dataplane that
//! acknowledges everything and forwards nothing.
#![allow(dead_code, reason = "each test file is a crate of its own and uses a part")]

pub(crate) mod dataplane;

use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use control::{Config, Handle};
use model::Desired;
use serde_json::{Map, Value};
use tokio::sync::oneshot;

/// Runs `body` in a network namespace of its own: this test binary calls itself under `unshare --net`.
///
/// With `role` set in the environment, `roles` runs instead: a further process that the body starts.
pub(crate) fn in_own_network(test: &str, body: impl FnOnce(), roles: impl FnOnce(&str)) {
    match std::env::var(ROLE).as_deref() {
        Ok("body") => return body(),
        Ok(role) => return roles(role),
        Err(_) => {}
    }
    assert!(rustix::process::geteuid().is_root(), "{test} needs root: it makes a network namespace");
    let status = Command::new("unshare")
        .arg("--net")
        .arg("--")
        .arg(std::env::current_exe().expect("this test's path"))
        .args(["--exact", test, "--nocapture"])
        .env(ROLE, "body")
        .status()
        .expect("unshare (package util-linux) runs");
    assert!(status.success(), "{test} failed in its namespace");
}

/// A further process of a test, killed at the end.
pub(crate) struct Role {
    child: Child,
}

impl Role {
    /// Starts a further process of this test in a role, in this network namespace.
    pub(crate) fn start(test: &str, role: &str) -> Self {
        Self::spawn(Command::new(std::env::current_exe().expect("this test's path")), test, role)
    }

    /// The same in a network namespace of its own.
    pub(crate) fn start_elsewhere(test: &str, role: &str) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "--"]).arg(std::env::current_exe().expect("this test's path"));
        Self::spawn(command, test, role)
    }

    fn spawn(mut command: Command, test: &str, role: &str) -> Self {
        command.args(["--exact", test, "--nocapture"]).env(ROLE, role);
        Self { child: command.spawn().expect("this test starts again") }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it is dead");
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a control plane until this process is killed.
pub(crate) fn control_for_ever(config: Config, desired: Desired, delay: Duration) -> ! {
    let _control = Control::start_slowly(config, desired, delay);
    loop {
        std::thread::park();
    }
}

/// Runs a command line, which must succeed.
pub(crate) fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().expect("sh runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{line}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Waits until `check` gives something.
pub(crate) fn eventually<T>(what: &str, check: impl FnMut() -> Option<T>) -> T {
    eventually_within(Duration::from_secs(10), what, check)
}

/// Waits until `check` gives something, for so long at most.
pub(crate) fn eventually_within<T>(within: Duration, what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until `check` is true.
pub(crate) fn until(what: &str, mut check: impl FnMut() -> bool) {
    eventually(what, || check().then_some(()));
}

/// Two wires with far ends, as veth pairs.
pub(crate) fn lay_wires() {
    sh("ip link set lo up");
    for wire in ["wirered", "wireblack"] {
        sh(&format!("ip link add {wire} type veth peer name far{wire} && ip link set far{wire} up"));
    }
}

/// A run directory of this process, in a tmpfs.
pub(crate) fn run_dir(test: &str) -> std::path::PathBuf {
    use std::hash::{DefaultHasher, Hash, Hasher};
    // The path of a Unix socket has 107 bytes at most.
    let mut short = DefaultHasher::new();
    test.hash(&mut short);
    let path = std::path::PathBuf::from(format!("/dev/shm/culvert-control-test/{:016x}", short.finish()));
    std::fs::create_dir_all(&path).expect("a run directory");
    path
}

/// The configuration of tests: small tables, a dataplane that counts as away soon.
pub(crate) fn config(test: &str) -> Config {
    let mut config = Config::new(run_dir(test)).with_capacities(shm::Capacities::small());
    config.away_after = Duration::from_millis(1500);
    config
}

/// Two interfaces, and a tunnel in clear.
pub(crate) fn gateway() -> Value {
    serde_json::json!({
        "interfaces": {
            "red": {"device": "af_packet:wirered", "side": "red", "addresses": ["10.1.0.1/24", "2001:db8:1::1/64"],
                    "mtu_bytes": 1500},
            "black": {"device": "af_packet:wireblack", "side": "black", "addresses": ["192.0.2.1/24"],
                      "mtu_bytes": 1500},
        },
        "tunnels": {
            "gre1": {"source": "black", "destination": "198.51.100.2", "addresses": ["10.255.0.1/30"],
                     "protection": "none"},
        },
        "routes": {
            "default": {"destination": "0.0.0.0/0", "gateway": "192.0.2.254"},
            "far": {"destination": "10.2.0.0/16", "tunnel": "gre1"},
        },
    })
}

/// Desired state from JSON.
pub(crate) fn desired(generation: u64, value: &Value) -> Desired {
    fn each<T: serde::de::DeserializeOwned, N: std::str::FromStr<Err: std::fmt::Debug> + Ord>(
        value: &Value,
        kind: &str,
    ) -> std::collections::BTreeMap<N, T> {
        let empty = Map::new();
        let objects = value[kind].as_object().unwrap_or(&empty);
        objects
            .iter()
            .map(|(name, body)| {
                let body = serde_json::from_value(body.clone()).expect("a sound resource");
                (name.parse().expect("a sound name"), body)
            })
            .collect()
    }
    Desired {
        generation,
        interfaces: each(value, "interfaces"),
        tunnels: each(value, "tunnels"),
        routes: each(value, "routes"),
        isakmp_policies: each(value, "isakmp_policies"),
        pre_shared_keys: each(value, "pre_shared_keys"),
        transform_sets: each(value, "transform_sets"),
        ipsec_profiles: each(value, "ipsec_profiles"),
        ..Desired::default()
    }
}

/// A control plane in this process.
pub(crate) struct Control {
    pub(crate) handle: Handle,
    desired: Arc<Mutex<Desired>>,
    stop: Option<oneshot::Sender<()>>,
    running: Option<std::thread::JoinHandle<()>>,
}

impl Control {
    pub(crate) fn start(config: Config, desired: Desired) -> Self {
        Self::start_slowly(config, desired, Duration::ZERO)
    }

    /// One whose store takes a while to answer.
    pub(crate) fn start_slowly(config: Config, desired: Desired, delay: Duration) -> Self {
        let (handle, inbox) = control::handle();
        let desired = Arc::new(Mutex::new(desired));
        let (stop, stopped) = oneshot::channel::<()>();
        let source = Arc::clone(&desired);
        let source = move || {
            let desired = source.lock().expect("the desired state").clone();
            async move {
                tokio::time::sleep(delay).await;
                Ok::<_, std::io::Error>(desired)
            }
        };
        let running = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .expect("tokio");
            let stopped = async move {
                let _ = stopped.await;
            };
            runtime
                .block_on(control::run(config, source, (), inbox, stopped))
                .expect("the control plane runs");
        });
        Self { handle, desired, stop: Some(stop), running: Some(running) }
    }

    pub(crate) fn change(&self, desired: Desired) {
        *self.desired.lock().expect("the desired state") = desired;
        self.handle.generation_moved();
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(running) = self.running.take()
            && running.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the control plane panicked");
        }
    }
}

const ROLE: &str = "CULVERT_TEST_ROLE";
