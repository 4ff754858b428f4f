//! `docs/rfc` says which test holds the engine to which requirement; each of them must exist.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All sources below a directory.
fn sources(below: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(below)? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// Whether a source holds a test of this name.
fn has_test(text: &str, name: &str) -> bool {
    const ATTRIBUTES: usize = 200;
    let Some(at) = text.find(&format!("fn {name}(")) else { return false };
    let before = text.get(..at).unwrap_or_default();
    let from = before.char_indices().rev().nth(ATTRIBUTES).map_or(0, |(index, _)| index);
    before.get(from..).is_some_and(|attributes| attributes.contains("#[test]"))
}

/// The cells of a row, and where it stands.
fn rows() -> Result<Vec<(String, Vec<String>)>> {
    let mut rows = Vec::new();
    for entry in fs::read_dir(root().join("docs/rfc"))? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        for (number, line) in text.lines().enumerate().filter(|(_, line)| line.starts_with("| ")) {
            let cells = line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
            rows.push((format!("{}:{}", path.display(), number.saturating_add(1)), cells));
        }
    }
    Ok(rows)
}

/// The tests that a cell names: each `path::name`, where the path is the end of a source's without `.rs`.
fn tests_of(cell: &str) -> impl Iterator<Item = (&str, &str)> {
    cell.split('`').skip(1).step_by(2).filter_map(|word| word.rsplit_once("::"))
}

#[test]
fn each_requirement_names_a_test_or_a_decision() -> Result<()> {
    let rows = rows()?;
    ensure!(rows.len() > 100, "{} rows", rows.len());
    for (place, cells) in rows {
        let [section, requirement, proof] = cells.as_slice() else {
            anyhow::bail!("{place}: {} cells", cells.len());
        };
        if section == "section" {
            continue;
        }
        ensure!(!section.is_empty() && !requirement.is_empty(), "{place}: an empty cell");
        let decided = (1..=99).any(|page| proof.contains(&format!("page {page}")));
        ensure!(tests_of(proof).next().is_some() || decided, "{place}: neither a test nor a page: {proof}");
    }
    Ok(())
}

#[test]
fn each_test_that_is_named_exists() -> Result<()> {
    let mut found = Vec::new();
    for below in ["api", "dataplane", "integration"] {
        sources(&root().join(below), &mut found)?;
    }
    let texts: Vec<(String, String)> = found
        .iter()
        .map(|path| Ok((path.with_extension("").display().to_string(), fs::read_to_string(path)?)))
        .collect::<Result<_>>()?;
    for (place, cells) in rows()? {
        for (file, name) in cells.last().into_iter().flat_map(|proof| tests_of(proof)) {
            let ending = format!("/{file}");
            let mut named = texts.iter().filter(|(path, _)| path.ends_with(&ending)).peekable();
            named.peek().with_context(|| format!("{place}: no file {file}.rs"))?;
            ensure!(named.any(|(_, text)| has_test(text, name)), "{place}: no test {name} in {file}.rs");
        }
    }
    Ok(())
}
