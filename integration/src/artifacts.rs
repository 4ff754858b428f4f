//! Where the binaries under test are.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// Names the directory with `culvertd` and `culvert-dataplane`; by default, the one that this program was built into.
pub const DIRECTORY_VARIABLE: &str = "CULVERT_BIN_DIR";

/// Path of a binary of the product.
pub fn binary(name: &str) -> Result<PathBuf> {
    let dir = match env::var_os(DIRECTORY_VARIABLE) {
        Some(dir) => PathBuf::from(dir),
        None => {
            let own = env::current_exe().context("this program has no path")?;
            let dir = own.parent().context("this program is in no directory")?;
            // Tests are one level deeper.
            if dir.ends_with("deps") { dir.join("..") } else { dir.to_owned() }
        }
    };
    let path = dir.join(name);
    if !path.exists() {
        bail!(
            "no {}: build it (cargo build --workspace --all-features --bins), or name its directory in {DIRECTORY_VARIABLE}",
            path.display()
        );
    }
    path.canonicalize().with_context(|| format!("cannot resolve {}", path.display()))
}
