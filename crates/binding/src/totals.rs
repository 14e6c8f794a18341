//! Counts of what has become of connections: those of one listener, and of all in this process.
//! Everything here happens once or twice in a connection's life.

use mantou_engine::tls::TlsError;
use mantou_engine::{CloseReason, Farewell, Limit, Traffic};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::cell::Guarded;

/// Everything that has happened in this process, on whichever event loop.
static PROCESS: Guarded<Totals> = Guarded::new(Totals::ZERO);

/// As Python sees it: one moment's counts.
#[pyclass(frozen, get_all, module = "mantou._core")]
#[derive(Clone, Copy)]
pub struct Totals {
    accepted: u64,
    connected: u64,
    closed: u64,
    bytes_read: u64,
    bytes_written: u64,
    handshakes: u64,
    late_handshakes: u64,
    unverified_handshakes: u64,
    alerted_handshakes: u64,
    broken_handshakes: u64,
    lost_handshakes: u64,
    refused: u64,
    pauses_for_connections: u64,
    pauses_for_rate: u64,
    pauses_for_handshakes: u64,
    pauses_for_descriptors: u64,
}

impl Totals {
    pub const ZERO: Self = Self {
        accepted: 0,
        connected: 0,
        closed: 0,
        bytes_read: 0,
        bytes_written: 0,
        handshakes: 0,
        late_handshakes: 0,
        unverified_handshakes: 0,
        alerted_handshakes: 0,
        broken_handshakes: 0,
        lost_handshakes: 0,
        refused: 0,
        pauses_for_connections: 0,
        pauses_for_rate: 0,
        pauses_for_handshakes: 0,
        pauses_for_descriptors: 0,
    };

    /// With bytes of connections that are open still.
    pub fn with_traffic(mut self, traffic: &Traffic) -> Self {
        self.bytes_read += traffic.bytes_read;
        self.bytes_written += traffic.bytes_written;
        self
    }

    fn add_bytes(&mut self, farewell: &Farewell) {
        self.bytes_read += farewell.bytes_read;
        self.bytes_written += farewell.bytes_written;
    }

    /// How often accepting paused at that limit.
    fn pauses(&mut self, limit: Limit) -> &mut u64 {
        match limit {
            Limit::Connections => &mut self.pauses_for_connections,
            Limit::Rate => &mut self.pauses_for_rate,
            Limit::Handshakes => &mut self.pauses_for_handshakes,
        }
    }
}

/// What is counted.
#[derive(Clone, Copy)]
pub enum Fact<'a> {
    Accepted,
    Connected,
    Closed(&'a Farewell),
    /// A TLS socket has taken it over, whose bytes are counted from nothing.
    Upgraded(&'a Farewell),
    Established,
    NotEstablished(Failure),
    Refused,
    AtLimit(Limit),
    Starved,
}

/// Why a TLS handshake failed.
#[derive(Clone, Copy)]
pub enum Failure {
    Late,
    /// We refuse the peer's certificate, or that it shows none.
    Unverified,
    /// The peer refused, with an alert.
    Alerted,
    /// What the peer sent is no TLS, or the two have nothing in common.
    Broken,
    /// The connection ended before.
    Lost,
}

impl Failure {
    /// `error` is what its owner is told.
    pub fn of(reason: &CloseReason, error: Option<&Bound<'_, PyAny>>) -> Self {
        match reason {
            CloseReason::HandshakeTimedOut => Self::Late,
            CloseReason::Tls(TlsError::Verification(_)) => Self::Unverified,
            CloseReason::Tls(TlsError::Alert { .. }) => Self::Alerted,
            CloseReason::Tls(TlsError::Truncated) => Self::Lost,
            CloseReason::Tls(TlsError::Foreign) => error.map_or(Self::Broken, Self::of_openssl),
            CloseReason::Tls(_) => Self::Broken,
            _ => Self::Lost,
        }
    }

    fn of_openssl(error: &Bound<'_, PyAny>) -> Self {
        static UNVERIFIED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        static ENDED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let is = |class: PyResult<&Bound<'_, PyAny>>| {
            class.is_ok_and(|class| error.is_instance(class).unwrap_or(false))
        };
        let py = error.py();
        let reason = error.getattr("reason");
        let reason: String = reason.and_then(|it| it.extract()).unwrap_or_default();
        if is(UNVERIFIED.import(py, "ssl", "SSLCertVerificationError"))
            || reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
        {
            Self::Unverified
        } else if is(ENDED.import(py, "ssl", "SSLEOFError")) {
            Self::Lost
        } else if reason.contains("_ALERT_") {
            Self::Alerted
        } else {
            Self::Broken
        }
    }
}

/// Notes a fact in the counts of the process.
pub fn count(py: Python<'_>, fact: Fact<'_>) {
    note(py, &PROCESS, fact);
}

/// Notes a fact in some counts. Returns how often it is in them now.
pub fn note(py: Python<'_>, totals: &Guarded<Totals>, fact: Fact<'_>) -> u64 {
    totals.with(py, |totals| {
        let counter = match fact {
            Fact::Accepted => &mut totals.accepted,
            Fact::Connected => &mut totals.connected,
            Fact::Closed(farewell) => {
                totals.add_bytes(farewell);
                &mut totals.closed
            }
            Fact::Upgraded(farewell) => {
                totals.add_bytes(farewell);
                // It is the same connection.
                return 0;
            }
            Fact::Established => &mut totals.handshakes,
            Fact::NotEstablished(Failure::Late) => &mut totals.late_handshakes,
            Fact::NotEstablished(Failure::Unverified) => &mut totals.unverified_handshakes,
            Fact::NotEstablished(Failure::Alerted) => &mut totals.alerted_handshakes,
            Fact::NotEstablished(Failure::Broken) => &mut totals.broken_handshakes,
            Fact::NotEstablished(Failure::Lost) => &mut totals.lost_handshakes,
            Fact::Refused => &mut totals.refused,
            Fact::AtLimit(limit) => totals.pauses(limit),
            Fact::Starved => &mut totals.pauses_for_descriptors,
        };
        *counter += 1;
        *counter
    })
}

/// Notes the end of connections whose loop nobody has closed: none of them was told.
pub fn count_dropped(py: Python<'_>, connections: u64, traffic: &Traffic) {
    PROCESS.with(py, |totals| {
        *totals = totals.with_traffic(traffic);
        // Some may have come that nobody has heard of.
        let all = totals.accepted + totals.connected;
        totals.closed = all.min(totals.closed + connections);
    });
}

/// In a forked child: what has happened is its parent's.
pub fn forget(py: Python<'_>) {
    PROCESS.replace(py, Totals::ZERO);
}

/// The counts of this process, but for the bytes of connections that are open.
pub fn of_process(py: Python<'_>) -> Totals {
    PROCESS.get(py)
}
