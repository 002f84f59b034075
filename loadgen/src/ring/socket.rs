//! How a socket of ours is made: the same for every engine, so that none differs on the wire.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{Address, Family, Source};

/// An address as the kernel wants it.
pub(super) fn sock_addr(address: &Address) -> SockAddr {
    match address {
        Address::Ip(address) => (*address).into(),
        Address::Unix(path) => SockAddr::unix(path).expect("its length was looked at"),
    }
}

/// A connection for who asks a target before the run, and can wait.
///
/// # Errors
/// Those of `connect(2)`; `TimedOut`.
pub fn connect(address: &Address, timeout: Duration) -> io::Result<Socket> {
    let to = sock_addr(address);
    let socket = Socket::new(to.domain(), Type::STREAM, None)?;
    match address {
        Address::Ip(_) => socket.connect_timeout(&to, timeout)?,
        // Its server takes it at once, or is not there.
        Address::Unix(_) => socket.connect(&to)?,
    }
    Ok(socket)
}

/// A TCP socket that resets on close and sends at once, bound as planned; or one of this host, as it
/// is. `kind` is a stream, with or without `O_NONBLOCK`.
///
/// # Errors
/// Those of `socket(2)`, `setsockopt(2)` and `bind(2)`.
pub(super) fn open_socket(source: Source, kind: Type) -> io::Result<Socket> {
    let domain = match (source.family, source.bind) {
        (Family::Unix, _) => return Socket::new(Domain::UNIX, kind, None),
        (_, Some(bind)) => Domain::for_address(bind),
        (Family::V6, None) => Domain::IPV6,
        (Family::V4, None) => Domain::IPV4,
    };
    let socket = Socket::new(domain, kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_linger(Some(Duration::ZERO))?;
    if let Some(address) = source.bind {
        socket.set_reuse_address(true)?;
        bind(&socket, address)?;
    }
    Ok(socket)
}

/// Binds to an address whose port is taken when the socket connects and the destination is known:
/// the very port that is planned, or, for port 0, one that the kernel chooses.
///
/// A port that bind(2) takes is lost to every program of the host that lets connect(2) choose one,
/// whatever the address: with as many planned ports as `ip_local_port_range` has, nothing else
/// here could connect, nor could a session of ours that is to come back. Ports that connect(2)
/// takes are shared as long as one end differs.
fn bind(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    setsockopt(socket, IpBindAddressNoPort, &true)?;
    if address.port() == 0 || only_port(socket, address.port())? {
        return socket.bind(&SocketAddr::new(address.ip(), 0).into());
    }
    socket.bind(&address.into())
}

/// Leaves connect(2) one port to choose from; `false` where the kernel cannot (before 6.3).
fn only_port(socket: &Socket, port: u16) -> io::Result<bool> {
    // ip(7); libc has no name for it yet.
    const IP_LOCAL_PORT_RANGE: libc::c_int = 51;
    let range = u32::from(port) << 16 | u32::from(port);
    let len = size_of_val(&range) as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes of a live integer during the call and keeps nothing.
    let done = unsafe {
        let value = (&raw const range).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE, value, len)
    };
    match io::Error::last_os_error() {
        _ if done == 0 => Ok(true),
        e if e.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(false),
        e => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    #[test]
    fn a_planned_port_stays_free_for_others_to_connect_from() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listener");
        let to = listener.local_addr().expect("address").into();
        // Two addresses and one port that nobody has at any address, not even one that reuses it:
        // connect(2) passes by a port that was bound at any.
        let free = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
        free.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into()).expect("a free port");
        let port = free.local_addr().expect("address").as_socket().expect("of IPv4").port();
        drop(free);
        let from = |host, port| SocketAddr::from(([127, 0, 0, host], port));
        let source = |bind| Source { bind: Some(bind), family: Family::V4 };
        let planned = open_socket(source(from(78, port)), Type::STREAM).expect("open");
        if !only_port(&planned, port).expect("an answer") {
            return eprintln!("SKIPPED: IP_LOCAL_PORT_RANGE needs kernel 6.3");
        }
        planned.connect(&to).expect("connect");
        let local = planned.local_addr().expect("address").as_socket();
        assert_eq!(local, Some(from(78, port)));
        // Another one that has only this port to choose from.
        let other = open_socket(source(from(79, 0)), Type::STREAM).expect("open");
        assert!(only_port(&other, port).expect("as before"));
        other.connect(&to).expect("the port is shared");
        assert_eq!(other.local_addr().expect("address").as_socket(), Some(from(79, port)));
        // The same pair to the same destination is not.
        let same = open_socket(source(from(78, port)), Type::STREAM).expect("open");
        let taken = same.connect(&to).expect_err("taken");
        assert_eq!(taken.kind(), io::ErrorKind::AddrNotAvailable);
    }
}
