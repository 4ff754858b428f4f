//! Both daemons run as `deploy/systemd` runs them: not as root, with no capability but the units' own.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use integration::artifacts::binary;
use integration::command::{finish, run};
use integration::leftovers::{Files, run_dir};
use integration::namespace::Namespace;
use integration::process::Process;
use integration::wait;
use serde_json::{Value, json};

/// User and group "nobody": any will do that is not root.
const NOBODY: u32 = 65534;
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn the_daemons_need_no_more_than_their_units_give_them() -> Result<()> {
    let _files = Files;
    let dir = run_dir("unprivileged")?;
    let namespace = Namespace::create("unprivileged")?;
    run("ip", &["-n", namespace.name(), "link", "add", "eth-black", "type", "veth", "peer", "name", "far"])?;
    namespace.ip("link set eth-black up")?;
    namespace.ip("link set far up")?;
    for sub in ["run", "state"] {
        fs::create_dir_all(dir.join(sub))?;
        chown(dir.join(sub), Some(NOBODY), Some(NOBODY))?;
    }
    // What systemd would listen on.
    let notify = dir.join("notify");
    let systemd = UnixDatagram::bind(&notify)?;
    systemd.set_read_timeout(Some(PATIENCE))?;
    fs::set_permissions(&notify, fs::Permissions::from_mode(0o666))?;

    let token = finish(daemon(&namespace, "culvertd", &dir)?.args(["token", "create"]).args([
        "--name",
        "lab",
        "--role",
        "admin",
        "--state-dir",
        path(&dir.join("state")),
    ]))?;
    let mut control = daemon(&namespace, "culvertd", &dir)?;
    control.args(["--run-dir", path(&dir.join("run")), "--state-dir", path(&dir.join("state"))]);
    control.env("NOTIFY_SOCKET", &notify);
    let control = Process::start("culvertd", &mut control, &dir.join("culvertd.log"))?;
    let mut message = [0; 256];
    let len = systemd.recv(&mut message).with_context(|| control.tail())?;
    assert_eq!(message.get(..len), Some(&b"READY=1\n"[..]));

    let mut dataplane = daemon(&namespace, "culvert-dataplane", &dir)?;
    dataplane.args(["--run-dir", path(&dir.join("run"))]);
    let dataplane = Process::start("culvert-dataplane", &mut dataplane, &dir.join("dataplane.log"))?;
    let ask = Inside { namespace: &namespace, dir: &dir, token: token.trim() };
    let tunnel = json!({
        "source": "black0", "destination": "192.0.2.2", "addresses": ["10.9.9.1/30"],
        "protection": {"ipsec_profile": "main"},
    });
    for (name, body) in [
        (
            "interfaces/black0",
            json!({"device": "af_packet:eth-black", "side": "black", "addresses": ["192.0.2.1/24"]}),
        ),
        (
            "isakmp-policies/main",
            json!({"priority": 10, "encryption": ["aes-256-gcm"], "hash": ["sha2-256"], "groups": [31]}),
        ),
        ("pre-shared-keys/peer", json!({"peer": "192.0.2.2", "key": "a secret that is long enough"})),
        ("transform-sets/main", json!({"encryption": "aes-256-gcm", "mode": "transport"})),
        ("ipsec-profiles/main", json!({"transform_sets": ["main"]})),
        ("tunnels/to-peer", tunnel),
    ] {
        ask.put(name, &body)?;
    }
    wait::until("both planes well, twins and port there", PATIENCE, || {
        let health = ask.get("health")?;
        let links = namespace.ip("-br link")?;
        let started = dataplane.log();
        let open = fs::read_to_string(started)?.contains("port open");
        let whole = health["ok"] == true && open && links.contains("black0") && links.contains("to-peer");
        if whole { Ok(()) } else { bail!("{health}\n{links}\n{}", dataplane.tail()) }
    })?;
    for process in [&control, &dataplane] {
        let status = fs::read_to_string(format!("/proc/{}/status", process.pid()))?;
        let id = format!("Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}");
        assert!(status.contains(&id) && status.contains("NoNewPrivs:\t1"), "{status}");
        // The kernel gives root what another process of the same user must not read.
        let owner = fs::metadata(format!("/proc/{}/mem", process.pid()))?.uid();
        assert_eq!(owner, 0, "its memory can be dumped");
        let limits = fs::read_to_string(format!("/proc/{}/limits", process.pid()))?;
        let core = limits.lines().find(|line| line.starts_with("Max core file size"));
        assert!(core.is_some_and(|line| line.split_whitespace().nth(4) == Some("0")), "{limits}");
    }
    Ok(())
}

/// A daemon as its unit starts it, from a copy that its user can read.
fn daemon(namespace: &Namespace, name: &str, dir: &Path) -> Result<Command> {
    let program = dir.join(name);
    if !program.exists() {
        fs::copy(binary(name)?, &program)?;
    }
    let capabilities = capabilities(name)?;
    let mut command = namespace.tied_command("setpriv");
    let id = NOBODY.to_string();
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--no-new-privs"]);
    for set in ["--inh-caps", "--ambient-caps", "--bounding-set"] {
        command.arg(format!("{set}=-all{capabilities}"));
    }
    command.arg("--").arg(program);
    Ok(command)
}

/// The unit's capabilities as `setpriv` wants them: `,+net_admin,+net_raw`.
fn capabilities(name: &str) -> Result<String> {
    let unit = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../deploy/systemd/{name}.service"));
    let text = fs::read_to_string(&unit).with_context(|| format!("{unit:?}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("AmbientCapabilities="));
    let names = line.with_context(|| format!("no AmbientCapabilities in {unit:?}"))?.split_whitespace();
    Ok(names.map(|name| format!(",+{}", name.trim_start_matches("CAP_").to_lowercase())).collect())
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

/// The API, reached from inside of the namespace.
struct Inside<'a> {
    namespace: &'a Namespace,
    dir: &'a Path,
    token: &'a str,
}

impl Inside<'_> {
    fn put(&self, resource: &str, body: &Value) -> Result<Value> {
        self.ask(resource, &["-X", "PUT", "-H", "Content-Type: application/json", "-d", &body.to_string()])
    }

    fn get(&self, resource: &str) -> Result<Value> {
        self.ask(resource, &[])
    }

    fn ask(&self, resource: &str, more: &[&str]) -> Result<Value> {
        let mut command = self.namespace.command("curl");
        command.args(["--silent", "--show-error", "--fail-with-body", "--cacert"]);
        command.arg(self.dir.join("state/tls-cert.pem"));
        command.args(["-H", &format!("Authorization: Bearer {}", self.token)]).args(more);
        let text = finish(command.arg(format!("https://127.0.0.1:8443/v1/{resource}")))?;
        Ok(serde_json::from_str(&text)?)
    }
}
