//! First messages from addresses that their senders do not have, while a good peer connects: no byte more goes there than
//! came from there, what is kept of them is bounded, and the good peer is served.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ike::{ChildId, Command, Connection, ConnectionId, Ikev1, Limits, Path, Version};
use integration::interop::Role;

use crate::cable::{Cable, connection, limits, scenario};
use crate::charon::Settings;
use crate::datagram::{self, IKE_SA_INIT, exchange};
use crate::ikev1::classic;
use crate::ours::{CHILD, Ours, State};
use crate::relay::{Direction, Weather};

/// Peers that are configured, so that their first messages have a meaning, and do not exist.
const PEERS: u8 = 40;
/// Bursts of the flood, and messages in each: 200 a second.
const BURSTS: u32 = 60;
const BURST: u32 = 10;
const PAUSE: Duration = Duration::from_millis(50);
/// Of IKEv1: neither answer is repeated unasked.
const AGGRESSIVE_KEYS: &str = "i_dont_care_about_security_and_use_aggressive_mode_psk = yes";

fn spoofed(number: u32) -> IpAddr {
    let last = u8::try_from(number % u32::from(PEERS)).unwrap_or(0);
    Ipv4Addr::new(198, 51, 100, last + 1).into()
}

/// Nothing begins by itself.
fn waiting(mut connection: Connection) -> Connection {
    for child in &mut connection.children {
        child.start = false;
    }
    connection
}

/// The engine with a connection to charon, and one to each peer that does not exist.
fn crowded(cable: &Cable, limits: Limits, connection: &Connection) -> Result<Ours> {
    let engine = Ours::start(&cable.ours, limits, waiting(connection.clone()))?;
    for number in 0..u32::from(PEERS) {
        let mut other = waiting(connection.clone());
        other.id = ConnectionId(100 + u64::from(number));
        other.remote = spoofed(number);
        other.children.iter_mut().for_each(|child| child.id = ChildId(100 + u64::from(number)));
        engine.state().engine.set_connection(Instant::now(), other);
    }
    Ok(engine)
}

/// A first message of charon's, in which nothing but the initiator's SPI is of the flood.
fn first_message(cable: &Cable, connection: &Connection) -> Result<Vec<u8>> {
    let deaf = cable.engine(waiting(connection.clone()))?;
    deaf.state().inward.hold();
    cable.charon.try_swanctl("--initiate --child net --timeout 2")?;
    let first = deaf.state().inward.known().first().cloned().context("charon said nothing")?;
    cable.charon.try_swanctl("--terminate --ike far --force --timeout 1")?;
    Ok(first)
}

/// The flood goes on for three seconds; all of it has arrived, and what we say to it is on the wire.
fn pour(engine: &Ours, template: &[u8]) -> Result<()> {
    let mut number = 0_u32;
    for _ in 0..BURSTS {
        {
            let now = Instant::now();
            let mut state = engine.state();
            for _ in 0..BURST {
                number += 1;
                let mut bytes = template.to_vec();
                bytes[..4].copy_from_slice(b"spin");
                bytes[4..8].copy_from_slice(&number.to_be_bytes());
                let local = SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), 500);
                let remote = SocketAddr::new(spoofed(number), 500);
                state.inward.inject(now, Path { local, remote }, bytes);
            }
        }
        std::thread::sleep(PAUSE);
    }
    engine.until("the end of the flood", |state| {
        ensure!(state.inward.idle() && state.out.idle(), "not yet");
        Ok(())
    })
}

/// Bytes from and to each address that nobody has, as they passed our sockets.
fn passed(state: &State) -> BTreeMap<IpAddr, (usize, usize)> {
    let mut passed = BTreeMap::new();
    for datagram in &state.wire {
        let remote = datagram.path.remote.ip();
        if remote == IpAddr::from([192, 0, 2, 2]) {
            continue;
        }
        let (came, went): &mut (usize, usize) = passed.entry(remote).or_default();
        match datagram.direction {
            Direction::In => *came += datagram.bytes.len(),
            Direction::Out => *went += datagram.bytes.len(),
        }
    }
    passed
}

fn no_more_out_than_in(engine: &Ours) -> Result<()> {
    let passed = passed(&engine.state());
    ensure!(passed.len() == usize::from(PEERS), "{} addresses", passed.len());
    for (address, (came, went)) in &passed {
        ensure!(went <= came, "{went} bytes to {address}, from which {came} came");
    }
    ensure!(passed.values().any(|(_, went)| *went > 0), "none was answered at all");
    Ok(())
}

fn tidy(cable: &Cable, engine: Ours) -> Result<()> {
    drop(engine);
    cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
}

/// While the flood goes on charon connects, and is up within five seconds.
fn charon_connects_through(cable: &Cable, engine: &Ours, template: &[u8]) -> Result<()> {
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| pour(engine, template));
        // The crowd is there first.
        std::thread::sleep(Duration::from_secs(1));
        let begin = Instant::now();
        cable.charon.try_swanctl("--initiate --child net --timeout 10")?;
        engine.until("charon's pair", |state| {
            ensure!(state.installed.len() == 1, "{:?}", state.dropped.last());
            Ok(())
        })?;
        ensure!(begin.elapsed() < Duration::from_secs(5), "it took {:?}", begin.elapsed());
        flood.join().ok().context("the flood broke off")?
    })
}

/// RFC 7296 section 2.6.
#[test]
fn of_ike_sa_init_are_answered_by_cookies() -> Result<()> {
    let cable = Cable::new()?;
    cable.charon.load(&Settings::default())?;
    scenario(
        7,
        "200 half-open IKE SAs a second from spoofed sources: cookies, and the peer is up",
        Role::Responder,
    )
    .judge(|| {
        let template = first_message(&cable, &connection())?;
        let engine = crowded(&cable, Limits::default(), &connection())?;
        charon_connects_through(&cable, &engine, &template)?;
        cable.charon.logs("N(COOKIE)")?;
        let kept = engine.state().engine.isakmp_sas(Instant::now()).len();
        // As many as without cookies, and charon's.
        let most = Limits::default().cookie_threshold + 1;
        ensure!(kept <= most, "{kept} IKE SAs are kept");
        no_more_out_than_in(&engine)?;
        tidy(&cable, engine)
    })
}

/// The same cookies where there is no flood at all, and where it is the peer that asks for one.
#[test]
fn make_either_end_ask_for_a_cookie() -> Result<()> {
    let cable = Cable::new()?;
    scenario(7, "we demand a COOKIE", Role::Responder).judge(|| {
        cable.charon.load(&Settings::default())?;
        let picky = Limits { cookie_threshold: 0, ..limits() };
        let engine = Ours::start(&cable.ours, picky, waiting(connection()))?;
        cable.charon.try_swanctl("--initiate --child net --timeout 10")?;
        engine.settles(1)?;
        cable.charon.logs("N(COOKIE)")?;
        let state = engine.state();
        ensure!(state.engine.counters().contains_key("cookies_demanded"), "none");
        // The request without the cookie, which may have been said more than once, and the same with it.
        let requests = state.inward.known().iter().filter(|bytes| exchange(bytes) == Some(IKE_SA_INIT));
        ensure!(requests.count() == 2, "it was demanded again");
        drop(state);
        tidy(&cable, engine)
    })?;
    drop(cable);
    for (what, option) in [
        ("the peer demands a COOKIE, with one SA half open", "cookie_threshold = 1"),
        ("the peer demands a COOKIE, with one SA half open from here", "cookie_threshold_ip = 1"),
    ] {
        let cable = Cable::with(option)?;
        cable.charon.load(&Settings::default())?;
        scenario(7, what, Role::Initiator).judge(|| {
            // One that never goes on leaves charon with a half-open SA.
            let deaf = Ours::start(&cable.ours, limits(), waiting(connection()))?;
            let nothing_comes = Weather { seed: 1, loss: 100, repeated: 0, late: 0 };
            deaf.state().inward.set_weather(Some(nothing_comes));
            deaf.command(Command::InitiateChild(CHILD));
            cable.charon.logs("IKE_SA_INIT response")?;
            drop(deaf);
            let engine = Ours::start(&cable.ours, limits(), waiting(connection()))?;
            engine.command(Command::InitiateChild(CHILD));
            engine.settles(1)?;
            let returned = engine.state().engine.counters().get("cookies_returned").copied();
            ensure!(returned == Some(1), "{returned:?} cookies");
            tidy(&cable, engine)
        })?;
    }
    Ok(())
}

/// A responder of main mode has nothing like cookies: its answer is short, it is not repeated, and there are only so many.
#[test]
fn of_main_mode_get_no_more_than_they_send() -> Result<()> {
    let cable = Cable::new()?;
    let (ours, theirs) = classic();
    cable.charon.load(&theirs)?;
    scenario(19, "IKEv1, 200 first messages a second from spoofed sources", Role::Responder).judge(|| {
        let template = first_message(&cable, &ours)?;
        let engine = crowded(&cable, Limits::default(), &ours)?;
        charon_connects_through(&cable, &engine, &template)?;
        bounded_and_silent(&engine)?;
        no_more_out_than_in(&engine)?;
        tidy(&cable, engine)
    })
}

/// No more half-open SAs than the limit of each source, and nothing is said to them any more.
fn bounded_and_silent(engine: &Ours) -> Result<()> {
    let said = |engine: &Ours| passed(&engine.state()).values().map(|(_, went)| went).sum::<usize>();
    let before = said(engine);
    std::thread::sleep(Duration::from_secs(3));
    ensure!(said(engine) == before, "{} bytes went without being asked for", said(engine) - before);
    let kept = engine.state().engine.isakmp_sas(Instant::now()).len();
    let most = Limits::default().half_open_per_source * usize::from(PEERS) + 1;
    ensure!(kept <= most, "{kept} ISAKMP SAs are kept");
    Ok(())
}

fn aggressive() -> (Connection, Settings) {
    let (mut ours, theirs) = classic();
    ours.version = Version::V1(Ikev1 { aggressive_mode: true, ..Ikev1::default() });
    (ours, Settings { connection: "aggressive = yes", ..theirs })
}

#[test]
fn of_aggressive_mode_get_no_more_than_they_send() -> Result<()> {
    const VENDOR: u8 = 13;
    const NAT_DETECTION: u8 = 20;
    let cable = Cable::with(AGGRESSIVE_KEYS)?;
    let (ours, theirs) = aggressive();
    cable.charon.load(&theirs)?;
    let what = "IKEv1, aggressive mode: 200 first messages a second from spoofed sources";
    scenario(19, what, Role::Responder).judge(|| {
        let template = first_message(&cable, &ours)?;
        let engine = crowded(&cable, Limits::default(), &ours)?;
        charon_connects_through(&cable, &engine, &template)?;
        bounded_and_silent(&engine)?;
        no_more_out_than_in(&engine)?;
        tidy(&cable, engine)
    })?;
    // Without all that is only announced, the question is as short as it can be.
    let what = "IKEv1, aggressive mode: a first message that is shorter than any answer to it";
    scenario(19, what, Role::Responder).judge(|| {
        let mut bare = first_message(&cable, &ours)?;
        datagram::edit(&mut bare, |payloads| {
            payloads.retain(|payload| ![VENDOR, NAT_DETECTION].contains(&payload.kind));
        });
        let engine = crowded(&cable, Limits::default(), &ours)?;
        pour(&engine, &bare)?;
        let state = engine.state();
        ensure!(passed(&state).values().all(|(came, went)| *came > 0 && *went == 0), "{:?}", passed(&state));
        ensure!(
            state.dropped.iter().all(|why| *why == "aggressive_mode_answer_too_long"),
            "{:?}",
            state.dropped
        );
        ensure!(state.engine.isakmp_sas(Instant::now()).is_empty(), "something is kept");
        drop(state);
        cable.charon.try_swanctl("--initiate --child net --timeout 10")?;
        engine.settles(1)?;
        tidy(&cable, engine)
    })
}
