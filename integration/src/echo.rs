//! Echo requests and their answers (RFC 792, RFC 4443), sent from inside a namespace.
//!
//! `ping` leaves twice its longest round trip, or one interval, after its last request, once anything was answered: what
//! a busy machine has to wait longer for would count as lost, which no answer here does that comes within [`PATIENCE`].

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, Timeout, set_ip_mtu_discover, set_socket_timeout};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketType, ipproto, recv, sendto, socket};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::namespace::Namespace;

/// How long an answer is waited for after the last request.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Time between two requests, unless another is named.
pub const INTERVAL: Duration = Duration::from_millis(20);

/// What was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pings {
    /// Echo requests sent.
    pub sent: u64,
    /// Of these, those that were answered.
    pub received: u64,
}

impl Pings {
    /// Every request was answered, and there was at least one.
    pub fn all_answered(self) -> bool {
        self.sent > 0 && self.sent == self.received
    }

    /// Requests without an answer.
    pub fn lost(self) -> u64 {
        self.sent.saturating_sub(self.received)
    }
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct Requests {
    /// How many.
    pub count: u16,
    /// Time between two of them.
    pub interval: Duration,
    /// Bytes after the header of ICMP.
    pub payload_bytes: usize,
    /// Refused where they do not fit, rather than fragmented (IPv4).
    pub whole: bool,
}

impl Default for Requests {
    fn default() -> Self {
        Self { count: 1, interval: INTERVAL, payload_bytes: 56, whole: false }
    }
}

/// Begins to send from a namespace; the thread ends with what it counted.
pub fn start(from: &Namespace, to: &str, requests: Requests) -> Result<JoinHandle<Result<Pings>>> {
    inside(from, to, move |to| Stream::open(to, requests)?.run())
}

/// Runs in a namespace, on a thread of its own.
fn inside<T: Send + 'static>(
    from: &Namespace,
    to: &str,
    act: impl FnOnce(IpAddr) -> Result<T> + Send + 'static,
) -> Result<JoinHandle<Result<T>>> {
    let home = Path::new("/run/netns").join(from.name());
    let home = File::open(&home).with_context(|| format!("cannot open {}", home.display()))?;
    let to: IpAddr = to.parse().with_context(|| format!("not an address: {to}"))?;
    Ok(spawn(move || {
        move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Network))
            .context("cannot enter the namespace")?;
        act(to)
    }))
}

/// Asks again and again until something answers.
#[derive(Debug)]
pub struct Knocking(Stream);

impl Knocking {
    /// From a namespace; nothing is sent yet.
    pub fn start(from: &Namespace, to: &str) -> Result<Self> {
        let none = Requests { count: 0, ..Requests::default() };
        let opening = inside(from, to, move |to| Stream::open(to, none))?;
        opening.join().map_err(|_| anyhow!("the thread that opens a socket panicked"))?.map(Self)
    }

    /// One request more; whether any so far was answered within the time until the next is due.
    pub fn answered(&mut self) -> Result<bool> {
        let Self(stream) = self;
        let sequence = u16::try_from(stream.answered.len()).context("too many requests")?;
        stream.answered.push(false);
        let _ = sendto(&stream.socket, &stream.request(sequence), SendFlags::empty(), &stream.to);
        stream.listen_until(Instant::now() + KNOCK, |answered| answered.contains(&true))?;
        Ok(stream.answered.contains(&true))
    }
}

/// Sends from a namespace, and waits for the answers.
pub fn run(from: &Namespace, to: &str, requests: Requests) -> Result<Pings> {
    start(from, to, requests)?.join().map_err(|_| anyhow!("the thread that pings panicked"))?
}

/// Time between two requests of [`Knocking`].
const KNOCK: Duration = Duration::from_millis(200);

const HEADER: usize = 8;

#[derive(Debug)]
struct Stream {
    /// Not connected: errors of ICMP would keep what is sent next from leaving.
    socket: OwnedFd,
    to: SocketAddr,
    requests: Requests,
    /// Types of a request and of an answer.
    types: [u8; 2],
    identifier: u16,
    answered: Vec<bool>,
}

impl Stream {
    fn open(to: IpAddr, requests: Requests) -> Result<Self> {
        static NEXT: AtomicU16 = AtomicU16::new(1);
        let (family, protocol, types): (_, Protocol, _) = match to {
            IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, [8, 0]),
            IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, [128, 129]),
        };
        let socket = socket(family, SocketType::RAW, Some(protocol)).context("no socket for ICMP")?;
        if requests.whole && to.is_ipv4() {
            set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DO)?;
        }
        let (to, identifier) = (SocketAddr::new(to, 0), NEXT.fetch_add(1, Ordering::Relaxed));
        Ok(Self { socket, to, requests, types, identifier, answered: vec![false; requests.count.into()] })
    }

    fn run(mut self) -> Result<Pings> {
        let begin = Instant::now();
        let all = |answered: &[bool]| !answered.contains(&false);
        for sequence in 0..self.requests.count {
            self.listen_until(begin + self.requests.interval * u32::from(sequence), all)?;
            // One that cannot leave, for want of a route or of room, is one that is not answered.
            let _ = sendto(&self.socket, &self.request(sequence), SendFlags::empty(), &self.to);
        }
        self.listen_until(Instant::now() + PATIENCE, all)?;
        let received = self.answered.iter().filter(|answered| **answered).count() as u64;
        Ok(Pings { sent: self.requests.count.into(), received })
    }

    /// Takes in answers until then, or until they are enough.
    fn listen_until(&mut self, end: Instant, enough: impl Fn(&[bool]) -> bool) -> Result<()> {
        let mut buffer = [0; 2048];
        while !enough(&self.answered) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            set_socket_timeout(&self.socket, Timeout::Recv, Some(left.max(Duration::from_micros(1))))?;
            match recv(&self.socket, &mut buffer, RecvFlags::empty()).map_err(io::Error::from) {
                Ok((length, _)) => self.take(buffer.get(..length).unwrap_or_default()),
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn take(&mut self, packet: &[u8]) {
        // A socket for IPv4 hands out the IP header too.
        let header =
            if self.types[0] == 8 { usize::from(packet.first().map_or(0, |byte| byte & 15)) * 4 } else { 0 };
        let Some([kind, 0, _, _, id_high, id_low, high, low, ..]) = packet.get(header..) else { return };
        if *kind == self.types[1] && u16::from_be_bytes([*id_high, *id_low]) == self.identifier {
            let sequence = usize::from(u16::from_be_bytes([*high, *low]));
            if let Some(answered) = self.answered.get_mut(sequence) {
                *answered = true;
            }
        }
    }

    fn request(&self, sequence: u16) -> Vec<u8> {
        let mut message = vec![self.types[0], 0, 0, 0];
        message.extend(self.identifier.to_be_bytes());
        message.extend(sequence.to_be_bytes());
        message.resize(HEADER + self.requests.payload_bytes, 0x5a);
        // The kernel does that of ICMPv6 itself.
        let sum = checksum(&message).to_be_bytes();
        message[2..4].copy_from_slice(&sum);
        message
    }
}

/// RFC 1071.
fn checksum(message: &[u8]) -> u16 {
    let words = message.chunks(2).map(|word| match *word {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    #[expect(clippy::cast_possible_truncation, reason = "folded")]
    let folded = sum as u16;
    !folded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::veth::{self, End, Use};

    fn cable() -> (Namespace, Namespace) {
        let (near, far) = (Namespace::create("near").unwrap(), Namespace::create("far").unwrap());
        let end = |namespace| End { namespace, interface: "eth0" };
        veth::connect((end(&near), Use::Kernel), (end(&far), Use::Kernel)).unwrap();
        for (namespace, host) in [(&near, 1), (&far, 2)] {
            namespace.ip(&format!("addr add 10.9.9.{host}/24 dev eth0")).unwrap();
            namespace.ip(&format!("addr add 2001:db8:9::{host}/64 dev eth0 nodad")).unwrap();
        }
        (near, far)
    }

    #[test]
    fn answers_of_both_families_are_counted_and_silence_is_not() {
        let (near, _far) = cable();
        let requests = Requests { count: 20, ..Requests::default() };
        for to in ["10.9.9.2", "2001:db8:9::2"] {
            assert_eq!(run(&near, to, requests).unwrap(), Pings { sent: 20, received: 20 }, "{to}");
        }
        let silent = run(&near, "10.9.9.3", Requests { count: 3, ..requests }).unwrap();
        assert_eq!((silent.all_answered(), silent.lost()), (false, 3));
    }

    #[test]
    fn whoever_begins_to_answer_later_is_found() {
        let (near, far) = cable();
        far.sysctl("net.ipv4.icmp_echo_ignore_all", "1").unwrap();
        let mut knocking = Knocking::start(&near, "10.9.9.2").unwrap();
        assert!(!knocking.answered().unwrap());
        far.sysctl("net.ipv4.icmp_echo_ignore_all", "0").unwrap();
        assert!(knocking.answered().unwrap());
    }

    #[test]
    fn what_does_not_fit_is_refused_when_it_must_stay_whole() {
        let (near, _far) = cable();
        let sized = |payload_bytes| {
            run(&near, "10.9.9.2", Requests { payload_bytes, whole: true, ..Requests::default() })
        };
        assert!(sized(1472).unwrap().all_answered());
        assert!(!sized(1473).unwrap().all_answered());
    }

    /// Longer than any round trip before, and than the interval.
    #[test]
    fn an_answer_that_comes_late_is_an_answer() {
        const COUNT: u16 = 10;
        let (near, far) = cable();
        far.sysctl("net.ipv4.icmp_echo_ignore_all", "1").unwrap();
        let home = File::open(Path::new("/run/netns").join(far.name())).unwrap();
        let listening = spawn(move || {
            move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP)).unwrap()
        });
        let raw = listening.join().unwrap();
        let answering = spawn(move || {
            let near = SocketAddr::from(([10, 9, 9, 1], 0));
            let mut buffer = [0; 2048];
            for sequence in 0..COUNT {
                let (length, _) = recv(&raw, &mut buffer, RecvFlags::empty()).unwrap();
                let mut answer = buffer[20..length].to_vec();
                (answer[0], answer[2], answer[3]) = (0, 0, 0);
                let sum = checksum(&answer).to_be_bytes();
                answer[2..4].copy_from_slice(&sum);
                if sequence == COUNT - 1 {
                    std::thread::sleep(Duration::from_millis(300));
                }
                sendto(&raw, &answer, SendFlags::empty(), &near).unwrap();
            }
        });
        let pings = run(&near, "10.9.9.2", Requests { count: COUNT, ..Requests::default() }).unwrap();
        answering.join().unwrap();
        assert!(pings.all_answered(), "{pings:?}");
    }
}
