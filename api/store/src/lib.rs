//! Desired state in SQLite, and what the control plane keeps beyond its end.
//!
//! ```text
//! resources  kind, name -> generation, times, body (canonical JSON of a model type)
//! uses       which field of which resource names which other one; foreign keys both ways
//! sealed     secrets, AES-256-GCM under the master key, beside the resource that they belong to
//! tokens     bearer tokens, hashed
//! ike_sas    what outlives the control plane of IKE SAs, sealed as well; no part of the desired state
//! ```
//!
//! One connection writes, several read. A write is one transaction: precondition, references, the checks of
//! [`model::check`], rows; it is committed whole or not at all, and announced through [`Store::watch`].
#![forbid(unsafe_code)]

mod database;
mod desired;
mod error;
mod ike_sas;
mod master_key;
mod page;
mod resource;
mod seal;
mod sealed;
mod token;
mod uses;
mod write;

use std::path::Path;
use std::sync::Arc;

use model::Desired;
use tokio::sync::{Mutex, watch};

pub use database::Database;
pub use error::{OpenError, StoreError, User};
pub use ike_sas::KeptIkeSa;
pub use page::Page;
pub use resource::Stored;
pub use seal::SealError;
pub use token::{Caller, NewToken, Role, Token};
pub use write::{Precondition, Written};

use seal::Sealer;

/// The desired state of one gateway. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    database: Database,
    sealer: Sealer,
    /// What the last writer left, without secrets. Taken while a write is under way, so that a write that is cut off
    /// in the middle leaves nothing behind but the need to read again. Its lock orders the writers.
    cache: Mutex<Option<Desired>>,
    generation: watch::Sender<u64>,
}

impl Store {
    /// Opens `culvert.db` in `state_dir`, brings it to the newest schema, and takes the master key from
    /// `credentials_dir` (systemd's `$CREDENTIALS_DIRECTORY`) if there is one in it, otherwise from `state_dir`, where
    /// one is made at first start.
    ///
    /// # Errors
    /// [`OpenError`]: files that can't be read or made, a schema of a newer version, a master key that is not the
    /// one that sealed this database's secrets.
    pub async fn open(state_dir: &Path, credentials_dir: Option<&Path>) -> Result<Self, OpenError> {
        let database = Database::open(state_dir).await?;
        let sealer = master_key::sealer(&database, state_dir, credentials_dir).await?;
        let desired = desired::load(&database, None).await?;
        let generation = watch::Sender::new(desired.generation);
        let inner = Inner { database, sealer, cache: Mutex::new(Some(desired)), generation };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The database below, for tokens.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.inner.database
    }

    /// Everything, read in one transaction, with secrets opened: for the control plane alone.
    ///
    /// # Errors
    /// [`StoreError::Database`], and [`StoreError::Corrupt`] for a row that is no resource or a secret that does not
    /// open.
    pub async fn desired(&self) -> Result<Desired, StoreError> {
        desired::load(&self.inner.database, Some(&self.inner.sealer)).await
    }

    /// The newest generation, and a wake-up whenever it grows.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.inner.generation.subscribe()
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

/// Milliseconds since 1970.
fn unix_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
