use super::*;
use rustix::net::{accept, bind, listen, socket};
use shm::socket_messages::TwinKind;

struct Control {
    listener: OwnedFd,
    directory: tempfile::TempDir,
}

impl Control {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { listener: Self::listen(&directory.path().join("s")), directory }
    }

    fn listen(path: &std::path::Path) -> OwnedFd {
        let listener = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
        bind(&listener, &SocketAddrUnix::new(path).unwrap()).unwrap();
        listen(&listener, 1).unwrap();
        listener
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("s")
    }
}

fn later() -> Instant {
    Instant::now() + RETRY
}

fn label(slot: u32) -> TwinLabel {
    TwinLabel::new(TwinKind::Tun, slot, "tunnel1")
}

#[test]
fn without_control_nothing_happens_until_it_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let mut client = ControlSocket::new(path.clone());
    assert!(!client.connect_if_due(Instant::now(), 1, std::iter::empty()));
    assert!(client.receive().unwrap().is_none());
    client.ring(Doorbell::Events);
    let _listener = Control::listen(&path);
    assert!(!client.connect_if_due(Instant::now(), 1, std::iter::empty()), "not due yet");
    assert!(client.connect_if_due(later(), 1, std::iter::empty()));
}

#[test]
fn held_twins_are_offered_with_their_descriptors_in_batches() {
    let control = Control::new();
    let file = std::fs::File::open("/dev/null").unwrap();
    let mut client = ControlSocket::new(control.path());
    let twins = (0..300).map(|slot| (label(slot), file.as_fd()));
    assert!(client.connect_if_due(Instant::now(), 7, twins));
    let peer = accept(&control.listener).unwrap();
    let mut offered = 0;
    for expected_more in [true, false] {
        let mut bytes = [0u8; MESSAGE_BYTES_MOST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MOST))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let length =
            rustix::net::recvmsg(&peer, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC).unwrap().bytes;
        let descriptors: usize = ancillary
            .drain()
            .map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => descriptors.count(),
                _ => 0,
            })
            .sum();
        match Message::decode(&bytes[..length]).unwrap() {
            Message::Hello { epoch, more, twins, .. } => {
                assert_eq!((epoch, more, twins.len()), (7, expected_more, descriptors));
                offered += descriptors;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(offered, 300);
}

#[test]
fn a_twin_comes_with_its_descriptor_and_not_without() {
    let control = Control::new();
    let mut client = ControlSocket::new(control.path());
    assert!(client.connect_if_due(Instant::now(), 1, std::iter::empty()));
    let peer = accept(&control.listener).unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    send(peer.as_fd(), &Message::Twin(label(3)), &[file.as_fd()]).unwrap();
    send(peer.as_fd(), &Message::Doorbell(Doorbell::Changes), &[]).unwrap();
    let (message, descriptor) = client.receive().unwrap().unwrap();
    assert_eq!((message, descriptor.is_some()), (Message::Twin(label(3)), true));
    let (message, descriptor) = client.receive().unwrap().unwrap();
    assert_eq!((message, descriptor.is_some()), (Message::Doorbell(Doorbell::Changes), false));
    assert!(client.receive().unwrap().is_none());
    send(peer.as_fd(), &Message::Twin(label(4)), &[]).unwrap();
    assert!(matches!(client.receive(), Err(SocketError::NoDescriptor)));
    assert!(client.descriptor().is_none(), "the connection is given up");
}

#[test]
fn a_control_that_went_away_is_connected_to_again() {
    let control = Control::new();
    let mut client = ControlSocket::new(control.path());
    assert!(client.connect_if_due(Instant::now(), 1, std::iter::empty()));
    drop(accept(&control.listener).unwrap());
    // A Hello that was not read turns the end into a reset.
    assert!(matches!(client.receive(), Err(SocketError::Closed | SocketError::Io(Errno::CONNRESET))));
    assert!(client.connect_if_due(later(), 1, std::iter::empty()));
}

#[test]
fn garbage_ends_the_connection_with_a_named_error() {
    let control = Control::new();
    let mut client = ControlSocket::new(control.path());
    assert!(client.connect_if_due(Instant::now(), 1, std::iter::empty()));
    let peer = accept(&control.listener).unwrap();
    rustix::io::write(&peer, &[200, 1, 2, 3]).unwrap();
    assert!(matches!(client.receive(), Err(SocketError::Message(MessageError::Kind(200)))));
}
