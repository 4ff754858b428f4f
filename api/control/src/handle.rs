//! The API's way to the running control plane: cheap to clone, usable from any task.
//!
//! Reading goes to the last published picture and to the shared memory, never through the gateway's task: a scrape
//! of thousands of tunnels delays nothing. Orders go through the task and are answered when they were begun.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use tokio::sync::{Notify, mpsc, oneshot};

use crate::picture::Picture;
use crate::view::{CryptoMapState, DataplaneStatus, Health, IpsecSa, IsakmpSa, MetricsSnapshot, TunnelState};

/// A handle on the control plane.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
}

/// The other end of a [`Handle`], for [`crate::run`].
pub struct Inbox {
    pub(crate) shared: Arc<Shared>,
    pub(crate) orders: mpsc::Receiver<Order>,
}

/// Makes a handle and its other end. The handle is usable at once; it shows nothing until [`crate::run`] begins.
#[must_use]
pub fn handle() -> (Handle, Inbox) {
    const WAITING_ORDERS: usize = 64;
    let shared =
        Arc::new(Shared { moved: Notify::new(), moves: AtomicU64::new(0), picture: RwLock::default() });
    let (sender, orders) = mpsc::channel(WAITING_ORDERS);
    (Handle { shared: Arc::clone(&shared), orders: sender }, Inbox { shared, orders })
}

/// Why an order was not begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// There is no such object, or it does not run.
    #[error("there is no {kind} named {name} in what runs now")]
    Unknown {
        /// `tunnel`, `crypto-map` or `isakmp-sa`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// It has no SAs by its nature or its configuration.
    #[error("{name} has no IPsec SAs of its own: {why}")]
    NotProtected {
        /// Its name.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// It is being negotiated, rekeyed or deleted.
    #[error("the IKE SA {id} is {state}: only one that is established can be rekeyed")]
    NotEstablished {
        /// Its id.
        id: String,
        /// What it is instead.
        state: &'static str,
    },
    /// The control plane does not run, or is ending.
    #[error("the control plane is not running")]
    NotRunning,
}

impl Handle {
    /// The desired state changed: it is read and applied soon. Several calls may have one effect.
    pub fn generation_moved(&self) {
        self.shared.moves.fetch_add(1, Ordering::Release);
        self.shared.moved.notify_one();
    }

    /// The state of a tunnel; `None` when it is not in what runs.
    #[must_use]
    pub fn tunnel_state(&self, name: &str) -> Option<TunnelState> {
        self.shared.picture().tunnel_state(name)
    }

    /// The states of all tunnels, by name.
    #[must_use]
    pub fn tunnel_states(&self) -> Vec<TunnelState> {
        self.shared.picture().tunnel_states()
    }

    /// The state of a crypto map; its flows are empty when it is applied to no interface.
    #[must_use]
    pub fn crypto_map_state(&self, name: &str) -> CryptoMapState {
        self.shared.picture().crypto_map_state(name)
    }

    /// The IKE SAs.
    #[must_use]
    pub fn isakmp_sas(&self) -> Vec<IsakmpSa> {
        self.shared.picture().isakmp_sas()
    }

    /// The IPsec SAs, with counters as of now.
    #[must_use]
    pub fn ipsec_sas(&self) -> Vec<IpsecSa> {
        self.shared.picture().ipsec_sas()
    }

    /// The dataplane process.
    #[must_use]
    pub fn dataplane(&self) -> DataplaneStatus {
        self.shared.picture().dataplane()
    }

    /// The gateway's health.
    #[must_use]
    pub fn health(&self) -> Health {
        self.shared.picture().health()
    }

    /// Everything that is counted.
    #[must_use]
    pub fn metrics_snapshot(&self) -> MetricsSnapshot {
        self.shared.picture().metrics()
    }

    /// Generation of the desired state that runs; 0 before the first.
    #[must_use]
    pub fn applied_generation(&self) -> u64 {
        self.shared.picture().generation
    }

    /// Rekeys the IPsec SAs of a tunnel; brings them up when they are down.
    ///
    /// # Errors
    /// See [`OrderError`].
    pub async fn rekey_tunnel(&self, name: &str) -> Result<(), OrderError> {
        self.order(OrderKind::RekeyTunnel(name.to_owned())).await
    }

    /// Rekeys the IPsec SAs of all flows of a crypto map.
    ///
    /// # Errors
    /// See [`OrderError`].
    pub async fn rekey_crypto_map(&self, name: &str) -> Result<(), OrderError> {
        self.order(OrderKind::RekeyCryptoMap(name.to_owned())).await
    }

    /// Rekeys an IKE SA; its IPsec SAs stay. Of several between the same peers, the one in use is meant.
    ///
    /// # Errors
    /// See [`OrderError`].
    pub async fn rekey_isakmp_sa(&self, id: &str) -> Result<(), OrderError> {
        self.order(OrderKind::RekeyIsakmpSa(id.to_owned())).await
    }

    /// Deletes the IKE SA that serves a tunnel, telling the peer, and negotiates anew. Other tunnels between the same
    /// peers share it.
    ///
    /// # Errors
    /// See [`OrderError`].
    pub async fn reset_tunnel(&self, name: &str) -> Result<(), OrderError> {
        self.order(OrderKind::ResetTunnel(name.to_owned())).await
    }

    async fn order(&self, kind: OrderKind) -> Result<(), OrderError> {
        let (answer, answered) = oneshot::channel();
        self.orders.send(Order { kind, answer }).await.map_err(|_| OrderError::NotRunning)?;
        answered.await.map_err(|_| OrderError::NotRunning)?
    }
}

/// What both ends share.
pub(crate) struct Shared {
    pub(crate) moved: Notify,
    /// How often the desired state has moved.
    moves: AtomicU64,
    picture: RwLock<Arc<Picture>>,
}

impl Shared {
    pub(crate) fn moves(&self) -> u64 {
        self.moves.load(Ordering::Acquire)
    }

    fn picture(&self) -> Arc<Picture> {
        // A writer only exchanges a pointer: it cannot leave half a picture behind.
        Arc::clone(&self.picture.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    pub(crate) fn publish(&self, picture: Picture) {
        *self.picture.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(picture);
    }
}

/// An order, and where its answer goes.
pub(crate) struct Order {
    pub(crate) kind: OrderKind,
    pub(crate) answer: oneshot::Sender<Result<(), OrderError>>,
}

/// What is ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OrderKind {
    RekeyTunnel(String),
    RekeyCryptoMap(String),
    RekeyIsakmpSa(String),
    ResetTunnel(String),
}
