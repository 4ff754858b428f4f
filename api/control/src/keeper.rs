//! Where the state of IKE SAs is kept beyond the end of this process.

use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use crate::source::SourceError;

/// State of one IKE SA; it bears keys.
pub type KeptState = Zeroizing<Vec<u8>>;

/// Changes of what is kept, by name: a state, or nothing from now on.
pub type KeptChanges = Vec<(u64, Option<KeptState>)>;

/// Keeps states of IKE SAs, sealed.
pub trait IkeSaKeeper: Send + Sync + 'static {
    /// Takes out all that is kept: what is taken is kept no longer, so that no state ever serves twice.
    fn take(&self) -> impl Future<Output = Result<Vec<KeptState>, SourceError>> + Send;

    /// Makes these changes, all of them or none; they last when this returns.
    fn keep(&self, changes: &KeptChanges) -> impl Future<Output = Result<(), SourceError>> + Send;
}

/// Keeps nothing: a restart negotiates anew.
impl IkeSaKeeper for () {
    async fn take(&self) -> Result<Vec<KeptState>, SourceError> {
        Ok(Vec::new())
    }

    async fn keep(&self, _: &KeptChanges) -> Result<(), SourceError> {
        Ok(())
    }
}

/// What became of changes.
pub(crate) enum Stored {
    /// They last.
    Done,
    /// They do not, for this reason; here they are again.
    Failed(KeptChanges, String),
}

/// The ends of the task that keeps.
pub(crate) struct Keeping {
    pub(crate) changes: mpsc::UnboundedSender<KeptChanges>,
    pub(crate) stored: mpsc::UnboundedReceiver<Stored>,
    /// Ends when nobody can send changes any more, and the last ones are stored.
    pub(crate) task: JoinHandle<()>,
}

/// Keeps in a task of its own, in order. After a failure it waits a while before it tries again.
pub(crate) fn start(keeper: impl IkeSaKeeper) -> Keeping {
    const PATIENCE: Duration = Duration::from_secs(3);
    const AGAIN_AFTER: Duration = Duration::from_secs(1);
    let (changes, mut to_store) = mpsc::unbounded_channel::<KeptChanges>();
    let (results, stored) = mpsc::unbounded_channel();
    let task = tokio::spawn(async move {
        let mut failed = false;
        while let Some(changes) = to_store.recv().await {
            if failed {
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            let result = match tokio::time::timeout(PATIENCE, keeper.keep(&changes)).await {
                Ok(result) => result.map_err(|error| error.to_string()),
                Err(_) => Err(format!("nothing was stored within {PATIENCE:?}")),
            };
            failed = result.is_err();
            let outcome = match result {
                Ok(()) => Stored::Done,
                Err(error) => Stored::Failed(changes, error),
            };
            if results.send(outcome).is_err() {
                return;
            }
        }
    });
    Keeping { changes, stored, task }
}
