//! Why things end.

use std::io;

use crate::tls::TlsError;

/// Why a connection ended.
#[derive(Debug)]
pub enum CloseReason {
    /// Both sides finished, or we gave it up ourselves.
    Clean,
    /// The connection broke.
    Io(io::Error),
    /// The TLS handshake failed.
    Tls(TlsError),
    /// The TLS handshake was not done in time.
    HandshakeTimedOut,
    /// Neither a byte nor an end came in the time set for it; the text says which time.
    TimedOut(&'static str),
}

/// Why `write_all` or `end` took nothing.
#[derive(Debug, PartialEq, Eq)]
pub enum WriteAllError {
    /// The write side is finished or the connection gone.
    Closed,
    /// The queue would hold more than the socket's write limit.
    OverLimit { queued: usize, limit: usize },
}
