//! A listener, seen from Python: what its sockets have in common.

use mantou_engine::Token;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::cell::Guarded;
use crate::context::Context;
use crate::engine::Engine;
use crate::handlers::Handlers;
use crate::host;
use crate::settings;
use crate::tls::Way;
use crate::totals::{self, Fact, Totals};

/// The native half of a listener. `owner` is the public object that users see.
#[pyclass(frozen, weakref, module = "mantou._core")]
pub struct Listener {
    pub engine: Py<Engine>,
    token: Guarded<Token>,
    handlers: Guarded<Option<Py<Handlers>>>,
    data: Guarded<Option<Py<PyAny>>>,
    data_factory: Guarded<Option<Py<PyAny>>>,
    /// The `TlsSettings` of new connections.
    tls: Guarded<Option<Py<PyAny>>>,
    owner: Guarded<Option<Py<PyAny>>>,
    /// What each connection's context begins as.
    context: Context,
    connections: Guarded<usize>,
    /// Connections that are gone, and whose async `close` has not come to its end.
    last_words: Guarded<usize>,
    totals: Guarded<Totals>,
    /// Its connections are to come to an end: those that open now are told so.
    pub drains: Guarded<bool>,
    /// Nothing is to stay open, not even what is being accepted this moment.
    pub closes_all: Guarded<bool>,
    /// Futures of those who wait for the last connection to go.
    waiters: Guarded<Vec<Py<PyAny>>>,
}

impl Listener {
    pub fn new(
        engine: Py<Engine>,
        token: Token,
        handlers: Option<Py<Handlers>>,
        data: Py<PyAny>,
        data_factory: Option<Py<PyAny>>,
        tls: Option<Py<PyAny>>,
        context: Context,
    ) -> Self {
        Self {
            engine,
            token: Guarded::new(token),
            handlers: Guarded::new(handlers),
            data: Guarded::new(Some(data)),
            data_factory: Guarded::new(data_factory),
            tls: Guarded::new(tls),
            owner: Guarded::new(None),
            context,
            connections: Guarded::new(0),
            last_words: Guarded::new(0),
            totals: Guarded::new(Totals::ZERO),
            drains: Guarded::new(false),
            closes_all: Guarded::new(false),
            waiters: Guarded::new(Vec::new()),
        }
    }

    pub fn handlers(&self, py: Python<'_>) -> Option<Py<Handlers>> {
        self.handlers.cloned(py)
    }

    pub fn set_handlers(&self, py: Python<'_>, handlers: Py<Handlers>) {
        drop(self.handlers.replace(py, Some(handlers)));
    }

    pub fn data_factory(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.data_factory.cloned(py)
    }

    pub fn tls(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.tls.cloned(py)
    }

    pub fn owner(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.owner.cloned(py)
    }

    pub fn context(&self) -> &Context {
        &self.context
    }

    pub fn is_stopped(&self, py: Python<'_>) -> bool {
        self.token.get(py) == Token::NONE
    }

    pub fn closes_all(&self, py: Python<'_>) -> bool {
        self.closes_all.get(py)
    }

    pub fn drains(&self, py: Python<'_>) -> bool {
        self.drains.get(py)
    }

    /// What has happened to it and to its connections, in this process.
    pub fn totals(&self, py: Python<'_>) -> Totals {
        if self.is_of_parent() {
            return Totals::ZERO;
        }
        self.totals.get(py)
    }

    /// Notes what has happened. Returns how often it has by now.
    pub fn count(&self, py: Python<'_>, fact: Fact<'_>) -> u64 {
        totals::count(py, fact);
        totals::note(py, &self.totals, fact)
    }

    fn is_of_parent(&self) -> bool {
        self.engine.get().core.is_left_behind()
    }

    pub fn token(&self, py: Python<'_>) -> Token {
        self.token.get(py)
    }

    pub fn add_connection(&self, py: Python<'_>) {
        self.count(py, Fact::Accepted);
        self.connections.with(py, |connections| *connections += 1);
    }

    pub fn remove_connection(&self, py: Python<'_>) {
        self.connections.with(py, |connections| *connections -= 1);
        self.settle(py);
    }

    pub fn add_last_words(&self, py: Python<'_>) {
        self.last_words.with(py, |last_words| *last_words += 1);
    }

    pub fn remove_last_words(&self, py: Python<'_>) {
        self.last_words.with(py, |last_words| *last_words -= 1);
        self.settle(py);
    }

    /// Wakes those who wait in `closed()`, if it is.
    fn settle(&self, py: Python<'_>) {
        let left = self.connections.get(py) + self.last_words.get(py);
        if self.is_stopped(py) && left == 0 {
            for future in self.waiters.replace(py, Vec::new()) {
                host::resolve(future.bind(py), None);
            }
        }
    }

    /// Stops accepting; connections waiting in the queue are refused by the kernel.
    pub fn stop_accepting(&self, py: Python<'_>) -> PyResult<()> {
        let engine = self.engine.get();
        let token = self.token.get(py);
        engine.core.with(|core| core.close_listener(token))?;
        self.token.replace(py, Token::NONE);
        drop(engine.take_owner(py, token));
        self.settle(py);
        Ok(())
    }
}

#[pymethods]
impl Listener {
    #[getter(owner)]
    fn get_owner(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.owner(py)
    }

    #[setter(owner)]
    fn set_owner(&self, py: Python<'_>, owner: Py<PyAny>) {
        drop(self.owner.replace(py, Some(owner)));
    }

    #[getter]
    pub fn data(&self, py: Python<'_>) -> Py<PyAny> {
        self.data.cloned(py).unwrap_or_else(|| py.None())
    }

    #[setter]
    fn set_data(&self, py: Python<'_>, data: Py<PyAny>) {
        drop(self.data.replace(py, Some(data)));
    }

    /// How many accepted sockets are open.
    #[getter]
    fn connections(&self, py: Python<'_>) -> usize {
        if self.is_of_parent() {
            return 0;
        }
        self.connections.get(py)
    }

    /// It accepts no more, not in this process at least.
    #[getter]
    fn stopped(&self, py: Python<'_>) -> bool {
        self.is_stopped(py) || self.is_of_parent()
    }

    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        let token = self.token.get(py);
        let fd = self.engine.get().core.with(|core| core.raw_fd(token))?;
        Ok(fd.unwrap_or(-1))
    }

    /// Has it keep to these `Limits`, from the first connection on.
    fn set_limits(&self, limits: &Bound<'_, PyAny>) -> PyResult<()> {
        let token = self.token.get(limits.py());
        let limits = settings::limits(limits)?;
        let core = &self.engine.get().core;
        core.with(|core| core.set_limits(token, limits))
    }

    /// Whether it accepts, while it is not stopped.
    fn set_accepting(&self, py: Python<'_>, accepting: bool) -> PyResult<()> {
        let token = self.token.get(py);
        let core = &self.engine.get().core;
        core.with(|core| core.set_accepting(token, accepting))
    }

    fn reload(&self, socket: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = socket.py();
        self.engine.get().core.with(|_| ())?;
        self.set_handlers(py, Handlers::compile(socket)?);
        Ok(())
    }

    /// New connections speak TLS with this configuration; open ones stay as they are.
    fn set_tls(&self, settings: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = settings.py();
        let token = self.token.get(py);
        let acceptor = Way::of(settings)?.acceptor();
        self.engine
            .get()
            .core
            .with(|core| core.set_tls(token, Some(acceptor)))?;
        drop(self.tls.replace(py, Some(settings.clone().unbind())));
        Ok(())
    }

    /// Whether it keeps `run()` alive.
    fn set_referenced(&self, py: Python<'_>, referenced: bool) -> PyResult<()> {
        let token = self.token.get(py);
        let core = &self.engine.get().core;
        core.with(|core| core.set_referenced(token, referenced))
    }

    /// A future that is done once it is stopped and its last connection gone.
    fn closed<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let future = self.engine.get().host.future(py)?;
        let waiter = future.clone().unbind();
        host::enlist(py, &self.waiters, waiter, |future| future);
        self.settle(py);
        Ok(future)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.engine)?;
        self.handlers.traverse(&visit, |it, visit| visit.call(it))?;
        self.data.traverse(&visit, |it, visit| visit.call(it))?;
        self.data_factory
            .traverse(&visit, |it, visit| visit.call(it))?;
        self.tls.traverse(&visit, |it, visit| visit.call(it))?;
        self.owner.traverse(&visit, |it, visit| visit.call(it))?;
        self.context.traverse(&visit)?;
        self.waiters.traverse(&visit, |waiters, visit| {
            waiters.iter().try_for_each(|waiter| visit.call(waiter))
        })
    }

    fn __clear__(&self) {
        drop(self.handlers.take());
        drop(self.data.take());
        drop(self.data_factory.take());
        drop(self.tls.take());
        drop(self.owner.take());
        drop(self.waiters.take());
    }
}
