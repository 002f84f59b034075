//! An answer that is more than bytes sent at once: a list of steps, and what performs it.

use std::time::Duration;

use crate::clock;
use crate::net::{self, Conn};

/// One step of a spoiled answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Waits until this time (ns).
    WaitUntil(u64),
    /// Sends everything.
    Send(Vec<u8>),
    /// Sends in pieces with a pause after each.
    Pieces {
        /// What is sent.
        bytes: Vec<u8>,
        /// Size of a piece.
        size_bytes: usize,
        /// Pause after a piece.
        gap: Duration,
    },
    /// Sends the same bytes until the peer is gone.
    Forever(Vec<u8>),
    /// Ends the connection with FIN.
    Close,
    /// Ends the connection with RST; needs a listener made for it.
    Reset,
}

/// How a connection goes on after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It stays open.
    Keep,
    /// FIN.
    Close,
    /// RST.
    Reset,
}

/// Performs the steps; a peer that is gone ends them.
pub async fn perform(conn: &Conn, steps: Vec<Step>) -> Ending {
    for step in steps {
        let done = match step {
            Step::WaitUntil(due_ns) => {
                net::sleep(Duration::from_nanos(due_ns.saturating_sub(clock::now_ns()))).await;
                Ok(())
            }
            Step::Send(bytes) => conn.send_all(bytes).await,
            Step::Pieces { bytes, size_bytes, gap } => pieces(conn, &bytes, size_bytes, gap).await,
            Step::Forever(bytes) => forever(conn, &bytes).await,
            Step::Close => return Ending::Close,
            Step::Reset => return Ending::Reset,
        };
        if done.is_err() {
            return Ending::Close;
        }
    }
    Ending::Keep
}

async fn pieces(
    conn: &Conn,
    bytes: &[u8],
    size_bytes: usize,
    gap: Duration,
) -> std::io::Result<()> {
    for piece in bytes.chunks(size_bytes) {
        conn.send_all(piece.to_vec()).await?;
        net::sleep(gap).await;
    }
    Ok(())
}

async fn forever(conn: &Conn, bytes: &[u8]) -> std::io::Result<()> {
    loop {
        conn.send_all(bytes.to_vec()).await?;
    }
}
