//! How a socket of ours is made: the same for every engine, so that none differs on the wire.

use std::io;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::Source;

/// A TCP socket that resets on close and sends at once, bound as planned. `kind` is a stream, with
/// or without `O_NONBLOCK`.
///
/// # Errors
/// Those of `socket(2)`, `setsockopt(2)` and `bind(2)`.
pub(super) fn open_socket(source: Source, kind: Type) -> io::Result<Socket> {
    let ipv6 = source.bind.map_or(source.ipv6, |a| a.is_ipv6());
    let domain = if ipv6 { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_linger(Some(Duration::ZERO))?;
    if let Some(address) = source.bind {
        socket.set_reuse_address(true)?;
        if address.port() == 0 {
            // The port is chosen at connect time, when the destination is known: ports can then
            // be shared between destinations.
            nix::sys::socket::setsockopt(
                &socket,
                nix::sys::socket::sockopt::IpBindAddressNoPort,
                &true,
            )?;
        }
        socket.bind(&address.into())?;
    }
    Ok(socket)
}
