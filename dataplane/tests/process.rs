//! The whole process, with the test in the part of control.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::fs;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    SocketAddrUnix, SocketFlags, SocketType,
};
use rustix::process::{Pid, Signal, kill_process};
use shm::records::{Address, PortRecord, SaRecord, TrafficSelector, algorithm, direction, owner};
use shm::socket_messages::{MESSAGE_BYTES_MOST, Message, TwinKind, TwinLabel};
use shm::{BootId, Capacities, PortState, Refusal, Region, SaRuntime, Table, Writer, name_bytes, name_text};
use zerocopy::FromZeros;

/// Memory-backed, as the run directory has to be.
fn run_dir() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("cvdp").tempdir_in("/dev/shm").unwrap()
}

fn control(directory: &Path) -> (Region, Writer) {
    let path = directory.join("region");
    let (region, _) =
        Region::create_or_attach(&path, Capacities::small(), BootId::current().unwrap()).unwrap();
    let writer = region.writer().unwrap();
    (region, writer)
}

/// The process under test; killed when the test ends.
struct Dataplane(Child);

impl Dataplane {
    fn start(directory: &Path) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_culvert-dataplane"))
            .args(["--memory-mb", "256", "--log", "debug", "--run-dir"])
            .arg(directory)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    fn finish(mut self) -> Output {
        let status = self.0.wait().unwrap();
        let mut stderr = Vec::new();
        std::io::Read::read_to_end(self.0.stderr.as_mut().unwrap(), &mut stderr).unwrap();
        Output { status, stdout: Vec::new(), stderr }
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_ready(region: &Region, pid: u32) -> bool {
    region.status().is_some_and(|status| status.pid == pid && status.ready == 1)
}

fn port(name: &str, device: &str) -> PortRecord {
    let mut port = PortRecord::new_zeroed();
    port.present = 1;
    port.enabled = 1;
    port.mtu_bytes = 1500;
    port.name = name_bytes(name);
    port.device = name_bytes(device);
    port
}

fn address(ip: [u8; 4]) -> Address {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&ip);
    Address { bytes }
}

fn outbound_sa(generation: u64) -> SaRecord {
    let mut sa = SaRecord::new_zeroed();
    sa.present = 1;
    sa.direction = direction::OUTBOUND;
    sa.algorithm = algorithm::AES_256_GCM_16;
    sa.owner_kind = owner::TUNNEL;
    sa.family = 4;
    sa.spi = 0x1234_5678;
    sa.key_len = 32;
    sa.generation = generation;
    sa.local = address([192, 0, 2, 1]);
    sa.remote = address([192, 0, 2, 2]);
    sa.peer = sa.remote;
    let all = TrafficSelector::ANY_V4.alone();
    (sa.local_selectors, sa.remote_selectors) = (all, all);
    sa
}

#[test]
fn a_missing_run_directory_is_one_line_and_a_failure() {
    let output = Command::new(env!("CARGO_BIN_EXE_culvert-dataplane"))
        .args(["--run-dir", "/dev/shm/no-such-culvert-directory"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "culvert-dataplane: the run directory /dev/shm/no-such-culvert-directory does not exist\n"
    );
}

#[test]
fn help_and_version_say_what_it_is() {
    for (argument, expected) in [("--help", "--run-dir"), ("--version", env!("CARGO_PKG_VERSION"))] {
        let output = Command::new(env!("CARGO_BIN_EXE_culvert-dataplane")).arg(argument).output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains(expected), "{argument}");
    }
}

#[test]
fn it_waits_for_a_region_serves_it_and_stops_when_told() {
    let directory = run_dir();
    let dataplane = Dataplane::start(directory.path());
    std::thread::sleep(Duration::from_millis(300));
    let (region, mut writer) = control(directory.path());
    let version = writer.put(2, &port("red", "vdev:net_ring_red")).unwrap();
    let pid = dataplane.0.id();
    eventually("ready", || is_ready(&region, pid));
    eventually("the port is acknowledged", || region.ack(Table::Ports, 2).applied >= version);
    assert_eq!(region.ack(Table::Ports, 2).refused, None);
    eventually("the port is up", || {
        region.port_status(2).is_some_and(|status| status.state() == PortState::Up)
    });
    let status = region.status().unwrap();
    assert_eq!((name_text(&status.poll_mode), status.workers, status.epoch), ("adaptive", 1, 1));
    let beat = region.heartbeat_unix_ms();
    eventually("the heart beats", || region.heartbeat_unix_ms() > beat);

    let version = writer.clear(Table::Ports, 2).unwrap();
    eventually("the port is gone", || region.ack(Table::Ports, 2).applied >= version);
    assert_eq!(region.port_status(2).unwrap().state(), PortState::Absent);
    let version = writer.put(3, &port("red", "vdev:net_ring_red")).unwrap();
    eventually("its device can be used again", || region.ack(Table::Ports, 3).applied >= version);
    assert_eq!(region.ack(Table::Ports, 3).refused, None);

    dataplane.signal(Signal::TERM);
    let output = dataplane.finish();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_device_that_cannot_be_opened_is_refused_with_its_reason_and_hurts_no_other() {
    let directory = run_dir();
    let (region, mut writer) = control(directory.path());
    let wrong = writer.put(0, &port("black", "af_packet:absent0")).unwrap();
    let nonsense = writer.put(1, &port("other", "nonsense")).unwrap();
    let right = writer.put(2, &port("red", "vdev:net_null_red,no-rx=1")).unwrap();
    let dataplane = Dataplane::start(directory.path());
    for (slot, version) in [(0, wrong), (1, nonsense), (2, right)] {
        eventually("acknowledged", || region.ack(Table::Ports, slot).applied >= version);
    }
    for slot in [0, 1] {
        assert_eq!(region.ack(Table::Ports, slot).refused, Some(Refusal::DeviceFailed));
        let status = region.port_status(slot).unwrap();
        assert_eq!(status.state(), PortState::Failed);
        assert!(!name_text(&status.detail).is_empty());
    }
    assert_eq!(region.ack(Table::Ports, 2).refused, None);
    let pid = dataplane.0.id();
    eventually("ready", || is_ready(&region, pid));
}

#[test]
fn after_a_kill_the_next_process_resumes_an_outbound_sa_beyond_what_was_used() {
    let directory = run_dir();
    let (region, mut writer) = control(directory.path());
    let generation = writer.next_sa_generation();
    writer.put(5, &outbound_sa(generation)).unwrap();
    let first = Dataplane::start(directory.path());
    let pid = first.0.id();
    eventually("ready", || is_ready(&region, pid));
    let runtime = region.sa_runtime(5).unwrap();
    assert_eq!(runtime.next_sequence.load(Ordering::Relaxed), 1);
    first.signal(Signal::KILL);
    first.finish();

    let second = Dataplane::start(directory.path());
    let pid = second.0.id();
    eventually("ready again", || is_ready(&region, pid));
    assert!(runtime.next_sequence.load(Ordering::Relaxed) > SaRuntime::RESUME_JUMP);
    assert_eq!(region.epoch(), 2);
}

#[test]
fn a_second_dataplane_waits_while_the_first_lives() {
    let directory = run_dir();
    let (region, _writer) = control(directory.path());
    let first = Dataplane::start(directory.path());
    let pid = first.0.id();
    eventually("ready", || is_ready(&region, pid));
    let second = Dataplane::start(directory.path());
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(region.status().unwrap().pid, pid);
    first.signal(Signal::KILL);
    first.finish();
    let pid = second.0.id();
    eventually("the second takes over", || is_ready(&region, pid));
}

#[test]
fn a_new_region_in_the_place_of_the_old_one_is_taken_up() {
    let directory = run_dir();
    let (region, mut writer) = control(directory.path());
    writer.put(0, &port("red", "vdev:net_ring_red")).unwrap();
    let dataplane = Dataplane::start(directory.path());
    let pid = dataplane.0.id();
    eventually("ready", || is_ready(&region, pid));
    drop((writer, region));
    let other = Capacities { routes: 512, ..Capacities::small() };
    let path = directory.path().join("region");
    let (region, _) = Region::create_or_attach(&path, other, BootId::current().unwrap()).unwrap();
    let mut writer = region.writer().unwrap();
    let version = writer.put(1, &port("red", "vdev:net_ring_red")).unwrap();
    eventually("the new region is served", || is_ready(&region, pid));
    eventually("its port is open", || region.ack(Table::Ports, 1).applied >= version);
    assert_eq!(region.ack(Table::Ports, 1).refused, None);
}

struct Connection(OwnedFd);

impl Connection {
    fn accept(listener: &OwnedFd) -> Self {
        Self(rustix::net::accept(listener).unwrap())
    }

    fn receive(&self) -> (Message, Vec<OwnedFd>) {
        let mut bytes = [0u8; MESSAGE_BYTES_MOST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let length =
            rustix::net::recvmsg(&self.0, &mut parts, &mut ancillary, RecvFlags::empty()).unwrap().bytes;
        let descriptors = ancillary
            .drain()
            .filter_map(|message| match message {
                rustix::net::RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            })
            .flatten()
            .collect();
        (Message::decode(&bytes[..length]).unwrap(), descriptors)
    }

    fn send(&self, message: &Message, descriptors: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)));
        }
        let bytes = message.encode();
        rustix::net::sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::empty()).unwrap();
    }
}

fn listen(path: &Path) -> OwnedFd {
    let _ = fs::remove_file(path);
    let listener = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    rustix::net::bind(&listener, &SocketAddrUnix::new(path).unwrap()).unwrap();
    rustix::net::listen(&listener, 1).unwrap();
    listener
}

#[test]
fn twins_are_kept_for_a_control_that_comes_back() {
    let directory = run_dir();
    let (region, _writer) = control(directory.path());
    let socket = directory.path().join("dataplane.sock");
    let listener = listen(&socket);
    let dataplane = Dataplane::start(directory.path());
    let first = Connection::accept(&listener);
    let (hello, descriptors) = first.receive();
    let pid = dataplane.0.id();
    assert!(
        matches!(hello, Message::Hello { pid: told, more: false, ref twins, .. } if told == pid && twins.is_empty())
    );
    assert!(descriptors.is_empty());
    // A datagram socket stands for a TAP: it keeps packets whole.
    let (twin, _kernel) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::empty(), None).unwrap();
    let label = TwinLabel::new(TwinKind::Tap, 2, "red");
    first.send(&Message::Twin(label), &[twin.as_fd()]);
    std::thread::sleep(Duration::from_millis(300));
    drop((first, listener));

    let listener = listen(&socket);
    let second = Connection::accept(&listener);
    let (hello, descriptors) = second.receive();
    assert!(matches!(hello, Message::Hello { ref twins, .. } if twins == &[label]));
    assert_eq!(descriptors.len(), 1);
    second.send(&Message::TwinGone { kind: TwinKind::Tap, slot: 2 }, &[]);
    eventually("ready", || is_ready(&region, pid));
    std::thread::sleep(Duration::from_millis(300));
    drop((second, listener));
    let listener = listen(&socket);
    let (hello, _) = Connection::accept(&listener).receive();
    assert!(matches!(hello, Message::Hello { ref twins, .. } if twins.is_empty()));
}

#[test]
fn a_region_of_full_size_is_in_force_within_a_second() {
    let directory = run_dir();
    let path = directory.path().join("region");
    let (region, _) =
        Region::create_or_attach(&path, Capacities::default(), BootId::current().unwrap()).unwrap();
    let mut writer = region.writer().unwrap();
    let last = Capacities::default().sas - 1;
    writer.put(last, &outbound_sa(1)).unwrap();
    let dataplane = Dataplane::start(directory.path());
    let pid = dataplane.0.id();
    eventually("attached", || region.status().is_some_and(|status| status.pid == pid));
    let attached = Instant::now();
    eventually("ready", || is_ready(&region, pid));
    assert!(attached.elapsed() < Duration::from_secs(1), "{:?}", attached.elapsed());
    assert_eq!(region.ack(Table::Sas, last).refused, None);
}
