//! What the audience sees: progress while things happen, then the table.

use std::io::{IsTerminal, Write, stdout};
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Result, bail};
use integration::leftovers::{KEEP_FILES, RUN_ROOTS};
use integration::wait::INTERRUPTED;

use crate::scene::Scene;

/// Progress on standard output.
pub(crate) struct Screen {
    started: Instant,
    colour: bool,
}

/// One line of the table.
struct Row {
    check: &'static str,
    expected: String,
    seen: String,
    held: bool,
}

/// What was checked, what was expected and what was seen.
pub(crate) struct Table(Vec<Row>);

/// What a check saw, and whether it is what was expected.
pub(crate) struct Seen {
    text: String,
    held: bool,
}

impl Seen {
    /// An observation that holds if `held`.
    pub(crate) fn new(held: bool, text: impl Into<String>) -> Self {
        Self { text: text.into(), held }
    }
}

impl Screen {
    /// Starts the clock.
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), colour: stdout().is_terminal() }
    }

    /// What all this is.
    pub(crate) fn introduce(&self) {
        println!(
            "\
Culvert: GRE over IPsec, managed by a REST API, forwarded by DPDK.

This sets up a small Internet in network namespaces, configures the gateways over HTTP, sends traffic, breaks things,
and compares what happens with what should. gamma is a Linux kernel of its own with strongSwan, kernel GRE and FRR.

  host-alpha -- alpha --+                          alpha-beta   tunnel protection, AES-256-GCM
                        +-- underlay -- gamma      alpha-gamma  crypto map, AES-128-GCM
  host-beta --- beta ---+   (sniffer)      |       OSPF over both tunnels
                                       host-gamma
"
        );
    }

    /// A remark.
    pub(crate) fn note(&self, text: &str) {
        println!("{:>6.1} s  {text}", self.started.elapsed().as_secs_f64());
    }

    /// Announces a step, runs it, and tells how long it took.
    pub(crate) fn step<T>(&self, text: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
        if INTERRUPTED.load(Ordering::Acquire) {
            bail!("interrupted");
        }
        print!("{:>6.1} s  {text:<72} ", self.started.elapsed().as_secs_f64());
        // A progress line that cannot be shown is no reason to stop.
        let _unseen = stdout().flush();
        let from = Instant::now();
        let outcome = run();
        println!(
            "{} ({:.1} s)",
            if outcome.is_ok() { "done" } else { "FAILED" },
            from.elapsed().as_secs_f64()
        );
        outcome
    }

    /// A check: a step whose outcome is a row of the table. Only an interrupt stops the demo.
    pub(crate) fn check(
        &self,
        table: &mut Table,
        check: &'static str,
        expected: impl Into<String>,
        run: impl FnOnce() -> Result<Seen>,
    ) -> Result<()> {
        if INTERRUPTED.load(Ordering::Acquire) {
            bail!("interrupted");
        }
        print!("{:>6.1} s  check: {check:<65} ", self.started.elapsed().as_secs_f64());
        // As in `step`.
        let _unseen = stdout().flush();
        let from = Instant::now();
        let seen = run().unwrap_or_else(|error| Seen::new(false, format!("{error:#}")));
        if !seen.held {
            KEEP_FILES.store(true, Ordering::Release);
        }
        println!("{} ({:.1} s)", self.verdict(seen.held), from.elapsed().as_secs_f64());
        table.0.push(Row { check, expected: expected.into(), seen: seen.text, held: seen.held });
        Ok(())
    }

    fn verdict(&self, held: bool) -> String {
        match (self.colour, held) {
            (true, true) => "\x1b[32mok\x1b[0m    ".to_owned(),
            (true, false) => "\x1b[1;31mFAILED\x1b[0m".to_owned(),
            (false, true) => "ok    ".to_owned(),
            (false, false) => "FAILED".to_owned(),
        }
    }

    /// Prints the table.
    pub(crate) fn table(&self, table: &Table) {
        const CHECK: usize = 40;
        const EXPECTED: usize = 36;
        const SEEN: usize = 44;
        let rule =
            format!("+-{}-+-{}-+-{}-+--------+", "-".repeat(CHECK), "-".repeat(EXPECTED), "-".repeat(SEEN));
        println!(
            "\n{rule}\n| {:<CHECK$} | {:<EXPECTED$} | {:<SEEN$} |        |\n{rule}",
            "check", "expected", "seen"
        );
        for row in &table.0 {
            let columns =
                [folded(row.check, CHECK), folded(&row.expected, EXPECTED), folded(&row.seen, SEEN)];
            let lines = columns.iter().map(Vec::len).max().unwrap_or(0);
            for line in 0..lines {
                let cell = |column: usize| columns[column].get(line).map_or("", String::as_str);
                let verdict = if line == 0 { self.verdict(row.held) } else { " ".repeat(6) };
                println!("| {:<CHECK$} | {:<EXPECTED$} | {:<SEEN$} | {verdict} |", cell(0), cell(1), cell(2));
            }
            println!("{rule}");
        }
        let held = table.0.iter().filter(|row| row.held).count();
        println!(
            "{held} of {} rows held, after {:.0} s",
            table.0.len(),
            self.started.elapsed().as_secs_f64()
        );
        if held < table.0.len() {
            println!(
                "logs of all daemons, and the captures, stay in {} until the next run",
                RUN_ROOTS.join(" and ")
            );
        }
    }

    /// What can be tried while everything runs.
    pub(crate) fn invite(&self, scene: &Scene) {
        let (alpha, beta) = (&scene.alpha.api, &scene.beta.api);
        let namespace = |label: &str| format!("{}-{label}", integration::leftovers::prefix());
        println!(
            "
Everything keeps running. API of alpha: {alpha_url}   of beta: {beta_url}   page to try it: {alpha_url}/docs
Token of alpha (admin): {token}

  A={alpha_url}
  ask() {{ curl -s --cacert {certificate} -H \"Authorization: Bearer {token}\" \"$@\"; echo; }}
  ask $A/v1/tunnels/to-beta/state
  ask $A/v1/ipsec-sas
  ask -X POST $A/v1/tunnels/to-beta/rekey
  ask $A/metrics | grep -v '^#'
  ip netns exec {host} ping 10.0.2.10                      # through the tunnel to beta's host
  ip netns exec {underlay} tcpdump -ni alpha                  # what the Internet sees of it
  ip netns exec {gateway} ip route                              # what OSPF learned
  vtysh --vty_socket {frr} -c 'show ip ospf neighbor'

Ctrl-C takes all of it down.",
            alpha_url = alpha.base(),
            beta_url = beta.base(),
            token = alpha.token(),
            certificate = scene.alpha.certificate().display(),
            host = namespace("host-alpha"),
            underlay = namespace("underlay"),
            gateway = namespace("alpha"),
            frr = scene.frr_alpha.dir().display(),
        );
    }
}

impl Table {
    /// No rows yet.
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    /// Whether every row held, and there are rows.
    pub(crate) fn held(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|row| row.held)
    }
}

/// Folds a text at blanks into lines of at most `width` characters (a longer word is cut).
fn folded(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let mut letters: Vec<char> = word.chars().collect();
        while !letters.is_empty() {
            let rest = letters.split_off(letters.len().min(width));
            let piece: String = std::mem::replace(&mut letters, rest).into_iter().collect();
            match lines.last_mut() {
                Some(line) if line.is_empty() => *line = piece,
                Some(line) if line.chars().count() + 1 + piece.chars().count() <= width => {
                    line.push(' ');
                    line.push_str(&piece);
                }
                _ => lines.push(piece),
            }
        }
    }
    lines
}
