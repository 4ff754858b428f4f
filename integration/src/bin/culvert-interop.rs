//! Writes `integration/INTEROP.md` from what the tests recorded: see [`integration::interop`].
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use integration::interop;

fn main() -> Result<()> {
    let rows = interop::recorded()?;
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("INTEROP.md");
    fs::write(&document, interop::document(&rows)).with_context(|| format!("cannot write {document:?}"))?;
    let failed = rows.iter().filter(|row| !row.has_passed()).count();
    println!("{}: {} rows, {failed} failed", document.display(), rows.len());
    if failed > 0 {
        bail!("not every scenario passed in its last run");
    }
    Ok(())
}
