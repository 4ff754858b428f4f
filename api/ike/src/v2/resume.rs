//! An IKE SA of an engine before this one, from what that kept of it.

use std::sync::Arc;
use std::time::Instant;

use super::child::{ChildSa, ChildState};
use super::core::{Core, Followup};
use super::established::{DUPLICATE_CHECK, Established, Job, Request};
use super::fragments::Fragments;
use super::sa::{Closed, Ends, IkeSa, Inbound, RequestDigest, Stage};
use crate::crypto::{Datagrams, IkeKeys, Secret, Spis};
use crate::exchange::{ReceiveWindow, Retransmission, SendWindow, after};
use crate::kept::pair::KeptPair;
use crate::kept::sa::{Clock, KeptSa};
use crate::wire::registry::notify;
use crate::wire::{Payload, Reader, WireError};
use crate::{Cause, ChildConfig, Connection, Event, ResumablePair};

/// An IKE SA of version 2 that may be resumed, once.
pub(crate) struct KeptIkeSa {
    pub(crate) sa: KeptSa,
    keys: IkeKeys,
    fragments: bool,
    mobike: bool,
    additional: bool,
    send_next_id: u32,
    /// The request for a sign of life that was out.
    probe: Datagrams,
    receive_next_id: u32,
    last_request: Option<RequestDigest>,
    response: Datagrams,
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

impl KeptIkeSa {
    /// The key of its terms: SK_d.
    pub(crate) fn key_of_terms(&self) -> &Secret {
        &self.keys.derive
    }

    /// What it takes to speak as this end of the SA.
    pub(crate) fn voice(self) -> Voice {
        let Self { sa: KeptSa { initiator, spis, .. }, keys, send_next_id, receive_next_id, .. } = self;
        Voice { keys, spis, initiator, next_id: send_next_id, awaited_id: receive_next_id }
    }

    /// The SA; the peer is asked at once whether it still has it.
    pub(crate) fn revive(self, core: &mut Core, now: Instant, config: &Arc<Connection>) -> IkeSa {
        let clock = self.sa.clock(now, core.unix_secs(now));
        let KeptSa { connection, initiator, spis, path, nat, peer_certificates, lowest_nonce, .. } = self.sa;
        let ends = Ends {
            id: core.new_ike_sa_id(),
            connection,
            initiator,
            spis,
            path,
            nat,
            mobike: self.mobike,
            additional: self.additional,
            peer_certificates,
            fragments: Fragments::new(self.fragments),
        };
        core.by_spi.insert(ends.our_spi(), ends.id);
        let windows = (self.send_next_id, self.receive_next_id);
        let mut established =
            Established::new(core, now, Arc::clone(config), self.keys, lowest_nonce, windows);
        established.unconfirmed = true;
        established.established_at = clock.began(self.sa.age);
        established.rekey_at = clock.due(self.sa.rekey_in);
        established.expires_at = clock.due(self.sa.expires_in);
        established.receive = ReceiveWindow::resumed(self.receive_next_id, self.response);
        established.last_request = self.last_request;
        for kept in self.sa.pairs {
            let Some(config) = config.children.iter().find(|config| config.id == kept.pair.child) else {
                continue;
            };
            let ResumablePair { child, spi_in, sends, .. } = kept.pair;
            core.esp.insert(spi_in, ends.id);
            core.pair_up(child, spi_in, sends);
            // Its rekey was due already, and what waited for it is gone with the engine before.
            let overdue = kept.soft_in >= kept.hard_in;
            let pair = child_sa(kept, config.clone(), clock);
            let rekey = pair.is_current() && overdue;
            established.children.insert(spi_in, pair);
            if rekey {
                established.enqueue(now, Job::RekeyChild(spi_in));
            }
        }
        if self.sa.rekey_in >= self.sa.expires_in {
            established.enqueue(now, Job::RekeyIke);
        }
        established.ask(&ends, core, now, self.probe);
        let created_at = established.established_at;
        IkeSa { ends, created_at, init_request: None, stage: Stage::Established(Box::new(established)) }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let sa = KeptSa::decode(reader)?;
        let keys = IkeKeys::resume(reader)?;
        let mut flag = || reader.u8().map(|flag| flag == 1);
        let (fragments, mobike, additional) = (flag()?, flag()?, flag()?);
        let send_next_id = reader.u32()?;
        let probe = decode_datagrams(reader)?;
        let receive_next_id = reader.u32()?;
        let last_request = RequestDigest::from_bytes(reader.counted()?);
        let response = decode_datagrams(reader)?;
        Ok(Self {
            sa,
            keys,
            fragments,
            mobike,
            additional,
            send_next_id,
            probe,
            receive_next_id,
            last_request,
            response,
        })
    }
}

fn child_sa(kept: KeptPair, config: ChildConfig, clock: Clock) -> ChildSa {
    ChildSa {
        config,
        spi_in: kept.pair.spi_in,
        spi_out: kept.pair.spi_out,
        state: ChildState::Installed,
        lowest_nonce: kept.lowest_nonce,
        ours: kept.ours,
        soft_at: clock.due(kept.soft_in),
        hard_at: clock.due(kept.hard_in),
        duplicate_check_at: Some(after(clock.now, DUPLICATE_CHECK)),
        replaces: kept.replaces,
        replaced_by: kept.replaced_by,
        redundant: false,
    }
}

fn decode_datagrams(reader: &mut Reader<'_>) -> Result<Datagrams, WireError> {
    let mut datagrams = Vec::new();
    for _ in 0..reader.u32()? {
        datagrams.push(reader.counted()?.to_vec());
    }
    Ok(datagrams)
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
