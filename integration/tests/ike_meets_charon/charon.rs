//! charon on this machine, without IPsec in the kernel: ESP is done in user space, always in UDP and in tunnel mode.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::command::{finish, output};
use integration::namespace::Namespace;
use integration::peer::unpacked;
use integration::process::{Process, signal_pid};
use integration::wait;
use rustix::process::Signal;

use crate::witness;

/// `ip netns exec` gives a mount namespace too: a `/run` of its own, for the process id file.
const START: &str = "mount -t tmpfs -o mode=0755 run /run && exec /usr/lib/ipsec/charon";
/// Likewise below a root with the libraries of another release of Debian.
const START_BELOW: &str = "set -e
    mount -t tmpfs -o mode=0755 run /run
    for dir in dev proc sys run; do mount --rbind /$dir $ROOT/$dir; done
    exec chroot $ROOT /usr/lib/ipsec/charon";
const SECTIONS: &str =
    "x509 x509ca x509ocsp x509aa x509ac x509crl pubkey private rsa ecdsa pkcs8 pkcs12 conf.d";

/// Which strongSwan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// 5.9, of this machine's Debian.
    Five,
    /// 6.1, which knows additional key exchanges and ML-KEM, and no IKEv1 any more.
    Six,
}

impl Release {
    /// Its name in the interop table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Five => "strongSwan",
            Self::Six => "strongSwan 6",
        }
    }
}

/// What charon is told.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Version of IKE.
    pub(crate) version: u8,
    /// IKE proposals.
    pub(crate) ike: &'static str,
    /// ESP proposals.
    pub(crate) esp: &'static str,
    /// Pre-shared key.
    pub(crate) secret: &'static str,
    /// More secrets.
    pub(crate) secrets: &'static str,
    /// Its identity.
    pub(crate) own_id: &'static str,
    /// The identity that it expects.
    pub(crate) far_id: &'static str,
    /// More lines for the connection.
    pub(crate) connection: &'static str,
    /// The children.
    pub(crate) children: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            version: 2,
            ike: "aes256gcm16-prfsha256-x25519",
            esp: "aes256gcm16-noesn",
            secret: "correct horse battery staple",
            secrets: "",
            own_id: "192.0.2.2",
            far_id: "192.0.2.1",
            connection: "",
            children: child("net", "10.2.0.1/32", "10.1.0.1/32", ""),
        }
    }
}

/// A child for [`Settings::children`]; `@ESP@` stands for the proposals.
pub(crate) fn child(name: &str, local: &str, remote: &str, more: &str) -> String {
    format!(
        "{name} {{
           local_ts = {local}
           remote_ts = {remote}
           esp_proposals = @ESP@
           {more}
         }}\n"
    )
}

/// A running charon.
#[derive(Debug)]
pub(crate) struct Charon {
    dir: PathBuf,
    process: Process,
}

impl Charon {
    /// Starts it in a namespace, with these lines in the section `charon` of its configuration.
    pub(crate) fn start(release: Release, namespace: &Namespace, dir: &Path, options: &str) -> Result<Self> {
        for section in SECTIONS.split(' ') {
            fs::create_dir_all(dir.join("swanctl").join(section))?;
        }
        let shown = dir.display();
        let text = format!(
            "charon {{
               load = random nonce aes des md5 sha1 sha2 hmac kdf gcm ccm ctr chapoly xcbc cmac curve25519 openssl gmp pem pkcs1 pkcs8 x509 \
pubkey constraints revocation kernel-libipsec kernel-netlink socket-default vici updown counters
               install_routes = no
               retransmit_timeout = 0.5
               retransmit_tries = 4
               {options}
               filelog {{ main {{
                 path = {shown}/charon.log
                 time_format = %H:%M:%S
                 flush_line = yes
                 default = 1
                 ike = 4
                 cfg = 2
                 chd = 4
                 net = 0
               }} }}
               plugins {{ vici {{ socket = unix://{shown}/vici }} }}
             }}
             swanctl {{ load = pem pkcs1 pkcs8 x509 pubkey openssl random }}\n"
        );
        fs::write(dir.join("strongswan.conf"), text)?;
        // What an earlier one left behind would answer for this one.
        let (log, socket) = (dir.join("charon.log"), dir.join("vici"));
        if socket.exists() {
            fs::remove_file(socket)?;
        }
        if log.exists() {
            let mut names = (1u32..).map(|number| dir.join(format!("charon.log.{number}")));
            let earlier = names.find(|path| !path.exists()).context("no name is left")?;
            fs::rename(&log, &earlier)?;
            witness::log(earlier);
        }
        witness::log(log);
        let mut command = namespace.tied_command("sh");
        match release {
            Release::Five => command.args(["-c", START]),
            Release::Six => {
                command.env("ROOT", unpacked("strongswan-6")?);
                command.args(["-c", START_BELOW])
            }
        };
        command.stdin(Stdio::null());
        command.env("STRONGSWAN_CONF", dir.join("strongswan.conf"));
        let process = Process::start("charon", &mut command, &dir.join("charon.out"))?;
        let charon = Self { dir: dir.to_owned(), process };
        wait::until("charon", Duration::from_secs(20), || charon.swanctl("--stats"))
            .with_context(|| charon.log().unwrap_or_default())?;
        Ok(charon)
    }

    /// Tells it of the connection `far` with these settings; SAs stay as they are.
    pub(crate) fn load(&self, settings: &Settings) -> Result<()> {
        let Settings { version, ike, esp, secret, secrets, own_id, far_id, connection, children } = settings;
        let children = children.replace("@ESP@", esp);
        let text = format!(
            "connections {{ far {{
               version = {version}
               local_addrs = 192.0.2.2
               remote_addrs = 192.0.2.1
               proposals = {ike}
               # As if behind a NAT: ESP in user space is always in UDP.
               encap = yes
               {connection}
               local {{ auth = psk
                 id = {own_id} }}
               remote {{ auth = psk
                 id = {far_id} }}
               children {{
                 {children}
               }}
             }} }}
             secrets {{ ike-far {{ secret = \"{secret}\" }}
               {secrets}
             }}\n"
        );
        self.configure(&text)
    }

    /// Tells it of the connection `far` by a configuration of the caller's.
    pub(crate) fn configure(&self, text: &str) -> Result<()> {
        fs::write(self.dir.join("swanctl/swanctl.conf"), text)?;
        let said = self.swanctl("--load-all --noprompt")?;
        ensure!(said.contains("loaded connection 'far'"), "{said}");
        Ok(())
    }

    /// Runs swanctl, words split at blanks; an error when it fails.
    pub(crate) fn swanctl(&self, line: &str) -> Result<String> {
        finish(&mut self.command(line))
    }

    /// As [`Self::swanctl`], whatever comes of it: its output.
    pub(crate) fn try_swanctl(&self, line: &str) -> Result<String> {
        let output = output(&mut self.command(line))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("swanctl");
        command.args(line.split_whitespace());
        command.args(["--uri", &format!("unix://{}/vici", self.dir.display())]);
        command.env("STRONGSWAN_CONF", self.dir.join("strongswan.conf"));
        command.env("SWANCTL_DIR", self.dir.join("swanctl"));
        command
    }

    /// Its log.
    pub(crate) fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(self.dir.join("charon.log"))?).into_owned())
    }

    /// Waits until its log holds this.
    pub(crate) fn logs(&self, needle: &str) -> Result<()> {
        self.logs_after(0, needle)
    }

    /// As [`Self::logs`], in what comes after so many bytes of it.
    pub(crate) fn logs_after(&self, offset: usize, needle: &str) -> Result<()> {
        wait::until(&format!("{needle:?} in charon's log"), Duration::from_secs(20), || {
            let log = self.log()?;
            let log = log.get(offset..).unwrap_or_default();
            ensure!(log.contains(needle), "{}", log.lines().rev().take(12).collect::<Vec<_>>().join("\n"));
            Ok::<(), anyhow::Error>(())
        })
    }

    /// Kills it, as a power cut would.
    pub(crate) fn kill(&mut self) -> Result<()> {
        signal_pid(self.process.pid(), Signal::KILL)?;
        wait::until("charon's end", Duration::from_secs(5), || match self.process.ended() {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err("it runs".to_owned()),
            Err(error) => Err(format!("{error:#}")),
        })
    }

    /// Stops it where it is, or lets it go on.
    pub(crate) fn freeze(&self, frozen: bool) -> Result<()> {
        signal_pid(self.process.pid(), if frozen { Signal::STOP } else { Signal::CONT })
    }
}
