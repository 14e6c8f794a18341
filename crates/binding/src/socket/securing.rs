//! How TLS begins on it: at once, changed before the handshake, or by an upgrade.

use mantou_engine::proxy::Header;
use mantou_engine::{self as core, Token};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::waiters::Goal;
use super::{Origin, Phase, Socket};
use crate::errors;
use crate::handlers::Handlers;
use crate::tls::Start;
use crate::totals::Fact;

impl Socket {
    /// The session of a connection that begins with these `TlsSettings`.
    pub fn prepare_tls(
        &self,
        py: Python<'_>,
        settings: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<core::Driver>> {
        let Some(settings) = settings else {
            return Ok(None);
        };
        let side: String = settings.getattr("side")?.extract()?;
        let start = Start::new(settings, side == "server", &self.hostname)?;
        self.begin_with(py, start).map(Some)
    }

    /// Keeps how TLS begins until it has begun, and returns the engine's part of it.
    pub fn begin_with(&self, py: Python<'_>, start: Start) -> PyResult<core::Driver> {
        let (driver, foreign) = start.driver(py, &self.engine.get().bios)?;
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

    pub fn has_driver(&self, py: Python<'_>) -> bool {
        self.driver.with(py, |driver| driver.is_some())
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
        let initial = start.initial.clone();
        if let core::Driver::Native(session) = self.begin_with(py, start)? {
            self.with(py, |core, token| {
                core.replace_session(token, session, initial);
            })?;
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

    /// The TLS socket that takes the connection over.
    pub fn upgrade_with<'py>(
        this: &Bound<'py, Self>,
        mut start: Start,
        handlers: Option<Py<Handlers>>,
        data: Py<PyAny>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = this.py();
        let raw = this.get();
        let unread = raw.with(py, |core, token| core.waiting_bytes(token))?;
        start.initial.extend(unread);
        let initial = start.initial.clone();
        let secure = raw.successor(py, this, handlers, data);
        let driver = secure.begin_with(py, start)?;
        let token = raw.begin_upgrade(py)?;
        let secure = Bound::new(py, secure)?;
        let engine = raw.engine().get();
        drop(engine.take_owner(py, token));
        engine.set_owner(py, token, &secure);
        secure.get().inherit(py, token, raw);
        engine
            .core
            .with(|core| core.secure(token, driver, initial))?;
        Ok(secure)
    }

    /// Ciphertext that was read before this socket took over, behind that which it began with.
    pub fn receive_early(&self, py: Python<'_>, ciphertext: &[u8]) -> PyResult<()> {
        if !self.with(py, |core, token| core.can_restart(token))? {
            // Its connection is gone already.
            return Ok(());
        }
        self.restart(py, "TLS", |start| {
            start.initial.extend_from_slice(ciphertext);
            Ok(())
        })
    }

    /// Lets go of its connection, for a TLS socket to take it over.
    pub fn begin_upgrade(&self, py: Python<'_>) -> PyResult<Token> {
        let token = self.token.get(py);
        let state = |core: &mut core::Engine| (core.can_upgrade(token), core.is_secure(token));
        let (open, secure) = self.engine.get().core.with(state)?;
        if !open || self.phase.get(py) != Phase::Open {
            return Err(self.unfit_for_tls(py, token)?);
        }
        if secure {
            return Err(PyValueError::new_err("the socket speaks TLS already"));
        }
        let last_look = |core: &mut core::Engine| (core.farewell(token), core.queued(token));
        let (mut farewell, queued) = self.engine.get().core.with(last_look)?;
        // What waits still leaves in clear, as this socket's.
        farewell.bytes_written += queued as u64;
        self.count(py, Fact::Upgraded(&farewell));
        self.farewell.replace(py, farewell);
        self.token.replace(py, Token::NONE);
        self.phase.replace(py, Phase::Detached);
        Ok(token)
    }

    fn unfit_for_tls(&self, py: Python<'_>, token: Token) -> PyResult<PyErr> {
        let why = self.why_lost(py)?;
        let has_finished = |core: &mut core::Engine| core.has_finished(token);
        let text = if why.is_none() && self.engine.get().core.with(has_finished)? {
            "the peer has finished: there is nobody to speak TLS with"
        } else {
            "only an open socket can be upgraded to TLS"
        };
        Ok(errors::not_open(py, why, text))
    }

    /// The TLS socket for the connection that `begin_upgrade` let go of.
    pub fn successor(
        &self,
        py: Python<'_>,
        this: &Bound<'_, Self>,
        handlers: Option<Py<Handlers>>,
        data: Py<PyAny>,
    ) -> Self {
        let listener = self
            .listener
            .as_ref()
            .map(|listener| listener.clone_ref(py));
        let engine = self.engine.clone_ref(py);
        let context = self.context.share(py);
        let socket = Self::new(engine, handlers, listener, data, &self.hostname, context);
        let origin = Origin {
            raw: Some(this.clone().unbind()),
            proxy: self.proxy_header(py),
        };
        socket.origin.replace(py, Some(Box::new(origin)));
        socket
    }

    /// Takes over a connection, and those who wait for its bytes to be sent.
    pub fn inherit(&self, py: Python<'_>, token: Token, from: &Self) {
        self.token.replace(py, token);
        let waiting = from.waiters.with(py, |waiters| {
            let sent = |(goal, _): &(Goal, _)| matches!(goal, Goal::Sent(_) | Goal::Room(_));
            let (waiting, rest) = std::mem::take(waiters).into_iter().partition(sent);
            *waiters = rest;
            let waiting: Vec<(Goal, Py<PyAny>)> = waiting;
            waiting
        });
        drop(self.waiters.replace(py, waiting));
    }

    pub fn take_raw(&self, py: Python<'_>) -> Option<Py<Socket>> {
        let take = |origin: &mut Option<Box<Origin>>| origin.as_mut()?.raw.take();
        self.origin.with(py, take)
    }

    pub fn raw(&self, py: Python<'_>) -> Option<Py<Socket>> {
        let look = |origin: &mut Option<Box<Origin>>| {
            let raw = origin.as_ref()?.raw.as_ref();
            raw.map(|raw| raw.clone_ref(py))
        };
        self.origin.with(py, look)
    }

    pub fn proxy_header(&self, py: Python<'_>) -> Option<Box<Header>> {
        let look = |origin: &mut Option<Box<Origin>>| origin.as_ref()?.proxy.clone();
        self.origin.with(py, look)
    }

    pub fn set_proxy(&self, py: Python<'_>, proxy: Option<Box<Header>>) {
        let origin = Origin { raw: None, proxy };
        self.origin.replace(py, Some(Box::new(origin)));
    }
}
