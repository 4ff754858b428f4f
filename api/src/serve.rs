//! Serving the router on its sockets until told to stop.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum_server::Handle;
use tokio::task::JoinSet;

use crate::listen::{Listeners, listeners};
use crate::tls;

/// Sockets that are bound, and what is needed to serve on them.
pub struct Server {
    listeners: Listeners,
    tls: axum_server::tls_rustls::RustlsConfig,
    handle: Handle<SocketAddr>,
}

impl Server {
    /// Binds the sockets and reads or makes the certificate.
    ///
    /// # Errors
    /// An address that can't be had, a plain address that is not loopback, a certificate that can't be used.
    pub async fn bind(state_dir: &Path, listen: SocketAddr, plain: Option<SocketAddr>) -> Result<Self> {
        let listeners = listeners(listen, plain)?;
        let addresses: Vec<_> =
            listeners.tls.iter().filter_map(|listener| Some(listener.local_addr().ok()?.ip())).collect();
        let tls = tls::config(state_dir, &addresses).await?;
        Ok(Self { listeners, tls, handle: Handle::new() })
    }

    /// Ends [`Self::serve`]: no new requests, and a few seconds for those under way.
    pub fn stopper(&self) -> impl FnOnce() + Send + 'static {
        let handle = self.handle.clone();
        move || handle.graceful_shutdown(Some(GRACE))
    }

    /// Serves until stopped.
    ///
    /// # Errors
    /// A socket that failed.
    pub async fn serve(self, router: Router) -> Result<()> {
        let service = router.into_make_service();
        let mut servers = JoinSet::new();
        for listener in self.listeners.tls {
            tracing::info!(addr = ?listener.local_addr().ok(), "serving https");
            let server = axum_server::from_tcp_rustls(listener, self.tls.clone())
                .context("cannot serve on a socket")?
                .handle(self.handle.clone());
            servers.spawn(server.serve(service.clone()));
        }
        if let Some(listener) = self.listeners.plain {
            tracing::info!(addr = ?listener.local_addr().ok(), "serving http, for this machine alone");
            let server = axum_server::from_tcp(listener)
                .context("cannot serve on a socket")?
                .handle(self.handle.clone());
            servers.spawn(server.serve(service));
        }
        while let Some(ended) = servers.join_next().await {
            ended.context("a server panicked")?.context("a server failed")?;
        }
        Ok(())
    }
}

/// An event stream never ends by itself, so that there must be an end to patience.
const GRACE: Duration = Duration::from_secs(2);
