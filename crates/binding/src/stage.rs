//! The events of a connection, each with a handler.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The handler that a result or an exception came from.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    Open,
    Data,
    Drain,
    End,
    Close,
    Error,
    Timeout,
    ConnectError,
    Handshake,
    Draining,
}

impl Stage {
    pub const ALL: [Stage; 10] = [
        Stage::Open,
        Stage::Data,
        Stage::Drain,
        Stage::End,
        Stage::Close,
        Stage::Error,
        Stage::Timeout,
        Stage::ConnectError,
        Stage::Handshake,
        Stage::Draining,
    ];

    pub fn from_number(number: u8) -> PyResult<Self> {
        let stage = Self::ALL.get(usize::from(number)).copied();
        stage.ok_or_else(|| PyValueError::new_err(format!("no such handler: {number}")))
    }

    pub fn name(self) -> &'static str {
        match self {
            Stage::Open => "open",
            Stage::Data => "data",
            Stage::Drain => "drain",
            Stage::End => "end",
            Stage::Close => "close",
            Stage::Error => "error",
            Stage::Timeout => "timeout",
            Stage::ConnectError => "connect_error",
            Stage::Handshake => "handshake",
            Stage::Draining => "draining",
        }
    }

    /// Whether the coroutine of such a handler keeps the socket's other handlers waiting.
    pub fn holds(self) -> bool {
        !matches!(
            self,
            Stage::Timeout | Stage::Close | Stage::ConnectError | Stage::Draining
        )
    }
}
