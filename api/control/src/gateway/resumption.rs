//! The IKE SAs of a former process that this one goes on with.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ike::{NotResumed, Resumable};

use super::Gateway;
use crate::compile::Compiled;

impl Gateway {
    /// Those that were kept, whose connection is as it was and whose pairs are in use. What is not among them is
    /// negotiated anew, as if nothing had been kept; its pairs serve until then.
    pub(super) fn resumables(&mut self, compiled: &Compiled, now: Instant) -> Vec<Resumable> {
        let kept = std::mem::take(&mut self.kept_ike_sas);
        if kept.is_empty() {
            return Vec::new();
        }
        // A clock before 1970 was never set: nobody knows how old they are.
        let Ok(since) = SystemTime::now().duration_since(UNIX_EPOCH) else { return Vec::new() };
        let fitting = |state: &[u8]| -> Result<Resumable, NotResumed> {
            let resumable = Resumable::read(state)?;
            let mut connections = compiled.connections.iter();
            let connection = connections.find(|connection| connection.id == resumable.connection());
            resumable.fits(connection.ok_or(NotResumed::Connection)?, since.as_secs())?;
            Ok(resumable)
        };
        let mut resumables = Vec::new();
        for state in &kept {
            match fitting(state) {
                Ok(resumable) => resumables.push(resumable),
                Err(cause) => tracing::info!(%cause, "an IKE SA of before the restart is not resumed"),
            }
        }
        let fit = resumables.len();
        self.executor.give_back(&mut resumables, now);
        if resumables.len() < fit {
            tracing::info!(
                number = fit - resumables.len(),
                "IKE SAs of before the restart are not resumed: the dataplane has other SAs than they"
            );
        }
        tracing::info!(
            kept = kept.len(),
            resumed = resumables.len(),
            "resuming the IKE SAs of before the restart"
        );
        resumables
    }
}
