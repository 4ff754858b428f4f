//! The sockets that the API is served on.

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, Result, bail};
use listenfd::ListenFd;

/// Sockets, bound and listening.
#[derive(Debug)]
pub(crate) struct Listeners {
    /// HTTPS.
    pub(crate) tls: Vec<TcpListener>,
    /// HTTP, on loopback.
    pub(crate) plain: Option<TcpListener>,
}

/// Takes the sockets that systemd (or a test harness) passed, otherwise binds `listen`; and `plain` if asked for.
///
/// A passed socket may be of another network namespace than the process.
pub(crate) fn listeners(listen: SocketAddr, plain: Option<SocketAddr>) -> Result<Listeners> {
    let mut passed = ListenFd::from_env();
    let mut tls = Vec::new();
    for index in 0..passed.len() {
        let listener = passed.take_tcp_listener(index).context("a passed socket is no TCP listener")?;
        tls.extend(listener);
    }
    if tls.is_empty() {
        tls.push(bind(listen)?);
    }
    let plain = match plain {
        Some(addr) if !addr.ip().is_loopback() => {
            bail!(
                "--listen-plain {addr} is refused: tokens go in clear there, so it must be a loopback address"
            )
        }
        Some(addr) => Some(bind(addr)?),
        None => None,
    };
    for listener in tls.iter().chain(&plain) {
        listener.set_nonblocking(true).context("cannot make a socket non-blocking")?;
    }
    Ok(Listeners { tls, plain })
}

fn bind(addr: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(addr).with_context(|| format!("cannot listen on {addr}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_alone() {
        let any = "127.0.0.1:0".parse().unwrap();
        let refused = listeners(any, Some("0.0.0.0:0".parse().unwrap())).unwrap_err();
        assert!(refused.to_string().contains("loopback"), "{refused}");
        assert!(listeners(any, Some("[::1]:0".parse().unwrap())).is_ok());
        assert!(listeners(any, Some(any)).unwrap().plain.is_some());
    }
}
