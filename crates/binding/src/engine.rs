//! The engine object: who owns which member, and the turns of the loop.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mantou_engine::{self as core, Interest, Poller, Target, Token};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use crate::attempt::Attempt;
use crate::cell::{Guarded, ThreadBound};
use crate::dispatch::{self, Stage, Work};
use crate::errors;
use crate::handlers::Handlers;
use crate::host::Host;
use crate::listener::Listener;
use crate::settings;
use crate::socket::Socket;
use crate::tls::Way;

/// The selector's bits, as Python's `selectors` has them.
const EVENT_READ: u32 = 1;
const EVENT_WRITE: u32 = 2;

/// How long the interpreter's lock is kept at most while there is always something to do, in the
/// interpreter's own switch intervals. A thread that has waited for one of them demands the lock,
/// and from then on gets it with the next release. A release before that only wakes it, too late to
/// catch the lock, and starts its wait anew: with short holds it would never get to demand it.
const LOCK_HOLD_INTERVALS: f64 = 3.0;

/// A wait that took less found its events there already.
const REAL_WAIT: Duration = Duration::from_micros(20);

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
    poller: Arc<Poller>,
    owners: Guarded<Vec<Option<(Token, Owner)>>>,
    /// Taken out while a turn runs, which is also how a turn inside a turn is noticed.
    work: Guarded<Option<Box<Work>>>,
    interrupted: Guarded<bool>,
    /// A `KeyboardInterrupt` or `SystemExit` on its way out of the loop.
    fatal: Guarded<Option<PyErr>>,
    ended: Guarded<bool>,
}

impl Engine {
    pub fn owner(&self, py: Python<'_>, token: Token) -> Option<Owner> {
        self.owners
            .with(py, |owners| match owners.get(token.index()) {
                Some(Some((member, owner))) if *member == token => Some(owner.clone_ref(py)),
                _ => None,
            })
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

    fn check_open(&self, py: Python<'_>) -> PyResult<()> {
        if self.ended.get(py) {
            return Err(PyRuntimeError::new_err(
                "the event loop of this thread is closed",
            ));
        }
        Ok(())
    }

    fn take_work(&self, py: Python<'_>) -> PyResult<Box<Work>> {
        self.work.replace(py, None).ok_or_else(|| {
            PyRuntimeError::new_err("the event loop cannot be run from inside a handler")
        })
    }

    /// Waits for events, unless some of the last wait are still to be handled.
    fn poll(&self, py: Python<'_>, work: &mut Work, patience: Option<Duration>) -> PyResult<()> {
        if work.has_events() {
            return Ok(());
        }
        work.next = 0;
        let in_haste = patience == Some(Duration::ZERO);
        // Handing the lock over and taking it back costs more than asking whether that is needed;
        // but where the last question found nothing, the next is likely to find nothing either.
        if in_haste || !work.was_idle {
            let now = Instant::now();
            let result = if now.duration_since(work.lock_taken) > work.lock_hold {
                work.lock_taken = now;
                work.lock_hold = lock_hold(py)?;
                let events = &mut work.events;
                py.detach(|| self.poller.wait(events, Some(Duration::ZERO)))
            } else {
                self.poller.wait(&mut work.events, Some(Duration::ZERO))
            };
            forgive_interruption(result)?;
            work.was_idle = work.events.is_empty();
            if in_haste || !work.was_idle {
                return Ok(());
            }
        }
        let events = &mut work.events;
        let start = Instant::now();
        forgive_interruption(py.detach(|| self.poller.wait(events, patience)))?;
        work.lock_taken = Instant::now();
        let waited = work.lock_taken.duration_since(start) > REAL_WAIT;
        work.was_idle = waited && work.events.len() < 2;
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
            owners: Guarded::new(Vec::new()),
            work: Guarded::new(Some(Box::default())),
            interrupted: Guarded::new(false),
            fatal: Guarded::new(None),
            ended: Guarded::new(false),
        })
    }

    /// From now on this object stands for the event loop; None parts the two.
    fn attach(&self, py: Python<'_>, host: Option<Py<PyAny>>) {
        drop(self.host.0.replace(py, host));
    }

    /// The queue's own descriptor, readable whenever `turn()` has something to do.
    fn fileno(&self) -> RawFd {
        self.poller.as_raw_fd()
    }

    fn watch_from_outside(&self) -> PyResult<()> {
        self.core.with(core::Engine::watch_from_outside)
    }

    // Descriptors of the surrounding event loop

    fn register(&self, fd: RawFd, events: u32) -> PyResult<()> {
        let result = self.poller.add_foreign(fd, interest(events));
        result.map_err(|error| errors::from_io(&error))
    }

    fn modify(&self, fd: RawFd, events: u32) -> PyResult<()> {
        let result = self.poller.modify_foreign(fd, interest(events));
        result.map_err(|error| errors::from_io(&error))
    }

    fn unregister(&self, fd: RawFd) -> PyResult<()> {
        let result = self.poller.remove_foreign(fd);
        result.map_err(|error| errors::from_io(&error))
    }

    // Turns

    /// Runs turns until asyncio has something to do: one of its descriptors is ready, something
    /// was put into its queues `ready` or `scheduled`, or `timeout` (seconds) has passed. With
    /// `until_idle` also when nothing is left that keeps the loop alive.
    fn select(
        this: &Bound<'_, Self>,
        timeout: Option<f64>,
        ready: &Bound<'_, PyAny>,
        scheduled: &Bound<'_, PyAny>,
        until_idle: bool,
    ) -> PyResult<Vec<(RawFd, u32)>> {
        let py = this.py();
        let engine = this.get();
        let mut work = engine.take_work(py)?;
        let run = |work: &mut Work| -> PyResult<Vec<(RawFd, u32)>> {
            let deadline = timeout.map(|timeout| Instant::now() + settings::duration(timeout));
            let timers = scheduled.len()?;
            loop {
                if until_idle && !engine.core.with(|core| core.is_referenced())? {
                    return Ok(Vec::new());
                }
                let rest = deadline.map(|end| end.saturating_duration_since(Instant::now()));
                let own = engine.core.with(|core| core.patience())?;
                engine.poll(py, work, shorter(rest, own))?;
                let foreign = foreign_events(work);
                dispatch::turn(this, work)?;
                engine.check_fatal(py)?;
                py.check_signals()?;
                let called = !foreign.is_empty() || engine.interrupted.replace(py, false);
                let late = deadline.is_some_and(|end| end <= Instant::now());
                if called || late || ready.len()? > 0 || scheduled.len()? != timers {
                    return Ok(foreign);
                }
            }
        };
        let result = run(&mut work);
        engine.work.replace(py, Some(work));
        result
    }

    /// Runs one turn without waiting.
    fn turn(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let engine = this.get();
        let mut work = engine.take_work(py)?;
        let result = engine
            .poll(py, &mut work, Some(Duration::ZERO))
            .and_then(|()| dispatch::turn(this, &mut work));
        engine.work.replace(py, Some(work));
        result.and_then(|()| engine.check_fatal(py))
    }

    /// Makes `select()` return after the turn that is running.
    fn interrupt(&self, py: Python<'_>) {
        self.interrupted.replace(py, true);
    }

    /// Keeps the loop alive, until as many calls of `unhold()`.
    fn hold(&self) -> PyResult<()> {
        self.core.with(core::Engine::hold)
    }

    fn unhold(&self) -> PyResult<()> {
        self.core.with(core::Engine::unhold)
    }

    #[getter]
    fn referenced(&self) -> PyResult<bool> {
        self.core.with(|core| core.is_referenced())
    }

    /// An async handler's task is done: with a result, or with the exception that it raised.
    fn handler_finished(
        this: &Bound<'_, Self>,
        socket: &Bound<'_, Socket>,
        stage: u8,
        cause: Option<&Bound<'_, PyAny>>,
        result: Bound<'_, PyAny>,
        error: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let outcome = error.map_or(Ok(result), |error| Err(PyErr::from_value(error)));
        dispatch::finished(this, socket, Stage::from_number(stage)?, cause, outcome);
        this.get().check_fatal(this.py())
    }

    /// Ends everything: listeners stop, what is open is terminated and told so.
    fn end(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        this.get().ended.replace(py, true);
        dispatch::end_all(this)?;
        this.get().check_fatal(py)
    }

    // Making members

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
            Socket::new(this.clone().unbind(), Some(handlers), None, data, hostname),
        )
    }

    /// Starts to connect to a socket address (a tuple) or a unix path (bytes). `bound` is a
    /// descriptor that has its local address already, or -1; it is the engine's from now on.
    fn connect(
        this: &Bound<'_, Self>,
        address: &Bound<'_, PyAny>,
        bound: RawFd,
        callback: Py<PyAny>,
    ) -> PyResult<Py<Attempt>> {
        let py = this.py();
        let engine = this.get();
        let started = match address.cast::<PyBytes>() {
            Ok(path) => core::Attempt::unix(path.as_bytes()),
            Err(_) => core::Attempt::tcp(socket_address(address)?, (bound >= 0).then_some(bound)),
        };
        let add = |attempt| engine.core.with(|core| core.add_attempt(attempt));
        let token = match started.map(add) {
            Ok(added) => added?,
            Err(error) => Err(error),
        };
        let token = token.map_err(|error| errors::from_io(&error))?;
        let attempt = Py::new(py, Attempt::new(this.clone().unbind(), token, callback))?;
        engine.set_owner(py, token, Owner::Attempt(attempt.clone_ref(py)));
        Ok(attempt)
    }

    /// Makes a connected descriptor the socket's and calls its `open`. Returns the exception that
    /// `open` raised, if that is what the connection is being closed for.
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
        let settings = settings::from_options(options)?;
        let driver = socket.get().prepare_tls(py, tls)?;
        let token = engine
            .core
            .with(|core| core.adopt(fd, settings, driver))?
            .map_err(|error| errors::from_io(&error))?;
        engine.set_owner(py, token, Owner::Socket(socket.clone().unbind()));
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
        let settings = settings::from_options(options)?;
        let way = tls.map(Way::new);
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
            way.and_then(Way::into_context),
        );
        let listener = Py::new(py, listener)?;
        engine.set_owner(py, token, Owner::Listener(listener.clone_ref(py)));
        Ok(listener)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.host
            .0
            .traverse(&visit, |host, visit| visit.call(host))?;
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
        drop(self.host.0.take());
        drop(self.owners.take());
    }
}

fn forgive_interruption(result: io::Result<()>) -> PyResult<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(errors::from_io(&error)),
        _ => Ok(()),
    }
}

fn lock_hold(py: Python<'_>) -> PyResult<Duration> {
    let interval = py
        .import("sys")?
        .call_method0(intern!(py, "getswitchinterval"))?;
    let seconds: f64 = interval.extract()?;
    Ok(settings::duration(LOCK_HOLD_INTERVALS * seconds))
}

fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn interest(events: u32) -> Interest {
    Interest {
        readable: events & EVENT_READ != 0,
        writable: events & EVENT_WRITE != 0,
        errors: true,
    }
}

/// What a fresh wait found for asyncio.
fn foreign_events(work: &Work) -> Vec<(RawFd, u32)> {
    if work.next > 0 {
        return Vec::new();
    }
    let all = (0..work.events.len()).filter_map(|index| work.events.target(index));
    let foreign = all.filter_map(|(target, ready)| match target {
        Target::Foreign(fd) => {
            let read = if ready.readable { EVENT_READ } else { 0 };
            let write = if ready.writable { EVENT_WRITE } else { 0 };
            Some((fd, read | write))
        }
        Target::Member(_) => None,
    });
    foreign.collect()
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
