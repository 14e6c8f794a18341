//! A connection, seen from Python.

// The doc comments of `#[pymethods]` are Python's docstrings: `:param data:` takes no backticks.
#![allow(clippy::doc_markdown)]

use mantou_engine::proxy::Header;
use mantou_engine::tls::Session;
use mantou_engine::{self as core, Farewell, ReadyState, Token};

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::cell::Guarded;
use crate::context::Context;
use crate::engine::Engine;
use crate::handlers::{BinaryType, Handlers};
use crate::listener::Listener;
use crate::tls::Start;
use crate::totals::{self, Fact};

mod certificates;
mod files;
mod handling;
mod members;
mod packets;
mod pipe;
mod securing;
mod sending;
mod session;
mod tls;
mod waiters;

pub use files::FileSend;
use handling::Coroutines;
pub use handling::Ending;
pub use packets::Intake;
pub use pipe::Pipe;
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

/// Where a connection came from, if there is more to say than its listener. Few have one.
struct Origin {
    /// The plain socket that it took the connection over from.
    raw: Option<Py<Socket>>,
    /// How a proxy has introduced it.
    proxy: Option<Box<Header>>,
}

/// A connection. Made by `connect()`, by listeners and by `upgrade_tls()`.
///
/// `D` is the type of `data`. Attributes keep their last known value after close. Methods may
/// be called at any moment, in any order, from every handler, also after close: then they do
/// nothing and return -1, False or None. `with socket:` calls `end()` on leaving, and
/// `async with socket:` also waits until it is closed.
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
    intake: Guarded<Intake>,
    origin: Guarded<Option<Box<Origin>>>,
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
            intake: Guarded::new(Intake::Handler),
            origin: Guarded::new(None),
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

    /// Has its own handlers from the next event on.
    pub fn set_handlers(&self, py: Python<'_>, handlers: Py<Handlers>) {
        let intake = match handlers.get().binary_type {
            BinaryType::Buffered | BinaryType::Stream => Intake::Offered,
            _ => Intake::Handler,
        };
        self.set_intake(py, intake);
        drop(self.handlers.replace(py, Some(handlers)));
    }

    /// Nobody is told of its events any more.
    pub fn forget_handlers(&self, py: Python<'_>) {
        drop(self.handlers.replace(py, None));
    }

    /// Its owner is an asyncio transport.
    pub fn is_transport(&self, py: Python<'_>) -> bool {
        let handlers = self.handlers.cloned(py);
        handlers.is_some_and(|handlers| handlers.get().transport().is_some())
    }

    pub fn native_listener<'py>(&self, py: Python<'py>) -> Option<&Bound<'py, Listener>> {
        self.listener.as_ref().map(|listener| listener.bind(py))
    }

    pub fn came_from(&self, py: Python<'_>, listener: &Bound<'_, Listener>) -> bool {
        self.native_listener(py).is_some_and(|own| own.is(listener))
    }

    /// Notes what has become of it.
    pub fn count(&self, py: Python<'_>, fact: Fact<'_>) {
        match &self.listener {
            Some(listener) => {
                listener.get().count(py, fact);
            }
            None => totals::count(py, fact),
        }
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

    /// `open` was called, and `close` is still to come.
    pub fn was_opened(&self, py: Python<'_>) -> bool {
        self.phase.get(py) == Phase::Open
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

    /// Closes at once, for the given reason if there is none yet.
    pub fn abort_for(&self, py: Python<'_>, reason: Option<Py<PyAny>>) -> PyResult<()> {
        let known = self.failure.with(py, |failure| failure.is_some());
        if !known && self.token.get(py) != Token::NONE {
            drop(self.failure.replace(py, reason));
        }
        self.with(py, core::Engine::abort)
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
        self.count(py, Fact::Closed(&farewell));
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

    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    pub fn engine(&self) -> &Py<Engine> {
        &self.engine
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

    pub fn last_session<R>(&self, py: Python<'_>, look: impl FnOnce(&Session) -> R) -> Option<R> {
        self.farewell
            .with(py, |farewell| farewell.session.as_deref().map(look))
    }

    pub fn endpoints(&self, py: Python<'_>) -> PyResult<core::Endpoints> {
        if self.token.get(py) == Token::NONE {
            return Ok(self.farewell.with(py, |farewell| farewell.endpoints));
        }
        self.look(py, core::Engine::endpoints)
    }

    pub fn counters(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
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
