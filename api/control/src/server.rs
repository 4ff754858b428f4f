//! The Unix socket that the dataplane connects to: descriptors of twins both ways, and doorbells.
//!
//! One dataplane at a time: a new connection replaces the former one. Messages about twins are never lost while a
//! connection lives; doorbells are coalesced, since one says as much as ten.

mod connection;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use shm::socket_messages::{Doorbell, Message, TwinLabel};
use tokio::sync::{Notify, mpsc};

use crate::readiness::Readiness;

/// What the dataplane did on the socket.
#[derive(Debug)]
pub enum ServerEvent {
    /// It connected and said hello.
    Connected {
        /// The way back.
        link: DataplaneLink,
        /// Its process number.
        pid: u32,
        /// Its epoch.
        epoch: u64,
        /// The twins that it holds.
        twins: Vec<(TwinLabel, OwnedFd)>,
    },
    /// It asks to look at the region.
    Doorbell(Doorbell),
    /// A connection ended; a later one may already be there.
    Disconnected {
        /// Which one: [`DataplaneLink::connection`].
        connection: u64,
    },
}

/// The way to a connected dataplane. Dropping it ends the connection.
#[derive(Clone, Debug)]
pub struct DataplaneLink {
    connection: u64,
    messages: mpsc::UnboundedSender<(Message, Option<OwnedFd>)>,
    bell: Arc<Notify>,
}

impl DataplaneLink {
    /// Number of the connection, counted by this process.
    #[must_use]
    pub const fn connection(&self) -> u64 {
        self.connection
    }

    /// Sends a twin.
    pub fn send_twin(&self, label: TwinLabel, fd: OwnedFd) {
        // A closed channel is a connection that just ended: the next Hello brings everything again.
        let _ = self.messages.send((Message::Twin(label), Some(fd)));
    }

    /// Says that a twin is gone.
    pub fn send_gone(&self, label: &TwinLabel) {
        let _ = self.messages.send((Message::TwinGone { kind: label.kind, slot: label.slot }, None));
    }

    /// Rings: records were written.
    pub fn ring(&self) {
        self.bell.notify_one();
    }
}

/// The listening socket.
#[derive(Debug)]
pub struct Server {
    listener: Readiness,
    path: PathBuf,
}

impl Server {
    /// Listens at `path`, for processes of this user only. Whoever calls holds the region's lock, so what stands at
    /// `path` is left over from a control plane that is gone.
    ///
    /// # Errors
    /// The socket could not be made or bound.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        rustix::net::listen(&socket, 4)?;
        Ok(Self { listener: Readiness::new(socket)?, path: path.to_owned() })
    }

    /// Accepts dataplanes for ever and tells what they do, until nobody listens to `events`.
    pub async fn serve(self, events: mpsc::UnboundedSender<ServerEvent>) {
        let mut connections = 0;
        loop {
            match self.accept().await {
                Ok(socket) => {
                    connections += 1;
                    if let Err(error) = connection::greet(socket, connections, events.clone()) {
                        tracing::warn!(%error, "a connection to the dataplane's socket was refused");
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, path = %self.path.display(), "the dataplane's socket cannot accept");
                    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                }
            }
            if events.is_closed() {
                return;
            }
        }
    }

    async fn accept(&self) -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        self.listener.read(|listener| Ok(rustix::net::accept_with(listener, flags)?)).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Left over it would do no harm: the next control plane removes it.
        let _ = std::fs::remove_file(&self.path);
    }
}
