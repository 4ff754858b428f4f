//! Two kinds of rtnetlink socket: one that asks and waits for the answer, one that listens.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, sockopt};

use super::message::{Message, Request, messages, u32_at};
use crate::readiness::Readiness;

/// Most bytes that the kernel puts in one datagram of a dump.
const DATAGRAM_BYTES: usize = 128 * 1024;

/// Asks the kernel, one request at a time. The kernel answers within the call that sends, so this does not wait for
/// anything but the kernel's own work.
pub(crate) struct Requests {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Requests {
    /// Opens a socket in this thread's network namespace.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        // Without it the kernel ignores the filters of a dump and sends all tables.
        socket.set_netlink_get_strict_chk(true)?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; DATAGRAM_BYTES] })
    }

    /// A descriptor in the same network namespace, for ioctls on its devices.
    pub(crate) fn namespace(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends a change and waits for the acknowledgement.
    ///
    /// # Errors
    /// What the kernel answered.
    pub(crate) fn change(
        &mut self,
        kind: u16,
        flags: i32,
        fill: impl FnOnce(Request) -> Request,
    ) -> io::Result<()> {
        let request = Request::new(kind, libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags);
        self.exchange(fill(request), |_| {})
    }

    /// Sends a question that is answered by at most one message.
    ///
    /// # Errors
    /// What the kernel answered.
    pub(crate) fn ask(
        &mut self,
        kind: u16,
        fill: impl FnOnce(Request) -> Request,
        each: impl FnMut(Message<'_>),
    ) -> io::Result<()> {
        self.exchange(fill(Request::new(kind, libc::NLM_F_REQUEST | libc::NLM_F_ACK)), each)
    }

    /// Reads a whole table, message by message.
    ///
    /// # Errors
    /// What the kernel answered; `EINTR` when the table changed meanwhile (ask again).
    pub(crate) fn dump(
        &mut self,
        kind: u16,
        fill: impl FnOnce(Request) -> Request,
        each: impl FnMut(Message<'_>),
    ) -> io::Result<()> {
        self.exchange(fill(Request::new(kind, libc::NLM_F_REQUEST | libc::NLM_F_DUMP)), each)
    }

    fn exchange(&mut self, request: Request, mut each: impl FnMut(Message<'_>)) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.socket.send_to(&request.finish(self.sequence), &SocketAddr::new(0, 0), 0)?;
        let mut interrupted = false;
        loop {
            let mut window = &mut self.buffer[..];
            let len = self.socket.recv(&mut window, 0)?;
            for message in messages(&self.buffer[..len.min(DATAGRAM_BYTES)]) {
                if message.sequence != self.sequence {
                    continue;
                }
                interrupted |= message.flags & libc::NLM_F_DUMP_INTR as u16 != 0;
                match i32::from(message.kind) {
                    libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                        // Both begin with a negated error number; 0 is an acknowledgement.
                        return match u32_at(message.payload, 0).unwrap_or(0) as i32 {
                            0 if interrupted => Err(io::ErrorKind::Interrupted.into()),
                            code if code < 0 => Err(io::Error::from_raw_os_error(-code)),
                            _ => Ok(()),
                        };
                    }
                    libc::NLMSG_NOOP => {}
                    _ => each(message),
                }
            }
        }
    }
}

/// Listens to what the kernel announces.
pub(crate) struct Announcements {
    socket: Readiness,
    buffer: Vec<u8>,
}

impl Announcements {
    /// Subscribes to links, addresses, routes, next hops and neighbours of both families, with room for a burst of
    /// tens of thousands of announcements.
    pub(crate) fn subscribe() -> io::Result<Self> {
        const GROUPS: [u32; 7] = [
            libc::RTNLGRP_LINK,
            libc::RTNLGRP_NEIGH,
            libc::RTNLGRP_IPV4_IFADDR,
            libc::RTNLGRP_IPV6_IFADDR,
            libc::RTNLGRP_IPV4_ROUTE,
            libc::RTNLGRP_IPV6_ROUTE,
            NEXTHOP_GROUP,
        ];
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            // NETLINK_ROUTE is number 0.
            None,
        )?;
        if sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_BYTES).is_err() {
            // Without CAP_NET_ADMIN in the first user namespace the kernel's limit holds; overruns are then likelier.
            sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER_BYTES)?;
        }
        let groups = GROUPS.into_iter().fold(0, |mask, group| mask | 1 << (group - 1));
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self { socket: Readiness::new(socket)?, buffer: vec![0; DATAGRAM_BYTES] })
    }

    /// Waits until there is something to read.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Hands over all that can be read now; `Ok(false)` when announcements were lost and all must be read again.
    pub(crate) fn drain(&mut self, mut each: impl FnMut(Message<'_>)) -> io::Result<bool> {
        let mut whole = true;
        loop {
            let buffer = &mut self.buffer;
            let received = self.socket.try_read(|socket| {
                Ok(rustix::net::recv(socket, buffer.as_mut_slice(), RecvFlags::empty())?.0)
            });
            match received {
                Ok(len) => messages(&self.buffer[..len.min(DATAGRAM_BYTES)]).for_each(&mut each),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(whole),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => whole = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

const NEXTHOP_GROUP: u32 = 32;
const RECEIVE_BUFFER_BYTES: usize = 32 << 20;
