//! What Python sees of the engine's counts, and of what the kernel counts.

// The doc comments of `#[pymethods]` are Python's docstrings.
#![allow(clippy::doc_markdown)]

use mantou_engine::{self as core, Token};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;

use crate::engine::Engine;
use crate::listener::Listener;
use crate::socket::Socket;
use crate::totals::{self, Totals};

/// What has happened in this process, whose engines these are; how many listeners there are, and how
/// many bytes wait in connections. All of one moment: nobody else has the interpreter's lock meanwhile.
#[pyfunction]
pub fn process_totals(
    py: Python<'_>,
    engines: Vec<PyRef<'_, Engine>>,
) -> PyResult<(Totals, usize, usize)> {
    let mut totals = totals::of_process(py);
    let (mut listeners, mut queued) = (0, 0);
    for engine in engines {
        let look = |core: &mut core::Engine| (core.listeners(), core.traffic(core.tokens()));
        let (listening, traffic) = engine.core.ask(py, look)?;
        totals = totals.with_traffic(&traffic);
        listeners += listening;
        queued += traffic.queued;
    }
    Ok((totals, listeners, queued))
}

#[pymethods]
impl Listener {
    /// What has happened, bytes that wait in its connections, and the kernel's `struct tcp_info` of
    /// it. May be asked from any thread.
    fn figures<'py>(
        this: &Bound<'py, Self>,
    ) -> PyResult<(Totals, usize, Option<Bound<'py, PyBytes>>)> {
        let py = this.py();
        let listener = this.get();
        let engine = listener.engine.get();
        let own = |socket: &Bound<'_, Socket>| socket.get().came_from(py, this);
        let sockets = engine.owners::<Socket>(py);
        let tokens: Vec<Token> = sockets
            .iter()
            .filter(|socket| own(socket))
            .map(|socket| socket.get().token(py))
            .collect();
        let token = listener.token(py);
        let (traffic, info) = engine
            .core
            .ask(py, |core| (core.traffic(tokens), core.tcp_info(token)))?;
        let totals = listener.totals(py).with_traffic(&traffic);
        Ok((totals, traffic.queued, info.map(|it| PyBytes::new(py, &it))))
    }
}

#[pymethods]
impl Socket {
    /// Its figures at this moment: a `SocketStats`, with those that the kernel keeps of TCP.
    ///
    /// After close the bytes stay, and `tcp` is None. Not in Bun.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let (bytes_read, bytes_written) = self.counters(py)?;
        let (queued, info) =
            self.with(py, |core, token| (core.queued(token), core.tcp_info(token)))?;
        let info = info.map(|info| PyBytes::new(py, &info));
        let make = MAKE.import(py, "mantou._stats", "socket_stats")?;
        make.call1((bytes_read, bytes_written, queued, info))
    }

    /// Who is at the other end of a unix socket: `PeerCredentials` (pid, uid, gid).
    ///
    /// As they were when the peer connected or, seen by a client, when the server listened; the
    /// kernel vouches for them. None over TCP, and once closed.
    ///
    /// Not in Bun.
    #[getter]
    fn peer_credentials<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let found = self.with(py, |core: &mut core::Engine, token| {
            core.peer_credentials(token)
        })?;
        let class = CLASS.import(py, "mantou._stats", "PeerCredentials")?;
        found.map(|found| class.call1(found)).transpose()
    }
}
