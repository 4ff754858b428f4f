//! One connected dataplane: a task that reads, a task that writes.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use shm::socket_messages::{DESCRIPTORS_MOST, Doorbell, MESSAGE_BYTES_MOST, Message};
use tokio::sync::{Notify, mpsc};

use super::{DataplaneLink, ServerEvent};
use crate::readiness::Readiness;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("the dataplane closed the connection")]
    Closed,
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("the dataplane sent an unreadable message")]
    Message(#[from] shm::socket_messages::MessageError),
    #[error("the dataplane sent {found} descriptors where {expected} belong")]
    Descriptors { expected: usize, found: usize },
    #[error("the dataplane spoke out of turn")]
    OutOfTurn,
    #[error("a process of user {0} is not let in")]
    Stranger(u32),
}

/// Checks who connected and starts the two tasks.
pub(super) fn greet(
    socket: OwnedFd,
    connection: u64,
    events: mpsc::UnboundedSender<ServerEvent>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let peer = rustix::net::sockopt::socket_peercred(&socket)?;
    let own = rustix::process::geteuid();
    if peer.uid != own && !peer.uid.is_root() {
        return Err(ConnectionError::Stranger(peer.uid.as_raw()).into());
    }
    let socket = Arc::new(Readiness::new(socket)?);
    tokio::spawn(async move {
        match read(&socket, connection, &events).await {
            Ok(()) | Err(ConnectionError::Closed) => {
                tracing::info!(connection, "the dataplane disconnected");
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, cause, connection, "the connection to the dataplane ended");
            }
        }
        let _ = events.send(ServerEvent::Disconnected { connection });
    });
    Ok(())
}

async fn read(
    socket: &Arc<Readiness>,
    connection: u64,
    events: &mpsc::UnboundedSender<ServerEvent>,
) -> Result<(), ConnectionError> {
    let mut twins = Vec::new();
    let (pid, epoch) = loop {
        let (message, fds) = receive(socket).await?;
        let Message::Hello { pid, epoch, more, twins: labels } = message else {
            return Err(ConnectionError::OutOfTurn);
        };
        twins.extend(labels.into_iter().zip(fds));
        if !more {
            break (pid, epoch);
        }
    };
    let (sender, queue) = mpsc::unbounded_channel();
    let bell = Arc::new(Notify::new());
    let link = DataplaneLink { connection, messages: sender, bell: Arc::clone(&bell) };
    let writing = write(Arc::clone(socket), queue, bell);
    if events.send(ServerEvent::Connected { link, pid, epoch, twins }).is_err() {
        return Ok(());
    }
    let reading = async {
        loop {
            match receive(socket).await?.0 {
                Message::Doorbell(kind) => {
                    if events.send(ServerEvent::Doorbell(kind)).is_err() {
                        return Ok(());
                    }
                }
                _ => return Err(ConnectionError::OutOfTurn),
            }
        }
    };
    tokio::select! {
        result = reading => result,
        result = writing => result,
    }
}

/// Writes until the link is dropped.
async fn write(
    socket: Arc<Readiness>,
    mut queue: mpsc::UnboundedReceiver<(Message, Option<OwnedFd>)>,
    bell: Arc<Notify>,
) -> Result<(), ConnectionError> {
    loop {
        // Twins before doorbells: a record that is announced may name a twin that is on its way.
        let (message, fd) = tokio::select! {
            biased;
            next = queue.recv() => match next {
                Some(next) => next,
                None => return Ok(()),
            },
            () = bell.notified() => (Message::Doorbell(Doorbell::Changes), None),
        };
        send(&socket, &message, fd.as_ref()).await?;
    }
}

async fn send(socket: &Readiness, message: &Message, fd: Option<&OwnedFd>) -> Result<(), ConnectionError> {
    let bytes = message.encode();
    let fds: Vec<_> = fd.iter().map(|fd| fd.as_fd()).collect();
    let send = |socket: BorrowedFd<'_>| {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        }
        let sent =
            rustix::net::sendmsg(socket, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(sent)
    };
    socket.write(send).await?;
    Ok(())
}

/// The next message, with exactly the descriptors that belong to it.
async fn receive(socket: &Readiness) -> Result<(Message, VecDeque<OwnedFd>), ConnectionError> {
    let mut bytes = vec![0; MESSAGE_BYTES_MOST];
    let (len, fds) = socket
        .read(|socket| {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MOST))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let parts = &mut [IoSliceMut::new(&mut bytes)];
            let result = rustix::net::recvmsg(socket, parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
            let fds = ancillary.drain().filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            });
            Ok((result.bytes, fds.flatten().collect::<VecDeque<OwnedFd>>()))
        })
        .await?;
    if len == 0 {
        return Err(ConnectionError::Closed);
    }
    let message = Message::decode(&bytes[..len])?;
    if message.descriptors() != fds.len() {
        return Err(ConnectionError::Descriptors { expected: message.descriptors(), found: fds.len() });
    }
    Ok((message, fds))
}
