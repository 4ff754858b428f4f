//! strongSwan 5.9: the standard peer, for IKEv1 and IKEv2.

use super::{Daemon, Settings};

/// charon, told by swanctl.
pub static DAEMON: Daemon = Daemon {
    name: "strongSwan",
    package: None,
    ike: "aes256gcm16-prfsha256-x25519,aes128gcm16-prfsha256-ecp256",
    esp: "aes128gcm16-esn-noesn",
    files,
    start: include_str!("../../peer/strongswan.sh"),
    load: "cp /peer/swanctl.conf /etc/swanctl/swanctl.conf && swanctl --load-all --noprompt",
    begin: "swanctl --initiate --child gre --timeout 20",
    end: "swanctl --terminate --ike far --force",
    sas: "swanctl --list-sas",
    log: "charon.log",
};

fn files(settings: &Settings) -> Vec<(&'static str, String)> {
    let Settings { version, secret, ike, esp, child, .. } = settings;
    let (own, far) = (settings.own.black(), settings.far.black());
    let mode = settings.mode.word();
    let connections = format!(
        "connections {{ far {{
           version = {version}
           local_addrs = {own}
           remote_addrs = {far}
           proposals = {ike}
           dpd_delay = 30s
           local {{ auth = psk
             id = {own} }}
           remote {{ auth = psk
             id = {far} }}
           children {{ gre {{
             mode = {mode}
             local_ts = {own}/32[gre]
             remote_ts = {far}/32[gre]
             esp_proposals = {esp}
             replay_window = 1024
             {child}
           }} }}
         }} }}
         secrets {{ ike-far {{ secret = \"{secret}\" }} }}\n"
    );
    vec![("swanctl.conf", connections), ("charon-extra.conf", settings.charon.to_owned())]
}
