//! The keys of IKE SAs in a file, for the witness of a test. Built only with the feature `key-log`, which nothing that is
//! shipped enables.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ike::key_log::Made;

/// Where keys go: by default nowhere.
#[derive(Default)]
pub(crate) struct KeyLog(Option<File>);

impl KeyLog {
    /// Goes on with a file, or begins it, for its owner alone.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).append(true).mode(0o600).open(path)?;
        tracing::warn!(
            ?path,
            "keys of IKE SAs are written to a file: whoever has it reads what they protect"
        );
        Ok(Self(Some(file)))
    }

    /// Writes keys, each whole or not at all.
    pub(crate) fn write(&mut self, made: &Made) {
        let Some(file) = &mut self.0 else { return };
        let rows = made.wireshark_rows();
        if rows.is_empty() {
            return;
        }
        if let Err(error) = file.write_all(rows.as_bytes()) {
            tracing::error!(%error, "keys of an IKE SA are not in the log of keys");
        }
    }
}
