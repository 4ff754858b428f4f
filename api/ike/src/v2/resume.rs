//! An IKE SA of an engine before this one, from what that kept of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::child::{ChildSa, ChildState};
use super::core::{Core, Followup};
use super::established::{DUPLICATE_CHECK, Established, Job, Request};
use super::fragments::Fragments;
use super::kept::{FORM, TERMS_LEN_BYTES, child_terms, terms};
use super::nat::Nat;
use super::payloads::our_spi;
use super::sa::{Closed, Ends, IkeSa, Inbound, RequestDigest, Stage};
use crate::cert::PeerCertificates;
use crate::crypto::{Datagrams, IkeKeys, Spis};
use crate::exchange::{ReceiveWindow, Retransmission, SendWindow, after};
use crate::wire::registry::notify;
use crate::wire::{Payload, Reader, WireError};
use crate::{Cause, ChildId, Connection, ConnectionId, Event, NotResumed, Path, RemoteProof, ResumablePair};

/// Times that a peer is asked again whether it still has the SA. Its pairs stay in use, whatever it says: to negotiate
/// anew costs no packet, but each moment of a peer that has lost everything does.
pub(super) const ASKED_AGAIN: u32 = 2;

/// An IKE SA that may be resumed, once.
pub struct Resumable {
    connection: ConnectionId,
    kept_unix_secs: u64,
    terms: [u8; TERMS_LEN_BYTES],
    ends: KeptEnds,
    keys: IkeKeys,
    lowest_nonce: Vec<u8>,
    send_next_id: u32,
    /// The request for a sign of life that was out.
    probe: Datagrams,
    receive_next_id: u32,
    last_request: Option<RequestDigest>,
    response: Datagrams,
    age: Duration,
    rekey_in: Duration,
    expires_in: Duration,
    children: Vec<KeptChild>,
}

/// An end of an SA, as far as it takes to say something as that end.
pub(crate) struct Voice {
    pub(crate) keys: IkeKeys,
    pub(crate) spis: Spis,
    pub(crate) initiator: bool,
    /// The id of its next request.
    pub(crate) next_id: u32,
    /// The id of the peer's next request, which it would answer.
    pub(crate) awaited_id: u32,
}

struct KeptEnds {
    initiator: bool,
    spis: Spis,
    path: Path,
    nat: Nat,
    fragments: bool,
    mobike: bool,
    additional: bool,
    peer_certificates: Option<Arc<PeerCertificates>>,
}

struct KeptChild {
    pair: ResumablePair,
    terms: [u8; TERMS_LEN_BYTES],
    lowest_nonce: Vec<u8>,
    ours: bool,
    soft_in: Duration,
    hard_in: Duration,
    replaces: Option<u32>,
    replaced_by: Option<u32>,
}

impl Resumable {
    /// Reads what came out as [`crate::Output::Keep`].
    ///
    /// # Errors
    /// It is of another program's form, or no state at all.
    pub fn read(state: &[u8]) -> Result<Self, NotResumed> {
        let mut reader = Reader::new(state);
        let resumable = Self::decode(&mut reader).map_err(|_| NotResumed::Form)?;
        if reader.is_empty() { Ok(resumable) } else { Err(NotResumed::Form) }
    }

    /// The connection that it belonged to.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// What it was kept under.
    pub fn name(&self) -> u64 {
        our_spi(self.ends.spis, self.ends.initiator)
    }

    /// What it takes to speak as this end of the SA.
    pub(crate) fn voice(self) -> Voice {
        let Self { ends: KeptEnds { initiator, spis, .. }, keys, send_next_id, receive_next_id, .. } = self;
        Voice { keys, spis, initiator, next_id: send_next_id, awaited_id: receive_next_id }
    }

    /// Its pairs, all of which the dataplane must have.
    pub fn pairs(&self) -> impl Iterator<Item = &ResumablePair> {
        self.children.iter().map(|child| &child.pair)
    }

    /// Notes that the child of the pair with this inbound SPI sends on it.
    pub fn sends_on(&mut self, spi_in: u32) {
        for child in self.children.iter_mut().filter(|child| child.pair.spi_in == spi_in) {
            child.pair.sends = true;
        }
    }

    /// Whether it may go on under the connection as it is now.
    ///
    /// # Errors
    /// Its time is over, or what was agreed with the peer is not what is wanted.
    pub fn fits(&self, connection: &Connection, unix_secs: u64) -> Result<(), NotResumed> {
        let sk_d = &self.keys.derive;
        if terms(sk_d, connection).as_slice() != self.terms.as_slice() {
            return Err(NotResumed::Connection);
        }
        let same = |child: &KeptChild| {
            let config = connection.children.iter().find(|config| config.id == child.pair.child);
            config.is_some_and(|config| child_terms(sk_d, config).as_slice() == child.terms.as_slice())
        };
        if !self.children.iter().all(same) {
            return Err(NotResumed::Connection);
        }
        let elapsed = self.elapsed(unix_secs);
        let over = |left: &Duration| *left <= elapsed;
        if over(&self.expires_in) || self.children.iter().any(|child| over(&child.hard_in)) {
            return Err(NotResumed::Expired);
        }
        match (&connection.authentication.remote, &self.ends.peer_certificates) {
            (RemoteProof::PreSharedKey(_), None) => Ok(()),
            (RemoteProof::Certificate(trust), Some(certificates)) => {
                certificates.judge_again(trust, Some(unix_secs)).map_err(NotResumed::Certificate)
            }
            _ => Err(NotResumed::Connection),
        }
    }

    /// Time since it was kept. A clock that was set back meanwhile counts as none.
    fn elapsed(&self, unix_secs: u64) -> Duration {
        Duration::from_secs(unix_secs.saturating_sub(self.kept_unix_secs))
    }

    pub(crate) fn age(&self) -> Duration {
        self.age
    }

    /// The SA; the peer is asked at once whether it still has it.
    pub(crate) fn revive(self, core: &mut Core, now: Instant, config: &Arc<Connection>) -> IkeSa {
        let elapsed = self.elapsed(core.unix_secs(now).unwrap_or(self.kept_unix_secs));
        let left = |time: Duration| after(now, time.saturating_sub(elapsed));
        let KeptEnds { initiator, spis, path, nat, fragments, mobike, additional, peer_certificates } =
            self.ends;
        let id = core.new_ike_sa_id();
        let fragments = Fragments::new(fragments);
        let connection = self.connection;
        let ends = Ends {
            id,
            connection,
            initiator,
            spis,
            path,
            nat,
            mobike,
            additional,
            peer_certificates,
            fragments,
        };
        core.by_spi.insert(ends.our_spi(), id);
        let windows = (self.send_next_id, self.receive_next_id);
        let mut established =
            Established::new(core, now, Arc::clone(config), self.keys, self.lowest_nonce, windows);
        established.unconfirmed = true;
        established.established_at = now.checked_sub(self.age.saturating_add(elapsed)).unwrap_or(now);
        established.rekey_at = left(self.rekey_in);
        established.expires_at = left(self.expires_in);
        established.receive = ReceiveWindow::resumed(self.receive_next_id, self.response);
        established.last_request = self.last_request;
        for kept in self.children {
            let Some(config) = config.children.iter().find(|config| config.id == kept.pair.child) else {
                continue;
            };
            let ResumablePair { child, spi_in, spi_out, sends } = kept.pair;
            core.esp.insert(spi_in, id);
            core.pair_up(child, spi_in, sends);
            let pair = ChildSa {
                config: config.clone(),
                spi_in,
                spi_out,
                state: ChildState::Installed,
                lowest_nonce: kept.lowest_nonce,
                ours: kept.ours,
                soft_at: left(kept.soft_in),
                hard_at: left(kept.hard_in),
                duplicate_check_at: Some(after(now, DUPLICATE_CHECK)),
                replaces: kept.replaces,
                replaced_by: kept.replaced_by,
                redundant: false,
            };
            // Its rekey was due already, and what waited for it is gone with the engine before.
            let rekey = pair.is_current() && kept.soft_in >= kept.hard_in;
            established.children.insert(spi_in, pair);
            if rekey {
                established.enqueue(now, Job::RekeyChild(spi_in));
            }
        }
        if self.rekey_in >= self.expires_in {
            established.enqueue(now, Job::RekeyIke);
        }
        established.ask(&ends, core, now, self.probe);
        let created_at = established.established_at;
        IkeSa { ends, created_at, init_request: None, stage: Stage::Established(Box::new(established)) }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        if reader.u8()? != FORM {
            return Err(WireError::BadVersion);
        }
        let connection = ConnectionId(reader.u64()?);
        let kept_unix_secs = reader.u64()?;
        let keys = IkeKeys::resume(reader)?;
        let terms = reader.array()?;
        let ends = decode_ends(reader)?;
        let lowest_nonce = reader.counted()?.to_vec();
        let send_next_id = reader.u32()?;
        let probe = decode_datagrams(reader)?;
        let receive_next_id = reader.u32()?;
        let last_request = RequestDigest::from_bytes(reader.counted()?);
        let response = decode_datagrams(reader)?;
        let [age, rekey_in, expires_in] = [duration(reader)?, duration(reader)?, duration(reader)?];
        let mut children = Vec::new();
        for _ in 0..reader.u32()? {
            children.push(decode_child(reader)?);
        }
        Ok(Self {
            connection,
            kept_unix_secs,
            terms,
            ends,
            keys,
            lowest_nonce,
            send_next_id,
            probe,
            receive_next_id,
            last_request,
            response,
            age,
            rekey_in,
            expires_in,
            children,
        })
    }
}

fn decode_ends(reader: &mut Reader<'_>) -> Result<KeptEnds, WireError> {
    let initiator = reader.u8()? == 1;
    let spis = Spis { initiator: reader.u64()?, responder: reader.u64()? };
    let mut address = || -> Result<SocketAddr, WireError> {
        let text = std::str::from_utf8(reader.counted()?).map_err(|_| WireError::BadValue)?;
        text.parse().map_err(|_| WireError::BadValue)
    };
    let path = Path { local: address()?, remote: address()? };
    let mut flag = || reader.u8().map(|flag| flag == 1);
    let nat = Nat { local: flag()?, remote: flag()?, forced: flag()? };
    let (fragments, mobike, additional) = (flag()?, flag()?, flag()?);
    let peer_certificates = PeerCertificates::resume(reader)?.map(Arc::new);
    Ok(KeptEnds { initiator, spis, path, nat, fragments, mobike, additional, peer_certificates })
}

fn decode_child(reader: &mut Reader<'_>) -> Result<KeptChild, WireError> {
    let child = ChildId(reader.u64()?);
    let terms = reader.array()?;
    let pair = ResumablePair { child, spi_in: reader.u32()?, spi_out: reader.u32()?, sends: false };
    let lowest_nonce = reader.counted()?.to_vec();
    let ours = reader.u8()? == 1;
    let (soft_in, hard_in) = (duration(reader)?, duration(reader)?);
    let mut other = || reader.u32().map(|spi| Some(spi).filter(|spi| *spi != 0));
    let (replaces, replaced_by) = (other()?, other()?);
    Ok(KeptChild { pair, terms, lowest_nonce, ours, soft_in, hard_in, replaces, replaced_by })
}

fn decode_datagrams(reader: &mut Reader<'_>) -> Result<Datagrams, WireError> {
    let mut datagrams = Vec::new();
    for _ in 0..reader.u32()? {
        datagrams.push(reader.counted()?.to_vec());
    }
    Ok(datagrams)
}

fn duration(reader: &mut Reader<'_>) -> Result<Duration, WireError> {
    reader.u64().map(Duration::from_millis)
}

impl Established {
    /// Asks the peer whether it has the SA: by the request that was out already, or by a new one.
    fn ask(&mut self, ends: &Ends, core: &mut Core, now: Instant, probe: Datagrams) {
        if probe.is_empty() {
            self.enqueue(now, Job::Probe);
            self.pump(ends, core, now);
            return;
        }
        core.transmit_all(ends.path, &probe);
        let again = Retransmission::new(probe, now, &core.limits, &mut core.random);
        self.send = SendWindow::resumed(self.send.next_id(), again, Request::Probe);
    }

    /// The peer has the SA.
    pub(super) fn confirm(&mut self, ends: &Ends, core: &mut Core) {
        if std::mem::take(&mut self.unconfirmed) {
            core.count("ike_sas_resumed");
            core.event(Event::IkeResumed { connection: ends.connection, ike_sa: ends.id });
            core.followups.push_back(Followup::Established(ends.id));
        }
    }

    /// The peer answers our question with INVALID_IKE_SPI (section 1.5). Anyone who saw the question can say so; what it
    /// brings about is a negotiation, in which only the peer can take part.
    pub(super) fn is_disowned(&self, ends: &Ends, inbound: &Inbound<'_>) -> bool {
        let header = &inbound.message.header;
        let is_answer = header.response && self.send.awaits(header.message_id) && inbound.path == ends.path;
        self.unconfirmed
            && is_answer
            && inbound.message.payloads.iter().any(
                |payload| matches!(payload, Payload::Notify(found) if found.kind == notify::INVALID_IKE_SPI),
            )
    }

    /// Ends an SA that the peer no longer has. Its pairs are the host's, until others take their place.
    pub(super) fn release(mut self: Box<Self>, core: &mut Core, now: Instant, detail: &str) -> Stage {
        core.count("ike_sas_not_resumed");
        for (spi_in, child) in std::mem::take(&mut self.children) {
            core.pair_released(child.id(), spi_in);
        }
        Closed::now(now, Some(Cause::NotResumed { detail: detail.to_owned() }))
    }
}
