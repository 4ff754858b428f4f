//! Waiting for a descriptor of a kind that tokio has no type for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A non-blocking descriptor that can be waited for. It lives as long as this and is never exchanged.
#[derive(Debug)]
pub(crate) struct Readiness {
    inner: AsyncFd<OwnedFd>,
}

impl Readiness {
    /// Takes the descriptor over, in the context of a tokio runtime.
    #[expect(
        unsafe_code,
        reason = "tokio registers descriptors by number and cannot see that one stays open"
    )]
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        // SAFETY: an `OwnedFd` stays open and has the same number until it is dropped, and nothing here exchanges it.
        let inner = unsafe { AsyncFd::register(fd) }?;
        Ok(Self { inner })
    }

    /// Waits until there is something to read. It may be stale: the next attempt tells.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.inner.readable().await.map(|mut guard| guard.retain_ready())
    }

    /// Tries to read now; `WouldBlock` is an error like others.
    pub(crate) fn try_read<T>(&self, read: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<T> {
        self.inner.try_io(Interest::READABLE, |fd| read(fd.as_fd()))
    }

    /// Reads as soon as that is possible.
    pub(crate) async fn read<T>(
        &self,
        mut read: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        self.inner.async_io(Interest::READABLE, |fd| read(fd.as_fd())).await
    }

    /// Writes as soon as that is possible.
    pub(crate) async fn write<T>(
        &self,
        mut write: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        self.inner.async_io(Interest::WRITABLE, |fd| write(fd.as_fd())).await
    }
}
