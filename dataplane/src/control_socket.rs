//! The client of control's Unix socket: twins come by it, doorbells go both ways.
//!
//! Forwarding needs none of this: when control is away, the socket is tried again for ever, quietly.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use shm::socket_messages::{
    DESCRIPTORS_MOST, Doorbell, MESSAGE_BYTES_MOST, Message, MessageError, TwinLabel,
};

/// Between two attempts to reach control.
const RETRY: Duration = Duration::from_millis(250);

/// Why the connection ended.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A system call failed.
    #[error("{0}")]
    Io(#[from] Errno),
    /// Control closed it.
    #[error("control closed the connection")]
    Closed,
    /// Control sent something that is no message.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// A message came without the descriptor that it speaks of.
    #[error("a twin came without its descriptor")]
    NoDescriptor,
}

/// The connection to control, or the lack of one.
#[derive(Debug)]
pub struct ControlSocket {
    path: PathBuf,
    connection: Option<OwnedFd>,
    next_attempt: Instant,
}

impl ControlSocket {
    /// Not connected yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, connection: None, next_attempt: Instant::now() }
    }

    /// The connection, when there is one.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.connection.as_ref().map(AsFd::as_fd)
    }

    /// Connects if it is time to, and offers control the twins that are held already. Tells whether a connection
    /// was made just now.
    pub fn connect_if_due<'a>(
        &mut self,
        now: Instant,
        epoch: u64,
        twins: impl Iterator<Item = (TwinLabel, BorrowedFd<'a>)>,
    ) -> bool {
        if self.connection.is_some() || now < self.next_attempt {
            return false;
        }
        self.next_attempt = now + RETRY;
        match self.connect(epoch, twins) {
            Ok(connection) => {
                tracing::info!("connected to control");
                self.connection = Some(connection);
                true
            }
            Err(Errno::NOENT | Errno::CONNREFUSED | Errno::AGAIN) => false,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "control cannot be reached");
                false
            }
        }
    }

    fn connect<'a>(
        &self,
        epoch: u64,
        twins: impl Iterator<Item = (TwinLabel, BorrowedFd<'a>)>,
    ) -> rustix::io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(&self.path)?)?;
        let (labels, descriptors): (Vec<TwinLabel>, Vec<BorrowedFd<'a>>) = twins.unzip();
        // At least one message, also without twins.
        let batches = labels.len().div_ceil(DESCRIPTORS_MOST).max(1);
        for batch in 0..batches {
            let range = batch * DESCRIPTORS_MOST..labels.len().min((batch + 1) * DESCRIPTORS_MOST);
            let hello = Message::Hello {
                pid: std::process::id(),
                epoch,
                more: batch + 1 < batches,
                twins: labels[range.clone()].to_vec(),
            };
            send(socket.as_fd(), &hello, &descriptors[range])?;
        }
        Ok(socket)
    }

    /// The next message from control, with the descriptor of a twin; `None` when there is none now.
    ///
    /// # Errors
    /// The connection ended; it is closed and will be made anew.
    pub fn receive(&mut self) -> Result<Option<(Message, Option<OwnedFd>)>, SocketError> {
        let Some(connection) = &self.connection else { return Ok(None) };
        let result = receive(connection.as_fd());
        if result.is_err() {
            self.connection = None;
        }
        result
    }

    /// Tells control to look. When its queue is full it has been told often enough.
    pub fn ring(&mut self, doorbell: Doorbell) {
        let Some(connection) = &self.connection else { return };
        match send(connection.as_fd(), &Message::Doorbell(doorbell), &[]) {
            Ok(()) | Err(Errno::AGAIN) => {}
            // Reading will say the same, and closes.
            Err(error) => tracing::debug!(%error, "a doorbell did not reach control"),
        }
    }
}

fn send(socket: BorrowedFd<'_>, message: &Message, descriptors: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::MSGSIZE);
    }
    let bytes = message.encode();
    rustix::net::sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive(socket: BorrowedFd<'_>) -> Result<Option<(Message, Option<OwnedFd>)>, SocketError> {
    let mut bytes = [0u8; MESSAGE_BYTES_MOST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = match rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    ) {
        Ok(received) => received,
        Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // Whatever arrived is owned from here on, so that surplus descriptors are closed.
    let descriptors: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    if received.bytes == 0 {
        return Err(SocketError::Closed);
    }
    let message = Message::decode(&bytes[..received.bytes])?;
    let descriptor = descriptors.into_iter().next();
    if matches!(message, Message::Twin(_)) && descriptor.is_none() {
        return Err(SocketError::NoDescriptor);
    }
    Ok(Some((message, descriptor)))
}

#[cfg(test)]
mod tests;
