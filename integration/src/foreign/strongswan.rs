//! strongSwan 5.9: the standard peer, for IKEv1 and IKEv2; and 6.1, for ML-KEM.

use super::{Certified, Daemon, Settings};

/// charon, told by swanctl.
pub static DAEMON: Daemon = Daemon {
    name: "strongSwan",
    package: None,
    ike: "aes256gcm16-prfsha256-x25519,aes128gcm16-prfsha256-ecp256",
    esp: "aes128gcm16-esn-noesn",
    files,
    start: concat!(include_str!("../../peer/strongswan.sh"), include_str!("../../peer/strongswan-load.sh")),
    load: include_str!("../../peer/strongswan-load.sh"),
    begin: "swanctl --initiate --child gre --timeout 20",
    end: "swanctl --terminate --ike far --force",
    sas: "swanctl --list-sas",
    log: "charon.log",
};

/// charon 6, below a root with its own libraries, told by the other's swanctl.
pub static SIX: Daemon = Daemon {
    name: "strongSwan 6",
    ike: "aes256gcm16-prfsha256-x25519-ke1_mlkem768",
    esp: "aes128gcm16-x25519-ke1_mlkem768-esn-noesn",
    start: concat!(
        "export ROOT=/var/cache/culvert/peers/strongswan-6\n",
        include_str!("../../peer/strongswan.sh"),
        include_str!("../../peer/strongswan-load.sh")
    ),
    ..DAEMON
};

fn files(settings: &Settings) -> Vec<(&'static str, String)> {
    let Settings { version, secret, ike, esp, child, connection, secrets, .. } = settings;
    let (own, far) = (settings.own.black(), settings.far.black());
    let mode = settings.mode.word();
    let (proofs, mut files) = match &settings.certified {
        None => (
            format!("local {{ auth = psk\n id = {own} }}\n remote {{ auth = psk\n id = {far} }}"),
            Vec::new(),
        ),
        Some(Certified { own_id, far_id, certificate, private_key, authority }) => {
            let local = format!("local {{ auth = pubkey\n certs = lab.pem\n id = {own_id} }}");
            let remote = format!("remote {{ auth = pubkey\n id = {far_id} }}");
            let named = [("x509.pem", certificate), ("private.pem", private_key), ("x509ca.pem", authority)];
            let files = named.map(|(name, pem)| (name, pem.clone()));
            (format!("{local}\n {remote}"), files.to_vec())
        }
    };
    let connections = format!(
        "connections {{ far {{
           version = {version}
           local_addrs = {own}
           remote_addrs = {far}
           proposals = {ike}
           dpd_delay = 30s
           {proofs}
           {connection}
           children {{ gre {{
             mode = {mode}
             local_ts = {own}/32[gre]
             remote_ts = {far}/32[gre]
             esp_proposals = {esp}
             replay_window = 1024
             {child}
           }} }}
         }} }}
         secrets {{ ike-far {{ secret = \"{secret}\" }}\n {secrets} }}\n"
    );
    files.extend([("swanctl.conf", connections), ("charon-extra.conf", settings.charon.to_owned())]);
    files
}
