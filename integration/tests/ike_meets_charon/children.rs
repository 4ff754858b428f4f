//! None, two, a hundred and too many children of one IKE SA.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ike::{ChildId, Command, Connection, Event, Limits, TrafficSelector};
use integration::interop::Role;

use crate::cable::{Cable, connection, host, limits, scenario};
use crate::charon::{Settings, child};
use crate::ours::Ours;

const CROWD: u16 = 100;

/// UDP of one port between the two hosts.
fn port(address: &str, port: u16) -> TrafficSelector {
    TrafficSelector { protocol: 17, ports: (port, port), ..host(address) }
}

/// So many children, each of a port of its own.
fn with_children(count: u16, start: bool) -> Connection {
    let mut connection = connection();
    let template = connection.children.remove(0);
    connection.children = (1..=count)
        .map(|number| {
            let mut child = template.clone();
            child.id = ChildId(number.into());
            child.start = start;
            child.local_selectors = vec![port("10.1.0.1", number)];
            child.remote_selectors = vec![port("10.2.0.1", number)];
            child
        })
        .collect();
    connection
}

fn settings(count: u16, more: &'static str) -> Settings {
    let children = (1..=count).map(|number| {
        let (local, remote) = (format!("10.2.0.1/32[udp/{number}]"), format!("10.1.0.1/32[udp/{number}]"));
        child(&format!("net{number}"), &local, &remote, "")
    });
    Settings { children: children.collect(), connection: more, ..Settings::default() }
}

fn tidy(cable: &Cable, engine: Ours) -> Result<()> {
    drop(engine);
    cable.charon.try_swanctl("--terminate --ike far --force --timeout 1").map(drop)
}

/// charon shows one IKE SA with so many children, and each of ours is among them.
fn agree(cable: &Cable, engine: &Ours, count: usize) -> Result<()> {
    engine.settles(count)?;
    let shown = cable.charon.swanctl("--list-sas")?;
    ensure!(shown.matches("ESTABLISHED").count() == 1, "{shown}");
    ensure!(shown.matches("INSTALLED").count() == count, "{shown}");
    let state = engine.state();
    for pair in state.installed.values() {
        ensure!(shown.contains(&format!("out {:08x}", pair.spi_in)), "{:08x} in {shown}", pair.spi_in);
    }
    Ok(())
}

/// RFC 6023: an IKE SA alone first, and its child when it is wanted.
#[test]
fn none_at_first() -> Result<()> {
    let cable = Cable::new()?;
    scenario(37, "an IKE SA without a child (RFC 6023), then the child", Role::Responder).judge(|| {
        cable.charon.load(&settings(1, "childless = force"))?;
        let engine = cable.engine(with_children(1, false))?;
        cable.charon.swanctl("--initiate --ike far --timeout 10")?;
        engine.event("an IKE SA", |event| matches!(event, Event::IkeUp { .. }).then_some(()))?;
        let spi_i = engine.settles(0)?.spi_i;
        let shown = cable.charon.swanctl("--list-sas")?;
        ensure!(shown.contains("ESTABLISHED") && !shown.contains("INSTALLED"), "{shown}");
        ensure!(engine.state().engine.counters().get("childless") == Some(&1), "it had a child");
        cable.charon.swanctl("--initiate --child net1 --timeout 10")?;
        agree(&cable, &engine, 1)?;
        ensure!(engine.settles(1)?.spi_i == spi_i, "another IKE SA");
        tidy(&cable, engine)
    })?;
    scenario(37, "an IKE SA without a child (RFC 6023), and ours is asked for by us", Role::Responder).judge(
        || {
            let engine = cable.engine(with_children(1, false))?;
            cable.charon.swanctl("--initiate --ike far --timeout 10")?;
            engine.settles(0)?;
            engine.command(Command::InitiateChild(ChildId(1)));
            agree(&cable, &engine, 1)?;
            tidy(&cable, engine)
        },
    )
}

#[test]
fn two_and_a_hundred() -> Result<()> {
    let cable = Cable::new()?;
    for (what, count) in [("a second child on the same IKE SA", 2), ("100 children on one IKE SA", CROWD)] {
        cable.charon.load(&settings(count, ""))?;
        scenario(37, what, Role::Initiator).judge(|| {
            let engine = cable.engine(with_children(count, true))?;
            agree(&cable, &engine, count.into())?;
            tidy(&cable, engine)
        })?;
        scenario(37, what, Role::Responder).judge(|| {
            let engine = cable.engine(with_children(count, false))?;
            for number in 1..=count {
                cable.charon.swanctl(&format!("--initiate --child net{number} --timeout 10"))?;
            }
            agree(&cable, &engine, count.into())?;
            tidy(&cable, engine)
        })?;
    }
    Ok(())
}

/// RFC 7296 section 1.3: NO_ADDITIONAL_SAS; what is there stays, and rekeys go on.
#[test]
fn more_than_we_bear_are_refused() -> Result<()> {
    let cable = Cable::new()?;
    scenario(37, "NO_ADDITIONAL_SAS at our limit", Role::Responder).judge(|| {
        cable.charon.load(&settings(3, ""))?;
        let few = Limits { children_per_ike_sa: 2, ..limits() };
        let engine = Ours::start(&cable.ours, few, with_children(3, false))?;
        for number in 1..=2 {
            cable.charon.swanctl(&format!("--initiate --child net{number} --timeout 10"))?;
        }
        agree(&cable, &engine, 2)?;
        let log = cable.charon.log()?.len();
        cable.charon.try_swanctl("--initiate --child net3 --timeout 10")?;
        cable.charon.logs_after(log, "NO_ADDITIONAL_SAS")?;
        agree(&cable, &engine, 2)?;
        let old = *engine.state().installed.keys().next().context("no pair")?;
        cable.charon.swanctl("--rekey --child net1")?;
        cable.charon.swanctl("--rekey --child net2")?;
        engine.until("the rekey of both", |state| {
            let gone = !state.installed.contains_key(&old) && state.pairs.len() == 4;
            ensure!(gone && state.installed.len() == 2, "{:x?}", state.installed.keys());
            Ok(())
        })?;
        agree(&cable, &engine, 2)?;
        let up = engine.state().engine.isakmp_sas(Instant::now()).len();
        ensure!(up == 1, "{up} IKE SAs");
        tidy(&cable, engine)
    })
}
