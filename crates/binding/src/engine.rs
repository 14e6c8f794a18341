//! The engine object: all sockets of an event loop, and who owns which member.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use mantou_engine::{self as core, Poller, Token};
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi::PyObject;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::{PyClass, PyTraverseError, PyVisit, intern};

use crate::cell::{Guarded, ThreadBound};
use crate::errors;
use crate::host::Host;
use crate::settings::LastSettings;
use crate::ssl_channel::Bios;
use crate::totals;
use crate::work::Work;

/// What belongs to members, each in its slot. The references are strong: what is open stays alive.
#[derive(Default)]
struct ByMember(Vec<Option<(Token, Py<PyAny>)>>);

impl ByMember {
    #[inline]
    fn get(&self, py: Python<'_>, token: Token) -> Option<Py<PyAny>> {
        match self.0.get(token.index()) {
            Some(Some((member, own))) if *member == token => Some(own.clone_ref(py)),
            _ => None,
        }
    }

    /// Returns what was there before.
    fn set(&mut self, token: Token, own: Py<PyAny>) -> Option<(Token, Py<PyAny>)> {
        if self.0.len() <= token.index() {
            self.0.resize_with(token.index() + 1, || None);
        }
        self.0[token.index()].replace((token, own))
    }

    fn take(&mut self, token: Token) -> Option<Py<PyAny>> {
        match self.0.get_mut(token.index()) {
            Some(place) if place.as_ref().is_some_and(|(member, _)| *member == token) => {
                place.take().map(|(_, own)| own)
            }
            _ => None,
        }
    }

    fn all(&self) -> impl Iterator<Item = &(Token, Py<PyAny>)> {
        self.0.iter().flatten()
    }
}

/// All sockets of one thread's event loop, and the queue that they are polled with.
#[pyclass(frozen, weakref, module = "mantou._core")]
pub struct Engine {
    pub core: ThreadBound<core::Engine>,
    pub host: Host,
    pub settings: LastSettings,
    pub poller: Arc<Poller>,
    owners: Guarded<ByMember>,
    /// The pipes that members are in: few are in one.
    pipes: Guarded<ByMember>,
    /// Taken out while a turn runs, which is also how a turn inside a turn is noticed.
    pub work: Guarded<Option<Box<Work>>>,
    pub bios: Bios,
    /// A `KeyboardInterrupt` or `SystemExit` on its way out of the loop.
    fatal: Guarded<Option<PyErr>>,
    pub ended: Guarded<bool>,
    /// The loop is in debug mode: handlers that take long are named.
    debugged: Guarded<bool>,
}

impl Engine {
    /// The one of the running loop. `RuntimeError` if none runs.
    pub fn running(py: Python<'_>) -> PyResult<Bound<'_, Self>> {
        static RUNNING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        if let Some(own) = own_engine(py)? {
            return Ok(own);
        }
        let running = RUNNING.import(py, "mantou._attach", "running_engine")?;
        Ok(running.call0()?.cast_into()?)
    }

    /// The owner of a member: a socket, a listener or an attempt, which is told of its events.
    /// `None` as well if it is one of the others.
    #[inline]
    pub fn owner<'py, T: PyClass>(&self, py: Python<'py>, token: Token) -> Option<Bound<'py, T>> {
        let owner = self.owners.with(py, |owners| owners.get(py, token));
        owner?.into_bound(py).cast_into_exact().ok()
    }

    /// Has what the next event needs fetched from memory while this one is handled, its owner
    /// being one of these.
    #[inline]
    pub fn prefetch<T>(&self, py: Python<'_>, token: Token) -> PyResult<()> {
        self.core.with(|core| core.prefetch(token))?;
        self.owners.with(py, |owners| {
            if let Some(Some((_, owner))) = owners.0.get(token.index()) {
                let size = size_of::<PyObject>() + size_of::<T>();
                core::prefetch_at(owner.as_ptr().cast(), size);
            }
        });
        Ok(())
    }

    pub fn set_owner<T>(&self, py: Python<'_>, token: Token, owner: &Bound<'_, T>) {
        let owner = owner.as_any().clone().unbind();
        drop(self.owners.with(py, |owners| owners.set(token, owner)));
    }

    pub fn take_owner(&self, py: Python<'_>, token: Token) -> Option<Py<PyAny>> {
        self.owners.with(py, |owners| owners.take(token))
    }

    /// Everybody of that kind who owns something.
    pub fn owners<'py, T: PyClass>(&self, py: Python<'py>) -> Vec<Bound<'py, T>> {
        let all: Vec<Py<PyAny>> = self.owners.with(py, |owners| {
            let owners = owners.all();
            owners.map(|(_, owner)| owner.clone_ref(py)).collect()
        });
        let cast = |owner: Py<PyAny>| owner.into_bound(py).cast_into_exact().ok();
        all.into_iter().filter_map(cast).collect()
    }

    /// What somebody owns.
    pub fn tokens_of<T>(&self, py: Python<'_>, owner: &Bound<'_, T>) -> Vec<Token> {
        self.owners.with(py, |owners| {
            let own = owners.all().filter(|(_, it)| it.is(owner));
            own.map(|(token, _)| *token).collect()
        })
    }

    pub fn set_pipe(&self, py: Python<'_>, token: Token, pipe: Py<PyAny>) {
        drop(self.pipes.with(py, |pipes| pipes.set(token, pipe)));
    }

    pub fn pipe<'py, T: PyClass>(&self, py: Python<'py>, token: Token) -> Option<Bound<'py, T>> {
        let pipe = self.pipes.with(py, |pipes| pipes.get(py, token));
        pipe?.into_bound(py).cast_into_exact().ok()
    }

    pub fn take_pipe(&self, py: Python<'_>, token: Token) -> Option<Py<PyAny>> {
        self.pipes.with(py, |pipes| pipes.take(token))
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

    pub fn check_open(&self, py: Python<'_>) -> PyResult<()> {
        if self.ended.get(py) {
            return Err(PyRuntimeError::new_err(
                "the event loop of this thread is closed",
            ));
        }
        Ok(())
    }
}

/// That of the running loop, if one runs and is mantou's.
#[pyfunction]
pub fn own_engine(py: Python<'_>) -> PyResult<Option<Bound<'_, Engine>>> {
    static RUNNING_LOOP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let running = RUNNING_LOOP.import(py, "asyncio", "_get_running_loop")?;
    let engine = running.call0()?.getattr_opt(intern!(py, "_engine"))?;
    Ok(engine.and_then(|engine| engine.cast_into_exact().ok()))
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
            owners: Guarded::default(),
            pipes: Guarded::default(),
            work: Guarded::new(Some(Box::default())),
            bios: Bios::default(),
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
    pub fn set_debug(&self, py: Python<'_>, debug: bool) {
        self.debugged.replace(py, debug);
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

    /// No loop has run it yet.
    #[getter]
    fn awaits_loop(&self, py: Python<'_>) -> bool {
        self.host.is_awaited(py)
    }

    /// The queue's own descriptor, readable whenever `turn()` has something to do.
    fn fileno(&self) -> RawFd {
        self.poller.as_raw_fd()
    }

    fn watch_from_outside(&self) -> PyResult<()> {
        self.core.with(core::Engine::watch_from_outside)
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

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.core.traverse(&visit)?;
        self.host.traverse(&visit)?;
        self.owners.traverse(&visit, |owners, visit| {
            owners.all().try_for_each(|(_, owner)| visit.call(owner))
        })?;
        self.pipes.traverse(&visit, |pipes, visit| {
            pipes.all().try_for_each(|(_, pipe)| visit.call(pipe))
        })
    }

    fn __clear__(&self) {
        self.core.clear();
        self.host.clear();
        drop(self.owners.take());
        drop(self.pipes.take());
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // In a forked child they are the parent's.
        if self.core.is_left_behind() {
            return;
        }
        Python::try_attach(|py| {
            let look = |core: &mut core::Engine| (core.connections(), core.traffic(core.tokens()));
            if let Ok((connections @ 1.., traffic)) = self.core.ask(py, look) {
                totals::count_dropped(py, connections as u64, &traffic);
            }
        });
    }
}
