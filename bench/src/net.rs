//! Sockets on `tokio-uring`: the only module that knows it.
//!
//! The library releases rarely, so everything else asks here for listeners, connections, tasks
//! and sleeping. Receiving and accepting go through the ring; an answer is first tried as one
//! non-blocking `send(2)`, because a ring write would cost a second turn of the event loop for
//! each request, and goes through the ring only where the socket's buffer is full.

use std::future::Future;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{self, MsgFlags};
use socket2::{Domain, Protocol, Socket, Type};
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::{TcpListener, TcpStream};

/// Submission entries of one ring. Requests beyond it are submitted in several calls.
const RING_ENTRIES: u32 = 1024;
/// Completion entries of one ring: a burst beyond it waits in the kernel's overflow list.
const RING_COMPLETIONS: u32 = 16_384;
/// Backlog asked for; the kernel clamps it to net.core.somaxconn.
const BACKLOG: i32 = 65_535;

/// Runs `body` to its end on a fresh ring in the calling thread.
///
/// # Errors
/// The kernel's refusal of io_uring (ENOSYS, EPERM: see `kernel.io_uring_disabled`).
pub fn run<F: Future>(body: F) -> io::Result<F::Output> {
    let mut ring = tokio_uring::uring_builder();
    ring.setup_cqsize(RING_COMPLETIONS).setup_coop_taskrun();
    let mut builder = tokio_uring::builder();
    builder.entries(RING_ENTRIES).uring_builder(&ring);
    Ok(tokio_uring::Runtime::new(&builder)?.block_on(body))
}

/// Whether the kernel gives this process a ring.
///
/// # Errors
/// The kernel's refusal, as from [`run`].
pub fn probe() -> io::Result<()> {
    run(async {})
}

/// Starts a task on the calling thread's ring.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    tokio_uring::spawn(task);
}

/// Sleeps at least `span`, rounded up to whole milliseconds by the runtime's timer wheel.
pub async fn sleep(span: Duration) {
    tokio::time::sleep(span).await;
}

/// How a listener's sockets behave; accepted sockets inherit all of it (Linux).
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// Every close(2) of an accepted socket sends RST, until [`Conn::close_gracefully`].
    pub reset_on_close: bool,
    /// SO_REUSEPORT: the kernel spreads connections over all listeners of one address. Without
    /// it a second process at the same address is refused instead of taking half of the load.
    pub share_port: bool,
}

/// Binds and listens, so that errors are met before anything is announced.
///
/// # Errors
/// Those of socket(2), bind(2) and listen(2).
pub fn bind(addr: SocketAddr, options: ListenOptions) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(options.share_port)?;
    socket.set_tcp_nodelay(true)?;
    if options.reset_on_close {
        socket.set_linger(Some(Duration::ZERO))?;
    }
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A listener on the calling thread's ring.
pub struct Listener {
    inner: TcpListener,
}

impl Listener {
    /// Takes over a bound listener.
    pub fn new(bound: std::net::TcpListener) -> Self {
        Self { inner: TcpListener::from_std(bound) }
    }

    /// The next connection.
    ///
    /// # Errors
    /// Those of accept(2); EMFILE is an ordinary one here.
    pub async fn accept(&self) -> io::Result<Conn> {
        let (stream, _) = self.inner.accept().await?;
        Ok(Conn { stream })
    }
}

/// One accepted connection. Dropping it closes the socket.
pub struct Conn {
    stream: TcpStream,
}

impl Conn {
    /// The connection's number in this process, for tables kept by the same thread.
    pub fn fd(&self) -> Fd {
        Fd(self.stream.as_raw_fd())
    }

    /// Reads what arrives into `buf`, which must be empty with a capacity above 0.
    ///
    /// Gives the buffer back, with the number of bytes read: 0 at the end of the stream. It is no
    /// `async fn`, because each layer would keep its own copy of the buffer's three words for as
    /// long as the connection idles.
    pub fn read(
        &self,
        buf: Vec<u8>,
    ) -> impl Future<Output = (io::Result<usize>, Vec<u8>)> + use<'_> {
        self.stream.read(buf)
    }

    /// Appends what arrives to `buf`, never beyond its capacity, which must have room.
    ///
    /// The same as [`Conn::read`] otherwise, at the price of a larger future.
    pub async fn read_more(&self, buf: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let start = buf.len();
        let (result, slice) = self.stream.read(buf.slice(start..)).await;
        (result, slice.into_inner())
    }

    /// Sends every byte through the ring, waiting for the peer as long as it takes.
    ///
    /// # Errors
    /// Those of write(2) on a socket.
    pub async fn send_all(&self, bytes: Vec<u8>) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.stream.write_all(bytes).await.0
    }

    /// Ends the stream with FIN even where closing would reset: says that nothing follows, then
    /// reads until the peer has closed too, as RFC 9112 section 9.6 asks of a server.
    pub async fn close_gracefully(self) {
        if self.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let mut buf = Vec::with_capacity(512);
        loop {
            buf.clear();
            let (result, back) = self.read(buf).await;
            buf = back;
            if !matches!(result, Ok(read) if read > 0) {
                return;
            }
        }
    }
}

/// A connection's descriptor. Valid only while its [`Conn`] lives; the caller sees to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fd(RawFd);

impl Fd {
    /// Sends what fits into the socket's buffer at once; 0 if it is full.
    ///
    /// # Errors
    /// Those of send(2), except EAGAIN and EINTR.
    pub fn send_now(self, bytes: &[u8]) -> io::Result<usize> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        loop {
            match socket::send(self.0, bytes, flags) {
                Ok(sent) => return Ok(sent),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(0),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Takes what has arrived already into `room`; 0 if nothing has, or at the end of the stream.
    ///
    /// # Errors
    /// Those of recv(2), except EAGAIN and EINTR.
    pub fn receive_now(self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            match socket::recv(self.0, room, MsgFlags::MSG_DONTWAIT) {
                Ok(received) => return Ok(received),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(0),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Ends both directions: a pending read on the connection ends with 0 bytes.
    pub fn shut_down(self) {
        // The peer may have gone first; the pending read then ends without our help.
        let _ = socket::shutdown(self.0, socket::Shutdown::Both);
    }
}
