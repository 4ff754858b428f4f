//! `INTEROP.md` is generated; what it names must exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use integration::interop::Row;

fn rows() -> Result<Vec<Row>> {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("INTEROP.md");
    let text = fs::read_to_string(&document).with_context(|| format!("no {document:?}"))?;
    let rows: Vec<Row> = text.lines().filter_map(Row::from_line).collect();
    let lines = text.lines().filter(|line| line.starts_with("| ")).count();
    ensure!(lines == rows.len() + 1, "{lines} lines of a table, {} rows", rows.len());
    Ok(rows)
}

/// The sources of a test program: one file, or a directory of them.
fn source(program: &str) -> Result<String> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let file = tests.join(format!("{program}.rs"));
    let place = if file.exists() { file } else { tests.join(program) };
    text_below(&place).with_context(|| format!("no test program {program}"))
}

/// What stands in a file, or in all files of a directory.
fn text_below(place: &Path) -> Result<String> {
    if place.is_file() {
        return Ok(fs::read_to_string(place)?);
    }
    fs::read_dir(place)?.map(|entry| text_below(&entry?.path())).collect()
}

#[test]
fn each_row_names_a_test() -> Result<()> {
    let rows = rows()?;
    ensure!(!rows.is_empty(), "an empty table");
    for row in rows {
        let (program, test) = row.test.split_once("::").with_context(|| row.test.clone())?;
        let function = format!("fn {}(", test.rsplit("::").next().unwrap_or_default());
        ensure!(source(program)?.contains(&function), "no {function} in {program}: {}", row.line());
    }
    Ok(())
}

#[test]
fn each_row_has_passed_and_stands_once() -> Result<()> {
    let mut seen = BTreeSet::new();
    for row in rows()? {
        ensure!(row.has_passed(), "{}", row.line());
        ensure!(seen.insert(row.line()), "twice: {}", row.line());
    }
    Ok(())
}
