//! The engine object: who owns which member, and the turns of the loop.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use mantou_engine::{self as core, Poller, Token};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use crate::attempt::Attempt;
use crate::cell::{Guarded, ThreadBound};
use crate::context::Context;
use crate::dispatch::{self, Work};
use crate::errors;
use crate::handlers::Handlers;
use crate::host::Host;
use crate::listener::Listener;
use crate::settings::{self, LastSettings};
use crate::socket::Socket;
use crate::tls::Way;

mod turns;

/// Who is told of a member's events. A strong reference: what is open stays alive.
pub enum Owner {
    Socket(Py<Socket>),
    Listener(Py<Listener>),
    Attempt(Py<Attempt>),
}

impl Owner {
    fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Socket(socket) => Self::Socket(socket.clone_ref(py)),
            Self::Listener(listener) => Self::Listener(listener.clone_ref(py)),
            Self::Attempt(attempt) => Self::Attempt(attempt.clone_ref(py)),
        }
    }
}

/// All sockets of one thread's event loop, and the queue that they are polled with.
#[pyclass(frozen, weakref, module = "mantou._core")]
pub struct Engine {
    pub core: ThreadBound<core::Engine>,
    pub host: Host,
    pub settings: LastSettings,
    poller: Arc<Poller>,
    owners: Guarded<Vec<Option<(Token, Owner)>>>,
    /// Taken out while a turn runs, which is also how a turn inside a turn is noticed.
    work: Guarded<Option<Box<Work>>>,
    interrupted: Guarded<bool>,
    /// A `KeyboardInterrupt` or `SystemExit` on its way out of the loop.
    fatal: Guarded<Option<PyErr>>,
    ended: Guarded<bool>,
    /// The loop is in debug mode: handlers that take long are named.
    debugged: Guarded<bool>,
}

impl Engine {
    pub fn owner(&self, py: Python<'_>, token: Token) -> Option<Owner> {
        self.owners
            .with(py, |owners| match owners.get(token.index()) {
                Some(Some((member, owner))) if *member == token => Some(owner.clone_ref(py)),
                _ => None,
            })
    }

    /// Has what the next event needs fetched from memory while this one is handled.
    #[inline]
    pub fn prefetch(&self, py: Python<'_>, token: Token) -> PyResult<()> {
        self.core.with(|core| core.prefetch(token))?;
        self.owners.with(py, |owners| {
            if let Some(Some((_, Owner::Socket(socket)))) = owners.get(token.index()) {
                core::prefetch(socket.get());
            }
        });
        Ok(())
    }

    pub fn set_owner(&self, py: Python<'_>, token: Token, owner: Owner) {
        let before = self.owners.with(py, |owners| {
            if owners.len() <= token.index() {
                owners.resize_with(token.index() + 1, || None);
            }
            owners[token.index()].replace((token, owner))
        });
        drop(before);
    }

    pub fn take_owner(&self, py: Python<'_>, token: Token) -> Option<Owner> {
        self.owners
            .with(py, |owners| match owners.get_mut(token.index()) {
                Some(place) if place.as_ref().is_some_and(|(owned, _)| *owned == token) => {
                    place.take().map(|(_, owner)| owner)
                }
                _ => None,
            })
    }

    /// Every socket that is open.
    pub fn sockets(&self, py: Python<'_>) -> Vec<Py<Socket>> {
        self.owners.with(py, |owners| {
            let owned = owners.iter().flatten();
            let sockets = owned.filter_map(|(_, owner)| match owner {
                Owner::Socket(socket) => Some(socket.clone_ref(py)),
                _ => None,
            });
            sockets.collect()
        })
    }

    pub fn set_fatal(&self, py: Python<'_>, error: PyErr) {
        drop(self.fatal.replace(py, Some(error)));
    }

    pub fn check_fatal(&self, py: Python<'_>) -> PyResult<()> {
        self.fatal.replace(py, None).map_or(Ok(()), Err)
    }

    #[inline]
    pub fn is_debugged(&self, py: Python<'_>) -> bool {
        self.debugged.get(py)
    }

    fn check_open(&self, py: Python<'_>) -> PyResult<()> {
        if self.ended.get(py) {
            return Err(PyRuntimeError::new_err(
                "the event loop of this thread is closed",
            ));
        }
        Ok(())
    }
}

#[pymethods]
impl Engine {
    #[new]
    fn new() -> PyResult<Self> {
        let core = core::Engine::new().map_err(|error| errors::from_io(&error))?;
        Ok(Self {
            poller: Arc::clone(core.poller()),
            core: ThreadBound::new(core),
            host: Host::default(),
            settings: LastSettings::default(),
            owners: Guarded::new(Vec::new()),
            work: Guarded::new(Some(Box::default())),
            interrupted: Guarded::new(false),
            fatal: Guarded::new(None),
            ended: Guarded::new(false),
            debugged: Guarded::new(false),
        })
    }

    /// From now on this object stands for the event loop; None parts the two.
    fn attach(&self, py: Python<'_>, host: Option<Py<PyAny>>) {
        let doorkeeper = host.as_ref().map(|host| host.clone_ref(py));
        self.core.set_host(py, doorkeeper);
        self.host.attach(py, host);
    }

    /// Whether handlers that take long are to be named.
    fn set_debug(&self, py: Python<'_>, debug: bool) {
        self.debugged.replace(py, debug);
    }

    /// In a forked child: parts from the parent's queue and connections. An engine that no loop
    /// has run keeps its listeners; any other is the parent's. True if that leaves listeners behind.
    fn begin_anew(&self, py: Python<'_>) -> PyResult<bool> {
        let waits = self.host.is_awaited(py);
        let begun = self.core.with(|core| {
            let leaves = !waits && core.has_listeners();
            core.begin_anew(waits).map(|()| leaves)
        });
        if !waits || !matches!(begun, Ok(Ok(_))) {
            self.core.leave_behind();
        }
        begun?.map_err(|error| errors::from_io(&error))
    }

    /// `RuntimeError` if it belongs to the process that this one was forked from.
    fn check_process(&self) -> PyResult<()> {
        if self.core.is_left_behind() {
            return Err(errors::left_behind());
        }
        Ok(())
    }

    /// It belongs to the process that this one was forked from.
    #[getter]
    fn left_behind(&self) -> bool {
        self.core.is_left_behind()
    }

    /// The queue's own descriptor, readable whenever `turn()` has something to do.
    fn fileno(&self) -> RawFd {
        self.poller.as_raw_fd()
    }

    fn watch_from_outside(&self) -> PyResult<()> {
        self.core.with(core::Engine::watch_from_outside)
    }

    /// A socket that is not connected yet.
    fn socket(
        this: &Bound<'_, Self>,
        handlers: Py<Handlers>,
        data: Py<PyAny>,
        hostname: &str,
    ) -> PyResult<Py<Socket>> {
        this.get().check_open(this.py())?;
        Py::new(
            this.py(),
            Socket::new(
                this.clone().unbind(),
                Some(handlers),
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
            Err(_) => core::Attempt::tcp(socket_address(address)?, (bound >= 0).then_some(bound)),
        };
        let timeout = timeout.map(settings::duration);
        let add = |attempt| engine.core.with(|core| core.add_attempt(attempt, timeout));
        let added = match started.map(add) {
            Ok(added) => added?,
            Err(error) => Err(error),
        };
        let (token, connected) = added.map_err(|error| errors::from_io(&error))?;
        let attempt = Py::new(py, Attempt::new(this.clone().unbind(), token, connected))?;
        if !connected {
            engine.set_owner(py, token, Owner::Attempt(attempt.clone_ref(py)));
        }
        Ok(attempt)
    }

    /// Makes a connected descriptor the socket's and calls its `open`. Returns as
    /// `Attempt.establish()` does.
    fn adopt(
        this: &Bound<'_, Self>,
        fd: RawFd,
        socket: &Bound<'_, Socket>,
        options: &Bound<'_, PyAny>,
        tls: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let py = this.py();
        let engine = this.get();
        engine.check_open(py)?;
        let settings = engine.settings.of(options)?;
        let driver = socket.get().prepare_tls(py, tls)?;
        let token = engine
            .core
            .with(|core| core.adopt(fd, settings, driver))?
            .map_err(|error| errors::from_io(&error))?;
        engine.set_owner(py, token, Owner::Socket(socket.clone().unbind()));
        dispatch::opened(this, socket, token)?;
        socket.get().readiness(py)
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

    /// Accepts connections from a descriptor that is bound and listening.
    fn listen(
        this: &Bound<'_, Self>,
        fd: RawFd,
        options: &Bound<'_, PyAny>,
        handlers: Py<Handlers>,
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
        engine.set_owner(py, token, Owner::Listener(listener.clone_ref(py)));
        Ok(listener)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.core.traverse(&visit)?;
        self.host.traverse(&visit)?;
        self.owners.traverse(&visit, |owners, visit| {
            for (_, owner) in owners.iter().flatten() {
                match owner {
                    Owner::Socket(socket) => visit.call(socket)?,
                    Owner::Listener(listener) => visit.call(listener)?,
                    Owner::Attempt(attempt) => visit.call(attempt)?,
                }
            }
            Ok(())
        })
    }

    fn __clear__(&self) {
        self.core.clear();
        self.host.clear();
        drop(self.owners.take());
    }
}

/// `(host, port)` or `(host, port, flowinfo, scope_id)`, as `getaddrinfo` returns them.
fn socket_address(address: &Bound<'_, PyAny>) -> PyResult<SocketAddr> {
    let address = address.cast::<PyTuple>()?;
    let host: String = address.get_item(0)?.extract()?;
    let port: u16 = address.get_item(1)?.extract()?;
    let number = |index: usize| match address.get_item(index) {
        Ok(value) => value.extract::<u32>(),
        Err(_) => Ok(0),
    };
    let literal = host.split('%').next().unwrap_or_default();
    match literal.parse() {
        Ok(IpAddr::V4(ip)) => Ok(SocketAddrV4::new(ip, port).into()),
        Ok(IpAddr::V6(ip)) => Ok(SocketAddrV6::new(ip, port, number(2)?, number(3)?).into()),
        Err(_) => Err(PyValueError::new_err(format!("not an address: {host}"))),
    }
}
