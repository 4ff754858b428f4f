//! Shows the gateway at work: two Culvert gateways and a foreign one exchange routes and traffic over GRE over
//! IPsec, configured only through the REST API, and a table tells what was expected and what was seen.
//!
//! `deploy/demo` checks the machine, builds everything and starts this program.
#![forbid(unsafe_code)]

mod rows;
mod scene;
mod screen;

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::thread::{sleep, spawn};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use integration::leftovers;
use integration::wait::INTERRUPTED;
use scene::Scene;
use screen::{Screen, Table};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

const USAGE: &str = "usage: culvert-demo [--once]\n  --once  tear everything down after the table; exit 0 only if every row held";

fn main() -> ExitCode {
    let once = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [word] if word == "--once" => true,
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match demonstrate(once) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("\nculvert-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs it all; true if every row of the table held.
fn demonstrate(once: bool) -> Result<bool> {
    watch_for_interrupts()?;
    let screen = Screen::new();
    screen.introduce();
    let removed = leftovers::sweep().context("what a killed run left behind cannot be removed")?;
    if removed > 0 {
        screen.note(&format!("removed {removed} leftovers of a run that was killed"));
    }
    let mut table = Table::new();
    let mut scene = Scene::set(&screen)?;
    rows::all(&mut scene, &screen, &mut table)?;
    if once {
        rows::wire::last(scene, &screen, &mut table)?;
        screen.table(&table);
        return Ok(table.held());
    }
    rows::wire::so_far(&scene, &screen, &mut table)?;
    screen.table(&table);
    screen.invite(&scene);
    while !INTERRUPTED.load(Ordering::Acquire) {
        sleep(Duration::from_millis(100));
    }
    screen.note("taking everything down");
    drop(scene);
    Ok(table.held())
}

/// An interrupt ends the present wait; a guard for each thing that was made then takes it down.
fn watch_for_interrupts() -> Result<()> {
    if !is_root()? {
        bail!("needs root: it makes network namespaces and TUN devices");
    }
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot watch for Ctrl-C")?;
    spawn(move || {
        for _ in signals.forever() {
            INTERRUPTED.store(true, Ordering::Release);
        }
    });
    Ok(())
}

fn is_root() -> Result<bool> {
    Ok(integration::command::run("id", &["-u"])?.trim() == "0")
}
