//! Peers behind one NAT with a pre-shared key each: main mode must choose the key before it knows who asks, and has no more to
//! choose by than the NAT's address (RFC 2409 section 5.4). One is served; the other is refused, in words that say why.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ike::{Authentication, Cause, ChildId, Connection, ConnectionId, Event, Identity, Limits, PreSharedKey};
use integration::interop::Role;
use zeroize::Zeroizing;

use crate::cable::{Cable, host, limits, scenario};
use crate::charon::child;
use crate::nat::{hide, version};
use crate::ours::{CONNECTION, Ours};

const FIRST: &str = "first.example";
const SECOND: &str = "second.example";
const OTHER: ConnectionId = ConnectionId(2);

/// The connection of one of the two, whose key is made of its name.
fn connection(id: ConnectionId, name: &str) -> Connection {
    let (mut ours, _) = version(1);
    ours.id = id;
    ours.remote = [192, 0, 2, 52].into();
    ours.remote_identity = Identity::Fqdn(name.to_owned());
    let key = Zeroizing::new(format!("the key of {name}").into_bytes());
    ours.authentication = Authentication::pre_shared_key(PreSharedKey(key));
    for child in &mut ours.children {
        child.start = false;
        if id == OTHER {
            child.id = ChildId(2);
            child.local_selectors = vec![host("10.1.0.2")];
            child.remote_selectors = vec![host("10.2.0.2")];
        }
    }
    ours
}

/// Two hosts of charon's, both seen at 192.0.2.52.
fn cable() -> Result<Cable> {
    let cable = Cable::new()?;
    cable.theirs.ip("addr add 192.0.2.3/24 dev eth0")?;
    hide(&cable.theirs, "192.0.2.2", "192.0.2.52")?;
    cable.theirs.run("nft add rule ip nat post ip saddr 192.0.2.3 ip protocol udp snat to 192.0.2.52")?;
    let of = |section: &str, local: &str, name: &str, children: String| {
        format!(
            "{section} {{
               version = 1
               local_addrs = {local}
               remote_addrs = 192.0.2.1
               proposals = aes256-sha256-modp2048
               local {{ auth = psk
                 id = {name} }}
               remote {{ auth = psk
                 id = 192.0.2.1 }}
               children {{ {children} }}
             }}\n"
        )
        .replace("@ESP@", "aes256gcm16-noesn")
    };
    let secret = |section: &str, name: &str| {
        format!("ike-{section} {{ id-1 = {name}\n secret = \"the key of {name}\" }}\n")
    };
    cable.charon.configure(&format!(
        "connections {{ {}{} }}\nsecrets {{ {}{} }}\n",
        of("far", "192.0.2.2", FIRST, child("net", "10.2.0.1/32", "10.1.0.1/32", "")),
        of("near", "192.0.2.3", SECOND, child("more", "10.2.0.2/32", "10.1.0.2/32", "")),
        secret("far", FIRST),
        secret("near", SECOND),
    ))?;
    Ok(cable)
}

/// Our engine with these connections; the first peer is up, the second was refused, and this is what each connection of ours
/// was told.
fn one_of_two(connections: &[(ConnectionId, &str)], told: ConnectionId, words: &str) -> Result<()> {
    let cable = cable()?;
    let soon = Limits { half_open_timeout: Duration::from_secs(4), ..limits() };
    let mut all = connections.iter().map(|(id, name)| connection(*id, name));
    let engine = Ours::start(&cable.ours, soon, all.next().unwrap_or_else(|| connection(OTHER, SECOND)))?;
    for further in all {
        engine.state().engine.set_connection(Instant::now(), further);
    }
    if told != CONNECTION {
        cable.charon.swanctl("--initiate --child net --timeout 10")?;
        engine.settles(1)?;
    }
    let before = cable.charon.log()?.len();
    cable.charon.try_swanctl("--initiate --child more --timeout 6")?;
    let cause = engine.event("the refusal", |event| match event {
        Event::IkeDown { connection, cause, .. } if *connection == told => Some(cause.clone()),
        _ => None,
    })?;
    let refused = matches!(&cause, Cause::AuthenticationFailed { side: "we refused the peer", detail } if detail.contains(words));
    ensure!(refused, "{cause}");
    let log = cable.charon.log()?;
    ensure!(!log[before..].contains("IKE_SA near[2] established"), "the second is up");
    if told != CONNECTION {
        let shown = cable.charon.swanctl("--list-sas")?;
        ensure!(shown.contains("net: #") && shown.contains("INSTALLED"), "{shown}");
        let sa = engine.settles(1)?;
        ensure!(sa.connection == Some(CONNECTION), "{sa:?}");
        let down = |event: &Event| matches!(event, Event::IkeDown { connection, .. } if *connection != told);
        ensure!(!engine.state().events.iter().any(down), "{:?}", engine.state().events);
    }
    drop(engine);
    cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
}

#[test]
fn of_two_keys_at_one_address_one_is_refused() -> Result<()> {
    let what =
        "IKEv1, two peers behind one NAT with different keys: one is up, the other refused with the cause";
    scenario(16, what, Role::Responder).judge(|| {
        let both = [(CONNECTION, FIRST), (OTHER, SECOND)];
        one_of_two(&both, OTHER, "behind a NAT, and several connections have its address")
    })
}

#[test]
fn a_stranger_behind_the_nat_of_a_peer_is_refused() -> Result<()> {
    let what = "IKEv1, another peer behind the NAT of one, with another key: refused with the cause";
    scenario(16, what, Role::Responder).judge(|| {
        one_of_two(
            &[(CONNECTION, FIRST)],
            CONNECTION,
            "behind a NAT, where main mode knows only the pre-shared key",
        )
    })
}
