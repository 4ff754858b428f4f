//! libreswan 4.10: the second judge, for IKEv1 and IKEv2. It knows no group 2.

use super::{Certified, Daemon, Settings};

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
    let (proof, mut files) = match &settings.certified {
        None => ("authby=secret".to_owned(), Vec::new()),
        Some(Certified { own_id, far_id, certificate, private_key, authority }) => {
            // `lab` is its nickname in the database that the start makes of these files.
            let proof = format!(
                "authby=rsa-sha2\n    leftcert=lab\n    leftid=@{own_id}\n    rightid=@{far_id}\n    leftsendcert=always"
            );
            let named = [("x509.pem", certificate), ("private.pem", private_key), ("x509ca.pem", authority)];
            (proof, named.map(|(name, pem)| (name, pem.clone())).to_vec())
        }
    };
    // pfs=no: its first child has no group in any case, and a rekey follows the peer's proposal.
    let connection = format!(
        "config setup
    logfile=/peer/pluto.log
    ikev1-policy=accept

conn gre
    left={own}
    right={far}
    {proof}
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
    files
        .extend([("ipsec.conf", connection), ("ipsec.secrets", format!("{own} {far} : PSK \"{secret}\"\n"))]);
    files
}
