//! A connection, seen from Python.

// The doc comments of `#[pymethods]` are Python's docstrings: `:param data:` takes no backticks.
#![allow(clippy::doc_markdown)]

use mantou_engine::{self as core, Farewell, ReadyState, Token};
use pyo3::exceptions::{PyConnectionError, PyValueError};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::cell::Guarded;
use crate::context::Context;
use crate::engine::Engine;
use crate::handlers::Handlers;
use crate::listener::Listener;
use crate::tls::Start;

mod members;
mod tls;
mod waiters;

use waiters::Goal;

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
    /// The connection is gone, and its owner is still to hear of that.
    Leaving,
    Closed,
    /// It never opened; `connect_error` was called.
    Failed,
    /// A TLS socket took the connection over; `close` is called with its own.
    Detached,
}

/// What is to be said of a connection that is gone, when nobody is busy with it any more.
pub enum Ending {
    Own {
        error: Option<Py<PyAny>>,
        /// The error is a handler's own, or that of a limit which the owner has set.
        is_ours: bool,
        never_opened: bool,
        handshaking: bool,
    },
    /// It comes with that of the socket that took the connection over.
    With(Py<Socket>),
}

/// Coroutines of async handlers that wait.
#[derive(Clone, Copy, Default)]
struct Coroutines {
    /// Those that keep the other handlers waiting.
    holders: u16,
    others: u16,
}

/// A connection. Made by `connect()`, by listeners and by `upgrade_tls()`.
///
/// `D` is the type of `data`. Attributes keep their last known value after close. Methods may
/// be called at any moment, in any order, from every handler, also after close: then they do
/// nothing and return -1, False or None. `with socket:` calls `end()` on leaving.
///
/// TLS members answer None, False or nothing without a TLS session and once closed.
///
/// Bun: `Socket`.
///
/// :raises WrongThreadError: any method, and any attribute that changes while it is open, from
///     another thread than that of its event loop.
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
    /// What its handlers run in.
    context: Context,
    coroutines: Guarded<Coroutines>,
    ending: Guarded<Option<Box<Ending>>>,
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
        context: Context,
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
            context,
            coroutines: Guarded::default(),
            ending: Guarded::new(None),
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

    /// As `with`, for what may be asked from any thread.
    fn look<R>(
        &self,
        py: Python<'_>,
        question: impl FnOnce(&mut core::Engine, Token) -> R,
    ) -> PyResult<R> {
        let token = self.token.get(py);
        self.engine.get().core.ask(py, |core| question(core, token))
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

    /// Its connection is gone, and there will be no other.
    pub fn is_gone(&self, py: Python<'_>) -> bool {
        matches!(
            self.phase.get(py),
            Phase::Leaving | Phase::Closed | Phase::Failed
        )
    }

    pub fn token(&self, py: Python<'_>) -> Token {
        self.token.get(py)
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

    /// `open` and `handshake` have been called, and the connection goes on.
    pub fn is_ready(&self, py: Python<'_>) -> PyResult<bool> {
        let fails = self.failure.with(py, |failure| failure.is_some());
        if fails
            || self.ends_for_a_reason(py)
            || self.is_held(py)
            || self.phase.get(py) == Phase::ShakingHands
        {
            return Ok(false);
        }
        self.with(py, |core, token| {
            !core.is_handshaking(token) && !core.is_doomed(token)
        })
    }

    /// Its connection is gone. Returns why it was closed, where that is known here.
    pub fn finish(&self, py: Python<'_>, farewell: Farewell) -> Option<Py<PyAny>> {
        self.token.replace(py, Token::NONE);
        self.phase.replace(py, Phase::Leaving);
        self.farewell.replace(py, farewell);
        self.failure.replace(py, None)
    }

    /// Its owner hears of its end now.
    pub fn depart(&self, py: Python<'_>) {
        self.phase.replace(py, Phase::Closed);
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

    /// Changes how TLS begins, as long as it has not. Does nothing once the connection is gone.
    pub fn restart(
        &self,
        py: Python<'_>,
        what: &str,
        change: impl FnOnce(&mut Start) -> PyResult<()>,
    ) -> PyResult<()> {
        if self.is_gone(py) {
            return Ok(());
        }
        let late =
            || PyValueError::new_err(format!("{what} is only possible before the handshake"));
        if !self.with(py, |core, token| core.can_restart(token))? {
            return Err(late());
        }
        let mut start = match self.tls_start.replace(py, None) {
            Some(start) => *start,
            None => self.accepted_start(py)?.ok_or_else(late)?,
        };
        if let Err(error) = change(&mut start) {
            self.tls_start.replace(py, Some(Box::new(start)));
            return Err(error);
        }
        if let core::Driver::Native(session) = self.begin_with(py, start)? {
            self.with(py, |core, token| core.replace_session(token, session))?;
        }
        Ok(())
    }

    /// How an accepted socket begins TLS.
    fn accepted_start(&self, py: Python<'_>) -> PyResult<Option<Start>> {
        let listener = self.listener.as_ref().map(Py::get);
        let settings = listener.and_then(|listener| listener.tls(py));
        let start = settings.map(|settings| Start::new(settings.bind(py), true, &self.hostname));
        start.transpose()
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
        let context = self.context.share(py);
        let socket = Self::new(
            engine,
            Some(handlers),
            listener,
            data,
            &self.hostname,
            context,
        );
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

    pub fn raw(&self, py: Python<'_>) -> Option<Py<Socket>> {
        self.raw.cloned(py)
    }

    // Its handlers

    pub fn context(&self) -> &Context {
        &self.context
    }

    pub fn add_coroutine(&self, py: Python<'_>, holds: bool) {
        self.coroutines.with(py, |all| *all.counter(holds) += 1);
    }

    pub fn remove_coroutine(&self, py: Python<'_>, holds: bool) {
        let less = |all: &mut Coroutines| {
            let counter = all.counter(holds);
            *counter = counter.saturating_sub(1);
        };
        self.coroutines.with(py, less);
    }

    pub fn forget_coroutines(&self, py: Python<'_>) {
        self.coroutines.replace(py, Coroutines::default());
    }

    /// A coroutine keeps its other handlers waiting.
    pub fn is_held(&self, py: Python<'_>) -> bool {
        self.coroutines.get(py).holders > 0
    }

    /// The coroutine of its `timeout` handler waits.
    pub fn is_deciding(&self, py: Python<'_>) -> bool {
        self.coroutines.get(py).others > 0
    }

    pub fn has_coroutines(&self, py: Python<'_>) -> bool {
        self.is_held(py) || self.is_deciding(py)
    }

    pub fn set_ending(&self, py: Python<'_>, ending: Ending) {
        drop(self.ending.replace(py, Some(Box::new(ending))));
    }

    fn ends_for_a_reason(&self, py: Python<'_>) -> bool {
        self.ending.with(py, |ending| match ending.as_deref() {
            Some(Ending::Own { error, .. }) => error.is_some(),
            _ => false,
        })
    }

    pub fn take_ending(&self, py: Python<'_>) -> Option<Ending> {
        self.ending.replace(py, None).map(|ending| *ending)
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

    pub(super) fn endpoints(&self, py: Python<'_>) -> PyResult<core::Endpoints> {
        if self.token.get(py) == Token::NONE {
            return Ok(self.farewell.with(py, |farewell| farewell.endpoints));
        }
        self.look(py, core::Engine::endpoints)
    }

    pub(super) fn counters(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
        let known = self.with(py, |core, token| core.counters(token))?;
        Ok(known.unwrap_or_else(|| {
            self.farewell
                .with(py, |farewell| (farewell.bytes_read, farewell.bytes_written))
        }))
    }

    pub(super) fn state_number(&self, py: Python<'_>) -> PyResult<i8> {
        Ok(match self.phase.get(py) {
            Phase::Connecting | Phase::ShakingHands => CONNECTING,
            Phase::Failed | Phase::Detached => DETACHED,
            Phase::Leaving | Phase::Closed => ReadyState::Closed as i8,
            Phase::Open => self.look(py, |core, token| core.ready_state(token))? as i8,
        })
    }
}

impl Coroutines {
    fn counter(&mut self, holds: bool) -> &mut u16 {
        if holds {
            &mut self.holders
        } else {
            &mut self.others
        }
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
