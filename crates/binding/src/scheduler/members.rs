//! The loop's attributes and short methods, asyncio's private ones among them.

use std::collections::VecDeque;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit, intern};

use super::clock::monotonic;
use super::handle::TimerHandle;
use super::queue::ReadyQueue;
use super::state::{Overridden, Scheduler};
use super::timers::Timers;
use crate::cell::Guarded;
use crate::engine::Engine;

#[pymethods]
impl Scheduler {
    #[new]
    #[classmethod]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(
        class: &Bound<'_, PyType>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        Ok(Self {
            engine: Guarded::new(None),
            ready: Guarded::new(VecDeque::new()),
            timers: Guarded::new(Timers::default()),
            watches: Guarded::default(),
            idle_waiter: Guarded::new(None),
            task_factory: Guarded::new(None),
            future_options: Guarded::new(None),
            stopping: Guarded::new(false),
            closed: Guarded::new(false),
            debugged: Guarded::new(false),
            thread: Guarded::new(None),
            sleeping: Guarded::new(false),
            overridden: Guarded::new(Overridden::of_class(class)?),
        })
    }

    /// The time by the loop's clock: seconds, as `time.monotonic()` has them.
    #[allow(clippy::unused_self)]
    fn time(&self) -> f64 {
        monotonic()
    }

    /// Whether the loop is in debug mode.
    fn get_debug(&self, py: Python<'_>) -> bool {
        self.is_debugged(py)
    }

    /// Has a task run the coroutine. As asyncio's.
    #[pyo3(signature = (coro, **options))]
    fn create_task<'py>(
        this: &Bound<'py, Self>,
        coro: &Bound<'py, PyAny>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        static TASK: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        static BASE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let py = this.py();
        let name = intern!(py, "loop");
        let is_odd = match options {
            Some(options) => options.contains(name)?,
            None => false,
        };
        let has_factory = this
            .get()
            .task_factory
            .with(py, |factory| factory.is_some());
        if is_odd || has_factory || this.get().is_debugged(py) || this.get().closed.get(py) {
            let base = BASE.import(py, "asyncio", "BaseEventLoop")?;
            return base.call_method(intern!(py, "create_task"), (this, coro), options);
        }
        let options = options.map_or_else(|| PyDict::new(py), Bound::clone);
        options.set_item(name, this)?;
        TASK.import(py, "asyncio", "Task")?
            .call((coro,), Some(&options))
    }

    #[getter]
    fn _task_factory(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.task_factory.cloned(py)
    }

    #[setter(_task_factory)]
    fn set_task_factory(&self, py: Python<'_>, factory: Option<Py<PyAny>>) {
        drop(self.task_factory.replace(py, factory));
    }

    #[getter]
    fn _engine<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, Engine>> {
        self.engine(py)
    }

    #[setter(_engine)]
    fn set_engine(&self, py: Python<'_>, engine: Py<Engine>) {
        drop(self.engine.replace(py, Some(engine)));
    }

    /// Lets go of the engine, whose queue is closed with the last reference to it.
    fn _leave_engine(&self, py: Python<'_>) {
        drop(self.watches.take());
        drop(self.engine.replace(py, None));
    }

    #[getter]
    fn _idle_waiter(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.idle_waiter.cloned(py)
    }

    #[setter(_idle_waiter)]
    fn set_idle_waiter(&self, py: Python<'_>, waiter: Option<Py<PyAny>>) {
        drop(self.idle_waiter.replace(py, waiter));
    }

    #[getter]
    fn _stopping(&self, py: Python<'_>) -> bool {
        self.stopping.get(py)
    }

    #[setter(_stopping)]
    fn set_stopping(&self, py: Python<'_>, stopping: bool) {
        self.stopping.replace(py, stopping);
    }

    #[getter]
    fn _closed(&self, py: Python<'_>) -> bool {
        self.closed.get(py)
    }

    #[setter(_closed)]
    fn set_closed(&self, py: Python<'_>, closed: bool) {
        self.closed.replace(py, closed);
        if closed {
            self.forget_callbacks(py);
        }
    }

    #[getter]
    fn _debug(&self, py: Python<'_>) -> bool {
        self.is_debugged(py)
    }

    #[setter(_debug)]
    fn set_debug(&self, py: Python<'_>, debug: &Bound<'_, PyAny>) -> PyResult<()> {
        let debug = debug.is_truthy()?;
        self.debugged.replace(py, debug);
        if let Some(engine) = self.engine.cloned(py) {
            engine.get().set_debug(py, debug);
        }
        Ok(())
    }

    #[getter]
    fn _thread_id(&self, py: Python<'_>) -> Option<u64> {
        self.thread.get(py)
    }

    #[setter(_thread_id)]
    fn set_thread_id(&self, py: Python<'_>, thread: Option<u64>) {
        self.thread.replace(py, thread);
    }

    /// What the next turn will call.
    #[getter]
    fn _ready(this: &Bound<'_, Self>) -> ReadyQueue {
        ReadyQueue(this.clone().unbind())
    }

    /// asyncio sets it once, to nothing.
    #[setter(_ready)]
    fn set_ready(&self, py: Python<'_>, ready: &Bound<'_, PyAny>) -> PyResult<()> {
        check_empty("_ready", ready)?;
        drop(self.ready.replace(py, VecDeque::new()));
        Ok(())
    }

    /// The timers there are now, in order; a list of its own.
    #[getter]
    fn _scheduled(&self, py: Python<'_>) -> Vec<Py<TimerHandle>> {
        self.timers.with(py, |timers| timers.handles(py))
    }

    #[setter(_scheduled)]
    fn set_scheduled(&self, py: Python<'_>, scheduled: &Bound<'_, PyAny>) -> PyResult<()> {
        check_empty("_scheduled", scheduled)?;
        drop(self.timers.replace(py, Timers::default()));
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.visit(&visit)
    }

    fn __clear__(&self) {
        self.clear();
    }
}

fn check_empty(name: &str, queue: &Bound<'_, PyAny>) -> PyResult<()> {
    if queue.len()? > 0 {
        return Err(PyTypeError::new_err(format!(
            "{name} is the scheduler's own: it can be emptied, not replaced"
        )));
    }
    Ok(())
}
