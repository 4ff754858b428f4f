//! OpenIKED 7.2: the third judge, for IKEv2. Its way to a Linux kernel (PF_KEY) knows neither GCM nor SHA-2 for ESP.

use super::{Daemon, Settings};

/// iked, told by ikectl.
pub static DAEMON: Daemon = Daemon {
    name: "OpenIKED",
    package: Some("openiked"),
    ike: "enc aes-256-gcm prf hmac-sha2-256 group curve25519",
    esp: "enc aes-128 auth hmac-sha1 noesn",
    files,
    start: include_str!("../../peer/openiked.sh"),
    load: "cp /peer/iked.conf /etc/iked.conf && chmod 600 /etc/iked.conf && ikectl reload",
    // Whoever is active in its configuration begins when coupled.
    begin: "sed -i 's/ passive / active /' /etc/iked.conf && ikectl reload",
    end: "sed -i 's/ active / passive /' /etc/iked.conf && ikectl reload && ikectl reset sa",
    sas: "ikectl show sa",
    log: "iked.log",
};

fn files(settings: &Settings) -> Vec<(&'static str, String)> {
    let Settings { secret, ike, esp, child, connection, .. } = settings;
    let (own, far) = (settings.own.black(), settings.far.black());
    let mode = settings.mode.word();
    let policy = format!(
        "set nomobike
ikev2 \"gre\" passive {mode} esp proto gre \\
    from {own} to {far} local {own} peer {far} \\
    ikesa {ike} childsa {esp} {child} \\
    srcid {own} dstid {far} {connection} psk \"{secret}\"
"
    );
    vec![("iked.conf", policy)]
}
