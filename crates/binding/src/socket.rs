//! A connection, seen from Python.

use std::net::SocketAddr;

use mantou_engine::{self as core, Farewell, ReadyState, Token, Written};
use pyo3::exceptions::{PyConnectionError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::{PyTraverseError, PyVisit};

use crate::buffers::Outgoing;
use crate::cell::Guarded;
use crate::engine::Engine;
use crate::errors;
use crate::handlers::Handlers;
use crate::host;
use crate::listener::Listener;
use crate::settings;
use crate::tls::Start;

/// Bun's numbers for what the engine does not know of.
const DETACHED: i8 = -1;
const CONNECTING: i8 = 2;

/// How far its owner has been told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    /// The transport is there; `open` waits for the TLS handshake.
    ShakingHands,
    /// `open` was called; `close` will be.
    Open,
    Closed,
    /// It never opened; `connect_error` was called.
    Failed,
    /// A TLS socket took the connection over; `close` is called with its own.
    Detached,
}

/// Somebody waits for the socket.
enum Goal {
    /// So many bytes sent.
    Sent(u64),
    /// The TLS handshake done.
    Secured,
    Closed,
}

/// A connection. Made by `connect()` and by listeners.
#[pyclass(frozen, weakref, generic, module = "mantou")]
pub struct Socket {
    engine: Py<Engine>,
    listener: Option<Py<Listener>>,
    token: Guarded<Token>,
    phase: Guarded<Phase>,
    /// Its own handlers; an accepted socket uses its listener's, unless it was upgraded.
    handlers: Guarded<Option<Py<Handlers>>>,
    data: Guarded<Option<Py<PyAny>>>,
    /// Why it is being closed, where we know better than the kernel.
    failure: Guarded<Option<Py<PyAny>>>,
    farewell: Guarded<Farewell>,
    waiters: Guarded<Vec<(Goal, Py<PyAny>)>>,
    /// The host that it was connected to: the name that TLS checks if it is told no other.
    hostname: Box<str>,
    /// How its side of TLS is to begin, until it has begun.
    tls_start: Guarded<Option<Box<Start>>>,
    /// Who drives its TLS session if the engine does not, and what it failed with.
    driver: Guarded<Option<Py<PyAny>>>,
    driver_error: Guarded<Option<Py<PyAny>>>,
    /// The plain socket that it took the connection over from.
    raw: Guarded<Option<Py<Socket>>>,
}

impl Socket {
    pub fn new(
        engine: Py<Engine>,
        handlers: Option<Py<Handlers>>,
        listener: Option<Py<Listener>>,
        data: Py<PyAny>,
        hostname: &str,
    ) -> Self {
        Self {
            engine,
            listener,
            token: Guarded::new(Token::NONE),
            phase: Guarded::new(Phase::Connecting),
            handlers: Guarded::new(handlers),
            data: Guarded::new(Some(data)),
            failure: Guarded::new(None),
            farewell: Guarded::new(Farewell::default()),
            waiters: Guarded::new(Vec::new()),
            hostname: hostname.into(),
            tls_start: Guarded::new(None),
            driver: Guarded::new(None),
            driver_error: Guarded::new(None),
            raw: Guarded::new(None),
        }
    }

    #[inline]
    pub fn with<R>(
        &self,
        py: Python<'_>,
        act: impl FnOnce(&mut core::Engine, Token) -> R,
    ) -> PyResult<R> {
        let token = self.token.get(py);
        self.engine.get().core.with(|core| act(core, token))
    }

    /// The handlers in force for the next event.
    #[inline]
    pub fn current_handlers(&self, py: Python<'_>) -> Option<Py<Handlers>> {
        match (self.handlers.cloned(py), &self.listener) {
            (None, Some(listener)) => listener.get().handlers(py),
            (own, _) => own,
        }
    }

    pub fn native_listener<'py>(&self, py: Python<'py>) -> Option<&Bound<'py, Listener>> {
        self.listener.as_ref().map(|listener| listener.bind(py))
    }

    pub fn came_from(&self, py: Python<'_>, listener: &Bound<'_, Listener>) -> bool {
        self.native_listener(py).is_some_and(|own| own.is(listener))
    }

    // Stations of its life

    /// It has a connection, and its owner is about to hear of it.
    pub fn start(&self, py: Python<'_>, token: Token) {
        self.token.replace(py, token);
        self.phase.replace(py, Phase::Open);
    }

    /// The transport is there, TLS is not yet.
    pub fn start_handshake(&self, py: Python<'_>, token: Token) {
        self.token.replace(py, token);
        self.phase.replace(py, Phase::ShakingHands);
    }

    pub fn is_shaking_hands(&self, py: Python<'_>) -> bool {
        self.phase.get(py) == Phase::ShakingHands
    }

    /// Nobody was told of it yet.
    pub fn is_new(&self, py: Python<'_>) -> bool {
        self.phase.get(py) == Phase::Connecting
    }

    pub fn owns(&self, py: Python<'_>, token: Token) -> bool {
        self.token.get(py) == token
    }

    pub fn is_open(&self, py: Python<'_>) -> PyResult<bool> {
        self.with(py, |core, token| core.is_open(token))
    }

    /// Begins to close for the given reason, unless it is closing already.
    pub fn close_for(&self, py: Python<'_>, reason: Py<PyAny>) -> PyResult<()> {
        if self.is_open(py)? {
            drop(self.failure.replace(py, Some(reason)));
            self.with(py, core::Engine::close_gracefully)?;
        }
        Ok(())
    }

    /// As `close_for`, for a connection that does not move.
    pub fn give_up_for(&self, py: Python<'_>, reason: Py<PyAny>) -> PyResult<()> {
        if self.is_open(py)? {
            drop(self.failure.replace(py, Some(reason)));
            self.with(py, core::Engine::close_stalled)?;
        }
        Ok(())
    }

    pub fn failure(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.failure.cloned(py)
    }

    /// Its connection is gone. Returns why it was closed, where that is known here.
    pub fn finish(&self, py: Python<'_>, farewell: Farewell) -> Option<Py<PyAny>> {
        self.token.replace(py, Token::NONE);
        self.phase.replace(py, Phase::Closed);
        self.farewell.replace(py, farewell);
        self.failure.replace(py, None)
    }

    pub fn fail(&self, py: Python<'_>) {
        self.token.replace(py, Token::NONE);
        self.phase.replace(py, Phase::Failed);
    }

    // TLS that begins, at once or later

    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    pub fn engine(&self) -> &Py<Engine> {
        &self.engine
    }

    /// The session of a client that connects with these `TlsSettings`.
    pub fn prepare_tls(
        &self,
        py: Python<'_>,
        settings: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<core::Driver>> {
        let Some(settings) = settings else {
            return Ok(None);
        };
        let start = Start::new(settings, false, &self.hostname)?;
        self.begin_with(py, start).map(Some)
    }

    /// Keeps how TLS begins until it has begun, and returns the engine's part of it.
    pub fn begin_with(&self, py: Python<'_>, start: Start) -> PyResult<core::Driver> {
        let (driver, foreign) = start.driver(py)?;
        self.tls_start.replace(py, Some(Box::new(start)));
        self.set_driver(py, foreign);
        Ok(driver)
    }

    pub fn set_driver(&self, py: Python<'_>, driver: Option<Py<PyAny>>) {
        drop(self.driver.replace(py, driver));
    }

    pub fn driver(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.driver.cloned(py)
    }

    pub fn set_driver_error(&self, py: Python<'_>, error: Py<PyAny>) {
        drop(self.driver_error.replace(py, Some(error)));
    }

    pub fn take_driver_error(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.driver_error.replace(py, None)
    }

    /// TLS has begun; how cannot be changed any more.
    pub fn forget_tls_start(&self, py: Python<'_>) {
        drop(self.tls_start.replace(py, None));
    }

    /// Changes how TLS begins, as long as it has not.
    pub fn restart(
        &self,
        py: Python<'_>,
        what: &str,
        change: impl FnOnce(&mut Start),
    ) -> PyResult<()> {
        let late = || PyValueError::new_err(format!("{what} is for clients before the handshake"));
        let mut start = self.tls_start.replace(py, None).ok_or_else(late)?;
        if start.server_side {
            return Err(late());
        }
        change(&mut start);
        if let core::Driver::Native(session) = self.begin_with(py, *start)? {
            self.with(py, |core, token| core.replace_session(token, session))?;
        }
        Ok(())
    }

    /// Lets go of its connection, for a TLS socket to take it over.
    pub fn begin_upgrade(&self, py: Python<'_>) -> PyResult<Token> {
        let token = self.token.get(py);
        let state = |core: &mut core::Engine| (core.can_upgrade(token), core.is_secure(token));
        let (open, secure) = self.engine.get().core.with(state)?;
        if !open || self.phase.get(py) != Phase::Open {
            return Err(PyConnectionError::new_err((
                libc::ENOTCONN,
                "only an open socket can be upgraded to TLS",
            )));
        }
        if secure {
            return Err(PyValueError::new_err("the socket speaks TLS already"));
        }
        let last_look = |core: &mut core::Engine| (core.farewell(token), core.queued(token));
        let (mut farewell, queued) = self.engine.get().core.with(last_look)?;
        // What waits still leaves in clear, as this socket's.
        farewell.bytes_written += queued as u64;
        self.farewell.replace(py, farewell);
        self.token.replace(py, Token::NONE);
        self.phase.replace(py, Phase::Detached);
        Ok(token)
    }

    /// The TLS socket for the connection that `begin_upgrade` let go of.
    pub fn successor(
        &self,
        py: Python<'_>,
        this: &Bound<'_, Self>,
        handlers: Py<Handlers>,
        data: Py<PyAny>,
    ) -> Self {
        let listener = self
            .listener
            .as_ref()
            .map(|listener| listener.clone_ref(py));
        let engine = self.engine.clone_ref(py);
        let socket = Self::new(engine, Some(handlers), listener, data, &self.hostname);
        socket.raw.replace(py, Some(this.clone().unbind()));
        socket
    }

    /// Takes over a connection, and those who wait for its bytes to be sent.
    pub fn inherit(&self, py: Python<'_>, token: Token, from: &Self) {
        self.token.replace(py, token);
        let waiting = from.waiters.with(py, |waiters| {
            let sent = |(goal, _): &(Goal, _)| matches!(goal, Goal::Sent(_));
            let (waiting, rest) = std::mem::take(waiters).into_iter().partition(sent);
            *waiters = rest;
            let waiting: Vec<(Goal, Py<PyAny>)> = waiting;
            waiting
        });
        drop(self.waiters.replace(py, waiting));
    }

    pub fn take_raw(&self, py: Python<'_>) -> Option<Py<Socket>> {
        self.raw.replace(py, None)
    }

    /// The connection that it gave away is over.
    pub fn finish_detached(&self, py: Python<'_>) {
        self.phase.replace(py, Phase::Closed);
    }

    pub fn last_facts<R: Default>(
        &self,
        py: Python<'_>,
        look: impl FnOnce(&core::Facts) -> R,
    ) -> R {
        self.farewell.with(py, |farewell| {
            farewell.facts.as_ref().map(look).unwrap_or_default()
        })
    }

    /// Wakes those whose bytes have been sent.
    pub fn settle_sent(&self, py: Python<'_>) -> PyResult<()> {
        if self.waiters.with(py, |waiters| waiters.is_empty()) {
            return Ok(());
        }
        let (sent, broken) = self.with(py, |core, token| {
            (core.progress(token).0, core.broken(token))
        })?;
        let (done, still_watching) = self.waiters.with(py, |waiters| {
            let reached =
                |goal: &Goal| matches!(*goal, Goal::Sent(goal) if goal <= sent || broken.is_some());
            let (done, rest) = std::mem::take(waiters)
                .into_iter()
                .partition(|(goal, _)| reached(goal));
            *waiters = rest;
            let done: Vec<(Goal, Py<PyAny>)> = done;
            (
                done,
                waiters
                    .iter()
                    .any(|(goal, _)| matches!(goal, Goal::Sent(_))),
            )
        });
        if !still_watching {
            self.with(py, |core, token| core.watch_sends(token, false))?;
        }
        for (goal, future) in done {
            match goal {
                Goal::Sent(goal) if goal > sent => {
                    let lost = broken
                        .as_ref()
                        .map_or_else(|| lost_bytes(py), errors::from_io);
                    let lost = lost.into_value(py).into_bound(py);
                    host::resolve(future.bind(py), Some(lost.as_any()));
                }
                _ => host::resolve(future.bind(py), None),
            }
        }
        Ok(())
    }

    /// Tells all who wait that it is closed.
    pub fn settle_closed(&self, py: Python<'_>, error: Option<&Bound<'_, PyAny>>) {
        let sent = self.farewell.with(py, |farewell| farewell.sent);
        for (goal, future) in self.waiters.replace(py, Vec::new()) {
            let future = future.bind(py);
            match goal {
                Goal::Sent(goal) if goal > sent => {
                    let lost = match error {
                        Some(error) if error.is_instance_of::<PyConnectionError>() => error.clone(),
                        _ => lost_bytes(py).into_value(py).into_bound(py).into_any(),
                    };
                    host::resolve(future, Some(&lost));
                }
                // Its `open` or `handshake` closed it.
                Goal::Secured => host::resolve(future, error),
                _ => host::resolve(future, None),
            }
        }
    }

    /// Tells those who wait for the TLS handshake how it went.
    pub fn settle_secured(&self, py: Python<'_>, error: Option<&Bound<'_, PyAny>>) {
        let done = self.waiters.with(py, |waiters| {
            let secured = |(goal, _): &(Goal, _)| matches!(goal, Goal::Secured);
            let (done, rest) = std::mem::take(waiters).into_iter().partition(secured);
            *waiters = rest;
            let done: Vec<(Goal, Py<PyAny>)> = done;
            done
        });
        for (_, future) in done {
            host::resolve(future.bind(py), error);
        }
    }

    fn wait_for<'py>(&self, py: Python<'py>, goal: Goal) -> PyResult<Bound<'py, PyAny>> {
        let future = self.engine.get().host.future(py)?;
        let waiter = future.clone().unbind();
        host::enlist(py, &self.waiters, (goal, waiter), |(_, future)| future);
        Ok(future)
    }

    fn endpoints(&self, py: Python<'_>) -> PyResult<core::Endpoints> {
        if self.token.get(py) == Token::NONE {
            return Ok(self.farewell.with(py, |farewell| farewell.endpoints));
        }
        self.with(py, core::Engine::endpoints)
    }

    fn counters(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
        let known = self.with(py, |core, token| core.counters(token))?;
        Ok(known.unwrap_or_else(|| {
            self.farewell
                .with(py, |farewell| (farewell.bytes_read, farewell.bytes_written))
        }))
    }

    fn state_number(&self, py: Python<'_>) -> PyResult<i8> {
        Ok(match self.phase.get(py) {
            Phase::Connecting | Phase::ShakingHands => CONNECTING,
            Phase::Failed | Phase::Detached => DETACHED,
            Phase::Closed => ReadyState::Closed as i8,
            Phase::Open => self.with(py, |core, token| core.ready_state(token))? as i8,
        })
    }
}

#[pymethods]
impl Socket {
    // Sending

    /// Hands data to the kernel, as much as it takes right now.
    #[pyo3(signature = (data, byte_offset=0, byte_length=None))]
    fn write(
        &self,
        data: &Bound<'_, PyAny>,
        byte_offset: isize,
        byte_length: Option<isize>,
    ) -> PyResult<isize> {
        let outgoing = Outgoing::new(data)?;
        let bytes = part(outgoing.as_slice()?, byte_offset, byte_length)?;
        match self.with(data.py(), |core, token| core.write(token, bytes))? {
            Written::Accepted(n) => Ok(n.cast_signed()),
            Written::Closed => Ok(-1),
        }
    }

    /// Takes everything, sends what it can and queues the rest.
    fn write_all(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let outgoing = Outgoing::new(data)?;
        let bytes = outgoing.as_slice()?;
        self.with(data.py(), |core, token| core.write_all(token, bytes))?
            .map_err(|error| errors::from_write_all(&error, bytes.len()))
    }

    /// A future that is done once everything accepted so far is in the kernel.
    fn drained<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (open, (sent, goal)) = self.with(py, |core, token| {
            (
                (core.is_open(token) || core.queued(token) > 0) && core.broken(token).is_none(),
                core.progress(token),
            )
        })?;
        let future = self.wait_for(py, Goal::Sent(if open { goal } else { 0 }))?;
        if !open {
            let taken = self.waiters.with(py, Vec::pop);
            drop(taken);
            let lost = lost_bytes(py).into_value(py).into_bound(py);
            host::resolve(&future, Some(lost.as_any()));
        } else if sent >= goal {
            self.settle_sent(py)?;
        } else {
            self.with(py, |core, token| core.watch_sends(token, true))?;
        }
        Ok(future)
    }

    /// Bytes accepted and not yet in the kernel.
    #[getter]
    fn buffered(&self, py: Python<'_>) -> PyResult<usize> {
        self.with(py, |core, token| core.queued(token))
    }

    /// A context whose writes leave together.
    fn cork(this: Bound<'_, Self>) -> Cork {
        Cork(this.unbind())
    }

    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, core::Engine::flush)
    }

    // Ending

    #[pyo3(signature = (data=None, byte_offset=0, byte_length=None))]
    fn end(
        &self,
        py: Python<'_>,
        data: Option<&Bound<'_, PyAny>>,
        byte_offset: isize,
        byte_length: Option<isize>,
    ) -> PyResult<isize> {
        let outgoing = data.map(Outgoing::new).transpose()?;
        let bytes = match &outgoing {
            Some(outgoing) => part(outgoing.as_slice()?, byte_offset, byte_length)?,
            None => part(&[], byte_offset, byte_length)?,
        };
        match self.with(py, |core, token| core.end(token, bytes))? {
            Ok(()) => Ok(bytes.len().cast_signed()),
            Err(core::WriteAllError::Closed) => Ok(-1),
            Err(error) => Err(errors::from_write_all(&error, bytes.len())),
        }
    }

    #[pyo3(signature = (half_close=false))]
    fn shutdown(&self, py: Python<'_>, half_close: bool) -> PyResult<()> {
        if half_close {
            self.with(py, core::Engine::stop_reading)
        } else {
            self.with(py, core::Engine::shutdown)
        }
    }

    pub fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, core::Engine::close_gracefully)
    }

    pub fn terminate(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, core::Engine::terminate)
    }

    // Flow and time

    fn pause(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |core, token| core.set_paused(token, true))
    }

    fn resume(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |core, token| core.set_paused(token, false))
    }

    fn timeout(&self, seconds: &Bound<'_, PyAny>) -> PyResult<()> {
        let idle = settings::seconds(seconds, "seconds")?;
        let idle = (!idle.is_zero()).then_some(idle);
        self.with(seconds.py(), |core, token| {
            core.set_idle_timeout(token, idle);
        })
    }

    #[pyo3(signature = (no_delay=true))]
    fn set_no_delay(&self, py: Python<'_>, no_delay: bool) -> PyResult<bool> {
        let result = self.with(py, |core, token| core.set_no_delay(token, no_delay))?;
        Ok(result.is_ok())
    }

    #[pyo3(signature = (enable=false, initial_delay=None), text_signature = "(self, /, enable=False, initial_delay=0.0)")]
    fn set_keep_alive(
        &self,
        py: Python<'_>,
        enable: bool,
        initial_delay: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let delay = initial_delay.map(|delay| settings::seconds(delay, "initial_delay"));
        let delay = delay.transpose()?.unwrap_or_default();
        let result = self.with(py, |core, token| core.set_keep_alive(token, enable, delay))?;
        Ok(result.is_ok())
    }

    // Handlers and owner

    /// Replaces the handlers, of the whole listener for an accepted socket.
    fn reload(&self, socket: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = socket.py();
        self.with(py, |_, _| ())?;
        let handlers = Handlers::compile(socket)?;
        let own = self.handlers.with(py, |own| own.is_some());
        match &self.listener {
            Some(listener) if !own => listener.get().set_handlers(py, handlers),
            _ => drop(self.handlers.replace(py, Some(handlers))),
        }
        Ok(())
    }

    #[pyo3(name = "ref")]
    fn reference(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |core, token| core.set_referenced(token, true))
    }

    #[pyo3(name = "unref")]
    fn unreference(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |core, token| core.set_referenced(token, false))
    }

    #[getter]
    fn data(&self, py: Python<'_>) -> Py<PyAny> {
        self.data.cloned(py).unwrap_or_else(|| py.None())
    }

    #[setter]
    pub fn set_data(&self, py: Python<'_>, data: Py<PyAny>) {
        drop(self.data.replace(py, Some(data)));
    }

    #[getter]
    fn listener(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.listener.as_ref()?.get().owner(py)
    }

    // What there is to know

    #[getter]
    fn ready_state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let number = self.state_number(py)?;
        CLASS
            .import(py, "mantou._ready_state", "ReadyState")?
            .call1((number,))
    }

    #[getter]
    fn local_address(&self, py: Python<'_>) -> PyResult<Option<String>> {
        Ok(self
            .endpoints(py)?
            .local
            .map(|local| local.ip().to_string()))
    }

    #[getter]
    fn local_port(&self, py: Python<'_>) -> PyResult<Option<u16>> {
        Ok(self.endpoints(py)?.local.map(|local| local.port()))
    }

    #[getter]
    fn local_family(&self, py: Python<'_>) -> PyResult<Option<&'static str>> {
        Ok(self.endpoints(py)?.local.map(family))
    }

    #[getter]
    fn remote_address(&self, py: Python<'_>) -> PyResult<Option<String>> {
        Ok(self
            .endpoints(py)?
            .remote
            .map(|remote| remote.ip().to_string()))
    }

    #[getter]
    fn remote_port(&self, py: Python<'_>) -> PyResult<Option<u16>> {
        Ok(self.endpoints(py)?.remote.map(|remote| remote.port()))
    }

    #[getter]
    fn remote_family(&self, py: Python<'_>) -> PyResult<Option<&'static str>> {
        Ok(self.endpoints(py)?.remote.map(family))
    }

    #[getter]
    fn bytes_read(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.counters(py)?.0)
    }

    #[getter]
    fn bytes_written(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.counters(py)?.1)
    }

    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        Ok(self
            .with(py, |core, token| core.raw_fd(token))?
            .unwrap_or(-1))
    }

    /// A future that is done once `close` has been called.
    fn _closed<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let future = self.wait_for(py, Goal::Closed)?;
        if matches!(self.phase.get(py), Phase::Closed | Phase::Failed) {
            self.settle_closed(py, None);
        }
        Ok(future)
    }

    /// A future that is done once the TLS handshake is.
    fn _secured<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let future = self.wait_for(py, Goal::Secured)?;
        if !self.with(py, |core, token| core.is_handshaking(token))? {
            self.settle_secured(py, None);
        }
        Ok(future)
    }

    /// Gives up a connection that nobody was told of; nobody will be.
    fn _abandon(&self, py: Python<'_>) -> PyResult<()> {
        if !self.is_shaking_hands(py) {
            return self.terminate(py);
        }
        let token = self.token.get(py);
        let farewell = self.with(py, |core, token| {
            core.terminate(token);
            core.release(token)
        })?;
        drop(self.engine.get().take_owner(py, token));
        self.finish(py, farewell);
        self.fail(py);
        Ok(())
    }

    fn __enter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    #[pyo3(signature = (*exception))]
    fn __exit__(&self, exception: &Bound<'_, PyAny>) -> PyResult<()> {
        self.with(exception.py(), |core, token| core.end(token, &[]))
            .map(drop)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let state = match self.state_number(py)? {
            -2 => "shut down",
            -1 => "detached",
            0 => "closed",
            1 => "established",
            _ => "connecting",
        };
        let remote = self.endpoints(py)?.remote;
        let remote = remote
            .map(|remote| format!(" remote={remote}"))
            .unwrap_or_default();
        Ok(format!("<mantou.Socket {state}{remote}>"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.engine)?;
        visit.call(&self.listener)?;
        self.handlers.traverse(&visit, |it, visit| visit.call(it))?;
        self.data.traverse(&visit, |it, visit| visit.call(it))?;
        self.failure.traverse(&visit, |it, visit| visit.call(it))?;
        self.driver.traverse(&visit, |it, visit| visit.call(it))?;
        self.driver_error
            .traverse(&visit, |it, visit| visit.call(it))?;
        self.raw.traverse(&visit, |it, visit| visit.call(it))?;
        self.waiters.traverse(&visit, |waiters, visit| {
            waiters
                .iter()
                .try_for_each(|(_, future)| visit.call(future))
        })
    }

    fn __clear__(&self) {
        drop(self.handlers.take());
        drop(self.data.take());
        drop(self.failure.take());
        drop(self.driver.take());
        drop(self.driver_error.take());
        drop(self.raw.take());
        drop(self.waiters.take());
    }
}

/// What `Socket.cork()` returns.
#[pyclass(frozen, module = "mantou._core")]
pub struct Cork(Py<Socket>);

#[pymethods]
impl Cork {
    fn __enter__(&self, py: Python<'_>) -> PyResult<()> {
        self.0.get().with(py, core::Engine::cork)
    }

    #[pyo3(signature = (*exception))]
    fn __exit__(&self, exception: &Bound<'_, PyAny>) -> PyResult<()> {
        self.0.get().with(exception.py(), core::Engine::uncork)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}

/// The part of the data that offset and length select.
#[inline]
fn part(data: &[u8], offset: isize, length: Option<isize>) -> PyResult<&[u8]> {
    if offset == 0 && length.is_none() {
        return Ok(data);
    }
    let outside = |name: &str, value: isize| {
        let size = data.len();
        PyValueError::new_err(format!(
            "{name}={value} is outside the {size} bytes of data"
        ))
    };
    let start = usize::try_from(offset)
        .ok()
        .filter(|start| *start <= data.len());
    let rest = &data[start.ok_or_else(|| outside("byte_offset", offset))?..];
    let Some(length) = length else {
        return Ok(rest);
    };
    let end = usize::try_from(length)
        .ok()
        .filter(|end| *end <= rest.len());
    Ok(&rest[..end.ok_or_else(|| outside("byte_length", length))?])
}

fn family(address: SocketAddr) -> &'static str {
    match address {
        SocketAddr::V4(_) => "IPv4",
        SocketAddr::V6(_) => "IPv6",
    }
}

fn lost_bytes(_py: Python<'_>) -> PyErr {
    PyConnectionError::new_err("the socket was closed before everything was sent")
}
