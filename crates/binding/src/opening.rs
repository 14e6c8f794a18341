//! How Python opens things: sockets, attempts to connect, listeners.

use std::os::fd::RawFd;
use std::sync::Arc;

use mantou_engine::{self as core, Driver, Settings, Token};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::attempt::Attempt;
use crate::context::Context;
use crate::dispatch;
use crate::engine::Engine;
use crate::errors;
use crate::handlers::Handlers;
use crate::listener::Listener;
use crate::settings;
use crate::socket::Socket;
use crate::tls::Way;
use crate::totals::Fact;

#[pymethods]
impl Engine {
    /// A socket that is not connected yet.
    fn socket(
        this: &Bound<'_, Self>,
        handlers: Option<Py<Handlers>>,
        data: Py<PyAny>,
        hostname: &str,
    ) -> PyResult<Py<Socket>> {
        this.get().check_open(this.py())?;
        Py::new(
            this.py(),
            Socket::new(
                this.clone().unbind(),
                handlers,
                None,
                data,
                hostname,
                Context::current(this.py())?,
            ),
        )
    }

    /// Starts to connect to a socket address (a tuple) or a unix path (bytes), for so many seconds
    /// at most. `bound` is a descriptor that has its local address already, or -1; it is the
    /// engine's from now on.
    fn connect(
        this: &Bound<'_, Self>,
        address: &Bound<'_, PyAny>,
        bound: RawFd,
        timeout: Option<f64>,
    ) -> PyResult<Py<Attempt>> {
        let py = this.py();
        let engine = this.get();
        let started = match address.cast::<PyBytes>() {
            Ok(path) => core::Attempt::unix(path.as_bytes()),
            Err(_) => core::Attempt::tcp(
                settings::socket_address(address)?,
                (bound >= 0).then_some(bound),
            ),
        };
        let timeout = timeout.map(settings::duration);
        let add = |attempt| engine.core.with(|core| core.add_attempt(attempt, timeout));
        let added = match started.map(add) {
            Ok(added) => added?,
            Err(error) => Err(error),
        };
        let (token, connected) = added.map_err(|error| errors::from_io(&error))?;
        if !connected {
            return followed(this, token);
        }
        Py::new(py, Attempt::new(this.clone().unbind(), token, true))
    }

    /// Makes a connected descriptor the socket's and calls its `open`. Returns as
    /// `Attempt.establish()` does.
    #[pyo3(signature = (fd, socket, options, tls, preface=None))]
    fn adopt(
        this: &Bound<'_, Self>,
        fd: RawFd,
        socket: &Bound<'_, Socket>,
        options: &Bound<'_, PyAny>,
        tls: Option<&Bound<'_, PyAny>>,
        preface: Option<&[u8]>,
    ) -> PyResult<Option<Py<PyAny>>> {
        Self::take_over(this, fd, socket, options, tls, preface)?;
        socket.get().readiness(this.py())
    }

    /// As `adopt()`, for whoever is told by the socket's own handlers how it goes on.
    #[pyo3(signature = (fd, socket, options, tls, preface=None))]
    fn take_over(
        this: &Bound<'_, Self>,
        fd: RawFd,
        socket: &Bound<'_, Socket>,
        options: &Bound<'_, PyAny>,
        tls: Option<&Bound<'_, PyAny>>,
        preface: Option<&[u8]>,
    ) -> PyResult<()> {
        let py = this.py();
        let engine = this.get();
        engine.check_open(py)?;
        let settings = engine.settings.of(options)?;
        let driver = socket.get().prepare_tls(py, tls)?;
        let token = engine
            .core
            .with(|core| core.adopt(fd, settings, driver))?
            .map_err(|error| errors::from_io(&error))?;
        engine.set_owner(py, token, socket);
        if let Some(preface) = preface {
            engine.core.with(|core| core.send_preface(token, preface))?;
        }
        socket.get().count(py, Fact::Connected);
        dispatch::opened(this, socket, token)
    }

    /// Tells a socket that was never opened why.
    fn connect_failed(
        this: &Bound<'_, Self>,
        socket: &Bound<'_, Socket>,
        error: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        dispatch::connect_failed(this, socket, error);
        this.get().check_fatal(this.py())
    }

    /// Accepts connections from a descriptor that is bound and listening. Without handlers
    /// `data_factory` gives each socket its own.
    fn listen(
        this: &Bound<'_, Self>,
        fd: RawFd,
        options: &Bound<'_, PyAny>,
        handlers: Option<Py<Handlers>>,
        data: Py<PyAny>,
        data_factory: Option<Py<PyAny>>,
        tls: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<Listener>> {
        let py = this.py();
        let engine = this.get();
        engine.check_open(py)?;
        let settings = engine.settings.of(options)?;
        let way = tls.map(Way::of).transpose()?;
        let acceptor = way.as_ref().map(Way::acceptor);
        let token = engine
            .core
            .with(|core| core.add_listener(fd, settings, acceptor))?
            .map_err(|error| errors::from_io(&error))?;
        let listener = Listener::new(
            this.clone().unbind(),
            token,
            handlers,
            data,
            data_factory,
            tls.map(|tls| tls.clone().unbind()),
            Context::current(py)?,
        );
        let listener = Py::new(py, listener)?;
        engine.set_owner(py, token, listener.bind(py));
        Ok(listener)
    }
}

#[pymethods]
impl Attempt {
    /// Makes the connection the socket's and calls its `open`. Returns a future if there is more to
    /// wait for: an async `open`, a TLS handshake, the end of a connection whose `open` raised. The
    /// preface is sent before everything else, in the clear.
    #[pyo3(signature = (socket, options, tls, preface=None))]
    fn establish(
        &self,
        socket: &Bound<'_, Socket>,
        options: &Bound<'_, PyAny>,
        tls: Option<&Bound<'_, PyAny>>,
        preface: Option<&[u8]>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let py = socket.py();
        let settings = self.engine.get().settings.of(options)?;
        let driver = socket.get().prepare_tls(py, tls)?;
        let token = self.token.replace(py, Token::NONE);
        let engine = self.engine.bind(py);
        drop(engine.get().take_owner(py, token));
        establish(engine, token, socket, settings, driver, preface)
    }
}

/// An attempt that is told of how it goes on.
pub fn followed(engine: &Bound<'_, Engine>, token: Token) -> PyResult<Py<Attempt>> {
    let py = engine.py();
    let attempt = Py::new(py, Attempt::new(engine.clone().unbind(), token, false))?;
    engine.get().set_owner(py, token, attempt.bind(py));
    Ok(attempt)
}

/// What `Attempt.establish()` does.
pub fn establish(
    engine: &Bound<'_, Engine>,
    token: Token,
    socket: &Bound<'_, Socket>,
    settings: Arc<Settings>,
    driver: Option<Driver>,
    preface: Option<&[u8]>,
) -> PyResult<Option<Py<PyAny>>> {
    let py = engine.py();
    let core = &engine.get().core;
    core.with(|core| core.establish(token, settings, driver))?
        .map_err(|error| errors::from_io(&error))?;
    engine.get().set_owner(py, token, socket);
    if let Some(preface) = preface {
        core.with(|core| core.send_preface(token, preface))?;
    }
    socket.get().count(py, Fact::Connected);
    dispatch::opened(engine, socket, token)?;
    socket.get().readiness(py)
}
