//! How a transport begins and ends.

use std::net::SocketAddr;

use mantou_engine::{self as core, Token};
use pyo3::call::PyCallArgs;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use super::Transport;
use crate::dispatch;
use crate::socket::Socket;
use crate::tls::Start;

type Names<'py> = (Option<Bound<'py, PyTuple>>, Option<Bound<'py, PyTuple>>);

#[pymethods]
impl Transport {
    /// Its protocol has been told of it: reading starts.
    fn _begin(&self, py: Python<'_>) -> PyResult<()> {
        self.mark(py)?;
        self.state.with(py, |state| state.begun = true);
        let state = self.state.get(py);
        if state.closing || state.reading_paused {
            return Ok(());
        }
        self.set_paused(py, false)
    }

    /// Whether it is closed or about to be.
    pub(super) fn is_closing(&self, py: Python<'_>) -> bool {
        self.state.get(py).closing
    }

    /// Closes once everything is sent; the protocol gets nothing any more but
    /// `connection_lost(None)`. Over TLS that waits for the peer's goodbye, of which
    /// `eof_received()` tells.
    fn close(this: &Bound<'_, Self>) -> PyResult<()> {
        let (py, transport) = (this.py(), this.get());
        if transport.set_closing(py) {
            return Ok(());
        }
        if transport.socket.get().token(py) == Token::NONE {
            return pass_on(this, intern!(py, "close"), ());
        }
        transport.close_by(py, core::Engine::leave)
    }

    /// The same, without waiting for the peer.
    #[pyo3(name = "_close_now")]
    fn close_now(&self, py: Python<'_>) -> PyResult<()> {
        self.set_closing(py);
        self.close_by(py, core::Engine::close_gracefully)
    }

    /// It is closing from now on; whether it was before.
    #[pyo3(name = "_set_closing")]
    pub(super) fn set_closing(&self, py: Python<'_>) -> bool {
        self.state
            .with(py, |state| std::mem::replace(&mut state.closing, true))
    }

    /// Closes at once, whatever waits to be sent.
    fn abort(this: &Bound<'_, Self>) -> PyResult<()> {
        Self::force_close(this, None)
    }

    /// The same, with the exception that the protocol's `connection_lost()` is to get.
    #[pyo3(name = "_force_close")]
    fn force_close(this: &Bound<'_, Self>, error: Option<Py<PyAny>>) -> PyResult<()> {
        let (py, transport) = (this.py(), this.get());
        transport.set_closing(py);
        let socket = transport.socket.get();
        let token = socket.token(py);
        if token == Token::NONE {
            return pass_on(this, intern!(py, "_force_close"), (error,));
        }
        dispatch::seal_at_last(socket.engine().bind(py), transport.socket.bind(py), token)?;
        if !socket.with(py, |core, token| core.has_dead_tls(token))? {
            // If what was written last broke the connection, that is why it ends.
            socket.with(py, core::Engine::flush)?;
            dispatch::conclude_end(socket.engine().bind(py), token)?;
        }
        socket.abort_for(py, error)?;
        dispatch::conclude_end(socket.engine().bind(py), token)
    }

    /// Finishes our side behind everything that was written.
    fn _finish_writing(&self, py: Python<'_>) -> PyResult<()> {
        let state = self.state.get(py);
        if state.closing || state.ended {
            return Ok(());
        }
        self.state.with(py, |state| state.ended = true);
        self.socket.get().with(py, core::Engine::shutdown)
    }

    /// Begins TLS with these `TlsSettings` and `ConnectionOptions`; returns the socket of the transport
    /// that takes the connection over. This one is told of nothing any more.
    fn _upgrade<'py>(
        &self,
        settings: &Bound<'py, PyAny>,
        options: &Bound<'py, PyAny>,
        server_side: bool,
    ) -> PyResult<Bound<'py, Socket>> {
        let py = settings.py();
        let socket = self.socket.bind(py);
        let start = Start::new(settings, server_side, "")?;
        let options = socket.get().engine().get().settings.of(options)?;
        let secure = Socket::upgrade_with(socket, start, None, py.None())?;
        let apply = |core: &mut core::Engine, token| core.set_settings(token, options);
        secure.get().with(py, apply)?;
        socket.get().forget_handlers(py);
        Ok(secure)
    }

    /// The context in which the protocol's methods are called.
    #[getter]
    fn _context(&self, py: Python<'_>) -> Py<PyAny> {
        self.socket.get().context().object(py).clone().unbind()
    }

    /// Who drives TLS, if it is not the engine.
    #[getter]
    fn _driver(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.socket.get().driver(py)
    }

    /// Both ends' addresses as the socket module tells them; None where only it can.
    fn _names<'py>(&self, py: Python<'py>) -> PyResult<Names<'py>> {
        let endpoints = self.socket.get().endpoints(py)?;
        let name = |address: Option<SocketAddr>| address.map(|it| name_of(py, it)).transpose();
        let (local, remote) = (name(endpoints.local)?, name(endpoints.remote)?);
        Ok((local.flatten(), remote.flatten()))
    }

    /// The connection is gone, and its protocol has been told.
    fn _let_go(&self, py: Python<'_>) {
        self.state.with(py, |state| state.closing = true);
        self.socket.get().forget_handlers(py);
        let protocol = self.protocol.replace(py, None);
        drop(protocol);
    }
}

impl Transport {
    fn close_by(&self, py: Python<'_>, how: fn(&mut core::Engine, core::Token)) -> PyResult<()> {
        let socket = self.socket.get();
        let token = socket.token(py);
        socket.with(py, how)?;
        dispatch::conclude_end(socket.engine().bind(py), token)
    }
}

/// The connection is not the transport's any more. If TLS has taken it over, it is for the transport
/// that has it to end it.
fn pass_on<'py>(
    transport: &Bound<'py, Transport>,
    method: &Bound<'py, PyString>,
    arguments: impl PyCallArgs<'py>,
) -> PyResult<()> {
    let successor = transport.getattr(intern!(transport.py(), "_successor"))?;
    if !successor.is_none() {
        successor.call_method1(method, arguments)?;
    }
    Ok(())
}

/// `None` for an address with a zone, whose name the system knows.
fn name_of(py: Python<'_>, address: SocketAddr) -> PyResult<Option<Bound<'_, PyTuple>>> {
    let (ip, port) = (address.ip().to_string(), address.port());
    match address {
        SocketAddr::V4(_) => (ip, port).into_pyobject(py).map(Some),
        SocketAddr::V6(it) if it.scope_id() == 0 => {
            let name = (ip, port, it.flowinfo(), it.scope_id());
            name.into_pyobject(py).map(Some)
        }
        SocketAddr::V6(_) => Ok(None),
    }
}
