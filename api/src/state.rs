//! What every handler can reach.

use control::Handle;
use store::Store;

/// The gateway that is served. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    /// Desired state.
    pub store: Store,
    /// What runs.
    pub control: Handle,
    /// Refuse changes without `If-Match` or `If-None-Match: *`: 428.
    pub require_if_match: bool,
}
