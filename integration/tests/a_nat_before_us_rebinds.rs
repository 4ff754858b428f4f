//! The NAT before our gateway forgets its mappings and shows us elsewhere. We do not notice; the peer must: by what is
//! authentic and comes from there (RFC 7296 section 2.23), which our traffic is, or else our question whether it lives.

use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use integration::checks::{ping, reachable};
use integration::configuration::{VERSION_1, version_1};
use integration::echo;
use integration::foreign::{Daemon, Mode, Settings, strongswan};
use integration::interop::{Role, Scenario};
use integration::lab::{ALPHA, GAMMA, NATTED_ALPHA};
use integration::nat::{FIRST_HOST, SECOND_HOST, public};
use integration::natted::Natted;
use integration::pair::{KEY, PATIENCE};
use integration::pcap::Kind;
use integration::rekeying::{established, rekey_ike};
use integration::sniffer::Sniffer;
use integration::wait;
use serde_json::json;

/// For so long pings may be lost while the peer learns where we are.
const MAY_LEARN_FOR: Duration = Duration::from_millis(500);

fn scenario(what: &'static str, daemon: &Daemon) -> Scenario {
    Scenario { number: 28, what, peer: daemon.name, role: Role::Initiator }
}

/// Lines for a strongSwan that takes us from wherever we come, and asks nothing by itself.
const UNASKING: &str = "remote_addrs = %any\n dpd_delay = 0s";

fn strongswan() -> Settings {
    Settings { connection: UNASKING, ..Settings::new(GAMMA, ALPHA, KEY) }
}

/// Both hosts answer each other.
fn passes(natted: &Natted) -> Result<()> {
    for (from, to) in [(ALPHA, GAMMA), (GAMMA, ALPHA)] {
        let (host, address) = (natted.lab.host(from)?, &to.host()[0]);
        reachable(host, address, PATIENCE).with_context(|| natted.gamma.gateway.log().unwrap_or_default())?;
        let pings = ping(host, address, 20)?;
        ensure!(pings.all_answered(), "from {}: {pings:?}", from.name);
    }
    Ok(())
}

/// gamma's kernel has these SPIs and no others, all with us where the NAT shows us now.
fn follows(natted: &Natted, spis: &[u32], address: Ipv4Addr) -> Result<()> {
    let ports = natted.nat.ports();
    let seen = natted.seen_by_gamma()?;
    ensure!(seen.keys().eq(spis), "{spis:08x?} became {seen:08x?}");
    let there = seen.values().all(|end| *end.ip() == address && ports.contains(&end.port()));
    ensure!(there, "not at {address} and {ports:?}: {seen:08x?}");
    Ok(())
}

/// The SPIs of gamma's kernel, once what was replaced is gone from it.
fn one_pair(natted: &Natted) -> Result<Vec<u32>> {
    wait::until("one pair in gamma's kernel", PATIENCE, || {
        let spis: Vec<u32> = natted.seen_by_gamma()?.into_keys().collect();
        ensure!(spis.len() == 2, "{spis:08x?}");
        anyhow::Ok(spis)
    })
}

/// We are seen at another port, then at another address, while both hosts send; then keys are changed by either end.
fn moves(
    natted: &Natted,
    rekey: &str,
    ike_rekeys: &[Ask],
    told: impl Fn(Ipv4Addr) -> Result<()>,
) -> Result<()> {
    for host in [FIRST_HOST, SECOND_HOST] {
        let spis = one_pair(natted)?;
        let sent_to = natted.outbound()?;
        let traffic = [natted.pinging(ALPHA, GAMMA, 6)?, natted.pinging(GAMMA, ALPHA, 6)?];
        natted.nat.rebind(host)?;
        // An order by serial line takes a busy machine a second or two; until then gamma's GRE sends elsewhere.
        let begin = Instant::now();
        told(public(host))?;
        let telling = begin.elapsed();
        wait::until("gamma to follow", Duration::from_secs(4), || follows(natted, &spis, public(host)))
            .with_context(|| natted.gamma.gateway.log().unwrap_or_default())?;
        for pinging in &traffic {
            pinging.still_running()?;
        }
        for pinging in traffic {
            let pings = pinging.finish()?;
            println!("{host}: {pings:?}");
            let may_be_lost = (telling + MAY_LEARN_FOR).div_duration_f64(echo::INTERVAL);
            #[expect(clippy::cast_precision_loss, reason = "hundreds")]
            let lost = pings.lost() as f64;
            ensure!(lost <= may_be_lost, "to {}, told in {telling:?}: {pings:?}", public(host));
        }
        ensure!(natted.outbound()? == sent_to, "{:?}, was {sent_to:?}", natted.outbound()?);
        let sas = natted.gamma.gateway.sas()?;
        ensure!(sas.contains(&format!("@ {}[", public(host))), "{sas}");
        passes(natted)?;
        // gamma first: where it asks is where it believes us to be.
        natted.rekeys(|| natted.gamma.gateway.run("swanctl --rekey --child gre").map(drop))?;
        natted.rekeys(|| natted.alpha.api.post(rekey).map(drop))?;
        for ask in ike_rekeys {
            let old = established(&natted.alpha)?;
            ask(natted)?;
            wait::until("another IKE SA", PATIENCE, || {
                let new = established(&natted.alpha)?;
                ensure!(new.len() == 1 && new != old, "{new:?}, was {old:?}");
                anyhow::Ok(())
            })
            .with_context(|| natted.gamma.gateway.log().unwrap_or_default())?;
        }
        passes(natted)?;
    }
    Ok(())
}

type Ask = fn(&Natted) -> Result<()>;

fn we_rekey_ike(natted: &Natted) -> Result<()> {
    rekey_ike(&natted.alpha)
}

fn gamma_rekeys_ike(natted: &Natted) -> Result<()> {
    natted.gamma.gateway.run("swanctl --rekey --ike far").map(drop)
}

/// Transport mode's packets have the addresses of GRE: gamma's GRE is told where we are, as it is not by IKE.
#[test]
fn and_strongswan_follows() -> Result<()> {
    // The selector is us, whoever that is.
    let settings = Settings { far: NATTED_ALPHA, child: "remote_ts = dynamic[gre]", ..strongswan() };
    let natted = Natted::before(ALPHA, settings)?;
    let what = "our NAT shows us at another port, then address, IKEv2 with GRE in transport mode; rekeys by both from there";
    scenario(what, &strongswan::DAEMON).judge(|| {
        natted.profile(GAMMA, &json!({"local_identity": NATTED_ALPHA.black()}))?;
        passes(&natted)?;
        let gre_goes_to = |address| {
            let name = natted.gamma.gateway.tunnel_name();
            natted.gamma.gateway.run(&format!("ip tunnel change {name} remote {address}")).map(drop)
        };
        moves(&natted, "/v1/tunnels/to-gamma/rekey", &[gamma_rekeys_ike, we_rekey_ike], gre_goes_to)
    })
}

/// In tunnel mode the addresses that change are none of GRE's.
#[test]
fn and_strongswan_follows_in_version_1() -> Result<()> {
    let settings =
        Settings { mode: Mode::Tunnel, connection: UNASKING, ..Settings::version_1(GAMMA, ALPHA, KEY) };
    let natted = Natted::before(ALPHA, settings)?;
    let what = "our NAT shows us at another port, then address, IKEv1 with GRE in tunnel mode and a crypto map; \
                rekeys by both from there";
    scenario(what, &strongswan::DAEMON).judge(|| {
        natted.alpha.api.put(VERSION_1, &version_1())?;
        natted.crypto_map(GAMMA, &json!({"isakmp_policies": ["old"]}))?;
        passes(&natted)?;
        moves(&natted, "/v1/crypto-maps/outside/rekey", &[we_rekey_ike], |_| Ok(()))
    })
}

/// The NAT remembers what is idle for so long: longer than we let it be (RFC 3948 section 4).
const REMEMBERED_SECS: u64 = 24;
/// How long we wait for a sign of life before we ask.
const DPD_SECS: u64 = 5;

/// Has alpha ask for a sign of life after so long, or never.
fn asks_after(natted: &Natted, dpd_secs: u64) -> Result<()> {
    let policy = json!({
        "priority": 10, "encryption": ["aes-256-gcm"], "hash": ["sha2-256"], "groups": [31, 19],
        "dpd_interval_secs": dpd_secs,
    });
    natted.alpha.api.put("/v1/isakmp-policies/main", &policy).map(drop)
}

#[test]
fn and_a_silent_site_is_found() -> Result<()> {
    let natted = Natted::before(ALPHA, Settings { mode: Mode::Tunnel, ..strongswan() })?;
    natted.nat.remembers(REMEMBERED_SECS)?;
    asks_after(&natted, 0)?;
    natted.profile(GAMMA, &json!({}))?;
    passes(&natted)?;
    let what = "we are behind a NAT and send nothing but keepalives for longer than it remembers; reached from outside";
    scenario(what, &strongswan::DAEMON).judge(|| keepalives_alone_keep_it_open(&natted))?;
    let what =
        "our NAT shows us elsewhere while nobody sends; our question whether the peer lives leads it to us";
    scenario(what, &strongswan::DAEMON).judge(|| {
        asks_after(&natted, DPD_SECS)?;
        let spis = one_pair(&natted)?;
        natted.nat.rebind(SECOND_HOST)?;
        let within = Duration::from_secs(2 * DPD_SECS);
        reachable(natted.lab.host(GAMMA)?, &ALPHA.host()[0], within)
            .with_context(|| natted.gamma.gateway.log().unwrap_or_default())?;
        follows(&natted, &spis, public(SECOND_HOST))?;
        passes(&natted)
    })
}

fn keepalives_alone_keep_it_open(natted: &Natted) -> Result<()> {
    let sniffer = Sniffer::start(&natted.lab.underlay, &[GAMMA.name], &natted.lab.dir)?;
    let begin = SystemTime::now();
    sleep(Duration::from_secs(REMEMBERED_SECS + 3));
    let end = SystemTime::now();
    let pings = ping(natted.lab.host(GAMMA)?, &ALPHA.host()[0], 5)?;
    ensure!(pings.all_answered(), "{pings:?}");
    let captures = sniffer.finish()?;
    let frames = captures.iter().flat_map(|capture| &capture.frames);
    let idle: Vec<_> =
        frames.filter(|frame| frame.at > begin && frame.at < end && frame.kind != Kind::Arp).collect();
    let from_us = |from| from == public(FIRST_HOST);
    let all_are_keepalives = idle.iter().all(|frame| {
        frame.kind == Kind::EspInUdp
            && frame.esp.is_none()
            && frame.addresses.is_some_and(|(from, _)| from_us(from))
    });
    ensure!(!idle.is_empty() && all_are_keepalives, "{idle:?}");
    Ok(())
}
