//! The store as the place where the control plane keeps its IKE SAs.

use control::{IkeSaKeeper, KeptChanges, KeptState, SourceError};
use store::Store;

/// See [`IkeSaKeeper`].
pub struct KeptIkeSas(pub Store);

impl IkeSaKeeper for KeptIkeSas {
    async fn take(&self) -> Result<Vec<KeptState>, SourceError> {
        let taken = self.0.take_ike_sas().await?;
        Ok(taken.into_iter().map(|kept| kept.state).collect())
    }

    async fn keep(&self, changes: &KeptChanges) -> Result<(), SourceError> {
        Ok(self.0.keep_ike_sas(changes).await?)
    }
}
