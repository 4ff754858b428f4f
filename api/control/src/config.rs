//! What the control plane is told at its start.

use std::path::PathBuf;
use std::time::Duration;

use shm::Capacities;

/// Settings of [`crate::run`].
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory of the region and the socket; in a tmpfs. Made when it is not there.
    pub run_dir: PathBuf,
    /// How long the dataplane may be silent before the twins lose their carrier, so that routing goes elsewhere.
    pub away_after: Duration,
    /// How often everything is compared anew without a reason.
    pub resync_every: Duration,
    /// Delete all SAs, telling the peers, when asked to stop. Off, the dataplane goes on with them, and the next
    /// control plane takes them over.
    pub delete_sas_on_exit: bool,
    capacities: Capacities,
    #[cfg(feature = "key-log")]
    pub(crate) ike_key_log: Option<PathBuf>,
}

impl Config {
    /// The usual settings with a run directory.
    #[must_use]
    pub fn new(run_dir: impl Into<PathBuf>) -> Self {
        Self {
            run_dir: run_dir.into(),
            away_after: Duration::from_secs(3),
            resync_every: Duration::from_secs(30),
            delete_sas_on_exit: false,
            capacities: Capacities::default(),
            #[cfg(feature = "key-log")]
            ike_key_log: None,
        }
    }

    /// Other sizes of the tables.
    #[must_use]
    pub fn with_capacities(mut self, capacities: Capacities) -> Self {
        self.capacities = capacities;
        self
    }

    /// Appends the keys of IKE SAs to this file as they are made.
    #[cfg(feature = "key-log")]
    #[must_use]
    pub fn with_ike_key_log(mut self, file: Option<PathBuf>) -> Self {
        self.ike_key_log = file;
        self
    }

    /// Sizes of the tables.
    #[must_use]
    pub const fn capacities(&self) -> Capacities {
        self.capacities
    }

    pub(crate) fn region(&self) -> PathBuf {
        self.run_dir.join("region")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.run_dir.join("dataplane.sock")
    }

    pub(crate) fn wires(&self) -> PathBuf {
        self.run_dir.join("wires")
    }
}
