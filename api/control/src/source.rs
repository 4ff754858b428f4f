//! Where desired state comes from.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use model::Desired;
use tokio::sync::{Notify, mpsc};

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

/// Reads desired state in a task of its own, so that a slow store delays nothing: once for each time that it is asked,
/// but never twice at once, and again after a while when it failed.
pub(crate) struct Loader {
    asked: Arc<Notify>,
    loaded: mpsc::Receiver<(u64, Result<Desired, SourceError>)>,
}

impl Loader {
    /// Starts the task. `moves` tells how often the desired state has moved; a reading bears its value from before it.
    pub(crate) fn start(source: impl DesiredSource, moves: impl Fn() -> u64 + Send + 'static) -> Self {
        const AGAIN_AFTER: Duration = Duration::from_secs(1);
        let asked = Arc::new(Notify::new());
        let (sender, loaded) = mpsc::channel(1);
        let ask = Arc::clone(&asked);
        tokio::spawn(async move {
            loop {
                ask.notified().await;
                loop {
                    let as_of = moves();
                    let result = source.load().await;
                    let failed = result.is_err();
                    if sender.send((as_of, result)).await.is_err() {
                        return;
                    }
                    if !failed {
                        break;
                    }
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            }
        });
        Self { asked, loaded }
    }

    /// Asks for a reading that begins after this call.
    pub(crate) fn ask(&self) {
        self.asked.notify_one();
    }

    /// The next reading, and how often the desired state had moved when it began.
    pub(crate) async fn loaded(&mut self) -> Option<(u64, Result<Desired, SourceError>)> {
        self.loaded.recv().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[tokio::test(start_paused = true)]
    async fn a_store_that_fails_is_asked_again_and_questions_in_between_are_one() {
        let readings = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&readings);
        let source = move || {
            let reading = count.fetch_add(1, Ordering::Relaxed);
            async move {
                match reading {
                    0 => Err(std::io::Error::other("busy")),
                    generation => Ok(Desired { generation, ..Desired::default() }),
                }
            }
        };
        let mut loader = Loader::start(source, || 3);
        loader.ask();
        assert!(loader.loaded().await.expect("an answer").1.is_err());
        for _ in 0..5 {
            loader.ask();
        }
        for expected in [1, 2] {
            let (moves, desired) = loader.loaded().await.expect("an answer");
            assert_eq!((moves, desired.expect("a desired state").generation), (3, expected));
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(readings.load(Ordering::Relaxed), 3);
    }
}
