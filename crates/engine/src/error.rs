//! Why things end.

use std::io;

use crate::tls::TlsError;

/// What is said of a peer that the kernel gave up for `dead_after`.
pub const DEAD: &str = "the peer answered nothing within dead_after";

/// Why a connection ended.
#[derive(Debug)]
pub enum CloseReason {
    /// Both sides finished.
    Finished,
    /// We gave it up ourselves.
    Clean,
    /// The connection broke.
    Io(io::Error),
    /// The TLS handshake failed.
    Tls(TlsError),
    /// The TLS handshake was not done in time.
    HandshakeTimedOut,
    /// The event loop ended before everything that was accepted had left.
    Abandoned,
    /// The connection that it was piped to broke.
    PartnerBroke,
    /// Neither a byte nor an end came in the time set for it; the text says which time.
    TimedOut(&'static str),
}

impl CloseReason {
    /// The same once more, if it is a failure.
    pub(crate) fn failure(&self) -> Option<Self> {
        match self {
            Self::Finished | Self::Clean => None,
            Self::Io(error) => error
                .raw_os_error()
                .map(|errno| Self::Io(io::Error::from_raw_os_error(errno))),
            Self::Tls(error) => Some(Self::Tls(error.clone())),
            Self::HandshakeTimedOut => Some(Self::HandshakeTimedOut),
            Self::Abandoned => Some(Self::Abandoned),
            Self::PartnerBroke => Some(Self::PartnerBroke),
            Self::TimedOut(what) => Some(Self::TimedOut(what)),
        }
    }
}

/// Why `write_all` or `end` took nothing.
#[derive(Debug, PartialEq, Eq)]
pub enum WriteAllError {
    /// The write side is finished or the connection gone.
    Closed,
    /// More than the socket's write limit would wait.
    OverLimit { waiting: usize, limit: usize },
    /// More would wait than can be counted: files may have holes of any size.
    Uncountable { waiting: usize },
    /// No longer packet can be told to the peer.
    TooLong { longest: usize },
}
