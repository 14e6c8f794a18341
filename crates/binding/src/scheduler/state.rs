//! What a loop's scheduler holds, and how callbacks and timers get in.

use std::collections::{HashMap, VecDeque};
use std::os::fd::RawFd;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};
use pyo3::{PyTraverseError, PyVisit, intern};

use super::clock::monotonic;
use super::handle::{Call, Handle, TimerHandle};
use super::timers::Timers;
use crate::cell::Guarded;
use crate::context::Context;
use crate::engine::Engine;
use crate::errors;

/// The native half of `EventLoop`, to be followed by an event loop of asyncio's among its bases.
#[pyclass(frozen, subclass, module = "mantou._core")]
pub struct Scheduler {
    pub(super) engine: Guarded<Option<Py<Engine>>>,
    /// What the next turn will call, our handles or asyncio's own.
    pub(super) ready: Guarded<VecDeque<Py<PyAny>>>,
    pub(super) timers: Guarded<Timers>,
    pub(super) watches: Guarded<HashMap<RawFd, Watch>>,
    /// A future that waits until nothing keeps the loop alive.
    pub(super) idle_waiter: Guarded<Option<Py<PyAny>>>,
    pub(super) task_factory: Guarded<Option<Py<PyAny>>>,
    /// `loop=`, as futures are made with: a new dict each time costs a quarter of a future.
    pub(super) future_options: Guarded<Option<Py<PyDict>>>,
    pub(super) stopping: Guarded<bool>,
    pub(super) closed: Guarded<bool>,
    pub(super) debugged: Guarded<bool>,
    /// The thread that runs the loop.
    pub(super) thread: Guarded<Option<u64>>,
    /// It waits, or is about to: whoever brings something from another thread has to wake it.
    pub(super) sleeping: Guarded<bool>,
    pub(super) overridden: Guarded<Overridden>,
}

/// The callbacks of a descriptor, and what of it is watched.
pub(super) struct Watch {
    pub reader: Option<Py<PyAny>>,
    pub writer: Option<Py<PyAny>>,
}

/// Which of our methods a subclass, or somebody who patched the loop, has replaced.
#[derive(Clone, Copy, Default)]
pub(super) struct Overridden {
    pub time: bool,
    pub call_at: bool,
    pub run_once: bool,
}

impl Overridden {
    pub fn of_class(class: &Bound<'_, PyType>) -> PyResult<Self> {
        let py = class.py();
        let ours = py.get_type::<Scheduler>();
        let is_other = |name| PyResult::Ok(!class.getattr(name)?.is(&ours.getattr(name)?));
        Ok(Self {
            time: is_other(intern!(py, "time"))?,
            call_at: is_other(intern!(py, "call_at"))?,
            run_once: is_other(intern!(py, "_run_once"))?,
        })
    }

    pub fn of(scheduler: &Bound<'_, Scheduler>) -> PyResult<Self> {
        let py = scheduler.py();
        let mut found = Self::of_class(&scheduler.get_type())?;
        let own = scheduler.getattr(intern!(py, "__dict__"))?;
        let own = own.cast::<PyDict>()?;
        found.time |= own.contains(intern!(py, "time"))?;
        found.call_at |= own.contains(intern!(py, "call_at"))?;
        found.run_once |= own.contains(intern!(py, "_run_once"))?;
        Ok(found)
    }
}

impl Scheduler {
    pub fn is_debugged(&self, py: Python<'_>) -> bool {
        self.debugged.get(py)
    }

    pub fn check_closed(&self, py: Python<'_>) -> PyResult<()> {
        if self.closed.get(py) {
            return Err(PyRuntimeError::new_err("Event loop is closed"));
        }
        Ok(())
    }

    pub fn note_cancelled(&self, py: Python<'_>) {
        self.timers.with(py, Timers::note_cancelled);
    }

    pub(super) fn engine<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Engine>> {
        let engine = self.engine.cloned(py).map(|engine| engine.into_bound(py));
        engine.ok_or_else(|| PyRuntimeError::new_err("Event loop is closed"))
    }

    /// The time by the loop's clock, which a subclass may have made its own.
    pub(super) fn now(this: &Bound<'_, Self>) -> PyResult<f64> {
        if this.get().overridden.get(this.py()).time {
            return this
                .call_method0(intern!(this.py(), "time"))?
                .extract::<f64>();
        }
        Ok(monotonic())
    }

    /// What futures of this loop are made with.
    pub(super) fn future_options<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        let (py, scheduler) = (this.py(), this.get());
        if let Some(options) = scheduler.future_options.cloned(py) {
            return Ok(options.into_bound(py));
        }
        let options = PyDict::new(py);
        options.set_item(intern!(py, "loop"), this)?;
        // It refers back to the loop, until that is closed.
        if !scheduler.closed.get(py) {
            let kept = options.clone().unbind();
            drop(scheduler.future_options.replace(py, Some(kept)));
        }
        Ok(options)
    }

    /// Enters a callback for the next turn.
    #[inline]
    pub(super) fn soon<'py>(
        this: &Bound<'py, Self>,
        call: Call,
        context: Context,
    ) -> PyResult<Bound<'py, Handle>> {
        let py = this.py();
        let handle = Handle::new(this, call, context)?;
        if this.get().is_debugged(py) {
            handle.get().trace(py)?;
        }
        this.get().push(handle.as_any());
        Ok(handle)
    }

    #[inline]
    pub(super) fn push(&self, handle: &Bound<'_, PyAny>) {
        let entry = handle.clone().unbind();
        self.ready.with(handle.py(), |ready| ready.push_back(entry));
    }

    pub(super) fn at<'py>(
        this: &Bound<'py, Self>,
        when: f64,
        call: Call,
        context: Context,
    ) -> PyResult<Bound<'py, TimerHandle>> {
        let py = this.py();
        let timer = TimerHandle::new(this, when, call, context)?;
        if this.get().is_debugged(py) {
            timer.as_super().get().trace(py)?;
        }
        let entry = timer.clone().unbind();
        this.get()
            .timers
            .with(py, |timers| timers.push(when, entry));
        Ok(timer)
    }

    /// After something was entered by another thread than the one that runs the loop.
    pub(super) fn wake(&self, py: Python<'_>) -> PyResult<()> {
        if !self.sleeping.replace(py, false) {
            return Ok(());
        }
        let woken = self.engine(py)?.get().poller.wake();
        woken.map_err(|error| errors::from_io(&error))
    }

    /// Drops everything that waits to be called, and what refers back to the loop.
    pub(super) fn forget_callbacks(&self, py: Python<'_>) {
        drop(self.future_options.replace(py, None));
        drop(self.ready.replace(py, VecDeque::new()));
        drop(self.timers.replace(py, Timers::default()));
    }

    pub(super) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.engine
            .traverse(visit, |engine, visit| visit.call(engine))?;
        self.idle_waiter
            .traverse(visit, |waiter, visit| visit.call(waiter))?;
        self.task_factory
            .traverse(visit, |factory, visit| visit.call(factory))?;
        self.future_options
            .traverse(visit, |options, visit| visit.call(options))?;
        self.ready.traverse(visit, |ready, visit| {
            ready.iter().try_for_each(|handle| visit.call(handle))
        })?;
        self.timers.traverse(visit, Timers::traverse)?;
        self.watches.traverse(visit, |watches, visit| {
            watches.values().try_for_each(|watch| {
                visit.call(&watch.reader)?;
                visit.call(&watch.writer)
            })
        })
    }

    pub(super) fn clear(&self) {
        drop(self.engine.take());
        drop(self.idle_waiter.take());
        drop(self.task_factory.take());
        drop(self.future_options.take());
        drop(self.ready.take());
        drop(self.timers.take());
        drop(self.watches.take());
    }
}
