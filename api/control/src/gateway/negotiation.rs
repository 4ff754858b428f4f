//! Between the engine and the rest: SA operations to the tables, events to causes, orders of operators to commands.

use std::time::{Duration, Instant};

use ike::{ChildId, Command, ConnectionId, Event, SaOperation};

use super::{Gateway, Inputs};
use crate::compile::Owner;
use crate::driver::Wish;
use crate::handle::{Order, OrderError, OrderKind};
use crate::picture::{insecurity_word, isakmp_id_text};
use crate::sa_table::ADOPTED_LINGER;

impl Gateway {
    /// Does what the engine wishes until it wishes nothing more.
    pub(super) fn negotiate(&mut self) {
        let wishes = self.driver.drain();
        if !wishes.is_empty() {
            self.survey_soon();
        }
        for wish in wishes {
            match wish {
                Wish::Sa(operation) => {
                    let progress = self.executor.operate(&operation, Instant::now());
                    // The answers lead to more wishes: this goes as deep as the engine's own chains, which end.
                    self.absorb(progress);
                }
                Wish::Event(event) => self.on_event(&event),
                Wish::Orphaned => {
                    let pairs = self.executor.sas().entries();
                    self.orphans = pairs.filter_map(|entry| Some((entry.pair?, entry.owner))).collect();
                }
            }
        }
    }

    fn on_event(&mut self, event: &Event) {
        match event {
            Event::IkeUp { connection, insecure, .. } if insecure.is_empty() => {
                tracing::info!(connection = connection.0, "an IKE SA is up");
            }
            Event::IkeUp { connection, insecure, .. } => {
                let words: Vec<_> = insecure.iter().copied().map(insecurity_word).collect();
                tracing::warn!(
                    connection = connection.0,
                    insecure = words.join(", "),
                    "an IKE SA is up, and is insecure by what is named"
                );
            }
            Event::IkeResumed { connection, .. } => {
                tracing::info!(connection = connection.0, "an IKE SA was resumed");
            }
            Event::IkeRekeyed { connection, .. } => {
                tracing::info!(connection = connection.0, "an IKE SA was rekeyed");
            }
            Event::IkeDown { connection, cause, retry_in } => {
                tracing::warn!(connection = connection.0, %cause, ?retry_in, "an IKE SA is down");
                let Some(compiled) = self.compiled.clone() else {
                    return;
                };
                let children = compiled.children.iter().filter(|(_, child)| child.connection == *connection);
                for (id, _) in children {
                    self.causes.insert(*id, cause.to_string());
                }
            }
            Event::ChildUp { child, spi_in } => {
                tracing::info!(
                    owner = self.owner_text(*child),
                    spi_in = format!("{spi_in:#010x}"),
                    "a child SA is up"
                );
                self.child_serves(*child);
            }
            Event::ChildRekeyed { child, spi_in, replaced } => {
                tracing::info!(
                    owner = self.owner_text(*child),
                    spi_in = format!("{spi_in:#010x}"),
                    replaced = format!("{replaced:#010x}"),
                    "a child SA was rekeyed"
                );
                self.child_serves(*child);
            }
            Event::ChildDown { child, cause } => {
                tracing::warn!(owner = self.owner_text(*child), %cause, "a child SA is down");
                self.causes.insert(*child, cause.to_string());
            }
        }
    }

    /// A child is well: its former causes are history, and so are pairs that a replaced engine left behind.
    fn child_serves(&mut self, child: ChildId) {
        self.causes.remove(&child);
        let Some(owner) = self.owner_of(child) else {
            return;
        };
        let old: Vec<u32> =
            self.orphans.iter().filter(|(_, orphaned)| **orphaned == owner).map(|(spi, _)| *spi).collect();
        for spi_in in old {
            self.orphans.remove(&spi_in);
            let removal = SaOperation::Remove { spi_in, linger: ADOPTED_LINGER };
            let progress = self.executor.operate(&removal, Instant::now());
            self.absorb(progress);
        }
    }

    fn owner_of(&self, child: ChildId) -> Option<Owner> {
        Some(self.compiled.as_ref()?.children.get(&child)?.owner.clone())
    }

    fn owner_text(&self, child: ChildId) -> String {
        self.owner_of(child).map_or_else(|| "(gone)".to_owned(), |owner| owner.to_string())
    }

    /// An order means what was written before it: it waits until that is applied.
    pub(super) fn on_order(&mut self, order: Order) {
        let moves = self.shared.moves();
        if moves > self.read_moves {
            self.held_orders.push((moves, order));
        } else {
            self.obey(order);
        }
    }

    /// The desired state was read, or could not be: what waited for it goes on.
    pub(super) fn on_reading(&mut self, moves: u64) {
        self.read_moves = moves;
        for (waits_for, order) in std::mem::take(&mut self.held_orders) {
            if waits_for > moves {
                self.held_orders.push((waits_for, order));
            } else {
                self.obey(order);
            }
        }
    }

    fn obey(&mut self, order: Order) {
        tracing::info!(order = ?order.kind, "an operator's order");
        let commands = match &order.kind {
            OrderKind::RekeyTunnel(name) => {
                self.child_of_tunnel(name).map(|(child, _)| vec![Command::RekeyChild(child)])
            }
            OrderKind::ResetTunnel(name) => self
                .child_of_tunnel(name)
                .map(|(_, connection)| vec![Command::Terminate(connection), Command::Initiate(connection)]),
            OrderKind::RekeyCryptoMap(name) => self.children_of_map(name),
            OrderKind::RekeyIsakmpSa(id) => {
                self.connection_of_isakmp_sa(id).map(|connection| vec![Command::RekeyIke(connection)])
            }
        };
        let answer = commands.map(|commands| {
            for command in commands {
                self.driver.command(Instant::now(), command);
                self.negotiate();
            }
        });
        // Nobody waits any more: the caller went away, the order stands.
        let _ = order.answer.send(answer);
    }

    fn child_of_tunnel(&self, name: &str) -> Result<(ChildId, ConnectionId), OrderError> {
        let unknown = || OrderError::Unknown { kind: "tunnel", name: name.to_owned() };
        let compiled = self.compiled.as_ref().ok_or_else(unknown)?;
        if !compiled.tunnels.contains_key(name) {
            return Err(unknown());
        }
        let (id, child) = compiled.child_of(&Owner::Tunnel(name.to_owned())).ok_or_else(|| {
            let why = "it is not protected by an ipsec-profile, or that could not be applied";
            OrderError::NotProtected { name: name.to_owned(), why }
        })?;
        Ok((id, child.connection))
    }

    fn connection_of_isakmp_sa(&self, id: &str) -> Result<ConnectionId, OrderError> {
        let unknown = || OrderError::Unknown { kind: "isakmp-sa", name: id.to_owned() };
        let views = self.driver.isakmp_sas(Instant::now());
        let view = views.into_iter().find(|view| isakmp_id_text(view.id) == id).ok_or_else(unknown)?;
        if view.state != "established" {
            return Err(OrderError::NotEstablished { id: id.to_owned(), state: view.state });
        }
        view.connection.ok_or_else(unknown)
    }

    fn children_of_map(&self, name: &str) -> Result<Vec<Command>, OrderError> {
        let children: Vec<Command> = self
            .compiled
            .iter()
            .flat_map(|compiled| &compiled.children)
            .filter(|(_, child)| match &child.owner {
                Owner::Policy(key) => {
                    self.names.crypto_maps.get(&key.interface).is_some_and(|map| map == name)
                }
                Owner::Tunnel(_) => false,
            })
            .map(|(id, _)| Command::RekeyChild(*id))
            .collect();
        if children.is_empty() {
            return Err(OrderError::Unknown { kind: "crypto-map", name: name.to_owned() });
        }
        Ok(children)
    }

    /// Deletes all SAs and tells the peers, within a deadline.
    pub(super) async fn take_leave(&mut self, inputs: &mut Inputs) {
        const WITHIN: Duration = Duration::from_secs(3);
        let deadline = Instant::now() + WITHIN;
        tracing::info!("deleting all SAs");
        self.driver.command(Instant::now(), Command::Shutdown);
        self.negotiate();
        while Instant::now() < deadline && !self.driver.isakmp_sas(Instant::now()).is_empty() {
            let wake_at = self.wake_at().map_or(deadline, |at| at.min(deadline));
            tokio::select! {
                Some(datagram) = inputs.datagrams.recv() => {
                    self.driver.datagram(Instant::now(), &datagram);
                    self.negotiate();
                }
                Some(stored) = inputs.stored.recv() => self.driver.stored(stored),
                Some(event) = inputs.from_server.recv() => self.on_server(event),
                () = super::until(Some(wake_at)) => self.on_time(Instant::now()),
            }
        }
    }
}
