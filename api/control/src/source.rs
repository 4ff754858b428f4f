//! Where desired state comes from.

use std::error::Error;
use std::future::Future;

use model::Desired;

/// Gives the desired state, with the keys of pre-shared keys opened.
///
/// Any `Fn() -> impl Future<Output = Result<Desired, _>>` is one.
pub trait DesiredSource: Send + Sync + 'static {
    /// Reads the whole desired state as of now.
    fn load(&self) -> impl Future<Output = Result<Desired, SourceError>> + Send;
}

/// Why desired state could not be read. Its `Display` goes to the log and to the health view.
pub type SourceError = Box<dyn Error + Send + Sync>;

impl<F, Loading, E> DesiredSource for F
where
    F: Fn() -> Loading + Send + Sync + 'static,
    Loading: Future<Output = Result<Desired, E>> + Send,
    E: Into<SourceError>,
{
    async fn load(&self) -> Result<Desired, SourceError> {
        self().await.map_err(Into::into)
    }
}
