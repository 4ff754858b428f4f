//! The record of what was judged by whom: a test writes a row for each scenario, peer and role; `culvert-interop`
//! makes `INTEROP.md` of them.

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::leftovers::KEEP_FILES;

const HEAD: &str = "\
# Interoperability

Each line is a scenario that a foreign daemon judged: strongSwan 5.9, libreswan 4.10 or OpenIKED 7.2, as Debian 12 packs them, or, for ML-KEM,
strongSwan 6.1 as Debian's next release (forky) packs it; on a Linux kernel of its own where traffic is involved. What passed is the peer's
word: its list of SAs, its kernel's state, its log. A test that fails may be tried twice more; its rows say at which try it passed.
`integration/interop` makes this file of what the last run of each test recorded.

| # | scenario | peer | our role | test | result |
|---|---|---|---|---|---|
";

const PASSED: &str = "passed";
const FAILED: &str = "failed";

/// What we were in a negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// We began.
    Initiator,
    /// The peer began.
    Responder,
}

impl Role {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Initiator, Self::Responder];

    /// The word of the table.
    pub fn word(self) -> &'static str {
        match self {
            Self::Initiator => "initiator",
            Self::Responder => "responder",
        }
    }
}

/// A scenario with a peer in a role.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Number in the matrix; scenarios sort by it.
    pub number: u8,
    /// What happens, in a few words.
    pub what: &'static str,
    /// Who judges.
    pub peer: &'static str,
    /// What we are.
    pub role: Role,
}

impl Scenario {
    /// Lets `body` happen and records how it went, for the running test; the files of one that failed are kept.
    pub fn judge<T>(self, body: impl FnOnce() -> Result<T>) -> Result<T> {
        // Recorded first as failed: a panic or a kill leaves it so.
        self.record(FAILED)?;
        let outcome = body();
        self.record(&if outcome.is_ok() { passed() } else { FAILED.to_owned() })?;
        if outcome.is_err() {
            KEEP_FILES.store(true, Ordering::Release);
        }
        outcome.with_context(|| format!("{} with {}, we as {}", self.what, self.peer, self.role.word()))
    }

    fn record(self, result: &str) -> Result<()> {
        let test = running_test()?;
        let row = Row {
            number: self.number.into(),
            what: self.what.to_owned(),
            peer: self.peer.to_owned(),
            role: self.role.word().to_owned(),
            test,
            result: result.to_owned(),
        };
        let dir = records()?;
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {dir:?}"))?;
        // A file for each row: tests run side by side, and again.
        let name: String = format!("{}-{}-{}-{}", row.test, row.number, row.peer, row.role);
        let name: String = name.chars().map(|char| if char.is_alphanumeric() { char } else { '-' }).collect();
        fs::write(dir.join(name + "-" + &digest(&row.what) + ".json"), row.json().to_string())
            .context("cannot write a row")
    }
}

/// The result of what passed. A test that the runner tries again says so: it is not as good as one that passes at once.
fn passed() -> String {
    match std::env::var("NEXTEST_ATTEMPT") {
        Ok(attempt) if attempt != "1" => format!("{PASSED} at try {attempt}"),
        _ => PASSED.to_owned(),
    }
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// Number of the scenario.
    pub number: u64,
    /// What happens.
    pub what: String,
    /// Who judges.
    pub peer: String,
    /// What we are.
    pub role: String,
    /// `file::test`.
    pub test: String,
    /// `passed`, with the number of the try if it was not the first; or `failed`.
    pub result: String,
}

impl Row {
    /// Whether it passed, at whatever try.
    pub fn has_passed(&self) -> bool {
        self.result.starts_with(PASSED)
    }

    fn json(&self) -> Value {
        let Self { number, what, peer, role, test, result } = self;
        json!({"number": number, "what": what, "peer": peer, "role": role, "test": test, "result": result})
    }

    fn parse(value: &Value) -> Result<Self> {
        let text = |field: &str| {
            value[field].as_str().map(str::to_owned).with_context(|| format!("no {field} in {value}"))
        };
        Ok(Self {
            number: value["number"].as_u64().with_context(|| format!("no number in {value}"))?,
            what: text("what")?,
            peer: text("peer")?,
            role: text("role")?,
            test: text("test")?,
            result: text("result")?,
        })
    }

    /// The row as a line of the document.
    pub fn line(&self) -> String {
        let Self { number, what, peer, role, test, result } = self;
        format!("| {number} | {what} | {peer} | {role} | `{test}` | {result} |")
    }

    /// The row of a line of the document; `None` for any other line.
    pub fn from_line(line: &str) -> Option<Self> {
        let cells: Vec<&str> = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
        let [number, what, peer, role, test, result] = cells.as_slice() else { return None };
        Some(Self {
            number: number.parse().ok()?,
            what: (*what).to_owned(),
            peer: (*peer).to_owned(),
            role: (*role).to_owned(),
            test: test.trim_matches('`').to_owned(),
            result: (*result).to_owned(),
        })
    }
}

/// The document with these rows.
pub fn document(rows: &[Row]) -> String {
    let mut text = HEAD.to_owned();
    for row in rows {
        text += &row.line();
        text.push('\n');
    }
    text
}

/// All rows recorded in this build directory, in the table's order.
pub fn recorded() -> Result<Vec<Row>> {
    let dir = records()?;
    let mut rows = Vec::new();
    for entry in fs::read_dir(&dir).with_context(|| format!("no records in {dir:?}: no test has run"))? {
        let text = fs::read_to_string(entry?.path())?;
        rows.push(Row::parse(&serde_json::from_str(&text)?)?);
    }
    rows.sort();
    Ok(rows)
}

/// Where rows are kept: `interop` in the build directory that this program is in.
fn records() -> Result<PathBuf> {
    let program = std::env::current_exe().context("this program has no path")?;
    let profile = program.ancestors().find(|dir| dir.join(".fingerprint").is_dir());
    let target = profile.and_then(Path::parent).context("this program is in no build directory")?;
    Ok(target.join("interop"))
}

/// `file::test` of the running test: the name of its program without cargo's hash, and of its thread.
fn running_test() -> Result<String> {
    let program = std::env::current_exe().context("this program has no path")?;
    let stem = program.file_stem().and_then(|stem| stem.to_str()).context("a program without a name")?;
    let file = stem.rsplit_once('-').map_or(stem, |(file, _)| file);
    let thread = std::thread::current();
    let test = thread.name().context("a scenario is judged on its test's own thread")?;
    Ok(format!("{file}::{test}"))
}

/// A short name for a text (FNV-1a), the same in every run.
fn digest(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_back_from_its_line() {
        let row = Row {
            number: 2,
            what: "PSK, transport mode".into(),
            peer: "libreswan".into(),
            role: "responder".into(),
            test: "gre_meets_libreswan::in_transport_mode".into(),
            result: "passed".into(),
        };
        assert_eq!(Row::from_line(&row.line()), Some(row.clone()));
        assert_eq!(Row::parse(&row.json()).unwrap(), row);
    }

    #[test]
    fn other_lines_are_no_rows() {
        for line in ["", "| # | scenario | peer | our role | test | result |", "|---|---|---|---|---|---|"] {
            assert_eq!(Row::from_line(line), None);
        }
    }
}
