//! Listening sockets and the accept loop: every way in which a connection may fail to arrive.
//!
//! Owns bind, backlog, TCP_NODELAY and the reaction to a full descriptor table. It must not know
//! what is spoken on a connection.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::{clock::Tick, metrics::Metrics};

/// Pause after an accept that failed for want of descriptors or memory: the pending connection
/// stays in the backlog, so that an immediate retry would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Shortest time between two log lines about the same shortage.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// A listener could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another socket has the port.
    #[error(
        "{what}: {addr} is already in use; find its owner with `ss -ltnp 'sport = :{port}'`, or \
         choose another port with {option}"
    )]
    InUse {
        /// Which listener.
        what: &'static str,
        /// Its address.
        addr: SocketAddr,
        /// Its port.
        port: u16,
        /// The option that sets the port.
        option: &'static str,
    },
    /// The host does not have the address.
    #[error(
        "{what}: this host has no address {ip}; list its addresses with `ip -br address`, or bind \
         to all of them with --bind 0.0.0.0"
    )]
    NoAddress {
        /// Which listener.
        what: &'static str,
        /// The address asked for.
        ip: IpAddr,
    },
    /// A privileged port.
    #[error(
        "{what}: not permitted to bind {addr}; ports below net.ipv4.ip_unprivileged_port_start \
         (usually 1024) need CAP_NET_BIND_SERVICE: choose a higher port with {option}"
    )]
    NotPermitted {
        /// Which listener.
        what: &'static str,
        /// Its address.
        addr: SocketAddr,
        /// The option that sets the port.
        option: &'static str,
    },
    /// Anything else.
    #[error("{what}: cannot listen on {addr}: {source}")]
    Other {
        /// Which listener.
        what: &'static str,
        /// Its address.
        addr: SocketAddr,
        /// What the kernel said.
        source: std::io::Error,
    },
}

/// Binds and listens with a backlog of `backlog` (the kernel bounds it by net.core.somaxconn).
///
/// `what` and `option` name the listener and its port option in error texts.
///
/// # Errors
/// [`ListenError`], each variant naming the cause and the fix.
pub fn listen(
    what: &'static str,
    option: &'static str,
    addr: SocketAddr,
    backlog: i32,
) -> Result<TcpListener, ListenError> {
    let open = || {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        // A restarted server must not wait for the TIME_WAIT sockets of its predecessor.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        socket.listen(backlog)?;
        TcpListener::from_std(socket.into())
    };
    open().map_err(|source: std::io::Error| match source.kind() {
        ErrorKind::AddrInUse => ListenError::InUse { what, addr, port: addr.port(), option },
        ErrorKind::AddrNotAvailable => ListenError::NoAddress { what, ip: addr.ip() },
        ErrorKind::PermissionDenied => ListenError::NotPermitted { what, addr, option },
        _ => ListenError::Other { what, addr, source },
    })
}

/// Hands every accepted connection to `serve` until `stop` is cancelled; then closes the listener.
///
/// Connections come with TCP_NODELAY set: an answer written in several pieces would otherwise wait
/// for the client's delayed ACK (40 ms on Linux). A full descriptor table pauses the loop for 20 ms
/// and is counted; it never ends it.
pub async fn accept_until(
    listener: TcpListener,
    stop: CancellationToken,
    metrics: &Metrics,
    mut serve: impl FnMut(TcpStream),
) {
    let mut complained: Option<Tick> = None;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, _peer)) => {
                // Fails only where the peer has reset the connection: serving it will tell.
                let _ = stream.set_nodelay(true);
                serve(stream);
            }
            Err(error) if is_shortage(&error) => {
                metrics.accept_error("shortage");
                if complained.is_none_or(|at| at.elapsed() >= COMPLAINT_INTERVAL) {
                    complained = Some(Tick::now());
                    tracing::warn!(
                        "cannot accept connections: {error}; they wait in the backlog. Raise the \
                         descriptor limit (`ulimit -n`, or nofile of the service), or add replicas"
                    );
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            // The peer gave up between its SYN and our accept: accept(2) asks to go on.
            Err(_) => metrics.accept_error("aborted"),
        }
    }
}

/// Whether an accept error will last until something is freed.
fn is_shortage(error: &std::io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| {
        matches!(
            Errno::from_raw(code),
            Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named_with_its_option() {
        let first = listen("http", "--port", ([127, 0, 0, 1], 0).into(), 16).unwrap();
        let addr = first.local_addr().unwrap();
        let text = listen("http", "--port", addr, 16).unwrap_err().to_string();
        assert!(text.contains("already in use") && text.contains("--port"), "{text}");
        assert!(text.contains(&addr.port().to_string()), "{text}");
    }

    #[tokio::test]
    async fn a_foreign_address_is_named() {
        // TEST-NET-1 (RFC 5737) belongs to no host.
        let text =
            listen("http", "--port", ([192, 0, 2, 1], 0).into(), 16).unwrap_err().to_string();
        assert!(text.contains("no address 192.0.2.1") && text.contains("--bind"), "{text}");
    }

    #[test]
    fn shortages_are_told_from_lost_peers() {
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM] {
            assert!(is_shortage(&std::io::Error::from_raw_os_error(errno as i32)));
        }
        for errno in [Errno::ECONNABORTED, Errno::EPROTO, Errno::EINTR] {
            assert!(!is_shortage(&std::io::Error::from_raw_os_error(errno as i32)));
        }
    }
}
