//! libreswan 4.10: the second judge, for IKEv1 and IKEv2. It knows no group 2.

use super::{Daemon, Settings};

/// pluto, told by whack.
pub static DAEMON: Daemon = Daemon {
    name: "libreswan",
    package: Some("libreswan"),
    ike: "aes_gcm256-sha2_256;dh31,aes_gcm256-sha2_256;dh19",
    esp: "aes_gcm128",
    files,
    start: include_str!("../../peer/libreswan.sh"),
    load: "cp /peer/ipsec.conf /peer/ipsec.secrets /etc/ && ipsec whack --rereadsecrets && ipsec auto --replace gre",
    begin: "ipsec whack --initiate --name gre --asynchronous",
    end: "ipsec whack --terminate --name gre",
    sas: "ipsec whack --trafficstatus; ipsec whack --status | grep -E 'STATE_|newest|#[0-9]'",
    log: "pluto.log",
};

fn files(settings: &Settings) -> Vec<(&'static str, String)> {
    let Settings { secret, ike, esp, child, version, .. } = settings;
    let ikev2 = if *version == 1 { "no" } else { "insist" };
    let (own, far) = (settings.own.black(), settings.far.black());
    let mode = settings.mode.word();
    // pfs=no: its first child has no group in any case, and a rekey follows the peer's proposal.
    let connection = format!(
        "config setup
    logfile=/peer/pluto.log
    ikev1-policy=accept

conn gre
    left={own}
    right={far}
    authby=secret
    type={mode}
    leftprotoport=gre
    rightprotoport=gre
    ikev2={ikev2}
    ike={ike}
    phase2alg={esp}
    pfs=no
    {child}
    auto=ignore
"
    );
    vec![("ipsec.conf", connection), ("ipsec.secrets", format!("{own} {far} : PSK \"{secret}\"\n"))]
}
